import { pollNow } from "../ffi/poll.ts";
import type { Bridge } from "./bridge.ts";
import { startTimer, stopTimer, type Timer } from "./timers.ts";

const minIntervalMs = 1;
/** The longest interval between two polls. The interval grows while no descriptor is readable. */
const maxIntervalMs = 8;

/** Bridge that polls the descriptors with a timer. It is for machines where the kernel cannot wake the event loop. */
export class TimerBridge implements Bridge {
  readonly name = "timer";
  readonly #onReady: (id: number) => void;
  /** Descriptors by the id of the wait. */
  readonly #waits = new Map<number, number>();
  #timer: Timer | undefined;
  #intervalMs = minIntervalMs;
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
    this.#timer = startTimer(() => this.#poll(), this.#intervalMs);
    if (!this.#alive) this.#timer.unref();
  }

  #poll(): void {
    this.#timer = undefined;
    try {
      const bits = pollNow([...this.#waits.values()]);
      const ready = [...this.#waits.keys()].filter((_, index) => bits[index] !== 0);
      for (const id of ready) this.#waits.delete(id);
      this.#intervalMs =
        ready.length > 0 ? minIntervalMs : Math.min(this.#intervalMs * 2, maxIntervalMs);
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
