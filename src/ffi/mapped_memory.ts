import { type Pointer, toArrayBuffer } from "bun:ffi";
import { BpfError, DisposedError, errnoName, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { libc, munmapAddress } from "./libc.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../uapi/system.ts";

/** Rounds up to a multiple of 8, as the kernel aligns keys, values and records. */
export function roundUp8(size: number): number {
  return Math.ceil(size / 8) * 8;
}

/** `toArrayBuffer` with the parameters for a deallocator, which its declaration lacks. */
const toArrayBufferWithDeallocator = toArrayBuffer as (
  address: Pointer,
  byteOffset: number,
  byteLength: number,
  deallocatorContext: Pointer,
  deallocator: Pointer,
) => ArrayBuffer;

let cachedPageSize = 0;

/** Returns the system's page size in bytes: 4, 16 or 64 KiB. */
export function pageSize(): number {
  cachedPageSize ||= libc.getpagesize();
  return cachedPageSize;
}

/** Rounds up to whole pages. */
export function roundUpToPage(length: number): number {
  const size = pageSize();
  return Math.ceil(length / size) * size;
}

/** Options of {@link MappedMemory.ofFile}. */
export interface FileMapping {
  readonly fd: number;
  /** The offset in the file, in bytes: a multiple of the page size. */
  readonly offset: number;
  /** The length of the mapping, in bytes. */
  readonly length: number;
  /** Allows stores. A store to a read-only mapping ends the process. */
  readonly writable: boolean;
  /** Maps with MAP_PRIVATE, as the file of the kernel's BTF requires. The mapping is then not traced. @default false */
  readonly isPrivate?: boolean;
  /** The name of the memory in errors. */
  readonly what: string;
  /** The hint for EPERM and EACCES. */
  readonly hint?: string;
}

/**
 * Memory from mmap(2). Its address does not change, so it can be passed to the kernel.
 *
 * Disposal detaches every view and then unmaps the memory: a view that is still referenced has length 0 and cannot access the
 * address. The JavaScript engine does both in one step, because munmap(2) is the deallocator of the buffer.
 */
export class MappedMemory implements Disposable {
  /** The address of the mapping. */
  readonly address: number;
  /** The length of the mapping, in bytes. */
  readonly length: number;
  readonly #buffer: ArrayBuffer;
  readonly #what: string;

  private constructor(address: number, length: number, what: string) {
    this.address = address;
    this.length = length;
    this.#what = what;
    // The engine calls the deallocator with the address and the context. The context is the length, which makes the call
    // munmap(address, length).
    this.#buffer = toArrayBufferWithDeallocator(
      address as Pointer,
      0,
      length,
      length as Pointer,
      munmapAddress,
    );
  }

  /** Maps zeroed private memory, rounded up to whole pages. Memory that is not writable is not counted as committed. */
  static anonymous(
    length: number,
    what: string,
    protection: number = PROT_READ | PROT_WRITE,
  ): MappedMemory {
    const size = roundUpToPage(length);
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    return MappedMemory.#map(size, protection, flags, -1, 0, what);
  }

  /** Maps the memory of a descriptor, shared with the kernel unless `isPrivate` is set. */
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
        `cannot map ${length} bytes of the ${what}: an ArrayBuffer has at most 4 GiB (2^32 bytes)`,
        { cause },
      );
    }
  }

  /** The buffer over the whole memory. @throws {DisposedError} after disposal. */
  get buffer(): ArrayBuffer {
    if (this.#buffer.detached) throw new DisposedError(this.#what);
    return this.#buffer;
  }

  /** True after disposal, and after the buffer was transferred. */
  get disposed(): boolean {
    return this.#buffer.detached;
  }

  /**
   * Detaches all views and unmaps the memory; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view, such as `Bun.write(file, view)`. Nothing has changed
   *   then, and disposal can be repeated later.
   */
  [Symbol.dispose](): void {
    if (!this.#buffer.detached) this.#buffer.transfer(0);
    // While a native operation holds the buffer, the engine silently copies instead of detaching.
    if (!this.#buffer.detached) {
      throw new Error(
        `the ${this.#what} cannot be disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    tracing.registry?.delete(this);
  }
}

/** Memory for calls of the kernel. It has a fixed address, and is zeroed when it is allocated. */
export interface Scratch extends Disposable {
  /** The address of the memory. */
  readonly address: number;
  /** The length of the memory, in bytes. */
  readonly length: number;
  /** A view of the memory. */
  readonly view: DataView;
  /** A view of the same memory as bytes. */
  readonly bytes: Uint8Array;
}

const chunkSize = 256 * 1024;
const minSlotSize = 64;

/** A range of a chunk. */
interface Slot {
  readonly chunk: MappedMemory;
  readonly offset: number;
  readonly length: number;
}

/** All chunks. They stay mapped until the thread ends, because the kernel may hold addresses of any of them. */
const chunks: MappedMemory[] = [];
let chunkUsed = 0;
/** Free slots by length. Lengths are powers of two from 64 bytes to a quarter of a chunk. */
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
    // The slot is cleared, so that a second disposal cannot free it while it has another owner.
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
 * Allocates memory whose address can be written into a struct for the kernel.
 *
 * The memory of a TypedArray is not suitable: the engine can move or collect it while only the kernel has its address. Small
 * blocks are slots of mappings that stay for the lifetime of this thread, and are reused after disposal. A large block is a
 * separate mapping, which disposal unmaps.
 *
 * @param length the minimum number of bytes; the block can be longer
 */
export function allocateScratch(length: number): Scratch {
  if (length > chunkSize / 4) return new OwnMapping(length, "scratch memory");
  const size = Math.max(minSlotSize, 2 ** Math.ceil(Math.log2(length)));
  return new Block(freeSlots.get(size)?.pop() ?? newSlot(size));
}

/**
 * Allocates memory as {@link allocateScratch} does, but as a separate mapping, which is unmapped when its views are collected.
 */
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

/** Writes an address, or any other safe integer that is not negative, as 64 bits without allocating a bigint. */
export function setUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Reads 64 bits as a number: exact up to 2^53. */
export function getUint64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true);
}
