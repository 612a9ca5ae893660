/**
 * A way for the kernel to wake Bun's event loop when a descriptor becomes readable.
 *
 * Bun has no public interface to poll an arbitrary descriptor; a bridge connects the descriptor to one that Bun does poll.
 * The constructor gets a function that the bridge calls with the id of each wait that has ended. That function does not
 * throw.
 */
export interface Bridge extends Disposable {
  readonly name: BridgeName;
  /**
   * Starts a wait. Reports `id` once, when the descriptor is readable, or at once if it already is. An id is used only once.
   */
  arm(fd: number, id: number): void;
  /** Cancels a wait that was not reported yet. */
  cancel(id: number): void;
  /** Sets whether waits keep the process alive. */
  keepAlive(alive: boolean): void;
}

/**
 * A way to wake the event loop. In order of preference, the best first: `"io_uring"` (Linux 5.5), `"aio"` (Linux 4.19, also where
 * io_uring is forbidden), and `"timer"` (everywhere), which polls every few milliseconds.
 */
export type BridgeName = "io_uring" | "aio" | "timer";

/** Throws an error as an uncaught exception, where no caller could catch it, and lets the present code continue. */
export function throwUncaught(error: unknown): void {
  // The error is not thrown here, because Bun would print this source location instead of that of the error.
  queueMicrotask(() => reportError(error));
}
