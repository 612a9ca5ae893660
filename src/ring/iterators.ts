import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { monotonicMilliseconds } from "../ffi/clock.ts";
import type { StructCursor } from "../types/type.ts";
import { Consumer, type ConsumerKind, type RecordSource, turnMilliseconds } from "./consumer.ts";
import type { ConsumeSettings } from "./ring_options.ts";

/** The items of an iteration, taken from a buffer one by one. */
export interface ItemSource<T> {
  /** The item that {@link take} took last. */
  item: T | undefined;
  /** Takes the next item. Returns false if there is none. An error ends the iteration. */
  take(): boolean;
  /** Releases the delivered records that {@link take} holds. */
  settle(): void;
  /** True if an item is valid only until the next one is taken. Then each waiting `next()` gets its item in a separate turn. */
  readonly isTransient: boolean;
}

/** The largest number of items between two readings of the clock. */
const maxItemsPerReading = 64;
/** The time per item above which the clock is read after each item. */
const slowItemMilliseconds = 0.02;

/**
 * A consumer that delivers one item per call of `next()`, and waits if there is none.
 *
 * It ends by `return()`, an error, disposal of the buffer, or its signal. When the signal aborts, the first waiting `next()`
 * rejects with the reason of the signal. If none waits, the next call of `next()` rejects with it.
 */
export class PullIterator<T> extends Consumer implements AsyncIterableIterator<T, undefined> {
  readonly #items: ItemSource<T>;
  /** Waiting calls of `next()`, in order. */
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  /** The estimated start of this turn of the event loop. */
  #turnStart = monotonicMilliseconds();
  /** The time at the last reading of the clock. */
  #clock = this.#turnStart;
  /** The number of items since the last reading of the clock. */
  #itemsSinceReading = 0;
  /** The number of items after which the clock is read again. */
  #itemsPerReading = 1;
  #isTurnOver = false;
  #isTaking = false;
  /** The reason with which the next call of `next()` rejects. */
  #failure: { readonly reason: unknown } | undefined;

