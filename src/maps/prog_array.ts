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
import { type FdLike, idLayout } from "./value_layout.ts";
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
    "It is no BPF program, or another kind of program than those that the array is for, which the first one stored and the first one that uses the array settle: type, expected attach type and whether it is compiled must be the same",
  EBADF: "No file is open at that descriptor; an id, as reading gives it, is none",
  EBUSY: "The program has been extended by another one (freplace): such a program cannot be stored",
};

/**
 * An array of programs for tail calls: with the helper `tail_call`, a running program continues as another one. User space
 * stores programs and reads their ids.
 *
 * Kernel 4.2; reading 4.13. All programs in it are of one kind. The kernel empties the array soon after its last descriptor
 * and its last pin are gone, even while programs use it: pin it, or keep this object. A tail call to an empty place does
 * nothing, and the caller goes on.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
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
 *     asm.mov(r0, 0), // the place was empty
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
 */
export class ProgArray extends SparseArrayMap<number, FdLike, "prog_array"> {
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(PROG_ARRAY, "ProgArray", u32.size);

  constructor(options: ProgArrayOptions) {
    const handle = ProgArray.kind.handle(options);
    super(handle, { key: u32, value: idLayout("a program"), hints: progHints });
  }
}

/** Options of {@link CgroupArray}. */
export type CgroupArrayOptions = DescriptorArrayOptions;

const cgroupHints: Hints = {
  EBADF:
    "It is not open, or no directory of a cgroup2 file system: those of cgroup version 1 do not do",
};

/**
 * An array of cgroups to test against: programs ask whether the current task is in the cgroup at an index (helper
 * `current_task_under_cgroup`), or a packet's socket (`skb_under_cgroup`). User space can store and delete cgroups, but not
 * read them.
 *
 * Kernel 4.8, with cgroup version 2. A cgroup stays in the array when its directory is removed.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { CgroupArray } from "bun-bpf";
 * using cgroups = new CgroupArray({ length: 1, name: "cgroups" });
 * try {
 *   cgroups.set(0, "/sys/fs/cgroup/system.slice");
 *   cgroups.delete(0);
 * } catch (error) {
 *   console.error(String(error)); // where there is no such cgroup of version 2
 * }
 * console.log(cgroups.delete(0)); // false
 * ```
 */
export class CgroupArray extends WriteOnlyArrayMap<FdLike, "cgroup_array"> {
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(CGROUP_ARRAY, "CgroupArray", u32.size);

  constructor(options: CgroupArrayOptions) {
    const handle = CgroupArray.kind.handle(options);
    super(handle, {
      key: u32,
      value: idLayout("a path of a cgroup or the cgroup's directory"),
      hints: cgroupHints,
    });
  }

  /**
   * Stores a cgroup at an index: the path of its directory, such as `"/sys/fs/cgroup/system.slice"`, or that directory,
   * open.
   *
   * @throws {BpfError} `EBADF` for what is not a directory of a cgroup2 file system: the place is as before
   * @throws {TypeError | RangeError} for an index outside the array, or what is neither a path nor a descriptor
   * @throws what `fs.openSync` throws for the path: `ENOENT`, `ENOTDIR`, ...
   */
  override set(index: number, cgroup: string | FdLike): this {
    if (typeof cgroup !== "string") return super.set(index, cgroup);
    checkIndex(this, index);
    if (cgroup === "" || cgroup.includes("\0")) {
      throw new TypeError(
        `value of ${this}: expected a path of a cgroup, such as "/sys/fs/cgroup/system.slice", got ${describe(cgroup)}`,
      );
    }
    void this.fd;
    const directory = openSync(cgroup, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      return super.set(index, directory);
    } finally {
      closeSync(directory);
    }
  }

  /** Empties a place; whether a cgroup was there. @throws {TypeError | RangeError} for an index outside the array */
  delete(index: number): boolean {
    return this.empty(index);
  }
}

/** Options of {@link PerfEventArray}. */
export type PerfEventArrayOptions = CpuArrayOptions;

const perfEventHints: Hints = {
  EBADF: "No perf event is open at that descriptor: perf_event_open(2) opens one",
  EOPNOTSUPP: "Programs cannot read the counter of an event that child processes inherit",
};

/**
 * An array of perf events: programs write records into their buffers (helper `perf_event_output`, usually with the CPU as
 * the index) or read their counters (`perf_event_read_value`). User space can store and delete events, but not read them.
 *
 * Kernel 4.3. An event stays in the array when its own descriptor is closed. It leaves once the object that stored it is
 * disposed of, and all its `dup()`s and copies in other processes are. With the flag `"preserve_elems"` (kernel 5.10) it
 * stays for as long as the array does.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BpfError, PerfEventArray, possibleCpus } from "bun-bpf";
 * using events = new PerfEventArray({ name: "events" });
 * console.log(events.length === Math.max(...possibleCpus()) + 1); // true
 * try {
 *   events.set(0, 0); // a descriptor of perf_event_open(2) would do, standard input does not
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.code); // EBADF
 * }
 * console.log(events.delete(0)); // false
 * ```
 */
export class PerfEventArray extends WriteOnlyArrayMap<FdLike, "perf_event_array"> {
  static readonly kind = /*@__PURE__*/ cpuArrayKind(PERF_EVENT_ARRAY, "PerfEventArray", u32.size);

  constructor(options: PerfEventArrayOptions = {}) {
    const handle = PerfEventArray.kind.handle(options);
    super(handle, { key: u32, value: idLayout("a perf event"), hints: perfEventHints });
  }

  /** Empties a place; whether an event was there. @throws {TypeError | RangeError} for an index outside the array */
  delete(index: number): boolean {
    return this.empty(index);
  }
}
