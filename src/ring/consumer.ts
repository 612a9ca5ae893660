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
 * Counts of the work of a buffer and its consumers, since the buffer object was created. A drain is counted when it ends, so
 * its callback sees the counts from before the drain.
 */
export interface ConsumerStats {
  /** The number of delivered events. */
  readonly events: number;
  /** The number of bytes that were released to the kernel. Headers, padding and discarded records count. */
  readonly bytes: number;
  /** The number of skipped records that programs had reserved and then discarded. Always 0 in a perf buffer. */
  readonly discarded: number;
  /**
   * The number of events for which the buffer had no room.
   *
   * In a ring buffer, these are the events that programs counted (`asm.reserveOrCount()`, `asm.outputOrCount()`,
   * `asm.countLost()`) since the counter was created. Events that a program drops without counting are not included. In a
   * perf buffer, they are the events that the kernel counted and reported so far, including events dropped while the buffer
   * was paused.
   */
  readonly lost: number;
  /**
   * The number of bytes that programs overwrote before they were read. Always 0 without the flag `"rb_overwrite"` of a ring
   * buffer or the option `overwrite` of a perf buffer.
   */
  readonly overwrittenBytes: number;
  /** The number of times that the kernel woke a consumer. */
  readonly wakeups: number;
  /** The number of times that a consumer checked the buffer on a timer, or in the next turn of the event loop. */
  readonly polls: number;
  /** The number of checks that found events: after a wake-up, on a timer, by a drain or by `flush()`. */
  readonly batches: number;
  /** The largest number of events that one check found. */
  readonly largestBatch: number;
  /** The number of unread bytes in the buffer now. Headers, padding and discarded records count. */
  readonly backlog: number;
}

/** The part of a map that its consumers use: implemented by `EventBuffer`, and by fakes in tests. */
export interface ConsumedMap {
  /** The map id, which is the same for all objects that have the map open. */
  readonly id: number;
  readonly stats: ConsumerStats;
  /** Returns a watch that calls `onReady` from the event loop when the buffer has unread records. */
  watch(onReady: () => void): Watch;
  /** Returns the name of the map for messages. */
  toString(): string;
}

/** Ways to consume a buffer. */
export type ConsumerKind = "drain" | "peek" | "iteration" | "subscription" | "stream";

/** The current consumers of this thread, by map id. */
const consumers = new Map<number, ConsumerKind>();

/** The shared state of all consumers of one buffer object: its reader, event type, counts, and the current consumer. */
export class RecordSource<E> implements Disposable {
  readonly map: ConsumedMap;
  readonly type: Type<E>;
  readonly reader: RecordReader;
  wakeups = 0;
  polls = 0;
  batches = 0;
  largestBatch = 0;
  /** The consumer on the event loop, if there is one. */
  consumer: Pick<Consumer, "consume" | "end" | "keepAlive"> | undefined;
  /** True if waiting consumers keep the process alive. */
  isReferenced = true;
  /**
   * The cursor of all drains. It is reused, because the engine then treats the cursor as a constant in the compiled code of
   * a callback.
   */
  #drainCursor: StructCursor<E> | undefined;
  /** Callbacks for records, by cursor and by callback for events; both are weak references. */
  #callbacks = new WeakMap<object, WeakMap<(event: never) => void, RawRecordCallback>>();
  #callbackCode: DrainCode | undefined;

  /**
   * @param type the type of the events, whose size must not change
   * @param reader owned by this object from now on
   */
  constructor(map: ConsumedMap, type: Type<E>, reader: RecordReader) {
    this.map = map;
    this.type = type;
    this.reader = reader;
  }

  /** Sets whether the current consumer and later ones keep the process alive while they wait. */
  keepAlive(alive: boolean): void {
    this.isReferenced = alive;
    this.consumer?.keepAlive(alive);
  }

  /** Counts a check that found this many events. */
  countBatch(events: number): void {
    if (events === 0) return;
    this.batches++;
    this.largestBatch = Math.max(this.largestBatch, events);
  }

  /** Throws the error for a record that is shorter than the event type. */
  readonly rejectShort = (length: number): never => {
    const { name, size } = this.type;
    throw new RangeError(
      `a record of ${this.map} has ${length} bytes, but its event type ${name} needs ${size}: open the map with the type that programs write`,
    );
  };

  /**
   * Returns a cursor that reads events in place.
   *
   * @throws {TypeError} if the event type is not a struct.
   */
  cursor(): StructCursor<E> {
    const type = this.type as Type<E> & Partial<StructType<Fields>>;
    if (typeof type.cursor !== "function") {
      throw new TypeError(
        `inPlace: expected an event type that is a t.struct, but the event type of ${this.map} is ${type.name}`,
      );
    }
    // The declared type of the cursor has the fields of the struct, which TypeScript cannot relate to E.
    return type.cursor() as unknown as StructCursor<E>;
  }

