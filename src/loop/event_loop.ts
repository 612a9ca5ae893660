import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { BpfError, explainNoDescriptor } from "../ffi/error.ts";
import { AioBridge } from "./aio_bridge.ts";
import { type Bridge, type BridgeName, throwUncaught } from "./bridge.ts";
import { IoUringBridge } from "./io_uring_bridge.ts";
import { TimerBridge } from "./timer_bridge.ts";
import { startTimer, stopTimer, type Timer } from "./timers.ts";

/** A watch of a descriptor, see {@link watch}. */
export interface Watch extends Disposable {
  /**
   * Requests one call of `onReady`, when the descriptor is readable. Does nothing if the watch is armed and has missed no wake-up.
   */
  arm(): void;
  /** Cancels the request. */
  disarm(): void;
  /** Sets whether the process stays alive while this watch is armed. The default is true. */
  keepAlive(alive: boolean): void;
}

/** The bridges, best first. */
const bridges: Readonly<Record<BridgeName, new (onReady: (id: number) => void) => Bridge>> = {
  io_uring: IoUringBridge,
  aio: AioBridge,
  timer: TimerBridge,
};
const bridgeNames = Object.keys(bridges) as readonly BridgeName[];

/** The environment variable that forces a bridge, for tests and to find the one that causes a problem. */
const bridgeVariable = "BUN_BPF_LOOP";

/** The bridge of this thread. It is open while a watch exists. */
let bridge: Bridge | undefined;
/** The bridge to open next; `undefined` for the best one that works. */
let preferred: BridgeName | undefined;
/** The errors of the better bridges that did not work when the bridge was opened last. */
let refusals: readonly Error[] = [];
/** The interval of attempts to open a better bridge, for which no descriptor was left. */
const retryIntervalMs = 2000;
/** The timer of the next attempt, if one is pending. */
let retry: Timer | undefined;

/**
 * Opens the preferred bridge, or the one that the environment variable forces, or the best one that works.
 *
 * @throws {TypeError} if the environment variable names no bridge.
 * @throws {Error} if the preferred or forced bridge does not work.
 */
function openBridge(): Bridge {
  const chosen = preferred ?? forcedBridge();
  refusals = [];
  return chosen === undefined ? openBest() : new bridges[chosen](ready);
}

/** Opens the best bridge that works; returns the present one if no better one does. */
function openBest(present?: Bridge): Bridge {
  refusals = [];
  for (const name of ["io_uring", "aio"] as const) {
    if (name === present?.name) break;
    try {
      return new bridges[name](ready);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      refusals = [...refusals, error];
    }
  }
  return present ?? new TimerBridge(ready);
}

/**
 * Schedules another attempt if no descriptor was left, so that a script that closes descriptors later does not stay with a
 * slow bridge.
 */
function retryLater(): void {
  stopTimer(retry);
  retry = undefined;
  const isLacking = refusals.some(
    (error) => error instanceof BpfError && explainNoDescriptor(error.errno) !== undefined,
  );
  if (!isLacking) return;
  retry = startTimer(improveBridge, retryIntervalMs);
  retry.unref();
}

