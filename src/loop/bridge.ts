/**
 * A way for the kernel to wake Bun's event loop when a descriptor becomes readable.
 *
 * Bun has no public interface to poll a descriptor of any kind; a bridge goes through something that it does poll. It is
 * constructed with a function that it calls with each id that it reports, and that throws nothing.
 */
export interface Bridge extends Disposable {
  readonly name: BridgeName;
  /** Reports `id` once when the descriptor is readable, or soon when it is already. Ids are never used twice. */
  arm(fd: number, id: number): void;
  /** Takes back an {@link arm} that was not reported yet. */
  cancel(id: number): void;
  /** Makes waits keep the process alive, or not. */
  keepAlive(alive: boolean): void;
}

/**
 * The ways to wake the event loop, best first: `"io_uring"` (kernel 5.5), `"aio"` (4.19; where io_uring is forbidden), `"timer"`
 * (anywhere; it looks by itself, every few milliseconds).
 */
export type BridgeName = "io_uring" | "aio" | "timer";

/** Makes an error an uncaught one: for what nobody calls who could catch it, so that the rest goes on. */
export function throwUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
