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

/** The memory that the perf event of a CPU shares with the kernel: `PerfMemory`, its {@link SnapshotPerf}, or a fake in tests. */
export type SharedPerfBuffer = Omit<Pick<PerfMemory, keyof PerfMemory>, "written">;

/** The largest size of a record: a multiple of 8 in 16 bits. */
const maxRecordSize = 0xfff8;

const headerSize = PERF_EVENT_HEADER.sizeof;
/** Bytes of the smallest PERF_RECORD_SAMPLE with PERF_SAMPLE_RAW: header, length of the data (4 bytes), and 4 bytes of data. */
const minSampleSize = headerSize + 8;
const payloadOffset = headerSize + 4;
/** Bytes of a PERF_RECORD_LOST: header, event id, and number of lost records. */
const lostSize = headerSize + 16;
const lostCountOffset = headerSize + 8;
/**
 * Bytes of the longest payload. For a longer payload, the kernel (up to 7.2 at least) writes more bytes than it has room
 * for, and a wrong size.
 */
const maxPayload = maxRecordSize - payloadOffset;

/** Returns the size of a record with a payload of `length` bytes. */
export function sampleSize(length: number): number {
  return roundUp8(payloadOffset + length);
}

/** The number of bytes or of records between two wake-ups by the kernel. By default each record wakes the consumer. */
export interface PerfWakeups {
  readonly watermark?: number | undefined;
  readonly wakeupEvents?: number | undefined;
}

/**
 * A reader of the perf buffer of one CPU: the consumer's side of the protocol over the shared memory.
 *
 * It drains with `step` and `show` of {@link HeldRecords}, without a specialized loop. Such a loop would save little
 * compared with the time that the kernel takes to write a record.
 */
export class CpuReader extends HeldRecords {
  readonly cpu: number;
  readonly totals: ReaderTotals;
  readonly #all: PerfReader;
  readonly #memory: SharedPerfBuffer;
  readonly #data: DataView;
  readonly #bytes: Uint8Array;
  /** The size of the data, which is a power of two, minus 1. */
  readonly #mask: number;
  /** The position up to which records were read. */
  #position: number;
  /** The offset of `#position` in the data. */
  #offset = 0;
  /** The position up to which the kernel had written at the last {@link begin}. */
  #head = 0;
  #available = 0;
  #released = 0;
  /** The number of delivered records of programs. */
  #events = 0;
  /** Bytes that were overwritten before they were read, at the last {@link begin}. */
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

  /** The number of unread bytes. */
  get backlog(): number {
    if (this.isTransferred) return 0;
    // In overwrite mode more can have been written than the buffer holds.
    return Math.min(this.#memory.head() - this.#position, this.#data.byteLength);
  }

  /**
   * Returns true if the unread data suffices for a wake-up by the kernel: any data, or data that crosses a multiple of the
   * watermark or of the number of records.
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

  /** Returns the number of unread records of programs, at most `max`. */
  #unread(head: number, max: number): number {
    let count = 0;
    for (let position = this.#position; position < head && count < max;) {
      const offset = position % (this.#mask + 1);
      if (this.#data.getUint32(offset + PERF_EVENT_HEADER.type, true) === PERF_RECORD_SAMPLE)
        count++;
      const size = this.#data.getUint16(offset + PERF_EVENT_HEADER.size, true);
      // The record is corrupt. The returned number causes a read, which reports the corruption.
      if (size < headerSize) return max;
      position += size;
    }
    return count;
  }

  /** The number of bytes that the last {@link begin} found and that were not read since. */
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
        `records were read up to position ${this.#position}, and the kernel has written up to ${head}, in a buffer of ${byteLength} bytes`,
      );
    }
    this.#head = head;
    this.#restart(available);
    return this.#available;
  }

  /** Calls `fn` with the next records that {@link begin} found, at most `limit` of them. Returns the number of records. */
  drain(fn: RawRecordCallback, limit: number): number {
    // Delivered records are also released during the drain, so that programs do not run out of room in a long one.
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
    // A record can wrap around the end of the data, but its 64-bit fields cannot: they are aligned to 8 bytes.
    this.totals.lost += getUint64(this.#data, (offset + lostCountOffset) & this.#mask);
  }

  /** Returns a copy of a record that wraps around the end of the data. */
  #unwrap(offset: number, size: number): DataView {
    const { scratch, scratchView } = this.#all;
    const first = this.#bytes.length - offset;
    scratch.set(this.#bytes.subarray(offset), 0);
    scratch.set(this.#bytes.subarray(0, size - first), first);
    return scratchView;
  }

  #corruptRecord(at: number, type: number, size: number): Error {
    return this.#corrupt(
      `the record of type ${type} at position ${this.#position + at} has an impossible size of ${size} bytes; the kernel has written up to ${this.#head}`,
    );
  }

  protected override isBusy(): boolean {
    return false;
  }

  protected override step(at: number): number {
    // A header does not wrap around the end: it has 8 bytes, and records begin at multiples of 8.
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
    // A record that ends with the data does not wrap.
    if (offset + size > this.#mask + 1) {
      view = this.#unwrap(offset, size);
      offset = 0;
    }
    offset += payloadOffset;
    const length = size < minSampleSize ? size : view.getUint32(offset - 4, true);
    if (length > size - payloadOffset) {
      throw this.#corruptRecord(at, PERF_RECORD_SAMPLE, size);
    }
    this.view = view;
    this.offset = offset;
    this.length = length;
  }

  protected override advance(bytes: number): void {
    this.totals.bytes += bytes;
    // The release must come before a wait starts: a full buffer accepts no record that could wake the consumer.
    this.#release(bytes);
    this.#position += bytes;
    this.#restart(this.#available - bytes);
  }

  #restart(available: number): void {
    // With `| 0` the engine represents these numbers as integers, however large the position is. Doubles are slower.
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
      `the buffer of CPU ${this.cpu} of ${this.#all.what} is corrupt: ${finding}; did this process write to its memory, or did a program write a record of more than ${maxPayload} bytes?`,
    );
  }
}

