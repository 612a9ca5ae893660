/**
 * A way for the kernel to wake Bun's event loop when a descriptor becomes readable.
 *
 * Bun has no public interface to poll a descriptor of any kind; a bridge goes through something that it does poll.
 */
export interface Bridge extends Disposable {
  readonly name: BridgeName;
  /** Reports `id` once when `fd` is readable, or at once when it is already. Ids are never used twice. */
  arm(fd: number, id: number): void;
  /** Takes back an {@link arm} that was not reported yet. */
  cancel(id: number): void;
  /** Whether waiting keeps the process alive. */
  keepAlive(alive: boolean): void;
}

/** The bridges, best first. */
export type BridgeName = "io_uring" | "aio";

/** Makes a bridge that calls `onReady` with the ids that it reports. */
export type BridgeFactory = (onReady: (id: number) => void) => Bridge;
