import { loadPosition } from "./load_order.ts";
import { MappedMemory, pageSize } from "./memory.ts";

/**
 * Where the producer's page holds the overwrite position, in 64-bit words: behind the producer's and that of the oldest record
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
  /** Nothing is: where there is no room, programs get none. */
  readonly overwrittenBytes = 0;
  readonly #consumerPage: MappedMemory;
  readonly #producerPages: MappedMemory;
  // 64-bit views, which alone can be read in order where they are read-only.
  readonly #consumer: BigUint64Array<ArrayBuffer>;
  readonly #producer: BigUint64Array<ArrayBuffer>;
  readonly #consumerWords: Uint32Array<ArrayBuffer>;

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
    this.#consumerWords = new Uint32Array(this.#consumerPage.buffer, 0, 2);
    this.#producer = new BigUint64Array(this.#producerPages.buffer, 0, overwriteWord + 1);
    this.data = new DataView(this.#producerPages.buffer, page, 2 * size);
  }

  /** How far programs had reserved at the last {@link look}, in bytes since the ring's creation. */
  producer = 0;
  /** How far records were released at the last {@link look}, in bytes since the ring's creation. */
  consumer = 0;

  /** Reads both positions; what they cover may be read after this. */
  look(): void {
    this.consumer = this.releasedPosition();
    this.producer = loadPosition(this.#producer, 0);
  }

  /** Releases all records before `position`: programs may overwrite them from now on. */
  release(position: number): void {
    Atomics.store(this.#consumer, 0, BigInt(position));
  }

  /** How far records are released by now. */
  releasedPosition(): number {
    // In halves, as a bigint costs several times more. Only a consumer moves it, and there is one at a time.
    const words = this.#consumerWords;
    return (words[1] as number) * 0x1_0000_0000 + (words[0] as number);
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
