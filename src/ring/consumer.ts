import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { checkCount } from "../check/arguments.ts";
import { monotonicMilliseconds } from "../ffi/clock.ts";
import { reloadDisposers } from "../handle/reload.ts";
import type { Watch } from "../loop/event_loop.ts";
import {
  startTimer,
  startTurn,
  stopTimer,
  stopTurn,
  type Timer,
  type Turn,
} from "../loop/timers.ts";
import type { Fields, StructCursor, StructType, Type } from "../types/type.ts";
import type { DrainCode, RawRecordCallback } from "./drain_code.ts";
import type { RecordReader } from "./reader.ts";
import type { ConsumeSettings } from "./ring_options.ts";

/**
 * Counts of the work of a buffer and its consumers since this object was created. A drain is added when it ends: its
 * callback sees the counts before it.
 */
export interface ConsumerStats {
  /** Records that were delivered. */
  readonly events: number;
  /** Bytes of the buffer that were given back to the kernel: headers, padding and discarded records included. */
  readonly bytes: number;
  /** Records that programs reserved and discarded. */
  readonly discarded: number;
  /**
   * Events that found no room. In a ring buffer, those that programs counted with `asm.reserveOrCount()` and its kin since
   * the counter was created: events that are dropped without being counted are missing. In a perf buffer the kernel counts.
   */
  readonly lost: number;
  /** Bytes that programs overwrote before they were read; always 0 without the flag `"rb_overwrite"` or the option `overwrite`. */
  readonly overwrittenBytes: number;
  /** Times that the kernel woke a consumer. */
  readonly wakeups: number;
  /** Looks of a consumer on a timer, or at the next turn of the event loop. */
  readonly polls: number;
  /** Looks of any kind that found something. */
  readonly batches: number;
  /** Most events that one look found. */
  readonly largestBatch: number;
  /** Bytes that wait in the buffer now: headers, padding and discarded records included. */
  readonly backlog: number;
}

/** The map of a buffer as its consumers see it: an `EventBuffer`, or a test's own. */
export interface ConsumedMap {
  /** The kernel's id: several objects may stand for one buffer. */
  readonly id: number;
  readonly stats: ConsumerStats;
  /** Waits on the event loop until there is something to read. */
  watch(onReady: () => void): Watch;
  /** Names it in errors. */
  toString(): string;
}

/** The ways to consume a buffer. */
export type ConsumerKind = "drain" | "peek" | "iteration" | "subscription" | "stream";

/** The consumer of each buffer that has one now on this thread, by the kernel's id. */
const consumers = new Map<number, ConsumerKind>();

/** A buffer's side of its consumers: the reader, the type of the events, counts, and the place for one consumer at a time. */
export class RecordSource<E> implements Disposable {
  readonly map: ConsumedMap;
  readonly type: Type<E>;
  readonly reader: RecordReader;
  wakeups = 0;
  polls = 0;
  batches = 0;
  largestBatch = 0;
  /** The consumer on the event loop, if there is one. */
  consumer: Pick<Consumer, "look" | "end" | "keepAlive"> | undefined;
  /** True when consumers that wait keep the process alive. */
  isReferenced = true;
  /** The cursor of all drains: the same one, as the engine compiles what a callback refers to into it. */
  #drainCursor: StructCursor<E> | undefined;
  /** Callbacks for records by cursor and by the callback for events, both held weakly. */
  #callbacks = new WeakMap<object, WeakMap<(event: never) => void, RawRecordCallback>>();
  #callbackCode: DrainCode | undefined;

  /**
   * @param type read for each record, so that its size must not change: records are as long as that
   * @param reader owned from here on
   */
  constructor(map: ConsumedMap, type: Type<E>, reader: RecordReader) {
    this.map = map;
    this.type = type;
    this.reader = reader;
  }

  /** Makes the present consumer, and those to come, keep the process alive while they wait, or not. */
  keepAlive(alive: boolean): void {
    this.isReferenced = alive;
    this.consumer?.keepAlive(alive);
  }

  /** Notes how many events a look found. */
  found(events: number): void {
    if (events === 0) return;
    this.batches++;
    this.largestBatch = Math.max(this.largestBatch, events);
  }

