import { loadFence, orderLoads, type RingMemory } from "../ffi/ring_memory.ts";
import {
  type DrainCode,
  type DrainControl,
  drainCodeFor,
  type DrainEnd,
  type RawRecordCallback,
  sharedDrainCode,
} from "./drain_code.ts";
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ } from "../uapi/bpf.ts";

/** The memory of a ring in overwrite mode: `RingMemory`, or a fake in tests. */
export type OverwrittenRing = Pick<RingMemory, keyof RingMemory>;

/**
 * The memory that the consumer of a ring buffer shares with the kernel: `RingMemory`, a {@link SnapshotRing}, or a fake in
 * tests.
 */
export type SharedRing = Omit<OverwrittenRing, "overwritePosition">;

/** Counts of the records that a reader has read. */
export interface ReaderTotals {
  /** The number of delivered records. */
  events: number;
  /** The number of released bytes, including headers and discarded records. */
  bytes: number;
  /** The number of records that programs discarded. */
  discarded: number;
  /** The number of records for which the buffer had no room. The kernel counts such records in perf buffers only. */
  lost: number;
  /** The number of bytes that were overwritten before they were read, in overwrite mode. */
  overwrittenBytes: number;
}

/**
 * A reader of a buffer that programs write records to: the consumer's side of the protocol, for any kind of buffer.
 *
 * A record is delivered when a callback is called with it. It is released to the kernel later, together with others, at the
 * latest when the drain ends. A record whose callback throws counts as delivered.
 */
export interface RecordReader extends Disposable {
  readonly totals: ReaderTotals;
  /** The size of the buffer in bytes. */
  readonly byteLength: number;
  /** The number of unread bytes, including headers and discarded records. */
  readonly backlog: number;
  /** The reason for which the last {@link drain} or {@link hold} ended. */
  readonly end: DrainEnd;
  /** True if the memory is corrupt (another process has changed it) or its ArrayBuffer was transferred: nothing can be read any more. */
  readonly isCorrupt: boolean;
  /** The code that makes the callbacks for {@link drain}. */
  readonly code: DrainCode;

  /**
   * Calls `fn` with each record that is in the buffer at the start, at most `limit` of them. Returns the number of records.
   *
   * Records that programs add meanwhile are left for the next drain. Otherwise a drain would never end if a program writes
   * records as fast as `fn` processes them.
   */
  drain(fn: RawRecordCallback, limit: number): number;
  /** True while a callback of {@link drain} runs. Nothing else may read the buffer then. */
  readonly isDraining: boolean;
  /**
   * Ends the current drain, if any, after the record whose callback runs. The following records stay. Delivered records are
   * released at once, so that another object for the same buffer can continue from there.
   */
  interrupt(): void;

  /**
   * Holds the next records in place: at most `limit` of them, in at most `bytes` bytes, but at least one. Returns the number
   * of records. The records are valid until {@link releaseHeld}.
   */
  hold(limit: number, bytes: number): number;
  /** Bytes of the held records. */
  readonly heldBytes: number;
  /**
   * Finds the next event from `at` bytes after the start of the held records, and sets {@link view}, {@link offset} and
   * {@link length} to its payload. Returns the start of the record after it, or -1 if no event follows.
   */
  locate(at: number): number;
  readonly view: DataView;
  readonly offset: number;
  readonly length: number;
  /** Marks the held records up to `at` as delivered. They are released in any case, also by disposal. */
  markDelivered(at: number, events: number): void;
  /** Releases delivered records and ends the hold. */
  releaseHeld(): void;
  /** Ends the hold without a release. The next {@link hold} begins with the same record. */
  cancelHold(): void;
}

/**
 * The part of a reader that holds records and steps from one to the next, for consumers that take them one by one or read them
 * in place.
 *
 * Positions (`at`) are in bytes after the first record that was not released.
 */
export abstract class HeldRecords {
  abstract readonly totals: ReaderTotals;
  end: DrainEnd = "empty";
  isCorrupt = false;
  stopped = false;
  /** True after the memory was unmapped: it must not be accessed. */
  disposed = false;
  view: DataView;
  offset = 0;
  length = 0;
  heldBytes = 0;
  delivered = 0;
  /** True if the record of the last {@link step} is an event for the consumer. */
  protected isEvent = false;
  /** True if some of the held records are not events for the consumer. */
  #holdsNonEvents = false;

  protected constructor(view: DataView) {
    this.view = view;
  }

