import { checkBoolean, checkCount } from "../check/arguments.ts";
import { throwUncaught } from "../loop/bridge.ts";
import type { Watch } from "../loop/reactor.ts";
import type { PresentingCode, RawRecordCallback } from "./drain_code.ts";
import type { RecordReader } from "./reader.ts";
import type { Moderation } from "./ring_options.ts";
import { ConsumerCounts, type ConsumerStats } from "./stats.ts";
import type { Fields, StructCursor, StructType, Type } from "../types/type.ts";

/** What makes of records the events that a callback is called with. */
export interface Presenter<E> {
  /** The callback for records; it is better code when a reader is busy, so that it is asked for at each drain. */
  callback(fn: (event: E) => void): RawRecordCallback;
  /** The records may not be read any more. */
  release(): void;
}

/** A buffer whose events are shown. */
export interface PresentedBuffer<E> {
  readonly reader: RecordReader;
  readonly type: Type<E>;
  /** Names it in errors. */
  readonly what: string;
}

/** The ways to show a buffer's events. */
export class Presenters<E> {
  readonly #buffer: PresentedBuffer<E>;
  #ofDrains: { decoding?: Presenter<E>; showing?: Presenter<E> } = {};

  constructor(buffer: PresentedBuffer<E>) {
    this.#buffer = buffer;
  }

  /** Throws for a record that is too short. */
  readonly refuse = (length: number): never => {
    const { what, type } = this.#buffer;
    throw new RangeError(
      `a record of ${what} has ${length} bytes, but its event type ${type.name} takes ${type.size}`,
    );
  };

  /** That of all drains of the buffer: the same one, as the engine compiles what it refers to into the callback. */
  ofDrains(inPlace: boolean): Presenter<E> {
    checkBoolean("inPlace", inPlace);
    const presenters = this.#ofDrains;
    if (inPlace) return (presenters.showing ??= this.#showing(this.cursor()));
    return (presenters.decoding ??= this.#decoding());
  }

  /** One for a consumer of its own. @throws {TypeError} where events in place are asked for, and the event is no struct */
  own(inPlace: boolean): Presenter<E> {
    checkBoolean("inPlace", inPlace);
    return inPlace ? this.#showing(this.cursor()) : this.#decoding();
  }

  /** What shows events in place. @throws {TypeError} when the event is no struct */
  cursor(): StructCursor<E> {
    const { what } = this.#buffer;
    const type = this.#buffer.type as Type<E> & Partial<StructType<Fields>>;
    if (typeof type.cursor !== "function") {
      throw new TypeError(
        `inPlace: expected an event that is a t.struct, that of ${what} is ${type.name}`,
      );
    }
    // The cursor of a Type<E> shows what that reads as: TypeScript knows it by the struct's fields only.
    return type.cursor() as unknown as StructCursor<E>;
  }

  /** Each event is an object of its own. */
  #decoding(): Presenter<E> {
    const { reader, type } = this.#buffer;
    return {
      callback: remembered(reader, (code, fn) => code.decoding(type, this.refuse, fn)),
      release: () => {},
    };
  }

  /** One object shows each event in turn. */
  #showing(cursor: StructCursor<E>): Presenter<E> {
    const { reader, type } = this.#buffer;
    return {
      callback: remembered(reader, (code, fn) => code.showing(cursor, type.size, this.refuse, fn)),
      release: () => cursor.release(),
    };
  }
}

/**
 * Makes a callback once for as long as it would be the same: the engine compiles what a function refers to into it when
 * there is one such function alone.
 */
function remembered<E>(
  reader: RecordReader,
  make: (code: PresentingCode, fn: (event: E) => void) => RawRecordCallback,
): (fn: (event: E) => void) => RawRecordCallback {
  // Weakly: what was drained with once is not to live for as long as the buffer.
  let made = new WeakMap<(event: E) => void, RawRecordCallback>();
  let madeWith: PresentingCode | undefined;
  return (fn) => {
    const { code } = reader;
    if (code !== madeWith) {
      made = new WeakMap();
      madeWith = code;
    }
    let callback = made.get(fn);
    if (callback === undefined) {
      callback = make(code, fn);
      made.set(fn, callback);
    }
    return callback;
  };
}

