/**
 * @module Timers that go on while a test has fake timers.
 *
 * `jest.useFakeTimers()` of bun:test does not replace functions: the engine's own timers stop, and so do `Bun.sleep()` and the
 * clocks (`performance.now()`, `Bun.nanoseconds()`). Consumers therefore use `monotonicMilliseconds()`. Timers that were set before
 * go on, and so does `setImmediate()`. Other libraries replace the functions, so these are read at import.
 */
import { monotonicMilliseconds } from "../ffi/clock.ts";

const { setTimeout, clearTimeout, setImmediate, clearImmediate } = globalThis;

/** A pending call. It keeps the process alive until it is made, or until `unref()`. */
export interface Timer {
  ref(): unknown;
  unref(): unknown;
}

/** A call at the next turn of the event loop. */
export type Turn = ReturnType<typeof setImmediate>;

/** Calls `fn` after `milliseconds`. */
export function startTimer(fn: () => void, milliseconds: number): Timer {
  // bun:test marks the engine's function so. A timer that is set meanwhile would be lost when the test ends.
  return "clock" in setTimeout ? new TurnTimer(fn, milliseconds) : setTimeout(fn, milliseconds);
}

/** Cancels a timer; does nothing if it has fired. */
export function stopTimer(timer: Timer | undefined): void {
  if (timer instanceof TurnTimer) timer.stop();
  else clearTimeout(timer as ReturnType<typeof setTimeout> | undefined);
}

/** Calls `fn` after pending timers and I/O. */
export function startTurn(fn: () => void): Turn {
  return setImmediate(fn);
}

/** Cancels a turn; does nothing if it is over. */
export function stopTurn(turn: Turn | undefined): void {
  clearImmediate(turn);
}

/** A timer that reads the clock in each turn of the event loop, the only way while timers are fake. */
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
