import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { monotonicMilliseconds } from "../ffi/clock.ts";
import type { StructCursor } from "../types/type.ts";
import { Consumer, type ConsumerKind, type RecordSource, turnMilliseconds } from "./consumer.ts";
import type { ConsumeSettings } from "./ring_options.ts";

/** Takes items of an iteration out of a buffer. */
export interface Taker<T> {
  /** The item that {@link take} took last. */
  taken: T | undefined;
  /** Takes the next item; false when there is none. An error ends the iteration. */
  take(): boolean;
  /** Gives back to the kernel what was delivered, where {@link take} does not. */
  settle(): void;
  /** True when an item is valid only until the next one is taken: then whoever waits for it has a turn to use it. */
  readonly isOneAtATime: boolean;
}

/** The number of items that are handed out between two looks at the clock, */
const itemsBetweenClocks = 64;
/** unless what is done with each takes so long. */
const longItemMilliseconds = 0.02;

/**
 * A consumer that is asked: something for each `next()`, and a sleep in the kernel when there is nothing.
 *
 * It ends by `return()`, by an error, by the disposal of the buffer, and by its signal: then the `next()` that waits, or the one
 * after it, is rejected with the signal's reason.
 */
export class PullIterator<T> extends Consumer implements AsyncIterableIterator<T, undefined> {
  readonly #taker: Taker<T>;
  /** Calls of `next()` that wait, in order. */
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  /** The time at which the loop's turn began, as far as is known, and the last look at the clock. */
  #turnStart = monotonicMilliseconds();
  #clock = this.#turnStart;
  /** Items since then, and how many there may be until the next time. */
  #items = 0;
  #itemsUntilClock = 1;
  #isTurnOver = false;
  #isTaking = false;
  /** The reason for which the next call of `next()` is to be rejected. */
  #failure: { readonly reason: unknown } | undefined;

  constructor(
    source: RecordSource<unknown>,
    kind: ConsumerKind,
    settings: ConsumeSettings,
    taker: Taker<T>,
  ) {
    super(source, kind, settings);
    this.#taker = taker;
    this.begin();
  }