  /** Throws for a record that is too short. */
  readonly refuse = (length: number): never => {
    const { name, size } = this.type;
    throw new RangeError(
      `a record of ${this.map} has ${length} bytes, but its event type ${name} takes ${size}`,
    );
  };

  /** Returns an object that shows events in place. @throws {TypeError} when the event is not a struct */
  cursor(): StructCursor<E> {
    const type = this.type as Type<E> & Partial<StructType<Fields>>;
    if (typeof type.cursor !== "function") {
      throw new TypeError(
        `inPlace: expected an event that is a t.struct, that of ${this.map} is ${type.name}`,
      );
    }
    // The cursor of a Type<E> shows what that reads as: TypeScript knows it by the struct's fields only.
    return type.cursor() as unknown as StructCursor<E>;
  }

  /** Returns the cursor of drains in place. @throws as {@link cursor} */
  drainCursor(): StructCursor<E> {
    this.#drainCursor ??= this.cursor();
    return this.#drainCursor;
  }

  /**
   * Returns the callback for records that calls `fn` with each event, decoded or shown by the cursor.
   *
   * Asked for at each drain, as a busy reader has better code; the same one for as long as it would be the same, because the
   * engine compiles what a function refers to into it when there is one such function alone.
   */
  callback(fn: (event: E) => void, cursor?: StructCursor<E>): RawRecordCallback {
    const { code } = this.reader;
    if (code !== this.#callbackCode) {
      this.#callbacks = new WeakMap();
      this.#callbackCode = code;
    }
    let callbacks = this.#callbacks.get(cursor ?? this);
    if (callbacks === undefined) this.#callbacks.set(cursor ?? this, (callbacks = new WeakMap()));
    let callback = callbacks.get(fn);
    if (callback === undefined) {
      const { type, refuse } = this;
      callback =
        cursor === undefined
          ? code.decoding(type, refuse, fn)
          : code.showing(cursor, type.size, refuse, fn);
      callbacks.set(fn, callback);
    }
    return callback;
  }

  /**
   * Drains now, as a consumer for this moment.
   *
   * @param cursor what shows the events, released at the end
   * @throws {Error} when there is a consumer already, or one has ended whose callback still runs
   */
  drain(fn: RawRecordCallback, limit = Number.MAX_SAFE_INTEGER, cursor?: StructCursor<E>): number {
    checkCount("limit", limit, 1, Number.MAX_SAFE_INTEGER);
    const { reader } = this;
    this.#claimNow("drain");
    const before = reader.totals.events;
    try {
      return reader.drain(fn, limit);
    } finally {
      this.free();
      cursor?.release();
      this.found(reader.totals.events - before);
    }
  }

  /**
   * Calls `fn` with the place of the next event, and leaves the event there. Returns false when there is none.
   *
   * @throws {Error} as {@link drain}
   */
  peek(fn: RawRecordCallback): boolean {
    const { reader } = this;
    this.#claimNow("peek");
    try {
      // A second consumer may release it in between.
      if (reader.hold(1, 0) === 0 || reader.locate(0) === -1) return false;
      fn(reader.view, reader.offset, reader.length);
      return true;
    } finally {
      reader.unhold();
      this.free();
    }
  }

  /** Claims the buffer for this call. */
  #claimNow(kind: ConsumerKind): void {
    this.claim(kind);
    if (!this.reader.isDraining) return;
    this.free();
    throw new Error(`${this.map} is being drained: the callback that runs has to return first`);
  }

  /** Takes the place of the buffer's consumer. @throws {Error} when it has one already: both would move its position */
  claim(kind: ConsumerKind): void {
    const present = consumers.get(this.map.id);
    if (present !== undefined) {
      throw new Error(`${this.map} has a consumer already: end that ${present} first`);
    }
    consumers.set(this.map.id, kind);
  }

  /** Gives the place up. */
  free(): void {
    this.consumer = undefined;
    consumers.delete(this.map.id);
  }

  /** Releases what was delivered, unmaps the memory, and ends the consumer. @throws {Error} as the reader's disposal does */
  [Symbol.dispose](): void {
    this.reader[Symbol.dispose]();
    this.consumer?.end();
  }
}

/** The time for which a consumer may keep timers and I/O waiting, by default. */
export const turnMilliseconds = 2;

