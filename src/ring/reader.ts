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

/** The memory of a ring in overwrite mode: `RingMemory`, or a test's own. */
export type OverwrittenRing = Pick<RingMemory, keyof RingMemory>;

/** The memory that a ring buffer's consumer shares with the kernel: `RingMemory`, or a test's own. */
export type SharedRing = Omit<OverwrittenRing, "overwritePosition">;

/** Counts of what was read since the reader was made. */
export interface ReaderTotals {
  /** Records that were delivered. */
  events: number;
  /** Bytes of the buffer that were given back, headers and discarded records included. */
  bytes: number;
  /** Records that programs discarded. */
  discarded: number;
  /** Records that found no room, by the kernel's count; only perf buffers have one. */
  lost: number;
  /** Bytes that were overwritten before they were read; only in overwrite mode. */
  overwrittenBytes: number;
}

/**
 * The one consumer of a buffer that programs write records to: the protocol, whatever kind of buffer it is.
 *
 * A record is delivered when a callback is called with it, and given back to the kernel some time after: together with
 * others, at the latest when the drain ends. A record whose callback throws counts as delivered.
 */
export interface RecordReader extends Disposable {
  readonly totals: ReaderTotals;
  /** Bytes that the buffer holds. */
  readonly byteLength: number;
  /** Bytes that wait, headers and discarded records included. */
  readonly backlog: number;
  /** The reason for which the last {@link drain} or {@link hold} stopped. */
  readonly end: DrainEnd;
  /** True when the memory has impossible contents or its buffer was transferred: nothing can be read any more. */
  readonly isCorrupt: boolean;
  /** The code that makes callbacks of this reader's drains. */
  readonly code: DrainCode;

  /**
   * Calls `fn` with each record that is there at the start, at most `limit` of them, and returns how many those were.
   *
   * Records that programs add meanwhile are left for the next drain: a program that keeps pace with `fn` would hold it for ever.
   */
  drain(fn: RawRecordCallback, limit: number): number;
  /** True while a callback of {@link drain} runs: nothing else may read meanwhile. */
  readonly isDraining: boolean;
  /**
   * Ends the drain under way, if any, after the record whose callback runs: what follows it stays, and what was delivered is
   * given back now, so that another object for the same buffer can go on from there.
   */
  interrupt(): void;

  /**
   * Keeps the next records where they are, at most `limit` of them in at most `bytes` bytes, except that the first may be
   * longer. Returns how many they are. They stay until {@link releaseHeld}.
   */
  hold(limit: number, bytes: number): number;
  /** Bytes of the records that are held. */
  readonly heldBytes: number;
  /**
   * Goes to the next event from `at` bytes after the start of what is held: {@link view}, {@link offset} and {@link length}
   * say where that is. Returns where the record after it begins, or -1 when there was no event.
   */
  locate(at: number): number;
  readonly view: DataView;
  readonly offset: number;
  readonly length: number;
  /** Notes that everything up to `at` was delivered: it is given back in any case, also by disposal. */
  markDelivered(at: number, events: number): void;
  /** Gives back what was passed, and holds nothing any more. */
  releaseHeld(): void;
  /** Ends holding without giving anything back: the next {@link hold} begins with the same record. */
  cancelHold(): void;
}

/**
 * The part of a reader that holds records: a walk from one to the next, for consumers that take them one by one or show them
 * in place.
 *
 * All positions are in bytes from the start, which is the first record that was not given back.
 */
export abstract class HeldRecords {
  abstract readonly totals: ReaderTotals;
  end: DrainEnd = "empty";
  isCorrupt = false;
  stopped = false;
  /** True once the memory is unmapped: nothing of it is touched any more. */
  disposed = false;
  view: DataView;
  offset = 0;
  length = 0;
  heldBytes = 0;
  delivered = 0;
  /** True when the record that {@link step} passed is for the consumer. */
  protected isEvent = false;
  /** True when records that are not for the consumer are among those that are held. */
  #holdsNonEvents = false;

  protected constructor(view: DataView) {
    this.view = view;
  }

  /** True when the buffer of a view was transferred, for example by `postMessage`. */
  protected abstract readonly isTransferred: boolean;
  /** Names the buffer in errors. */
  protected abstract readonly what: string;
  /** Looks how much there is, and returns the bytes. @throws {Error} when that is impossible */
  protected abstract begin(): number;
  /** Returns whether a program is writing the record at a position still. */
  protected abstract isBusy(at: number): boolean;
  /**
   * Reads a header once, as it may change: sets {@link isEvent} and {@link length}, and returns where the next record begins;
   * -1 where a second consumer has released the record.
   *
   * @throws {Error} where the next record is beyond what there is
   */
  protected abstract step(at: number): number;
  /** Makes {@link view}, {@link offset} and {@link length} those of the event at a position, which was the last step. */
  protected abstract show(at: number): void;
  /** Counts a record that is not for the consumer. */
  protected abstract countNonEvent(at: number): void;
  /** Gives the first bytes back to the kernel, and counts them. */
  protected abstract advance(bytes: number): void;

