import { throwUncaught } from "../loop/bridge.ts";
import { monotonicMilliseconds } from "../ffi/clock.ts";
import type { StructCursor } from "../types/type.ts";
import { Consumer, type ConsumerStats, type RecordSource, turnMilliseconds } from "./consumer.ts";
import type { RawRecordCallback } from "./drain_code.ts";
import type { ConsumeSettings } from "./ring_options.ts";

/**
 * The subscription of a callback to the events of a buffer, from `subscribe` or `subscribeRaw`.
 *
 * The subscription ends when it is disposed of, its signal aborts, the buffer is disposed of, or the memory of the buffer is
 * corrupt. Undelivered events stay in the buffer for the next consumer. The callback may dispose of the subscription.
 */
export interface Subscription extends Disposable {
  /** True until the subscription ends. */
  readonly active: boolean;
  /**
   * Counts of the buffer, see {@link EventBuffer.stats}.
   *
   * @throws {DisposedError} after disposal of the buffer.
   */
  readonly stats: ConsumerStats;
  /** Makes the subscription keep the process alive. This is the default. */
  ref(): this;
  /** Allows the process to end while the subscription is active. */
  unref(): this;
  /**
   * Delivers unread events now, including those that programs wrote with `BPF_RB_NO_WAKEUP`. Returns the number of events.
   *
   * A call delivers at most the events of one turn of the event loop: those of about 2 ms, or
   * {@link RawSubscribeOptions.budget}. The next turn continues with the others. To deliver all events in the buffer, call
   * this method until it returns 0. A call by the callback, or after the end of the subscription, does nothing.
   */
  flush(): number;
}

/** The time for which events are delivered between two readings of the clock, within a turn without a budget. */
const sliceMilliseconds = 0.5;
/** The number of events before the first reading of the clock. It is small because the time per event is unknown. */
const firstSlice = 4;
/** The largest number of events between two readings of the clock. */
const maxSlice = 4096;

/** A consumer that calls a callback with each event. */
export class CallbackConsumer extends Consumer implements Subscription {
  readonly #callback: () => RawRecordCallback;
  readonly #cursor: StructCursor<unknown> | undefined;
  readonly #budget: number | undefined;

  /**
   * @param callback returns the callback for records; called at each check, because a busy buffer changes to specialized code
   * @param cursor the cursor that reads events in place, if any
   * @param budget the number of events per turn of the event loop; `undefined` to limit turns to {@link turnMilliseconds}
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
    // The callback must not run before the caller has the subscription, because the callback may dispose of it.
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
    return this.consume();
  }

  /** Delivers the events of one turn. Returns the number of events. */
  override consume(): number {
    const { reader } = this.source;
    if (this.ended || reader.isDraining) return 0;
    const before = reader.totals.events;
    try {
      this.#deliver();
    } catch (error) {
      // The subscription continues, as an event listener does after an exception.
      throwUncaught(error);
    }
    this.#cursor?.release();
    const events = reader.totals.events - before;
    this.source.countBatch(events);
    if (reader.isCorrupt) this.end();
    else if (!this.ended) this.#scheduleNext();
    return events;
  }

  #scheduleNext(): void {
    try {
      this.schedule();
    } catch (error) {
      // Without a scheduled check, no event would ever be delivered again.
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
      const countPerSlice = (count * sliceMilliseconds) / Math.max(time - start, 0.001);
      // The slice at most doubles, because the next events may take longer.
      slice = Math.max(Math.floor(Math.min(countPerSlice, count * 2, maxSlice)), 1);
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
