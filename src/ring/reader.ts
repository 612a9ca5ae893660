import { loadFence, orderLoads } from "../ffi/ring_memory.ts";
import {
  type DrainCode,
  type DrainControl,
  type DrainEnd,
  type PresentingCode,
  type RawRecordCallback,
  sharedDrainCode,
  specialize,
  specializedAfter,
} from "./drain_code.ts";
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ } from "../uapi/bpf.ts";

/** The memory that a ring buffer's consumer shares with the kernel: `RingMemory`, or a test's own. */
export interface SharedRing extends Disposable {
  /** The data, twice in a row: the record at position `p` is at `p & (size - 1)`. */
  readonly data: DataView;
  /** How far programs had reserved at the last {@link look}, in bytes since the ring's creation. */
  readonly producer: number;
  /** From where on there was something to read at the last {@link look}, in bytes since the ring's creation. */
  readonly consumer: number;
  /** Bytes that were overwritten before they could be read, since the ring was mapped. */
  readonly overwrittenBytes: number;
  /** Reads the positions: what they cover may be read after this. */
  look(): void;
  /** How far records are released by now. */
  releasedPosition(): number;
  /** Releases all records before `position`. */
  release(position: number): void;
}

const mostRecords = 0x7fff_ffff;

const lengthMask = ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

function lengthOf(header: number): number {
  return header & lengthMask;
}

function isDiscarded(header: number): boolean {
  return (header & BPF_RINGBUF_DISCARD_BIT) !== 0;
}

/** The protocol of a ring buffer's consumer, over its shared memory. */
export class RingReader implements RecordReader, DrainControl {
  readonly totals: ReaderTotals = noTotals();
  readonly size: number;
  readonly #memory: SharedRing;
  readonly #what: string;
  #code = sharedDrainCode;
  #end: DrainEnd = "empty";
  #isCorrupt = false;
  /** Where the last drain or hold began, and how far programs had written by then, in bytes since the ring's creation. */
  #start = 0;
  #producer = 0;
  /** Where the start is in the data. */
  #offset = 0;
  /** Bytes from the start that were released. */
  #released = 0;
  #heldBytes = 0;
  /** Of the records that are held, how many programs gave up. */
  #heldDiscarded = 0;
  #isDraining = false;
  delivered = 0;
  stopped = false;
  #disposed = false;
  offset = 0;
  length = 0;

  /** @param memory owned from here on */
  constructor(memory: SharedRing, size: number, what: string) {
    this.#memory = memory;
    this.size = size;
    this.#what = what;
  }

  get end(): DrainEnd {
    return this.#end;
  }

  get isCorrupt(): boolean {
    return this.#isCorrupt;
  }

  get code(): DrainCode {
    if (this.#code === sharedDrainCode && this.totals.events >= specializedAfter) {
      this.#code = specialize();
    }
    return this.#code;
  }

  get view(): DataView {
    return this.#memory.data;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  get backlog(): number {
    const memory = this.#memory;
    memory.look();
    return memory.producer - memory.consumer;
  }

  drain(fn: RawRecordCallback, limit: number): number {
    const available = this.#begin();
    const { data } = this.#memory;
    this.#isDraining = true;
    try {
      return this.code.drain(
        this,
        data,
        this.size - 1,
        this.#offset,
        available,
        Math.min(limit, mostRecords),
        loadFence,
        fn,
      );
    } finally {
      this.#isDraining = false;
    }
  }

  interrupt(): void {
    this.stopped = true;
    this.release(this.delivered);
  }

