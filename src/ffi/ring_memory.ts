/**
 * @module Loads from memory that the kernel writes, in their order.
 *
 * `Atomics.load` cannot read memory that is mapped read-only. On a view of 32 bits or less it ends the process once it is
 * compiled, on every processor; on one of 64 bits at once on arm64: the engine emits a read-modify-write there.
 */

import { type Pointer, toArrayBuffer } from "bun:ffi";
import { architecture } from "./platform.ts";
import { MappedMemory, pageSize } from "./mapped_memory.ts";

/**
 * Where the machine may reorder loads: a place for an atomic store followed by an atomic load, between two loads whose order counts.
 * `undefined` on x86-64, which keeps loads in order.
 *
 * The kernel writes a record's payload and then, with full ordering, its header without the busy bit, say: a reader that saw the header
 * so must not use a payload that it had loaded before.
 *
 * On arm64 both accesses are sequentially consistent: the store (STLR, or an atomic instruction with release semantics) comes after
 * all loads before it, the load (LDAR, or an atomic instruction with acquire semantics) comes after that store and before all loads
 * after it. One atomic addition would do on machines with the large system extensions alone: as a pair of LDAXR and STLXR it
 * lets a later load overtake an earlier one. To the engine, too, an atomic operation may change any memory, so that its compilers move
 * no load across it.
 */
export const loadFence: Int32Array | undefined =
  architecture === "x64" ? undefined : new Int32Array(1);

/** Keeps the loads after this call after those before it, and after atomic stores and exchanges before it. */
export function orderLoads(): void {
  if (loadFence === undefined) return;
  Atomics.store(loadFence, 0, 0);
  Atomics.load(loadFence, 0);
}

/**
 * Reads a 64-bit position that the kernel stores with release semantics, from memory that may be read-only: what it covers may be
 * loaded after this.
 */
export function loadPosition(words: BigUint64Array, index: number): number {
  if (loadFence === undefined) return Number(Atomics.load(words, index));
  // An aligned load of 64 bits is one access there.
  const position = Number(words[index]);
  orderLoads();
  return position;
}

/**
 * Where the producer's page holds the overwrite position, in 64-bit words: after the producer's and that of the oldest record
 * that is being written (struct bpf_ringbuf, kernel 6.19).
 */
const overwriteWord = 2;

/**
 * The pages that a BPF ring buffer shares with user space (kernel/bpf/ringbuf.c).
 *
 * The consumer's page is writable; the producer's page and the data are not. The data is mapped twice in a row, so that a
 * record that wraps around the end is still one run of bytes.
 */
export class RingMemory implements Disposable {
  /** The data, twice: record at position `p` is at `p & (size - 1)`. */
  readonly data: DataView;
  /** Bytes that were overwritten before they could be read: none, as programs get no room where there is none. */
  readonly overwrittenBytes: number = 0;
  readonly #consumerPage: MappedMemory;
  readonly #producerPages: MappedMemory;
  // 64-bit views, which alone can be read in order where they are read-only.
  readonly #consumer: BigUint64Array<ArrayBuffer>;
  readonly #producer: BigUint64Array<ArrayBuffer>;
  /** The consumer's position in halves, the lower one first: all supported machines are little-endian. */
  readonly #consumerHalves: Int32Array<ArrayBuffer>;

