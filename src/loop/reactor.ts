import { AioBridge } from "./aio_bridge.ts";
import type { Bridge, BridgeFactory, BridgeName } from "./bridge.ts";
import { IoUringBridge } from "./io_uring_bridge.ts";

const factories: Readonly<Record<BridgeName, BridgeFactory>> = {
  io_uring: (onReady) => new IoUringBridge(onReady),
  aio: (onReady) => new AioBridge(onReady),
};

/** Forces a bridge, for tests and for finding out which one is to blame. */
const bridgeVariable = "BUN_BPF_LOOP";

/** Somebody who waits for a descriptor; see {@link watch}. */
export interface Watch extends Disposable {
  /** Asks for one call of `onReady`, once the descriptor is readable. Asking twice is asking once. */
  arm(): void;
  /** Takes that back. */
  disarm(): void;
}

class ReactorWatch implements Watch {
  readonly #reactor: Reactor;
  readonly fd: () => number;
  readonly onReady: () => void;
  /** The id of the wait under way; 0 for none. */
  armed = 0;
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

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.disarm();
    this.#reactor.remove(this);
  }
}

/** All waits of a thread, over one bridge. It exists while there is a watch. */
class Reactor {
  readonly bridge: Bridge;
  readonly #watches = new Set<ReactorWatch>();
  readonly #armed = new Map<number, ReactorWatch>();
  #lastId = 0;

  constructor() {
    this.bridge = openBridge((id) => this.#ready(id));
    this.bridge.keepAlive(false);
  }

  add(watch: ReactorWatch): void {
    this.#watches.add(watch);
  }

  remove(watch: ReactorWatch): void {
    this.#watches.delete(watch);
    if (this.#watches.size > 0) return;
    current = undefined;
    this.bridge[Symbol.dispose]();
  }

  arm(watch: ReactorWatch): void {
    const id = ++this.#lastId;
    this.bridge.arm(watch.fd(), id);
    watch.armed = id;
    this.#armed.set(id, watch);
    if (this.#armed.size === 1) this.bridge.keepAlive(true);
  }

  disarm(watch: ReactorWatch): void {
    this.bridge.cancel(watch.armed);
    this.#disarmed(watch);
  }

  #disarmed(watch: ReactorWatch): void {
    this.#armed.delete(watch.armed);
    watch.armed = 0;
    if (this.#armed.size === 0) this.bridge.keepAlive(false);
  }

  #ready(id: number): void {
    const watch = this.#armed.get(id);
    // A wait that was taken back completes as well.
    if (watch === undefined) return;
    this.#disarmed(watch);
    watch.onReady();
  }
}

let current: Reactor | undefined;

/**
 * Waits on Bun's event loop for a descriptor to become readable, without a thread and without a timer.
 *
 * The process stays alive while a watch is armed. Dispose of the watch before the descriptor is closed.
 *
 * @param fd asked for at each arming
 */
export function watch(fd: () => number, onReady: () => void): Watch {
  current ??= new Reactor();
  const added = new ReactorWatch(current, fd, onReady);
  current.add(added);
  return added;
}

/** The bridge in use on this thread; `undefined` while nothing is watched. */
export function bridgeInUse(): BridgeName | undefined {
  return current?.bridge.name;
}

function openBridge(onReady: (id: number) => void): Bridge {
  const forced = process.env[bridgeVariable];
  if (forced !== undefined && forced !== "") {
    if (!Object.hasOwn(factories, forced)) {
      throw new TypeError(
        `${bridgeVariable}: expected ${Object.keys(factories).join(" or ")}, got ${JSON.stringify(forced)}`,
      );
    }
    return factories[forced as BridgeName](onReady);
  }
  const refusals: unknown[] = [];
  for (const factory of Object.values(factories)) {
    try {
      return factory(onReady);
    } catch (error) {
      refusals.push(error);
    }
  }
  throw new AggregateError(
    refusals,
    `nothing on this system can wake the event loop: ${refusals.map(String).join("; ")}`,
  );
}
