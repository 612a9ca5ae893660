import { getUint64 } from "../ffi/mapped_memory.ts";
import {
  copyOf,
  type PresentingCode,
  type RawRecordCallback,
  sharedDrainCode,
  specialize,
  specializedAfter,
} from "./drain_code.ts";
import { noTotals, type ReaderTotals } from "./reader.ts";
import { PERF_EVENT_HEADER } from "../uapi/layout.ts";
import { PERF_RECORD_LOST, PERF_RECORD_SAMPLE } from "../uapi/system.ts";

/** What a record's 16-bit size, a multiple of 8, can be at most. */
export const longestPerfRecord = 0xfff8;

/** What the readers of all CPUs of one perf buffer share. */
export class PerfReaderCommons implements Disposable {
  readonly totals: ReaderTotals = noTotals();
  /** Where a record that wraps around the end of its data is copied to: one is looked at at a time. */
  readonly scratch: Uint8Array<ArrayBuffer>;
  readonly scratchView: DataView<ArrayBuffer>;
  #code = sharedPerfDrainCode;

  /** @param size bytes of the data of one CPU */
  constructor(size: number) {
    this.scratch = new Uint8Array(Math.min(size, longestPerfRecord));
    this.scratchView = new DataView(this.scratch.buffer);
  }

  get code(): PerfDrainCode {
    if (this.#code === sharedPerfDrainCode && this.totals.events >= specializedAfter) {
      this.#code = specializePerf();
    }
    return this.#code;
  }

  /** Detaches the view of copies, as those of the kernel's memory are. */
  [Symbol.dispose](): void {
    if (!this.scratch.buffer.detached) this.scratch.buffer.transfer(0);
  }
}

/** What the drain of one CPU's perf buffer reports to, and asks, on its way. */
export interface PerfDrainControl {
  /** Whether a callback wants this drain to end, or had the memory unmapped: nothing of it may be touched any more. */
  readonly stopped: boolean;
  /** Releases the first so many bytes of what the drain began with. */
  release(bytes: number): void;
  /** Notes the result; comes last, also when a callback throws. */
  finish(bytes: number, events: number): void;
  /** Takes note of a record that no program wrote, at an offset in the data. */
  passOver(type: number, offset: number, size: number): void;
  /** Gives a copy of a record that goes on at the start of the data. */
  unwrap(offset: number, size: number): DataView;
  /** The error of a record that cannot be, so many bytes from where the drain began. */
  corruptRecord(at: number, type: number, size: number): Error;
}

/** Calls `fn` with each record of programs in the `available` bytes from `offset` on, at most `limit` of them. */
type PerfDrain = (
  control: PerfDrainControl,
  data: DataView,
  mask: number,
  offset: number,
  available: number,
  limit: number,
  fn: RawRecordCallback,
) => number;

/** The code that runs for each record of a perf buffer. */
export interface PerfDrainCode extends PresentingCode {
  readonly drain: PerfDrain;
}

/** Makes the loop. As it is made anew from its text, it refers to nothing outside itself: hence numbers instead of names. */
function makePerfDrain(): PerfDrain {
  return (control, data, mask, offset, available, limit, fn) => {
    // Programs may go on writing during a long drain only if what was delivered is released now and then.
    const releaseAfter = (mask + 1) / 4;
    let at = offset;
    let done = 0;
    let released = 0;
    let count = 0;
    try {
      while (done !== available && count < limit) {
        // Headers have 8 bytes, and records begin at multiples of 8: a header does not wrap around the end.
        const type = data.getUint32(at, true);
        const size = data.getUint16(at + 6, true);
        if (size < 8 || (size & 7) !== 0 || size > available - done) {
          throw control.corruptRecord(done, type, size);
        }
        // PERF_RECORD_SAMPLE.
        if (type !== 9) {
          control.passOver(type, at, size);
          done += size;
          at = (at + size) & mask;
          continue;
        }
        let view = data;
        let payload = at + 12;
        // One that ends with the data is whole.
        if (at + size > mask + 1) {
          view = control.unwrap(at, size);
          payload = 12;
        }
        // The smallest is a header and 8 bytes: the length of the payload and padding.
        const length = size < 16 ? size : view.getUint32(payload - 4, true);
        if (length > size - 12) throw control.corruptRecord(done, type, size);
        done += size;
        at = (at + size) & mask;
        count++;
        fn(view, payload, length);
        if (control.stopped) break;
        if (done - released >= releaseAfter) {
          control.release(done);
          released = done;
        }
      }
    } finally {
      control.finish(done, count);
    }
    return count;
  };
}

/** The code that all perf buffers begin with. */
export const sharedPerfDrainCode: PerfDrainCode = perfDrainCode(makePerfDrain(), sharedDrainCode);

