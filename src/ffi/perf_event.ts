import type { Pointer } from "bun:ffi";
import type { BpfCallContext } from "./bpf.ts";
import { readFileSync } from "./files.ts";
import { hasCapability } from "./capabilities.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { parseCpuList } from "./kernel.ts";
import { libc } from "./libc.ts";
import { otherLibc, otherSyscalls } from "./libc_others.ts";
import { architecture } from "./platform.ts";
import {
  allocateScratch,
  getUint64,
  MappedMemory,
  pageSize,
  type Scratch,
  setUint64,
} from "./mapped_memory.ts";
import { explainPermission } from "./permission.ts";
import { loadFence, orderLoads } from "./ring_memory.ts";
import { PERF_EVENT_ATTR, PERF_EVENT_MMAP_PAGE } from "../uapi/layout.ts";
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PERF_COUNT_SW_BPF_OUTPUT,
  PERF_EVENT_IOC_DISABLE,
  PERF_EVENT_IOC_ENABLE,
  PERF_EVENT_IOC_PAUSE_OUTPUT,
  PERF_EVENT_IOC_SET_BPF,
  PERF_FLAG_FD_CLOEXEC,
  PERF_SAMPLE_RAW,
  PERF_TYPE_SOFTWARE,
  PERF_TYPE_TRACEPOINT,
  PROT_READ,
  PROT_WRITE,
  SYS_perf_event_open,
} from "../uapi/system.ts";

const perfEventOpenNumber = SYS_perf_event_open[architecture] ?? -1;

/** The first published size of struct perf_event_attr (PERF_ATTR_SIZE_VER0), which every kernel accepts. */
const attrSize = PERF_EVENT_ATTR.config2;
/** The size with the field `config2` (PERF_ATTR_SIZE_VER1), which every kernel with BPF accepts. */
const probeAttrSize = PERF_EVENT_ATTR.config2 + 8;
/** The offset of the bit-fields. */
const attrFlags = PERF_EVENT_ATTR.disabled_bit / 8;
/** The flag `disabled`: the event is created disabled. */
const attrDisabled = 1 << 0;
/** The flag `write_backward`: records are written towards lower addresses, over unread older ones. */
const attrWriteBackward = /*@__PURE__*/ flagOf(PERF_EVENT_ATTR.write_backward_bit);
/** The flag `watermark`: the field `wakeup_watermark` is set instead of `wakeup_events`. */
const attrWatermark = /*@__PURE__*/ flagOf(PERF_EVENT_ATTR.watermark_bit);

/** Returns the flag of a bit-field, by its offset in bits. */
function flagOf(bit: number): number {
  return 1 << (bit - PERF_EVENT_ATTR.disabled_bit);
}

/** @param hints hints by errno name, which replace those of this module */
function perfError(
  errno: number,
  syscall: string,
  doing: string,
  hints: BpfCallContext["hints"] = {},
  needs?: BpfCallContext["needs"],
): BpfError {
  const code = errnoName(errno);
  const isForbidden = ["EPERM", "EACCES"].includes(code);
  return new BpfError({
    errno,
    syscall,
    doing,
    hint: hints[code] ?? (isForbidden ? () => explainPerfPermission(needs) : undefined),
  });
}

/** Explains EPERM and EACCES. Some distributions add a level 3 to perf_event_paranoid, at which CAP_PERFMON is not enough. */
function explainPerfPermission(needs: BpfCallContext["needs"]): string {
  if (needs?.includes("CAP_SYS_ADMIN") === true) return explainPermission(needs);
  const level = Number(readFileSync("/proc/sys/kernel/perf_event_paranoid", "utf8"));
  if (level <= 2 || hasCapability("CAP_SYS_ADMIN")) return explainPermission(["CAP_PERFMON"]);
  return `${explainPermission(["CAP_SYS_ADMIN"])}. Or set the sysctl kernel.perf_event_paranoid to 2: at ${level}, CAP_PERFMON is not enough on this kernel`;
}

const onlinePath = "/sys/devices/system/cpu/online";

/** Returns the ids of the CPUs that are online now, in ascending order. */
export function onlineCpus(): number[] {
  return parseCpuList(readFileSync(onlinePath, "utf8"), onlinePath);
}

/** Returns the first CPU of a list in the kernel's format: `"2-3,8"`. */
export function firstCpu(list: string): number {
  return Number.parseInt(list, 10);
}

