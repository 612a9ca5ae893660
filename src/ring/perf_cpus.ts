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

/** Options of a perf buffer that is created or opened: the type of its events, and the sizes and wake-ups of its buffers. */
export interface PerfBufferTypes<E extends AnyType> extends RingBufTypes<E> {
  /**
   * The size of the buffer of each CPU in bytes: a power of two and a multiple of the page size (4096 on x86-64), at most 2^30.
   *
   * @default 65536
   */
  readonly size?: number;
  /**
   * The number of bytes that programs write on a CPU between two wake-ups of the consumer: an integer from 1 to half of
   * `size`. Fewer bytes stay unread until more are written, `maxLatency` of the consumer has passed, or `flush()` is called.
   *
   * @default none: each record wakes the consumer
   */
  readonly watermark?: number;
  /**
   * The number of records that programs write on a CPU between two wake-ups of the consumer, instead of `watermark`: an integer
   * from 1 to the number of events that fill half of `size`. Fewer records stay unread as with a watermark.
   *
   * Records can be longer than the event type. If they fill a buffer before this number is reached, the kernel does not wake
   * the consumer, which then reads them only after `maxLatency`.
   *
   * @default none: each record wakes the consumer
   */
  readonly wakeupEvents?: number;
  /**
   * Makes new records overwrite the oldest ones, even if those were not read: a flight recorder. `stats.overwrittenBytes`
   * counts the bytes that were overwritten unread; the number of those records is unknown.
   *
   * The kernel wakes the consumer once for each half of the buffer. A read copies the records, in the order in which each CPU
   * wrote them. During the copy (some microseconds) new records of that CPU are dropped and count as lost.
   *
   * @default false
   */
  readonly overwrite?: boolean;
  /**
   * Creates the buffer paused, see {@link PerfBuffer.pause}.
   *
   * @default false
   */
  readonly paused?: boolean;
}

/** Options of {@link PerfBuffer}. */
export interface PerfBufferOptions<E extends AnyType>
  extends CommonMapOptions, PerfBufferTypes<E> {}

/** Options of {@link PerfEvents}: those of a perf buffer, checked and with defaults. */
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

/**
 * Checks the options of a perf buffer and adds the defaults.
 *
 * @throws {TypeError | RangeError} if an option is of the wrong type or out of range.
 */
export function perfLayout(options: PerfBufferTypes<AnyType>): PerfLayout {
  const { event, size = defaultSize, watermark, wakeupEvents } = options;
  const { overwrite = false, paused = false } = options;
  checkBoolean("overwrite", overwrite);
  checkBoolean("paused", paused);
  checkBufferSize(size, maxSize);
  // A record that does not fit causes no wake-up. With a watermark above half the size, a buffer could be too full for a long
  // record and still below the watermark, and the consumer would never wake.
  if (watermark !== undefined) checkCount("watermark", watermark, 1, size / 2);
  if (wakeupEvents !== undefined) {
    if (watermark !== undefined) {
      throw new TypeError("wakeupEvents: cannot be combined with watermark: remove one of them");
    }
    const maxEvents = Math.floor(size / 2 / sampleSize(event.size));
    checkCount("wakeupEvents", wakeupEvents, 1, Math.max(maxEvents, 1));
  }
  if (!overwrite) return { size, watermark, wakeupEvents, overwrite, paused };
  if (watermark !== undefined || wakeupEvents !== undefined) {
    throw new TypeError(
      `overwrite: the kernel wakes the consumer once for each half of such a buffer: remove ${watermark === undefined ? "wakeupEvents" : "watermark"}`,
    );
  }
  return { size, watermark: size / 2, wakeupEvents, overwrite, paused };
}

/** The map kind of {@link PerfBuffer}. */
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
  // The numbers of CPUs can have gaps, so a map with as many entries as CPUs can be too small.
  complete: () => ({ maxEntries: Math.max(...possibleCpus()) + 1 }),
});

/** A perf event that {@link MergedWatch} waits for. */
export interface WatchedSource {
  readonly fd: number;
  /** True if unread records suffice for a wake-up by the kernel, which may have been sent already. */
  readonly isDue: boolean;
}

