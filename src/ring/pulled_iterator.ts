import type { ConsumerParts, LoopConsumer } from "./consumer_slot.ts";
import { Pump } from "./pump.ts";

/** After so many items without a wait, timers and I/O get their turn. */
const itemsPerTurn = 1024;

/**
 * Asynchronous iteration over a buffer: something for each `next()`, and a sleep in the kernel when there is nothing.
 *
 * It ends by `return()`, by an error, by the disposal of the buffer, and by its signal: then the `next()` that waits, or the one
 * after it, is rejected with the signal's reason.
 */
export abstract class PulledIterator<T> implements AsyncIterableIterator<T>, LoopConsumer {
  readonly #pump: Pump;
  readonly #signal: AbortSignal | undefined;
  readonly #onEnd: () => void;
  readonly #onAbort = (): void => this.#fail(this.#signal?.reason);
  /** Calls of `next()` that wait, in order. */
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  #sinceTurn = 0;
  #ended = false;
  #isTaking = false;
  /** Why the next call of `next()` is to be rejected. */
  #failure: { readonly reason: unknown } | undefined;
  /** What {@link take} took. */
  protected taken: T | undefined;

  constructor({ signal, onEnd, ...parts }: ConsumerParts) {
    this.#signal = signal;
    this.#onEnd = onEnd;
    this.#pump = new Pump({ ...parts, look: () => this.look() });
  }

  begin(): void {
    if (this.#signal?.aborted === true) this.#onAbort();
    else this.#signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** Puts the next item into {@link taken}; false when there is none. What it throws ends the iteration. */
  protected abstract take(): boolean;

  /** Gives back to the kernel what was delivered, where that is not done by {@link take}. */
  protected abstract settle(): void;

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#ended) return this.#afterEnd();
    const mayTake = this.#waiting.length === 0 && this.#sinceTurn < itemsPerTurn;
    try {
      if (mayTake && this.#take()) {
        this.#sinceTurn++;
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
    this.#sinceTurn = 0;
    let count = 0;
    try {
      while (this.#waiting.length > 0 && this.#take()) {
        count++;
        this.#waiting.shift()?.resolve({ done: false, value: this.taken as T });
      }
      if (this.#waiting.length > 0) this.#pump.schedule();
      else this.#pump.stop();
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
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#pump[Symbol.dispose]();
    this.settle();
    this.#onEnd();
    for (const waiter of this.#waiting) waiter.resolve({ done: true, value: undefined });
    this.#waiting = [];
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
