import type { Hints } from "../ffi/map_hints.ts";
import { u32 } from "../types/integer.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import { cookieLayout, cookieSize } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { SocketArrayMap } from "./socket_array_map.ts";

/** Options of {@link ReuseportSockArray}. */
export type ReuseportSockArrayOptions = DescriptorArrayOptions;

const reuseportHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOTSOCK: "It is no socket",
  EINVAL:
    "The socket is not in a group that shares a port: set SO_REUSEPORT on it before bind(2), and let a TCP socket listen(2), before it is stored",
  EBUSY:
    "The socket is in such an array already, or in a sockmap: it can be in one place of one of them; delete it there first",
  ENOTSUPP: "The kernel takes TCP and UDP sockets over IPv4 and IPv6, and no others",
};

/**
 * Sockets that share a port by `SO_REUSEPORT`, for a program that selects one of them for each connection or datagram
 * (helper `sk_select_reuseport`). What is stored is a socket, what is read is its cookie, the kernel's number for it.
 *
 * Kernel 4.19. A socket can be in one place of one array, not even in the same place again. One that is closed leaves the
 * array.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { ReuseportSockArray } from "bun-bpf";
 * using workers = new ReuseportSockArray({ maxEntries: 2, name: "workers" });
 * // Bun's types know neither `reusePort` here nor the `fd` of a socket.
 * const address = { hostname: "127.0.0.1", port: 0, reusePort: true };
 * const server = Bun.listen({ ...address, socket: { data() {} } });
 * workers.set(1, server as unknown as { fd: number });
 * console.log(workers.has(0), workers.has(1)); // false true
 * server.stop();
 * ```
 */
export class ReuseportSockArray extends SocketArrayMap {
  /** @internal */
  static readonly kind = descriptorArrayKind(
    "reuseport-sockarray",
    "ReuseportSockArray",
    cookieSize,
  );

  constructor(options: ReuseportSockArrayOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = ReuseportSockArray.kind.create(options)) {
    super(existing, {
      key: u32,
      value: cookieLayout(existing.info.valueSize),
      hints: reuseportHints,
    });
  }

  /**
   * Opens the array pinned at a path on a BPF file system. From one with values of 4 bytes nothing can be read.
   *
   * @throws as {@link HashMap.open}
   */
  static open(path: string): ReuseportSockArray {
    return new ReuseportSockArray(noTypes, ReuseportSockArray.kind.open(path, noTypes));
  }

  /** Opens an array by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): ReuseportSockArray {
    return new ReuseportSockArray(noTypes, ReuseportSockArray.kind.byId(id, noTypes));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): ReuseportSockArray {
    return new ReuseportSockArray(noTypes, ReuseportSockArray.kind.byFd(fd, noTypes));
  }

  override dup(): ReuseportSockArray {
    return new ReuseportSockArray(noTypes, this.duplicateHandle());
  }
}