  /** True if the ArrayBuffer of a view was transferred, for example by `postMessage`. */
  protected abstract readonly isTransferred: boolean;
  /** The name of the buffer for messages. */
  protected abstract readonly what: string;
  /**
   * Reads the positions and returns the number of available bytes.
   *
   * @throws {Error} if the positions are corrupt.
   */
  protected abstract begin(): number;
  /** Returns true if a program has reserved the record at `at` and not submitted it yet. */
  protected abstract isBusy(at: number): boolean;
  /**
   * Reads the header of a record, sets {@link isEvent} and {@link length}, and returns the start of the next record. Returns -1
   * if a second consumer has released the record. The header is read only once, because it may change.
   *
   * @throws {Error} if the record exceeds the available bytes.
   */
  protected abstract step(at: number): number;
  /**
   * Sets {@link view}, {@link offset} and {@link length} to the payload of the event at `at`, which must be the record of
   * the last {@link step}.
   */
  protected abstract show(at: number): void;
  /** Counts a record that is not an event for the consumer. */
  protected abstract countNonEvent(at: number): void;
  /** Releases the first bytes to the kernel, and counts them. */
  protected abstract advance(bytes: number): void;

  /** Returns the error to throw for a failed read. If the memory was transferred, the returned error says so. */
  explain(error: unknown): unknown {
    if (!this.isTransferred || this.disposed || !(error instanceof TypeError)) return error;
    this.isCorrupt = true;
    return new Error(
      `${this.what} cannot be read any more: the ArrayBuffer of a view of its memory was transferred (by postMessage, structuredClone or transfer()); pass a copy instead, and open the map again (dup(), fromId())`,
      { cause: error },
    );
  }

  hold(limit: number, bytes: number): number {
    try {
      return this.#hold(limit, bytes);
    } catch (error) {
      throw this.explain(error);
    }
  }

  #hold(limit: number, bytes: number): number {
    const available = this.begin();
    let count = 0;
    let at = 0;
    this.heldBytes = available;
    this.#holdsNonEvents = false;
    this.end = "empty";
    while (at !== available) {
      if (this.isBusy(at)) {
        this.end = "busy";
        break;
      }
      const next = this.step(at);
      if (next < 0) {
        this.end = "limit";
        break;
      }
      if (!this.isEvent) {
        this.#holdsNonEvents = true;
      } else {
        if (count >= limit || (next > bytes && count > 0)) {
          this.end = "limit";
          break;
        }
        count++;
      }
      at = next;
    }
    this.heldBytes = at;
    // Without events, the other records need not be held.
    if (count === 0) {
      this.delivered = at;
      this.releaseHeld();
    }
    return count;
  }

  locate(at: number): number {
    try {
      return this.#locate(at);
    } catch (error) {
      throw this.explain(error);
    }
  }

  #locate(at: number): number {
    for (let start = at; start < this.heldBytes;) {
      const next = this.step(start);
      if (next < 0) {
        // The positions of the following records are unknown now.
        this.heldBytes = start;
        break;
      }
      if (this.isEvent) {
        this.show(start);
        return next;
      }
      start = next;
    }
    return -1;
  }

  markDelivered(at: number, events: number): void {
    this.delivered = at;
    this.totals.events += events;
  }

  releaseHeld(): void {
    // Disposal has released the delivered records. A drain releases its records itself.
    if (this.disposed || this.heldBytes === 0) return;
    const { delivered } = this;
    const canCount = this.#holdsNonEvents && !this.isTransferred;
    for (let at = 0; canCount && at < delivered;) {
      const next = this.step(at);
      if (next < 0) break;
      if (!this.isEvent) this.countNonEvent(at);
      at = next;
    }
    this.heldBytes = 0;
    this.delivered = 0;
    this.advance(delivered);
  }

  cancelHold(): void {
    this.heldBytes = 0;
    this.delivered = 0;
  }
}

/** Returns the number of bytes that a record takes in a ring: with its header, rounded up to a multiple of 8. */
export function lengthInRing(length: number): number {
  return (length + BPF_RINGBUF_HDR_SZ + 7) & ~7;
}

const lengthMask = ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
const maxRecords = 0x7fff_ffff;
/** The largest number of attempts to load positions while other consumers move them. */
const maxAttempts = 100;

/**
 * A reader of a ring buffer: the consumer's side of the protocol over the shared memory (kernel/bpf/ringbuf.c).
 *
 * The kernel supports one consumer. A second consumer in another thread or process is detected only after it has released
 * records; until then both read the same records. This reader moves the consumer position only forward, and only from the
 * position that it has read. So all records in between were complete, and the position is the start of a record. If another
 * consumer has moved the position, this reader continues from there. Until it detects the move, it can read a record that
 * programs are overwriting.
 */
export class RingReader extends HeldRecords implements RecordReader, DrainControl {
  readonly totals: ReaderTotals = {
    events: 0,
    bytes: 0,
    discarded: 0,
    lost: 0,
    overwrittenBytes: 0,
  };
  readonly byteLength: number;
  isDraining = false;
  protected override readonly what: string;
  readonly #memory: SharedRing;
  #code = sharedDrainCode;
  /** The consumer position when the last drain or hold began, in bytes since the creation of the ring. */
  #start = 0;
  /** The producer position at that time. */
  #producer = 0;
  /** The offset of `#start` in the data. */
  #offset = 0;
  /** The number of bytes after `#start` that were released. */
  #released = 0;
  /** The highest consumer position that this reader has seen or stored. */
  #maxConsumer = 0;

