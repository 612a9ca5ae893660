import { getUint64, roundUp8 } from "../ffi/mapped_memory.ts";
import type { PerfMemory } from "../ffi/perf_event.ts";
import {
  type DrainCode,
  drainCodeFor,
  type RawRecordCallback,
  sharedDrainCode,
} from "./drain_code.ts";
import { HeldRecords, type ReaderTotals, type RecordReader } from "./reader.ts";
import { RoundRobinReader } from "./turns.ts";
import { PERF_EVENT_HEADER } from "../uapi/layout.ts";
import { PERF_RECORD_LOST, PERF_RECORD_SAMPLE } from "../uapi/system.ts";

/** The memory that one CPU's perf event shares with the kernel: `PerfMemory`, or a test's own. */
export type SharedPerfBuffer = Omit<Pick<PerfMemory, keyof PerfMemory>, "written">;

/** The largest value of a record's 16-bit size, a multiple of 8. */
const longestPerfRecord = 0xfff8;

const headerSize = PERF_EVENT_HEADER.sizeof;
/** Bytes of the smallest record of a program: its header, the length of the data, and 4 bytes of them at least. */
const smallestSample = headerSize + 8;
const payloadOffset = headerSize + 4;
/** Bytes of a record that tells of losses: its header, the event's id, and how many records were lost. */
const lostSize = headerSize + 16;
const lostCountOffset = headerSize + 8;
/**
 * Bytes of the longest record. For a longer one the kernel (up to 7.2 at least) writes more than it has room for, with a wrong
 * size.
 */
const longestPayload = longestPerfRecord - payloadOffset;

/** Returns the size of a record with a payload of `length` bytes. */
export function sampleSize(length: number): number {
  return roundUp8(payloadOffset + length);
}

/** The condition on which the kernel wakes waiters for a CPU's buffer: a number of bytes or of records; by default each record. */
export interface PerfWakeups {
  readonly watermark?: number | undefined;
  readonly wakeupEvents?: number | undefined;
}

/**
 * The protocol of the consumer of one CPU's perf buffer, over its shared memory.
 *
 * It drains by the walk, without a loop of its own: that takes 0.5 ns a record more, where the kernel takes 60 to write one.
 */
export class CpuReader extends HeldRecords {
  readonly cpu: number;
  readonly totals: ReaderTotals;
  readonly #all: PerfReader;
  readonly #memory: SharedPerfBuffer;
  readonly #data: DataView;
  readonly #bytes: Uint8Array;
  /** The size of the data, a power of two, less 1. */
  readonly #mask: number;
  /** The position up to which records were read. */
  #position: number;
  /** Its offset in the data. */
  #offset = 0;
  /** The position up to which the kernel had written at the last {@link begin}. */
  #head = 0;
  #available = 0;
  #released = 0;
  /** Records of programs that were delivered. */
  #events = 0;
  /** Bytes that were overwritten before they were read; they count as passed. */
  #overwritten = 0;

  constructor(all: PerfReader, cpu: number, memory: SharedPerfBuffer) {
    const { data } = memory;
    super(data);
    this.cpu = cpu;
    this.totals = all.totals;
    this.#all = all;
    this.#memory = memory;
    this.#data = data;
    this.#bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#mask = data.byteLength - 1;
    this.#position = memory.tail();
  }

  protected override get what(): string {
    return this.#all.what;
  }

