import { closeSync, constants, openSync } from "node:fs";
import type { Hints } from "../ffi/map_hints.ts";
import { u32 } from "../types/integer.ts";
import { describe } from "../types/refusal.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import type { FdLike } from "./fd_like.ts";
import { idLayout } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { checkIndex } from "./index_check.ts";
import { WriteOnlyArrayMap } from "./write_only_array_map.ts";

/** Options of {@link CgroupArray}. */
export type CgroupArrayOptions = DescriptorArrayOptions;

const cgroupHints: Hints = {
  EBADF:
    "It is not open, or no directory of a cgroup2 file system: those of cgroup version 1 do not do",
};

/**
 * Cgroups that programs ask about by index: whether the current task is in one (helper `current_task_under_cgroup`) or a
 * packet's socket is (`skb_under_cgroup`). User space stores and deletes cgroups and cannot look.
 *
 * Kernel 4.8, with cgroup version 2. A cgroup stays in the array when its directory is removed.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { CgroupArray } from "bun-bpf";
 * using cgroups = new CgroupArray({ maxEntries: 1, name: "cgroups" });
 * try {
 *   cgroups.set(0, "/sys/fs/cgroup/system.slice");
 *   cgroups.delete(0);
 * } catch (error) {
 *   console.error(String(error)); // where there is no such cgroup of version 2
 * }
 * console.log(cgroups.delete(0)); // false
 * ```
 */
export class CgroupArray extends WriteOnlyArrayMap<FdLike> {
  /** @internal */
  static readonly kind = descriptorArrayKind("cgroup-array", "CgroupArray", u32.size);

  constructor(options: CgroupArrayOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = CgroupArray.kind.create(options)) {
    super(existing, {
      key: u32,
      value: idLayout("a path of a cgroup or the cgroup's directory"),
      hints: cgroupHints,
    });
  }

  /** Opens the array pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): CgroupArray {
    return new CgroupArray(noTypes, CgroupArray.kind.open(path, noTypes));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): CgroupArray {
    return new CgroupArray(noTypes, CgroupArray.kind.byId(id, noTypes));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): CgroupArray {
    return new CgroupArray(noTypes, CgroupArray.kind.byFd(fd, noTypes));
  }

  /**
   * Stores a cgroup at an index: the path of its directory, such as `"/sys/fs/cgroup/system.slice"`, or that directory,
   * open.
   *
   * @throws {BpfError} `EBADF` for what is no directory of a cgroup2 file system: the place is as before
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

  override dup(): CgroupArray {
    return new CgroupArray(noTypes, this.duplicateHandle());
  }
}
