import { type Pointer, toArrayBuffer } from "bun:ffi";
import { BpfError, DisposedError, errnoName, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { libc, munmapAddress } from "./libc.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../uapi/system.ts";

/** Rounds up to a multiple of 8, as the kernel aligns keys, values and records. */
export function roundUp8(size: number): number {
  return Math.ceil(size / 8) * 8;
}

/** `toArrayBuffer` with the deallocator that it takes but its declaration lacks. */
const toArrayBufferWithDeallocator = toArrayBuffer as (
  address: Pointer,
  byteOffset: number,
  byteLength: number,
  deallocatorContext: Pointer,
  deallocator: Pointer,
) => ArrayBuffer;

let cachedPageSize = 0;

/** The system's page size in bytes: 4, 16 or 64 KiB. */
export function pageSize(): number {
  cachedPageSize ||= libc.getpagesize();
  return cachedPageSize;
}

/** Rounds up to whole pages. */
export function roundUpToPage(length: number): number {
  const size = pageSize();
  return Math.ceil(length / size) * size;
}

/** What {@link MappedMemory.ofFile} maps. */
export interface FileMapping {
  readonly fd: number;
  /** From where in the file, in bytes; a multiple of the page size. */
  readonly offset: number;
  /** How much, in bytes. */
  readonly length: number;
  /** Whether stores are allowed: a store to a read-only mapping ends the process. */
  readonly writable: boolean;
  /**
   * Whether it is mapped as MAP_PRIVATE, as the kernel's BTF has to be: a file that anybody may read, and no object that
   * could leak.
   */
  readonly isPrivate?: boolean;
  /** What it is, for errors. */
  readonly what: string;
  /** Explains a refusal for want of permission. */
  readonly hint?: string;
}

/**
 * Memory from mmap(2): its address never changes, so the kernel may hold it.
 *
 * Disposal detaches every view at once and then unmaps: a view that somebody kept has length 0 from then on and cannot
 * reach the address any more. The engine does both in one step, because munmap(2) itself is the buffer's deallocator.
 */
export class MappedMemory implements Disposable {
  readonly address: number;
  readonly length: number;
  readonly #buffer: ArrayBuffer;
  readonly #what: string;

  private constructor(address: number, length: number, what: string) {
    this.address = address;
    this.length = length;
    this.#what = what;
    // munmap(address, length): the engine passes the memory's address and then the context, which is the length.
    this.#buffer = toArrayBufferWithDeallocator(
      address as Pointer,
      0,
      length,
      length as Pointer,
      munmapAddress,
    );
  }

  /** Zeroed private memory, rounded up to whole pages. Memory that is not writable does not count as committed. */
  static anonymous(
    length: number,
    what: string,
    protection: number = PROT_READ | PROT_WRITE,
  ): MappedMemory {
    const size = roundUpToPage(length);
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    return MappedMemory.#map(size, protection, flags, -1, 0, what);
  }

  /** The kernel's memory behind a descriptor, shared with the kernel. */
  static ofFile(file: FileMapping): MappedMemory {
    const { fd, offset, length, writable, isPrivate = false, what, hint } = file;
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const flags = isPrivate ? MAP_PRIVATE : MAP_SHARED;
    const memory = MappedMemory.#map(length, protection, flags, fd, offset, what, hint);
    if (isPrivate) return memory;
    tracing.registry?.add(memory, {
      kind: "mapping",
      place: `mapping of ${length} bytes`,
      what: () => what,
    });
    return memory;
  }

  static #map(
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
    what: string,
    hint?: string,
  ): MappedMemory {
    const address = libc.mmap(null, length, protection, flags, fd, offset);
    if (typeof address !== "number" || address < 0) {
      const errno = lastErrno();
      const code = errnoName(errno);
      throw new BpfError({
        errno,
        syscall: "mmap",
        doing: `map ${length} bytes of the ${what}`,
        hint: code === "EPERM" || code === "EACCES" ? hint : undefined,
      });
    }
    try {
      return new MappedMemory(address, length, what);
    } catch (cause) {
      libc.munmap(address as Pointer, length);
      throw new Error(
        `the ${what} has ${length} bytes to map: the engine takes no more than 4 GiB (2^32) in one piece`,
        { cause },
      );
    }
  }

  /** All of the memory. @throws {DisposedError} after disposal */
  get buffer(): ArrayBuffer {
    if (this.#buffer.detached) throw new DisposedError(this.#what);
    return this.#buffer;
  }

  get disposed(): boolean {
    return this.#buffer.detached;
  }

  /**
   * Detaches all views and unmaps; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun reads or writes a view of it (say, `Bun.write(file, view)`):
   *   the memory then stays as it is, and disposing can be tried again
   */
  [Symbol.dispose](): void {
    if (!this.#buffer.detached) this.#buffer.transfer(0);
    // The engine copies instead of detaching while a native operation holds the buffer, and says nothing.
    if (!this.#buffer.detached) {
      throw new Error(
        `the ${this.#what} cannot be disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    tracing.registry?.delete(this);
  }
}

/** Memory for a call: at an address that stays, zeroed when handed out. */
export interface Scratch extends Disposable {
  readonly address: number;
  readonly length: number;
  readonly view: DataView;
  readonly bytes: Uint8Array;
}

const chunkSize = 256 * 1024;
const smallest = 64;

/** A place in a chunk. */
interface Slot {
  readonly chunk: MappedMemory;
  readonly offset: number;
  readonly length: number;
}

/** Keeps the chunks alive for as long as the thread: the kernel may hold addresses of any of them. */
const chunks: MappedMemory[] = [];
let chunkUsed = 0;
/** Freed slots by length: powers of two from 64 bytes to a quarter of a chunk. */
const freeSlots = new Map<number, Slot[]>();

class Block implements Scratch {
  #slot: Slot | undefined;
  readonly address: number;
  readonly length: number;
  readonly view: DataView;
  readonly bytes: Uint8Array;

  constructor(slot: Slot) {
    const { chunk, offset, length } = slot;
    this.#slot = slot;
    this.address = chunk.address + offset;
    this.length = length;
    this.view = new DataView(chunk.buffer, offset, length);
    this.bytes = new Uint8Array(chunk.buffer, offset, length);
    this.bytes.fill(0);
  }

  [Symbol.dispose](): void {
    // The slot is given up for good, so that a second call cannot free it under its next owner.
    if (this.#slot === undefined) return;
    freeSlots.getOrInsert(this.length, []).push(this.#slot);
    this.#slot = undefined;
  }
}

class OwnMapping implements Scratch {
  readonly #memory: MappedMemory;
  readonly address: number;
  readonly length: number;
  readonly view: DataView;
  readonly bytes: Uint8Array;

  constructor(length: number, what: string) {
    this.#memory = MappedMemory.anonymous(length, what);
    this.address = this.#memory.address;
    this.length = this.#memory.length;
    this.view = new DataView(this.#memory.buffer);
    this.bytes = new Uint8Array(this.#memory.buffer);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/**
 * Memory whose address can be written into a struct for the kernel.
 *
 * A TypedArray will not do: its memory moves and is collected while only its address is known. Small blocks come from
 * mappings that this thread keeps for ever and hands out again; large ones are mappings of their own, given back when
 * disposed of.
 *
 * @param length bytes wanted; the block may be longer
 */
export function allocateScratch(length: number): Scratch {
  if (length > chunkSize / 4) return new OwnMapping(length, "scratch memory");
  const size = Math.max(smallest, 2 ** Math.ceil(Math.log2(length)));
  return new Block(freeSlots.get(size)?.pop() ?? newSlot(size));
}

/** The same in a mapping of its own, however short: what nobody disposes of is given back when it is collected. */
export function mapScratch(length: number, what: string): Scratch {
  return new OwnMapping(length, what);
}

function newSlot(length: number): Slot {
  let chunk = chunks.at(-1);
  if (chunk === undefined || chunkUsed + length > chunk.length) {
    chunk = MappedMemory.anonymous(chunkSize, "scratch memory");
    chunks.push(chunk);
    chunkUsed = 0;
  }
  const offset = chunkUsed;
  chunkUsed += length;
  return { chunk, offset, length };
}

/** Writes an address (or any safe integer) as 64 bits, without the garbage of a bigint. */
export function setUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Reads 64 bits as a number: exact up to 2^53. */
export function getUint64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true);
}