/** A copy of the code, for the readers of one perf buffer alone: see {@link specialize}. */
export function specializePerf(): PerfDrainCode {
  const drain = copyOf(makePerfDrain);
  return drain === undefined ? sharedPerfDrainCode : perfDrainCode(drain, specialize());
}

function perfDrainCode(drain: PerfDrain, { decoding, showing }: PresentingCode): PerfDrainCode {
  return { drain, decoding, showing };
}

/** The memory that one CPU's perf event shares with the kernel: `PerfMemory`, or a test's own. */
export interface SharedPerfBuffer {
  /** The data: the record at position `p` begins at `p & (size - 1)`, and may go on at the start. */
  readonly data: DataView;
  /** How far the kernel has written: what lies before that may be read after this. */
  head(): number;
  /** How far records are released by now. */
  tail(): number;
  /** Releases all records before `position`. */
  release(position: number): void;
}

const headerSize = PERF_EVENT_HEADER.sizeof;
/** Of a record with data of a program: its header, the length of the data, and 4 bytes of them at least. */
const smallestSample = headerSize + 8;
const payloadOffset = headerSize + 4;
/** Of a record that tells of losses: its header, the event's id, and how many records were lost. */
const lostSize = headerSize + 16;
const lostCountOffset = headerSize + 8;
/** Of one that is longer, the kernel (up to 7.2 at least) writes more than it has room for, with a size that is none. */
const longestPayload = longestPerfRecord - payloadOffset;

/** The protocol of the consumer of one CPU's perf buffer, over its shared memory. */
export class PerfReader implements PerfDrainControl {
  readonly cpu: number;
  readonly #memory: SharedPerfBuffer;
  readonly #commons: PerfReaderCommons;
  readonly #what: string;
  readonly #size: number;
  readonly #bytes: Uint8Array;
  /** Up to where records were read. */
  #position: number;
  /** Where that is in the data. */
  #offset = 0;
  /** How far the kernel had written at the last {@link look}. */
  #head = 0;
  #available = 0;
  #released = 0;
  #passed = 0;
  #holdsOthers = false;
  #isClosed = false;
  heldBytes = 0;
  isCorrupt = false;
  stopped = false;
  view: DataView;
  offset = 0;
  length = 0;

  /** @param what names the buffer in errors */
  constructor(memory: SharedPerfBuffer, cpu: number, commons: PerfReaderCommons, what: string) {
    this.cpu = cpu;
    this.#memory = memory;
    this.#commons = commons;
    this.#what = what;
    const { data } = memory;
    this.view = data;
    this.#size = data.byteLength;
    this.#bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#position = memory.tail();
  }

  /** Bytes that wait. */
  get backlog(): number {
    return this.#memory.head() - this.#position;
  }

  /**
   * Whether so much was written since it was read that the kernel wakes: anything, or as much as goes beyond a multiple of the
   * watermark.
   */
  isDue(watermark: number | undefined): boolean {
    const head = this.#memory.head();
    if (watermark === undefined) return head !== this.#position;
    return wakeupsUpTo(head, watermark) > wakeupsUpTo(this.#position, watermark);
  }

  /** Bytes that the last {@link look} found and that were not read since. */
  get available(): number {
    return this.#available;
  }

  /** Looks what there is: as much as is read until the next look. @throws {Error} when it cannot be */
  look(): void {
    const head = this.#memory.head();
    const available = head - this.#position;
    if (available < 0 || available > this.#size || head % 8 !== 0) {
      throw this.#corrupt(
        `${this.#position} bytes of it were read and the kernel has written ${head}, in a buffer of ${this.#size} bytes`,
      );
    }
    this.#head = head;
    this.#begin(available);
  }

