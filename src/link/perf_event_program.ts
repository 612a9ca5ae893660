/** @module Attaches programs to perf events: counters of the kernel and the processor, timers, and breakpoints. */

import { checkBoolean, checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { BpfError } from "../ffi/error.ts";
import { readdirSync, readFileSync } from "../ffi/files.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { type EventPlace, onlineCpus, type SampledEvent } from "../ffi/perf_event.ts";
import { ESRCH } from "../uapi/errno.ts";
import {
  PERF_TYPE_BREAKPOINT,
  PERF_TYPE_HARDWARE,
  PERF_TYPE_HW_CACHE,
  PERF_TYPE_RAW,
  PERF_TYPE_TRACEPOINT,
} from "../uapi/system.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  checkCookie,
  type CookieOptions,
} from "./attach_method.ts";
import { describeEvent, eventNumbers, type PerfEventSpec } from "./perf_counters.ts";
import { attachToCpus, attachToPlaces } from "./perf_events_link.ts";

/**
 * Options of `attach()` for the section `perf_event`.
 *
 * By default the program runs for all processes, on each CPU, and on CPUs that come online later.
 */
export interface PerfEventOptions extends CookieOptions {
  /** The event that is counted. */
  readonly event: PerfEventSpec;
  /**
   * The number of runs of the program per second on a CPU that is busy, which the kernel approximates: from 1 to the sysctl
   * kernel.perf_event_max_sample_rate. This option or `period` is needed, except for breakpoints.
   */
  readonly frequency?: number;
  /**
   * The number of events for each run of the program: from 1 to 2^63 - 1. Events of clocks are nanoseconds.
   *
   * @default 1 for breakpoints
   */
  readonly period?: number | bigint;
  /** The only CPU. It must be online. */
  readonly cpu?: number;
  /** The only process, with the threads that it has now and, with `inherit`, those that they start later. */
  readonly pid?: number;
  /** The only thread, instead of `pid`. */
  readonly tid?: number;
  /**
   * Counts threads and processes that those of `pid` or `tid` start later, too. The kernel does not give the cookie to events of
   * these, so that `cookie` needs false.
   *
   * @default true with `pid`, otherwise false
   */
  readonly inherit?: boolean;
  /** Does not count events in user space. @default false */
  readonly excludeUser?: boolean;
  /** Does not count events in the kernel. @default false */
  readonly excludeKernel?: boolean;
  /**
   * True requires links of the kernel (Linux 5.15), false attaches without them.
   *
   * @default links where the kernel has them
   */
  readonly link?: boolean;
}

/**
 * Attaches to perf events (kernel 4.9). The program runs each time that the counter has reached its period.
 *
 * The kernel cannot replace the program of such a link.
 */
export const perfEvent: AttachMethod<PerfEventOptions> = {
  options: [
    ...["event", "frequency", "period", "cpu", "pid", "tid", "inherit"],
    ...["excludeUser", "excludeKernel", "cookie", "link"],
  ],
  attach({ program, options }) {
    const { event: spec, cpu, pid, tid, cookie, link, inherit = pid !== undefined } = options;
    const event = sampledEvent(options);
    checkPlace(options);
    checkCookie(cookie);
    if (link !== undefined) checkBoolean("link", link);
    if (link === false && cookie !== undefined) {
      throw new TypeError("cookie: only links have one: leave out the option link, or the cookie");
    }
    if (inherit && cookie !== undefined) {
      throw new TypeError(
        "cookie: inherited events have none: pass inherit: false, or leave out the cookie",
      );
    }
    const described = describeEvent(spec);
    const request = {
      program,
      event,
      what: `perf_event link to ${described}`,
      cookie,
      link,
      context: {
        doing: `attach to the ${described}${cpu === undefined ? "" : ` on CPU ${cpu}`}`,
        needs: ["CAP_BPF", "CAP_PERFMON"],
        hints: hintsFor(event, options),
      },
    } as const;
    if (pid === undefined && tid === undefined && cpu === undefined) return attachToCpus(request);
    return attachToPlaces(request, placesOf(options, request.context));
  },
};

/** Checks the options of the event and its rate. @throws {TypeError | RangeError} if one is wrong. */
function sampledEvent(options: PerfEventOptions): SampledEvent {
  const { frequency, excludeUser = false, excludeKernel = false } = options;
  let { period } = options;
  const numbers = eventNumbers(options.event);
  checkBoolean("excludeUser", excludeUser);
  checkBoolean("excludeKernel", excludeKernel);
  if (frequency !== undefined) {
    if (period !== undefined) {
      throw new TypeError("frequency: cannot be combined with period: remove one of them");
    }
    checkCount("frequency", frequency, 1);
    return { ...numbers, rate: { frequency: BigInt(frequency) }, excludeUser, excludeKernel };
  }
  if (numbers.type === PERF_TYPE_BREAKPOINT) period ??= 1;
  if (period === undefined) {
    throw new TypeError(
      "attach: perf events need the option frequency (runs of the program per second) or period (events for each run)",
    );
  }
  return { ...numbers, rate: { period: checkPeriod(period) }, excludeUser, excludeKernel };
}

