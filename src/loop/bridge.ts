import type { Polled } from "../ffi/poll.ts";

/**
 * A way for the kernel to wake Bun's event loop when a descriptor becomes ready.
 *
 * Bun has no public interface to poll a descriptor of any kind; a bridge goes through something that it does poll.
 */
export interface Bridge extends Disposable {
  readonly name: BridgeName;
  /** Reports `id` once when the descriptor is ready, or soon when it is already. Ids are never used twice. */
  arm(polled: Polled, id: number): void;
  /** Takes back an {@link arm} that was not reported yet. */
  cancel(id: number): void;
  /** Whether waiting keeps the process alive. */
  keepAlive(alive: boolean): void;
}

/**
 * What wakes the event loop, best first: `"io_uring"` (kernel 5.5), `"aio"` (4.19; where io_uring is forbidden), `"timer"`
 * (anywhere; it looks by itself, every few milliseconds).
 */
export type BridgeName = "io_uring" | "aio" | "timer";

/** Makes a bridge that calls `onReady` with the ids that it reports. */
export type BridgeFactory = (onReady: (id: number) => void) => Bridge;

/** Makes an error an uncaught one: for what nobody calls who could catch it, so that the rest goes on. */
export function throwUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/**
 * Reports each of the ids that completed together.
 *
 * What one `onReady` throws becomes an uncaught error and not the end of the batch: the others would never wake up.
 */
export function deliver(ids: readonly number[], onReady: (id: number) => void): void {
  for (const id of ids) {
    try {
      onReady(id);
    } catch (error) {
      throwUncaught(error);
    }
  }
}
