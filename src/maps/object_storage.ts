import { constants, openSync } from "../ffi/files.ts";
import { checkCount } from "../check/arguments.ts";
import { describe, withContext } from "../check/describe.ts";
import type { KindHints } from "../ffi/bpf_map.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { openPidfd } from "../ffi/namespace.ts";
import type { MapHandle } from "./create.ts";
import { BpfMap } from "./bpf_map.ts";
import { type ElementOptions, MapElements } from "./elements.ts";
import {
  type AnyType,
  storageKind,
  type StorageOptions,
  type TypeIn,
  type ValueTypes,
} from "./map_options.ts";
import {
  CGRP_STORAGE,
  INODE_STORAGE,
  SK_STORAGE,
  TASK_STORAGE,
  type MapTypeName,
} from "./map_types.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { i32 } from "../types/integer.ts";
import { hasSpinLock } from "../types/opaque.ts";
import type { Infer, Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import { O_PATH } from "../uapi/system.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    SkStorage: SkStorage<TypeIn<T, "value">>;
    TaskStorage: TaskStorage<TypeIn<T, "value">>;
    InodeStorage: InodeStorage<TypeIn<T, "value">>;
    CgroupStorage: CgroupStorage<TypeIn<T, "value">>;
  }
}

/**
 * Opens a path with O_PATH: without the right to read it, and without the effects of opening a device or a named pipe. The
 * kernel accepts such a descriptor as the owner of a value.
 *
 * @param flags further flags of open(2)
 * @throws {TypeError} if the text is not a path.
 * @throws {Error} as `fs.openSync`: `ENOENT` if nothing is at the path.
 */
function openOwner(path: string, flags = 0): Descriptor {
  if (path === "" || path.includes("\0")) {
    throw new TypeError(`expected a path, got ${describe(path)}`);
  }
  return new Descriptor(openSync(path, O_PATH | flags), path);
}

/**
 * Largest number of attempts to store a value for which the kernel returns EAGAIN. So far the second attempt has always
 * succeeded.
 */
const maxAttempts = 100;

/**
 * Returns true if the kernel rejected a value because it was freeing the owner's other values, or because another thread
 * stored the owner's first value. The kernel leaves the retry to the caller (`bpf_local_storage_update`).
 */
function isUpdateRace(error: unknown): boolean {
  return error instanceof BpfError && error.code === "EAGAIN";
}

/**
 * Base class of local storage: maps that keep one value for each owner. The owner is a kernel object: a socket, task, inode
 * or cgroup. The kernel finds the value without a search, and frees it with the owner or with the map.
 *
 * Programs pass the owner itself. User space names the owner by a descriptor, or by an id or path that is opened for the
 * call (type `Owner`). The kernel has no list of owners, so there is no iteration, no count and no call for many owners.
 */
