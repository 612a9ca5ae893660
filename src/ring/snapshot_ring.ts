import { orderLoads } from "../ffi/load_order.ts";
import { BPF_RINGBUF_BUSY_BIT } from "../uapi/bpf.ts";
import type { SharedRing } from "./reader.ts";

/** The memory of a ring in overwrite mode: `RingMemory`, or a test's own. */
export interface OverwrittenRing extends SharedRing {
  /** The position of the oldest record that was not overwritten. */
  overwritePosition(): number;
}

/**
 * A ring buffer in overwrite mode (kernel 6.19): where it is full, a new record takes the place of the oldest ones, whether
 * they were read or not.
 *
 * What is in the shared pages may change at any time. So a look copies all that there is and then asks how far records were
 * overwritten meanwhile: what lies behind that is whole. The copy is read at leisure, and made again when it is used up, so
 * that what it holds is delivered although programs have overwritten it since.
 */
export class SnapshotRing implements SharedRing {
  /** The copy, laid out as the ring's data are: the record at position `p` is at `p & (size - 1)`, and does not wrap. */
  readonly data: DataView;
  producer = 0;
  consumer = 0;
  overwrittenBytes = 0;
  readonly #ring: OverwrittenRing;
  readonly #size: number;
  readonly #from: Uint8Array;
  readonly #to: Uint8Array<ArrayBuffer>;
  /** Up to where the copy reaches. */
  #copied = 0;
  /** Up to where bytes were found to be overwritten. */
  #overwritten = 0;

  /** @param ring owned from here on */
  constructor(ring: OverwrittenRing, size: number) {
    this.#ring = ring;
    this.#size = size;
    const { buffer, byteOffset, byteLength } = ring.data;
    this.#from = new Uint8Array(buffer, byteOffset, byteLength);
    this.#to = new Uint8Array(byteLength);
    this.data = new DataView(this.#to.buffer);
    this.#copied = ring.releasedPosition();
  }

  look(): void {
    const ring = this.#ring;
    const next = Math.max(ring.releasedPosition(), this.#overwritten);
    if (next >= this.#copied || this.#isBusy(next)) this.#copy();
    this.producer = this.#copied;
    this.consumer = Math.max(ring.releasedPosition(), this.#overwritten);
  }

  #copy(): void {
    const ring = this.#ring;
    ring.look();
    const { producer, consumer } = ring;
    // Read behind the producer's position, since the kernel writes it before that.
    const start = Math.max(consumer, ring.overwritePosition());
    // Its own numbers may be anything, where another process wrote to the consumer's page.
    if (start <= producer && producer - start < this.#size) {
      const at = start % this.#size;
      const end = at + (producer - start);
      this.#to.set(this.#from.subarray(at, end), at);
      if (end > this.#size) this.#to.set(this.#from.subarray(0, end - this.#size), 0);
      // The loads of the copy come before the one that tells whether they were in time.
      orderLoads();
    }
    const whole = Math.min(Math.max(start, ring.overwritePosition()), producer);
    this.overwrittenBytes += Math.max(whole - Math.max(consumer, this.#overwritten), 0);
    this.#overwritten = Math.max(this.#overwritten, whole);
    this.#copied = producer;
  }

  releasedPosition(): number {
    return this.#ring.releasedPosition();
  }

  release(position: number): void {
    this.#ring.release(position);
  }

  /** Whether a record was being written when it was copied. */
  #isBusy(position: number): boolean {
    return (this.data.getUint32(position % this.#size, true) & BPF_RINGBUF_BUSY_BIT) !== 0;
  }

  /** Unmaps the ring, and detaches the views of the copy. @throws {Error} as the ring's disposal does */
  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
    this.#to.buffer.transfer(0);
  }
}
