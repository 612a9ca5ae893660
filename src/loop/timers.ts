/**
 * @module Timers that go on while a test has fake ones.
 *
 * `jest.useFakeTimers()` of bun:test puts no other functions in place: those of the engine stop, however somebody got them, and
 * so do `Bun.sleep()` and the clocks (`performance.now()`, `Bun.nanoseconds()`), which is why consumers take
 * `monotonicMilliseconds()`. Timers that were set before go on, and `setImmediate()` always does. Other libraries do put other
 * functions in place, so that these are taken at import.
 */
import { monotonicMilliseconds } from "../ffi/clock.ts";

const { setTimeout, clearTimeout, setImmediate, clearImmediate } = globalThis;

/** A call that is to come once. It keeps the process alive until then, or until `unref()`. */
export interface Timer {
  ref(): unknown;
  unref(): unknown;
}

/** A call at the next turn of the event loop. */
export type Turn = ReturnType<typeof setImmediate>;

/** Calls `fn` after so many milliseconds. */
export function startTimer(fn: () => void, milliseconds: number): Timer {
  // The mark that bun:test puts on the engine's function. What is set meanwhile would be lost when the test ends.
  return "clock" in setTimeout ? new TurnTimer(fn, milliseconds) : setTimeout(fn, milliseconds);
}

/** Takes back a timer; one that is over is left alone. */
export function stopTimer(timer: Timer | undefined): void {
  if (timer instanceof TurnTimer) timer.stop();
  else clearTimeout(timer as ReturnType<typeof setTimeout> | undefined);
}

/** Calls `fn` after timers and I/O have had their turn. */
export function startTurn(fn: () => void): Turn {
  return setImmediate(fn);
}

/** Takes back a turn; one that is over is left alone. */
export function stopTurn(turn: Turn | undefined): void {
  clearImmediate(turn);
}

/** Looks at the clock in each turn of the event loop: nothing else is left while timers are fake. */
class TurnTimer implements Timer {
  readonly #fn: () => void;
  readonly #due: number;
  #turn: Turn | undefined;
  #isReferenced = true;

  constructor(fn: () => void, milliseconds: number) {
    this.#fn = fn;
    this.#due = monotonicMilliseconds() + milliseconds;
    this.#wait();
  }

  ref(): void {
    this.#isReferenced = true;
    this.#turn?.ref();
  }

  unref(): void {
    this.#isReferenced = false;
    this.#turn?.unref();
  }

  stop(): void {
    stopTurn(this.#turn);
  }

  #wait(): void {
    this.#turn = startTurn(() => {
      if (monotonicMilliseconds() < this.#due) this.#wait();
      else this.#fn();
    });
    if (!this.#isReferenced) this.#turn.unref();
  }
}
