import { HASH, LRU_HASH, LRU_PERCPU_HASH, PERCPU_HASH } from "./map_types.ts";
import { hasOpaqueField, hasSpinLock } from "../types/opaque.ts";
import type { Infer } from "../types/type.ts";
import { AssociativeMap, PerCpuAssociativeMap } from "./keyed_map.ts";
import {
  type AnyType,
  keyedKind,
  type KeyedMapOptions,
  type KeyedMapTypes,
  type TypeIn,
} from "./map_options.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    HashMap: HashMap<TypeIn<T, "key">, TypeIn<T, "value">>;
    LruHashMap: LruHashMap<TypeIn<T, "key">, TypeIn<T, "value">>;
    PerCpuHashMap: PerCpuHashMap<TypeIn<T, "key">, TypeIn<T, "value">>;
    LruPerCpuHashMap: LruPerCpuHashMap<TypeIn<T, "key">, TypeIn<T, "value">>;
  }
}

/**
 * Options of {@link HashMap}.
 *
 * The kernel allocates all entries at creation. With the flag `"no_prealloc"` it allocates each entry when the entry is
 * stored. Fast writers can then get ENOMEM although memory is free, because the kernel refills its reserve later. Updates
 * from user space therefore retry for at most 50 ms.
 */
export type HashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/**
 * Hash table with keys and values of any type.
 *
 * The kernel compares keys byte by byte, padding included; `t` types write padding as zeros. If the value type has a
 * `t.spinLock` field, values are copied while the lock is held (Linux 5.1 or later).
 *
 * `set` throws `E2BIG` when the table is full: {@link LruHashMap} evicts an old entry instead. The kernel reuses the memory
 * of a deleted entry at once: a look-up that races with a deletion and an insertion can return the value of the new key.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM if the kernel has no memory for all entries.
 * @throws {BpfError} E2BIG if a key and its value are too large together.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { HashMap, t } from "bun-bpf";
 * using counts = new HashMap({ key: t.u32, value: t.u64, maxEntries: 1024, name: "counts" });
 * counts.set(1, 10n).set(2, 20n);
 * console.log(counts.get(1), counts.get(3)); // 10n undefined
 * for (const [key, value] of counts) console.log(key, value);
 * ```
 *
 * Requires Linux 4.13.
 */
export class HashMap<K extends AnyType, V extends AnyType> extends AssociativeMap<
  Infer<K>,
  Infer<V>,
  Infer<V>,
  "hash"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ keyedKind(HASH, "HashMap");
  /** Types of the keys and values. */
  declare readonly types: KeyedMapTypes<K, V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: HashMapOptions<K, V>) {
    const handle = HashMap.kind.handle(options);
    const { key, value } = handle.types;
    super(handle, {
      key,
      value,
      isLocked: hasSpinLock(value),
      isReadByPrograms: !hasOpaqueField(value),
    });
  }
}

/** Options of {@link LruHashMap}. The kernel allocates all entries at creation. */
export type LruHashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/**
 * Hash table that does not reject new keys when it is full, but evicts entries that were not used recently.
 *
 * The kernel approximates the order of use. With few entries, or with keys from many CPUs, the kernel evicts entries before
 * the table is full (`Documentation/bpf/map_hash.rst`). A look-up from user space does not count as use.
 *
 * The kernel makes room before it looks for the key. So `add` of a present key may evict another key, and `replace` may
 * evict the key itself. A key that was just stored stays until something else is stored.
 *
 * The flag `"no_common_lru"` keeps one LRU list for each CPU. `maxEntries` must then be at least the number of possible
 * CPUs.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM if the kernel has no memory for all entries.
 * @throws {BpfError} ENOTSUPP if the flag `"no_prealloc"` is set.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { LruHashMap, t } from "bun-bpf";
 * using recent = new LruHashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
 * for (let key = 0; key < 5000; key++) recent.set(key, key);
 * console.log(recent.count() <= 1024, recent.get(4999)); // true 4999
 * ```
 *
 * Requires Linux 4.13.
 */