/** The delay between arming and the second check for a swallowed wake-up. */
const recheckMilliseconds = 10;

/**
 * A watch that waits for several perf events. It calls `onReady` once for all events that become ready together. The
 * consumer must have read all records before it arms the watch.
 *
 * poll(2) reports a perf event as ready only once, and again when more is written (`perf_poll()` exchanges its state with
 * 0). io_uring and AIO expect that they can poll repeatedly: if a wake-up arrives when their wait starts, they poll twice
 * and use the second result, so the wake-up is swallowed. This class therefore compares the positions after each arming. It
 * compares them once more after {@link recheckMilliseconds}, because io_uring restarts a wait by itself if the interrupt for
 * a record arrives after the record was read. An idle watch does not check any further.
 *
 * Waits for events that were not ready stay armed in io_uring, even while this watch is disarmed. With one wait per CPU, ending
 * and starting all of them each time would cost more than the unneeded wake-ups, of which there is at most one per event.
 *
 * A descriptor that reports a hang-up is always ready and is not waited for any more.
 */
export class MergedWatch implements Watch {
  /** The waits by source, except those that reported a hang-up. */
  readonly #watches = new Map<WatchedSource, Watch>();
  readonly #sources: Set<WatchedSource>;
  readonly #onReady: () => void;
  #isArmed = false;
  #isReferenced = true;
  #isReporting = false;
  /** The timer of the recheck. It is restarted if the watch was armed since the last recheck. */
  #recheck: Timer | undefined;
  #wasArmed = false;

  constructor(sources: readonly WatchedSource[], onReady: () => void) {
    this.#sources = new Set(sources);
    this.#onReady = onReady;
    for (const source of sources) this.#begin(source);
    this.#reference();
  }

  /** Adds a source. */
  add(source: WatchedSource): void {
    this.#sources.add(source);
    const wait = this.#begin(source);
    this.#reference();
    if (this.#isArmed) wait.arm();
  }

  /** Removes a source. */
  remove(source: WatchedSource): void {
    this.#sources.delete(source);
    this.#watches.get(source)?.[Symbol.dispose]();
    this.#watches.delete(source);
  }

  /** Calls `onReady` if a source is due although no wake-up was received. */
  recheck(): void {
    if (this.#isArmed) this.#reportDue();
  }

  #begin(source: WatchedSource): Watch {
    const wait = watch(
      () => source.fd,
      () => this.#ready(source),
    );
    this.#watches.set(source, wait);
    return wait;
  }

  arm(): void {
    this.#isArmed = true;
    this.#reference();
    for (const wait of this.#watches.values()) wait.arm();
    this.#reportDue();
    this.#wasArmed = true;
    if (this.#recheck === undefined) this.#recheckLater();
  }

  disarm(): void {
    this.#isArmed = false;
    this.#reference();
  }

  keepAlive(alive: boolean): void {
    this.#isReferenced = alive;
    this.#reference();
  }

  /** Applies the reference to all waits. Waits that continue while the watch is disarmed do not keep the process alive. */
  #reference(): void {
    for (const wait of this.#watches.values()) wait.keepAlive(this.#isArmed && this.#isReferenced);
  }

  #ready(source: WatchedSource): void {
    // A wake-up without unread records can also be late: in that case the wait continues.
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
    // Waits for the other sources that become ready in the same turn.
    queueMicrotask(() => {
      this.#isReporting = false;
      if (!this.#isArmed) return;
      this.disarm();
      this.#onReady();
    });
  }

  #recheckLater(): void {
    this.#wasArmed = false;
    this.#recheck = startTimer(() => {
      this.#recheck = undefined;
      if (!this.#isArmed) return;
      this.#reportDue();
      if (this.#wasArmed) this.#recheckLater();
    }, recheckMilliseconds);
    this.#recheck.unref();
  }

  [Symbol.dispose](): void {
    this.#isArmed = false;
    stopTimer(this.#recheck);
    for (const one of this.#watches.values()) one[Symbol.dispose]();
    this.#watches.clear();
  }
}
