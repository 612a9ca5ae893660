import type { Pointer } from "bun:ffi";
import { BpfError, lastErrno } from "./error.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch, getUint64, type Scratch } from "./mapped_memory.ts";
import { CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME } from "../uapi/system.ts";

/** How long the difference of the two clocks is kept, in nanoseconds. */
const maxOffsetAge = 1e9;

/** What the doubles of a date of our time cannot tell apart, in milliseconds. */
const rounding = 0.001;

function readClock(clock: number, time: Scratch): void {
  if (otherLibc.clock_gettime(clock, time.address as Pointer) < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "clock_gettime", doing: "read the clock" });
  }
}

/** In milliseconds. */
function readMilliseconds(clock: number, time: Scratch): number {
  readClock(clock, time);
  return getUint64(time.view, 0) * 1e3 + getUint64(time.view, 8) / 1e6;
}

/**
 * The kernel's monotonic clock now, in nanoseconds since about the start of the machine: what the helper `ktime_get_ns`
 * gives a program. Exact up to 104 days, to within a microsecond for longer.
 *
 * Bun's own `process.hrtime` and `Bun.nanoseconds` count from the start of the process.
 *
 * @example
 * ```ts
 * import { monotonicNanoseconds } from "bun-bpf";
 * console.log(`${Math.round(monotonicNanoseconds() / 1e9)} s since the start of the machine`);
 * ```
 */
export function monotonicNanoseconds(): number {
  using time = allocateScratch(16);
  readClock(CLOCK_MONOTONIC, time);
  return getUint64(time.view, 0) * 1e9 + getUint64(time.view, 8);
}

/**
 * Returns the milliseconds for which the machine was suspended since its start. A delay of this thread between two reads adds to
 * it.
 */
export function suspendedMilliseconds(): number {
  using time = allocateScratch(16);
  const monotonic = readMilliseconds(CLOCK_MONOTONIC, time);
  return readMilliseconds(CLOCK_BOOTTIME, time) - monotonic;
}

let reading: Scratch | undefined;

/** Returns the same clock in milliseconds, for differences. Unlike `performance.now()` it goes on while a test has fake timers. */
export function monotonicMilliseconds(): number {
  reading ??= allocateScratch(16);
  return readMilliseconds(CLOCK_MONOTONIC, reading);
}

/** The time of day at a clock's zero, in milliseconds, to within `uncertainty`. */
interface Offset {
  readonly milliseconds: number;
  readonly uncertainty: number;
}

/** The clocks are read one after another: what passes between the readings is not known to be nothing. */
function readOffset(clock: number): Offset {
  using time = allocateScratch(16);
  let best: Offset | undefined;
  // Three times, as this thread may have to wait for the processor in between.
  for (let i = 0; i < 3; i++) {
    const before = readMilliseconds(clock, time);
    const date = readMilliseconds(CLOCK_REALTIME, time);
    const after = readMilliseconds(clock, time);
    const uncertainty = (after - before) / 2 + rounding;
    if (best === undefined || uncertainty < best.uncertainty) {
      best = { milliseconds: date - (before + after) / 2, uncertainty };
    }
  }
  return best as Offset;
}

/** What turns the times of one clock into dates. */
class Calendar {
  readonly #clock: number;
  #offset: Offset | undefined;
  #readAt = 0;

  constructor(clock: number) {
    this.#clock = clock;
  }

  date(nanoseconds: number | bigint): Date {
    return new Date(this.#currentOffset() + Number(nanoseconds) / 1e6);
  }

  /**
   * The kernel steers the clocks alike, so that their difference stays the same until somebody sets the time of day: a
   * reading that differs by no more than what is uncertain changes nothing, or else dates would jitter.
   */
  #currentOffset(): number {
    const now = Bun.nanoseconds();
    // Fake timers change this clock.
    if (this.#offset !== undefined && Math.abs(now - this.#readAt) < maxOffsetAge) {
      return this.#offset.milliseconds;
    }
    const read = readOffset(this.#clock);
    this.#readAt = now;
    if (
      this.#offset === undefined ||
      Math.abs(read.milliseconds - this.#offset.milliseconds) >
        read.uncertainty + this.#offset.uncertainty
    ) {
      this.#offset = read;
    }
    return this.#offset.milliseconds;
  }
}

/** The clock of `bpf_ktime_get_ns()`. */
const monotonicCalendar = new Calendar(CLOCK_MONOTONIC);
/** The clock of the times at which programs were loaded: it goes on while the machine sleeps. */
const boottimeCalendar = new Calendar(CLOCK_BOOTTIME);

/**
 * The time of day for a time of the kernel's monotonic clock, such as the `ktime_get_ns` in an event.
 *
 * One time gives one date, and later times give no earlier dates, until the system's clock is set: that is seen within a
 * second. What was before then is dated by the new setting, so call it soon.
 *
 * @param nanoseconds since about the start of the machine
 *
 * @example
 * ```ts
 * import { monotonicNanoseconds, monotonicToDate } from "bun-bpf";
 * console.log(monotonicToDate(monotonicNanoseconds()).toISOString());
 * ```
 */
export function monotonicToDate(nanoseconds: number | bigint): Date {
  return monotonicCalendar.date(nanoseconds);
}

/** The same for a time of the clock that goes on while the machine sleeps. */
export function boottimeToDate(nanoseconds: number | bigint): Date {
  return boottimeCalendar.date(nanoseconds);
}
