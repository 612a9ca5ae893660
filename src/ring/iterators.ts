import { type ConsumerParts, type LoopConsumer, Pump, turnMilliseconds } from "./consumer.ts";
import type { Decoder, InPlace, RawRecordCallback } from "./drain_code.ts";
import type { RecordReader } from "./reader.ts";
import type { ConsumerCounts } from "./stats.ts";

/** So many items are handed out between two looks at the clock, */
const itemsBetweenClocks = 64;
/** unless what is done with each takes so long. */
const longItemMilliseconds = 0.02;

/**
 * Asynchronous iteration over a buffer: something for each `next()`, and a sleep in the kernel when there is nothing.
 *
 * It ends by `return()`, by an error, by the disposal of the buffer, and by its signal: then the `next()` that waits, or the one
 * after it, is rejected with the signal's reason.
 */
export abstract class PulledIterator<T> implements AsyncIterableIterator<T>, LoopConsumer {
  readonly #pump: Pump;
  readonly #parts: ConsumerParts;
  readonly #onAbort = (): void => this.#fail(this.#parts.signal?.reason);
  /** Calls of `next()` that wait, in order. */
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  /** When the loop's turn began, as far as is known, and when the clock was looked at last. */
  #turnStart = performance.now();
  #clock = this.#turnStart;
  /** Items since then, and how many there may be until the next time. */
  #items = 0;
  #itemsUntilClock = 1;
  #isTurnOver = false;
  #ended = false;
  #isTaking = false;
  /** Why the next call of `next()` is to be rejected. */
  #failure: { readonly reason: unknown } | undefined;
  /** What {@link take} took. */
  protected taken: T | undefined;

  constructor(parts: ConsumerParts) {
    this.#parts = parts;
    this.#pump = new Pump({ ...parts, look: () => this.look() });
  }