export abstract class ObjectStorage<
  Owner,
  V,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  /** @internal Redeclared by the classes. */
  protected readonly types: object;
  readonly #elements: MapElements<number, V>;

  /** @internal */
  protected constructor(handle: MapHandle<ValueTypes<AnyType>>, hints: KindHints) {
    super(handle);
    this.types = handle.types;
    const value = handle.types.value as Type<V>;
    const isLocked = hasSpinLock(value);
    this.#elements = new MapElements(handle, { key: i32, value, isLocked, ...hints });
  }

  /** @internal Returns the descriptor of an owner: the caller's as a number, or one that was opened for the call. */
  protected abstract descriptorOf(owner: Owner): number | Descriptor;

  /**
   * Returns the value of an owner, or `undefined` if it has none.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner: `hint` names the required kind
   *   of object.
   * @throws {TypeError | RangeError} if the argument does not name an owner.
   * @throws {DecodeError} if the value type cannot decode the value.
   */
  get(owner: Owner, options?: ElementOptions): V | undefined {
    return this.#call(owner, (fd) => this.#elements.get(fd, options));
  }

  /**
   * Returns true if the owner has a value.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner: `hint` names the required kind
   *   of object.
   * @throws {TypeError | RangeError} if the argument does not name an owner.
   */
  has(owner: Owner): boolean {
    return this.#call(owner, (fd) => this.#elements.has(fd));
  }

  /**
   * Stores the value of an owner, and replaces the previous one if there is one.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner; ENOMEM if the kernel has no
   *   memory for the value.
   * @throws {TypeError | RangeError} if the argument does not name an owner, or if the value type rejects the value.
   */
  set(owner: Owner, value: V, options?: ElementOptions): this {
    this.#store(owner, value, BPF_ANY, options);
    return this;
  }

  /**
   * Stores a value only if the owner has none. Returns true if it was stored.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner; ENOMEM if the kernel has no
   *   memory for the value.
   * @throws {TypeError | RangeError} if the argument does not name an owner, or if the value type rejects the value.
   */
  add(owner: Owner, value: V, options?: ElementOptions): boolean {
    return this.#store(owner, value, BPF_NOEXIST, options);
  }

  /**
   * Stores a value only if the owner has one. Returns true if it was stored.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner; ENOMEM if the kernel has no
   *   memory for the value.
   * @throws {TypeError | RangeError} if the argument does not name an owner, or if the value type rejects the value.
   */
  replace(owner: Owner, value: V, options?: ElementOptions): boolean {
    return this.#store(owner, value, BPF_EXIST, options);
  }

  /**
   * Deletes the value of an owner. Returns true if there was one.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner: `hint` names the required kind
   *   of object.
   * @throws {TypeError | RangeError} if the argument does not name an owner.
   */
  delete(owner: Owner): boolean {
    return this.#call(owner, (fd) => this.#elements.delete(fd));
  }

  /**
   * Returns the value of an owner and deletes it, or returns `undefined` if it has none. The call takes two steps, a look-up
   * and a deletion: an update between them is lost.
   *
   * @throws {BpfError} EBADF or another error if the descriptor does not refer to an owner: `hint` names the required kind
   *   of object.
   * @throws {TypeError | RangeError} if the argument does not name an owner.
   * @throws {DecodeError} if the value type cannot decode the value.
   */
  take(owner: Owner): V | undefined {
    return this.#call(owner, (fd) => this.#elements.take(fd));
  }

  #store(owner: Owner, value: V, flags: number, options: ElementOptions | undefined): boolean {
    return this.#call(owner, (fd) => {
      for (let attempt = 1; ; attempt++) {
        try {
          return this.#elements.set(fd, value, flags, options);
        } catch (error) {
          if (attempt >= maxAttempts || !isUpdateRace(error)) throw error;
        }
      }
    });
  }

  #call<R>(owner: Owner, call: (fd: number) => R): R {
    // Throws a DisposedError after disposal, before an owner is opened.
    void this.fd;
    const found = this.#find(owner);
    using opened = found instanceof Descriptor ? found : undefined;
    return call(opened === undefined ? (found as number) : opened.fd);
  }

  /** Closes the descriptor and frees the memory for calls. Further calls do nothing. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }

  #find(owner: Owner): number | Descriptor {
    try {
      return this.descriptorOf(owner);
    } catch (error) {
      const isRefusal = error instanceof TypeError || error instanceof RangeError;
      throw isRefusal ? withContext(error, `owner of a value of ${this}`) : error;
    }
  }
}

/**
 * Options of {@link SkStorage}. With the flag `"clone"`, a listening socket's value is copied to the sockets that it
 * accepts.
 */
export type SkStorageOptions<V extends AnyType> = StorageOptions<V, "no_prealloc" | "clone">;

const noSocketHint = "The descriptor does not refer to a socket, or it is closed";

/**
 * Socket-local storage: one value for each socket, freed with the socket.
 *
 * Network programs can use this map type, and since Linux 5.11 also tracing programs. A value has at most about 65,400
 * bytes, and counts towards the memory that a socket may have (`net.core.optmem_max`). User space names a socket by its
 * descriptor, or by an object that has one as `fd`, such as a socket of Bun.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 5.2.
 * @throws {BpfError} E2BIG if a value is too large.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { SkStorage, t } from "bun-bpf";
 * using marks = new SkStorage({ value: t.u32, name: "marks" });
 * const socket = await Bun.udpSocket({});
 * marks.set(socket, 7);
 * console.log(marks.get(socket), marks.add(socket, 8)); // 7 false
 * socket.close();
 * ```
 *
 * Requires Linux 5.2.
 */
export class SkStorage<V extends AnyType> extends ObjectStorage<FdLike, Infer<V>, "sk_storage"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ storageKind(SK_STORAGE, "SkStorage", [
    "no_prealloc",
    "clone",
  ]);
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: SkStorageOptions<V>) {
    super(SkStorage.kind.handle(options), {
      keyHints: { EBADF: noSocketHint, ENOTSOCK: noSocketHint },
      hints: {
        ENOMEM:
          "The kernel has no memory for the value, or the socket has reached its limit: see the sysctl net.core.optmem_max",
      },
    });
  }

  /** @internal */
  protected override descriptorOf(owner: FdLike): number {
    return fdOf(owner, "a socket");
  }
}

/** Options of {@link TaskStorage}. */
export type TaskStorageOptions<V extends AnyType> = StorageOptions<V>;

/**
 * Process: its id in this process's pid namespace, or an object with a pidfd (see pidfd_open(2)) as `fd`. Since Linux 6.9
 * the id can also be that of a thread.
 */
export type TaskOwner = number | Exclude<FdLike, number>;

/**
 * Task-local storage: one value for each thread, freed when the thread ends. The id of a process stands for its first
 * thread.
 *
 * Tracing and LSM programs can use this map type. A value has at most about 65,400 bytes. User space names a thread by the
 * id of its process, for which a pidfd is opened for the call, or by an object with a pidfd. Every method throws a
 * `BpfError` `ESRCH` if no process has the id. A process that has ended while a pidfd refers to it has no value: `get`
 * returns `undefined`, `delete` and `replace` return false, and storing a value throws `ENOENT`.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 5.11.
 * @throws {BpfError} E2BIG if a value is too large.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { TaskStorage, t } from "bun-bpf";
 * using watched = new TaskStorage({ value: t.u32, name: "watched" });
 * watched.set(process.pid, 1);
 * console.log(watched.get(process.pid), watched.get(1)); // 1 undefined
 * ```
 *
 * Requires Linux 5.11.
 */
