/** @module Perf events by name: what the kernel can count, and run a program for. */

import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { SampledEvent } from "../ffi/perf_event.ts";
import { BpfError } from "../ffi/error.ts";
import { listSymbols, suggestFunction } from "../symbols/functions.ts";
import { KernelSymbols } from "../symbols/kernel_symbols.ts";
import { ENOENT } from "../uapi/errno.ts";
import {
  HW_BREAKPOINT_LEN_1,
  HW_BREAKPOINT_LEN_2,
  HW_BREAKPOINT_LEN_4,
  HW_BREAKPOINT_LEN_8,
  HW_BREAKPOINT_R,
  HW_BREAKPOINT_RW,
  HW_BREAKPOINT_W,
  HW_BREAKPOINT_X,
  PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
  PERF_COUNT_HW_BRANCH_MISSES,
  PERF_COUNT_HW_BUS_CYCLES,
  PERF_COUNT_HW_CACHE_BPU,
  PERF_COUNT_HW_CACHE_DTLB,
  PERF_COUNT_HW_CACHE_ITLB,
  PERF_COUNT_HW_CACHE_L1D,
  PERF_COUNT_HW_CACHE_L1I,
  PERF_COUNT_HW_CACHE_LL,
  PERF_COUNT_HW_CACHE_MISSES,
  PERF_COUNT_HW_CACHE_NODE,
  PERF_COUNT_HW_CACHE_OP_PREFETCH,
  PERF_COUNT_HW_CACHE_OP_READ,
  PERF_COUNT_HW_CACHE_OP_WRITE,
  PERF_COUNT_HW_CACHE_REFERENCES,
  PERF_COUNT_HW_CACHE_RESULT_ACCESS,
  PERF_COUNT_HW_CACHE_RESULT_MISS,
  PERF_COUNT_HW_CPU_CYCLES,
  PERF_COUNT_HW_INSTRUCTIONS,
  PERF_COUNT_HW_REF_CPU_CYCLES,
  PERF_COUNT_HW_STALLED_CYCLES_BACKEND,
  PERF_COUNT_HW_STALLED_CYCLES_FRONTEND,
  PERF_COUNT_SW_ALIGNMENT_FAULTS,
  PERF_COUNT_SW_CGROUP_SWITCHES,
  PERF_COUNT_SW_CONTEXT_SWITCHES,
  PERF_COUNT_SW_CPU_CLOCK,
  PERF_COUNT_SW_CPU_MIGRATIONS,
  PERF_COUNT_SW_DUMMY,
  PERF_COUNT_SW_EMULATION_FAULTS,
  PERF_COUNT_SW_PAGE_FAULTS,
  PERF_COUNT_SW_PAGE_FAULTS_MAJ,
  PERF_COUNT_SW_PAGE_FAULTS_MIN,
  PERF_COUNT_SW_TASK_CLOCK,
  PERF_TYPE_BREAKPOINT,
  PERF_TYPE_HARDWARE,
  PERF_TYPE_HW_CACHE,
  PERF_TYPE_RAW,
  PERF_TYPE_SOFTWARE,
} from "../uapi/system.ts";

/** Events of the kernel, by the names of perf(1). */
const softwareEvents = {
  "cpu-clock": PERF_COUNT_SW_CPU_CLOCK,
  "task-clock": PERF_COUNT_SW_TASK_CLOCK,
  "page-faults": PERF_COUNT_SW_PAGE_FAULTS,
  "minor-faults": PERF_COUNT_SW_PAGE_FAULTS_MIN,
  "major-faults": PERF_COUNT_SW_PAGE_FAULTS_MAJ,
  "context-switches": PERF_COUNT_SW_CONTEXT_SWITCHES,
  "cpu-migrations": PERF_COUNT_SW_CPU_MIGRATIONS,
  "cgroup-switches": PERF_COUNT_SW_CGROUP_SWITCHES,
  "alignment-faults": PERF_COUNT_SW_ALIGNMENT_FAULTS,
  "emulation-faults": PERF_COUNT_SW_EMULATION_FAULTS,
  dummy: PERF_COUNT_SW_DUMMY,
} as const;

/** Events of the processor, by the names of perf(1). */
const hardwareEvents = {
  cycles: PERF_COUNT_HW_CPU_CYCLES,
  instructions: PERF_COUNT_HW_INSTRUCTIONS,
  "cache-references": PERF_COUNT_HW_CACHE_REFERENCES,
  "cache-misses": PERF_COUNT_HW_CACHE_MISSES,
  branches: PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
  "branch-misses": PERF_COUNT_HW_BRANCH_MISSES,
  "bus-cycles": PERF_COUNT_HW_BUS_CYCLES,
  "ref-cycles": PERF_COUNT_HW_REF_CPU_CYCLES,
  "stalled-cycles-frontend": PERF_COUNT_HW_STALLED_CYCLES_FRONTEND,
  "stalled-cycles-backend": PERF_COUNT_HW_STALLED_CYCLES_BACKEND,
} as const;