  begin(): void {
    const { signal } = this.#parts;
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Puts the next item into {@link taken}; false when there is none. What it throws ends the iteration. */
  protected abstract take(): boolean;

  /** Whether an item is valid only until the next one is taken: then whoever waits for it has a turn to use it. */
  protected readonly isOneAtATime: boolean = false;

  /** Gives back to the kernel what was delivered, where that is not done by {@link take}. */
  protected abstract settle(): void;

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#ended) return this.#afterEnd();
    // A callback of another consumer may run still, which has ended: what it was called with is being given back.
    const mayTake =
      this.#waiting.length === 0 && !this.#isTurnOver && !this.#parts.reader.isDraining;
    try {
      if (mayTake && this.#take()) {
        this.#watchClock();
        return Promise.resolve({ done: false, value: this.taken as T });
      }
      const waiter = Promise.withResolvers<IteratorResult<T, undefined>>();
      this.#waiting.push(waiter);
      if (mayTake) this.#pump.schedule();
      else if (this.#waiting.length === 1) this.#pump.nextTurn();
      return waiter.promise;
    } catch (error) {
      // Also when the wait cannot begin: an iteration that is stuck would keep the ring from its next consumer.
      this.finish();
      return Promise.reject(error);
    }
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.finish();
    return { done: true, value: undefined };
  }

  /** Hands out what is there to whoever waits; how many items that were. */
  look(): number {
    if (this.#parts.reader.isDraining) return 0;
    this.#beginTurn();
    let count = 0;
    try {
      while (this.#waiting.length > 0 && this.#take()) {
        count++;
        this.#waiting.shift()?.resolve({ done: false, value: this.taken as T });
        if (this.isOneAtATime) break;
      }
      if (this.#waiting.length === 0) this.#pump.stop();
      else if (this.isOneAtATime && count > 0) this.#pump.nextTurn();
      else this.#pump.schedule();
    } catch (error) {
      this.#fail(error);
    }
    return count;
  }

  #take(): boolean {
    // The code of an event's own type may ask for the next one.
    if (this.#isTaking) return false;
    this.#isTaking = true;
    try {
      return this.take();
    } finally {
      this.#isTaking = false;
    }
  }

  keepAlive(alive: boolean): void {
    this.#pump.keepAlive(alive);
  }

  /** Ends the iteration: whoever waits gets `done`. */
  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    const { signal, reader, onEnd } = this.#parts;
    signal?.removeEventListener("abort", this.#onAbort);
    try {
      this.#pump[Symbol.dispose]();
    } finally {
      reader.interrupt();
      this.settle();
      onEnd();
      for (const waiter of this.#waiting) waiter.resolve({ done: true, value: undefined });
      this.#waiting = [];
    }
  }

  /** Looks at the clock now and then: whoever asks for one item after another would keep timers and I/O waiting. */
  #watchClock(): void {
    if (++this.#items < this.#itemsUntilClock) return;
    const now = performance.now();
    const isQuick = now - this.#clock < this.#items * longItemMilliseconds;
    this.#itemsUntilClock = isQuick ? Math.min(this.#itemsUntilClock * 2, itemsBetweenClocks) : 1;
    this.#clock = now;
    this.#items = 0;
    this.#isTurnOver = now - this.#turnStart > turnMilliseconds;
  }

  #beginTurn(): void {
    this.#turnStart = this.#clock = performance.now();
    this.#items = 0;
    this.#isTurnOver = false;
  }

  #fail(reason: unknown): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#failure = { reason };
    this.finish();
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
 * Events that lie in the buffer still: each is shown by one and the same object, whose getters read the buffer's memory.
 *
 * It is valid until the next batch is asked for, or the iteration ends: afterwards reading an event throws. Copy what is
 * needed for longer (`type.copy(event)`).
 */
export interface Batch<E> extends Iterable<E> {
  /** How many events it has. */
  readonly length: number;
  /** Whether it is over: its events were given back. */
  readonly released: boolean;
}

/** What a batch works with. */
export interface BatchParts<E> {
  readonly reader: RecordReader;
  readonly cursor: InPlace<E>;
  readonly size: number;
  readonly refuse: (length: number) => never;
}

/** The batch of what a reader holds. */
export class HeldBatch<E> implements Batch<E> {
  readonly #parts: BatchParts<E>;
  readonly length: number;
  #released = false;

  constructor(parts: BatchParts<E>, length: number) {
    this.#parts = parts;
    this.length = length;
  }

  get released(): boolean {
    return this.#released;
  }

  *[Symbol.iterator](): Generator<E, void, undefined> {
    const { reader, cursor, size, refuse } = this.#parts;
    let at = 0;
    for (;;) {
      if (this.#released) {
        throw new Error(
          "this batch is over: its events were given back when the next one was asked for",
        );
      }
      at = reader.locate(at);
      if (at === -1) return;
      if (reader.length < size) refuse(reader.length);
      cursor.moveTo(reader.view, reader.offset);
      yield cursor.event;
    }
  }

  /** Its events are the programs' from now on. */
  release(): void {
    this.#released = true;
  }
}

/** Asynchronous iteration over a buffer, an array of events at a time. */
export class BatchIterator<E> extends PulledIterator<E[]> {
  readonly #parts: ConsumerParts;
  readonly #append: RawRecordCallback;
  readonly #max: () => number;
  #events: E[] = [];
  /** Why the record after the events that were delivered last could not be. */
  #refusal: { readonly error: unknown } | undefined;

  /**
   * @param decoding makes the callback that hands each event on
   * @param max events in the next array at the most
   */
  constructor(
    parts: ConsumerParts,
    decoding: (fn: (event: E) => void) => RawRecordCallback,
    max: () => number,
  ) {
    super(parts);
    this.#parts = parts;
    this.#max = max;
    this.#append = decoding((event) => {
      this.#events.push(event);
    });
  }

  protected override take(): boolean {
    const { reader, counts } = this.#parts;
    // What came before a record that cannot be is delivered first; the error comes with the next call.
    if (this.#refusal !== undefined) throw this.#refusal.error;
    this.#events = [];
    try {
      reader.drain(this.#append, this.#max());
    } catch (error) {
      if (this.#events.length === 0) throw error;
      this.#refusal = { error };
    }
    this.taken = this.#events;
    counts.found(this.#events.length);
    return this.#events.length > 0;
  }

  protected override settle(): void {}
}

/** Asynchronous iteration over a buffer, some records in place at a time. */
export class InPlaceBatchIterator<E> extends PulledIterator<HeldBatch<E>> {
  protected override readonly isOneAtATime = true;
  readonly #counts: ConsumerCounts;
  readonly #parts: BatchParts<E>;
  readonly #max: number;
  readonly #onRelease: () => void;

  /** @param onRelease called when the events of a batch may not be read any more */
  constructor(parts: ConsumerParts, batch: BatchParts<E>, max: number, onRelease: () => void) {
    super(parts);
    this.#counts = parts.counts;
    this.#parts = batch;
    this.#max = max;
    this.#onRelease = onRelease;
  }

  protected override take(): boolean {
    this.settle();
    const { reader } = this.#parts;
    const count = reader.hold(this.#max, reader.size);
    this.#counts.found(count);
    if (count === 0) return false;
    reader.pass(reader.heldBytes, count);
    this.taken = new HeldBatch(this.#parts, count);
    return true;
  }

  protected override settle(): void {
    if (this.taken === undefined) return;
    this.taken.release();
    this.taken = undefined;
    this.#onRelease();
    this.#parts.reader.giveBack();
  }
}

/** So many records are looked at together, which costs less than one by one. */
const recordsAtOnce = 64;
/** Of the buffer, how much they may fill: their room is given back together, too. */
const partAtOnce = 1 / 8;

/** Asynchronous iteration over a buffer, event by event. */
export class EventIterator<E> extends PulledIterator<E> {
  readonly #reader: RecordReader;
  readonly #counts: ConsumerCounts;
  readonly #type: Decoder<E>;
  readonly #refuse: (length: number) => never;
  /** Where the next record is among those that are held; -1 for none. */
  #at = -1;

  constructor(parts: ConsumerParts, type: Decoder<E>, refuse: (length: number) => never) {
    super(parts);
    this.#reader = parts.reader;
    this.#counts = parts.counts;
    this.#type = type;
    this.#refuse = refuse;
  }

  protected override take(): boolean {
    const reader = this.#reader;
    if (this.#at !== -1) this.#at = reader.locate(this.#at);
    if (this.#at === -1) {
      // Behind the last event there may be records that programs gave up.
      reader.pass(reader.heldBytes, 0);
      reader.giveBack();
      const count = reader.hold(recordsAtOnce, reader.size * partAtOnce);
      this.#counts.found(count);
      if (count === 0) return false;
      this.#at = reader.locate(0);
    }
    const { view, offset, length } = reader;
    // Before it is decoded: a record that cannot be counts as delivered, or it would stand in the way for ever.
    reader.pass(this.#at, 1);
    if (length < this.#type.size) this.#refuse(length);
    this.taken = this.#type.read(view, offset);
    return true;
  }

  protected override settle(): void {
    this.#reader.giveBack();
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
