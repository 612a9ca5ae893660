import type { MapHandle } from "../maps/handle.ts";
import { checkPlainType } from "../maps/type_checks.ts";
import { MapKind } from "../maps/kind.ts";
import { checkMaxEntries, type CommonMapOptions } from "../maps/spec.ts";
import { u32 } from "../types/integer.ts";
import type { Type } from "../types/type.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import {
  checkInner,
  type InnerMap,
  type InnerMapOptions,
  innerMapSpec,
  type InnerMapTypes,
} from "./inner_map.ts";
import { MapOfMaps } from "./map_of_maps.ts";

/** The types of a {@link HashOfMaps}: of its keys, and of the maps in it. */
export interface HashOfMapsTypes<K, I extends InnerMapTypes> {
  readonly key: Type<K>;
  readonly inner: I;
}

/** Options of {@link HashOfMaps}. */
export interface HashOfMapsOptions<K, I extends InnerMapTypes>
  extends CommonMapOptions, HashOfMapsTypes<K, I> {
  /** What the maps in it are like: the options of their class, and its kind as `type`. */
  readonly inner: I & InnerMapOptions;
  /** How many maps it holds at the most: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/**
 * A hash table of maps: programs look a map up by any key, and then a value in that map. User space exchanges whole maps
 * under running programs: a new table of rules takes the place of the old one in one step.
 *
 * Kernel 4.12. All maps in it are alike: of the kind, sizes and flags that `inner` says, for which the kernel is shown a
 * map at creation. In hash tables `maxEntries` may differ from map to map, in arrays with the flag `"inner-map"` only
 * (5.10). A map cannot be inside a map that is inside one.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` for an inner kind or flag that the kernel does not take
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { HashMap, HashOfMaps, t } from "bun-bpf";
 * const rules = { key: t.ipv4, value: t.u32, maxEntries: 1024 };
 * using tenants = new HashOfMaps({ key: t.u32, maxEntries: 64, inner: { type: "hash", ...rules } });
 * {
 *   using first = new HashMap(rules);
 *   tenants.set(7, first.set("192.0.2.1", 1));
 * }
 * using opened = tenants.get(7); // a HashMap<string, number>: the map lives on in the other one
 * console.log(opened?.get("192.0.2.1"), tenants.get(8)); // 1 undefined
 * ```
 */
export class HashOfMaps<K, I extends InnerMapTypes> extends MapOfMaps<K, I> {
  /** @internal */
  static readonly kind = new MapKind<
    HashOfMapsTypes<unknown, InnerMapTypes>,
    HashOfMapsOptions<unknown, InnerMapOptions>
  >({
    type: "hash-of-maps",
    className: "HashOfMaps",
    options: ["key", "inner", "maxEntries"],
    sizes({ key, inner }) {
      checkPlainType("key", key);
      checkInner(inner);
      return { keySize: key.size, valueSize: u32.size };
    },
    complete({ inner, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, inner: innerMapSpec(inner) };
    },
  });
  /** The types of keys, and of the maps. */
  readonly types: HashOfMapsTypes<K, I>;

  constructor(options: HashOfMapsOptions<K, I>);
  /** @internal */
  constructor(types: HashOfMapsTypes<K, I>, existing: MapHandle);
  constructor(options: HashOfMapsTypes<K, I>, existing = HashOfMaps.kind.create(options)) {
    const { key, inner } = options;
    super(existing, key, inner);
    this.types = { key, inner };
  }

  /** Opens the map pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<K, I extends InnerMapTypes>(
    path: string,
    types: HashOfMapsTypes<K, I>,
  ): HashOfMaps<K, I> {
    return new HashOfMaps(types, HashOfMaps.kind.open(path, types));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<K, I extends InnerMapTypes>(
    id: number,
    types: HashOfMapsTypes<K, I>,
  ): HashOfMaps<K, I> {
    return new HashOfMaps(types, HashOfMaps.kind.byId(id, types));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<K, I extends InnerMapTypes>(
    fd: number,
    types: HashOfMapsTypes<K, I>,
  ): HashOfMaps<K, I> {
    return new HashOfMaps(types, HashOfMaps.kind.byFd(fd, types));
  }

  /** Stores a map only if there is none under the key; whether it did. @throws as {@link set} */
  add(key: K, map: InnerMap<I>): boolean {
    return this.store(key, map, BPF_NOEXIST);
  }

  /** Stores a map only if there is one under the key; whether it did. @throws as {@link set} */
  replace(key: K, map: InnerMap<I>): boolean {
    return this.store(key, map, BPF_EXIST);
  }

  override dup(): HashOfMaps<K, I> {
    return new HashOfMaps(this.types, this.duplicateHandle());
  }
}
