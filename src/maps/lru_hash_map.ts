import { AssociativeMap } from "./associative_map.ts";
import type { MapHandle } from "./handle.ts";
import { keyedKind, type KeyedMapOptions } from "./keyed_kind.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";

/** Options of {@link LruHashMap}. All entries are allocated at once. */
export type LruHashMapOptions<K, V> = KeyedMapOptions<K, V>;

/**
 * A hash table that makes room by itself: when it is full, a new key takes the place of one that was not used lately.
 *
 * Kernel 4.10. Which key goes is the kernel's choice, an approximation in favour of speed: with few entries, or keys that
 * arrive on many CPUs, entries go before the table is full (`Documentation/bpf/map_hash.rst`). Looking a key up from user
 * space does not count as use. The flag `"no-common-lru"` keeps a list of its own for each CPU; `maxEntries` is then at
 * least one for each possible CPU.
 *
 * A key that was just stored is there until something else is stored. `add` of a key that is present may still evict
 * another one, and `replace` the very key, as the kernel makes room before it looks.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `ENOTSUPP` with the
 * flag `"no-prealloc"`
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { LruHashMap, t } from "bun-bpf";
 * using recent = new LruHashMap({ key: t.u32, value: t.u64n, maxEntries: 1024 });
 * for (let key = 0; key < 5000; key++) recent.set(key, key);
 * console.log(recent.count() <= 1024, recent.get(4999)); // true 4999
 * ```
 */
export class LruHashMap<K, V> extends AssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("lru-hash", "LruHashMap");
  /** The types that keys and values are written and read with. */
  readonly types: KeyedMapTypes<K, V>;

  constructor(options: LruHashMapOptions<K, V>);
  /** @internal */
  constructor(types: KeyedMapTypes<K, V>, existing: MapHandle);
  constructor(options: KeyedMapTypes<K, V>, existing = LruHashMap.kind.create(options)) {
    const { key, value } = options;
    super(existing, { key, value });
    this.types = { key, value };
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<K, V>(path: string, types: KeyedMapTypes<K, V>): LruHashMap<K, V> {
    return new LruHashMap(types, LruHashMap.kind.open(path, types));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<K, V>(id: number, types: KeyedMapTypes<K, V>): LruHashMap<K, V> {
    return new LruHashMap(types, LruHashMap.kind.byId(id, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<K, V>(fd: number, types: KeyedMapTypes<K, V>): LruHashMap<K, V> {
    return new LruHashMap(types, LruHashMap.kind.byFd(fd, types));
  }

  override dup(): LruHashMap<K, V> {
    return new LruHashMap(this.types, this.duplicateHandle());
  }
}