/** How long a consumer may keep timers and I/O waiting, where it is not told otherwise. */
export const turnMilliseconds = 2;

/** A consumer that runs on the event loop. */
export interface LoopConsumer {
  /** Begins to wait. It may end at once, when its signal has aborted already. */
  begin(): void;
  /** Looks now; what it found. */
  look(): number;
  /** Whether waiting keeps the process alive. */
  keepAlive(alive: boolean): void;
  finish(): void;
}

/** What every consumer on the event loop gets. */
export interface ConsumerParts extends Omit<PumpParts, "look"> {
  readonly counts: ConsumerCounts;
  readonly signal: AbortSignal | undefined;
  /** To be called once, when it has ended. */
  readonly onEnd: () => void;
}

/** A buffer, for its slot. */
export interface ConsumedBuffer {
  /** The kernel's id: several objects may stand for one buffer. */
  readonly id: number;
  /** Names it in errors. */
  readonly what: string;
  /** Owned from here on. */
  readonly reader: RecordReader;
  readonly watch: (onReady: () => void) => Watch;
}

/** The place for a buffer's consumer, of which there is one at a time. */
export class ConsumerSlot implements Disposable {
  readonly counts = new ConsumerCounts();
  readonly reader: RecordReader;
  readonly #buffer: ConsumedBuffer;
  #consumer: LoopConsumer | undefined;
  #isReferenced = true;

  constructor(buffer: ConsumedBuffer) {
    this.#buffer = buffer;
    this.reader = buffer.reader;
  }

  /**
   * Drains now, as a consumer for this moment.
   *
   * @param onEnd called when the records that were shown may not be read any more
   * @throws {Error} when there is a consumer already, or one has ended whose callback still runs
   */
  drain(
    callback: () => RawRecordCallback,
    limit = Number.MAX_SAFE_INTEGER,
    onEnd: () => void = () => {},
  ): number {
    checkCount("limit", limit, 1, Number.MAX_SAFE_INTEGER);
    const { reader } = this;
    const end = this.#register("drain");
    if (reader.isDraining) {
      end();
      throw new Error(
        `${this.#buffer.what} is being drained: the callback that runs has to return first`,
      );
    }
    const before = reader.totals.events;
    try {
      return reader.drain(callback(), limit);
    } finally {
      end();
      onEnd();
      this.counts.found(reader.totals.events - before);
    }
  }

  /** Gives the place to a consumer on the event loop until that ends. @throws {Error} when there is one already */
  begin<C extends LoopConsumer>(
    kind: Consumer,
    moderation: Moderation,
    make: (parts: ConsumerParts) => C,
  ): C {
    const end = this.#register(kind);
    try {
      const consumer = make({
        reader: this.reader,
        watch: this.#buffer.watch,
        counts: this.counts,
        moderation,
        signal: moderation.signal,
        isReferenced: this.#isReferenced,
        onEnd: () => {
          this.#consumer = undefined;
          end();
        },
      });
      this.#consumer = consumer;
      consumer.begin();
      return consumer;
    } catch (error) {
      end();
      throw error;
    }
  }

  /** Has the consumer look now; what it found. */
  flush(): number {
    return this.#consumer?.look() ?? 0;
  }

  /** Whether consumers that wait keep the process alive: the present one, and those to come. */
  keepAlive(alive: boolean): void {
    this.#isReferenced = alive;
    this.#consumer?.keepAlive(alive);
  }

  #register(kind: Consumer): () => void {
    return registerConsumer(this.#buffer.id, kind, this.#buffer.what);
  }