  /**
   * Returns the cursor of drains in place.
   *
   * @throws {TypeError} if the event type is not a struct.
   */
  drainCursor(): StructCursor<E> {
    this.#drainCursor ??= this.cursor();
    return this.#drainCursor;
  }

  /**
   * Returns a callback for records that calls `fn` with each event: decoded, or read in place by the cursor.
   *
   * Call this method for each drain, because the reader can have changed to specialized code. If the code has not changed,
   * it returns the same function again: the engine treats the objects that a function refers to as constants only if there
   * is one closure of that function.
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
      const { type, rejectShort } = this;
      callback =
        cursor === undefined
          ? code.decoding(type, rejectShort, fn)
          : code.showing(cursor, type.size, rejectShort, fn);
      callbacks.set(fn, callback);
    }
    return callback;
  }

  /**
   * Delivers the records that are in the buffer now. During this call, the buffer can have no other consumer.
   *
   * @param cursor the cursor that reads the events, released at the end
   * @throws {Error} if the buffer has a consumer already, or the callback of an ended consumer still runs.
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
      this.countBatch(reader.totals.events - before);
    }
  }

  /**
   * Calls `fn` with the next record, and leaves the record in the buffer. Returns false if there is none.
   *
   * @throws {Error} if the buffer has a consumer already, or the callback of an ended consumer still runs.
   */
  peek(fn: RawRecordCallback): boolean {
    const { reader } = this;
    this.#claimNow("peek");
    try {
      // A second consumer can release the record between the two calls.
      if (reader.hold(1, 0) === 0 || reader.locate(0) === -1) return false;
      fn(reader.view, reader.offset, reader.length);
      return true;
    } finally {
      reader.cancelHold();
      this.free();
    }
  }

  /** Claims the buffer for a synchronous call. Throws an error if the buffer has a consumer or is being drained. */
  #claimNow(kind: ConsumerKind): void {
    this.claim(kind);
    if (!this.reader.isDraining) return;
    this.free();
    throw new Error(
      `${this.map} is being drained: call this after the running callback has returned`,
    );
  }

  /**
   * Registers a consumer of the buffer.
   *
   * @throws {Error} if the buffer has a consumer already: both would move the consumer position.
   */
  claim(kind: ConsumerKind): void {
    const existing = consumers.get(this.map.id);
    if (existing !== undefined) {
      throw new Error(`${this.map} has a consumer already: end that ${existing} first`);
    }
    consumers.set(this.map.id, kind);
  }

  /** Removes the consumer of the buffer. */
  free(): void {
    this.consumer = undefined;
    consumers.delete(this.map.id);
  }

  /**
   * Releases delivered records, unmaps the memory and ends the consumer.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the memory; nothing has changed then.
   */
  [Symbol.dispose](): void {
    this.reader[Symbol.dispose]();
    this.consumer?.end();
  }
}

/** The default time for which a consumer may delay timers and I/O. */
export const turnMilliseconds = 2;

/** The delay before the first retry if the next record is reserved and not yet submitted. It doubles with each retry. */
const minRetryMilliseconds = 1;
/** The upper limit of the delay between two retries. */
const maxRetryMilliseconds = 50;
/**
 * The number of consecutive intervals with few events that ends polling. A single such interval can be a gap between two
 * bursts.
 */
const quietIntervals = 3;
/** The fraction of the buffer that may fill before the next check. The rest is a reserve for late timers. */
const maxFillFraction = 0.4;

