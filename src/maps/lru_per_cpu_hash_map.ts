import type { MapHandle } from "./handle.ts";
import { keyedKind, type KeyedMapOptions } from "./keyed_kind.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";
import { PerCpuAssociativeMap } from "./per_cpu_associative_map.ts";

/** Options of {@link LruPerCpuHashMap}. All entries are allocated at once. */
export type LruPerCpuHashMapOptions<K, V> = KeyedMapOptions<K, V>;

/**
 * A hash table with a value for each CPU under every key, which makes room by itself as {@link LruHashMap} does.
 *
 * Kernel 4.10. Values are arrays in the order of {@link possibleCpus}. A value takes at most 32 KiB.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `ENOTSUPP` with the
 * flag `"no-prealloc"`, `E2BIG` for a value of more than 32 KiB
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { LruPerCpuHashMap, possibleCpus, t } from "bun-bpf";
 * using flows = new LruPerCpuHashMap({ key: t.ipv4, value: t.u64n, maxEntries: 1024 });
 * flows.set("192.0.2.1", possibleCpus().map(() => 1));
 * console.log(flows.sum("192.0.2.1") === possibleCpus().length); // true
 * ```
 */
export class LruPerCpuHashMap<K, V> extends PerCpuAssociativeMap<K, V> {
  /** @internal */
  static readonly kind = keyedKind("lru-percpu-hash", "LruPerCpuHashMap");

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
