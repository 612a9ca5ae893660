import { readFileSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { PERF_EVENT_ATTR } from "../uapi/layout.ts";
import {
  PERF_COUNT_SW_BPF_OUTPUT,
  PERF_COUNT_SW_DUMMY,
  PERF_EVENT_IOC_ENABLE,
  PERF_EVENT_IOC_SET_BPF,
  PERF_FLAG_FD_CLOEXEC,
  PERF_SAMPLE_RAW,
  PERF_TYPE_SOFTWARE,
  PERF_TYPE_TRACEPOINT,
} from "../uapi/perf_event.ts";
import { syscallNumbers } from "../uapi/syscalls.ts";
import { hasCapability } from "./capabilities.ts";
import { explainPermission } from "./permission.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc, syscalls } from "./libc.ts";
import { architecture } from "./platform.ts";
import { allocateScratch, type Scratch, setUint64 } from "./scratch.ts";

const perfEventOpenNumber = syscallNumbers[architecture]?.perf_event_open ?? -1;

/** The first published size of the struct (PERF_ATTR_SIZE_VER0), which every kernel takes. */
const attrSize = PERF_EVENT_ATTR.config2;
/** With the second field of configuration (PERF_ATTR_SIZE_VER1), which every kernel with BPF takes. */
const probeAttrSize = PERF_EVENT_ATTR.config2 + 8;
/** Where the struct has its bit field, which no debugging information has an offset of: behind `read_format`. */
const attrFlags = PERF_EVENT_ATTR.read_format + 8;
/** In that bit field: does not count from the start. */
const attrDisabled = 1 << 0;
/** In that bit field: `wakeup_watermark` is meant, not `wakeup_events`. */
const attrWatermark = 1 << 14;

function perfError(errno: number, syscall: string, doing: string): BpfError {
  const refused = ["EPERM", "EACCES"].includes(errnoName(errno));
  return new BpfError({
    errno,
    syscall,
    doing,
    hint: refused ? explainPerfRefusal() : undefined,
  });
}

/** Some distributions have a level of their own, 3, at which CAP_PERFMON is not enough. */
function explainPerfRefusal(): string {
  const level = Number(readFileSync("/proc/sys/kernel/perf_event_paranoid", "utf8"));
  if (level <= 2 || hasCapability("CAP_SYS_ADMIN")) return explainPermission(["CAP_PERFMON"]);
  return `${explainPermission(["CAP_SYS_ADMIN"])}. Or set the sysctl kernel.perf_event_paranoid to 2: at ${level}, this kernel asks for more than CAP_PERFMON`;
}

/** The first CPU of a list as the kernel writes them: `"2-3,8"`. */
export function firstCpu(list: string): number {
  return Number.parseInt(list, 10);
}

/**
 * Opens the perf event of a tracepoint, for all processes. A program on it runs on every CPU, although the event is
 * opened on one: programs hang on the tracepoint itself.
 */
export function openTracepointEvent(tracepointId: number, what: string): number {
  using attr = allocateScratch(attrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, PERF_TYPE_TRACEPOINT, true);
  view.setUint32(PERF_EVENT_ATTR.size, attrSize, true);
  setUint64(view, PERF_EVENT_ATTR.config, tracepointId);
  return openEverywhere(attr, what);
}

/** What the kernel's probes are of: a function of its own by name, or a place in a file by path. */
export interface ProbeEvent {
  /** The kernel's number for this sort of event. */
  readonly type: number;
  /** What the sort makes of it: whether it is of the return, say. */
  readonly config: bigint;
  readonly target: string;
  /** Bytes from the start of the function or the file. */
  readonly offset: number;
}

/** Opens the perf event of a probe, for all processes; it makes the probe, and takes it away when it closes (kernel 4.17). */
export function openProbeEvent({ type, config, target, offset }: ProbeEvent, what: string): number {
  const text = Buffer.from(`${target}\0`);
  using name = allocateScratch(text.length);
  name.bytes.set(text);
  using attr = allocateScratch(probeAttrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, type, true);
  view.setUint32(PERF_EVENT_ATTR.size, probeAttrSize, true);
  view.setBigUint64(PERF_EVENT_ATTR.config, config, true);
  setUint64(view, PERF_EVENT_ATTR.config1, name.address);
  setUint64(view, PERF_EVENT_ATTR.config2, offset);
  return openEverywhere(attr, what);
}

/** Opens a perf event of this thread that never happens. */
export function openIdleEvent(what: string): number {
  using attr = allocateScratch(attrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, PERF_TYPE_SOFTWARE, true);
  view.setUint32(PERF_EVENT_ATTR.size, attrSize, true);
  setUint64(view, PERF_EVENT_ATTR.config, PERF_COUNT_SW_DUMMY);
  view.setUint32(attrFlags, attrDisabled, true);
  const thisThread = 0;
  const anyCpu = -1;
  const fd = open(attr, thisThread, anyCpu);
  if (fd < 0) throw perfError(lastErrno(), "perf_event_open", `open the ${what}`);
  return fd;
}

/** Opens an event for all processes, of the sort that is in the kernel's code and so the same on every CPU. */
function openEverywhere(attr: Scratch, what: string): number {
  let fd = openOnCpu(attr, 0);
  // The first CPU can be offline, where it can be at all.
  if (fd < 0 && errnoName(lastErrno()) === "ENODEV") {
    fd = openOnCpu(attr, firstCpu(readFileSync("/sys/devices/system/cpu/online", "utf8")));
  }
  if (fd < 0) throw perfError(lastErrno(), "perf_event_open", `open the ${what}`);
  return fd;
}

/**
 * Opens the perf event that programs which run on a CPU write records to, not enabled yet; `undefined` for a CPU that is
 * offline.
 *
 * @param watermark bytes after which the kernel wakes whoever waits; without it, it does for each record
 */
export function openOutputEvent(
  cpu: number,
  watermark: number | undefined,
  what: string,
): number | undefined {
  using attr = allocateScratch(attrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, PERF_TYPE_SOFTWARE, true);
  view.setUint32(PERF_EVENT_ATTR.size, attrSize, true);
  setUint64(view, PERF_EVENT_ATTR.config, PERF_COUNT_SW_BPF_OUTPUT);
  setUint64(view, PERF_EVENT_ATTR.sample_period, 1);
  setUint64(view, PERF_EVENT_ATTR.sample_type, PERF_SAMPLE_RAW);
  const flags = watermark === undefined ? attrDisabled : attrDisabled | attrWatermark;
  view.setUint32(attrFlags, flags, true);
  view.setUint32(PERF_EVENT_ATTR.wakeup_events, watermark ?? 1, true);
  const fd = openOnCpu(attr, cpu);
  if (fd >= 0) return fd;
  const errno = lastErrno();
  if (errnoName(errno) === "ENODEV") return undefined;
  throw perfError(errno, "perf_event_open", `open the ${what}`);
}

/** A descriptor, or what is below 0 for an error. */
function openOnCpu(attr: Scratch, cpu: number): number {
  const allProcesses = -1;
  return open(attr, allProcesses, cpu);
}

function open(attr: Scratch, thread: number, cpu: number): number {
  const noGroup = -1;
  return syscalls.perf_event_open(
    perfEventOpenNumber,
    attr.address as Pointer,
    thread,
    cpu,
    noGroup,
    PERF_FLAG_FD_CLOEXEC,
  );
}

/** Sets a perf event's program, for kernels without links for perf events (before 5.15): it goes when the event closes. */
export function setPerfEventProgram(eventFd: number, programFd: number, what: string): void {
  if (libc.ioctl(eventFd, PERF_EVENT_IOC_SET_BPF, programFd) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_SET_BPF)", `attach to the ${what}`);
  }
}

/** Starts a perf event. */
export function enablePerfEvent(eventFd: number, what: string): void {
  if (libc.ioctl(eventFd, PERF_EVENT_IOC_ENABLE, 0) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_ENABLE)", `enable the ${what}`);
  }
}