export class LruHashMap<K extends AnyType, V extends AnyType> extends AssociativeMap<
  Infer<K>,
  Infer<V>,
  Infer<V>,
  "lru_hash"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ keyedKind(LRU_HASH, "LruHashMap");
  /** Types of the keys and values. */
  declare readonly types: KeyedMapTypes<K, V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: LruHashMapOptions<K, V>) {
    const handle = LruHashMap.kind.handle(options);
    const { key, value } = handle.types;
    super(handle, { key, value });
  }
}

/**
 * Options of {@link PerCpuHashMap}.
 *
 * The kernel allocates all entries at creation. With the flag `"no_prealloc"` it allocates each entry when the entry is
 * stored. Fast writers can then get ENOMEM although memory is free, because the kernel refills its reserve later. Updates
 * from user space therefore retry for at most 50 ms.
 */
export type PerCpuHashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/**
 * Hash table that has one value for each CPU under every key. A program changes the value of its own CPU without contention,
 * and user space combines the values of all CPUs with `sum` or `reduce`.
 *
 * Values are arrays with one element for each possible CPU, in the order of {@link possibleCpus}. A value takes at most 32
 * KiB for each CPU. `set` stores all elements. The kernel copies the values of a key one CPU after the other while programs
 * run: their sum is not a snapshot of one moment.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM if the kernel has no memory for all entries.
 * @throws {BpfError} E2BIG if a value has more than 32 KiB.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { PerCpuHashMap, possibleCpus, t } from "bun-bpf";
 * using counts = new PerCpuHashMap({ key: t.u32, value: t.u64Number, maxEntries: 1024 });
 * counts.set(1, possibleCpus().map(() => 5));
 * console.log(counts.sum(1) === 5 * possibleCpus().length, counts.sum(2)); // true undefined
 * ```
 *
 * Requires Linux 4.13.
 */
export class PerCpuHashMap<K extends AnyType, V extends AnyType> extends PerCpuAssociativeMap<
  Infer<K>,
  Infer<V>,
  "percpu_hash"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ keyedKind(PERCPU_HASH, "PerCpuHashMap");

  /** Types of the keys, and of the value of one CPU. */
  declare readonly types: KeyedMapTypes<K, V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: PerCpuHashMapOptions<K, V>) {
    super(PerCpuHashMap.kind.handle(options));
  }
}

/** Options of {@link LruPerCpuHashMap}. The kernel allocates all entries at creation. */
export type LruPerCpuHashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/**
 * Hash table that has one value for each CPU under every key, and that evicts entries that were not used recently when it
 * is full, as {@link LruHashMap} does.
 *
 * Values are arrays with one element for each possible CPU, in the order of {@link possibleCpus}. A value takes at most 32
 * KiB for each CPU. The kernel copies the values of a key one CPU after the other while programs run: their sum is not a
 * snapshot of one moment.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM if the kernel has no memory for all entries.
 * @throws {BpfError} ENOTSUPP if the flag `"no_prealloc"` is set.
 * @throws {BpfError} E2BIG if a value has more than 32 KiB.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { LruPerCpuHashMap, possibleCpus, t } from "bun-bpf";
 * using flows = new LruPerCpuHashMap({ key: t.ipv4, value: t.u64Number, maxEntries: 1024 });
 * flows.set("192.0.2.1", possibleCpus().map(() => 1));
 * console.log(flows.sum("192.0.2.1") === possibleCpus().length); // true
 * ```
 *
 * Requires Linux 4.13.
 */
export class LruPerCpuHashMap<K extends AnyType, V extends AnyType> extends PerCpuAssociativeMap<
  Infer<K>,
  Infer<V>,
  "lru_percpu_hash"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ keyedKind(LRU_PERCPU_HASH, "LruPerCpuHashMap");

  /** Types of the keys, and of the value of one CPU. */
  declare readonly types: KeyedMapTypes<K, V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: LruPerCpuHashMapOptions<K, V>) {
    super(LruPerCpuHashMap.kind.handle(options));
  }
}
