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
import { type FdLike, fdOf } from "./value_layout.ts";
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
 * Opens what is at a path without the right to read it, and without the effects that opening a device or a named pipe has:
 * the kernel takes such a descriptor for the object itself.
 *
 * @param flags more of those of open(2)
 * @throws {TypeError} when it is not a path; and what `fs.openSync` throws: `ENOENT` when nothing is there
 */
function openOwner(path: string, flags = 0): Descriptor {
  if (path === "" || path.includes("\0")) {
    throw new TypeError(`expected a path, got ${describe(path)}`);
  }
  return new Descriptor(openSync(path, O_PATH | flags), path);
}

/** Attempts to store a value that the kernel says to store again: the second has always been enough. */
const maxAttempts = 100;

/**
 * Returns true where the kernel refused a value because it was just freeing the owner's other values, or another thread stored its
 * first one: it leaves it to the caller to try again (`bpf_local_storage_update`).
 */
function isUpdateRace(error: unknown): boolean {
  return error instanceof BpfError && error.code === "EAGAIN";
}

/**
 * Maps that keep one value for each object of the kernel, such as a socket or a process. It is found without a search, and
 * freed with the object or with the map.
 *
 * Programs have the object itself; user space names it by a descriptor, or by what one can be opened from for the call:
 * that is the `Owner`. The kernel has no list of the owners, so there is no walk and no count, and no call for many.
 */
export abstract class ObjectStorage<
  Owner,
  V,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  /** @internal Shown by the classes. */
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

  /** @internal The descriptor of an owner: the caller's own as a number, or one that was opened for the call. */
  protected abstract descriptorOf(owner: Owner): number | Descriptor;

  /**
   * The value that is kept with an owner, or `undefined`.
   *
   * @throws {BpfError} `EBADF` and the like for a descriptor of something else: the hint says what it has to be of
   * @throws {TypeError | RangeError} for what is not an owner
   */
  get(owner: Owner, options?: ElementOptions): V | undefined {
    return this.#call(owner, (fd) => this.#elements.get(fd, options));
  }

  /** Returns true where a value is kept with the owner. @throws as {@link get} */
  has(owner: Owner): boolean {
    return this.#call(owner, (fd) => this.#elements.has(fd));
  }

  /**
   * Keeps a value with an owner, whether there was one or not.
   *
   * @throws {TypeError | RangeError} for what is not an owner, and for a value that its type refuses
   * @throws {BpfError} as {@link get}, and `ENOMEM` when the kernel has no memory for it
   */
  set(owner: Owner, value: V, options?: ElementOptions): this {
    this.#store(owner, value, BPF_ANY, options);
    return this;
  }

  /** Keeps a value only if none is kept with the owner. Returns true where it did. @throws as {@link set} */
  add(owner: Owner, value: V, options?: ElementOptions): boolean {
    return this.#store(owner, value, BPF_NOEXIST, options);
  }

  /** Keeps a value only in place of another one. Returns true where it did. @throws as {@link set} */
  replace(owner: Owner, value: V, options?: ElementOptions): boolean {
    return this.#store(owner, value, BPF_EXIST, options);
  }

  /** Deletes the value that is kept with an owner; whether there was one. @throws as {@link get} */
  delete(owner: Owner): boolean {
    return this.#call(owner, (fd) => this.#elements.delete(fd));
  }

  /**
   * Fetches the value that is kept with an owner and deletes it, in two steps, as the kernel has none for both: a change
   * between them is lost.
   *
   * @throws as {@link get}
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
    // A disposed map refuses before anything is opened.
    void this.fd;
    const found = this.#find(owner);
    using opened = found instanceof Descriptor ? found : undefined;
    return call(opened === undefined ? (found as number) : opened.fd);
  }

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

/** Options of {@link SkStorage}. With the flag `"clone"`, a listening socket's value is copied to those that it accepts. */
export type SkStorageOptions<V extends AnyType> = StorageOptions<V, "no_prealloc" | "clone">;

