import { loadFence } from "../ffi/ring_memory.ts";
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ } from "../uapi/bpf.ts";

/** A record in place: where its payload is in the ring's memory, valid during the call only. */
export type RawRecordCallback = (view: DataView, offset: number, length: number) => void;

/** The memory that a ring buffer's consumer shares with the kernel: `RingMemory`, or a test's own. */
export interface SharedRing extends Disposable {
  /** The data, twice in a row: the record at position `p` is at `p & (size - 1)`. */
  readonly data: DataView;
  /** How far programs have reserved, in bytes since the ring's creation. */
  producerPosition(): number;
  /** How far records were released, in bytes since the ring's creation. */
  consumerPosition(): number;
  /** Releases all records before `position`. */
  release(position: number): void;
}

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
  readonly #memory: SharedRing;
  readonly #size: number;
  readonly #what: string;
  /** Where the last drain began, in bytes since the ring's creation. */
  #start = 0;
  /** Bytes from there on that were delivered, and those that were released. */
  #delivered = 0;
  #released = 0;
  #disposed = false;
  #end: DrainEnd = "empty";

  /** @param memory owned from here on */
  constructor(memory: SharedRing, size: number, what: string) {
    this.#memory = memory;
    this.#size = size;
    this.#what = what;
  }

  /** Why the last drain stopped. */
  get end(): DrainEnd {
    return this.#end;
  }

  /** Bytes that wait in the ring, headers and discarded records included. */
  get backlog(): number {
    return this.#memory.producerPosition() - this.#memory.consumerPosition();
  }

  /**
   * Calls `fn` with each record that is there at the start, at most `limit` of them; how many it was.
   *
   * What programs add meanwhile is left for the next drain: a program that keeps pace with `fn` would hold it for ever.
   */
  drain(fn: RawRecordCallback, limit: number): number {
    const { data } = this.#memory;
    const mask = this.#size - 1;
    // Programs may go on filling the ring during a long drain only if what was delivered is released now and then.
    const releaseAfter = this.#size / 4;
    // Asked of the ring, not remembered: another object for the same ring may have been its consumer meanwhile.
    const start = this.#memory.consumerPosition();
    const producer = this.#memory.producerPosition();
    this.#checkPositions(start, producer);
    this.#start = start;
    this.#delivered = 0;
    this.#released = 0;
    // All that the loop counts in is less than the ring's size: positions outgrow the integers that the engine is fast
    // with once 2 GiB have passed.
    const available = (producer - start) | 0;
    let done = 0;
    let offset = (start % this.#size) | 0;
    let count = 0;
    this.#end = "empty";
    try {
      while (done !== available) {
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
        if (advance > available - done) throw this.#corruptRecord(start + done, length, producer);
        const payload = offset + BPF_RINGBUF_HDR_SZ;
        done += advance;
        offset = (offset + advance) & mask;
        this.#delivered = done;
        if ((header & BPF_RINGBUF_DISCARD_BIT) !== 0) continue;
        count++;
        fn(data, payload, length);
        if (this.#disposed) break;
        if (done - this.#released >= releaseAfter) this.#release();
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
    const position = this.#start + this.#delivered;
    // Another process may be a second consumer, which no check can refuse: what it gave back is the programs' again.
    if (position > this.#memory.consumerPosition()) this.#memory.release(position);
  }

  #checkPositions(consumer: number, producer: number): void {
    if (consumer <= producer && producer - consumer < this.#size && consumer % 8 === 0) return;
    throw this.#corrupt(
      `its consumer is at position ${consumer} and programs have written up to ${producer}, in a ring of ${this.#size} bytes`,
    );
  }

  #corruptRecord(position: number, length: number, producer: number): Error {
    return this.#corrupt(
      `at position ${position} a record claims ${length} bytes, but programs have written up to ${producer} only`,
    );
  }

  #corrupt(finding: string): Error {
    return new Error(
      `${this.#what} is corrupt: ${finding}; was its memory changed by another process?`,
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