/** Delay of the first look after one that found a record which is reserved and not yet submitted, */
const firstRetryMilliseconds = 1;
/** doubled each time that it still is, up to this. */
const longestRetryMilliseconds = 50;
/** The number of intervals in a row with few events that ends the polling: one may fall into a gap between two bursts. */
const quietIntervals = 3;
/** The part of the buffer that may fill until the next look: beyond that, a timer that is late could find it full. */
const mostOfBuffer = 0.4;

/**
 * A consumer on the event loop: it decides when to look into its buffer next (when the kernel wakes it, on a timer, or at the
 * loop's next turn), and how it ends. Its subclasses deliver what a look finds.
 *
 * The kernel wakes with each record that finds its consumer caught up. A consumer that always is costs an interrupt and a
 * wake-up a record: while much comes, it is better to let some gather, as network drivers do.
 */
export abstract class Consumer {
  protected readonly source: RecordSource<unknown>;
  readonly #settings: ConsumeSettings;
  readonly #watch: Watch;
  readonly #onAbort = (): void => this.aborted(this.#settings.signal?.reason);
  #ended = false;
  #timer: Timer | undefined;
  #turn: Turn | undefined;
  #isReferenced: boolean;
  #retryMilliseconds = firstRetryMilliseconds;
  #isPolling: boolean;
  /** The totals after the last look. */
  #events: number;
  #bytes: number;
  /** The start of an interval, and what was read since then. Intervals are at least as long as asked for, while this polls. */
  #windowStart = monotonicMilliseconds();
  #windowEvents = 0;
  #windowBytes = 0;
  /** Bytes a millisecond in the last interval that is over. */
  #rate = 0;
  /** Intervals in a row that had few events. */
  #quiet = 0;