  constructor(
    source: RecordSource<unknown>,
    kind: ConsumerKind,
    settings: ConsumeSettings,
    items: ItemSource<T>,
  ) {
    super(source, kind, settings);
    this.#items = items;
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
    // The callback of a consumer that has ended may still run: its records are not released yet.
    const canTake =
      this.#waiting.length === 0 && !this.#isTurnOver && !this.source.reader.isDraining;
    try {
      if (canTake && this.#take()) {
        this.#readClock();
        return Promise.resolve({ done: false, value: this.#items.item as T });
      }
      const waiter = Promise.withResolvers<IteratorResult<T, undefined>>();
      this.#waiting.push(waiter);
      if (canTake) this.schedule();
      else if (this.#waiting.length === 1) this.nextTurn();
      return waiter.promise;
    } catch (error) {
      // Ends the consumer also if the wait cannot start: an iteration that can never continue would block the next consumer.
      this.end();
      return Promise.reject(error);
    }
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.end();
    return { done: true, value: undefined };
  }

  /** Delivers items to waiting calls of `next()`. Returns the number of items. */
  override consume(): number {
    if (this.source.reader.isDraining) return 0;
    this.#beginTurn();
    const { isTransient } = this.#items;
    let count = 0;
    try {
      while (this.#waiting.length > 0 && this.#take()) {
        count++;
        this.#waiting.shift()?.resolve({ done: false, value: this.#items.item as T });
        if (isTransient) break;
      }
      if (this.#waiting.length === 0) this.stop();
      else if (isTransient && count > 0) this.nextTurn();
      else this.schedule();
    } catch (error) {
      this.aborted(error);
    }
    return count;
  }

  #take(): boolean {
    // Prevents recursion: `read` of a custom event type can call `next()`.
    if (this.#isTaking) return false;
    this.#isTaking = true;
    try {
      return this.#items.take();
    } finally {
      this.#isTaking = false;
    }
  }

  protected override settle(): void {
    this.#items.settle();
    for (const waiter of this.#waiting) waiter.resolve({ done: true, value: undefined });
    this.#waiting = [];
  }

  /** Ends the turn after {@link turnMilliseconds}: a loop that never waits for an item would otherwise block timers and I/O. */
  #readClock(): void {
    if (++this.#itemsSinceReading < this.#itemsPerReading) return;
    const time = monotonicMilliseconds();
    const isFast = time - this.#clock < this.#itemsSinceReading * slowItemMilliseconds;
    this.#itemsPerReading = isFast ? Math.min(this.#itemsPerReading * 2, maxItemsPerReading) : 1;
    this.#clock = time;
    this.#itemsSinceReading = 0;
    this.#isTurnOver = time - this.#turnStart > turnMilliseconds;
  }

  #beginTurn(): void {
    this.#turnStart = this.#clock = monotonicMilliseconds();
    this.#itemsSinceReading = 0;
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

/**
 * The largest number of records that are held at a time. Holding several records together costs less than holding each
 * separately.
 */
const maxHeldRecords = 64;
/** The largest fraction of the buffer that held records may fill, because all held records are released together. */
const maxHeldFraction = 1 / 8;

/** Returns the events of a buffer as single items. */
export function eventItems<E>(source: RecordSource<E>): ItemSource<E> {
  const { reader, type } = source;
  /** The offset of the next held record; -1 for none. */
  let at = -1;
  return {
    item: undefined,
    isTransient: false,
    take() {
      if (at !== -1) at = reader.locate(at);
      if (at === -1) {
        // Discarded records can follow the last event.
        reader.markDelivered(reader.heldBytes, 0);
        reader.releaseHeld();
        const count = reader.hold(maxHeldRecords, reader.byteLength * maxHeldFraction);
        source.countBatch(count);
        if (count === 0) return false;
        at = reader.locate(0);
        // A second consumer can have released the held records meanwhile.
        if (at === -1) return false;
      }
      const { view, offset, length } = reader;
      // The record is marked before it is decoded: otherwise a record that cannot be decoded would block the buffer forever.
      reader.markDelivered(at, 1);
      if (length < type.size) source.rejectShort(length);
      this.item = type.read(view, offset);
      return true;
    },
    settle: () => reader.releaseHeld(),
  };
}

/** Returns the events of a buffer as arrays of at most `max()` events. */
export function arrayItems<E>(source: RecordSource<E>, max: () => number): ItemSource<E[]> {
  let events: E[] = [];
  const append = (event: E): void => void events.push(event);
  /** The error of the record after the last array. */
  let failure: { readonly error: unknown } | undefined;
  return {
    item: undefined,
    isTransient: false,
    take() {
      // The events before a record that cannot be decoded are delivered first.
      if (failure !== undefined) throw failure.error;
      this.item = events = [];
      try {
        source.reader.drain(source.callback(append), max());
      } catch (error) {
        if (events.length === 0) throw error;
        failure = { error };
      }
      source.countBatch(events.length);
      return events.length > 0;
    },
    settle() {},
  };
}

/**
 * Returns the events of a buffer as batches of at most `max` events, which are read in place.
 *
 * @throws {TypeError} if the event type is not a struct.
 */
export function batchItems<E>(source: RecordSource<E>, max: number): ItemSource<Batch<E>> {
  const { reader } = source;
  const cursor = source.cursor();
  let batch: HeldBatch<E> | undefined;
  return {
    item: undefined,
    isTransient: true,
    take() {
      this.settle();
      const count = reader.hold(max, reader.byteLength);
      source.countBatch(count);
      if (count === 0) return false;
      reader.markDelivered(reader.heldBytes, count);
      this.item = batch = new HeldBatch(source, cursor, count);
      return true;
    },
    settle() {
      if (batch === undefined) return;
      batch.released = true;
      this.item = batch = undefined;
      cursor.release();
      reader.releaseHeld();
    },
  };
}

/**
 * A batch of events in place, from `batches({ inPlace: true })`. Iteration yields one reused object per event, whose getters
 * read the memory of the buffer.
 *
 * A batch is valid until the next one is requested or the iteration ends. After that, reading an event throws an error. To
 * keep an event, copy it: `type.copy(event)`. If a record is shorter than the event type, iteration throws a RangeError when
 * it reaches that record.
 */
export interface Batch<E> extends Iterable<E> {
  /** The number of events. */
  readonly length: number;
  /** True after the events were released to the kernel: they cannot be read any more. */
  readonly released: boolean;
}

/** A batch over the records that a reader holds. */
class HeldBatch<E> implements Batch<E> {
  readonly #source: RecordSource<E>;
  readonly #cursor: StructCursor<E>;
  readonly length: number;
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
    const { reader, type, rejectShort } = this.#source;
    let at = 0;
    for (;;) {
      if (this.released) {
        throw new Error(
          "the batch was released when the next one was requested or the iteration ended: copy events that are needed for longer (type.copy())",
        );
      }
      at = reader.locate(at);
      if (at === -1) return;
      if (reader.length < type.size) rejectShort(reader.length);
      this.#cursor.moveTo(reader.view, reader.offset);
      yield this.#cursor.event;
    }
  }
}

/**
 * Returns a web stream of events, which takes events from the buffer as they are read from the stream.
 *
 * @param open starts an iteration over arrays of at most `max()` events
 */
export function eventStream<E>(
  open: (max: () => number) => AsyncIterableIterator<E[], undefined>,
  highWaterMark: number,
): ReadableStream<E> {
  let max = highWaterMark;
  const batches = open(() => max);
  return new ReadableStream<E>(
    {
      async pull(controller) {
        max = Math.max(controller.desiredSize ?? 1, 1);
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
