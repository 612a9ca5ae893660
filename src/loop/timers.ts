/**
 * @module Timers that also run while a test has fake timers.
 *
 * `jest.useFakeTimers()` of bun:test does not replace functions. It stops new timers of the engine, `Bun.sleep()` and the
 * clocks (`performance.now()`, `Bun.nanoseconds()`), but not earlier timers and `setImmediate()`. So consumers use
 * `monotonicMilliseconds()`. Other libraries for fake timers replace the global functions, so this module reads these
 * functions when it is imported.
 */
import { monotonicMilliseconds } from "../ffi/clock.ts";

const { setTimeout, clearTimeout, setImmediate, clearImmediate } = globalThis;

/** A timer. It keeps the process alive until it fires or is stopped, unless `unref()` was called. */
export interface Timer {
  ref(): unknown;
  unref(): unknown;
}

/** A pending call in the next turn of the event loop. */
export type Turn = ReturnType<typeof setImmediate>;

/** Calls `fn` after `milliseconds`. */
export function startTimer(fn: () => void, milliseconds: number): Timer {
  // bun:test adds the property `clock` while timers are fake. A timer of the engine would be lost when the test ends.
  return "clock" in setTimeout ? new TurnTimer(fn, milliseconds) : setTimeout(fn, milliseconds);
}

/** Cancels a timer; does nothing if it has fired. */
export function stopTimer(timer: Timer | undefined): void {
  if (timer instanceof TurnTimer) timer.stop();
  else clearTimeout(timer as ReturnType<typeof setTimeout> | undefined);
}

/** Calls `fn` in the next turn of the event loop, after pending timers and I/O. */
export function startTurn(fn: () => void): Turn {
  return setImmediate(fn);
}

/** Cancels a pending call; does nothing if it was made already. */
export function stopTurn(turn: Turn | undefined): void {
  clearImmediate(turn);
}

/** A timer that reads the clock in each turn of the event loop. It is used only while timers are fake. */
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
