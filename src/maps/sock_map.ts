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
import { cookieLayout, cookieSize, type FdLike } from "./value_layout.ts";
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

/** The layout of sockets: each is written as its descriptor and read as its cookie. */
function socketLayout({ valueSize }: MapProperties): Pick<ElementLayout, "value" | "unreadable"> {
  return {
    value: cookieLayout(valueSize),
    // One that was made with values of 4 bytes, by a program's author, say: sockets are stored in it and deleted all the same.
    unreadable:
      valueSize === cookieSize
        ? undefined
        : `its values have ${valueSize} bytes, and the cookie of a socket takes ${cookieSize}: make the map with values of ${cookieSize}, as this class does`,
  };
}

/** Hints for failed stores of sockets in a sockmap or sockhash. */
const sockMapHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOTSOCK: "It is no socket",
  EOPNOTSUPP:
    "The kernel takes TCP sockets that are connected (listening ones since 5.7), UDP sockets (since 5.7), Unix sockets that are connected or take datagrams (since 5.15), and no others, nor those that another protocol such as MPTCP or SCTP is in",
  EINVAL: "Another layer on the socket, such as kernel TLS, does not go together with this map",
  EBUSY: "Something else in the kernel holds the socket, such as a ReuseportSockArray",
};

/** Options of {@link SockMap}. */
export type SockMapOptions = DescriptorArrayOptions;

/**
 * An array of sockets for programs that redirect what is sent and received (helpers `sk_redirect_map`, `msg_redirect_map`,
 * `sk_assign`). User space stores sockets and reads their cookies, the kernel's numbers for them.
 *
 * Kernel 4.14, CAP_NET_ADMIN; creation needs kernel 5.7, for values from which cookies can be read. It takes TCP sockets
 * that are connected (listening ones since 5.7), UDP (5.7) and Unix sockets (5.15). A socket that is closed leaves the map.
 * An opened map with values of 4 bytes cannot be read.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.7
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
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
 */
export class SockMap extends SparseArrayMap<bigint, FdLike, "sockmap"> {
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(SOCKMAP, "SockMap", cookieSize);

  constructor(options: SockMapOptions) {
    const handle = SockMap.kind.handle(options);
    super(handle, { key: u32, ...socketLayout(handle.info), hints: sockMapHints });
  }

  /** Stores a socket only where none is; whether it did. @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did. @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }
}

/** The type of the keys of a {@link SockHash}. */
export interface SockHashTypes<K extends AnyType> {
  /** 1 to 512 bytes. */
  readonly key: K;
}

/** Options of {@link SockHash}. */
export interface SockHashOptions<K extends AnyType> extends CommonMapOptions, SockHashTypes<K> {
  /** The largest number of entries: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** A program has its keys on the stack (MAX_BPF_STACK). */
const maxKeySize = 512;

/**
 * A hash table of sockets for programs that redirect what is sent and received (helpers `sk_redirect_hash`,
 * `msg_redirect_hash`, `sk_assign`). User space stores sockets and reads their cookies, the kernel's numbers for them.
 *
 * Kernel 4.18, CAP_NET_ADMIN; creation needs kernel 5.7, for values from which cookies can be read. It takes the sockets
 * that a {@link SockMap} does. A socket that is closed leaves the map.
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
 * sockets.set(key, server);
 * console.log(typeof sockets.get(key), sockets.count()); // bigint 1
 * server.stop();
 * ```
 */
export class SockHash<K extends AnyType> extends SingleTakeMap<
  Infer<K>,
  bigint,
  FdLike,
  "sockhash"
> {
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
  /** The type that keys are written and read with. */
  declare readonly types: SockHashTypes<K>;

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
  ENOTSOCK: "It is no socket",
  EINVAL:
    "The socket is not in a group that shares a port: set SO_REUSEPORT on it before bind(2), and let a TCP socket listen(2), before it is stored",
  EBUSY:
    "The socket is in such an array already, or in a sockmap: it can be in one place of one of them; delete it there first",
  ENOTSUPP: "The kernel takes TCP and UDP sockets over IPv4 and IPv6, and no others",
};

/**
 * Sockets that share a port by `SO_REUSEPORT`, for a program that selects one of them for each connection or datagram
 * (helper `sk_select_reuseport`). User space stores sockets and reads their cookies, the kernel's numbers for them.
 *
 * Kernel 4.19. A socket can be in one place of one array only: storing it again fails, also at the same place. A socket
 * that is closed leaves the array.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { ReuseportSockArray } from "bun-bpf";
 * using workers = new ReuseportSockArray({ length: 2, name: "workers" });
 * // Bun's types do not know `reusePort` here.
 * const address = { hostname: "127.0.0.1", port: 0, reusePort: true };
 * const server = Bun.listen({ ...address, socket: { data() {} } });
 * workers.set(1, server);
 * console.log(workers.has(0), workers.has(1)); // false true
 * server.stop();
 * ```
 */
export class ReuseportSockArray extends SparseArrayMap<bigint, FdLike, "reuseport_sockarray"> {
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(
    REUSEPORT_SOCKARRAY,
    "ReuseportSockArray",
    cookieSize,
  );

  constructor(options: ReuseportSockArrayOptions) {
    const handle = ReuseportSockArray.kind.handle(options);
    super(handle, { key: u32, ...socketLayout(handle.info), hints: reuseportHints });
  }

  /** Stores a socket only where none is; whether it did. @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did. @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }
}