  /** Releases what was delivered, unmaps the memory, and ends the consumer. @throws {Error} as the reader's disposal does */
  [Symbol.dispose](): void {
    this.reader[Symbol.dispose]();
    this.#consumer?.finish();
  }
}

/** What consumes a ring. */
export type Consumer = "drain" | "iteration" | "subscription" | "stream";

/** The consumer of each ring that has one now, by the kernel's id: several objects may stand for one ring. */
const consumers = new Map<number, Consumer>();

/**
 * Makes a ring's consumer known on this thread; the result takes that back.
 *
 * @throws {Error} when the ring has one already: both would move its position
 */
export function registerConsumer(id: number, consumer: Consumer, what: string): () => void {
  const present = consumers.get(id);
  if (present !== undefined) {
    throw new Error(`${what} has a consumer already: end that ${present} first`);
  }
  consumers.set(id, consumer);
  return () => consumers.delete(id);
}

/** When to look again for a record that is reserved and not yet submitted, */
const firstRetryMilliseconds = 1;
/** and then twice as late each time that it still is, up to this. */
const longestRetryMilliseconds = 50;
/** So many intervals in a row with few events end the polling: one may fall into a gap between two bursts. */
const quietIntervals = 3;
/** Of the buffer, how much may fill until the next look: beyond that, a timer that is late could find it full. */
const mostOfBuffer = 0.4;

/** How often a buffer was looked at, and why. */
export interface PumpCounts {
  /** Times that the kernel woke a consumer. */
  wakeups: number;
  /** Looks on a timer, or at the loop's next turn. */
  polls: number;
}

type Timer = ReturnType<typeof setTimeout>;
type Immediate = ReturnType<typeof setImmediate>;

/** What a pump works with. */
export interface PumpParts {
  readonly reader: RecordReader;
  readonly watch: (onReady: () => void) => Watch;
  readonly counts: PumpCounts;
  readonly moderation: Moderation;
  /** Looks into the buffer, and calls {@link Pump.schedule} when there is to be another look. */
  readonly look: () => void;
  /** Whether a look to come keeps the process alive. */
  readonly isReferenced: boolean;
}

/**
 * Decides when a consumer looks into its buffer next: when the kernel wakes it, on a timer, or at the loop's next turn.
 *
 * The kernel wakes with each record that finds its consumer caught up. A consumer that always is costs an interrupt and a
 * wake-up a record: while much comes, it is better to let some gather, as network drivers do.
 */
export class Pump implements Disposable {
  readonly #reader: RecordReader;
  readonly #counts: PumpCounts;
  readonly #moderation: Moderation;
  readonly #look: () => void;
  readonly #watch: Watch;
  #timer: Timer | undefined;
  #turn: Immediate | undefined;
  #isReferenced: boolean;
  #retryMilliseconds = firstRetryMilliseconds;
  #isPolling: boolean;
  /** What had been read by the last look. */
  #events: number;
  #bytes: number;
  /** Since when, and what was read since then: an interval at least, while this polls. */
  #windowStart = performance.now();
  #windowEvents = 0;
  #windowBytes = 0;
  /** Bytes a millisecond in the last interval that is over. */
  #rate = 0;
  /** Intervals in a row that had few events. */
  #quiet = 0;

