import { AioBridge } from "./aio_bridge.ts";
import { type Bridge, type BridgeName, throwUncaught } from "./bridge.ts";
import { IoUringBridge } from "./io_uring_bridge.ts";
import { TimerBridge } from "./timer_bridge.ts";

/** A wait for a descriptor, see {@link watch}. */
export interface Watch extends Disposable {
  /** Asks for one call of `onReady`, once the descriptor is readable. Asking twice is asking once. */
  arm(): void;
  /** Takes that back. */
  disarm(): void;
  /** Makes the process stay alive while this is armed, or not. @default true */
  keepAlive(alive: boolean): void;
}

class ReactorWatch implements Watch {
  readonly #reactor: Reactor;
  readonly fd: () => number;
  readonly onReady: () => void;
  /** The id of the wait under way; 0 for none. */
  armed = 0;
  isReferenced = true;
  #disposed = false;

  constructor(reactor: Reactor, fd: () => number, onReady: () => void) {
    this.#reactor = reactor;
    this.fd = fd;
    this.onReady = onReady;
  }

  arm(): void {
    if (!this.#disposed && this.armed === 0) this.#reactor.arm(this);
  }

  disarm(): void {
    if (this.armed !== 0) this.#reactor.disarm(this);
  }

  keepAlive(alive: boolean): void {
    if (this.isReferenced === alive) return;
    this.isReferenced = alive;
    if (this.armed !== 0) this.#reactor.countReference(alive);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    try {
      this.disarm();
    } finally {
      this.#reactor.remove(this);
    }
  }
}

/** All waits of a thread, over one bridge. It exists while there is a watch. */
class Reactor {
  readonly bridge: Bridge;
  /**
   * A watch is searched for among these by the id of its wait: a table by id would be changed twice for each wake-up, and what
   * the engine throws away of such tables costs megabytes. The search among a thousand takes less than two microseconds.
   */
  readonly #watches: ReactorWatch[] = [];
  /** The number of armed watches that keep the process alive. */
  #references = 0;
  #lastId = 0;

  constructor() {
    this.bridge = openBridge((id) => this.#ready(id));
    this.bridge.keepAlive(false);
  }

  add(watch: ReactorWatch): void {
    this.#watches.push(watch);
  }

  remove(watch: ReactorWatch): void {
    this.#watches.splice(this.#watches.indexOf(watch), 1);
    if (this.#watches.length > 0) return;
    current = undefined;
    this.bridge[Symbol.dispose]();
  }

  arm(watch: ReactorWatch): void {
    const id = ++this.#lastId;
    this.bridge.arm(watch.fd(), id);
    watch.armed = id;
    if (watch.isReferenced) this.countReference(true);
  }

  disarm(watch: ReactorWatch): void {
    const id = watch.armed;
    this.#disarmed(watch);
    this.bridge.cancel(id);
  }

  /** Notes that one more of the armed waits keeps the process alive, or one less. */
  countReference(isMore: boolean): void {
    this.#references += isMore ? 1 : -1;
    if (this.#references === (isMore ? 1 : 0)) this.bridge.keepAlive(isMore);
  }

  #disarmed(watch: ReactorWatch): void {
    watch.armed = 0;
    if (watch.isReferenced) this.countReference(false);
  }

  #ready(id: number): void {
    const watch = this.#watches.find(({ armed }) => armed === id);
    // A wait that was taken back completes as well.
    if (watch === undefined) return;
    try {
      this.#disarmed(watch);
      watch.onReady();
    } catch (error) {
      // Others that became ready together with this one would never wake up.
      throwUncaught(error);
    }
  }
}

/** The bridges, best first. */
const bridges: Readonly<Record<BridgeName, new (onReady: (id: number) => void) => Bridge>> = {
  io_uring: IoUringBridge,
  aio: AioBridge,
  timer: TimerBridge,
};
const bridgeNames = Object.keys(bridges) as readonly BridgeName[];

/** The environment variable that forces a bridge, for tests and for finding out which one is to blame. */
const bridgeVariable = "BUN_BPF_LOOP";

let current: Reactor | undefined;
/** The bridge that the next reactor of this thread takes; `undefined` for the best that works. */
let preferred: BridgeName | undefined;
/** The errors of bridges that are better than the one that was opened last. */
let refusals: readonly Error[] = [];

/**
 * Opens the bridge that is preferred, else the one that the environment forces, else the best that works here.
 *
 * @throws {TypeError} where the environment names one that does not exist
 * @throws {Error} where the one that is preferred or forced does not work here
 */
function openBridge(onReady: (id: number) => void): Bridge {
  const chosen = preferred ?? forcedBridge();
  refusals = [];
  if (chosen !== undefined) return new bridges[chosen](onReady);
  for (const name of ["io_uring", "aio"] as const) {
    try {
      return new bridges[name](onReady);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      refusals = [...refusals, error];
    }
  }
  return new TimerBridge(onReady);
}

function forcedBridge(): BridgeName | undefined {
  const forced = process.env[bridgeVariable];
  if (forced === undefined || forced === "") return undefined;
  if (!Object.hasOwn(bridges, forced)) {
    throw new TypeError(
      `${bridgeVariable}: expected ${bridgeNames.slice(0, -1).join(", ")} or ${bridgeNames.at(-1)}, got ${JSON.stringify(forced)}`,
    );
  }
  return forced as BridgeName;
}

/**
 * Waits on Bun's event loop for a descriptor to become readable, without a thread and without a timer.
 *
 * The process stays alive while a watch is armed. Dispose of the watch before the descriptor is closed.
 *
 * @param fd returns the descriptor, at each arming
 */
export function watch(fd: () => number, onReady: () => void): Watch {
  current ??= new Reactor();
  const added = new ReactorWatch(current, fd, onReady);
  current.add(added);
  return added;
}

/** The event loop of this thread, which the kernel wakes when there is something to consume. Each Worker has its own. */
export interface EventLoop {
  /** The bridge in use; `undefined` while nothing on this thread waits for a consumer. */
  readonly bridge: BridgeName | undefined;
  /** The reasons for which better bridges than the one that was opened last were not taken: what forbids each, and what would allow it. */
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
 * The way in which the kernel wakes this thread's event loop.
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
    return current?.bridge.name;
  },
  get refusals() {
    return refusals;
  },
  use(bridge) {
    if (bridge !== "auto" && !bridgeNames.includes(bridge)) {
      const known = ["auto", ...bridgeNames].map((name) => JSON.stringify(name)).join(", ");
      throw new TypeError(`use: expected one of ${known}, got ${JSON.stringify(bridge)}`);
    }
    const inUse = current?.bridge.name;
    if (bridge !== "auto" && inUse !== undefined && inUse !== bridge) {
      throw new Error(
        `use: the bridge ${inUse} is in use on this thread: end the consumers that wait by it first`,
      );
    }
    preferred = bridge === "auto" ? undefined : bridge;
  },
};
