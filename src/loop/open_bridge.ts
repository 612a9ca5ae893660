import { AioBridge } from "./aio_bridge.ts";
import type { Bridge, BridgeFactory, BridgeName } from "./bridge.ts";
import { IoUringBridge } from "./io_uring_bridge.ts";
import { TimerBridge } from "./timer_bridge.ts";

/** The bridges, best first. */
const factories: Readonly<Record<BridgeName, BridgeFactory>> = {
  io_uring: (onReady) => new IoUringBridge(onReady),
  aio: (onReady) => new AioBridge(onReady),
  timer: (onReady) => new TimerBridge(onReady),
};

/** The names of the bridges, best first. */
export const bridgeNames = Object.keys(factories) as readonly BridgeName[];

/** Forces a bridge, for tests and for finding out which one is to blame. */
const bridgeVariable = "BUN_BPF_LOOP";

/** Why bridges that are better than the one in use were not taken. */
let refusals: readonly Error[] = [];

/** What stood in the way of the better bridges when this thread's last one was opened. */
export function bridgeRefusals(): readonly Error[] {
  return refusals;
}

/**
 * Opens the bridge that is wanted, else the one that the environment forces, else the best that works here.
 *
 * @throws {TypeError} where the environment names one that does not exist
 * @throws {Error} where the one that is wanted or forced does not work here
 */
export function openBridge(wanted: BridgeName | undefined, onReady: (id: number) => void): Bridge {
  const chosen = wanted ?? forcedBridge();
  refusals = [];
  if (chosen !== undefined) return factories[chosen](onReady);
  for (const factory of [factories.io_uring, factories.aio]) {
    try {
      return factory(onReady);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      refusals = [...refusals, error];
    }
  }
  return factories.timer(onReady);
}

function forcedBridge(): BridgeName | undefined {
  const forced = process.env[bridgeVariable];
  if (forced === undefined || forced === "") return undefined;
  if (!Object.hasOwn(factories, forced)) {
    throw new TypeError(
      `${bridgeVariable}: expected ${bridgeNames.slice(0, -1).join(", ")} or ${bridgeNames.at(-1)}, got ${JSON.stringify(forced)}`,
    );
  }
  return forced as BridgeName;
}
