import type { Pointer } from "bun:ffi";
import { lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch, getUint64, type Scratch } from "./scratch.ts";

/** The kernel's clocks (include/uapi/linux/time.h); the monotonic one is that of `bpf_ktime_get_ns()`. */
const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;

/** How long the difference of the two clocks is kept, in nanoseconds. */
const maxOffsetAge = 1e9;

/** What the doubles of a date of our time cannot tell apart, in milliseconds. */
const rounding = 0.001;

function readClock(clock: number, time: Scratch): void {
  if (libc.clock_gettime(clock, time.address as Pointer) < 0) {
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

/** The time of day at the monotonic clock's zero, in milliseconds, to within `uncertainty`. */
interface Offset {
  readonly milliseconds: number;
  readonly uncertainty: number;
}

/** The clocks are read one after another: what passes between the readings is not known to be nothing. */
function readOffset(): Offset {
  using time = allocateScratch(16);
  let best: Offset | undefined;
  // Three times, as this thread may have to wait for the processor in between.
  for (let i = 0; i < 3; i++) {
    const before = readMilliseconds(CLOCK_MONOTONIC, time);
    const date = readMilliseconds(CLOCK_REALTIME, time);
    const after = readMilliseconds(CLOCK_MONOTONIC, time);
    const uncertainty = (after - before) / 2 + rounding;
    if (best === undefined || uncertainty < best.uncertainty) {
      best = { milliseconds: date - (before + after) / 2, uncertainty };
    }
  }
  return best as Offset;
}

let offset: Offset | undefined;
let readAt = 0;

/**
 * The kernel steers both clocks alike, so that their difference stays the same until somebody sets the time of day: a
 * reading that differs by no more than what is uncertain changes nothing, or else dates would jitter.
 */
function currentOffset(): number {
  const now = Bun.nanoseconds();
  if (offset !== undefined && now - readAt < maxOffsetAge) return offset.milliseconds;
  const read = readOffset();
  readAt = now;
  if (
    offset === undefined ||
    Math.abs(read.milliseconds - offset.milliseconds) > read.uncertainty + offset.uncertainty
  ) {
    offset = read;
  }
  return offset.milliseconds;
}

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
  return new Date(currentOffset() + Number(nanoseconds) / 1e6);
}
