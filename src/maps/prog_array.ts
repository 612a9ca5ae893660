import { CGROUP_ARRAY, PERF_EVENT_ARRAY, PROG_ARRAY } from "./map_types.ts";
import { closeSync, constants, openSync } from "../ffi/files.ts";
import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import { SparseArrayMap, WriteOnlyArrayMap } from "./descriptor_array.ts";
import { checkIndex } from "./elements.ts";
import {
  cpuArrayKind,
  type CpuArrayOptions,
  descriptorArrayKind,
  type DescriptorArrayOptions,
} from "./map_options.ts";
import type { FdLike } from "../handle/fd_like.ts";
import { idLayout } from "./value_layout.ts";
import { u32 } from "../types/integer.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    ProgArray: ProgArray;
    CgroupArray: CgroupArray;
    PerfEventArray: PerfEventArray;
  }
}

/** Options of {@link ProgArray}. */
export type ProgArrayOptions = DescriptorArrayOptions;

const progHints: Hints = {
  EINVAL:
    "The descriptor is not a BPF program, or the program differs from the first one that was stored in the array or uses it: type, expected attach type and JIT compilation must be the same",
  EBADF: "No file is open at that descriptor; the ids that get() returns are not descriptors",
  EBUSY: "The program is extended by another one (freplace): such a program cannot be stored",
};

/**
 * Array of programs for tail calls: with the helper `tail_call`, a running program continues as another one. User space
 * stores programs and reads their ids.
 *
 * Keys are indexes from 0 to `length - 1`. All programs in the array must have the same type, expected attach type and JIT
 * compilation. A tail call to an empty slot fails, and the caller continues. The kernel empties the array soon after its
 * last descriptor is closed and its last pin is removed, even while programs use the array: pin the array, or keep this
 * object.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { asm, ProgArray, Program } from "bun-bpf";
 * const { r0, r2, r3 } = asm;
 * using steps = new ProgArray({ length: 4, name: "steps" });
 * using first = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { steps },
 *   code: [
 *     asm.ldMap(r2, "steps"), // r1 is the context
 *     asm.mov(r3, 1),
 *     asm.call("tail_call"),
 *     asm.mov(r0, 0), // the slot was empty
 *     asm.exit(),
 *   ],
 * });
 * using second = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   code: [asm.mov(r0, 7), asm.exit()],
 * });
 * const packet = { data: new Uint8Array(14) };
 * console.log(first.testRun(packet).returnValue); // 0
 * steps.set(1, second);
 * console.log(first.testRun(packet).returnValue); // 7
 * console.log(steps.get(1) === second.info().id, steps.get(0)); // true undefined
 * ```
 *
 * Requires Linux 4.13.
 */
export class ProgArray extends SparseArrayMap<number, FdLike, "prog_array"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(PROG_ARRAY, "ProgArray", u32.size);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: ProgArrayOptions) {
    const handle = ProgArray.kind.handle(options);
    super(handle, { key: u32, value: idLayout("a program"), hints: progHints });
  }
}

/** Options of {@link CgroupArray}. */
export type CgroupArrayOptions = DescriptorArrayOptions;

const cgroupHints: Hints = {
  EBADF:
    "The descriptor is not open, or it is not a directory of a cgroup2 file system: cgroup version 1 is not supported",
};

/**
 * Array of cgroups for membership tests: programs ask whether the current task is in the cgroup at an index (helper
 * `current_task_under_cgroup`), or the socket of a packet (`skb_under_cgroup`). User space can store and delete cgroups,
 * but cannot read them.
 *
 * Keys are indexes from 0 to `length - 1`. The cgroups must be of cgroup version 2. A cgroup stays in the array after its
 * directory is removed.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { CgroupArray } from "bun-bpf";
 * using cgroups = new CgroupArray({ length: 1, name: "cgroups" });
 * try {
 *   cgroups.set(0, "/sys/fs/cgroup/system.slice");
 *   cgroups.delete(0);
 * } catch (error) {
 *   console.error(String(error)); // if there is no such cgroup of version 2
 * }
 * console.log(cgroups.delete(0)); // false
 * ```
 *
 * Requires Linux 4.13.
 */
