import { hasOpaqueField, hasSpinLock } from "../types/opaque.ts";
import { AssociativeMap } from "./associative_map.ts";
import type { MapHandle } from "./handle.ts";
import { keyedKind, type KeyedMapOptions } from "./keyed_kind.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";

/**
 * Options of {@link HashMap}. All entries are allocated at once unless `flags` has `"no-prealloc"`: then each takes its memory
 * when it is stored, and where the kernel's reserve for that is used up, a store waits for more, 50 ms at most.
 */
export type HashMapOptions<K, V> = KeyedMapOptions<K, V>;

/**
 * A hash table: any key to any value.
 *
 * Kernel 3.19. Keys are compared byte by byte, padding included, which `t` always writes as zero. A value type with a
 * `t.spinLock` is copied while the lock is held (kernel 5.1).
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `E2BIG` for a key
 * and value that are too large together
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { HashMap, t } from "bun-bpf";
 * using counts = new HashMap({ key: t.u32, value: t.u64, maxEntries: 1024, name: "counts" });
 * counts.set(1, 10n).set(2, 20n);
 * console.log(counts.get(1), counts.get(3)); // 10n undefined
 * for (const [key, value] of counts) console.log(key, value);
 * ```
 */
export class HashMap<K, V> extends AssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("hash", "HashMap");
  /** The types that keys and values are written and read with. */
  readonly types: KeyedMapTypes<K, V>;

  constructor(options: HashMapOptions<K, V>);
  /** @internal */
  constructor(types: KeyedMapTypes<K, V>, existing: MapHandle);
  constructor(options: KeyedMapTypes<K, V>, existing = HashMap.kind.create(options)) {
    const { key, value } = options;
    super(existing, {
      key,
      value,
      isLocked: hasSpinLock(value),
      isReadByPrograms: !hasOpaqueField(value),
    });
    this.types = { key, value };
  }

  /**
   * Opens the map pinned at a path on a BPF file system (kernel 4.4).
   *
   * @throws {TypeError} when it is another kind of map, or its key or value has another size
   * @throws {Error} when nothing is pinned there
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * try {
   *   using counts = HashMap.open("/sys/fs/bpf/counts", { key: t.u32, value: t.u64 });
   *   console.log(counts.toMap());
   * } catch (error) {
   *   console.error(String(error)); // nothing is pinned at /sys/fs/bpf/counts: no such file
   * }
   * ```
   */
  static open<K, V>(path: string, types: KeyedMapTypes<K, V>): HashMap<K, V> {
    return new HashMap(types, HashMap.kind.open(path, types));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<K, V>(id: number, types: KeyedMapTypes<K, V>): HashMap<K, V> {
    return new HashMap(types, HashMap.kind.byId(id, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<K, V>(fd: number, types: KeyedMapTypes<K, V>): HashMap<K, V> {
    return new HashMap(types, HashMap.kind.byFd(fd, types));
  }

  override dup(): HashMap<K, V> {
    return new HashMap(this.types, this.duplicateHandle());
  }
}
