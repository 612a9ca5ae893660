import { hasHungUp } from "../ffi/poll.ts";
import { type Watch, watch } from "../loop/reactor.ts";

/** One of several perf events that are waited for together. */
export interface WatchedSource {
  readonly fd: number;
  /** Whether so much was written since it was read that the kernel wakes, or did. */
  readonly isDue: boolean;
}

/** How long after the last arming is looked once more whether a wake-up was swallowed. */
const secondLookMilliseconds = 10;

/**
 * Waits for several perf events as for one: `onReady` is called once for all that become ready together. Whoever arms it has
 * read all that there was just before.
 *
 * A perf event says that it is ready once, to whoever asks first, and not again until more is written. io_uring and AIO take it
 * for a question that can be repeated: a wake-up that meets the beginning of their wait makes them ask twice, and believe the
 * second answer. So what is written is looked at after each arming, and once more a little later, as io_uring begins a wait
 * anew by itself when the interrupt for a record comes after the record was read. When nothing happens, no more is looked.
 *
 * The waits for events that did not become ready go on from one arming to the next, also while this is disarmed: with one for
 * each CPU, to begin and end all of them each time costs more than the wake-ups that nobody asked for, of which there is one
 * an event at most.
 *
 * A descriptor that hung up is ready for ever: it is waited for no more.
 */
export function mergedWatch(sources: readonly WatchedSource[], onReady: () => void): Watch {
  return new MergedWatch(sources, onReady);
}

class MergedWatch implements Watch {
  readonly #sources: readonly WatchedSource[];
  readonly #watches = new Set<Watch>();
  readonly #onReady: () => void;
  #isArmed = false;
  #isReferenced = true;
  #isReporting = false;
  /** What looks once more, for as long as there were armings since it did. */
  #secondLook: ReturnType<typeof setTimeout> | undefined;
  #wasArmed = false;

  constructor(sources: readonly WatchedSource[], onReady: () => void) {
    this.#sources = sources;
    this.#onReady = onReady;
    for (const source of sources) {
      const one = watch(
        () => source.fd,
        () => this.#ready(source, one),
      );
      this.#watches.add(one);
    }
    this.#reference();
  }

  arm(): void {
    this.#isArmed = true;
    this.#reference();
    for (const one of this.#watches) one.arm();
    this.#reportDue();
    this.#wasArmed = true;
    if (this.#secondLook === undefined) this.#lookLater();
  }

  disarm(): void {
    this.#isArmed = false;
    this.#reference();
  }

  keepAlive(alive: boolean): void {
    this.#isReferenced = alive;
    this.#reference();
  }

  /** Waits that go on while this is disarmed keep no process alive. */
  #reference(): void {
    for (const one of this.#watches) one.keepAlive(this.#isArmed && this.#isReferenced);
  }

  #ready(source: WatchedSource, one: Watch): void {
    // A wake-up for nothing can be a belated one, after which the next comes when more is written.
    if (!source.isDue && hasHungUp(source.fd)) {
      this.#watches.delete(one);
      one[Symbol.dispose]();
      return;
    }
    this.#report();
  }

  #reportDue(): void {
    if (this.#sources.some(({ isDue }) => isDue)) this.#report();
  }

  #report(): void {
    if (this.#isReporting) return;
    this.#isReporting = true;
    // After the others that became ready together with this one.
    queueMicrotask(() => {
      this.#isReporting = false;
      if (!this.#isArmed) return;
      this.disarm();
      this.#onReady();
    });
  }

  #lookLater(): void {
    this.#wasArmed = false;
    this.#secondLook = setTimeout(() => {
      this.#secondLook = undefined;
      if (!this.#isArmed) return;
      this.#reportDue();
      if (this.#wasArmed) this.#lookLater();
    }, secondLookMilliseconds);
    this.#secondLook.unref();
  }

  [Symbol.dispose](): void {
    this.#isArmed = false;
    clearTimeout(this.#secondLook);
    for (const one of this.#watches) one[Symbol.dispose]();
    this.#watches.clear();
  }
}