/**
 * Opens the perf event of a tracepoint, for all processes. A program that is attached to it runs on every CPU, although the
 * event is opened on one: the kernel attaches the program to the tracepoint itself.
 */
export function openTracepointEvent(tracepointId: number, what: string): number {
  using attr = allocateScratch(attrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, PERF_TYPE_TRACEPOINT, true);
  view.setUint32(PERF_EVENT_ATTR.size, attrSize, true);
  setUint64(view, PERF_EVENT_ATTR.config, tracepointId);
  return openForAllProcesses(attr, what);
}

/** A probe in a kernel function (kprobe) or in a file (uprobe). */
export interface ProbeEvent {
  /** The kernel's number of this event type, from sysfs. */
  readonly type: number;
  /** The configuration of this type, for example to probe the return instead of the entry. */
  readonly config: bigint;
  /** The name of the function, or the path of the file; `undefined` for an address of the kernel. */
  readonly target: string | undefined;
  /** Bytes from the start of the function or the file, or an address of the kernel. */
  readonly offset: bigint;
  /** The only process in which the probe fires. @default all processes */
  readonly pid?: number | undefined;
}

/** Opens the perf event of a probe. The probe exists until the event is closed (kernel 4.17). */
export function openProbeEvent(
  { type, config, target, offset, pid }: ProbeEvent,
  { doing, needs, hints }: BpfCallContext,
): number {
  const text = Buffer.from(`${target ?? ""}\0`);
  using name = allocateScratch(text.length);
  name.bytes.set(text);
  using attr = allocateScratch(probeAttrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, type, true);
  view.setUint32(PERF_EVENT_ATTR.size, probeAttrSize, true);
  view.setBigUint64(PERF_EVENT_ATTR.config, config, true);
  if (target !== undefined) setUint64(view, PERF_EVENT_ATTR.config1, name.address);
  view.setBigUint64(PERF_EVENT_ATTR.config2, offset, true);
  const anyCpu = -1;
  const fd = pid === undefined ? tryForAllProcesses(attr) : open(attr, pid, anyCpu);
  if (fd < 0) throw perfError(lastErrno(), "perf_event_open", doing, hints, needs);
  return fd;
}

/** A counter that overflows again and again: the kernel takes a sample, and runs the program, at each overflow. */
export interface SampledEvent {
  /** The kernel's number of the event source, `PERF_TYPE_*`, and of the event in it. */
  readonly type: number;
  readonly config: bigint;
  /** More bits of the event; the address and the length of a breakpoint. */
  readonly config1?: bigint;
  readonly config2?: bigint;
  /** The accesses at which a breakpoint fires, `HW_BREAKPOINT_*`. */
  readonly access?: number;
  /** The number of events between two samples, or of samples per second. */
  readonly rate: { readonly period: bigint } | { readonly frequency: bigint };
  readonly excludeUser: boolean;
  readonly excludeKernel: boolean;
}

/** The place where an event is counted. */
export interface EventPlace {
  /** The id of a thread; `undefined` for all of them. */
  readonly thread?: number;
  /** The CPU; `undefined` for all that the thread runs on. */
  readonly cpu?: number;
  /** True if threads and processes that the thread starts later are counted, too. */
  readonly inherit?: boolean;
}