  /** Calls `fn` with the next records of what the last {@link look} found, at most `limit` of them; how many it was. */
  drain(fn: RawRecordCallback, limit: number): number {
    const { data } = this.#memory;
    const { code } = this.#commons;
    this.stopped = false;
    return code.drain(this, data, this.#size - 1, this.#offset, this.#available, limit, fn);
  }

  /** Ends the drain under way, if any, after the record whose callback runs. */
  interrupt(): void {
    this.stopped = true;
  }

  /**
   * Keeps the next records of what the last {@link look} found where they are, at most `limit` of them in at most `bytes`
   * bytes but for a longer first one; how many they are.
   */
  hold(limit: number, bytes: number): number {
    let count = 0;
    let at = 0;
    this.#holdsOthers = false;
    while (at < this.#available) {
      const type = this.#typeAt(at);
      const next = at + this.#sizeAt(at);
      if (type !== PERF_RECORD_SAMPLE) {
        this.#holdsOthers = true;
      } else {
        if (count >= limit || (next > bytes && count > 0)) break;
        count++;
      }
      at = next;
    }
    this.heldBytes = at;
    // What is no program's record is nothing to hold on to.
    if (count === 0) {
      this.#passed = at;
      this.giveBack();
    }
    return count;
  }

  /** As {@link RecordReader.locate}. */
  locate(at: number): number {
    let next = at;
    while (next < this.heldBytes) {
      const start = next;
      const type = this.#typeAt(start);
      const size = this.#sizeAt(start);
      next += size;
      if (type !== PERF_RECORD_SAMPLE) continue;
      const offset = this.#offsetOf(start);
      const isWhole = offset + size <= this.#size;
      this.view = isWhole ? this.#memory.data : this.unwrap(offset, size);
      this.offset = (isWhole ? offset : 0) + payloadOffset;
      this.length = size < smallestSample ? size : this.view.getUint32(this.offset - 4, true);
      if (this.length > size - payloadOffset) throw this.corruptRecord(start, type, size);
      return next;
    }
    return -1;
  }

  /** As {@link RecordReader.pass}. */
  pass(at: number, events: number): void {
    this.#passed = at;
    this.#commons.totals.events += events;
  }

  /** As {@link RecordReader.giveBack}. */
  giveBack(): void {
    const passed = this.#passed;
    this.#passed = 0;
    this.heldBytes = 0;
    if (passed === 0 || this.#isClosed) return;
    // Only now: what was held and not passed is looked at again.
    if (this.#holdsOthers) this.#passOverOthers(passed);
    this.finish(passed, 0);
  }

  release(bytes: number): void {
    if (this.#isClosed || bytes <= this.#released) return;
    this.#released = bytes;
    this.#memory.release(this.#position + bytes);
  }

  finish(bytes: number, events: number): void {
    const { totals } = this.#commons;
    totals.bytes += bytes;
    totals.events += events;
    // Before a sleep this must come first: a full buffer gets no record that could wake.
    this.release(bytes);
    this.#position += bytes;
    this.#begin(this.#available - bytes);
  }

  passOver(type: number, offset: number, size: number): void {
    if (type !== PERF_RECORD_LOST || size < lostSize) return;
    // Of a record that wraps around the end, each number of 64 bits is in one piece all the same.
    const count = (offset + lostCountOffset) & (this.#size - 1);
    this.#commons.totals.lost += getUint64(this.#memory.data, count);
  }

  unwrap(offset: number, size: number): DataView {
    const { scratch, scratchView } = this.#commons;
    const first = this.#size - offset;
    scratch.set(this.#bytes.subarray(offset), 0);
    scratch.set(this.#bytes.subarray(0, size - first), first);
    return scratchView;
  }

  corruptRecord(at: number, type: number, size: number): Error {
    return this.#corrupt(
      `at position ${this.#position + at} a record of type ${type} claims ${size} bytes, which cannot be, and the kernel has written up to ${this.#head}`,
    );
  }

  /** The memory is unmapped, or about to be: nothing of it is touched any more. */
  close(): void {
    this.#isClosed = true;
    this.stopped = true;
  }

  #begin(available: number): void {
    // Integers, whatever the position is by now: the engine is fast with these alone.
    this.#available = available | 0;
    this.#offset = (this.#position % this.#size) | 0;
    this.#released = 0;
  }

  #offsetOf(at: number): number {
    return (this.#offset + at) & (this.#size - 1);
  }

  #typeAt(at: number): number {
    return this.#memory.data.getUint32(this.#offsetOf(at) + PERF_EVENT_HEADER.type, true);
  }

  /** @throws {Error} when it is more than there is, or none that can be */
  #sizeAt(at: number): number {
    const size = this.#memory.data.getUint16(this.#offsetOf(at) + PERF_EVENT_HEADER.size, true);
    if (size < headerSize || size % 8 !== 0 || size > this.#available - at) {
      throw this.corruptRecord(at, this.#typeAt(at), size);
    }
    return size;
  }

  #passOverOthers(end: number): void {
    for (let at = 0; at < end;) {
      const type = this.#typeAt(at);
      const size = this.#sizeAt(at);
      if (type !== PERF_RECORD_SAMPLE) this.passOver(type, this.#offsetOf(at), size);
      at += size;
    }
  }

  #corrupt(finding: string): Error {
    this.isCorrupt = true;
    return new Error(
      `the buffer of CPU ${this.cpu} of ${this.#what} is corrupt: ${finding}; did this process write to its memory, or a program a record of more than ${longestPayload} bytes?`,
    );
  }
}

/** How often the kernel has woken by the time that so much was written. */
function wakeupsUpTo(position: number, watermark: number): number {
  return Math.max(Math.ceil(position / watermark) - 1, 0);
}