  /** @param memory owned by this object from now on */
  constructor(memory: SharedRing, byteLength: number, what: string) {
    super(memory.data);
    this.#memory = memory;
    this.byteLength = byteLength;
    this.what = what;
  }

  get code(): DrainCode {
    this.#code = drainCodeFor(this.#code, this.totals.events);
    return this.#code;
  }

  get backlog(): number {
    const memory = this.#memory;
    if (this.isTransferred) return 0;
    // Orders the loads after the last release. So either the kernel sees the released position when it commits a record, and
    // sends a wake-up, or this reader sees the record.
    orderLoads();
    memory.look();
    return memory.producer - memory.consumer;
  }

  protected override get isTransferred(): boolean {
    return (this.view.buffer as ArrayBuffer).detached;
  }

  drain(fn: RawRecordCallback, limit: number): number {
    this.isDraining = true;
    try {
      const available = this.begin();
      return this.code.drain(
        this,
        this.view,
        this.byteLength - 1,
        this.#offset,
        available,
        Math.min(limit, maxRecords),
        loadFence,
        fn,
      );
    } catch (error) {
      throw this.explain(error);
    } finally {
      this.isDraining = false;
    }
  }

  interrupt(): void {
    this.stopped = true;
    this.release(this.delivered);
  }

  release(bytes: number): void {
    if (this.disposed || bytes <= this.#released) return;
    const memory = this.#memory;
    const to = this.#start + bytes;
    let from = this.#start + this.#released;
    this.#released = bytes;
    while (!memory.release(from, to)) {
      from = memory.releasedPosition();
      if (from === to) break;
      if (from > to || !this.#isRecordEnd(from - this.#start, bytes)) {
        this.stopped = true;
        return;
      }
    }
    this.#maxConsumer = to;
  }

  /** Returns true if a record ends at `to`, stepping from record to record from `from` on. */
  #isRecordEnd(from: number, to: number): boolean {
    let at = from;
    while (at >= 0 && at < to) {
      const header = this.#headerAt(at);
      if (header < 0) return false;
      at += lengthInRing(header & lengthMask);
    }
    return at === to;
  }

  finish(end: DrainEnd, bytes: number, events: number, discarded: number): void {
    this.end = end;
    this.totals.events += events;
    this.totals.discarded += discarded;
    // The release must come before a wait starts: the kernel wakes only a consumer that has caught up.
    this.advance(bytes);
    this.delivered = 0;
  }

  corruptRecord(at: number, length: number): Error | undefined {
    // The position must be loaded after the header: programs overwrite the header only after the position has moved.
    orderLoads();
    if (this.#memory.releasedPosition() !== this.#start + this.#released) return undefined;
    return this.#corrupt(
      `the record at position ${this.#start + at} has a length of ${length} bytes, but programs have written only up to ${this.#producer}`,
    );
  }

  protected override begin(): number {
    const memory = this.#memory;
    // Reads of a detached view do not always throw.
    if (this.isTransferred) throw this.explain(new TypeError(`${this.what} is detached`));
    memory.look();
    // Other consumers, such as those of libbpf, store the position that they have reached, which can be lower than the
    // position of this reader.
    if (memory.consumer < this.#maxConsumer) {
      memory.advanceTo(this.#maxConsumer);
      memory.look();
    }
    for (let attempt = 1; !this.#isPossible(memory); attempt++) {
      const { consumer, producer } = memory;
      // If the position has changed, a second consumer moved it between the two loads.
      if (memory.releasedPosition() === consumer || attempt === maxAttempts) {
        throw this.#corrupt(
          `its consumer is at position ${consumer} and programs have written up to ${producer}, in a ring of ${this.byteLength} bytes`,
        );
      }
      memory.look();
    }
    // The positions come from the ring, not from the last drain, because another object for the ring may have been its
    // consumer meanwhile.
    const { consumer, producer } = memory;
    this.totals.overwrittenBytes = memory.overwrittenBytes;
    this.#maxConsumer = consumer;
    this.#start = consumer;
    this.#producer = producer;
    // Positions exceed 32-bit integers after 2 GiB. Loops therefore use offsets, which `| 0` makes integers: the engine keeps a
    // number that is computed from a double as a double.
    this.#offset = (consumer % this.byteLength) | 0;
    this.#released = 0;
    this.heldBytes = 0;
    this.delivered = 0;
    this.stopped = false;
    return (producer - consumer) | 0;
  }

  protected override isBusy(at: number): boolean {
    return this.#headerAt(at) < 0;
  }

