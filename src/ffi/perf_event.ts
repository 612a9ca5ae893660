import type { Pointer } from "bun:ffi";
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
  PERF_COUNT_SW_DUMMY,
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

/** The first published size of the struct (PERF_ATTR_SIZE_VER0), which every kernel takes. */
const attrSize = PERF_EVENT_ATTR.config2;
/** With the second field of configuration (PERF_ATTR_SIZE_VER1), which every kernel with BPF takes. */
const probeAttrSize = PERF_EVENT_ATTR.config2 + 8;
/** Where the struct has its bit-fields. */
const attrFlags = PERF_EVENT_ATTR.disabled_bit / 8;
/** In these: does not count from the start. */
const attrDisabled = 1 << 0;
/** In these: writes records downwards, over older ones that were not read. */
const attrWriteBackward = 1 << (PERF_EVENT_ATTR.write_backward_bit - PERF_EVENT_ATTR.disabled_bit);
/** In these: `wakeup_watermark` is meant, not `wakeup_events`. */
const attrWatermark = 1 << (PERF_EVENT_ATTR.watermark_bit - PERF_EVENT_ATTR.disabled_bit);

function perfError(errno: number, syscall: string, doing: string): BpfError {
  const refused = ["EPERM", "EACCES"].includes(errnoName(errno));
  return new BpfError({
    errno,
    syscall,
    doing,
    hint: refused ? explainPerfRefusal : undefined,
  });
}

/** Some distributions have a level of their own, 3, at which CAP_PERFMON is not enough. */
function explainPerfRefusal(): string {
  const level = Number(readFileSync("/proc/sys/kernel/perf_event_paranoid", "utf8"));
  if (level <= 2 || hasCapability("CAP_SYS_ADMIN")) return explainPermission(["CAP_PERFMON"]);
  return `${explainPermission(["CAP_SYS_ADMIN"])}. Or set the sysctl kernel.perf_event_paranoid to 2: at ${level}, this kernel asks for more than CAP_PERFMON`;
}

const onlinePath = "/sys/devices/system/cpu/online";

/** Returns the ids of the CPUs that are online now, in their order. */
export function onlineCpus(): number[] {
  return parseCpuList(readFileSync(onlinePath, "utf8"));
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

/** A probe of a function of the kernel by name, or of a place in a file by path. */
export interface ProbeEvent {
  /** The kernel's number for this sort of event. */
  readonly type: number;
  /** The configuration for this sort: the return instead of the entry, say. */
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
    fd = openOnCpu(attr, firstCpu(readFileSync(onlinePath, "utf8")));
  }
  if (fd < 0) throw perfError(lastErrno(), "perf_event_open", `open the ${what}`);
  return fd;
}

/** Options of {@link openOutputEvent}. */
export interface OutputEventOptions {
  /** Bytes after which the kernel wakes waiters. */
  readonly watermark?: number | undefined;
  /** Records after which the kernel wakes waiters, if there is no watermark. @default 1 */
  readonly wakeupEvents?: number | undefined;
  /** New records overwrite the oldest ones (kernel 4.7). @default false */
  readonly overwrite?: boolean;
}

/**
 * Opens the perf event that programs which run on a CPU write records to, not enabled yet; `undefined` for a CPU that is
 * offline.
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

/** A descriptor, or what is below 0 for an error. */
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

/** Sets a perf event's program, for kernels without links for perf events (before 5.15): it goes when the event closes. */
export function setPerfEventProgram(eventFd: number, programFd: number, what: string): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_SET_BPF, programFd) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_SET_BPF)", `attach to the ${what}`);
  }
}

/** Starts a perf event. */
export function enablePerfEvent(eventFd: number, what: string): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_ENABLE, 0) < 0) {
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_ENABLE)", `enable the ${what}`);
  }
}

/**
 * Pauses or resumes a mapped perf event: while paused, records are dropped and counted as lost (kernel 4.7). A record that is being
 * written at that moment is completed.
 */
