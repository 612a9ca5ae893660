import { PERF_EVENT_ARRAY } from "../maps/map_types.ts";
import { checkBoolean, checkCount } from "../check/arguments.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { hasHungUp } from "../ffi/poll.ts";
import { type Watch, watch } from "../loop/event_loop.ts";
import { startTimer, stopTimer, type Timer } from "../loop/timers.ts";
import { type AnyType, checkPlainType, MapKind } from "../maps/map_options.ts";
import type { CommonMapOptions } from "../maps/map_spec.ts";
import { sampleSize } from "./perf_reader.ts";
import { checkBufferSize, type RingBufTypes } from "./ring_options.ts";
import { u32 } from "../types/integer.ts";

/** The type of a perf buffer's events, and the buffers that are made for them. */
export interface PerfBufferTypes<E extends AnyType> extends RingBufTypes<E> {
  /**
   * Bytes of the buffer of each CPU: a power of two and a multiple of the page size (4096 on x86-64), at most 2^30.
   *
   * @default 65536
   */
  readonly size?: number;
  /**
   * Bytes that programs write on a CPU from one wake-up of the consumer to the next: 1 to half of `size`. What is below that
   * waits until more comes, or until somebody looks: `flush()`, or `maxLatency` of the consumer.
   *
   * @default none: each record wakes
   */
  readonly watermark?: number;
  /**
   * Records that programs write on a CPU between two wake-ups of the consumer, instead of `watermark`. They may take at most half
   * of `size`. Fewer records wait as below a watermark.
   *
   * Records can be longer than the event's type. If a buffer is full before it has this many, the kernel does not wake the
   * consumer, which then reads it after `maxLatency`.
   *
   * @default none: each record wakes
   */
  readonly wakeupEvents?: number;
  /**
   * Makes new records overwrite the oldest ones, read or not: a flight recorder, which is read when something has happened.
   * `stats.overwrittenBytes` counts the missed bytes, as the number of records is not known.
   *
   * The kernel wakes a consumer once for each half of the buffer. Reading copies the records, in the order in which each CPU wrote
   * them. While it copies (some microseconds), new records of that CPU are dropped and counted as lost. Requires Linux 4.7.
   *
   * @default false
   */
  readonly overwrite?: boolean;
  /** Starts paused, see {@link PerfBuffer.pause}. @default false */
  readonly paused?: boolean;
}

/** Options of {@link PerfBuffer}. */
export interface PerfBufferOptions<E extends AnyType>
  extends CommonMapOptions, PerfBufferTypes<E> {}

/** The buffers of a {@link PerfBuffer}. */
export interface PerfLayout {
  /** Bytes of the buffer of each CPU. */
  readonly size: number;
  readonly watermark: number | undefined;
  readonly wakeupEvents: number | undefined;
  readonly overwrite: boolean;
  readonly paused: boolean;
}

const defaultSize = 64 * 1024;
const maxSize = 2 ** 30;
const typeNames = ["event", "size", "watermark", "wakeupEvents", "overwrite", "paused"] as const;

/** Returns the layout that options ask for, checked. @throws {TypeError | RangeError} */
export function perfLayout(options: PerfBufferTypes<AnyType>): PerfLayout {
  const { event, size = defaultSize, watermark, wakeupEvents } = options;
  const { overwrite = false, paused = false } = options;
  checkBoolean("overwrite", overwrite);
  checkBoolean("paused", paused);
  checkBufferSize(size, maxSize);
  // A record that does not fit writes nothing and so wakes nobody: above the half, long ones could wait for each other.
  if (watermark !== undefined) checkCount("watermark", watermark, 1, size / 2);
  if (wakeupEvents !== undefined) {
    if (watermark !== undefined) {
      throw new TypeError("wakeupEvents: there is a watermark already: give only one of the two");
    }
    const most = Math.floor(size / 2 / sampleSize(event.size));
    checkCount("wakeupEvents", wakeupEvents, 1, Math.max(most, 1));
  }
  if (!overwrite) return { size, watermark, wakeupEvents, overwrite, paused };
  if (watermark !== undefined || wakeupEvents !== undefined) {
    throw new TypeError(
      `overwrite: such a buffer wakes the consumer once for each half: leave out ${watermark === undefined ? "wakeupEvents" : "watermark"}`,
    );
  }
  return { size, watermark: size / 2, wakeupEvents, overwrite, paused };
}