const caches = {
  l1d: PERF_COUNT_HW_CACHE_L1D,
  l1i: PERF_COUNT_HW_CACHE_L1I,
  ll: PERF_COUNT_HW_CACHE_LL,
  dtlb: PERF_COUNT_HW_CACHE_DTLB,
  itlb: PERF_COUNT_HW_CACHE_ITLB,
  bpu: PERF_COUNT_HW_CACHE_BPU,
  node: PERF_COUNT_HW_CACHE_NODE,
} as const;
const operations = {
  read: PERF_COUNT_HW_CACHE_OP_READ,
  write: PERF_COUNT_HW_CACHE_OP_WRITE,
  prefetch: PERF_COUNT_HW_CACHE_OP_PREFETCH,
} as const;
const results = {
  access: PERF_COUNT_HW_CACHE_RESULT_ACCESS,
  miss: PERF_COUNT_HW_CACHE_RESULT_MISS,
} as const;
const accesses = {
  read: HW_BREAKPOINT_R,
  write: HW_BREAKPOINT_W,
  "read-write": HW_BREAKPOINT_RW,
  execute: HW_BREAKPOINT_X,
} as const;
const lengths = [
  HW_BREAKPOINT_LEN_1,
  HW_BREAKPOINT_LEN_2,
  HW_BREAKPOINT_LEN_4,
  HW_BREAKPOINT_LEN_8,
] as const;

/**
 * The name of a perf event, as perf(1) has it: an event of the kernel such as `"cpu-clock"` or `"page-faults"`, or one of the
 * processor such as `"cycles"`. `"dummy"` counts nothing.
 */
export type PerfEventName = keyof typeof softwareEvents | keyof typeof hardwareEvents;

/** An event of one of the processor's caches. */
export interface CacheEvent {
  /**
   * The cache: `"l1d"` and `"l1i"` (first level, data and instructions), `"ll"` (last level), `"dtlb"` and `"itlb"` (address
   * translation), `"bpu"` (branch prediction), `"node"` (memory of the NUMA node).
   */
  readonly cache: keyof typeof caches;
  /** The operation. @default "read" */
  readonly operation?: keyof typeof operations;
  /** The result that is counted: all accesses, or misses only. @default "access" */
  readonly result?: keyof typeof results;
}

/** An event of the processor by its number in the manual of the processor. */
export interface RawEvent {
  /** The number of the event: on x86-64 the unit mask and the event select, such as `0x01c2`. */
  readonly raw: number | bigint;
}

/** An access to memory, or the execution of an instruction, that a debug register of the processor detects. */
export interface BreakpointEvent {
  /** The address in the kernel or in the process, or the name of a variable or function of the kernel. */
  readonly breakpoint: bigint | string;
  /** The access that is counted. x86-64 has no `"read"`. @default "read-write" */
  readonly access?: keyof typeof accesses;
  /** The number of bytes from the address on: 1, 2, 4 or 8. @default 8 for `"execute"`, otherwise 4 */
  readonly length?: (typeof lengths)[number];
}

/** An event by the numbers of `struct perf_event_attr`. */
export interface NumberedEvent {
  /** The event source: `PERF_TYPE_*`, or a number from `/sys/bus/event_source/devices/NAME/type`. */
  readonly type: number;
  /** The event of that source. */
  readonly config: number | bigint;
  /** More bits of the event. @default 0 */
  readonly config1?: number | bigint;
  /** More bits of the event. @default 0 */
  readonly config2?: number | bigint;
}

/** A perf event: something that the kernel counts, and at which it can run a program. */
export type PerfEventSpec = PerfEventName | CacheEvent | RawEvent | BreakpointEvent | NumberedEvent;

/** The numbers of an event for the kernel. */
export type EventNumbers = Pick<SampledEvent, "type" | "config" | "config1" | "config2" | "access">;

/**
 * Returns the numbers of an event.
 *
 * @throws {TypeError | RangeError} if a name is unknown, or a number is out of range.
 * @throws {BpfError} `ENOENT` if the kernel has no symbol with the name of a breakpoint.
 * @throws {Error} if the kernel hides the address of a symbol.
 */
