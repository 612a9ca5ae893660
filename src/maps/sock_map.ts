import { REUSEPORT_SOCKARRAY, SOCKHASH, SOCKMAP } from "./map_types.ts";
import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import type { MapProperties } from "./create.ts";
import { SparseArrayMap } from "./descriptor_array.ts";
import type { ElementLayout } from "./elements.ts";
import { SingleTakeMap } from "./keyed_map.ts";
import {
  type AnyType,
  checkPlainType,
  descriptorArrayKind,
  type DescriptorArrayOptions,
  MapKind,
  type TypeIn,
} from "./map_options.ts";
import { checkMaxEntries, type CommonMapOptions } from "./map_spec.ts";
import type { FdLike } from "../handle/fd_like.ts";
import { cookieLayout, cookieSize } from "./value_layout.ts";
import { u32 } from "../types/integer.ts";
import type { Infer } from "../types/type.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    SockMap: SockMap;
    SockHash: SockHash<TypeIn<T, "key">>;
    ReuseportSockArray: ReuseportSockArray;
  }
}

/** Returns the layout of sockets: each is stored as its descriptor and read as its cookie. */
function socketLayout({ valueSize }: MapProperties): Pick<ElementLayout, "value" | "unreadable"> {
  return {
    value: cookieLayout(valueSize),
    // Maps of other programs can have 4-byte values: sockets can be stored and deleted, but not read.
    unreadable:
      valueSize === cookieSize
        ? undefined
        : `its values have ${valueSize} bytes, and the cookie of a socket takes ${cookieSize}: create the map with values of ${cookieSize} bytes, as this class does`,
  };
}

/** Hints for failed stores of sockets in a sockmap or sockhash. */
const sockMapHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOTSOCK: "The descriptor is not a socket",
  EOPNOTSUPP:
    "The map takes connected TCP sockets (listening ones since Linux 5.7), UDP sockets (since Linux 5.7) and Unix sockets that are connected or take datagrams (since Linux 5.15), but no sockets of other protocols such as MPTCP or SCTP",
  EINVAL:
    "The socket has another upper-layer protocol, such as kernel TLS, which excludes this map",
  EBUSY: "The socket is in use elsewhere in the kernel, such as in a ReuseportSockArray",
};

/** Options of {@link SockMap}. */
export type SockMapOptions = DescriptorArrayOptions;

/**
 * Array of sockets for programs that redirect sent and received data (helpers `sk_redirect_map`, `msg_redirect_map`,
 * `sk_assign`). User space stores sockets and reads their cookies, which are the kernel's numbers for them.
 *
 * Keys are indexes from 0 to `length - 1`. Sockets are stored by descriptor: connected TCP sockets (listening ones since
 * Linux 5.7), UDP sockets (5.7) and Unix sockets (5.15). The kernel removes a socket from the map when the socket is closed.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF or CAP_NET_ADMIN.
 * @throws {BpfError} EINVAL before Linux 5.7.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { SockMap } from "bun-bpf";
 * using sockets = new SockMap({ length: 16, name: "sockets" });
 * const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
 * sockets.set(3, server);
 * console.log([...sockets.keys()], sockets.get(0)); // [ 3 ] undefined
 * console.log(typeof sockets.get(3)); // bigint
 * console.log(sockets.delete(3), sockets.delete(3)); // true false
 * server.stop();
 * ```
 *
 * Requires Linux 5.7 for creation, because values have 8 bytes: a cookie. A map with values of 4 bytes, which another
 * program created (Linux 4.14), can be opened and changed, but not read.
 */
export class SockMap extends SparseArrayMap<bigint, FdLike, "sockmap"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(SOCKMAP, "SockMap", cookieSize);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: SockMapOptions) {
    const handle = SockMap.kind.handle(options);
    super(handle, { key: u32, ...socketLayout(handle.info), hints: sockMapHints });
  }

  /**
   * Stores a socket only if the slot is empty. Returns true if it was stored. The kernel checks and stores in one step.
   *
   * @throws {BpfError} if the kernel rejects the socket: `hint` has the cause.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a descriptor.
   */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /**
   * Stores a socket only if the slot is not empty. Returns true if it was stored. The kernel checks and stores in one step.
   *
   * @throws {BpfError} if the kernel rejects the socket: `hint` has the cause.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a descriptor.
   */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }
}

/** Type of the keys of a {@link SockHash}. */
export interface SockHashTypes<K extends AnyType> {
  /** Type of the keys: 1 to 512 bytes. */
  readonly key: K;
}