  protected override step(at: number): number {
    const header = this.#headerAt(at);
    orderLoads();
    const length = header & lengthMask;
    const next = at + lengthInRing(length);
    if (header < 0 || next > this.heldBytes) {
      const error = this.corruptRecord(at, length);
      if (error === undefined) return -1;
      throw error;
    }
    this.isEvent = (header & BPF_RINGBUF_DISCARD_BIT) === 0;
    this.length = length;
    return next;
  }

  protected override show(at: number): void {
    this.offset = this.#offsetOf(at) + BPF_RINGBUF_HDR_SZ;
  }

  protected override countNonEvent(): void {
    this.totals.discarded++;
  }

  protected override advance(bytes: number): void {
    this.totals.bytes += bytes;
    this.release(bytes);
  }

  #isPossible({ consumer, producer }: SharedRing): boolean {
    return consumer <= producer && producer - consumer < this.byteLength && consumer % 8 === 0;
  }

  #offsetOf(at: number): number {
    return (this.#offset + at) & (this.byteLength - 1);
  }

  /** Returns the length of a record with its flag bits. The sign bit is BPF_RINGBUF_BUSY_BIT. */
  #headerAt(at: number): number {
    return this.view.getInt32(this.#offsetOf(at), true);
  }

  #corrupt(finding: string): Error {
    this.isCorrupt = true;
    return new Error(
      `${this.what} is corrupt: ${finding}; was its memory changed by another process?`,
    );
  }

  /**
   * Releases delivered records, unmaps the memory and detaches all views of it.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the memory.
   */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.release(this.delivered);
    this.#memory[Symbol.dispose]();
    this.disposed = true;
    this.stopped = true;
  }
}

/**
 * A copy of a ring buffer in overwrite mode (Linux 6.19), in which new records overwrite the oldest ones, even if those were
 * not read.
 *
 * The shared pages can change at any time. So {@link look} copies all records, and then reads the position up to which
 * records were overwritten meanwhile: the records after it are complete in the copy. The consumer reads the copy, which is
 * renewed when all of it was read. So its records are delivered even if programs have overwritten them meanwhile.
 */
export class SnapshotRing implements SharedRing {
  /** The copy, in the layout of the ring's data: the record at position `p` is at `p & (size - 1)`, and does not wrap. */
  readonly data: DataView;
  producer = 0;
  consumer = 0;
  overwrittenBytes = 0;
  readonly #ring: OverwrittenRing;
  readonly #size: number;
  readonly #from: Uint8Array;
  readonly #to: Uint8Array<ArrayBuffer>;
  /** The position at which the copy ends. */
  #copied = 0;
  /** The position up to which records are known to be overwritten. */
  #overwritten = 0;
  /** The ring's last known consumer position, which can be lower than the overwrite position. */
  #released = 0;

  /** @param ring owned by this object from now on */
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
    this.#released = ring.releasedPosition();
    this.consumer = Math.max(this.#released, this.#overwritten);
  }

  #copy(): void {
    const ring = this.#ring;
    ring.look();
    const { producer, consumer } = ring;
    // The overwrite position is read after the producer position, because the kernel stores the overwrite position first.
    const start = Math.max(consumer, ring.overwritePosition());
    // The positions can be impossible, because another process can have written to the consumer page.
    if (start <= producer && producer - start < this.#size) {
      const at = start % this.#size;
      const end = at + (producer - start);
      this.#to.set(this.#from.subarray(at, end), at);
      if (end > this.#size) this.#to.set(this.#from.subarray(0, end - this.#size), 0);
      // The loads of the copy must come before the load of the overwrite position, which shows which of the copied records
      // are complete.
      orderLoads();
    }
    const whole = Math.min(Math.max(start, ring.overwritePosition()), producer);
    this.overwrittenBytes += Math.max(whole - Math.max(consumer, this.#overwritten), 0);
    this.#overwritten = Math.max(this.#overwritten, whole);
    this.#copied = producer;
  }

  releasedPosition(): number {
    return Math.max(this.#ring.releasedPosition(), this.#overwritten);
  }

  /** Moves the consumer position forward to `to` from any position: other consumers cannot invalidate the copy. */
  release(_from: number, to: number): boolean {
    this.advanceTo(to);
    return true;
  }

  advanceTo(position: number): void {
    this.#ring.advanceTo(position);
    this.#released = Math.max(this.#released, position);
  }

  /** Returns true if the record was being written when it was copied. */
  #isBusy(position: number): boolean {
    return (this.data.getUint32(position % this.#size, true) & BPF_RINGBUF_BUSY_BIT) !== 0;
  }

  /**
   * Unmaps the ring, and detaches all views of the copy.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the ring.
   */
  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
    if (!this.#to.buffer.detached) this.#to.buffer.transfer(0);
  }
}