export function pausePerfEvent(eventFd: number, paused: boolean, what: string): void {
  if (otherLibc.ioctl(eventFd, PERF_EVENT_IOC_PAUSE_OUTPUT, paused ? 1 : 0) < 0) {
    const doing = `${paused ? "pause" : "resume"} the ${what}`;
    throw perfError(lastErrno(), "ioctl(PERF_EVENT_IOC_PAUSE_OUTPUT)", doing);
  }
}

/** No buffer of the engine is longer. */
const largestRun = 2 ** 32;

const lockedMemoryHint =
  "The pages of all these buffers are locked: without CAP_IPC_LOCK, kernel.perf_event_mlock_kb (for each CPU) and the limit of locked memory (ulimit -l) bound them. Give that capability, raise either, or take a smaller size";

/**
 * The pages that perf events share with user space: one place after the other, each for one event.
 *
 * All are in one mapping, so that they are detached and unmapped together, or not at all while an asynchronous operation uses one.
 */
export class PerfPages implements Disposable {
  /** The number of places. */
  readonly length: number;
  readonly #memory: MappedMemory;
  readonly #placeLength: number;
  readonly #writable: boolean;
  readonly #what: string;

  /**
   * @param least the number of places that are needed; unused places take no memory
   * @param most the number of places that are wanted, as far as the engine can map them
   * @param size bytes of data of each: a power of two and a multiple of the page size
   * @param writable false for overwrite mode, which the kernel chooses for mappings that are not writable
   */
  constructor(least: number, most: number, size: number, what: string, writable = true) {
    this.#placeLength = pageSize() + size;
    this.length = Math.min(most, Math.floor(largestRun / this.#placeLength));
    if (this.length < least) {
      throw new RangeError(
        `size: ${least} buffers of ${size} bytes, and a page more for each, are more than the 4 GiB that can be mapped`,
      );
    }
    this.#writable = writable;
    this.#what = what;
    this.#memory = MappedMemory.anonymous(this.length * this.#placeLength, what, PROT_READ);
    tracing.registry?.add(this, {
      kind: "mapping",
      place: `mapping of ${this.#memory.length} bytes`,
      what: () => what,
    });
  }

  /** True once the memory is unmapped, or the buffer of its views was transferred. */
  get isGivenAway(): boolean {
    return this.#memory.disposed;
  }

  /**
   * Maps an event to a place, instead of what was there.
   *
   * @throws {BpfError} `EPERM` where the limit on locked memory is exceeded; nothing has changed then
   */
  map(place: number, fd: number): PerfMemory {
    const protection = this.#writable ? PROT_READ | PROT_WRITE : PROT_READ;
    this.#mapTo(place, protection, MAP_SHARED, fd);
    const start = place * this.#placeLength;
    return new PerfMemory(this.#memory.buffer, start, this.#placeLength, this.#what);
  }

  /** Unmaps the event of a place: views of its data show zeros from then on. */
  clear(place: number): void {
    this.#mapTo(place, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  }

  #mapTo(place: number, protection: number, flags: number, fd: number): void {
    const length = this.#placeLength;
    mapAt(this.#memory.address + place * length, length, protection, flags, fd, this.#what);
  }

  /**
   * Detaches every view and unmaps; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data: all is as before then
   */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    tracing.registry?.delete(this);
  }
}

/** Maps at an address that belongs to a mapping of this library. */
function mapAt(
  target: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  what: string,
): void {
  // First at an address of the kernel's choice, where a refusal leaves all as it was. Refused at an address that is in use,
  // it leaves a hole there, in which another thread's memory can be by the time that all of this is unmapped. (To map it twice
  // instead of moving it would do as well, but Linux 6.18 then counts the pages as locked for as long as it runs.)
  const address = libc.mmap(null, length, protection, flags, fd, 0);
  if (typeof address !== "number" || address < 0) {
    const errno = lastErrno();
    const refused = errnoName(errno) === "EPERM";
    const doing = `map ${length} bytes of the ${what}`;
    const hint = refused ? lockedMemoryHint : undefined;
    throw new BpfError({ errno, syscall: "mmap", doing, hint });
  }
  if (otherLibc.mremap(address, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, target) !== target) {
    const errno = lastErrno();
    libc.munmap(address as Pointer, length);
    throw new BpfError({ errno, syscall: "mremap", doing: `move the ${what} to their place` });
  }
}

/**
 * The pages of one perf event (struct perf_event_mmap_page, kernel/events/ring_buffer.c): a page with the positions, and the
 * data, in which a record can wrap around the end.
 *
 * It is writable except in overwrite mode: the kernel distinguishes the modes by that.
 */
export class PerfMemory {
  /** The data: the record at position `p` begins at `p & (size - 1)`. */
  readonly data: DataView;
  /** Bytes that were overwritten before they could be read: always 0, as records without room are dropped. */
  readonly overwrittenBytes: number = 0;
  readonly #head: BigUint64Array<ArrayBuffer>;
  readonly #tail: BigUint64Array<ArrayBuffer>;

  constructor(buffer: ArrayBuffer, start: number, length: number, what: string) {
    const page = new DataView(buffer, start, PERF_EVENT_MMAP_PAGE.sizeof);
    // Kernel 4.1 tells them, and programs write to perf events since 4.4 only.
    const offset = getUint64(page, PERF_EVENT_MMAP_PAGE.data_offset);
    const size = getUint64(page, PERF_EVENT_MMAP_PAGE.data_size);
    if (offset + size > length || size < 8 || Math.log2(size) % 1 !== 0) {
      throw new Error(
        `the ${what} cannot be used: the kernel says that ${size} bytes of data begin at ${offset}, in ${length} bytes that were mapped`,
      );
    }
    this.data = new DataView(buffer, start + offset, size);
    this.#head = new BigUint64Array(buffer, start + PERF_EVENT_MMAP_PAGE.data_head, 1);
    this.#tail = new BigUint64Array(buffer, start + PERF_EVENT_MMAP_PAGE.data_tail, 1);
  }

  /**
   * Returns the position up to which the kernel has written, in bytes since the event was mapped: what lies before that may be
   * read after this.
   *
   * The kernel writes records and then, after a barrier, this position. The load is sequentially consistent, and so no load
   * after it comes before it, neither by the processor (LDAR on arm64) nor by the engine's compilers. The headers of
   * records need no order of their own: all that is read is older than this position.
   */
  head(): number {
    return Number(Atomics.load(this.#head, 0));
  }

  /** Makes the written records readable, and returns the position up to which they are: {@link head}. */
  look(): number {
    return this.head();
  }

  /**
   * Returns, in overwrite mode, the bytes that the kernel has written since the event was mapped: the newest record begins this far
   * below the end of the data, modulo its size. Everything written before that can be read after this call.
   */
  written(): number {
    // The memory is read-only, and atomic loads cannot read that on every machine: see ring_memory.ts.
    let head = this.#head[0] as bigint;
    if (loadFence === undefined) head = Atomics.load(this.#head, 0);
    else orderLoads();
    return Number(-BigInt.asIntN(64, head));
  }

  /** Returns the position up to which records are released by now. */
  tail(): number {
    return getUint64(new DataView(this.#tail.buffer, this.#tail.byteOffset, 8), 0);
  }

  /**
   * Releases all records before `position`: the kernel may overwrite them from now on.
   *
   * The interface asks for a full barrier before this store (`smp_mb()`), because it keeps loads before a later store, which
   * barriers of loads or of stores alone do not. A store with release semantics does that too, as the kernel's own reader has
   * it (tools/include/linux/ring_buffer.h): this one is sequentially consistent (STLR on arm64, or an atomic instruction with
   * release semantics), so that all loads of the records are done before the kernel can see the position.
   */
  release(position: number): void {
    Atomics.store(this.#tail, 0, BigInt(position));
  }
}