  constructor({ reader, watch, counts, moderation, look, isReferenced }: PumpParts) {
    this.#reader = reader;
    this.#counts = counts;
    this.#moderation = moderation;
    this.#look = look;
    this.#isReferenced = isReferenced;
    this.#isPolling = moderation.wakeup === "poll";
    this.#events = reader.totals.events;
    this.#bytes = reader.totals.bytes;
    this.#watch = watch(() => {
      counts.wakeups++;
      this.#lookNow();
    });
    this.#watch.keepAlive(isReferenced);
  }

  /** After a look: has another one follow at the right time, instead of those that were to come before. */
  schedule(): void {
    this.#cancelTimers();
    const { end } = this.#reader;
    if (end === "limit") {
      this.nextTurn();
      return;
    }
    const now = performance.now();
    const hasProgressed = this.#measure(now);
    const untilFull = this.#untilFull(now);
    if (end === "busy") {
      this.#retry(hasProgressed, untilFull);
      return;
    }
    this.#retryMilliseconds = firstRetryMilliseconds;
    const { wakeup, interval, maxLatency } = this.#moderation;
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

  /** Has the look come after timers and I/O have had their turn. */
  nextTurn(): void {
    this.#turn = setImmediate(() => this.#poll());
    if (!this.#isReferenced) this.#turn.unref();
  }

  /** Has no look come until the next {@link schedule}. */
  stop(): void {
    this.#cancelTimers();
    this.#watch.disarm();
  }

  /** Whether looks to come keep the process alive. */
  keepAlive(alive: boolean): void {
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
    if (hasProgressed && this.#moderation.wakeup === "interrupt") {
      this.nextTurn();
      return;
    }
    this.#after(this.#retryMilliseconds, untilFull);
    this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, longestRetryMilliseconds);
  }

  /** Takes note of what the look found, and decides whether to poll from now on; whether it found anything. */
  #measure(now: number): boolean {
    const { totals } = this.#reader;
    const { interval, threshold, wakeup } = this.#moderation;
    const hasProgressed = totals.bytes !== this.#bytes;
    if (!this.#isPolling && now - this.#windowStart > interval) this.#beginWindow(now);
    this.#windowEvents += totals.events - this.#events;
    this.#windowBytes += totals.bytes - this.#bytes;
    this.#events = totals.events;
    this.#bytes = totals.bytes;
    if (!this.#isPolling) {
      if (wakeup !== "adaptive" || this.#windowEvents < threshold) return hasProgressed;
      this.#isPolling = true;
      this.#quiet = 0;
      this.#rate = 0;
    } else if (now - this.#windowStart >= interval) {
      this.#quiet = this.#windowEvents < threshold / 2 ? this.#quiet + 1 : 0;
      this.#rate = this.#windowBytes / (now - this.#windowStart);
      this.#beginWindow(now);
      if (wakeup === "adaptive" && this.#quiet >= quietIntervals) this.#isPolling = false;
    }
    return hasProgressed;
  }

  #beginWindow(now: number): void {
    this.#windowStart = now;
    this.#windowEvents = 0;
    this.#windowBytes = 0;
  }

  /** Looks again after so long, or sooner if too much of the buffer may be full by then. */
  #after(milliseconds: number, untilFull: number): void {
    if (untilFull < 1) this.nextTurn();
    else this.#sleep(Math.floor(Math.min(milliseconds, untilFull)));
  }

  /** Milliseconds until so much of the buffer is full that it should have been looked at. */
  #untilFull(now: number): number {
    // What came all at once may go on as it began, and is taken to for a millisecond.
    const elapsed = Math.max(now - this.#windowStart, 1);
    const rate = Math.max(this.#rate, this.#windowBytes / elapsed);
    return (this.#reader.size * mostOfBuffer) / rate;
  }

  #sleep(milliseconds: number): void {
    this.#timer = setTimeout(() => this.#poll(), milliseconds);
    if (!this.#isReferenced) this.#timer.unref();
  }

  #poll(): void {
    this.#counts.polls++;
    this.#lookNow();
  }

  #lookNow(): void {
    this.#cancelTimers();
    this.#look();
  }

  #cancelTimers(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#turn);
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#watch[Symbol.dispose]();
  }
}

/**
 * A callback that is called with events as they come, until this is disposed of, its signal aborts, or the buffer is
 * disposed of.
 */
export interface Subscription extends Disposable {
  /** Whether it goes on. */
  readonly active: boolean;
  /** The same as those of the buffer. */
  readonly stats: ConsumerStats;
  /** Has the process stay alive for it, which is so from the start. */
  ref(): this;
  /** Lets the process end although it goes on. */
  unref(): this;
  /**
   * Delivers what is there now, whether or not the kernel was told to wake anybody for it; how many events. Called by the
   * callback itself it does nothing: more is being delivered already.
   */
  flush(): number;
}

