import { MappedMemory } from "./memory.ts";

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
