/**
 * @module The pages of ring buffers, and ordered loads from memory that the kernel writes.
 *
 * `Atomics.load` cannot always read memory that is mapped read-only, because the JavaScript engine emits a read-modify-write
 * instruction, which raises SIGSEGV there. On a view of 32 bits or less this happens in compiled code on every processor. On a
 * view of 64 bits it happens on arm64, also before the code is compiled.
 */

import { type Pointer, toArrayBuffer } from "bun:ffi";
import { architecture } from "./platform.ts";
import { MappedMemory, pageSize } from "./mapped_memory.ts";

/**
 * The memory for an atomic store and an atomic load that act as a barrier between two loads whose order matters. `undefined` on
 * x86-64, which does not reorder loads.
 *
 * For example, the kernel writes a record's payload and then, with full ordering, clears the busy bit in its header. A reader
 * that sees the bit cleared must not use a payload that was loaded earlier.
 *
 * On arm64 both accesses are sequentially consistent. The store (STLR, or an atomic instruction with release semantics) comes
 * after all earlier loads. The load (LDAR, or an atomic instruction with acquire semantics) comes after that store and before
 * all later loads. A single atomic addition would suffice only on machines with the large system extensions: as a pair of LDAXR
 * and STLXR it lets a later load overtake an earlier one. The engine's compilers move no load across an atomic operation,
 * because it may change any memory.
 */
export const loadFence: Int32Array | undefined =
  architecture === "x64" ? undefined : new Int32Array(1);

/** Orders loads: the loads after this call come after the loads, atomic stores and atomic exchanges before it. */
export function orderLoads(): void {
  if (loadFence === undefined) return;
  Atomics.store(loadFence, 0, 0);
  Atomics.load(loadFence, 0);
}

/**
 * Reads a 64-bit position that the kernel stores with release semantics, from memory that may be read-only. Records before the
 * position can be read after this call.
 */
export function loadPosition(words: BigUint64Array, index: number): number {
  if (loadFence === undefined) return Number(Atomics.load(words, index));
  // On arm64 an aligned load of 64 bits is a single access.
  const position = Number(words[index]);
  orderLoads();
  return position;
}

/**
 * Index of the overwrite position in the producer's page, in 64-bit words. Before it are the producer position and the position
 * of the oldest record that is being written (struct bpf_ringbuf, kernel 6.19).
 */
const overwriteWord = 2;

/**
 * The pages that a BPF ring buffer shares with user space (kernel/bpf/ringbuf.c).
 *
 * The consumer's page is writable; the producer's page and the data are not. The data is mapped twice in a row, so that a record
 * that wraps around the end is contiguous.
 */
export class RingMemory implements Disposable {
  /** The data, twice: the record at position `p` is at offset `p & (size - 1)`. */
  readonly data: DataView;
  /**
   * Number of bytes that were overwritten before they were read: always 0, because programs cannot reserve space in a full ring.
   */
  readonly overwrittenBytes: number = 0;
  readonly #consumerPage: MappedMemory;
  readonly #producerPages: MappedMemory;
  // The views have 64 bits, because only such views can be read in order where the memory is read-only (see the module
  // comment).
  readonly #consumer: BigUint64Array<ArrayBuffer>;
  readonly #producer: BigUint64Array<ArrayBuffer>;
  /** The consumer's position in halves, the lower one first: all supported machines are little-endian. */
  readonly #consumerHalves: Int32Array<ArrayBuffer>;

  /** @param size the ring's size in bytes, as the kernel reports it: a power of two and a multiple of the page size */
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

