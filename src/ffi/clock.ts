import type { Pointer } from "bun:ffi";
import { BpfError, lastErrno } from "./error.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch, getUint64, type Scratch } from "./mapped_memory.ts";
import { CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME } from "../uapi/system.ts";

/** The time after which the offset of a clock is measured again. */
const maxOffsetAgeNs = 1e9;

/** The largest rounding error of a current date that is stored as a double. */
const roundingMs = 0.001;

function readClock(clock: number, time: Scratch): void {
  if (otherLibc.clock_gettime(clock, time.address as Pointer) < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "clock_gettime", doing: "read the clock" });
  }
}

/** Reads a clock in milliseconds. */
function readMilliseconds(clock: number, time: Scratch): number {
  readClock(clock, time);
  return getUint64(time.view, 0) * 1e3 + getUint64(time.view, 8) / 1e6;
}

/**
 * Returns the time of the kernel's monotonic clock, in nanoseconds since about the start of the machine. It is the clock of the
 * helper `ktime_get_ns`.
 *
 * The number is exact up to 104 days after the start, and within a microsecond later. `process.hrtime` and `Bun.nanoseconds`
 * count from the start of the process instead.
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
 * Returns the milliseconds for which the machine has been suspended since its start. A delay of this thread between the reads of
 * the two clocks is added to the result.
 */
export function suspendedMilliseconds(): number {
  using time = allocateScratch(16);
  const monotonic = readMilliseconds(CLOCK_MONOTONIC, time);
  return readMilliseconds(CLOCK_BOOTTIME, time) - monotonic;
}

let reading: Scratch | undefined;

/**
 * Returns the time of the monotonic clock in milliseconds. Unlike `performance.now()` it is not stopped by fake timers of a test.
 */
export function monotonicMilliseconds(): number {
  reading ??= allocateScratch(16);
  return readMilliseconds(CLOCK_MONOTONIC, reading);
}

/** The time of day at which a clock was 0. */
interface Offset {
  readonly milliseconds: number;
  /** The largest error of `milliseconds`. */
  readonly uncertainty: number;
}

/**
 * Measures the offset of a clock. The clocks are read one after another; the time between the reads determines the
 * uncertainty.
 */
function readOffset(clock: number): Offset {
  using time = allocateScratch(16);
  let best: Offset | undefined;
  // The best of three measurements is used, because this thread may be descheduled between the reads.
  for (let i = 0; i < 3; i++) {
    const before = readMilliseconds(clock, time);
    const date = readMilliseconds(CLOCK_REALTIME, time);
    const after = readMilliseconds(clock, time);
    const uncertainty = (after - before) / 2 + roundingMs;
    if (best === undefined || uncertainty < best.uncertainty) {
      best = { milliseconds: date - (before + after) / 2, uncertainty };
    }
  }
  return best as Offset;
}

/** Converts the times of one clock to dates. */
class DateConverter {
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
   * Returns the offset in milliseconds. The kernel adjusts the rates of all clocks alike, so the offset is constant until the
   * time of day is set. A measurement within the uncertainty of the present offset does not replace it: otherwise dates would
   * jitter.
   */
  #currentOffset(): number {
    const now = Bun.nanoseconds();
    // The difference can be negative, because fake timers of a test change this clock.
    if (this.#offset !== undefined && Math.abs(now - this.#readAt) < maxOffsetAgeNs) {
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

/** The converter for times of `bpf_ktime_get_ns()`. */
const monotonicDates = new DateConverter(CLOCK_MONOTONIC);
/** The converter for the load times of programs, whose clock includes the time for which the machine is suspended. */
const boottimeDates = new DateConverter(CLOCK_BOOTTIME);

/**
 * Returns the date for a time of the kernel's monotonic clock, such as the result of `ktime_get_ns` in an event.
 *
 * As long as the system's clock is not set, equal times have equal dates, and later times have dates that are not earlier. When the
 * clock is set, the results change within a second, also for earlier times: convert the time of an event soon after it happened.
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
  return monotonicDates.date(nanoseconds);
}

/** Returns the date for a time of the clock that includes the time for which the machine is suspended (CLOCK_BOOTTIME). */
export function boottimeToDate(nanoseconds: number | bigint): Date {
  return boottimeDates.date(nanoseconds);
}