  protected get shownName(): string {
    return "EventIterator";
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.ended) return this.#afterEnd();
    // A callback of another consumer may run still, which has ended: what it was called with is being given back.
    const mayTake =
      this.#waiting.length === 0 && !this.#isTurnOver && !this.source.reader.isDraining;
    try {
      if (mayTake && this.#take()) {
        this.#watchClock();
        return Promise.resolve({ done: false, value: this.#taker.taken as T });
      }
      const waiter = Promise.withResolvers<IteratorResult<T, undefined>>();
      this.#waiting.push(waiter);
      if (mayTake) this.schedule();
      else if (this.#waiting.length === 1) this.nextTurn();
      return waiter.promise;
    } catch (error) {
      // Also when the wait cannot begin: an iteration that is stuck would keep the ring from its next consumer.
      this.end();
      return Promise.reject(error);
    }
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.end();
    return { done: true, value: undefined };
  }

  /** Hands out what is there to whoever waits, and returns how many items that were. */
  override look(): number {
    if (this.source.reader.isDraining) return 0;
    this.#beginTurn();
    const { isOneAtATime } = this.#taker;
    let count = 0;
    try {
      while (this.#waiting.length > 0 && this.#take()) {
        count++;
        this.#waiting.shift()?.resolve({ done: false, value: this.#taker.taken as T });
        if (isOneAtATime) break;
      }
      if (this.#waiting.length === 0) this.stop();
      else if (isOneAtATime && count > 0) this.nextTurn();
      else this.schedule();
    } catch (error) {
      this.aborted(error);
    }
    return count;
  }

  #take(): boolean {
    // The code of an event's own type may ask for the next one.
    if (this.#isTaking) return false;
    this.#isTaking = true;
    try {
      return this.#taker.take();
    } finally {
      this.#isTaking = false;
    }
  }

  protected override settle(): void {
    this.#taker.settle();
    for (const waiter of this.#waiting) waiter.resolve({ done: true, value: undefined });
    this.#waiting = [];
  }

  /** Looks at the clock now and then: whoever asks for one item after another would keep timers and I/O waiting. */
  #watchClock(): void {
    if (++this.#items < this.#itemsUntilClock) return;
    const time = monotonicMilliseconds();
    const isQuick = time - this.#clock < this.#items * longItemMilliseconds;
    this.#itemsUntilClock = isQuick ? Math.min(this.#itemsUntilClock * 2, itemsBetweenClocks) : 1;
    this.#clock = time;
    this.#items = 0;
    this.#isTurnOver = time - this.#turnStart > turnMilliseconds;
  }

  #beginTurn(): void {
    this.#turnStart = this.#clock = monotonicMilliseconds();
    this.#items = 0;
    this.#isTurnOver = false;
  }

  protected override aborted(reason: unknown): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#failure = { reason };
    this.end();
    waiter?.reject(reason);
  }

  #afterEnd(): Promise<IteratorResult<T, undefined>> {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) return Promise.reject(failure.reason);
    return Promise.resolve({ done: true, value: undefined });
  }
}

/** The number of records that are held together, which costs less than one by one. */
const recordsAtOnce = 64;
/** The part of the buffer that they may fill: their room is given back together, too. */
const partAtOnce = 1 / 8;

/** Takes events one by one. */
export function takeEvents<E>(source: RecordSource<E>): Taker<E> {
  const { reader, type } = source;
  /** The offset of the next record among those that are held; -1 for none. */
  let at = -1;
  return {
    taken: undefined,
    isOneAtATime: false,
    take() {
      if (at !== -1) at = reader.locate(at);
      if (at === -1) {
        // After the last event there may be records that programs discarded.
        reader.pass(reader.heldBytes, 0);
        reader.giveBack();
        const count = reader.hold(recordsAtOnce, reader.byteLength * partAtOnce);
        source.found(count);
        if (count === 0) return false;
        at = reader.locate(0);
        // A second consumer has released them by now.
        if (at === -1) return false;
      }
      const { view, offset, length } = reader;
      // Before it is decoded: an impossible record counts as delivered, or it would stand in the way for ever.
      reader.pass(at, 1);
      if (length < type.size) source.refuse(length);
      this.taken = type.read(view, offset);
      return true;
    },
    settle: () => reader.giveBack(),
  };
}

/** Takes arrays of at most `max()` events. */
export function takeArrays<E>(source: RecordSource<E>, max: () => number): Taker<E[]> {
  let events: E[] = [];
  const append = (event: E): void => void events.push(event);
  /** The error of the record after the events that were delivered last. */
  let refusal: { readonly error: unknown } | undefined;
  return {
    taken: undefined,
    isOneAtATime: false,
    take() {
      // The events before an impossible record are delivered first; the error comes with the next call.
      if (refusal !== undefined) throw refusal.error;
      this.taken = events = [];
      try {
        source.reader.drain(source.callback(append), max());
      } catch (error) {
        if (events.length === 0) throw error;
        refusal = { error };
      }
      source.found(events.length);
      return events.length > 0;
    },
    settle() {},
  };
}

/** Takes batches of at most `max` events in place. @throws {TypeError} when the event is not a struct */
export function takeBatches<E>(source: RecordSource<E>, max: number): Taker<Batch<E>> {
  const { reader } = source;
  const cursor = source.cursor();
  let batch: HeldBatch<E> | undefined;
  return {
    taken: undefined,
    isOneAtATime: true,
    take() {
      this.settle();
      const count = reader.hold(max, reader.byteLength);
      source.found(count);
      if (count === 0) return false;
      reader.pass(reader.heldBytes, count);
      this.taken = batch = new HeldBatch(source, cursor, count);
      return true;
    },
    settle() {
      if (batch === undefined) return;
      batch.released = true;
      this.taken = batch = undefined;
      cursor.release();
      reader.giveBack();
    },
  };
}

/**
 * Events that lie in the buffer still: each is shown by one and the same object, whose getters read the buffer's memory.
 *
 * It is valid until the next batch is asked for, or the iteration ends: afterwards reading an event throws. Copy what is
 * needed for longer (`type.copy(event)`).
 */
export interface Batch<E> extends Iterable<E> {
  /** The number of its events. */
  readonly length: number;
  /** True once it is over: its events were given back. */
  readonly released: boolean;
}

/** The records that a reader holds, as a batch. */
class HeldBatch<E> implements Batch<E> {
  readonly #source: RecordSource<E>;
  readonly #cursor: StructCursor<E>;
  readonly length: number;
  /** True once its events are the programs' again. */
  released = false;

  constructor(source: RecordSource<E>, cursor: StructCursor<E>, length: number) {
    this.#source = source;
    this.#cursor = cursor;
    this.length = length;
  }

  [inspectCustom](...inspection: InspectArguments): string {
    const { length, released } = this;
    return show("Batch", { length, released }, inspection);
  }

  *[Symbol.iterator](): Generator<E, void, undefined> {
    const { reader, type, refuse } = this.#source;
    let at = 0;
    for (;;) {
      if (this.released) {
        throw new Error(
          "this batch is over: its events were given back when the next one was asked for",
        );
      }
      at = reader.locate(at);
      if (at === -1) return;
      if (reader.length < type.size) refuse(reader.length);
      this.#cursor.moveTo(reader.view, reader.offset);
      yield this.#cursor.event;
    }
  }
}

/**
 * A web stream of events, which takes from the buffer only what is read from it.
 *
 * @param begin begins to take arrays of events, each of `wanted` at the most
 */
export function eventStream<E>(
  begin: (wanted: () => number) => AsyncIterableIterator<E[], undefined>,
  highWaterMark: number,
): ReadableStream<E> {
  let wanted = highWaterMark;
  const batches = begin(() => wanted);
  return new ReadableStream<E>(
    {
      async pull(controller) {
        wanted = Math.max(controller.desiredSize ?? 1, 1);
        const { done, value } = await batches.next();
        if (done === true) controller.close();
        else for (const event of value) controller.enqueue(event);
      },
      async cancel() {
        await batches.return?.();
      },
    },
    { highWaterMark },
  );
}
