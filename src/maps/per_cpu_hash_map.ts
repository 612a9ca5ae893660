import type { MapHandle } from "./handle.ts";
import { keyedKind, type KeyedMapOptions } from "./keyed_kind.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";
import { PerCpuAssociativeMap } from "./per_cpu_associative_map.ts";

/**
 * Options of {@link PerCpuHashMap}. All entries are allocated at once unless `flags` has `"no-prealloc"`: then each takes its memory
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
 * using counts = new PerCpuHashMap({ key: t.u32, value: t.u64n, maxEntries: 1024 });
 * counts.set(1, possibleCpus().map(() => 5));
 * console.log(counts.sum(1) === 5 * possibleCpus().length, counts.sum(2)); // true undefined
 * ```
 */
export class PerCpuHashMap<K, V> extends PerCpuAssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("percpu-hash", "PerCpuHashMap");

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
