import { type ConsumerParts, type LoopConsumer, turnMilliseconds } from "./consumer_slot.ts";
import { Pump } from "./pump.ts";

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
