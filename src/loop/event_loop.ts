import type { BridgeName } from "./bridge.ts";
import { bridgeInUse, bridgeNames, bridgeRefusals, preferBridge } from "./reactor.ts";

/** How the kernel wakes this thread's event loop when there is something to consume. Each Worker has its own. */
export interface EventLoop {
  /** The bridge in use; `undefined` while nothing on this thread waits for a consumer. */
  readonly bridge: BridgeName | undefined;
  /** Why a better bridge than the one that was opened last was not taken: what forbids it, and what would allow it. */
  readonly refusals: readonly Error[];
  /**
   * Takes this bridge from now on, or with `"auto"` (the default) the best that works, once the one in use is not any more.
   *
   * The environment variable `BUN_BPF_LOOP` does the same from outside, for all threads; this comes before it.
   *
   * @throws {TypeError} when there is no such bridge
   * @throws {Error} while another one is in use: end its consumers first
   */
  use(bridge: BridgeName | "auto"): void;
}

/**
 * How the kernel wakes this thread's event loop.
 *
 * Bun polls descriptors of its own only. `"io_uring"` (kernel 5.5) has the kernel poll a map's and send a byte to a socket
 * that Bun polls; `"aio"` (kernel 4.19) counts up an eventfd that Bun reads, where io_uring is forbidden; `"timer"` looks every
 * few milliseconds, where both are. The first that works is taken.
 *
 * @example
 * ```ts
 * import { eventLoop, RingBuf, t } from "bun-bpf";
 * console.log(eventLoop.bridge); // undefined
 * eventLoop.use("aio");
 * using ring = new RingBuf({ size: 64 * 1024, event: t.u32 });
 * using subscription = ring.subscribe(() => {});
 * console.log(eventLoop.bridge, subscription.active); // aio true
 * ```
 */
export const eventLoop: EventLoop = {
  get bridge() {
    return bridgeInUse();
  },
  get refusals() {
    return bridgeRefusals();
  },
  use(bridge) {
    if (bridge !== "auto" && !bridgeNames.includes(bridge)) {
      const known = ["auto", ...bridgeNames].map((name) => JSON.stringify(name)).join(", ");
      throw new TypeError(`use: expected one of ${known}, got ${JSON.stringify(bridge)}`);
    }
    const inUse = bridgeInUse();
    if (bridge !== "auto" && inUse !== undefined && inUse !== bridge) {
      throw new Error(
        `use: the bridge ${inUse} is in use on this thread: end the consumers that wait by it first`,
      );
    }
    preferBridge(bridge === "auto" ? undefined : bridge);
  },
};