/**
 * Opens a sampled event, which is not enabled yet. Returns its descriptor.
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function openSampledEvent(
  { type, config, config1 = 0n, config2 = 0n, access = 0, rate, ...exclude }: SampledEvent,
  { thread = -1, cpu = -1, inherit = false }: EventPlace,
  { doing, hints }: BpfCallContext,
): number {
  using attr = allocateScratch(probeAttrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, type, true);
  view.setUint32(PERF_EVENT_ATTR.size, probeAttrSize, true);
  view.setBigUint64(PERF_EVENT_ATTR.config, config, true);
  const count = "period" in rate ? rate.period : rate.frequency;
  view.setBigUint64(PERF_EVENT_ATTR.sample_period, count, true);
  const flags = [
    attrDisabled,
    inherit ? flagOf(PERF_EVENT_ATTR.inherit_bit) : 0,
    exclude.excludeUser ? flagOf(PERF_EVENT_ATTR.exclude_user_bit) : 0,
    exclude.excludeKernel ? flagOf(PERF_EVENT_ATTR.exclude_kernel_bit) : 0,
    "frequency" in rate ? flagOf(PERF_EVENT_ATTR.freq_bit) : 0,
  ];
  view.setUint32(
    attrFlags,
    flags.reduce((all, flag) => all | flag),
    true,
  );
  view.setUint32(PERF_EVENT_ATTR.bp_type, access, true);
  view.setBigUint64(PERF_EVENT_ATTR.config1, config1, true);
  view.setBigUint64(PERF_EVENT_ATTR.config2, config2, true);
  const fd = open(attr, thread, cpu);
  if (fd < 0) throw perfError(lastErrno(), "perf_event_open", doing, hints);
  return fd;
}

/** Opens an event for all processes, on any CPU: tracepoints and probes are the same on every CPU. */
function openForAllProcesses(attr: Scratch, what: string): number {
  const fd = tryForAllProcesses(attr);
  if (fd < 0) throw perfError(lastErrno(), "perf_event_open", `open the ${what}`);
  return fd;
}

/** Returns a descriptor, or a negative number on failure. */
function tryForAllProcesses(attr: Scratch): number {
  const fd = openOnCpu(attr, 0);
  // On some machines CPU 0 can be offline.
  if (fd >= 0 || errnoName(lastErrno()) !== "ENODEV") return fd;
  return openOnCpu(attr, firstCpu(readFileSync(onlinePath, "utf8")));
}

/** Options of {@link openOutputEvent}. */
export interface OutputEventOptions {
  /** Number of bytes after which the kernel wakes waiters. */
  readonly watermark?: number | undefined;
  /** Number of records after which the kernel wakes waiters, unless `watermark` is given. @default 1 */
  readonly wakeupEvents?: number | undefined;
  /** Enables overwrite mode: new records overwrite the oldest ones (kernel 4.7). @default false */
  readonly overwrite?: boolean;
}

/**
 * Opens the perf event to which programs on one CPU write records, and returns its descriptor. The event is not enabled yet.
 * Returns `undefined` if the CPU is offline.
 */
export function openOutputEvent(
  cpu: number,
  { watermark, wakeupEvents = 1, overwrite = false }: OutputEventOptions,
  what: string,
): number | undefined {
  using attr = allocateScratch(attrSize);
  const { view } = attr;
  view.setUint32(PERF_EVENT_ATTR.type, PERF_TYPE_SOFTWARE, true);
  view.setUint32(PERF_EVENT_ATTR.size, attrSize, true);
  setUint64(view, PERF_EVENT_ATTR.config, PERF_COUNT_SW_BPF_OUTPUT);
  setUint64(view, PERF_EVENT_ATTR.sample_period, 1);
  setUint64(view, PERF_EVENT_ATTR.sample_type, PERF_SAMPLE_RAW);
  const wakeup = watermark === undefined ? 0 : attrWatermark;
  const direction = overwrite ? attrWriteBackward : 0;
  view.setUint32(attrFlags, attrDisabled | wakeup | direction, true);
  view.setUint32(PERF_EVENT_ATTR.wakeup_events, watermark ?? wakeupEvents, true);
  const fd = openOnCpu(attr, cpu);
  if (fd >= 0) return fd;
  const errno = lastErrno();
  if (errnoName(errno) === "ENODEV") return undefined;
  throw perfError(errno, "perf_event_open", `open the ${what}`);
}

/** Returns a descriptor, or a negative number on failure. */
function openOnCpu(attr: Scratch, cpu: number): number {
  const allProcesses = -1;
  return open(attr, allProcesses, cpu);
}

function open(attr: Scratch, thread: number, cpu: number): number {
  const noGroup = -1;
  return otherSyscalls.perf_event_open(
    perfEventOpenNumber,
    attr.address as Pointer,
    thread,
    cpu,
    noGroup,
    PERF_FLAG_FD_CLOEXEC,
  );
}

/** Attaches a program to a perf event without a link, for kernels before 5.15. It is detached when the event is closed. */
export function setPerfEventProgram(
  eventFd: number,
  programFd: number,
  { doing, hints }: BpfCallContext,
): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_SET_BPF, programFd) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_SET_BPF)", doing, hints);
  }
}

/** Enables a perf event. */
export function enablePerfEvent(eventFd: number, what: string): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_ENABLE, 0) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_ENABLE)", `enable the ${what}`);
  }
}