const noSocketHint = "There is no socket behind the descriptor, or it is closed";

/**
 * Socket-local storage: one value for each socket, freed with the socket.
 *
 * Kernel 5.2; from user space and from network programs, and from tracing programs since 5.11. A value has up to about
 * 65,400 bytes, and counts towards what a socket may hold (`net.core.optmem_max`).
 *
 * A socket is named by its descriptor, or by an object with that as `fd`, such as a socket of Bun.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.2, `E2BIG` for a value that is too large
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
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
 */
export class SkStorage<V extends AnyType> extends ObjectStorage<FdLike, Infer<V>, "sk_storage"> {
  static readonly kind = /*@__PURE__*/ storageKind(SK_STORAGE, "SkStorage", [
    "no_prealloc",
    "clone",
  ]);
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;

  constructor(options: SkStorageOptions<V>) {
    super(SkStorage.kind.handle(options), {
      keyHints: { EBADF: noSocketHint, ENOTSOCK: noSocketHint },
      hints: {
        ENOMEM:
          "The kernel has no memory for it, or the socket may hold no more: see the sysctl net.core.optmem_max",
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
export class TaskStorage<V extends AnyType> extends ObjectStorage<
  TaskOwner,
  Infer<V>,
  "task_storage"
> {
  static readonly kind = /*@__PURE__*/ storageKind(TASK_STORAGE, "TaskStorage", ["no_prealloc"]);
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;

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
 * Inode-local storage: one value with each inode, whatever names the file has, for as long as the kernel has the inode in
 * memory: a file that nobody has open may lose its value.
 *
 * Kernel 5.10 with `CONFIG_BPF_LSM`, and `bpf` among the active security modules; for programs, those of that module. A
 * value has up to about 65,400 bytes.
 *
 * A file is named by its path, which is opened for the call (as `O_PATH`: without the right to read it, and without an
 * effect on pipes and devices; links are followed), or by a descriptor of any kind of file. When nothing is at the path,
 * the method throws what `fs` throws, `ENOENT`.
 *
 * @throws {Error} when `bpf` is not among the active security modules, or when that cannot be known (before kernel 6.8,
 *   without securityfs and without the right to mount it)
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.10, `E2BIG` for a value that is too large
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { InodeStorage, t } from "bun-bpf";
 * try {
 *   using labels = new InodeStorage({ value: t.u32, name: "labels" });
 *   labels.set(process.execPath, 7);
 *   console.log(labels.get(process.execPath));
 * } catch (error) {
 *   console.error(String(error)); // where bpf is not among the active security modules
 * }
 * ```
 */
export class InodeStorage<V extends AnyType> extends ObjectStorage<
  string | FdLike,
  Infer<V>,
  "inode_storage"
> {
  static readonly kind = /*@__PURE__*/ storageKind(INODE_STORAGE, "InodeStorage", ["no_prealloc"]);
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;

  constructor(options: InodeStorageOptions<V>) {
    super(InodeStorage.kind.handle(options), {
      keyHints: {
        EBADF:
          "No file is open behind the descriptor, or the kernel keeps no storage with its inode",
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
export class CgroupStorage<V extends AnyType> extends ObjectStorage<
  string | FdLike,
  Infer<V>,
  "cgrp_storage"
> {
  static readonly kind = /*@__PURE__*/ storageKind(CGRP_STORAGE, "CgroupStorage", ["no_prealloc"]);
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;

  constructor(options: CgroupStorageOptions<V>) {
    super(CgroupStorage.kind.handle(options), {
      keyHints: {
        EBADF:
          "There is no cgroup: the path or descriptor must be of a directory of a mounted cgroup file system, and the group not removed",
      },
    });
  }

  /** @internal */
  protected override descriptorOf(owner: string | FdLike): number | Descriptor {
    if (typeof owner === "string") return openOwner(owner, constants.O_DIRECTORY);
    return fdOf(owner, "the path of a cgroup, or its directory");
  }
}