  /** @throws {Error} when the buffer has a consumer already, or cannot be waited for */
  constructor(source: RecordSource<unknown>, kind: ConsumerKind, settings: ConsumeSettings) {
    const { totals } = source.reader;
    this.source = source;
    this.#settings = settings;
    this.#isReferenced = source.isReferenced;
    this.#isPolling = settings.wakeup === "poll";
    this.#events = totals.events;
    this.#bytes = totals.bytes;
    source.claim(kind);
    try {
      this.#watch = source.map.watch(() => {
        source.wakeups++;
        this.#lookNow();
      });
      this.#watch.keepAlive(this.#isReferenced);
    } catch (error) {
      source.free();
      throw error;
    }
    source.consumer = this;
  }

  /** @internal Shows its state in `console.log`, without its memory of megabytes. */
  [inspectCustom](...inspection: InspectArguments): string {
    const { map } = this.source;
    // It may have ended with its buffer, whose counts are gone then.
    const state = this.#ended ? { active: false } : { active: true, stats: map.stats };
    return show(this.shownName, { buffer: `${map}`, ...state }, inspection);
  }

  /** The name in the console. */
  protected abstract readonly shownName: string;

  /** Obeys the signal from now on, which may end the consumer at once. Comes last in the constructor of a subclass. */
  protected begin(): void {
    reloadDisposers?.set(this, () => this.end());
    const { signal } = this.#settings;
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Looks now, delivers, and calls {@link schedule} if another look is to follow; returns how many it delivered. */
  abstract look(): number;

  /** Ends the consumer because its signal has aborted. */
  protected abstract aborted(reason: unknown): void;

  /** Gives back what was delivered, and tells whoever waits: the last thing before another consumer may come. */
  protected abstract settle(): void;

  get ended(): boolean {
    return this.#ended;
  }

  /** Ends the consumer: what was not delivered stays in the buffer. A second call does nothing. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    reloadDisposers?.delete(this);
    this.#settings.signal?.removeEventListener("abort", this.#onAbort);
    try {
      this.stop();
      this.#watch[Symbol.dispose]();
    } finally {
      this.source.reader.interrupt();
      this.settle();
      this.source.free();
    }
  }

  /** Schedules the look after this one, instead of those that were to come before. */
  protected schedule(): void {
    this.#cancelTimers();
    const { end } = this.source.reader;
    if (end === "limit") {
      this.nextTurn();
      return;
    }
    const time = monotonicMilliseconds();
    const hasProgressed = this.#measure(time);
    const untilFull = this.#untilFull(time);
    if (end === "busy") {
      this.#retry(hasProgressed, untilFull);
      return;
    }
    this.#retryMilliseconds = firstRetryMilliseconds;
    const { wakeup, interval, maxLatency } = this.#settings;
    // A timer would be too late for a buffer that is full within a millisecond, and so would a loop without a rest: who sleeps
    // in the kernel gets the processor back before who never gave it up.
    if (this.#isPolling && (wakeup === "poll" || untilFull >= 1)) {
      this.#watch.disarm();
      this.#after(interval, untilFull);
      return;
    }
    this.#watch.arm();
    if (maxLatency !== undefined) this.#sleep(maxLatency);
  }

  /** Schedules a look after timers and I/O have had their turn. */
  protected nextTurn(): void {
    this.#turn = startTurn(() => this.#poll());
    if (!this.#isReferenced) this.#turn.unref();
  }

  /** Cancels all looks to come, until the next {@link schedule}. */
  protected stop(): void {
    this.#cancelTimers();
    this.#watch.disarm();
  }

  /** Makes looks to come keep the process alive, or not. */
  keepAlive(alive: boolean): void {
    if (this.#ended) return;
    this.#isReferenced = alive;
    this.#watch.keepAlive(alive);
    for (const handle of [this.#timer, this.#turn]) {
      if (alive) handle?.ref();
      else handle?.unref();
    }
  }

  /**
   * A reserved record at the head makes the buffer readable at once, again and again: to wait for that would spin. It is
   * submitted within microseconds, unless its program sleeps.
   */
  #retry(hasProgressed: boolean, untilFull: number): void {
    if (hasProgressed) this.#retryMilliseconds = firstRetryMilliseconds;
    if (hasProgressed && this.#settings.wakeup === "interrupt") {
      this.nextTurn();
      return;
    }
    this.#after(this.#retryMilliseconds, untilFull);
    this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, longestRetryMilliseconds);
  }

  /** Notes what the look found, decides whether to poll from now on, and returns true when it found anything. */
  #measure(time: number): boolean {
    const { totals } = this.source.reader;
    const { interval, threshold, wakeup } = this.#settings;
    const hasProgressed = totals.bytes !== this.#bytes;
    if (!this.#isPolling && time - this.#windowStart > interval) this.#beginWindow(time);
    this.#windowEvents += totals.events - this.#events;
    this.#windowBytes += totals.bytes - this.#bytes;
    this.#events = totals.events;
    this.#bytes = totals.bytes;
    if (!this.#isPolling) {
      if (wakeup !== "adaptive" || this.#windowEvents < threshold) return hasProgressed;
      this.#isPolling = true;
      this.#quiet = 0;
      this.#rate = 0;
    } else if (time - this.#windowStart >= interval) {
      this.#quiet = this.#windowEvents < threshold / 2 ? this.#quiet + 1 : 0;
      this.#rate = this.#windowBytes / (time - this.#windowStart);
      this.#beginWindow(time);
      if (wakeup === "adaptive" && this.#quiet >= quietIntervals) this.#isPolling = false;
    }
    return hasProgressed;
  }

  #beginWindow(time: number): void {
    this.#windowStart = time;
    this.#windowEvents = 0;
    this.#windowBytes = 0;
  }

  /** Schedules a look after so long, or sooner if too much of the buffer may be full by then. */
  #after(milliseconds: number, untilFull: number): void {
    if (untilFull < 1) this.nextTurn();
    else this.#sleep(Math.floor(Math.min(milliseconds, untilFull)));
  }

  /** Returns the milliseconds until so much of the buffer is full that it should have been looked at. */
  #untilFull(time: number): number {
    // Records that came all at once may go on as they began, and are assumed to for a millisecond.
    const elapsed = Math.max(time - this.#windowStart, 1);
    const rate = Math.max(this.#rate, this.#windowBytes / elapsed);
    return (this.source.reader.byteLength * mostOfBuffer) / rate;
  }

  #sleep(milliseconds: number): void {
    this.#timer = startTimer(() => this.#poll(), milliseconds);
    if (!this.#isReferenced) this.#timer.unref();
  }

  #poll(): void {
    this.source.polls++;
    this.#lookNow();
  }

  #lookNow(): void {
    this.#cancelTimers();
    this.look();
  }

  #cancelTimers(): void {
    stopTimer(this.#timer);
    stopTurn(this.#turn);
  }
}