/** The kind of {@link PerfBuffer}. */
export const perfKind: MapKind<
  "PerfBuffer",
  PerfBufferTypes<AnyType>,
  PerfBufferOptions<AnyType>
> = /*@__PURE__*/ new MapKind({
  row: PERF_EVENT_ARRAY,
  className: "PerfBuffer",
  types: typeNames,
  options: [],
  sizes(types: PerfBufferTypes<AnyType>) {
    checkPlainType("event", types.event);
    perfLayout(types);
    return { keySize: u32.size, valueSize: u32.size };
  },
  // Ids of CPUs may be left out: there can be fewer CPUs than this.
  complete: () => ({ maxEntries: Math.max(...possibleCpus()) + 1 }),
});

/** One of several perf events that are waited for together. */
export interface WatchedSource {
  readonly fd: number;
  /** True when so much was written since it was read that the kernel wakes, or did. */
  readonly isDue: boolean;
}

/** The time after the last arming at which is looked once more whether a wake-up was swallowed. */
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
export class MergedWatch implements Watch {
  /** The waits by their source, without those that hung up. */
  readonly #watches = new Map<WatchedSource, Watch>();
  readonly #sources: Set<WatchedSource>;
  readonly #onReady: () => void;
  #isArmed = false;
  #isReferenced = true;
  #isReporting = false;
  /** The timer that looks once more, for as long as there were armings since it did. */
  #secondLook: Timer | undefined;
  #wasArmed = false;

  constructor(sources: readonly WatchedSource[], onReady: () => void) {
    this.#sources = new Set(sources);
    this.#onReady = onReady;
    for (const source of sources) this.#begin(source);
    this.#reference();
  }

  /** Adds a source to wait for. */
  add(source: WatchedSource): void {
    this.#sources.add(source);
    const one = this.#begin(source);
    this.#reference();
    if (this.#isArmed) one.arm();
  }

  /** Removes a source. */
  remove(source: WatchedSource): void {
    this.#sources.delete(source);
    this.#watches.get(source)?.[Symbol.dispose]();
    this.#watches.delete(source);
  }

  /** Reports sources that are due although no wake-up came. */
  lookAgain(): void {
    if (this.#isArmed) this.#reportDue();
  }

  #begin(source: WatchedSource): Watch {
    const one = watch(
      () => source.fd,
      () => this.#ready(source),
    );
    this.#watches.set(source, one);
    return one;
  }

  arm(): void {
    this.#isArmed = true;
    this.#reference();
    for (const one of this.#watches.values()) one.arm();
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
    for (const one of this.#watches.values()) one.keepAlive(this.#isArmed && this.#isReferenced);
  }

  #ready(source: WatchedSource): void {
    // A wake-up for nothing can be a belated one, after which the next comes when more is written.
    if (!source.isDue && hasHungUp(source.fd)) {
      this.#watches.get(source)?.[Symbol.dispose]();
      this.#watches.delete(source);
      return;
    }
    this.#report();
  }

  #reportDue(): void {
    for (const { isDue } of this.#sources) if (isDue) this.#report();
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
    this.#secondLook = startTimer(() => {
      this.#secondLook = undefined;
      if (!this.#isArmed) return;
      this.#reportDue();
      if (this.#wasArmed) this.#lookLater();
    }, secondLookMilliseconds);
    this.#secondLook.unref();
  }

  [Symbol.dispose](): void {
    this.#isArmed = false;
    stopTimer(this.#secondLook);
    for (const one of this.#watches.values()) one[Symbol.dispose]();
    this.#watches.clear();
  }
}
