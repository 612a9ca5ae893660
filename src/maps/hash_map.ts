import type { MapElement } from "../ffi/map_element.ts";
import { checkCount, checkOptions } from "../types/argument.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import {
  createMapHandle,
  type MapHandle,
  mapHandleById,
  mapHandleFromFd,
  openMapHandle,
} from "./handle.ts";
import { checkTypes, KeyedMap, type KeyedMapTypes } from "./keyed_map.ts";
import { type CommonMapOptions, commonMapOptionNames, mapSpec } from "./spec.ts";
import { deleteBatch, type MapWalk } from "./walk.ts";

/** Options of {@link HashMap}. */
export interface HashMapOptions<K, V> extends CommonMapOptions, KeyedMapTypes<K, V> {
  /** How many entries it holds at the most: 1 to 2^32 - 1. All are allocated at once unless `flags` has `"no-prealloc"`. */
  readonly maxEntries: number;
}

/**
 * A hash table: any key to any value.
 *
 * Kernel 3.19. Keys are compared byte by byte, padding included, which `t` always writes as zero.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries
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
export class HashMap<K, V> extends KeyedMap<K, V> {
  constructor(options: HashMapOptions<K, V>);
  /** @internal */
  constructor(types: KeyedMapTypes<K, V>, existing: MapHandle, pinnedAt?: string);
  constructor(
    options: HashMapOptions<K, V> | KeyedMapTypes<K, V>,
    existing?: MapHandle,
    pinnedAt?: string,
  ) {
    if (existing !== undefined) {
      super(existing, options, pinnedAt);
      return;
    }
    const created = options as HashMapOptions<K, V>;
    super(createHashMap(created), created, created.pin);
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
    return new HashMap(types, openMapHandle(path, expected(types)), path);
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<K, V>(id: number, types: KeyedMapTypes<K, V>): HashMap<K, V> {
    return new HashMap(types, mapHandleById(id, expected(types)));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<K, V>(fd: number, types: KeyedMapTypes<K, V>): HashMap<K, V> {
    return new HashMap(types, mapHandleFromFd(fd, expected(types)));
  }

  /** Stores a value only if the key is absent; whether it did. @throws {BpfError} `E2BIG` when the map is full */
  add(key: K, value: V): boolean {
    return this.update(key, value, BPF_NOEXIST);
  }

  /** Stores a value only if the key is present; whether it did. */
  replace(key: K, value: V): boolean {
    return this.update(key, value, BPF_EXIST);
  }

  /** Deletes a key; whether it was there. */
  delete(key: K): boolean {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return element.delete();
    } finally {
      this.end(element);
    }
  }

  /**
   * Fetches a value and deletes its key, in one step since kernel 5.14. Before, a change of the value between the
   * look-up and the deletion is lost.
   */
  take(key: K): V | undefined {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return takeElement(element) ? this.readValue(element) : undefined;
    } finally {
      this.end(element);
    }
  }

  /**
   * Deletes many keys, in one call where the kernel can (5.6); how many were there.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many keys were done before, absent ones included
   * @throws {TypeError | RangeError} for a key that its type refuses: the map is as before
   */
  deleteMany(keys: Iterable<K>): number {
    void this.fd;
    const list = [...keys];
    if (list.length === 0) return 0;
    using batch = this.batchOfKeys(list);
    return deleteBatch(batch, list.length, this.walked);
  }

  /**
   * Takes the entries out one after the other: each is deleted, as by {@link take}, when it is handed out, so that none is
   * lost when the loop ends early. Entries that are added meanwhile may be left.
   */
  *drain(): Generator<[key: K, value: V], undefined, undefined> {
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) {
        const entry = this.#takeFrom(walk, i);
        if (entry !== undefined) yield entry;
      }
    }
    return undefined;
  }

  /** By the bytes of the key, as it may not be what its type would make of the decoded one: padding, text behind a NUL. */
  #takeFrom(walk: MapWalk, index: number): [key: K, value: V] | undefined {
    const key = this.types.key.read(walk.view, walk.keyOffset(index));
    const element = this.begin();
    try {
      element.setKey(walk.keyBytes(index));
      return takeElement(element) ? [key, this.readValue(element)] : undefined;
    } finally {
      this.end(element);
    }
  }

  /** Deletes all entries that are there when it begins, in batches where the kernel can (5.6). */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }

  override dup(): HashMap<K, V> {
    return new HashMap(this.types, this.duplicateHandle());
  }
}

/** Fetches a value and deletes its key; false when it is absent. */
function takeElement(element: MapElement): boolean {
  return element.lookupAndDelete() ?? (element.lookup(0) && element.delete());
}

function expected({ key, value }: KeyedMapTypes<unknown, unknown>) {
  checkTypes({ key, value });
  return { type: "hash", keySize: key.size, valueSize: value.size } as const;
}

function createHashMap(options: HashMapOptions<unknown, unknown>): MapHandle {
  checkOptions("HashMap", options, ["key", "value", "maxEntries", ...commonMapOptionNames]);
  checkTypes(options);
  checkCount("maxEntries", options.maxEntries, 1, 0xffffffff);
  const spec = mapSpec(options, { ...expected(options), maxEntries: options.maxEntries });
  return createMapHandle(spec, options.pin);
}