/** Opens a better bridge if one works now, and moves all waits to it. */
function improveBridge(): void {
  const present = bridge;
  if (present === undefined) return;
  const better = openBest(present);
  if (better !== present) {
    try {
      better.keepAlive(references > 0);
      for (const watch of watches) watch.moveTo(better);
      bridge = better;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      refusals = [...refusals, error];
    }
    (bridge === better ? present : better)[Symbol.dispose]();
  }
  retryLater();
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
 * The watches of this thread, which are searched by the id of their wait. A map by id would be changed twice for each wake-up,
 * and produce megabytes of garbage. A search among a thousand watches takes less than 2 µs.
 */
const watches: DescriptorWatch[] = [];
/** The number of armed watches that keep the process alive. */
let references = 0;
let lastId = 0;

class DescriptorWatch implements Watch {
  readonly #fd: () => number;
  readonly #onReady: () => void;
  readonly #isMissed: () => boolean;
  /** The id of the pending wait; 0 for none. */
  #armed = 0;
  #isReferenced = true;
  #disposed = false;

  constructor(fd: () => number, onReady: () => void, isMissed: () => boolean) {
    this.#fd = fd;
    this.#onReady = onReady;
    this.#isMissed = isMissed;
  }

  get armed(): number {
    return this.#armed;
  }

  arm(): void {
    if (this.#disposed) return;
    if (this.#armed !== 0) {
      if (!this.#isMissed()) return;
      // A new wait ends at once if the descriptor is readable already, and so replaces the missed wake-up.
      this.disarm();
    }
    const id = ++lastId;
    bridge?.arm(this.#fd(), id);
    this.#armed = id;
    if (this.#isReferenced) countReference(true);
  }

  disarm(): void {
    const id = this.#armed;
    if (id === 0) return;
    this.#forget();
    bridge?.cancel(id);
  }

  keepAlive(alive: boolean): void {
    if (this.#isReferenced === alive) return;
    this.#isReferenced = alive;
    if (this.#armed !== 0) countReference(alive);
  }

  /** Moves the wait to another bridge. */
  moveTo(other: Bridge): void {
    if (this.#armed !== 0) other.arm(this.#fd(), this.#armed);
  }

  /** Calls `onReady`. The wait has ended. */
  ready(): void {
    this.#forget();
    this.#onReady();
  }

  #forget(): void {
    this.#armed = 0;
    if (this.#isReferenced) countReference(false);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    try {
      this.disarm();
    } finally {
      watches.splice(watches.indexOf(this), 1);
      if (watches.length === 0) {
        const unused = bridge;
        bridge = undefined;
        stopTimer(retry);
        retry = undefined;
        unused?.[Symbol.dispose]();
      }
    }
  }
}

/** Counts one more, or one fewer, armed wait that keeps the process alive. */
function countReference(isMore: boolean): void {
  references += isMore ? 1 : -1;
  if (references === (isMore ? 1 : 0)) bridge?.keepAlive(isMore);
}

function ready(id: number): void {
  // A cancelled wait also completes, but no watch has its id any more.
  const watch = watches.find(({ armed }) => armed === id);
  try {
    watch?.ready();
  } catch (error) {
    // If this function threw, other watches that became ready at the same time would not be woken.
    throwUncaught(error);
  }
}

/**
 * Creates a watch, which waits on Bun's event loop for a descriptor to become readable.
 *
 * The process stays alive while a watch is armed. Dispose of the watch before the descriptor is closed.
 *
 * @param fd returns the descriptor; it is called for each wait
 * @param isMissed returns true if the descriptor has become readable since the wait started, without a wake-up; it is called
 *   when an armed watch is armed again
 */
export function watch(
  fd: () => number,
  onReady: () => void,
  isMissed: () => boolean = () => false,
): Watch {
  if (bridge === undefined) {
    const opened = openBridge();
    opened.keepAlive(false);
    bridge = opened;
    retryLater();
  } else if (retry !== undefined) improveBridge();
  const added = new DescriptorWatch(fd, onReady, isMissed);
  watches.push(added);
  return added;
}

/**
 * The type of {@link eventLoop}: the way in which the kernel wakes the event loop of this thread. Each Worker has a separate
 * event loop.
 */
export interface EventLoop {
  /** The bridge in use; `undefined` while this thread has no consumer. */
  readonly bridge: BridgeName | undefined;
  /**
   * The errors of the better bridges that did not work when the bridge was opened last, with their causes and remedies.
   *
   * A bridge for which no descriptor was left (EMFILE) is tried again every two seconds, and for each new consumer. When the
   * bridge works, all consumers change to it.
   */
  readonly refusals: readonly Error[];
  /**
   * Chooses the bridge for later consumers. `"auto"`, the default, is the best bridge that works. It takes effect when the
   * bridge in use has no consumers any more.
   *
   * The environment variable `BUN_BPF_LOOP` chooses the bridge for all threads. This method takes precedence over the
   * variable.
   *
   * @throws {TypeError} if the bridge does not exist.
   * @throws {Error} while another bridge is in use.
   */
  use(bridge: BridgeName | "auto"): void;
}

const loop: EventLoop = {
  get bridge() {
    return bridge?.name;
  },
  get refusals() {
    return refusals;
  },
  use(name) {
    if (name !== "auto" && !bridgeNames.includes(name)) {
      const names = ["auto", ...bridgeNames].map((known) => JSON.stringify(known)).join(", ");
      throw new TypeError(`use: expected one of ${names}, got ${JSON.stringify(name)}`);
    }
    const inUse = bridge?.name;
    if (name !== "auto" && inUse !== undefined && inUse !== name) {
      throw new Error(`use: the bridge ${inUse} is in use on this thread: end its consumers first`);
    }
    preferred = name === "auto" ? undefined : name;
  },
};

/**
 * The way in which the kernel wakes this thread's event loop when a ring buffer or perf buffer has data.
 *
 * Bun has no interface to poll the descriptor of a map, so a *bridge* connects it to one that Bun does poll. The first bridge
 * that works is used:
 *
 * - `"io_uring"` (Linux 5.5): the kernel polls the map's descriptor and sends a byte to a socket that Bun polls.
 * - `"aio"` (Linux 4.19), if io_uring is forbidden or absent: the kernel increments an eventfd that Bun reads.
 * - `"timer"`, if neither works: the descriptors are polled every few milliseconds.
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
export const eventLoop: EventLoop = /*@__PURE__*/ Object.defineProperty(loop, inspectCustom, {
  value: (...inspection: InspectArguments) =>
    show("EventLoop", { bridge: bridge?.name, refusals }, inspection),
});