/** Options of {@link SockHash}. */
export interface SockHashOptions<K extends AnyType> extends CommonMapOptions, SockHashTypes<K> {
  /** Largest number of entries: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** Limit of the kernel: programs have keys on their stack (MAX_BPF_STACK). */
const maxKeySize = 512;

/**
 * Hash table of sockets for programs that redirect sent and received data (helpers `sk_redirect_hash`, `msg_redirect_hash`,
 * `sk_assign`). User space stores sockets and reads their cookies, which are the kernel's numbers for them.
 *
 * Keys have any type of 1 to 512 bytes. Sockets are stored by descriptor: the same kinds as in a {@link SockMap}. The kernel
 * removes a socket from the map when the socket is closed.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF or CAP_NET_ADMIN.
 * @throws {BpfError} EINVAL before Linux 5.7.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { SockHash, t } from "bun-bpf";
 * using sockets = new SockHash({ key: t.struct({ ip: t.ipv4, port: t.u32 }), maxEntries: 16 });
 * const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
 * const key = { ip: "127.0.0.1", port: server.port };
 * sockets.set(key, server);
 * console.log(typeof sockets.get(key), sockets.count()); // bigint 1
 * server.stop();
 * ```
 *
 * Requires Linux 5.7 for creation, because values have 8 bytes: a cookie. A map with values of 4 bytes, which another
 * program created (Linux 4.18), can be opened and changed, but not read.
 */
export class SockHash<K extends AnyType> extends SingleTakeMap<
  Infer<K>,
  bigint,
  FdLike,
  "sockhash"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ new MapKind<
    "SockHash",
    SockHashTypes<AnyType>,
    SockHashOptions<AnyType>
  >({
    row: SOCKHASH,
    className: "SockHash",
    types: ["key"],
    options: ["maxEntries"],
    sizes({ key }) {
      checkPlainType("key", key);
      if (key.size > maxKeySize) {
        throw new RangeError(
          `key: expected a type of at most ${maxKeySize} bytes, got ${describe(key.name)} of ${key.size}`,
        );
      }
      return { keySize: key.size };
    },
    complete({ maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, valueSize: cookieSize };
    },
  });
  /** Type of the keys. */
  declare readonly types: SockHashTypes<K>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: SockHashOptions<K>) {
    const handle = SockHash.kind.handle(options);
    const { key } = handle.types;
    super(handle, { key, ...socketLayout(handle.info), hints: sockMapHints });
  }
}

/** Options of {@link ReuseportSockArray}. */
export type ReuseportSockArrayOptions = DescriptorArrayOptions;

const reuseportHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOTSOCK: "The descriptor is not a socket",
  EINVAL:
    "The socket is not in a group that shares a port: set SO_REUSEPORT on it before bind(2), and let a TCP socket listen(2), before it is stored",
  EBUSY:
    "The socket is in such an array already, or in a sockmap: it can be in only one slot of one of them; delete it there first",
  ENOTSUPP: "The map takes only TCP and UDP sockets over IPv4 and IPv6",
};

/**
 * Array of sockets that share a port by `SO_REUSEPORT`. A program selects one of them for each connection or datagram
 * (helper `sk_select_reuseport`). User space stores sockets and reads their cookies, which are the kernel's numbers for
 * them.
 *
 * Keys are indexes from 0 to `length - 1`. A socket can be in only one slot of one such array: storing it again fails, even
 * in the same slot. The kernel removes a socket from the array when the socket is closed.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { ReuseportSockArray } from "bun-bpf";
 * using workers = new ReuseportSockArray({ length: 2, name: "workers" });
 * // Bun's types lack `reusePort` here.
 * const address = { hostname: "127.0.0.1", port: 0, reusePort: true };
 * const server = Bun.listen({ ...address, socket: { data() {} } });
 * workers.set(1, server);
 * console.log(workers.has(0), workers.has(1)); // false true
 * server.stop();
 * ```
 *
 * Requires Linux 4.19.
 */
export class ReuseportSockArray extends SparseArrayMap<bigint, FdLike, "reuseport_sockarray"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(
    REUSEPORT_SOCKARRAY,
    "ReuseportSockArray",
    cookieSize,
  );

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: ReuseportSockArrayOptions) {
    const handle = ReuseportSockArray.kind.handle(options);
    super(handle, { key: u32, ...socketLayout(handle.info), hints: reuseportHints });
  }

  /**
   * Stores a socket only if the slot is empty. Returns true if it was stored. The kernel checks and stores in one step.
   *
   * @throws {BpfError} if the kernel rejects the socket: `hint` has the cause.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a descriptor.
   */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /**
   * Stores a socket only if the slot is not empty. Returns true if it was stored. The kernel checks and stores in one step.
   *
   * @throws {BpfError} if the kernel rejects the socket: `hint` has the cause.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a descriptor.
   */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }
}
