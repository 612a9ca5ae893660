import { WritableEdge } from "../ffi/poll.ts";
import { type Watch, watch } from "../loop/event_loop.ts";
import { startTimer, stopTimer, type Timer } from "../loop/timers.ts";
import type { UserRingWriter } from "./user_ring_writer.ts";

/** Delay of the first look without a wake-up: programs that drain with BPF_RB_NO_WAKEUP wake nobody, */
const firstLookMilliseconds = 1;
/** doubled each time, up to this. */
const longestLookMilliseconds = 50;

/** A watch for programs that drain something. */
export interface RoomSignal extends Watch {
  /** Takes back what was signalled so far: only what is drained from now on counts. */
  forget(): void;
}

/** Somebody who waits. */
interface Waiter {
  readonly length: number;
  /** Takes the room, which is there. */
  take(): void;
  reject(reason: unknown): void;
}

/**
 * The waits for room in a ring: the first is served first, also where the room would do for a later one.
 *
 * A ring counts as writable unless it is full to the last byte, so that waiting for that would spin wherever the room is
 * merely too little: what is waited for is that programs drain something.
 */
export class RoomQueue implements Disposable {
  waits = 0;
  /** Times that the kernel told that programs had drained something. */
  wakeups = 0;
  /** Looks on a timer. */
  polls = 0;
  readonly #writer: Pick<UserRingWriter, "hasRoomFor" | "refusal">;
  readonly #openSignal: (onRoom: () => void) => RoomSignal;
  readonly #waiters = new Set<Waiter>();
  #signal: RoomSignal | undefined;
  #timer: Timer | undefined;
  #lookMilliseconds = firstLookMilliseconds;
  #isReferenced = true;

  /** @param openSignal called at the first wait */
  constructor(
    writer: Pick<UserRingWriter, "hasRoomFor" | "refusal">,
    openSignal: (onRoom: () => void) => RoomSignal,
  ) {
    this.#writer = writer;
    this.#openSignal = openSignal;
  }

  /** Serves those who wait and for whom there is room by now, and returns whether somebody still waits. */
  serve(): boolean {
    if (this.#waiters.size === 0) return false;
    this.#serve();
    return this.#waiters.size > 0;
  }

  /**
   * Waits for room for a record of so many bytes; the result is that of `take`, called as soon as there is.
   *
   * Rejected with the signal's reason when that aborts before.
   */
  wait<T>(length: number, take: () => T, signal: AbortSignal | undefined): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const settled = (): void => {
      this.#waiters.delete(waiter);
      signal?.removeEventListener("abort", onAbort);
    };
    const onAbort = (): void => {
      waiter.reject(signal?.reason);
      // Whoever is first now may want less. Not at once: this may be called by the code of an event that is being encoded.
      queueMicrotask(() => this.#serve());
    };
    const waiter: Waiter = {
      length,
      take() {
        settled();
        try {
          resolve(take());
        } catch (error) {
          reject(error);
        }
      },
      reject(reason) {
        settled();
        reject(reason);
      },
    };
    // The code of an event may have aborted it, while that was encoded for this.
    if (signal?.aborted === true) {
      reject(signal.reason);
      return promise;
    }
    this.#waiters.add(waiter);
    this.waits++;
    signal?.addEventListener("abort", onAbort, { once: true });
    if (this.#waiters.size === 1) this.#look();
    return promise;
  }

  /** Makes waits keep the process alive, or not. */
  keepAlive(alive: boolean): void {
    this.#isReferenced = alive;
    this.#signal?.keepAlive(alive);
    if (alive) this.#timer?.ref();
    else this.#timer?.unref();
  }

  /** Serves those for whom there is room, and schedules another look if anybody is left. */
  #look(): void {
    stopTimer(this.#timer);
    try {
      this.#signal ??= this.#begin();
      // In this order: what is drained after the look is signalled.
      this.#signal.forget();
      this.#serve();
      if (this.#waiters.size === 0) return;
      this.#signal.arm();
    } catch (error) {
      this.#rejectAll(error);
      return;
    }
    this.#timer = startTimer(() => {
      this.polls++;
      this.#look();
    }, this.#lookMilliseconds);
    if (!this.#isReferenced) this.#timer.unref();
    this.#lookMilliseconds = Math.min(this.#lookMilliseconds * 2, longestLookMilliseconds);
  }

  #serve(): void {
    try {
      for (const waiter of this.#waiters) {
        if (!this.#writer.hasRoomFor(waiter.length)) break;
        this.#lookMilliseconds = firstLookMilliseconds;
        waiter.take();
      }
    } catch (error) {
      this.#rejectAll(error);
    }
    if (this.#waiters.size === 0) this.#rest();
  }

  #begin(): RoomSignal {
    const signal = this.#openSignal(() => {
      this.wakeups++;
      this.#look();
    });
    signal.keepAlive(this.#isReferenced);
    return signal;
  }

  #rejectAll(reason: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(reason);
    this.#rest();
  }

  /** Nobody waits: nothing is looked for. */
  #rest(): void {
    stopTimer(this.#timer);
    this.#signal?.disarm();
    this.#lookMilliseconds = firstLookMilliseconds;
  }

  [Symbol.dispose](): void {
    if (this.#waiters.size > 0) this.#rejectAll(this.#writer.refusal());
    this.#rest();
    this.#signal?.[Symbol.dispose]();
    this.#signal = undefined;
  }
}

/** Waits on the event loop until programs drain something of a user ring buffer. */
export function roomSignal(fd: number, what: string, onRoom: () => void): RoomSignal {
  const edge = new WritableEdge(fd, what);
  try {
    const waiting = watch(() => edge.fd, onRoom);
    return {
      forget: () => edge.forget(),
      arm: () => waiting.arm(),
      disarm: () => waiting.disarm(),
      keepAlive: (alive) => waiting.keepAlive(alive),
      [Symbol.dispose]() {
        waiting[Symbol.dispose]();
        edge[Symbol.dispose]();
      },
    };
  } catch (error) {
    edge[Symbol.dispose]();
    throw error;
  }
}