/**
 * The base class of consumers on the event loop. It schedules the checks of the buffer (when the kernel wakes the consumer,
 * on a timer, or in the next turn of the event loop) and ends the consumer. Subclasses deliver the events.
 *
 * The kernel sends a wake-up for each record that is committed when the consumer has read all earlier ones. A fast consumer
 * therefore costs an interrupt and a wake-up per record. Under load it is cheaper to poll and let records accumulate, as
 * network drivers do (NAPI).
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
  #retryMilliseconds = minRetryMilliseconds;
  #isPolling: boolean;
  /** The totals after the last check. */
  #events: number;
  #bytes: number;
  /**
   * The start of the current measuring interval, and the counts since then. While the consumer polls, an interval is at
   * least as long as the option `interval`.
   */
  #windowStart = monotonicMilliseconds();
  #windowEvents = 0;
  #windowBytes = 0;
  /** Bytes per millisecond in the last complete interval. */
  #rate = 0;
  /** The number of consecutive intervals with few events. */
  #quiet = 0;

  /** @throws {Error} if the buffer has a consumer already, or the event loop cannot wait for it. */
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
        this.#consumeNow();
      });
      this.#watch.keepAlive(this.#isReferenced);
    } catch (error) {
      source.free();
      throw error;
    }
    source.consumer = this;
  }

  /** @internal Shows the state in `console.log`, without the memory of the buffer. */
  [inspectCustom](...inspection: InspectArguments): string {
    const { map } = this.source;
    // After the end, the buffer may be disposed of, too: reading its counts would throw an error then.
    const state = this.#ended ? { active: false } : { active: true, stats: map.stats };
    return show(this.shownName, { buffer: `${map}`, ...state }, inspection);
  }

  /** The class name that `console.log` shows. */
  protected abstract readonly shownName: string;

  /**
   * Starts to listen to the signal, which may end the consumer at once. A subclass must call this method last in its
   * constructor.
   */
  protected begin(): void {
    reloadDisposers?.set(this, () => this.end());
    const { signal } = this.#settings;
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /**
   * Checks the buffer now, delivers events and schedules the next check if one is needed. Returns the number of delivered
   * items.
   */
  abstract consume(): number;

  /** Ends the consumer because its signal has aborted. */
  protected abstract aborted(reason: unknown): void;

  /** Releases delivered records and ends all waits. {@link end} calls it last, before it allows another consumer. */
  protected abstract settle(): void;

  /** True after the consumer has ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Ends the consumer. Undelivered events stay in the buffer. A second call does nothing. */
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

  /** Schedules the next check of the buffer and cancels earlier scheduled checks. */
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
    this.#retryMilliseconds = minRetryMilliseconds;
    const { wakeup, interval, maxLatency } = this.#settings;
    // A timer is too late for a buffer that fills within a millisecond. A busy loop is too late as well: the scheduler
    // preempts a thread that never sleeps, and runs a thread that has just been woken sooner.
    if (this.#isPolling && (wakeup === "poll" || untilFull >= 1)) {
      this.#watch.disarm();
      this.#after(interval, untilFull);
      return;
    }
    this.#watch.arm();
    if (maxLatency !== undefined) this.#sleep(maxLatency);
  }

  /** Schedules a check for the next turn of the event loop, after timers and I/O. */
  protected nextTurn(): void {
    this.#turn = startTurn(() => this.#poll());
    if (!this.#isReferenced) this.#turn.unref();
  }

  /** Cancels all scheduled checks, until the next {@link schedule}. */
  protected stop(): void {
    this.#cancelTimers();
    this.#watch.disarm();
  }

  /** Sets whether scheduled checks keep the process alive. */
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
   * Schedules a check after one that found a reserved record at the consumer position. The kernel reports such a buffer as
   * readable, so waiting for it would spin. Most programs submit a record within microseconds, but some can sleep meanwhile.
   */
  #retry(hasProgressed: boolean, untilFull: number): void {
    if (hasProgressed) this.#retryMilliseconds = minRetryMilliseconds;
    if (hasProgressed && this.#settings.wakeup === "interrupt") {
      this.nextTurn();
      return;
    }
    this.#after(this.#retryMilliseconds, untilFull);
    this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, maxRetryMilliseconds);
  }

  /** Measures the rate of events, and starts or ends polling. Returns true if the last check released anything. */
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

  /** Schedules a check after this time, or sooner if more than {@link maxFillFraction} of the buffer may be full by then. */
  #after(milliseconds: number, untilFull: number): void {
    if (untilFull < 1) this.nextTurn();
    else this.#sleep(Math.floor(Math.min(milliseconds, untilFull)));
  }

  /** Returns the milliseconds until {@link maxFillFraction} of the buffer is full at the current rate. */
  #untilFull(time: number): number {
    // Without the lower limit, the rate of a burst at the start of an interval would be far too high.
    const elapsed = Math.max(time - this.#windowStart, 1);
    const rate = Math.max(this.#rate, this.#windowBytes / elapsed);
    return (this.source.reader.byteLength * maxFillFraction) / rate;
  }

  #sleep(milliseconds: number): void {
    this.#timer = startTimer(() => this.#poll(), milliseconds);
    if (!this.#isReferenced) this.#timer.unref();
  }

  #poll(): void {
    this.source.polls++;
    this.#consumeNow();
  }

  #consumeNow(): void {
    this.#cancelTimers();
    this.consume();
  }

  #cancelTimers(): void {
    stopTimer(this.#timer);
    stopTurn(this.#turn);
  }
}
