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
 * Options of {@link HashMap}. All entries are allocated at creation. With the flag `"no_prealloc"` each is allocated when
 * it is stored. Fast writers can then use up the kernel's reserve: a store waits until the kernel refills it, for at most
 * 50 ms.
 */
export type HashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

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
export class HashMap<K extends AnyType, V extends AnyType> extends AssociativeMap<
  Infer<K>,
  Infer<V>,
  Infer<V>,
  "hash"
> {
  static readonly kind = /*@__PURE__*/ keyedKind(HASH, "HashMap");
  /** The types that keys and values are written and read with. */
  declare readonly types: KeyedMapTypes<K, V>;

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

/** Options of {@link LruHashMap}. All entries are allocated at creation. */
export type LruHashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/**
 * A hash table that makes room by itself: when it is full, a new key takes the place of one that was not used lately.
 *
 * Kernel 4.10. The kernel chooses the key by a fast approximation: with few entries, or keys from many CPUs, it evicts
 * entries before the table is full (`Documentation/bpf/map_hash.rst`). Looking a key up from user space does not count as
 * use. The flag `"no_common_lru"` keeps a list of its own for each CPU; `maxEntries` is then at least one for each possible
 * CPU.
 *
 * A key that was just stored stays until something else is stored. The kernel makes room before it looks for the key: `add`
 * of a present key may evict another one, and `replace` may evict the key itself.
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
export class LruHashMap<K extends AnyType, V extends AnyType> extends AssociativeMap<
  Infer<K>,
  Infer<V>,
  Infer<V>,
  "lru_hash"
> {
  static readonly kind = /*@__PURE__*/ keyedKind(LRU_HASH, "LruHashMap");
  /** The types that keys and values are written and read with. */
  declare readonly types: KeyedMapTypes<K, V>;

  constructor(options: LruHashMapOptions<K, V>) {
    const handle = LruHashMap.kind.handle(options);
    const { key, value } = handle.types;
    super(handle, { key, value });
  }
}

/**
 * Options of {@link PerCpuHashMap}. All entries are allocated at creation. With the flag `"no_prealloc"` each is allocated
 * when it is stored. Fast writers can then use up the kernel's reserve: a store waits until the kernel refills it, for at
 * most 50 ms.
 */
export type PerCpuHashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

/**
 * A hash table with a value for each CPU under every key: a program changes the value of its CPU without contention, and
 * the reader adds the values up.
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
export class PerCpuHashMap<K extends AnyType, V extends AnyType> extends PerCpuAssociativeMap<
  Infer<K>,
  Infer<V>,
  "percpu_hash"
> {
  static readonly kind = /*@__PURE__*/ keyedKind(PERCPU_HASH, "PerCpuHashMap");

  /** The types that keys, and the values of one CPU, are written and read with. */
  declare readonly types: KeyedMapTypes<K, V>;

  constructor(options: PerCpuHashMapOptions<K, V>) {
    super(PerCpuHashMap.kind.handle(options));
  }
}

/** Options of {@link LruPerCpuHashMap}. All entries are allocated at creation. */
export type LruPerCpuHashMapOptions<K extends AnyType, V extends AnyType> = KeyedMapOptions<K, V>;

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
export class LruPerCpuHashMap<K extends AnyType, V extends AnyType> extends PerCpuAssociativeMap<
  Infer<K>,
  Infer<V>,
  "lru_percpu_hash"
> {
  static readonly kind = /*@__PURE__*/ keyedKind(LRU_PERCPU_HASH, "LruPerCpuHashMap");

  /** The types that keys, and the values of one CPU, are written and read with. */
  declare readonly types: KeyedMapTypes<K, V>;

  constructor(options: LruPerCpuHashMapOptions<K, V>) {
    super(LruPerCpuHashMap.kind.handle(options));
  }
}
