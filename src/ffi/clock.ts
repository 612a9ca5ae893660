import type { Pointer } from "bun:ffi";
import { lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch, getUint64 } from "./scratch.ts";

/** The clock of `bpf_ktime_get_ns()` (include/uapi/linux/time.h). */
const CLOCK_MONOTONIC = 1;

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
  if (libc.clock_gettime(CLOCK_MONOTONIC, time.address as Pointer) < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "clock_gettime", doing: "read the clock" });
  }
  return getUint64(time.view, 0) * 1e9 + getUint64(time.view, 8);
}

/**
 * The time of day for a time of the kernel's monotonic clock, such as the `ktime_get_ns` in an event.
 *
 * Changes of the system's clock between the event and this call are not seen: call it soon.
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
  const age = monotonicNanoseconds() - Number(nanoseconds);
  return new Date(Date.now() - age / 1e6);
}
