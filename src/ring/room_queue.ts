import { WritableEdge } from "../ffi/poll.ts";
import { type Watch, watch } from "../loop/event_loop.ts";
import { startTimer, stopTimer, type Timer } from "../loop/timers.ts";
import type { UserRingWriter } from "./user_ring_writer.ts";

/**
 * The delay before the first check for room on a timer, because a drain with BPF_RB_NO_WAKEUP causes no wake-up. It doubles
 * with each check.
 */
const minPollMilliseconds = 1;
/** The upper limit of the delay between two checks. */
const maxPollMilliseconds = 50;

/** A watch that becomes ready when programs drain a user ring buffer. */
export interface RoomSignal extends Watch {
  /** Discards earlier signals: only later drains make it ready. */
  forget(): void;
}

/** A call that waits for room. */
interface Waiter {
  readonly length: number;
  /** Uses the room, which must be available. */
  take(): void;
  reject(reason: unknown): void;
}

/**
 * The queue of the calls that wait for room in a user ring buffer. The calls are served in order, even if there is room for
 * a later call but not for the first one.
 *
 * The kernel reports a ring as writable unless it is completely full. Waiting for that state would spin while there is too
 * little room, so the queue waits for a drain instead.
 */
export class RoomQueue implements Disposable {
  /** The number of waits. */
  waits = 0;
  /** The number of times that the kernel signalled a drain. */
  wakeups = 0;
  /** The number of checks on a timer. */
  polls = 0;
  readonly #writer: Pick<UserRingWriter, "hasRoomFor" | "disposedError">;
  readonly #openSignal: (onRoom: () => void) => RoomSignal;
  readonly #waiters = new Set<Waiter>();
  #signal: RoomSignal | undefined;
  #timer: Timer | undefined;
  #pollMilliseconds = minPollMilliseconds;
  #isReferenced = true;

  /** @param openSignal returns a watch for drains; called at the first wait */
  constructor(
    writer: Pick<UserRingWriter, "hasRoomFor" | "disposedError">,
    openSignal: (onRoom: () => void) => RoomSignal,
  ) {
    this.#writer = writer;
    this.#openSignal = openSignal;
  }

  /** Serves the waiting calls for which there is room now. Returns true if others still wait. */
  serve(): boolean {
    if (this.#waiters.size === 0) return false;
    this.#serve();
    return this.#waiters.size > 0;
  }

  /**
   * Waits for room for a record of `length` bytes, then calls `take` and resolves with its result.
   *
   * The promise rejects with the reason of the signal if the signal aborts first.
   */
  wait<T>(length: number, take: () => T, signal: AbortSignal | undefined): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const settled = (): void => {
      this.#waiters.delete(waiter);
      signal?.removeEventListener("abort", onAbort);
    };
    const onAbort = (): void => {
      waiter.reject(signal?.reason);
      // The next call may need less room. It is served in a microtask, because the code of an event that is being encoded
      // can have aborted the signal.
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
    // The code of the event that was encoded for this call can have aborted the signal.
    if (signal?.aborted === true) {
      reject(signal.reason);
      return promise;
    }
    this.#waiters.add(waiter);
    this.waits++;
    signal?.addEventListener("abort", onAbort, { once: true });
    if (this.#waiters.size === 1) this.#serveAndWait();
    return promise;
  }

  /** Sets whether waits keep the process alive. */
  keepAlive(alive: boolean): void {
    this.#isReferenced = alive;
    this.#signal?.keepAlive(alive);
    if (alive) this.#timer?.ref();
    else this.#timer?.unref();
  }

  /** Serves the calls for which there is room, and waits for a drain if others remain. */
  #serveAndWait(): void {
    stopTimer(this.#timer);
    try {
      this.#signal ??= this.#createSignal();
      // Earlier signals are discarded before the check for room, so that a drain after the check is signalled.
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
      this.#serveAndWait();
    }, this.#pollMilliseconds);
    if (!this.#isReferenced) this.#timer.unref();
    this.#pollMilliseconds = Math.min(this.#pollMilliseconds * 2, maxPollMilliseconds);
  }

  #serve(): void {
    try {
      for (const waiter of this.#waiters) {
        if (!this.#writer.hasRoomFor(waiter.length)) break;
        this.#pollMilliseconds = minPollMilliseconds;
        waiter.take();
      }
    } catch (error) {
      this.#rejectAll(error);
    }
    if (this.#waiters.size === 0) this.#stopWaiting();
  }

  #createSignal(): RoomSignal {
    const signal = this.#openSignal(() => {
      this.wakeups++;
      this.#serveAndWait();
    });
    signal.keepAlive(this.#isReferenced);
    return signal;
  }

  #rejectAll(reason: unknown): void {
    for (const waiter of this.#waiters) waiter.reject(reason);
    this.#stopWaiting();
  }

  /** Stops the timer and the watch after the last wait. */
  #stopWaiting(): void {
    stopTimer(this.#timer);
    this.#signal?.disarm();
    this.#pollMilliseconds = minPollMilliseconds;
  }

  [Symbol.dispose](): void {
    if (this.#waiters.size > 0) this.#rejectAll(this.#writer.disposedError());
    this.#stopWaiting();
    this.#signal?.[Symbol.dispose]();
    this.#signal = undefined;
  }
}

/** Returns a watch that calls `onRoom` from the event loop when programs have drained a user ring buffer. */
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