/** Disables a perf event, also of threads that have inherited it. */
export function disablePerfEvent(eventFd: number, what: string): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_DISABLE, 0) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_DISABLE)", `disable the ${what}`);
  }
}

/**
 * Pauses or resumes a mapped perf event (kernel 4.7). While it is paused, records are dropped and counted as lost. A record
 * that is being written at that moment is completed.
 */
export function pausePerfEvent(eventFd: number, paused: boolean, what: string): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_PAUSE_OUTPUT, paused ? 1 : 0) < 0) {
    const doing = `${paused ? "pause" : "resume"} the ${what}`;
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_PAUSE_OUTPUT)", doing);
  }
}

/** The maximum length of an ArrayBuffer in the JavaScript engine, in bytes. */
const maxBufferSize = 2 ** 32;

const lockedMemoryHint =
  "The pages of all these buffers are locked: without CAP_IPC_LOCK, their number is limited by the sysctl kernel.perf_event_mlock_kb (per CPU) and the limit on locked memory (ulimit -l). Give the process that capability, raise one of the limits, or choose a smaller size";

/**
 * The pages that perf events share with user space: an array of slots of equal size, one for each event.
 *
 * All slots are in one mapping. So they are detached and unmapped together, or not at all while an asynchronous operation uses
 * one.
 */
export class PerfPages implements Disposable {
  /** The number of slots. */
  readonly length: number;
  readonly #memory: MappedMemory;
  readonly #slotLength: number;
  readonly #writable: boolean;
  readonly #what: string;

