import { throwUncaught } from "../loop/uncaught.ts";
import type { RawRecordCallback } from "./drain_code.ts";
import { type ConsumerParts, type LoopConsumer, turnMilliseconds } from "./consumer_slot.ts";
import { Pump } from "./pump.ts";
import type { ConsumerStats } from "./stats.ts";

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