export function eventNumbers(event: PerfEventSpec): EventNumbers {
  if (typeof event === "string") return namedEvent(event);
  if (typeof event !== "object" || event === null) {
    throw new TypeError(
      `event: expected a name such as "cpu-clock" or an object such as { type, config }, got ${describe(event)}`,
    );
  }
  if ("cache" in event) return cacheEvent(event);
  if ("raw" in event) {
    checkOptions("event", event, ["raw"]);
    return { type: PERF_TYPE_RAW, config: checkBits("event: raw", event.raw) };
  }
  if ("breakpoint" in event) return breakpointEvent(event);
  checkOptions("event", event, ["type", "config", "config1", "config2"]);
  const { type, config, config1 = 0, config2 = 0 } = event;
  checkCount("event: type", type, 0);
  return {
    type,
    config: checkBits("event: config", config),
    config1: checkBits("event: config1", config1),
    config2: checkBits("event: config2", config2),
  };
}

/** Describes an event for messages. */
export function describeEvent(event: PerfEventSpec): string {
  if (typeof event === "string") return `event ${event}`;
  if ("cache" in event) {
    const { cache, operation = "read", result = "access" } = event;
    return `event ${cache} ${operation} ${result}`;
  }
  if ("raw" in event) return `raw event 0x${event.raw.toString(16)}`;
  if ("breakpoint" in event) {
    const { breakpoint: place } = event;
    return `breakpoint at ${typeof place === "bigint" ? `0x${place.toString(16)}` : place}`;
  }
  return `event ${event.config} of type ${event.type}`;
}

function namedEvent(name: string): EventNumbers {
  if (Object.hasOwn(softwareEvents, name)) {
    const config = softwareEvents[name as keyof typeof softwareEvents];
    return { type: PERF_TYPE_SOFTWARE, config: BigInt(config) };
  }
  const config = numberOf("event", hardwareEvents, name, Object.keys(softwareEvents));
  return { type: PERF_TYPE_HARDWARE, config: BigInt(config) };
}

function cacheEvent(event: CacheEvent): EventNumbers {
  checkOptions("event", event, ["cache", "operation", "result"]);
  const { cache, operation = "read", result = "access" } = event;
  const config =
    numberOf("event: cache", caches, cache) |
    (numberOf("event: operation", operations, operation) << 8) |
    (numberOf("event: result", results, result) << 16);
  return { type: PERF_TYPE_HW_CACHE, config: BigInt(config) };
}

function breakpointEvent(event: BreakpointEvent): EventNumbers {
  checkOptions("event", event, ["breakpoint", "access", "length"]);
  const { breakpoint, access = "read-write" } = event;
  const { length = access === "execute" ? HW_BREAKPOINT_LEN_8 : HW_BREAKPOINT_LEN_4 } = event;
  const accessNumber = numberOf("event: access", accesses, access);
  if (!lengths.includes(length)) {
    throw new RangeError(`event: length: expected ${lengths.join(", ")}, got ${describe(length)}`);
  }
  return {
    type: PERF_TYPE_BREAKPOINT,
    config: 0n,
    config1: addressOf(breakpoint),
    config2: BigInt(length),
    access: accessNumber,
  };
}

/** Returns the address of a breakpoint. @throws {BpfError} `ENOENT` if the kernel has no such symbol. */
function addressOf(place: bigint | string): bigint {
  if (typeof place !== "string") return checkBits("event: breakpoint", place);
  const address = KernelSymbols.read().address(place);
  if (address !== undefined) return address;
  throw new BpfError({
    errno: ENOENT,
    syscall: "look-up in /proc/kallsyms",
    doing: `set a breakpoint at ${place}`,
    hint: () =>
      `The kernel has no function ${place}, and no such variable (those are listed only with CONFIG_KALLSYMS_ALL): ${suggestFunction(place, listSymbols())}`,
  });
}

/** Returns the number of a name. @param others more names that a suggestion may have */
function numberOf(
  what: string,
  numbers: Readonly<Record<string, number>>,
  name: string,
  others: readonly string[] = [],
): number {
  const number = Object.hasOwn(numbers, name) ? numbers[name] : undefined;
  if (number !== undefined) return number;
  const known = [...others, ...Object.keys(numbers)];
  throw new TypeError(`${what}: unknown ${describe(name)}: ${suggest(String(name), known)}`);
}

/** Checks a number of 64 bits. */
function checkBits(what: string, bits: number | bigint): bigint {
  const isInteger = typeof bits === "bigint" || Number.isSafeInteger(bits);
  const value = isInteger ? BigInt(bits) : -1n;
  if (isInteger && value === BigInt.asUintN(64, value)) return value;
  throw new TypeError(`${what}: expected an integer from 0 to 2 ** 64 - 1, got ${describe(bits)}`);
}
