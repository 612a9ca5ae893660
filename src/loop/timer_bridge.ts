import { type Polled, readyNow } from "../ffi/poll.ts";
import { type Bridge, deliver } from "./bridge.ts";

const shortestMilliseconds = 1;
/** Where nothing happens, looks become rarer, down to this: the delay that is the price of it. */
const longestMilliseconds = 8;

interface Wait extends Polled {
  readonly id: number;
}

/** Looks at the descriptors on a timer: for where the kernel has no way at all to wake the event loop. */
export class TimerBridge implements Bridge {
  readonly name = "timer";
  readonly #onReady: (id: number) => void;
  readonly #waits = new Map<number, Wait>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #milliseconds = shortestMilliseconds;
  #alive = true;

  constructor(onReady: (id: number) => void) {
    this.#onReady = onReady;
  }

  arm({ fd, interest }: Polled, id: number): void {
    this.#waits.set(id, { fd, interest, id });
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
    this.#timer = setTimeout(() => this.#look(), this.#milliseconds);
    if (!this.#alive) this.#timer.unref();
  }

  #look(): void {
    this.#timer = undefined;
    try {
      const ready = readyNow([...this.#waits.values()]);
      for (const { id } of ready) this.#waits.delete(id);
      this.#milliseconds =
        ready.length > 0
          ? shortestMilliseconds
          : Math.min(this.#milliseconds * 2, longestMilliseconds);
      const ids = ready.map(({ id }) => id);
      deliver(ids, this.#onReady);
    } finally {
      if (this.#waits.size > 0 && this.#timer === undefined) this.#start();
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#waits.clear();
  }
}
