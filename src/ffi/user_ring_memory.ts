import { type Pointer, toArrayBuffer } from "bun:ffi";
import { MappedMemory, pageSize } from "./memory.ts";

/** More than the longest record (2^24 - 1 bytes) takes: where that begins before the end, it reaches no farther beyond. */
const longestWrap = 2 ** 25;

/**
 * The pages that a BPF user ring buffer shares with user space (kernel/bpf/ringbuf.c): the mirror image of a ring buffer's.
 *
 * The kernel's page of the consumer's position is read-only, whoever maps it. The producer's page and the data are writable;
 * behind the data its start is mapped once more, so that a record that wraps around the end is still one run of bytes.
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

  /** @param size the ring's size as the kernel tells it: a power of two and a multiple of the page size */
  constructor(fd: number, size: number, what: string) {
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
    this.data = new DataView(buffer, page);
    this.bytes = new Uint8Array(buffer, page);
    this.headers = new Int32Array(buffer, page);
  }

  /**
   * A buffer of its own over a part of the data, so that its views can end before those of the rest. It has to be detached
   * ({@link detach}) before the memory is disposed of.
   */
  part(offset: number, length: number): ArrayBuffer {
    // The engine takes a length of 0 for one that is to be found out.
    if (length === 0) return new ArrayBuffer(0);
    return toArrayBuffer(this.#producerPages.address as Pointer, pageSize() + offset, length);
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

/** Detaches all views of a part of a ring's memory. Whether it could: not while an asynchronous operation of Bun uses one. */
export function detach(part: ArrayBuffer): boolean {
  // The engine copies instead of detaching while a native operation holds the buffer, and says nothing.
  if (!part.detached) part.transfer(0);
  return part.detached;
}
