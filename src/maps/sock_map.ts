/** @module Maps of sockets: what is read from them, and why they refuse one. */

import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import type { MapElement } from "../ffi/bpf_map_element.ts";
import { BpfError } from "../ffi/error.ts";
import type { MapHandle } from "./create.ts";
import { SparseArrayMap } from "./descriptor_array.ts";
import type { ElementOptions } from "./element_map.ts";
import { AssociativeMap } from "./keyed_map.ts";
import {
  checkPlainType,
  descriptorArrayKind,
  type DescriptorArrayOptions,
  MapKind,
  noTypes,
} from "./map_options.ts";
import { checkMaxEntries, type CommonMapOptions } from "./map_spec.ts";
import { cookieLayout, cookieSize, type FdLike } from "./value_layout.ts";
import type { Walk } from "./walk.ts";
import { u32 } from "../types/integer.ts";
import type { Type } from "../types/type.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

/** A map of sockets, as far as its values go. */
interface SocketMap {
  readonly valueSize: number;
  /** Throws when the map is disposed of. */
  readonly fd: number;
}

/**
 * Checks that sockets can be read from a map. One that was made with values of 4 bytes, by a program's author, say, has no
 * room for a cookie: sockets are stored in it and deleted all the same.
 *
 * @throws {TypeError}
 */
export function checkReadable(map: SocketMap): void {
  if (map.valueSize === cookieSize) return;
  void map.fd;
  throw new TypeError(
    `${map} cannot be read: its values have ${map.valueSize} bytes, and the cookie of a socket takes ${cookieSize}: make the map with values of ${cookieSize}, as this class does`,
  );
}

/** What refusals of sockets by a sockmap or sockhash mean. */
export const sockMapHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOTSOCK: "It is no socket",
  EOPNOTSUPP:
    "The kernel takes TCP sockets that are connected (listening ones since 5.7), UDP sockets (since 5.7), Unix sockets that are connected or take datagrams (since 5.15), and no others, nor those that another protocol such as MPTCP or SCTP is in",
  EINVAL: "Another layer on the socket, such as kernel TLS, does not go together with this map",
  EBUSY: "Something else in the kernel holds the socket, such as a ReuseportSockArray",
};

/** Arrays of sockets: what is stored is a socket, what is read is its cookie, the kernel's number for it. */
export abstract class SocketArrayMap extends SparseArrayMap<bigint, FdLike> {
  /** Stores a socket only where none is; whether it did. @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did. @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }

  /** @internal */
  protected override find(index: number, options?: ElementOptions): bigint | undefined {
    checkReadable(this);
    return super.find(index, options);
  }

  /** @internal */
  protected override findMany(indexes: Iterable<number>): (bigint | undefined)[] {
    checkReadable(this);
    return super.findMany(indexes);
  }

  /** @internal */
  protected override contains(index: number): boolean {
    checkReadable(this);
    return super.contains(index);
  }

  /** @internal */
  protected override walk(): Walk {
    checkReadable(this);
    return super.walk();
  }
}

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

/** The type of the keys of a {@link SockHash}. */
export interface SockHashTypes<K> {
  /** 1 to 512 bytes. */
  readonly key: Type<K>;
}

/** Options of {@link SockHash}. */
export interface SockHashOptions<K> extends CommonMapOptions, SockHashTypes<K> {
  /** How many entries it holds at the most: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** A program has its keys on the stack (MAX_BPF_STACK). */
const largestKey = 512;

/**
 * A hash table of sockets for programs that redirect what is sent and received (helpers `sk_redirect_hash`,
 * `msg_redirect_hash`, `sk_assign`). What is stored is a socket, what is read is its cookie, the kernel's number for it.
 *
 * Kernel 4.18, CAP_NET_ADMIN; made here with values that cookies can be read from, which takes kernel 5.7. It takes the
 * sockets that a {@link SockMap} does. A socket that is closed leaves the map.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.7
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { SockHash, t } from "bun-bpf";
 * using sockets = new SockHash({ key: t.struct({ ip: t.ipv4, port: t.u32 }), maxEntries: 16 });
 * const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
 * const key = { ip: "127.0.0.1", port: server.port };
 * // Bun's sockets have their descriptor as `fd`, which its types do not say.
 * sockets.set(key, server as unknown as { fd: number });
 * console.log(typeof sockets.get(key), sockets.count()); // bigint 1
 * server.stop();
 * ```
 */
export class SockHash<K> extends AssociativeMap<K, bigint, FdLike> {
  /** @internal */
  static readonly kind = new MapKind<SockHashTypes<unknown>, SockHashOptions<unknown>>({
    type: "sockhash",
    className: "SockHash",
    options: ["key", "maxEntries"],
    sizes({ key }) {
      checkPlainType("key", key);
      if (key.size > largestKey) {
        throw new RangeError(
          `key: expected a type of at most ${largestKey} bytes, got ${describe(key.name)} of ${key.size}`,
        );
      }
      return { keySize: key.size };
    },
    complete({ maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, valueSize: cookieSize };
    },
  });
  /** The type that keys are written and read with. */
  readonly types: SockHashTypes<K>;

  constructor(options: SockHashOptions<K>);
  /** @internal */
  constructor(types: SockHashTypes<K>, existing: MapHandle);
  constructor(options: SockHashTypes<K>, existing = SockHash.kind.create(options)) {
    const { key } = options;
    super(existing, { key, value: cookieLayout(existing.info.valueSize), hints: sockMapHints });
    this.types = { key };
  }

  /**
   * Opens the map pinned at a path on a BPF file system (kernel 4.4). From one with values of 4 bytes nothing can be read.
   *
   * @throws as {@link HashMap.open}
   */
  static open<K>(path: string, types: SockHashTypes<K>): SockHash<K> {
    return new SockHash(types, SockHash.kind.open(path, types));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<K>(id: number, types: SockHashTypes<K>): SockHash<K> {
    return new SockHash(types, SockHash.kind.byId(id, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<K>(fd: number, types: SockHashTypes<K>): SockHash<K> {
    return new SockHash(types, SockHash.kind.byFd(fd, types));
  }

  override dup(): SockHash<K> {
    return new SockHash(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override find(key: K, options?: ElementOptions): bigint | undefined {
    checkReadable(this);
    return super.find(key, options);
  }

  /** @internal */
  protected override findMany(keys: Iterable<K>): (bigint | undefined)[] {
    checkReadable(this);
    return super.findMany(keys);
  }

  /** @internal */
  protected override contains(key: K): boolean {
    checkReadable(this);
    return super.contains(key);
  }

  /** @internal */
  protected override takeElement(element: MapElement): boolean {
    checkReadable(this);
    return super.takeElement(element);
  }

  /** @internal */
  protected override walk(): Walk {
    checkReadable(this);
    return super.walk();
  }
}

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
    "reuseport_sockarray",
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
