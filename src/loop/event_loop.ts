import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { BpfError, explainNoDescriptor } from "../ffi/error.ts";
import { AioBridge } from "./aio_bridge.ts";
import { type Bridge, type BridgeName, throwUncaught } from "./bridge.ts";
import { IoUringBridge } from "./io_uring_bridge.ts";
import { TimerBridge } from "./timer_bridge.ts";
import { startTimer, stopTimer, type Timer } from "./timers.ts";

/** A wait for a descriptor, see {@link watch}. */
export interface Watch extends Disposable {
  /** Asks for one call of `onReady`, once the descriptor is readable. Asking twice is asking once. */
  arm(): void;
  /** Takes that back. */
  disarm(): void;
  /** Makes the process stay alive while this is armed, or not. @default true */
  keepAlive(alive: boolean): void;
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

/** The bridge of this thread. It is open while there is a watch. */
let bridge: Bridge | undefined;
/** The bridge that is opened next; `undefined` for the best that works. */
let preferred: BridgeName | undefined;
/** The errors of bridges that are better than the one that was opened last. */
let refusals: readonly Error[] = [];
/** The time between two attempts to open a better bridge, for which no descriptor was left. */
const retryMilliseconds = 2000;
/** The next attempt, if one is to come. */
let retry: Timer | undefined;

/**
 * Opens the bridge that is preferred, else the one that the environment forces, else the best that works here.
 *
 * @throws {TypeError} where the environment names one that does not exist
 * @throws {Error} where the one that is preferred or forced does not work here
 */
function openBridge(): Bridge {
  const chosen = preferred ?? forcedBridge();
  refusals = [];
  return chosen === undefined ? openBest() : new bridges[chosen](ready);
}

/** Opens the best bridge that works here, if that is better than the present one. */
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

/** Retries later where no descriptor was left, so that a program that closes some does not keep the slow bridge. */
function retryLater(): void {
  stopTimer(retry);
  retry = undefined;
  const isLacking = refusals.some(
    (error) => error instanceof BpfError && explainNoDescriptor(error.errno) !== undefined,
  );
  if (!isLacking) return;
  retry = startTimer(improveBridge, retryMilliseconds);
  retry.unref();
}

/** Opens a better bridge if one works by now, and moves all waits to it. */
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
 * The watches of this thread. One is searched for by the id of its wait: a table by id would be changed twice for each wake-up,
 * and what the engine throws away of such tables costs megabytes. The search among a thousand takes less than two microseconds.
 */
const watches: DescriptorWatch[] = [];
/** The number of armed watches that keep the process alive. */
let references = 0;
let lastId = 0;

class DescriptorWatch implements Watch {
  readonly #fd: () => number;
  readonly #onReady: () => void;
  readonly #isMissed: () => boolean;
  /** The id of the wait under way; 0 for none. */
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
      // Only at its start does a wait ask whether the descriptor is readable.
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

  /** Reports that the descriptor is readable. */
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

/** Notes that one more of the armed waits keeps the process alive, or one less. */
function countReference(isMore: boolean): void {
  references += isMore ? 1 : -1;
  if (references === (isMore ? 1 : 0)) bridge?.keepAlive(isMore);
}

function ready(id: number): void {
  // A wait that was taken back completes as well.
  const watch = watches.find(({ armed }) => armed === id);
  try {
    watch?.ready();
  } catch (error) {
    // Others that became ready together with this one would never wake up.
    throwUncaught(error);
  }
}

/**
 * Waits on Bun's event loop for a descriptor to become readable, without a thread and without a timer.
 *
 * The process stays alive while a watch is armed. Dispose of the watch before the descriptor is closed.
 *
 * @param fd returns the descriptor, at each arming
 * @param isMissed returns true where the descriptor has become readable since it was armed although nobody was woken: asked
 * when it is armed again
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

/** The event loop of this thread, which the kernel wakes when there is something to consume. Each Worker has its own. */
export interface EventLoop {
  /** The bridge in use; `undefined` while nothing on this thread waits for a consumer. */
  readonly bridge: BridgeName | undefined;
  /**
   * The reasons for which better bridges than the one that was opened last were not taken: what forbids each, and what would
   * allow it. One for which no descriptor was left (`EMFILE`) is tried again every two seconds, and with each new wait; the
   * consumers then use it.
   */
  readonly refusals: readonly Error[];
  /**
   * Takes this bridge from now on, or with `"auto"` (the default) the best that works, once the one in use is not any more.
   *
   * The environment variable `BUN_BPF_LOOP` does the same from outside, for all threads; this comes before it.
   *
   * @throws {TypeError} when the bridge does not exist
   * @throws {Error} while another one is in use: end its consumers first
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
      throw new Error(
        `use: the bridge ${inUse} is in use on this thread: end the consumers that wait by it first`,
      );
    }
    preferred = name === "auto" ? undefined : name;
  },
};

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
export const eventLoop: EventLoop = /*@__PURE__*/ Object.defineProperty(loop, inspectCustom, {
  value: (...inspection: InspectArguments) =>
    show("EventLoop", { bridge: bridge?.name, refusals }, inspection),
});
