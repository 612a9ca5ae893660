import type { Watch } from "../loop/reactor.ts";
import type { Moderation } from "./consume_options.ts";
import type { RecordReader } from "./record_reader.ts";

/** A record that a program has reserved is submitted within microseconds: looking again after this is soon enough. */
const firstRetryMilliseconds = 1;
/** One that takes longer (its program sleeps, or never submits it) is asked for twice as late each time, up to this. */
const longestRetryMilliseconds = 50;
/** So many looks in a row that find little end the polling: one may fall into a gap between two bursts. */
const quietLooks = 3;
/** Of the buffer, how much may fill in one interval: beyond that, the delay of a timer could fill all of it. */
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
  #quiet = 0;
  /** When the last look was scheduled, and what had been read by then. */
  #scheduledAt = performance.now();
  #events: number;
  #bytes: number;
  /** Since when events are counted for the threshold, and how many they are. */
  #windowStart = 0;
  #windowEvents = 0;

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
    } else if (end === "busy") {
      // A reserved record at the head makes the buffer readable at once, again and again: that wait would spin.
      this.#after(this.#retryMilliseconds);
      this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, longestRetryMilliseconds);
    } else {
      this.#retryMilliseconds = firstRetryMilliseconds;
      this.#rest();
    }
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

  /** The buffer ran dry: sleeps until the kernel wakes, or for a while when more is sure to come. */
  #rest(): void {
    const now = performance.now();
    const { totals } = this.#reader;
    const events = totals.events - this.#events;
    const bytes = totals.bytes - this.#bytes;
    const elapsed = Math.max(now - this.#scheduledAt, 0.01);
    this.#events = totals.events;
    this.#bytes = totals.bytes;
    this.#scheduledAt = now;
    if (this.#moderation.wakeup === "adaptive") this.#adapt(events, now);
    if (this.#isPolling) {
      this.#watch.disarm();
      const { interval } = this.#moderation;
      const expected = Math.max((bytes / elapsed) * interval, bytes);
      if (expected > this.#reader.size * mostOfBuffer) this.nextTurn();
      else this.#after(interval);
      return;
    }
    this.#watch.arm();
    const { maxLatency } = this.#moderation;
    if (maxLatency !== undefined) this.#after(maxLatency);
  }

  /** Begins to poll when much came within an interval, and stops when looks find little. */
  #adapt(events: number, now: number): void {
    const { interval, threshold } = this.#moderation;
    if (this.#isPolling) {
      this.#quiet = events < threshold / 2 ? this.#quiet + 1 : 0;
      if (this.#quiet < quietLooks) return;
      this.#isPolling = false;
      this.#windowEvents = 0;
      this.#windowStart = now;
      return;
    }
    if (now - this.#windowStart > interval) {
      this.#windowStart = now;
      this.#windowEvents = 0;
    }
    this.#windowEvents += events;
    if (this.#windowEvents < threshold) return;
    this.#isPolling = true;
    this.#quiet = 0;
  }

  #after(milliseconds: number): void {
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
