import { throwUncaught } from "../loop/bridge.ts";
import { monotonicMilliseconds } from "../ffi/clock.ts";
import type { StructCursor } from "../types/type.ts";
import { Consumer, type ConsumerStats, type RecordSource, turnMilliseconds } from "./consumer.ts";
import type { RawRecordCallback } from "./drain_code.ts";
import type { ConsumeSettings } from "./ring_options.ts";

/**
 * A callback that is called with events as they come, until this is disposed of, its signal aborts, or the buffer is
 * disposed of.
 */
export interface Subscription extends Disposable {
  /** True until it ends. */
  readonly active: boolean;
  /** The same as those of the buffer. */
  readonly stats: ConsumerStats;
  /** Makes the subscription keep the process alive, as it does by default. */
  ref(): this;
  /** Lets the process end although it goes on. */
  unref(): this;
  /**
   * Delivers the events that are there now, also those that programs wrote with `BPF_RB_NO_WAKEUP`, and returns their
   * number. It does nothing where the callback itself calls it, as delivery goes on already.
   */
  flush(): number;
}

/** Events are delivered for so long between two looks at the clock: a few at first, as nobody knows how long they take, */
const sliceMilliseconds = 0.5;
const firstSlice = 4;
/** and never more than this many. */
const largestSlice = 4096;

/** A consumer that calls a callback. */
export class CallbackConsumer extends Consumer implements Subscription {
  readonly #callback: () => RawRecordCallback;
  readonly #cursor: StructCursor<unknown> | undefined;
  readonly #budget: number | undefined;

  /**
   * @param callback makes the callback for records; called at each look, as a busy buffer gets better code meanwhile
   * @param cursor shows the events to it, if anything does
   * @param budget events in one turn of the loop; `undefined` for as many as take {@link turnMilliseconds}
   */
  constructor(
    source: RecordSource<unknown>,
    settings: ConsumeSettings,
    callback: () => RawRecordCallback,
    cursor: StructCursor<unknown> | undefined,
    budget: number | undefined,
  ) {
    super(source, "subscription", settings);
    this.#callback = callback;
    this.#cursor = cursor;
    this.#budget = budget;
    this.begin();
    // Not now: the caller has no hold of this object yet, which the callback may want to dispose of.
    if (this.active) this.nextTurn();
  }

  protected get shownName(): string {
    return "Subscription";
  }

  get active(): boolean {
    return !this.ended;
  }

  get stats(): ConsumerStats {
    return this.source.map.stats;
  }

  ref(): this {
    this.keepAlive(true);
    return this;
  }

  unref(): this {
    this.keepAlive(false);
    return this;
  }

  flush(): number {
    return this.look();
  }

  /** Delivers what is there, as far as this turn goes, and returns how many events that were. */
  override look(): number {
    const { reader } = this.source;
    if (this.ended || reader.isDraining) return 0;
    const before = reader.totals.events;
    try {
      this.#deliver();
    } catch (error) {
      // As with an event listener: the next event comes all the same.
      throwUncaught(error);
    }
    this.#cursor?.release();
    const events = reader.totals.events - before;
    this.source.found(events);
    if (reader.isCorrupt) this.end();
    else if (!this.ended) this.#scheduleNext();
    return events;
  }

  #scheduleNext(): void {
    try {
      this.schedule();
    } catch (error) {
      // Nothing would ever look again.
      this.end();
      throwUncaught(error);
    }
  }

  #deliver(): void {
    const { reader } = this.source;
    if (this.#budget !== undefined) {
      reader.drain(this.#callback(), this.#budget);
      return;
    }
    let start = monotonicMilliseconds();
    const end = start + turnMilliseconds;
    for (let slice = firstSlice; ;) {
      const count = reader.drain(this.#callback(), slice);
      if (this.ended || reader.end !== "limit") return;
      const time = monotonicMilliseconds();
      const ofSlice = (count * sliceMilliseconds) / Math.max(time - start, 0.001);
      // No more than twice as many at once: the next ones may take longer.
      slice = Math.max(Math.floor(Math.min(ofSlice, count * 2, largestSlice)), 1);
      start = time;
      if (time >= end) return;
    }
  }

  protected override aborted(): void {
    this.end();
  }

  protected override settle(): void {}

  [Symbol.dispose](): void {
    this.end();
  }
}
