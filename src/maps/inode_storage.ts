import type { Descriptor } from "../ffi/descriptor.ts";
import { requireBpfSecurityModule } from "../ffi/security_modules.ts";
import { type FdLike, fdOf } from "./fd_like.ts";
import type { MapHandle } from "./handle.ts";
import { ObjectStorage } from "./object_storage.ts";
import { openOwner } from "./path_owner.ts";
import { storageKind, type StorageOptions, type StorageTypes } from "./storage_kind.ts";

/** Options of {@link InodeStorage}. */
export type InodeStorageOptions<V> = StorageOptions<V>;

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
export class InodeStorage<V> extends ObjectStorage<string | FdLike, V> {
  /** @internal */
  static readonly kind = storageKind("inode-storage", "InodeStorage", ["no-prealloc"]);

  constructor(options: InodeStorageOptions<V>);
  /** @internal */
  constructor(types: StorageTypes<V>, existing: MapHandle);
  constructor(options: StorageTypes<V>, existing = usable(InodeStorage.kind.create(options))) {
    super(existing, options, {
      keyHints: {
        EBADF:
          "No file is open behind the descriptor, or the kernel keeps no storage with its inode",
      },
    });
  }

  /** Opens the storage pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<V>(path: string, types: StorageTypes<V>): InodeStorage<V> {
    return new InodeStorage(types, usable(InodeStorage.kind.open(path, types)));
  }

  /** Opens a storage by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: StorageTypes<V>): InodeStorage<V> {
    return new InodeStorage(types, usable(InodeStorage.kind.byId(id, types)));
  }

  /** Opens the storage behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: StorageTypes<V>): InodeStorage<V> {
    return new InodeStorage(types, usable(InodeStorage.kind.byFd(fd, types)));
  }

  override dup(): InodeStorage<V> {
    return new InodeStorage(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override descriptorOf(owner: string | FdLike): number | Descriptor {
    if (typeof owner === "string") return openOwner(owner);
    return fdOf(owner, "the path of a file, or an open one");
  }
}

/**
 * Passes a map on where its values have a place of their own. One that is new was refused before it was made; this is for
 * those that others made, whatever they were opened by.
 */
function usable(handle: MapHandle): MapHandle {
  try {
    requireBpfSecurityModule();
    return handle;
  } catch (error) {
    handle.descriptor[Symbol.dispose]();
    throw error;
  }
}