/** Returns the number of wake-ups that the kernel has sent when it has written up to a position. */
function wakeupsUpTo(position: number, watermark: number): number {
  return Math.max(Math.ceil(position / watermark) - 1, 0);
}

/** The number of records of one CPU that are delivered before the turn of the next CPU. */
const recordsPerTurn = 256;

/**
 * A reader of the perf buffers of all CPUs. Records of one CPU are delivered in order. Between CPUs there is no order,
 * because the kernel keeps none: the CPUs take turns of {@link recordsPerTurn} records each.
 */
export class PerfReader extends RoundRobinReader<CpuReader> implements RecordReader {
  /**
   * Bytes of the data of one CPU, which can fill on its own. Decisions that use this size assume that all records come from
   * one CPU.
   */
  readonly byteLength: number;
  readonly totals: ReaderTotals = {
    events: 0,
    bytes: 0,
    discarded: 0,
    lost: 0,
    overwrittenBytes: 0,
  };
  /** The name of the buffer for messages. */
  readonly what: string;
  /**
   * Memory for the copy of a record that wraps around the end of its data. One copy suffices, because one record is read at
   * a time.
   */
  readonly scratch: Uint8Array<ArrayBuffer>;
  readonly scratchView: DataView<ArrayBuffer>;
  isDraining = false;
  readonly #pages: Disposable;
  readonly #beforeRead: () => void;
  #code = sharedDrainCode;
  #stopped = false;
  #disposed = false;
  /** The reader of the last record, if it was removed after that. */
  #removed: CpuReader | undefined;

  /**
   * @param memories the memory of the buffer of each CPU
   * @param pages all of that memory, owned by this object from now on
   * @param byteLength bytes of the data of one CPU
   * @param beforeRead called before buffers are read; it may add and remove CPUs
   */
  constructor(
    memories: readonly { readonly cpu: number; readonly memory: SharedPerfBuffer }[],
    pages: Disposable,
    byteLength: number,
    what: string,
    beforeRead: () => void = () => {},
  ) {
    super([]);
    this.byteLength = byteLength;
    this.what = what;
    this.scratch = new Uint8Array(Math.min(byteLength, maxRecordSize));
    this.scratchView = new DataView(this.scratch.buffer);
    this.#pages = pages;
    this.#beforeRead = beforeRead;
    for (const { cpu, memory } of memories) this.add(cpu, memory);
  }

  /** Adds the buffer of a CPU. */
  add(cpu: number, memory: SharedPerfBuffer): CpuReader {
    const reader = new CpuReader(this, cpu, memory);
    this.readers.push(reader);
    return reader;
  }

  override remove(reader: CpuReader): void {
    if (reader === this.current) this.#removed = reader;
    super.remove(reader);
  }

  /** The number of the CPU of the last record, including one whose callback runs; -1 before the first record. */
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
    this.#beforeRead();
    return super.hold(limit, bytes);
  }

  #drain(fn: RawRecordCallback, limit: number): number {
    this.#beforeRead();
    // All readers begin before the first callback. So records that programs write meanwhile, on any CPU, are left for the
    // next drain.
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
   * Unmaps the memory, and detaches all views of it and of the copy of a wrapped record.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the memory; nothing has changed then.
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