/** What a subscription works with. */
export interface SubscriptionParts extends ConsumerParts {
  readonly stats: () => ConsumerStats;
  /** Makes the callback for each record. Asked for at each look, as a busy buffer gets better code meanwhile. */
  readonly callback: () => RawRecordCallback;
  /** Called when the events that the last look showed may not be read any more. */
  readonly onRelease: () => void;
  /** Events in one turn of the loop; `undefined` for as many as take {@link turnMilliseconds}. */
  readonly budget: number | undefined;
}

/** Events are delivered for so long between two looks at the clock: a few at first, as nobody knows how long they take, */
const sliceMilliseconds = 0.5;
const firstSlice = 4;
/** and never more than this many. */
const largestSlice = 4096;

export class BufferSubscription implements Subscription, LoopConsumer {
  readonly #parts: SubscriptionParts;
  readonly #pump: Pump;
  readonly #end = (): void => this.finish();
  #ended = false;

  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
    this.#pump = new Pump({ ...parts, look: () => void this.look() });
  }

  /** Listens to the signal, and looks for the first time at the loop's next turn. */
  begin(): void {
    const { signal } = this.#parts;
    if (signal?.aborted === true) {
      this.finish();
    } else {
      signal?.addEventListener("abort", this.#end, { once: true });
      // Not now: the caller has no hold of this object yet, which the callback may want to dispose of.
      this.#pump.nextTurn();
    }
  }

  get active(): boolean {
    return !this.#ended;
  }

  get stats(): ConsumerStats {
    return this.#parts.stats();
  }

  ref(): this {
    this.keepAlive(true);
    return this;
  }

  unref(): this {
    this.keepAlive(false);
    return this;
  }

  /** Whether it keeps the process alive. */
  keepAlive(alive: boolean): void {
    if (!this.#ended) this.#pump.keepAlive(alive);
  }

  flush(): number {
    return this.look();
  }

  /** Delivers what is there, as far as this turn goes; how many events. */
  look(): number {
    const { reader, counts, onRelease } = this.#parts;
    if (this.#ended || reader.isDraining) return 0;
    const before = reader.totals.events;
    try {
      this.#deliver();
    } catch (error) {
      // As with an event listener: the next event comes all the same.
      throwUncaught(error);
    }
    onRelease();
    const events = reader.totals.events - before;
    counts.found(events);
    if (reader.isCorrupt) this.finish();
    else if (!this.#ended) this.#schedule();
    return events;
  }

  #schedule(): void {
    try {
      this.#pump.schedule();
    } catch (error) {
      // Nothing would ever look again.
      this.finish();
      throwUncaught(error);
    }
  }

  #deliver(): void {
    const { reader, budget, callback } = this.#parts;
    if (budget !== undefined) {
      reader.drain(callback(), budget);
      return;
    }
    let start = performance.now();
    const end = start + turnMilliseconds;
    for (let slice = firstSlice; ;) {
      const count = reader.drain(callback(), slice);
      if (this.#ended || reader.end !== "limit") return;
      const now = performance.now();
      const ofSlice = (count * sliceMilliseconds) / Math.max(now - start, 0.001);
      // No more than twice as many at once: the next ones may take longer.
      slice = Math.max(Math.floor(Math.min(ofSlice, count * 2, largestSlice)), 1);
      start = now;
      if (now >= end) return;
    }
  }

  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    const { signal, reader, onEnd } = this.#parts;
    signal?.removeEventListener("abort", this.#end);
    try {
      this.#pump[Symbol.dispose]();
    } finally {
      reader.interrupt();
      onEnd();
    }
  }

  [Symbol.dispose](): void {
    this.finish();
  }
}
