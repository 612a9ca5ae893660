import type { Descriptor } from "../ffi/descriptor.ts";
import { openPidfd } from "../ffi/pidfd.ts";
import { checkCount } from "../types/argument.ts";
import { type FdLike, fdOf } from "./fd_like.ts";
import type { MapHandle } from "./handle.ts";
import { ObjectStorage } from "./object_storage.ts";
import { storageKind, type StorageOptions, type StorageTypes } from "./storage_kind.ts";

/** Options of {@link TaskStorage}. */
export type TaskStorageOptions<V> = StorageOptions<V>;

/**
 * A process by its id in this process's pid namespace, or by an object with a pidfd (see pidfd_open(2)) as `fd`. Since kernel
 * 6.9 it can be the id of a thread, too.
 */
export type TaskOwner = number | Exclude<FdLike, number>;

/**
 * Task-local storage: one value with each thread, gone when the thread has ended. A process's id means its first thread.
 *
 * Kernel 5.11; for programs, those that trace and those of the BPF security module. A value has up to about 65,400 bytes.
 *
 * A number names a process, and a descriptor for it is opened for the call. When there is no such process, that is a
 * `BpfError` `ESRCH` in every method. A process that has ended while a pidfd is held keeps no value: `get` gives
 * `undefined`, `delete` and `replace` give false, and storing is refused with `ENOENT`.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.11, `E2BIG` for a value that is too large
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { TaskStorage, t } from "bun-bpf";
 * using watched = new TaskStorage({ value: t.u32, name: "watched" });
 * watched.set(process.pid, 1);
 * console.log(watched.get(process.pid), watched.get(1)); // 1 undefined
 * ```
 */
export class TaskStorage<V> extends ObjectStorage<TaskOwner, V> {
  /** @internal */
  static readonly kind = storageKind("task-storage", "TaskStorage", ["no-prealloc"]);

  constructor(options: TaskStorageOptions<V>);
  /** @internal */
  constructor(types: StorageTypes<V>, existing: MapHandle);
  constructor(options: StorageTypes<V>, existing = TaskStorage.kind.create(options)) {
    super(existing, options, {
      keyHints: {
        EBADF: "The descriptor is not that of a process (pidfd_open(2)), or it is closed",
      },
      hints: { ENOENT: "The process has ended" },
    });
  }

  /** Opens the storage pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<V>(path: string, types: StorageTypes<V>): TaskStorage<V> {
    return new TaskStorage(types, TaskStorage.kind.open(path, types));
  }

  /** Opens a storage by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: StorageTypes<V>): TaskStorage<V> {
    return new TaskStorage(types, TaskStorage.kind.byId(id, types));
  }

  /** Opens the storage behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: StorageTypes<V>): TaskStorage<V> {
    return new TaskStorage(types, TaskStorage.kind.byFd(fd, types));
  }

  override dup(): TaskStorage<V> {
    return new TaskStorage(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override descriptorOf(owner: TaskOwner): number | Descriptor {
    if (typeof owner !== "number") return fdOf(owner, "a pid, or a process");
    checkCount("pid", owner, 1);
    return openPidfd(owner);
  }
}
