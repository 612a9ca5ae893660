/** @module Checks for CPUs that come online or go offline, which the kernel reports to nobody. */

import { monotonicMilliseconds, suspendedMilliseconds } from "../ffi/clock.ts";
import { onlineCpus } from "../ffi/perf_event.ts";

/** The CPUs and the clocks of a machine: this one, or a fake in tests. */
export interface CpuSource {
  /** Returns the monotonic time in milliseconds. */
  now(): number;
  /** Returns the numbers of the online CPUs. */
  onlineCpus(): readonly number[];
  /** Returns the total time for which the machine was suspended, in milliseconds. */
  suspendedMilliseconds(): number;
}

/** The CPUs and the clocks of this machine. */
export const thisMachine: CpuSource = {
  now: monotonicMilliseconds,
  onlineCpus,
  suspendedMilliseconds,
};

/** The interval of the checks for online CPUs. */
export const checkMilliseconds = 1000;
/**
 * The shortest suspend that counts. The two clocks are read one after the other, so they can differ by less without a suspend.
 */
const minSuspendMilliseconds = 500;

/** The result of a check. */
export interface CpuState {
  /** The numbers of the online CPUs. */
  readonly online: readonly number[];
  /**
   * True if the machine was suspended since the last check. A suspend takes all CPUs but one offline, and they can be online again
   * before the next check.
   */
  readonly wasSuspended: boolean;
}

/** Checks for online CPUs, at most once per second. */
export class CpuCheck {
  readonly #source: CpuSource;
  /** The time of the last check. */
  #checkedAt: number;
  /** The total suspended time at the last check. */
  #suspended: number;

  constructor(source: CpuSource) {
    this.#source = source;
    this.#checkedAt = source.now();
    this.#suspended = source.suspendedMilliseconds();
  }

  /**
   * Returns the online CPUs; `undefined` if the last check was less than a second ago, or if the list cannot be read now.
   *
   * @param isDue true to check in any case: a timer can fire slightly before the interval is over
   */
  check(isDue = false): CpuState | undefined {
    const now = this.#source.now();
    if (!isDue && now - this.#checkedAt < checkMilliseconds) return undefined;
    this.#checkedAt = now;
    const online = this.#online();
    if (online === undefined) return undefined;
    const suspended = this.#source.suspendedMilliseconds();
    const wasSuspended = suspended - this.#suspended >= minSuspendMilliseconds;
    this.#suspended = suspended;
    return { online, wasSuspended };
  }

  #online(): readonly number[] | undefined {
    try {
      return this.#source.onlineCpus();
    } catch (error) {
      // Reading the list needs a free descriptor. Without one, the next check retries.
      if (["EMFILE", "ENFILE"].includes((error as NodeJS.ErrnoException).code ?? ""))
        return undefined;
      throw error;
    }
  }
}