  /** @param size the ring's size as the kernel tells it: a power of two and a multiple of the page size */
  constructor(fd: number, size: number, what: string) {
    const page = pageSize();
    this.#consumerPage = MappedMemory.ofFile({ fd, offset: 0, length: page, writable: true, what });
    const length = page + 2 * size;
    try {
      const mapping = { fd, offset: page, length, writable: false, what };
      this.#producerPages = MappedMemory.ofFile(mapping);
    } catch (error) {
      this.#consumerPage[Symbol.dispose]();
      throw error;
    }
    this.#consumer = new BigUint64Array(this.#consumerPage.buffer, 0, 1);
    this.#consumerHalves = new Int32Array(this.#consumerPage.buffer, 0, 2);
    this.#producer = new BigUint64Array(this.#producerPages.buffer, 0, overwriteWord + 1);
    this.data = new DataView(this.#producerPages.buffer, page, 2 * size);
  }

  /** The position up to which programs had reserved at the last {@link look}, in bytes since the ring's creation. */
  producer = 0;
  /** The position up to which records were released at the last {@link look}, in bytes since the ring's creation. */
  consumer = 0;

  /** Reads both positions; what they cover may be read after this. */
  look(): void {
    this.consumer = this.releasedPosition();
    this.producer = loadPosition(this.#producer, 0);
  }

  /**
   * Releases the records between the current consumer position `from` and `to`: programs may overwrite them from now on. Returns
   * false and does nothing if a second consumer has moved the position.
   *
   * Reads of the records come before it. After it, when a wait begins, comes the kernel's own load of the producer's position
   * (`ringbuf_map_poll()`, with acquire semantics), so no wake-up is lost. A {@link look} may be reordered before it unless
   * {@link orderLoads} is between: without the large system extensions of arm64 the exchange is a pair of LDAXR and STLXR.
   *
   * Only the lower half is exchanged if the upper one does not change, as a bigint costs six times as much. The kernel's 64-bit
   * load sees either the old or the new position.
   */
  release(from: number, to: number): boolean {
    const before = from | 0;
    const after = to | 0;
    if (before < 0 && after >= 0) {
      // Both halves change, once in 4 GiB.
      const expected = BigInt(from);
      return Atomics.compareExchange(this.#consumer, 0, expected, BigInt(to)) === expected;
    }
    return Atomics.compareExchange(this.#consumerHalves, 0, before, after) === before;
  }

  /** Releases all records before `position`, which were read, wherever a second consumer has moved the position; never back. */
  advanceTo(position: number): void {
    const target = BigInt(position);
    let found = Atomics.load(this.#consumer, 0);
    while (found < target) {
      const before = Atomics.compareExchange(this.#consumer, 0, found, target);
      if (before === found) return;
      found = before;
    }
  }

  /**
   * Returns the consumer position. It is read in halves, as a bigint costs several times more: if a second consumer moves it across
   * a multiple of 4 GiB at this moment, the result can be 4 GiB off.
   */
  releasedPosition(): number {
    const halves = this.#consumerHalves;
    return (halves[1] as number) * 0x1_0000_0000 + ((halves[0] as number) >>> 0);
  }

  /** In overwrite mode (kernel 6.19), the position of the oldest record that was not overwritten. */
  overwritePosition(): number {
    return loadPosition(this.#producer, overwriteWord);
  }

  /**
   * Detaches every view and unmaps; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data
   */
  [Symbol.dispose](): void {
    this.#producerPages[Symbol.dispose]();
    this.#consumerPage[Symbol.dispose]();
  }
}

/**
 * Memory whose buffer was transferred, for example to another thread: an access after unmapping it would end the process. It stays
 * mapped until the process ends.
 */
const kept: ArrayBuffer[] = [];

/** More than the longest record (2^24 - 1 bytes) takes: where that begins before the end, it reaches no farther beyond. */
const longestWrap = 2 ** 25;

/**
 * The pages that a BPF user ring buffer shares with user space (kernel/bpf/ringbuf.c): the mirror image of a ring buffer's.
 *
 * The kernel's page of the consumer's position is read-only, whoever maps it. The producer's page and the data are writable;
 * after the data its start is mapped once more, so that a record that wraps around the end is still one run of bytes.
 */
export class UserRingMemory implements Disposable {
  /** The data, and its start again: the record at position `p` is at `p & (size - 1)`. */
  readonly data: DataView<ArrayBuffer>;
  /** The same, for copies. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same, for headers. */
  readonly headers: Int32Array<ArrayBuffer>;
  /** The producer's position in halves, the lower one first: the machines that this runs on are little-endian. */
  readonly producerHalves: Int32Array<ArrayBuffer>;
  readonly producer: BigUint64Array<ArrayBuffer>;
  // A 64-bit view, which alone can be read in order where it is read-only.
  readonly consumer: BigUint64Array<ArrayBuffer>;
  readonly #consumerPage: MappedMemory;
  readonly #producerPages: MappedMemory;
  readonly #what: string;
  /** True once somebody has transferred a part. */
  #isShared = false;

  /** @param size the ring's size as the kernel tells it: a power of two and a multiple of the page size */
  constructor(fd: number, size: number, what: string) {
    this.#what = what;
    const page = pageSize();
    const consumerPage = { fd, offset: 0, length: page, writable: false, what };
    this.#consumerPage = MappedMemory.ofFile(consumerPage);
    const length = page + size + Math.min(size, longestWrap);
    const hint = "A frozen map can be written by programs alone";
    try {
      this.#producerPages = MappedMemory.ofFile({
        fd,
        offset: page,
        length,
        writable: true,
        what,
        hint,
      });
    } catch (error) {
      this.#consumerPage[Symbol.dispose]();
      throw error;
    }
    const { buffer } = this.#producerPages;
    this.consumer = new BigUint64Array(this.#consumerPage.buffer, 0, 1);
    this.producer = new BigUint64Array(buffer, 0, 1);
    this.producerHalves = new Int32Array(buffer, 0, 2);
    // Event types get this buffer and could transfer it. Only this object has the buffer that owns the memory.
    this.data = new DataView(this.part(0, length - page));
    this.bytes = new Uint8Array(buffer, page);
    this.headers = new Int32Array(buffer, page);
  }

  /**
   * A buffer of its own over a part of the data, so that its views can end before those of the rest. It has to be ended
   * ({@link endPart}) before the memory is disposed of.
   */
  part(offset: number, length: number): ArrayBuffer {
    // The engine takes a length of 0 for one that is to be found out.
    if (length === 0) return new ArrayBuffer(0);
    return toArrayBuffer(this.#producerPages.address as Pointer, pageSize() + offset, length);
  }

  /**
   * Detaches all views of a part. Returns false while an asynchronous operation of Bun uses one.
   *
   * If it was transferred, for example by `postMessage`, its receiver can still access the memory, which is then never unmapped.
   */
  endPart(part: ArrayBuffer): boolean {
    // While a native operation holds the buffer, the engine silently copies instead of detaching.
    if (part.detached) this.#isShared = true;
    else part.transfer(0);
    return part.detached;
  }

  /**
   * Detaches every view and unmaps; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data
   */
  [Symbol.dispose](): void {
    if (this.#producerPages.disposed) return;
    if (!this.endPart(this.data.buffer)) {
      throw new Error(
        `the ${this.#what} cannot be disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    if (this.#isShared) kept.push(this.#producerPages.buffer.transfer());
    this.#producerPages[Symbol.dispose]();
    this.#consumerPage[Symbol.dispose]();
  }
}
