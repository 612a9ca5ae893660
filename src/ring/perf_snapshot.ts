import type { PerfMemory } from "../ffi/perf_event.ts";
import { orderLoads } from "../ffi/ring_memory.ts";
import { PERF_EVENT_HEADER } from "../uapi/layout.ts";
import type { SharedPerfBuffer } from "./perf_reader.ts";

/** The memory of a perf event in overwrite mode: `PerfMemory`, or a fake in tests. */
export type BackwardPerfBuffer = Pick<PerfMemory, "data" | "written">;

/**
 * A copy of the perf buffer of one CPU in overwrite mode, which can be read like a buffer that is written forwards.
 *
 * The kernel writes such a buffer downwards, so a reader finds the newest record first, then older ones, up to one that is
 * partly overwritten. Programs must not write during the copy, so the event is paused meanwhile. A second copy then has the
 * records in the order in which they were written. The consumer reads that second copy, which is renewed when all of it was
 * read. So its records are delivered even if programs have overwritten them meanwhile.
 *
 * All positions are in bytes written since the event was mapped.
 */
export class SnapshotPerf implements SharedPerfBuffer, Disposable {
  /** The records in the order in which they were written: the record at position `p` begins at `p & (size - 1)`. */
  readonly data: DataView<ArrayBuffer>;
  overwrittenBytes = 0;
  readonly #memory: BackwardPerfBuffer;
  readonly #pause: (paused: boolean) => void;
  readonly #from: Uint8Array;
  readonly #to: Uint8Array<ArrayBuffer>;
  /** A copy of the kernel's bytes, beginning with the newest record. */
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
        // The loads of the copy must come before the load of the position that shows if more was written meanwhile.
        orderLoads();
        // A record that was being written when the event was paused can have been completed since, and has then overwritten
        // the oldest records.
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

  /** Copies the records into {@link data} in order. Returns the position of the oldest complete one. */
  #sort(written: number, length: number): number {
    const { byteLength } = this.data;
    const raw = new DataView(this.#raw.buffer);
    let at = 0;
    while (at < length) {
      const size = raw.getUint16(at + PERF_EVENT_HEADER.size, true);
      // The record is partly overwritten, or was never written.
      if (size < PERF_EVENT_HEADER.sizeof || size % 8 !== 0 || at + size > length) break;
      const offset = (written - at - size) % byteLength;
      const first = Math.min(size, byteLength - offset);
      this.#to.set(this.#raw.subarray(at, at + first), offset);
      this.#to.set(this.#raw.subarray(at + first, at + size), 0);
      at += size;
    }
    return written - at;
  }

  /** Detaches all views of the copy. */
  [Symbol.dispose](): void {
    if (!this.#to.buffer.detached) this.#to.buffer.transfer(0);
  }
}
