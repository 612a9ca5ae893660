import { type FdLike, fdOf } from "./fd_like.ts";
import type { MapHandle } from "./handle.ts";
import { ObjectStorage } from "./object_storage.ts";
import { storageKind, type StorageOptions, type StorageTypes } from "./storage_kind.ts";

/** Options of {@link SkStorage}. With the flag `"clone"`, a listening socket's value is copied to those that it accepts. */
export type SkStorageOptions<V> = StorageOptions<V, "no-prealloc" | "clone">;

const noSocket = "There is no socket behind the descriptor, or it is closed";

/**
 * Socket-local storage: one value with each socket, gone when the socket is.
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
 * // Bun's sockets have their descriptor as `fd`, which their types do not say.
 * const owner = socket as unknown as { readonly fd: number };
 * marks.set(owner, 7);
 * console.log(marks.get(owner), marks.add(owner, 8)); // 7 false
 * socket.close();
 * ```
 */
export class SkStorage<V> extends ObjectStorage<FdLike, V> {
  /** @internal */
  static readonly kind = storageKind("sk-storage", "SkStorage", ["no-prealloc", "clone"]);

  constructor(options: SkStorageOptions<V>);
  /** @internal */
  constructor(types: StorageTypes<V>, existing: MapHandle);
  constructor(options: StorageTypes<V>, existing = SkStorage.kind.create(options)) {
    super(existing, options, {
      keyHints: { EBADF: noSocket, ENOTSOCK: noSocket },
      hints: {
        ENOMEM:
          "The kernel has no memory for it, or the socket may hold no more: see the sysctl net.core.optmem_max",
      },
    });
  }

  /** Opens the storage pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<V>(path: string, types: StorageTypes<V>): SkStorage<V> {
    return new SkStorage(types, SkStorage.kind.open(path, types));
  }

  /** Opens a storage by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: StorageTypes<V>): SkStorage<V> {
    return new SkStorage(types, SkStorage.kind.byId(id, types));
  }

  /** Opens the storage behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: StorageTypes<V>): SkStorage<V> {
    return new SkStorage(types, SkStorage.kind.byFd(fd, types));
  }

  override dup(): SkStorage<V> {
    return new SkStorage(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override descriptorOf(owner: FdLike): number {
    return fdOf(owner, "a socket");
  }
}
