import type { MapElement } from "../ffi/map_element.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import { AssociativeMap } from "./associative_map.ts";
import type { ElementOptions } from "./element_map.ts";
import type { FdLike } from "./fd_like.ts";
import { cookieLayout, cookieSize } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { checkPlainType } from "./type_checks.ts";
import { MapKind } from "./kind.ts";
import { checkReadable, sockMapHints } from "./socket_cookie.ts";
import { checkMaxEntries, type CommonMapOptions } from "./spec.ts";
import type { Walk } from "./walk.ts";

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
