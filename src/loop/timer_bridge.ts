import { pollNow } from "../ffi/poll.ts";
import type { Bridge } from "./bridge.ts";
import { startTimer, stopTimer, type Timer } from "./timers.ts";

const shortestMilliseconds = 1;
/** The longest delay between two looks, which become rarer where nothing happens. */
const longestMilliseconds = 8;

/** Looks at the descriptors on a timer: for where the kernel has no way at all to wake the event loop. */
export class TimerBridge implements Bridge {
  readonly name = "timer";
  readonly #onReady: (id: number) => void;
  /** Descriptors by the id of the wait. */
  readonly #waits = new Map<number, number>();
  #timer: Timer | undefined;
  #milliseconds = shortestMilliseconds;
  #alive = true;

  constructor(onReady: (id: number) => void) {
    this.#onReady = onReady;
  }

  arm(fd: number, id: number): void {
    this.#waits.set(id, fd);
    if (this.#timer === undefined) this.#start();
  }

  cancel(id: number): void {
    this.#waits.delete(id);
  }

  keepAlive(alive: boolean): void {
    this.#alive = alive;
    if (alive) this.#timer?.ref();
    else this.#timer?.unref();
  }

  #start(): void {
    this.#timer = startTimer(() => this.#look(), this.#milliseconds);
    if (!this.#alive) this.#timer.unref();
  }

  #look(): void {
    this.#timer = undefined;
    try {
      const bits = pollNow([...this.#waits.values()]);
      const ready = [...this.#waits.keys()].filter((_, index) => bits[index] !== 0);
      for (const id of ready) this.#waits.delete(id);
      this.#milliseconds =
        ready.length > 0
          ? shortestMilliseconds
          : Math.min(this.#milliseconds * 2, longestMilliseconds);
      for (const id of ready) this.#onReady(id);
    } finally {
      if (this.#waits.size > 0 && this.#timer === undefined) this.#start();
    }
  }

  [Symbol.dispose](): void {
    stopTimer(this.#timer);
    this.#waits.clear();
  }
}