  protected override get isTransferred(): boolean {
    return (this.#data.buffer as ArrayBuffer).detached || this.#all.scratch.buffer.detached;
  }

  /** Bytes that wait. */
  get backlog(): number {
    if (this.isTransferred) return 0;
    // In overwrite mode this can be less than was written.
    return Math.min(this.#memory.head() - this.#position, this.#data.byteLength);
  }

  /**
   * Returns whether the kernel wakes for the unread data: any data, or data that crosses a multiple of the watermark or of the
   * number of records.
   */
  isDue({ watermark, wakeupEvents }: PerfWakeups): boolean {
    const head = this.#memory.head();
    if (watermark !== undefined) {
      return wakeupsUpTo(head, watermark) > wakeupsUpTo(this.#position, watermark);
    }
    if (wakeupEvents === undefined) return head !== this.#position;
    const before = this.#events % wakeupEvents;
    return before + this.#unread(head, wakeupEvents - before) >= wakeupEvents;
  }

  /** Counts unread records of programs, up to `enough`. */
  #unread(head: number, enough: number): number {
    let count = 0;
    for (let position = this.#position; position < head && count < enough;) {
      const offset = position % (this.#mask + 1);
      if (this.#data.getUint32(offset + PERF_EVENT_HEADER.type, true) === PERF_RECORD_SAMPLE)
        count++;
      const size = this.#data.getUint16(offset + PERF_EVENT_HEADER.size, true);
      // Impossible: reading it throws an error.
      if (size < headerSize) return enough;
      position += size;
    }
    return count;
  }

  /** Bytes that the last {@link begin} found and that were not read since. */
  get available(): number {
    return this.#available;
  }

  override begin(): number {
    const { byteLength } = this.#data;
    const head = this.#memory.look();
    const overwritten = this.#memory.overwrittenBytes - this.#overwritten;
    this.#overwritten += overwritten;
    this.#position += overwritten;
    this.totals.overwrittenBytes += overwritten;
    const available = head - this.#position;
    if (available < 0 || available > byteLength || head % 8 !== 0) {
      throw this.#corrupt(
        `${this.#position} bytes of it were read and the kernel has written ${head}, in a buffer of ${byteLength} bytes`,
      );
    }
    this.#head = head;
    this.#restart(available);
    return this.#available;
  }

  /** Calls `fn` with the next records of what {@link begin} found, at most `limit` of them, and returns how many those were. */
  drain(fn: RawRecordCallback, limit: number): number {
    // Programs may go on writing during a long drain only if what was delivered is released now and then.
    const releaseAfter = (this.#mask + 1) / 4;
    const available = this.#available;
    let at = 0;
    let released = 0;
    let count = 0;
    this.stopped = false;
    try {
      while (at !== available && count < limit) {
        const start = at;
        const next = this.step(at);
        if (!this.isEvent) {
          this.countNonEvent(start);
          at = next;
          continue;
        }
        this.show(start);
        at = next;
        count++;
        fn(this.view, this.offset, this.length);
        if (this.stopped) break;
        if (at - released >= releaseAfter) {
          this.#release(at);
          released = at;
        }
      }
    } finally {
      this.totals.events += count;
      this.#events += count;
      this.advance(at);
    }
    return count;
  }

  override markDelivered(at: number, events: number): void {
    super.markDelivered(at, events);
    this.#events += events;
  }

  #release(bytes: number): void {
    if (this.disposed || bytes <= this.#released || this.isTransferred) return;
    this.#released = bytes;
    this.#memory.release(this.#position + bytes);
  }

  protected override countNonEvent(at: number): void {
    const offset = this.#offsetOf(at);
    const type = this.#data.getUint32(offset + PERF_EVENT_HEADER.type, true);
    if (type !== PERF_RECORD_LOST || this.length < lostSize) return;
    // Where a record wraps around the end, each number of 64 bits is in one piece all the same.
    this.totals.lost += getUint64(this.#data, (offset + lostCountOffset) & this.#mask);
  }

  /** Returns a copy of a record that goes on at the start of the data. */
  #unwrap(offset: number, size: number): DataView {
    const { scratch, scratchView } = this.#all;
    const first = this.#bytes.length - offset;
    scratch.set(this.#bytes.subarray(offset), 0);
    scratch.set(this.#bytes.subarray(0, size - first), first);
    return scratchView;
  }

  #corruptRecord(at: number, type: number, size: number): Error {
    return this.#corrupt(
      `at position ${this.#position + at} a record of type ${type} claims ${size} bytes, which cannot be, and the kernel has written up to ${this.#head}`,
    );
  }

  protected override isBusy(): boolean {
    return false;
  }

  protected override step(at: number): number {
    // Headers have 8 bytes, and records begin at multiples of 8: a header does not wrap around the end.
    const offset = this.#offsetOf(at);
    const type = this.#data.getUint32(offset + PERF_EVENT_HEADER.type, true);
    const size = this.#data.getUint16(offset + PERF_EVENT_HEADER.size, true);
    if (size < headerSize || (size & 7) !== 0 || size > this.#available - at) {
      throw this.#corruptRecord(at, type, size);
    }
    this.isEvent = type === PERF_RECORD_SAMPLE;
    this.length = size;
    return at + size;
  }

  protected override show(at: number): void {
    const size = this.length;
    let view = this.#data;
    let offset = this.#offsetOf(at);
    // One that ends with the data is whole.
    if (offset + size > this.#mask + 1) {
      view = this.#unwrap(offset, size);
      offset = 0;
    }
    offset += payloadOffset;
    const length = size < smallestSample ? size : view.getUint32(offset - 4, true);
    if (length > size - payloadOffset) {
      throw this.#corruptRecord(at, PERF_RECORD_SAMPLE, size);
    }
    this.view = view;
    this.offset = offset;
    this.length = length;
  }

  protected override advance(bytes: number): void {
    this.totals.bytes += bytes;
    // Before a sleep this must come first: a full buffer gets no record that could wake.
    this.#release(bytes);
    this.#position += bytes;
    this.#restart(this.#available - bytes);
  }

  #restart(available: number): void {
    // Integers, whatever the position is by now: the engine is fast with these alone.
    this.#available = available | 0;
    this.#offset = (this.#position % (this.#mask + 1)) | 0;
    this.#released = 0;
  }

  #offsetOf(at: number): number {
    return (this.#offset + at) & this.#mask;
  }

  #corrupt(finding: string): Error {
    this.isCorrupt = true;
    return new Error(
      `the buffer of CPU ${this.cpu} of ${this.#all.what} is corrupt: ${finding}; did this process write to its memory, or a program a record of more than ${longestPayload} bytes?`,
    );
  }
}

/** Returns how often the kernel has woken by the time that so much was written. */
function wakeupsUpTo(position: number, watermark: number): number {
  return Math.max(Math.ceil(position / watermark) - 1, 0);
}

/** The number of records of one CPU that are delivered in a row, before the other CPUs have their turn. */
const recordsPerTurn = 256;

/**
 * The perf buffers of all CPUs as one. Records of one CPU come in their order; those of different CPUs in none, as the kernel
 * keeps none: the CPUs take turns of some records each.
 */
export class PerfReader extends RoundRobinReader<CpuReader> implements RecordReader {
  /**
   * Bytes of the data of one CPU: that is what can be full, and held in one piece. What is decided by it is decided as if all
   * came from one CPU.
   */
  readonly byteLength: number;
  readonly totals: ReaderTotals = {
    events: 0,
    bytes: 0,
    discarded: 0,
    lost: 0,
    overwrittenBytes: 0,
  };
  /** Names the buffer in errors. */
  readonly what: string;
  /** A place for copies of records that wrap around the end of their data: one is looked at at a time. */
  readonly scratch: Uint8Array<ArrayBuffer>;
  readonly scratchView: DataView<ArrayBuffer>;
  isDraining = false;
  readonly #pages: Disposable;
  readonly #beforeLook: () => void;
  #code = sharedDrainCode;
  #stopped = false;
  #disposed = false;
  /** The reader of the last record, if it was removed since. */
  #removed: CpuReader | undefined;

  /**
   * @param memories the memory of each CPU's buffer
   * @param pages all of that memory, owned from here on
   * @param byteLength bytes of the data of one CPU
   * @param beforeLook called before buffers are read: CPUs may be added and removed there
   */
  constructor(
    memories: readonly { readonly cpu: number; readonly memory: SharedPerfBuffer }[],
    pages: Disposable,
    byteLength: number,
    what: string,
    beforeLook: () => void = () => {},
  ) {
    super([]);
    this.byteLength = byteLength;
    this.what = what;
    this.scratch = new Uint8Array(Math.min(byteLength, longestPerfRecord));
    this.scratchView = new DataView(this.scratch.buffer);
    this.#pages = pages;
    this.#beforeLook = beforeLook;
    for (const { cpu, memory } of memories) this.add(cpu, memory);
  }

  /** Adds a buffer. */
  add(cpu: number, memory: SharedPerfBuffer): CpuReader {
    const reader = new CpuReader(this, cpu, memory);
    this.readers.push(reader);
    return reader;
  }

  override remove(reader: CpuReader): void {
    if (reader === this.current) this.#removed = reader;
    super.remove(reader);
  }

  /** The CPU of the record that was delivered last, or is being delivered; -1 before the first. */
  get cpu(): number {
    return (this.current ?? this.#removed)?.cpu ?? -1;
  }

  get isCorrupt(): boolean {
    return this.readers.some((reader) => reader.isCorrupt);
  }

  get code(): DrainCode {
    this.#code = drainCodeFor(this.#code, this.totals.events);
    return this.#code;
  }

  get backlog(): number {
    return this.readers.reduce((sum, { backlog }) => sum + backlog, 0);
  }

  drain(fn: RawRecordCallback, limit: number): number {
    this.isDraining = true;
    try {
      return this.#drain(fn, limit);
    } catch (error) {
      throw this.readers[0]?.explain(error);
    } finally {
      this.isDraining = false;
    }
  }

  override hold(limit: number, bytes: number): number {
    this.#beforeLook();
    return super.hold(limit, bytes);
  }

  #drain(fn: RawRecordCallback, limit: number): number {
    this.#beforeLook();
    // All of them before the first callback: what that has programs write, on whatever CPU, is left.
    for (const reader of this.readers) reader.begin();
    this.#stopped = false;
    this.end = "limit";
    let count = 0;
    let idle = 0;
    while (count < limit && idle < this.readers.length) {
      const reader = this.takeTurn();
      if (reader.available === 0) {
        idle++;
        continue;
      }
      idle = 0;
      this.current = reader;
      count += reader.drain(fn, Math.min(limit - count, recordsPerTurn));
      if (this.#stopped) return count;
    }
    if (this.readers.every(({ available }) => available === 0)) this.end = "empty";
    return count;
  }

  interrupt(): void {
    this.#stopped = true;
    if (this.current !== undefined) this.current.stopped = true;
  }

  /**
   * Unmaps the memory: views of it, and of the copy of a record that wrapped around the end, have length 0 from then on.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the memory: all is as before then
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#pages[Symbol.dispose]();
    this.#disposed = true;
    this.#stopped = true;
    for (const reader of this.readers) reader.disposed = reader.stopped = true;
    if (!this.scratch.buffer.detached) this.scratch.buffer.transfer(0);
  }
}
