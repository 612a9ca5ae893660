import type { MapHandle } from "./create.ts";
import { AssociativeMap, type KeyedMapTypes, PerCpuAssociativeMap } from "./keyed_map.ts";
import { keyedKind, type KeyedMapOptions } from "./map_options.ts";
import { hasOpaqueField, hasSpinLock } from "../types/opaque.ts";

/**
 * Options of {@link HashMap}. All entries are allocated at once unless `flags` has `"no_prealloc"`: then each takes its memory
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

/** Options of {@link LruHashMap}. All entries are allocated at once. */
export type LruHashMapOptions<K, V> = KeyedMapOptions<K, V>;

/**
 * A hash table that makes room by itself: when it is full, a new key takes the place of one that was not used lately.
 *
 * Kernel 4.10. Which key goes is the kernel's choice, an approximation in favour of speed: with few entries, or keys that
 * arrive on many CPUs, entries go before the table is full (`Documentation/bpf/map_hash.rst`). Looking a key up from user
 * space does not count as use. The flag `"no_common_lru"` keeps a list of its own for each CPU; `maxEntries` is then at
 * least one for each possible CPU.
 *
 * A key that was just stored is there until something else is stored. `add` of a key that is present may still evict
 * another one, and `replace` the very key, as the kernel makes room before it looks.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `ENOTSUPP` with the
 * flag `"no_prealloc"`
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { LruHashMap, t } from "bun-bpf";
 * using recent = new LruHashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
 * for (let key = 0; key < 5000; key++) recent.set(key, key);
 * console.log(recent.count() <= 1024, recent.get(4999)); // true 4999
 * ```
 */
export class LruHashMap<K, V> extends AssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("lru_hash", "LruHashMap");
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

/**
 * Options of {@link PerCpuHashMap}. All entries are allocated at once unless `flags` has `"no_prealloc"`: then each takes its memory
 * when it is stored, and where the kernel's reserve for that is used up, a store waits for more, 50 ms at most.
 */
export type PerCpuHashMapOptions<K, V> = KeyedMapOptions<K, V>;

/**
 * A hash table with a value for each CPU under every key: a program works on its own CPU's without contention, and the
 * reader adds up.
 *
 * Kernel 4.6. Values are arrays in the order of {@link possibleCpus}. A value takes at most 32 KiB. The values of one key
 * are read one CPU after the other while programs go on: their sum is not that of one moment.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `E2BIG` for a value
 * of more than 32 KiB
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { PerCpuHashMap, possibleCpus, t } from "bun-bpf";
 * using counts = new PerCpuHashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
 * counts.set(1, possibleCpus().map(() => 5));
 * console.log(counts.sum(1) === 5 * possibleCpus().length, counts.sum(2)); // true undefined
 * ```
 */
export class PerCpuHashMap<K, V> extends PerCpuAssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("percpu_hash", "PerCpuHashMap");

  constructor(options: PerCpuHashMapOptions<K, V>);
  /** @internal */
  constructor(types: KeyedMapTypes<K, V>, existing: MapHandle);
  constructor(options: KeyedMapTypes<K, V>, existing = PerCpuHashMap.kind.create(options)) {
    super(existing, options);
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<K, V>(path: string, types: KeyedMapTypes<K, V>): PerCpuHashMap<K, V> {
    return new PerCpuHashMap(types, PerCpuHashMap.kind.open(path, types));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<K, V>(id: number, types: KeyedMapTypes<K, V>): PerCpuHashMap<K, V> {
    return new PerCpuHashMap(types, PerCpuHashMap.kind.byId(id, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<K, V>(fd: number, types: KeyedMapTypes<K, V>): PerCpuHashMap<K, V> {
    return new PerCpuHashMap(types, PerCpuHashMap.kind.byFd(fd, types));
  }

  override dup(): PerCpuHashMap<K, V> {
    return new PerCpuHashMap(this.types, this.duplicateHandle());
  }
}

/** Options of {@link LruPerCpuHashMap}. All entries are allocated at once. */
export type LruPerCpuHashMapOptions<K, V> = KeyedMapOptions<K, V>;

/**
 * A hash table with a value for each CPU under every key, which makes room by itself as {@link LruHashMap} does.
 *
 * Kernel 4.10. Values are arrays in the order of {@link possibleCpus}. A value takes at most 32 KiB.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `ENOTSUPP` with the
 * flag `"no_prealloc"`, `E2BIG` for a value of more than 32 KiB
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { LruPerCpuHashMap, possibleCpus, t } from "bun-bpf";
 * using flows = new LruPerCpuHashMap({ key: t.ipv4, value: t.u64Number, maxEntries: 1024 });
 * flows.set("192.0.2.1", possibleCpus().map(() => 1));
 * console.log(flows.sum("192.0.2.1") === possibleCpus().length); // true
 * ```
 */
export class LruPerCpuHashMap<K, V> extends PerCpuAssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("lru_percpu_hash", "LruPerCpuHashMap");

  constructor(options: LruPerCpuHashMapOptions<K, V>);
  /** @internal */
  constructor(types: KeyedMapTypes<K, V>, existing: MapHandle);
  constructor(options: KeyedMapTypes<K, V>, existing = LruPerCpuHashMap.kind.create(options)) {
    super(existing, options);
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<K, V>(path: string, types: KeyedMapTypes<K, V>): LruPerCpuHashMap<K, V> {
    return new LruPerCpuHashMap(types, LruPerCpuHashMap.kind.open(path, types));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<K, V>(id: number, types: KeyedMapTypes<K, V>): LruPerCpuHashMap<K, V> {
    return new LruPerCpuHashMap(types, LruPerCpuHashMap.kind.byId(id, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<K, V>(fd: number, types: KeyedMapTypes<K, V>): LruPerCpuHashMap<K, V> {
    return new LruPerCpuHashMap(types, LruPerCpuHashMap.kind.byFd(fd, types));
  }

  override dup(): LruPerCpuHashMap<K, V> {
    return new LruPerCpuHashMap(this.types, this.duplicateHandle());
  }
}