  /** Returns the error of a read. If the memory was transferred, it replaces the engine's error by one that says so. */
  explain(error: unknown): unknown {
    if (!this.isTransferred || this.disposed || !(error instanceof TypeError)) return error;
    this.isCorrupt = true;
    return new Error(
      `${this.what} cannot be read any more: the buffer of a view of its memory was transferred (by postMessage, structuredClone or transfer()); pass a copy instead, and open the map again (dup(), fromId())`,
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
    // Records that are not for the consumer need not be held.
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
        // The places of the other records are unknown now.
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
    // Disposal has given back what was delivered, and a drain does so by itself.
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

/** Returns the bytes that a record takes in a ring: it has a header, and records begin at multiples of 8. */
export function lengthInRing(length: number): number {
  return (length + BPF_RINGBUF_HDR_SZ + 7) & ~7;
}

const lengthMask = ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
const mostRecords = 0x7fff_ffff;
/** Most attempts to load positions while other consumers move them. */
const mostLooks = 100;

/**
 * The protocol of a ring buffer's consumer, over its shared memory.
 *
 * The kernel supports one consumer. A second one in another thread or process is noticed only when it has released records: both
 * read the same ones until then. This reader moves the consumer position only forward, and only from where it found it, so the
 * records in between were complete, and the position is that of a record. If another consumer has moved it, this one goes on from
 * there. Until it notices, it can read a record that programs are writing.
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
  /** The positions of the consumer and of programs when the last drain or hold began, in bytes since the ring's creation. */
  #start = 0;
  #producer = 0;
  /** The start's offset in the data. */
  #offset = 0;
  /** Bytes from the start that were released. */
  #released = 0;
  /** The highest consumer position known so far. */
  #passed = 0;

  /** @param memory owned from here on */
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
    // After what was released: a record that the kernel commits sees that, and wakes, or it is seen here.
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
        Math.min(limit, mostRecords),
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
    this.#passed = to;
  }

  /** Returns whether a record that was read ends at `to`, by walking the records from `from`. */
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
    // Before a sleep this must come first, or no wake-up follows.
    this.advance(bytes);
    this.delivered = 0;
  }

  corruptRecord(at: number, length: number): Error | undefined {
    // Loaded after the header: programs write there only after the position has moved.
    orderLoads();
    if (this.#memory.releasedPosition() !== this.#start + this.#released) return undefined;
    return this.#corrupt(
      `at position ${this.#start + at} a record claims ${length} bytes, but programs have written up to ${this.#producer} only`,
    );
  }

  protected override begin(): number {
    const memory = this.#memory;
    // Reading a detached view does not always throw.
    if (this.isTransferred) throw this.explain(new TypeError(`${this.what} is detached`));
    memory.look();
    // Other consumers, such as those of libbpf, store their own position, which can be lower than the released one.
    if (memory.consumer < this.#passed) {
      memory.advanceTo(this.#passed);
      memory.look();
    }
    for (let looks = 1; !this.#isPossible(memory); looks++) {
      const { consumer, producer } = memory;
      // If it has changed, a second consumer moved it between the two loads.
      if (memory.releasedPosition() === consumer || looks === mostLooks) {
        throw this.#corrupt(
          `its consumer is at position ${consumer} and programs have written up to ${producer}, in a ring of ${this.byteLength} bytes`,
        );
      }
      memory.look();
    }
    // Asked of the ring, not remembered: another object for the same ring may have been its consumer meanwhile.
    const { consumer, producer } = memory;
    this.totals.overwrittenBytes = memory.overwrittenBytes;
    this.#passed = consumer;
    this.#start = consumer;
    this.#producer = producer;
    // Loops count in numbers below the ring's size, which are made integers here: positions outgrow those that the engine is
    // fast with once 2 GiB have passed, and it keeps a number that comes of such a one as it does fractions.
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

  /** Returns the length of a record and its bits; the sign is that of a busy one. */
  #headerAt(at: number): number {
    return this.view.getInt32(this.#offsetOf(at), true);
  }

  #corrupt(finding: string): Error {
    this.isCorrupt = true;
    return new Error(
      `${this.what} is corrupt: ${finding}; was its memory changed by another process?`,
    );
  }

  /** Releases what was delivered and unmaps: views of the ring have length 0 from then on. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.release(this.delivered);
    this.#memory[Symbol.dispose]();
    this.disposed = true;
    this.stopped = true;
  }
}

/**
 * A ring buffer in overwrite mode (kernel 6.19): where it is full, a new record takes the place of the oldest ones, whether
 * they were read or not.
 *
 * The contents of the shared pages may change at any time. So a look copies all that there is and then asks how far records
 * were overwritten meanwhile: what lies after that is whole. The copy is read at leisure, and made again when it is used up, so
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
  /** The ring's last known consumer position, which can be lower than the overwrite position. */
  #released = 0;

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
    this.#released = ring.releasedPosition();
    this.consumer = Math.max(this.#released, this.#overwritten);
  }

  #copy(): void {
    const ring = this.#ring;
    ring.look();
    const { producer, consumer } = ring;
    // Read after the producer's position, since the kernel writes it before that.
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
    return Math.max(this.#ring.releasedPosition(), this.#overwritten);
  }

  /** Moves the consumer position forward to `to` from any position: the copy is complete whatever other consumers release. */
  release(_from: number, to: number): boolean {
    this.advanceTo(to);
    return true;
  }

  advanceTo(position: number): void {
    this.#ring.advanceTo(position);
    this.#released = Math.max(this.#released, position);
  }

  /** Returns whether a record was being written when it was copied. */
  #isBusy(position: number): boolean {
    return (this.data.getUint32(position % this.#size, true) & BPF_RINGBUF_BUSY_BIT) !== 0;
  }

  /** Unmaps the ring, and detaches the views of the copy. @throws {Error} as the ring's disposal does */
  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
    if (!this.#to.buffer.detached) this.#to.buffer.transfer(0);
  }
}