function checkPeriod(period: number | bigint): bigint {
  const isInteger = typeof period === "bigint" || Number.isSafeInteger(period);
  if (isInteger && period > 0 && BigInt(period) < 2n ** 63n) return BigInt(period);
  throw new RangeError(
    `period: expected an integer from 1 to 2 ** 63 - 1, got ${describe(period)}`,
  );
}

/** Checks the options of the place. @throws {TypeError | RangeError} if one is wrong. */
function checkPlace({ cpu, pid, tid, inherit }: PerfEventOptions): void {
  if (cpu !== undefined && !possibleCpus().includes(cpu)) {
    throw new RangeError(
      `cpu: expected the number of a CPU of this machine, up to ${possibleCpus().at(-1)}, got ${describe(cpu)}`,
    );
  }
  if (pid !== undefined) checkCount("pid", pid, 1);
  if (tid !== undefined) checkCount("tid", tid, 1);
  if (pid !== undefined && tid !== undefined) {
    throw new TypeError("pid: cannot be combined with tid: remove one of them");
  }
  if (inherit === undefined) return;
  checkBoolean("inherit", inherit);
  if (inherit && pid === undefined && tid === undefined) {
    throw new TypeError("inherit: needs the option pid or tid: without them, all are counted");
  }
}

/** Returns the places of an event on one CPU, or of one thread, or of the threads of a process. */
function placesOf(
  { cpu, pid, tid, inherit = pid !== undefined }: PerfEventOptions,
  context: BpfCallContext,
): EventPlace[] {
  const place = { ...(cpu !== undefined && { cpu }), inherit };
  if (pid !== undefined) return threadsOf(pid, context).map((thread) => ({ ...place, thread }));
  return [tid === undefined ? place : { ...place, thread: tid }];
}

function threadsOf(pid: number, { doing, hints }: BpfCallContext): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new BpfError({ errno: ESRCH, syscall: "open", doing, hint: hints?.["ESRCH"] });
  }
}

/** Returns the hints by errno name for an event. */
function hintsFor(
  { type, rate }: SampledEvent,
  { cpu, pid, tid }: PerfEventOptions,
): NonNullable<BpfCallContext["hints"]> {
  const isOfProcessor = [PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE, PERF_TYPE_RAW].includes(type);
  const noCounter =
    "The processor does not count this event, or the virtual machine has no performance counters: use an event of the kernel such as cpu-clock";
  return {
    ENOENT: isOfProcessor
      ? noCounter
      : `The kernel has no event source with the type ${type}, or the source no such event: /sys/bus/event_source/devices lists sources and their events`,
    EOPNOTSUPP: isOfProcessor ? noCounter : "The event can be counted, but not run a program",
    ENODEV: () =>
      cpu !== undefined && !onlineCpus().includes(cpu)
        ? `CPU ${cpu} is offline; online are ${onlineCpus().join(", ")}`
        : isOfProcessor
          ? noCounter
          : undefined,
    ESRCH: pid === undefined ? `There is no thread ${tid}` : `There is no process ${pid}`,
    ENOSPC: "All debug registers of the CPU are in use: dispose of other breakpoints",
    EINVAL: () => explainInvalid(type, rate),
  };
}

function explainInvalid(type: number, rate: SampledEvent["rate"]): string | undefined {
  if ("frequency" in rate) {
    const name = "perf_event_max_sample_rate";
    const max = readFileSync(`/proc/sys/kernel/${name}`, "utf8").trim();
    if (rate.frequency > BigInt(max)) {
      return `frequency: the sysctl kernel.${name} allows at most ${max}; the kernel lowers it when samples take too long`;
    }
  }
  if (type === PERF_TYPE_TRACEPOINT) {
    return "Events of tracepoints (type 2) run programs of the section tp, not of perf_event";
  }
  return type === PERF_TYPE_BREAKPOINT
    ? "The processor has no such breakpoint: the address must be a multiple of the length; x86-64 has none for reads only; one to execute has the length 8, and can be in the kernel only with CONFIG_KPROBES"
    : undefined;
}

const events = { needs: ["CAP_BPF", "CAP_PERFMON"], config: ["CONFIG_BPF_EVENTS"] } as const;
/** An event of this process that never counts. */
const idle = { event: "dummy", period: 1, tid: process.pid } as const;

/** The ways to attach in this file, as `features` lists them. */
export const perfEventKinds = {
  perf_event: {
    since: "4.9",
    ...events,
    section: "perf_event",
    options: { ...idle, link: false },
  },
  perf_event_link: {
    since: "5.15",
    ...events,
    section: "perf_event",
    options: { ...idle, link: true },
  },
  perf_event_cookie: {
    since: "5.15",
    ...events,
    section: "perf_event",
    options: { ...idle, link: true, cookie: 1n },
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
