import { BpfError } from "../ffi/error.ts";
import type { MapElement } from "../ffi/map_element.ts";
import { u32 } from "../types/integer.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import { cookieLayout, cookieSize } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { SocketArrayMap } from "./socket_array_map.ts";
import { sockMapHints } from "./socket_cookie.ts";

/** Options of {@link SockMap}. */
export type SockMapOptions = DescriptorArrayOptions;

/**
 * An array of sockets for programs that redirect what is sent and received (helpers `sk_redirect_map`, `msg_redirect_map`,
 * `sk_assign`). What is stored is a socket, what is read is its cookie, the kernel's number for it.
 *
 * Kernel 4.14, CAP_NET_ADMIN; made here with values that cookies can be read from, which takes kernel 5.7. It takes TCP
 * sockets that are connected (listening ones since 5.7), UDP (5.7) and Unix sockets (5.15). A socket that is closed leaves
 * the map.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.7
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { SockMap } from "bun-bpf";
 * using sockets = new SockMap({ maxEntries: 16, name: "sockets" });
 * const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
 * // Bun's sockets have their descriptor as `fd`, which its types do not say.
 * sockets.set(3, server as unknown as { fd: number });
 * console.log([...sockets.keys()], sockets.get(0)); // [ 3 ] undefined
 * console.log(typeof sockets.get(3)); // bigint
 * console.log(sockets.delete(3), sockets.delete(3)); // true false
 * server.stop();
 * ```
 */
export class SockMap extends SocketArrayMap {
  /** @internal */
  static readonly kind = descriptorArrayKind("sockmap", "SockMap", cookieSize);

  constructor(options: SockMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = SockMap.kind.create(options)) {
    super(existing, {
      key: u32,
      value: cookieLayout(existing.info.valueSize),
      hints: sockMapHints,
    });
  }

  /**
   * Opens the map pinned at a path on a BPF file system (kernel 4.4). From one with values of 4 bytes nothing can be read.
   *
   * @throws as {@link HashMap.open}
   */
  static open(path: string): SockMap {
    return new SockMap(noTypes, SockMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): SockMap {
    return new SockMap(noTypes, SockMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): SockMap {
    return new SockMap(noTypes, SockMap.kind.byFd(fd, noTypes));
  }

  override dup(): SockMap {
    return new SockMap(noTypes, this.duplicateHandle());
  }

  /** @internal Of an empty place the kernel says that the argument is invalid, not that there is no such key. */
  protected override deleteElement(element: MapElement): boolean {
    // A look-up is much cheaper than an error; for values that cannot be looked up, the error is it.
    if (this.valueSize === cookieSize && !element.lookup(0)) return false;
    try {
      return element.delete();
    } catch (error) {
      if (error instanceof BpfError && error.code === "EINVAL") return false;
      throw error;
    }
  }
}
