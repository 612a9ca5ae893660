import type { Hints } from "../ffi/map_hints.ts";
import { u32 } from "../types/integer.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import type { FdLike } from "./fd_like.ts";
import { idLayout } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { WriteOnlyArrayMap } from "./write_only_array_map.ts";

/** Options of {@link XskMap}. */
export type XskMapOptions = DescriptorArrayOptions;

const xskHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOBUFS:
    "The socket has no memory for packets yet: give it some (XDP_UMEM_REG) and bind it first",
  ENOTSOCK: "It is no socket: a socket of the family AF_XDP is needed",
  EOPNOTSUPP:
    "It is a socket of another family than AF_XDP; older kernels also refuse one that has no receive ring and no memory for packets yet",
};

/**
 * AF_XDP sockets that an XDP program hands packets to with the helper `redirect_map`, usually by receive queue. User space
 * stores and deletes sockets and cannot look.
 *
 * Kernel 4.18, CAP_NET_ADMIN. A socket that is closed leaves the map (kernel 5.3).
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BpfError, XskMap } from "bun-bpf";
 * using sockets = new XskMap({ maxEntries: 64, name: "xsks" });
 * try {
 *   sockets.set(0, 0); // a socket of the family AF_XDP would do, standard input does not
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.hint);
 * }
 * sockets.delete(0);
 * ```
 */
export class XskMap extends WriteOnlyArrayMap<FdLike> {
  /** @internal */
  static readonly kind = descriptorArrayKind("xskmap", "XskMap", u32.size);

  constructor(options: XskMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = XskMap.kind.create(options)) {
    super(existing, { key: u32, value: idLayout("an AF_XDP socket"), hints: xskHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): XskMap {
    return new XskMap(noTypes, XskMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): XskMap {
    return new XskMap(noTypes, XskMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): XskMap {
    return new XskMap(noTypes, XskMap.kind.byFd(fd, noTypes));
  }

  /** Stores a socket only where none is, or this same one; whether it did (kernel 5.3). @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did (kernel 5.3). @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }

  /**
   * Empties a place. The kernel does not say whether a socket was there.
   *
   * @throws {TypeError | RangeError} for an index outside the map
   */
  delete(index: number): this {
    this.empty(index);
    return this;
  }

  override dup(): XskMap {
    return new XskMap(noTypes, this.duplicateHandle());
  }
}