  hold(limit: number, bytes: number): number {
    const available = this.#begin();
    let count = 0;
    let discarded = 0;
    let at = 0;
    const { data } = this.#memory;
    this.#heldBytes = available;
    this.#end = "empty";
    while (at !== available) {
      const header = data.getInt32((this.#offset + at) & (this.size - 1), true);
      if (header < 0) {
        this.#end = "busy";
        break;
      }
      const next = at + this.#advance(at, header);
      if (isDiscarded(header)) {
        discarded++;
      } else {
        if (count >= limit || (next > bytes && count > 0)) {
          this.#end = "limit";
          break;
        }
        count++;
      }
      at = next;
    }
    this.#heldBytes = at;
    this.#heldDiscarded = discarded;
    // What programs gave up is nothing to hold on to.
    if (count === 0) {
      this.delivered = at;
      this.giveBack();
    }
    return count;
  }

  locate(at: number): number {
    let next = at;
    while (next < this.#heldBytes) {
      const offset = (this.#offset + next) & (this.size - 1);
      const header = this.#memory.data.getInt32(offset, true);
      orderLoads();
      next += this.#advance(next, header);
      if (isDiscarded(header)) continue;
      this.offset = offset + BPF_RINGBUF_HDR_SZ;
      this.length = lengthOf(header);
      return next;
    }
    return -1;
  }

  pass(at: number, events: number): void {
    this.delivered = at;
    this.totals.events += events;
  }

  giveBack(): void {
    // Disposal has given back what was delivered.
    if (this.#disposed) return;
    const { delivered, totals } = this;
    totals.bytes += delivered;
    totals.discarded +=
      delivered === this.#heldBytes ? this.#heldDiscarded : this.#countDiscarded(delivered);
    this.release(delivered);
    this.#heldBytes = 0;
    this.#heldDiscarded = 0;
    this.delivered = 0;
  }

  /** How many of the first so many bytes' records programs gave up. */
  #countDiscarded(bytes: number): number {
    let count = 0;
    for (let at = 0; at < bytes;) {
      const header = this.#memory.data.getInt32((this.#offset + at) & (this.size - 1), true);
      if (isDiscarded(header)) count++;
      at += this.#advance(at, header);
    }
    return count;
  }

  release(bytes: number): void {
    if (this.#disposed || bytes <= this.#released) return;
    this.#released = bytes;
    const position = this.#start + bytes;
    // Another process may be a second consumer, which no check can refuse: what it gave back is the programs' again.
    if (position > this.#memory.releasedPosition()) this.#memory.release(position);
  }

  finish(end: DrainEnd, bytes: number, events: number, discarded: number): void {
    this.#end = end;
    const { totals } = this;
    totals.bytes += bytes;
    totals.events += events;
    totals.discarded += discarded;
    // Before a sleep this must come first, or no wake-up follows.
    this.release(bytes);
    this.delivered = 0;
  }

  corruptRecord(at: number, length: number): Error {
    return this.#corrupt(
      `at position ${this.#start + at} a record claims ${length} bytes, but programs have written up to ${this.#producer} only`,
    );
  }

  /** How many bytes there are to read from where the consumer is. */
  #begin(): number {
    const memory = this.#memory;
    memory.look();
    // Asked of the ring, not remembered: another object for the same ring may have been its consumer meanwhile.
    const { consumer, producer } = memory;
    this.totals.overwrittenBytes = memory.overwrittenBytes;
    if (consumer > producer || producer - consumer >= this.size || consumer % 8 !== 0) {
      throw this.#corrupt(
        `its consumer is at position ${consumer} and programs have written up to ${producer}, in a ring of ${this.size} bytes`,
      );
    }
    this.#start = consumer;
    this.#producer = producer;
    // What loops count in is less than the ring's size, and made an integer here: positions outgrow those that the engine is
    // fast with once 2 GiB have passed, and it keeps a number that comes of such a one as it does fractions.
    this.#offset = (consumer % this.size) | 0;
    this.#released = 0;
    this.#heldBytes = 0;
    this.#heldDiscarded = 0;
    this.delivered = 0;
    this.stopped = false;
    return (producer - consumer) | 0;
  }

  /** Bytes from a record to the next. @throws {Error} when that is more than there is */
  #advance(at: number, header: number): number {
    const length = lengthOf(header);
    const advance = (length + BPF_RINGBUF_HDR_SZ + 7) & ~7;
    if (header < 0 || advance > this.#heldBytes - at) throw this.corruptRecord(at, length);
    return advance;
  }

  #corrupt(finding: string): Error {
    this.#isCorrupt = true;
    return new Error(
      `${this.#what} is corrupt: ${finding}; was its memory changed by another process?`,
    );
  }

  /** Releases what was delivered and unmaps: views of the ring have length 0 from then on. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.release(this.delivered);
    this.#memory[Symbol.dispose]();
    this.#disposed = true;
    this.stopped = true;
  }
}

/** What was read since the reader was made. */
export interface ReaderTotals {
  /** Records that were delivered. */
  events: number;
  /** Bytes of the buffer that were given back, headers and discarded records included. */
  bytes: number;
  /** Records that programs gave up. */
  discarded: number;
  /** Records that the kernel says it had no room for; only perf buffers know. */
  lost: number;
  /** Bytes that were overwritten before they were read; only in overwrite mode. */
  overwrittenBytes: number;
}

/** Of a reader that has read nothing yet. */
export function noTotals(): ReaderTotals {
  return { events: 0, bytes: 0, discarded: 0, lost: 0, overwrittenBytes: 0 };
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
  readonly size: number;
  /** Bytes that wait, headers and discarded records included. */
  readonly backlog: number;
  /** Why the last {@link drain} or {@link hold} stopped. */
  readonly end: DrainEnd;
  /** Whether the memory was found to hold what cannot be: there is no way on. */
  readonly isCorrupt: boolean;
  /** What makes callbacks of this reader's drains. */
  readonly code: PresentingCode;

  /**
   * Calls `fn` with each record that is there at the start, at most `limit` of them; how many it was.
   *
   * What programs add meanwhile is left for the next drain: a program that keeps pace with `fn` would hold it for ever.
   */
  drain(fn: RawRecordCallback, limit: number): number;
  /** Whether a callback of {@link drain} runs: nothing else may read meanwhile. */
  readonly isDraining: boolean;
  /**
   * Ends the drain under way, if any, after the record whose callback runs: what follows it stays, and what was delivered is
   * given back now, so that another object for the same buffer can go on from there.
   */
  interrupt(): void;

  /**
   * Keeps the next records where they are, at most `limit` of them in at most `bytes` bytes but for a longer first one;
   * how many they are. They stay until {@link giveBack}.
   */
  hold(limit: number, bytes: number): number;
  /** How many bytes of records are held. */
  readonly heldBytes: number;
  /**
   * Goes to the record that is `at` bytes from the start of what is held: then {@link view}, {@link offset} and
   * {@link length} say where it is. Where the next one is, or -1 when there was none.
   */
  locate(at: number): number;
  readonly view: DataView;
  readonly offset: number;
  readonly length: number;
  /** Notes that everything up to `at` was delivered: it is given back in any case, also by disposal. */
  pass(at: number, events: number): void;
  /** Gives back what was passed, and holds nothing any more. */
  giveBack(): void;
}

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