export class CgroupArray extends WriteOnlyArrayMap<FdLike, "cgroup_array"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(CGROUP_ARRAY, "CgroupArray", u32.size);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: CgroupArrayOptions) {
    const handle = CgroupArray.kind.handle(options);
    super(handle, {
      key: u32,
      value: idLayout("the path of a cgroup or its open directory"),
      hints: cgroupHints,
    });
  }

  /**
   * Stores a cgroup at an index. `cgroup` is the path of its directory, such as `"/sys/fs/cgroup/system.slice"`, or a
   * descriptor of the directory.
   *
   * @throws {BpfError} EBADF if it is not a directory of a cgroup2 file system. The slot is unchanged then.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is neither a path nor a descriptor.
   * @throws {Error} as `fs.openSync` for the path: `ENOENT`, `ENOTDIR`, ...
   */
  override set(index: number, cgroup: string | FdLike): this {
    if (typeof cgroup !== "string") return super.set(index, cgroup);
    checkIndex(this, index);
    if (cgroup === "" || cgroup.includes("\0")) {
      throw new TypeError(
        `value of ${this}: expected the path of a cgroup, such as "/sys/fs/cgroup/system.slice", got ${describe(cgroup)}`,
      );
    }
    // Throws a DisposedError after disposal, before the directory is opened.
    void this.fd;
    const directory = openSync(cgroup, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      return super.set(index, directory);
    } finally {
      closeSync(directory);
    }
  }

  /**
   * Empties a slot. Returns true if it had a cgroup.
   *
   * @throws {TypeError | RangeError} if the index is outside the array.
   */
  delete(index: number): boolean {
    return this.empty(index);
  }
}

/** Options of {@link PerfEventArray}. */
export type PerfEventArrayOptions = CpuArrayOptions;

const perfEventHints: Hints = {
  EBADF: "No perf event is open at that descriptor: perf_event_open(2) opens one",
  EOPNOTSUPP:
    "Child processes inherit the event, and programs cannot read the counter of such an event: open it without `inherit`",
};

/**
 * Array of perf events: programs write records to their buffers (helper `perf_event_output`, usually with the CPU number as
 * the index) or read their counters (`perf_event_read_value`). User space can store and delete events, but cannot read
 * them. {@link PerfBuffer} opens the events and reads their records.
 *
 * Keys are indexes from 0 to `length - 1`. An event stays in the array after its own descriptor is closed. The kernel
 * removes the event once the object that stored it and all `dup()`s of that object are disposed of, including copies in
 * other processes. With the flag `"preserve_elems"` (Linux 5.10) the event stays as long as the array exists.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { BpfError, PerfEventArray, possibleCpus } from "bun-bpf";
 * using events = new PerfEventArray({ name: "events" });
 * console.log(events.length === Math.max(...possibleCpus()) + 1); // true
 * try {
 *   events.set(0, 0); // standard input is not a descriptor of perf_event_open(2)
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.code); // EBADF
 * }
 * console.log(events.delete(0)); // false
 * ```
 *
 * Requires Linux 4.13.
 */
export class PerfEventArray extends WriteOnlyArrayMap<FdLike, "perf_event_array"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ cpuArrayKind(PERF_EVENT_ARRAY, "PerfEventArray", u32.size);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: PerfEventArrayOptions = {}) {
    const handle = PerfEventArray.kind.handle(options);
    super(handle, { key: u32, value: idLayout("a perf event"), hints: perfEventHints });
  }

  /**
   * Empties a slot. Returns true if it had an event.
   *
   * @throws {TypeError | RangeError} if the index is outside the array.
   */
  delete(index: number): boolean {
    return this.empty(index);
  }
}
