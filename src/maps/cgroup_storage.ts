import { constants } from "node:fs";
import type { Descriptor } from "../ffi/descriptor.ts";
import { type FdLike, fdOf } from "./fd_like.ts";
import type { MapHandle } from "./handle.ts";
import { ObjectStorage } from "./object_storage.ts";
import { openOwner } from "./path_owner.ts";
import { storageKind, type StorageOptions, type StorageTypes } from "./storage_kind.ts";

/** Options of {@link CgroupStorage}. */
export type CgroupStorageOptions<V> = StorageOptions<V>;

/**
 * Cgroup-local storage: one value with each control group, gone when the group is.
 *
 * Kernel 6.2; the kernel's name is `BPF_MAP_TYPE_CGRP_STORAGE`, and it has nothing to do with the older
 * `BPF_MAP_TYPE_CGROUP_STORAGE`, whose values belong to a program as well. A value has up to about 65,400 bytes.
 *
 * A group is named by the path of its directory, which is opened for the call, or by a descriptor of that directory, with
 * which `O_PATH` will do. Groups of version 1 are taken as well. What is at the path must be a directory: otherwise the
 * method throws what `fs` throws, `ENOENT` or `ENOTDIR`.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 6.2, `E2BIG` for a value that is too large
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { CgroupStorage, t } from "bun-bpf";
 * using limits = new CgroupStorage({ value: t.u64, name: "limits" });
 * try {
 *   limits.set("/sys/fs/cgroup", 100n);
 *   console.log(limits.get("/sys/fs/cgroup"));
 * } catch (error) {
 *   console.error(String(error)); // where no cgroup file system is mounted there
 * }
 * ```
 */
export class CgroupStorage<V> extends ObjectStorage<string | FdLike, V> {
  /** @internal */
  static readonly kind = storageKind("cgrp-storage", "CgroupStorage", ["no-prealloc"]);

  constructor(options: CgroupStorageOptions<V>);
  /** @internal */
  constructor(types: StorageTypes<V>, existing: MapHandle);
  constructor(options: StorageTypes<V>, existing = CgroupStorage.kind.create(options)) {
    super(existing, options, {
      keyHints: {
        EBADF:
          "There is no cgroup: the path or descriptor must be of a directory of a mounted cgroup file system, and the group not removed",
      },
    });
  }

  /** Opens the storage pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<V>(path: string, types: StorageTypes<V>): CgroupStorage<V> {
    return new CgroupStorage(types, CgroupStorage.kind.open(path, types));
  }

  /** Opens a storage by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: StorageTypes<V>): CgroupStorage<V> {
    return new CgroupStorage(types, CgroupStorage.kind.byId(id, types));
  }

  /** Opens the storage behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: StorageTypes<V>): CgroupStorage<V> {
    return new CgroupStorage(types, CgroupStorage.kind.byFd(fd, types));
  }

  override dup(): CgroupStorage<V> {
    return new CgroupStorage(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override descriptorOf(owner: string | FdLike): number | Descriptor {
    if (typeof owner === "string") return openOwner(owner, constants.O_DIRECTORY);
    return fdOf(owner, "the path of a cgroup, or its directory");
  }
}