export class TaskStorage<V extends AnyType> extends ObjectStorage<
  TaskOwner,
  Infer<V>,
  "task_storage"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ storageKind(TASK_STORAGE, "TaskStorage", ["no_prealloc"]);
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: TaskStorageOptions<V>) {
    super(TaskStorage.kind.handle(options), {
      keyHints: {
        EBADF: "The descriptor is not that of a process (pidfd_open(2)), or it is closed",
      },
      hints: { ENOENT: "The process has ended" },
    });
  }

  /** @internal */
  protected override descriptorOf(owner: TaskOwner): number | Descriptor {
    if (typeof owner !== "number") return fdOf(owner, "a pid, or a process");
    checkCount("pid", owner, 1);
    return openPidfd(owner);
  }
}

/** Options of {@link InodeStorage}. */
export type InodeStorageOptions<V extends AnyType> = StorageOptions<V>;

/**
 * Inode-local storage: one value for each inode, independent of the names of the file. The value lives as long as the
 * kernel has the inode in memory: a file that no process has open can lose its value.
 *
 * LSM programs can use this map type. A value has at most about 65,400 bytes. User space names an inode by a path or by a
 * descriptor of any kind of file. A path is opened for the call with O_PATH, which requires no right to read the file and
 * has no effect on pipes and devices. Symbolic links are followed. If nothing is at the path, the method throws the error of
 * `fs`, `ENOENT`.
 *
 * @throws {Error} if `bpf` is not among the active security modules, or if that cannot be determined (before Linux 6.8,
 *   without securityfs and without the right to mount it).
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 5.10.
 * @throws {BpfError} E2BIG if a value is too large.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { InodeStorage, t } from "bun-bpf";
 * try {
 *   using labels = new InodeStorage({ value: t.u32, name: "labels" });
 *   labels.set(process.execPath, 7);
 *   console.log(labels.get(process.execPath));
 * } catch (error) {
 *   console.error(String(error)); // if bpf is not among the active security modules
 * }
 * ```
 *
 * Requires Linux 5.10 with `CONFIG_BPF_LSM`, and `bpf` among the active security modules.
 */
export class InodeStorage<V extends AnyType> extends ObjectStorage<
  string | FdLike,
  Infer<V>,
  "inode_storage"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ storageKind(INODE_STORAGE, "InodeStorage", ["no_prealloc"]);
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: InodeStorageOptions<V>) {
    super(InodeStorage.kind.handle(options), {
      keyHints: {
        EBADF: "No file is open at that descriptor, or the kernel has no storage for its inode",
      },
    });
  }

  /** @internal */
  protected override descriptorOf(owner: string | FdLike): number | Descriptor {
    if (typeof owner === "string") return openOwner(owner);
    return fdOf(owner, "the path of a file, or an open one");
  }
}

/** Options of {@link CgroupStorage}. */
export type CgroupStorageOptions<V extends AnyType> = StorageOptions<V>;

/**
 * Cgroup-local storage: one value for each control group, freed with the group. The kernel's name is
 * `BPF_MAP_TYPE_CGRP_STORAGE`. It is not related to the older `BPF_MAP_TYPE_CGROUP_STORAGE`, whose values belong to a cgroup
 * and a program.
 *
 * A value has at most about 65,400 bytes. User space names a group by the path of its directory, which is opened for the
 * call, or by a descriptor of that directory, for which O_PATH is enough. Groups of cgroup version 1 are accepted too. If
 * the path is not a directory, the method throws the error of `fs`, `ENOENT` or `ENOTDIR`.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 6.2.
 * @throws {BpfError} E2BIG if a value is too large.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { CgroupStorage, t } from "bun-bpf";
 * using limits = new CgroupStorage({ value: t.u64, name: "limits" });
 * try {
 *   limits.set("/sys/fs/cgroup", 100n);
 *   console.log(limits.get("/sys/fs/cgroup"));
 * } catch (error) {
 *   console.error(String(error)); // if no cgroup file system is mounted there
 * }
 * ```
 *
 * Requires Linux 6.2.
 */
export class CgroupStorage<V extends AnyType> extends ObjectStorage<
  string | FdLike,
  Infer<V>,
  "cgrp_storage"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ storageKind(CGRP_STORAGE, "CgroupStorage", ["no_prealloc"]);
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: CgroupStorageOptions<V>) {
    super(CgroupStorage.kind.handle(options), {
      keyHints: {
        EBADF:
          "The path or descriptor does not refer to a cgroup: it must be a directory of a mounted cgroup file system, and the group must not be removed",
      },
    });
  }

  /** @internal */
  protected override descriptorOf(owner: string | FdLike): number | Descriptor {
    if (typeof owner === "string") return openOwner(owner, constants.O_DIRECTORY);
    return fdOf(owner, "the path of a cgroup, or its directory");
  }
}
