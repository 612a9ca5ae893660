import type { Watch } from "../loop/reactor.ts";
import type { Moderation } from "./consume_options.ts";
import type { RecordReader } from "./record_reader.ts";

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
