import { loadFence, RingMemory } from "../ffi/ring_memory.ts";
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ } from "../uapi/bpf.ts";

/** A record in place: where its payload is in the ring's memory, valid during the call only. */
export type RawRecordCallback = (view: DataView, offset: number, length: number) => void;

const lengthMask = ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

/** Why {@link RingReader.drain} stopped. `"busy"`: the next record is reserved but not yet submitted. */
export type DrainEnd = "empty" | "busy" | "limit";

/**
 * The protocol of a ring buffer's consumer, over its shared memory.
 *
 * A record is delivered when the callback is called with it, and released to the kernel some time after: together with
 * others, at the latest when the drain ends. A record whose callback throws counts as delivered.
 */
export class RingReader implements Disposable {
  readonly #memory: RingMemory;
  readonly #size: number;
  readonly #what: string;
  /** Up to here records were delivered; bytes since the ring's creation. */
  #delivered: number;
  #released: number;
  #disposed = false;
  #end: DrainEnd = "empty";

  constructor(fd: number, size: number, what: string) {
    this.#memory = new RingMemory(fd, size, what);
    this.#size = size;
    this.#what = what;
    this.#delivered = this.#memory.consumerPosition();
    this.#released = this.#delivered;
  }

  /** Why the last drain stopped. */
  get end(): DrainEnd {
    return this.#end;
  }

  /** Bytes that wait in the ring, headers and discarded records included. */
  get backlog(): number {
    return this.#memory.producerPosition() - this.#delivered;
  }

  /** Calls `fn` with each record that is there, at most `limit` of them; how many it was. */
  drain(fn: RawRecordCallback, limit: number): number {
    const { data } = this.#memory;
    const mask = this.#size - 1;
    // Programs may go on filling the ring during a long drain only if what was delivered is released now and then.
    const releaseAfter = this.#size / 4;
    let count = 0;
    let position = this.#delivered;
    // Kept beside the position, which outgrows the integers that the engine is fast with.
    let offset = position % this.#size;
    let producer = this.#memory.producerPosition();
    this.#end = "empty";
    try {
      for (;;) {
        if (position === producer) {
          this.#release();
          producer = this.#memory.producerPosition();
          if (position === producer) break;
        }
        if (count >= limit) {
          this.#end = "limit";
          break;
        }
        const header = data.getUint32(offset, true);
        if ((header & BPF_RINGBUF_BUSY_BIT) !== 0) {
          this.#end = "busy";
          break;
        }
        loadFence();
        const length = header & lengthMask;
        const advance = (length + BPF_RINGBUF_HDR_SZ + 7) & ~7;
        if (position + advance > producer) throw this.#corrupt(position, length, producer);
        const payload = offset + BPF_RINGBUF_HDR_SZ;
        position += advance;
        offset = (offset + advance) & mask;
        this.#delivered = position;
        if ((header & BPF_RINGBUF_DISCARD_BIT) !== 0) continue;
        count++;
        fn(data, payload, length);
        if (this.#disposed) break;
        if (position - this.#released >= releaseAfter) this.#release();
      }
    } finally {
      this.#release();
    }
    return count;
  }

  /** Tells the kernel how far records were delivered. Before a sleep this must come first, or no wake-up follows. */
  #release(): void {
    if (this.#disposed || this.#released === this.#delivered) return;
    this.#released = this.#delivered;
    this.#memory.release(this.#delivered);
  }

  #corrupt(position: number, length: number, producer: number): Error {
    return new Error(
      `${this.#what} is corrupt: at position ${position} a record claims ${length} bytes, but programs have written up to ${producer} only; was its memory changed by another process?`,
    );
  }

  /** Releases what was delivered and unmaps: views of the ring have length 0 from then on. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#release();
    this.#memory[Symbol.dispose]();
    this.#disposed = true;
  }
}