  /**
   * @param least the number of slots that are required; unused slots take no memory
   * @param most the number of slots to map; fewer are mapped if they would exceed the maximum length of a buffer
   * @param size bytes of data of each slot: a power of two and a multiple of the page size
   * @param writable false for overwrite mode, which the kernel uses for mappings that are not writable
   * @throws {RangeError} if `least` slots exceed the maximum length of a buffer, 4 GiB.
   */
  constructor(least: number, most: number, size: number, what: string, writable = true) {
    this.#slotLength = pageSize() + size;
    this.length = Math.min(most, Math.floor(maxBufferSize / this.#slotLength));
    if (this.length < least) {
      throw new RangeError(
        `size: ${least} buffers of ${size} bytes, and a page more for each, are more than the 4 GiB that can be mapped: choose a smaller size`,
      );
    }
    this.#writable = writable;
    this.#what = what;
    this.#memory = MappedMemory.anonymous(this.length * this.#slotLength, what, PROT_READ);
    tracing.registry?.add(this, {
      kind: "mapping",
      place: `mapping of ${this.#memory.length} bytes`,
      what: () => what,
    });
  }

  /** True once the memory is unmapped, or the buffer of its views was transferred. */
  get isTransferred(): boolean {
    return this.#memory.disposed;
  }

  /**
   * Maps an event into a slot, and replaces the present mapping of the slot.
   *
   * @throws {BpfError} EPERM if the limit on locked memory is exceeded; nothing has changed then.
   */
  map(slot: number, fd: number): PerfMemory {
    const protection = this.#writable ? PROT_READ | PROT_WRITE : PROT_READ;
    this.#mapTo(slot, protection, MAP_SHARED, fd);
    const start = slot * this.#slotLength;
    return new PerfMemory(this.#memory.buffer, start, this.#slotLength, this.#what);
  }

  /** Unmaps the event of a slot. Views of its data then show zeros. */
  clear(slot: number): void {
    this.#mapTo(slot, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  }

  #mapTo(slot: number, protection: number, flags: number, fd: number): void {
    const length = this.#slotLength;
    mapAt(this.#memory.address + slot * length, length, protection, flags, fd, this.#what);
  }

  /**
   * Detaches every view and unmaps the memory; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data. Nothing has changed then.
   */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    tracing.registry?.delete(this);
  }
}

/** Maps at an address within a mapping of this library, and replaces that part of it. */
function mapAt(
  target: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  what: string,
): void {
  // The event is first mapped at an address that the kernel chooses, where a failure changes nothing. A MAP_FIXED call that
  // fails can leave a hole in the mapping. Another thread may map memory there, which disposal would then unmap. (Mapping the
  // event twice instead of moving it would work too, but Linux 6.18 then never uncounts the locked pages.)
  const address = libc.mmap(null, length, protection, flags, fd, 0);
  if (typeof address !== "number" || address < 0) {
    const errno = lastErrno();
    const doing = `map ${length} bytes of the ${what}`;
    const hint = errnoName(errno) === "EPERM" ? lockedMemoryHint : undefined;
    throw new BpfError({ errno, syscall: "mmap", doing, hint });
  }
  if (otherLibc.mremap(address, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, target) !== target) {
    const errno = lastErrno();
    libc.munmap(address as Pointer, length);
    throw new BpfError({ errno, syscall: "mremap", doing: `move the mapping of the ${what}` });
  }
}

/**
 * The pages of one perf event (struct perf_event_mmap_page, kernel/events/ring_buffer.c): a page with the positions, and the
 * data, in which a record can wrap around the end.
 *
 * The pages are writable except in overwrite mode: the kernel distinguishes the modes by this.
 */
export class PerfMemory {
  /** The data: the record at position `p` begins at `p & (size - 1)`. */
  readonly data: DataView;
  /** Number of bytes that were overwritten before they were read: always 0, because the kernel drops records that do not fit. */
  readonly overwrittenBytes: number = 0;
  readonly #head: BigUint64Array<ArrayBuffer>;
  readonly #tail: BigUint64Array<ArrayBuffer>;

  constructor(buffer: ArrayBuffer, start: number, length: number, what: string) {
    const page = new DataView(buffer, start, PERF_EVENT_MMAP_PAGE.sizeof);
    // These fields exist since kernel 4.1, and programs can write to perf events only since 4.4, so the fields are always
    // set.
    const offset = getUint64(page, PERF_EVENT_MMAP_PAGE.data_offset);
    const size = getUint64(page, PERF_EVENT_MMAP_PAGE.data_size);
    if (offset + size > length || size < 8 || Math.log2(size) % 1 !== 0) {
      throw new Error(
        `cannot use the ${what}: the kernel reports ${size} bytes of data at offset ${offset}, but only ${length} bytes are mapped`,
      );
    }
    this.data = new DataView(buffer, start + offset, size);
    this.#head = new BigUint64Array(buffer, start + PERF_EVENT_MMAP_PAGE.data_head, 1);
    this.#tail = new BigUint64Array(buffer, start + PERF_EVENT_MMAP_PAGE.data_tail, 1);
  }

  /**
   * Returns the position up to which the kernel has written, in bytes since the event was mapped. Everything before it can be
   * read after this call.
   *
   * The kernel writes records and then, after a barrier, this position. The load is sequentially consistent, so that no later
   * load is moved before it, neither by the processor (LDAR on arm64) nor by the JavaScript engine's compilers. The loads of the
   * headers of records need no order among themselves: everything before this position was written earlier.
   */
  head(): number {
    return Number(Atomics.load(this.#head, 0));
  }

  /** Returns {@link head}. In overwrite mode a `SnapshotPerf` takes the place of this object, and its `look` copies records. */
  look(): number {
    return this.head();
  }

  /**
   * Returns, in overwrite mode, the bytes that the kernel has written since the event was mapped: the newest record begins this
   * far below the end of the data, modulo its size. Everything written before that can be read after this call.
   */
  written(): number {
    // The memory is read-only, and atomic loads cannot read it on every machine: see ring_memory.ts.
    let head = this.#head[0] as bigint;
    if (loadFence === undefined) head = Atomics.load(this.#head, 0);
    else orderLoads();
    return Number(-BigInt.asIntN(64, head));
  }

  /** Returns the position up to which records have been released. */
  tail(): number {
    return getUint64(new DataView(this.#tail.buffer, this.#tail.byteOffset, 8), 0);
  }

  /**
   * Releases all records before `position`: the kernel may overwrite them after this call.
   *
   * The interface requires a full barrier (`smp_mb()`) before this store, because barriers of loads or of stores alone do not
   * keep loads before a later store. A store with release semantics does, and the kernel's own reader uses one
   * (tools/include/linux/ring_buffer.h). This store is sequentially consistent (STLR on arm64, or an atomic instruction with
   * release semantics), so that all loads of the records are done before the kernel can see the position.
   */
  release(position: number): void {
    Atomics.store(this.#tail, 0, BigInt(position));
  }
}
