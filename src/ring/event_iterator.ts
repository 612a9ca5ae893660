import type { Watch } from "../loop/reactor.ts";
import type { RingReader } from "./reader.ts";

/** After so many events without a wait, timers and I/O get their turn. */
const eventsPerTurn = 1024;
/** A record that a program has reserved is submitted within microseconds: looking again after this is soon enough. */
const firstRetryMilliseconds = 1;
/** One that takes longer (its program sleeps, or never submits it) is asked for twice as late each time, up to this. */
const longestRetryMilliseconds = 50;

type Decode<E> = (view: DataView, offset: number, length: number) => E;

/** Asynchronous iteration over a ring: one event for each `next()`, and a sleep in the kernel when there is none. */
export class EventIterator<E> implements AsyncIterableIterator<E> {
  readonly #reader: RingReader;
  readonly #decode: Decode<E>;
  readonly #onEnd: () => void;
  readonly #watch: Watch;
  /** Calls of `next()` that wait, in order. */
  #waiting: PromiseWithResolvers<IteratorResult<E, undefined>>[] = [];
  #sinceTurn = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryMilliseconds = firstRetryMilliseconds;
  #turn: ReturnType<typeof setImmediate> | undefined;
  #ended = false;
  #event: E | undefined;
  /** Made once, so that an event costs no closure. */
  readonly #take = (view: DataView, offset: number, length: number): void => {
    this.#event = this.#decode(view, offset, length);
  };

  constructor(
    reader: RingReader,
    decode: Decode<E>,
    watch: (onReady: () => void) => Watch,
    onEnd: () => void,
  ) {
    this.#reader = reader;
    this.#decode = decode;
    this.#onEnd = onEnd;
    this.#watch = watch(() => this.#wake());
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<E, undefined>> {
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    const mayTake = this.#waiting.length === 0 && this.#sinceTurn < eventsPerTurn;
    try {
      if (mayTake && this.#takeOne()) {
        return Promise.resolve({ done: false, value: this.#event as E });
      }
      const waiter = Promise.withResolvers<IteratorResult<E, undefined>>();
      this.#waiting.push(waiter);
      if (mayTake) this.#sleep();
      else if (this.#waiting.length === 1) this.#turn = setImmediate(() => this.#wake());
      return waiter.promise;
    } catch (error) {
      // Also when the wait cannot begin: an iteration that is stuck would keep the ring from its next consumer.
      this.finish();
      return Promise.reject(error);
    }
  }

  async return(): Promise<IteratorResult<E, undefined>> {
    this.finish();
    return { done: true, value: undefined };
  }

  /** Ends the iteration: whoever waits gets `done`. */
  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#retry);
    clearImmediate(this.#turn);
    this.#watch[Symbol.dispose]();
    this.#onEnd();
    for (const waiter of this.#waiting) waiter.resolve({ done: true, value: undefined });
    this.#waiting = [];
  }

  #takeOne(): boolean {
    if (this.#reader.drain(this.#take, 1) === 0) return false;
    this.#sinceTurn++;
    this.#retryMilliseconds = firstRetryMilliseconds;
    return true;
  }

  #wake(): void {
    this.#sinceTurn = 0;
    try {
      while (this.#waiting.length > 0 && this.#takeOne()) {
        this.#waiting.shift()?.resolve({ done: false, value: this.#event as E });
      }
      if (this.#waiting.length > 0) this.#sleep();
    } catch (error) {
      const waiter = this.#waiting.shift();
      this.finish();
      waiter?.reject(error);
    }
  }

  #sleep(): void {
    // A reserved record at the head makes the ring readable at once, again and again: that wait would spin.
    if (this.#reader.end === "busy") {
      this.#retry = setTimeout(() => this.#wake(), this.#retryMilliseconds);
      this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, longestRetryMilliseconds);
    } else {
      this.#retryMilliseconds = firstRetryMilliseconds;
      this.#watch.arm();
    }
  }
}
