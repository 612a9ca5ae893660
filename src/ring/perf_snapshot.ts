import type { PerfMemory } from "../ffi/perf_event.ts";
import { orderLoads } from "../ffi/ring_memory.ts";
import { PERF_EVENT_HEADER } from "../uapi/layout.ts";
import type { SharedPerfBuffer } from "./perf_reader.ts";

/** The memory of a perf event in overwrite mode: `PerfMemory`, or that of a test. */
export type BackwardPerfBuffer = Pick<PerfMemory, "data" | "written">;

/**
 * Makes one CPU's perf buffer in overwrite mode (kernel 4.7) readable like one that is written forwards.
 *
 * The kernel writes such a buffer downwards, so a reader finds the newest record first, then older ones, up to one that is partly
 * overwritten. Programs must not write meanwhile: the event is paused while the new bytes are copied. The records are then put into
 * a second copy in the order in which they were written. The consumer reads that copy, which is renewed when it is used up, so its
 * records are delivered even if programs have overwritten them since.
 *
 * All positions are in bytes written since the event was mapped.
 */
export class SnapshotPerf implements SharedPerfBuffer, Disposable {
  /** The records in their order: the one at position `p` begins at `p & (size - 1)`. */
  readonly data: DataView<ArrayBuffer>;
  overwrittenBytes = 0;
  readonly #memory: BackwardPerfBuffer;
  readonly #pause: (paused: boolean) => void;
  readonly #from: Uint8Array;
  readonly #to: Uint8Array<ArrayBuffer>;
  /** A copy of the kernel's bytes, from the newest record on. */
  readonly #raw: Uint8Array<ArrayBuffer>;
  /** The position up to which records were copied. */
  #copied = 0;
  #released = 0;

  /** @param pause pauses or resumes the event */
  constructor(memory: BackwardPerfBuffer, pause: (paused: boolean) => void) {
    const { buffer, byteOffset, byteLength } = memory.data;
    this.#memory = memory;
    this.#pause = pause;
    this.#from = new Uint8Array(buffer, byteOffset, byteLength);
    this.#to = new Uint8Array(byteLength);
    this.#raw = new Uint8Array(byteLength);
    this.data = new DataView(this.#to.buffer);
  }

  look(): number {
    if (this.#released >= this.#copied && this.head() !== this.#copied) this.#copy();
    return this.#copied;
  }

  head(): number {
    return this.#memory.written();
  }

  tail(): number {
    return this.#released;
  }

  release(position: number): void {
    this.#released = position;
  }

  #copy(): void {
    const before = this.#copied;
    this.#pause(true);
    let written: number;
    try {
      do {
        written = this.head();
        this.#copyRaw(written, Math.min(written - before, this.#from.length));
        // The loads of the copy come before the one that tells whether more was written meanwhile.
        orderLoads();
        // A record that was being written at the pause is complete now, and has overwritten the oldest ones.
      } while (this.head() !== written);
    } finally {
      this.#pause(false);
    }
    const start = this.#sort(written, Math.min(written - before, this.#from.length));
    this.overwrittenBytes += start - before;
    this.#copied = written;
    this.#released = start;
  }

  /** Copies the newest bytes. */
  #copyRaw(written: number, length: number): void {
    const size = this.#from.length;
    const start = (size - (written % size)) % size;
    const first = Math.min(length, size - start);
    this.#raw.set(this.#from.subarray(start, start + first));
    this.#raw.set(this.#from.subarray(0, length - first), first);
  }

  /** Puts the records in order. Returns the position of the oldest complete one. */
  #sort(written: number, length: number): number {
    const { byteLength } = this.data;
    const raw = new DataView(this.#raw.buffer);
    let at = 0;
    while (at < length) {
      const size = raw.getUint16(at + PERF_EVENT_HEADER.size, true);
      // Partly overwritten, or never written.
      if (size < PERF_EVENT_HEADER.sizeof || size % 8 !== 0 || at + size > length) break;
      const offset = (written - at - size) % byteLength;
      const first = Math.min(size, byteLength - offset);
      this.#to.set(this.#raw.subarray(at, at + first), offset);
      this.#to.set(this.#raw.subarray(at + first, at + size), 0);
      at += size;
    }
    return written - at;
  }

  /** Detaches the views of the copy. */
  [Symbol.dispose](): void {
    if (!this.#to.buffer.detached) this.#to.buffer.transfer(0);
  }
}