  /** Reads both positions. The records between them can be read after this call. */
  look(): void {
    this.consumer = this.releasedPosition();
    this.producer = loadPosition(this.#producer, 0);
  }

  /**
   * Releases the records between the current consumer position `from` and `to`: programs may overwrite them after this call.
   * Returns false and does nothing if a second consumer has moved the position.
   *
   * Loads of the records come before the exchange. When a wait begins after the exchange, the kernel loads the producer
   * position (`ringbuf_map_poll()`, with acquire semantics), so no wake-up is lost. A {@link look} can be reordered before
   * the exchange unless {@link orderLoads} is called between them: on arm64 without the large system extensions, the exchange
   * is a pair of LDAXR and STLXR.
   *
   * If the upper half does not change, only the lower half is exchanged, because a bigint takes six times as long. The kernel's
   * 64-bit load sees either the old or the new position.
   */
  release(from: number, to: number): boolean {
    const before = from | 0;
    const after = to | 0;
    if (before < 0 && after >= 0) {
      // The upper half changes too, which happens once every 4 GiB.
      const expected = BigInt(from);
      return Atomics.compareExchange(this.#consumer, 0, expected, BigInt(to)) === expected;
    }
    return Atomics.compareExchange(this.#consumerHalves, 0, before, after) === before;
  }

  /**
   * Releases all records before `position`, which were read. The consumer position never moves back, even if there is a
   * second consumer.
   */
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
   * Returns the consumer position. It is read in halves, because a bigint takes several times as long. If a second consumer
   * moves the position across a multiple of 4 GiB at this moment, the result can be wrong by 4 GiB.
   */
  releasedPosition(): number {
    const halves = this.#consumerHalves;
    return (halves[1] as number) * 0x1_0000_0000 + ((halves[0] as number) >>> 0);
  }

  /** Returns, in overwrite mode (kernel 6.19), the position of the oldest record that was not overwritten. */
  overwritePosition(): number {
    return loadPosition(this.#producer, overwriteWord);
  }

  /**
   * Detaches every view and unmaps the memory; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data.
   */
  [Symbol.dispose](): void {
    this.#producerPages[Symbol.dispose]();
    this.#consumerPage[Symbol.dispose]();
  }
}

/**
 * Buffers whose memory was transferred, for example to another thread. They stay mapped until the process ends, because an
 * access after unmapping would end the process.
 */
const kept: ArrayBuffer[] = [];

/** Bytes of the data that are mapped a second time: more than the longest record (2^24 - 1 bytes) can extend beyond the end. */
const wrapSize = 2 ** 25;

/**
 * The pages that a BPF user ring buffer shares with user space (kernel/bpf/ringbuf.c), with the roles of producer and consumer
 * exchanged.
 *
 * The consumer's page is read-only in every mapping. The producer's page and the data are writable. After the data its start is
 * mapped once more, so that a record that wraps around the end is contiguous.
 */
export class UserRingMemory implements Disposable {
  /** The data, and its start again: the record at position `p` is at offset `p & (size - 1)`. */
  readonly data: DataView<ArrayBuffer>;
  /** The data as bytes, for copies. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The data as 32-bit words, for headers. */
  readonly headers: Int32Array<ArrayBuffer>;
  /** The producer position in halves, the lower one first: all supported machines are little-endian. */
  readonly producerHalves: Int32Array<ArrayBuffer>;
  /** The producer position. */
  readonly producer: BigUint64Array<ArrayBuffer>;
  /** The consumer position. Only a view of 64 bits can be read in order where the memory is read-only. */
  readonly consumer: BigUint64Array<ArrayBuffer>;
  readonly #consumerPage: MappedMemory;
  readonly #producerPages: MappedMemory;
  readonly #what: string;
  /** True after the buffer of a part was transferred. */
  #isShared = false;

  /** @param size the ring's size in bytes, as the kernel reports it: a power of two and a multiple of the page size */
  constructor(fd: number, size: number, what: string) {
    this.#what = what;
    const page = pageSize();
    const consumerPage = { fd, offset: 0, length: page, writable: false, what };
    this.#consumerPage = MappedMemory.ofFile(consumerPage);
    const length = page + size + Math.min(size, wrapSize);
    const hint = "The map is frozen: only programs can write to it";
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
    // Event types get this buffer and could transfer it. The buffer that owns the memory is private to this object.
    this.data = new DataView(this.part(0, length - page));
    this.bytes = new Uint8Array(buffer, page);
    this.headers = new Int32Array(buffer, page);
  }

  /**
   * Returns a separate buffer over a part of the data, whose views can be detached before those of the rest. The caller must
   * detach it with {@link detachPart} before the memory is disposed of.
   */
  part(offset: number, length: number): ArrayBuffer {
    // For the engine a length of 0 means that the length is not known.
    if (length === 0) return new ArrayBuffer(0);
    return toArrayBuffer(this.#producerPages.address as Pointer, pageSize() + offset, length);
  }

  /**
   * Detaches all views of a part. Returns false while an asynchronous operation of Bun uses one of them.
   *
   * If the part was transferred, for example by `postMessage`, its receiver can still access the memory. The memory is then
   * never unmapped.
   */
  detachPart(part: ArrayBuffer): boolean {
    // While a native operation holds the buffer, the engine silently copies instead of detaching.
    if (part.detached) this.#isShared = true;
    else part.transfer(0);
    return part.detached;
  }

  /**
   * Detaches every view and unmaps the memory; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data.
   */
  [Symbol.dispose](): void {
    if (this.#producerPages.disposed) return;
    if (!this.detachPart(this.data.buffer)) {
      throw new Error(
        `the ${this.#what} cannot be disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    if (this.#isShared) kept.push(this.#producerPages.buffer.transfer());
    this.#producerPages[Symbol.dispose]();
    this.#consumerPage[Symbol.dispose]();
  }
}
