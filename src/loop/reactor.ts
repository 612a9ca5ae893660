import type { Interest, Polled } from "../ffi/poll.ts";
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

/** Somebody who waits for a descriptor; see {@link watch}. */
export interface Watch extends Disposable {
  /** Asks for one call of `onReady`, once the descriptor is ready. Asking twice is asking once. */
  arm(): void;
  /** Takes that back. */
  disarm(): void;
  /** Whether the process stays alive while this is armed. @default true */
  keepAlive(alive: boolean): void;
}

class ReactorWatch implements Watch, Polled {
  readonly #reactor: Reactor;
  readonly #fd: () => number;
  readonly interest: Interest;
  readonly onReady: () => void;
  /** The id of the wait under way; 0 for none. */
  armed = 0;
  isReferenced = true;
  #disposed = false;

  constructor(reactor: Reactor, fd: () => number, interest: Interest, onReady: () => void) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.interest = interest;
    this.onReady = onReady;
  }

  get fd(): number {
    return this.#fd();
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
   * Who waits is searched for among these: a table by id would be changed twice for each wake-up, and what the engine throws
   * away of such tables costs megabytes. The search among a thousand takes less than two microseconds.
   */
  readonly #watches: ReactorWatch[] = [];
  /** How many of those that are armed are to keep the process alive. */
  #references = 0;
  #lastId = 0;

  constructor(bridge: BridgeName | undefined) {
    this.bridge = openBridge(bridge, (id) => this.#ready(id));
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
    this.bridge.arm(watch, id);
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
    this.#disarmed(watch);
    watch.onReady();
  }
}

let current: Reactor | undefined;
let preferred: BridgeName | undefined;

/**
 * Waits on Bun's event loop for a descriptor to become ready, without a thread and without a timer.
 *
 * The process stays alive while a watch is armed. Dispose of the watch before the descriptor is closed.
 *
 * @param fd asked for at each arming
 */
export function watch(
  fd: () => number,
  onReady: () => void,
  interest: Interest = "readable",
): Watch {
  current ??= new Reactor(preferred);
  const added = new ReactorWatch(current, fd, interest, onReady);
  current.add(added);
  return added;
}

/** The bridge in use on this thread; `undefined` while nothing is watched. */
export function bridgeInUse(): BridgeName | undefined {
  return current?.bridge.name;
}

/** Which bridge the next reactor of this thread takes; `undefined` for the best that works. */
export function preferBridge(bridge: BridgeName | undefined): void {
  preferred = bridge;
}
