import { listOf } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import { BpfError } from "../ffi/error.ts";
import type { MapHandle } from "../maps/create.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import { checkIndex, MapElements } from "../maps/elements.ts";
import { type BatchesOptions, checkBatches } from "../maps/keyed_map.ts";
import {
  type AnyType,
  checkLength,
  checkPlainType,
  type MapClass,
  MapKind,
  type OptionsOf,
  refuseMaxEntries,
  type TypeIn,
  type TypesOf,
} from "../maps/map_options.ts";
import { checkMaxEntries, type CommonMapOptions, type MapSpec } from "../maps/map_spec.ts";
import {
  ARRAY_OF_MAPS,
  HASH_OF_MAPS,
  type MapTypeName,
  mapTypes,
  type NeverInnerName,
} from "../maps/map_types.ts";
import type { ValueLayout } from "../maps/value_layout.ts";
import { decodeWalk, inBatches } from "../maps/walk.ts";
import { u32 } from "../types/integer.ts";
import type { Infer, Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import { simpleClasses, type SimpleMap, type SimpleMapName } from "./classes.ts";

declare module "../maps/map_options.ts" {
  interface MapClasses<T> {
    ArrayOfMaps: ArrayOfMaps<InnerIn<T>>;
    HashOfMaps: HashOfMaps<TypeIn<T, "key">, InnerIn<T>>;
  }
}

type InnerIn<T> = T extends { readonly inner: infer I extends InnerMapTypes } ? I : never;

/** Map type that can be inside another map: `"hash"`, `"array"`, ... */
export type InnerMapName = Exclude<SimpleMapName, NeverInnerName>;

/** Description of inner maps: the options of their class, and their map type as `type`. */
export type InnerMapOptions = {
  [N in InnerMapName]: { readonly type: N; readonly pin?: never } & Omit<
    OptionsOf<(typeof simpleClasses)[N]>,
    "pin"
  >;
}[InnerMapName];

/**
 * Part of {@link InnerMapOptions} that is needed to open an inner map: its map type, and the types of its keys, values or
 * events.
 */
export type InnerMapTypes = {
  [N in InnerMapName]: { readonly type: N } & TypesOf<(typeof simpleClasses)[N]>;
}[InnerMapName];

/** Object of an inner map: a `HashMap`, an `ArrayMap`, ... */
export type InnerMap<I extends InnerMapTypes> = SimpleMap<I["type"], I>;

function innerClassOf(type: InnerMapName): MapClass {
  const names = Object.keys(simpleClasses).filter(
    (name) => mapTypes.get(name as SimpleMapName)?.isNeverInner !== true,
  );
  if (names.includes(type)) return simpleClasses[type];
  throw new TypeError(
    `inner: type: expected a map type that can be inside another map, got ${describe(type)}: ${suggest(String(type), names)}`,
  );
}

/**
 * Checks the options of an inner map and returns its spec.
 *
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 */
function innerMapSpec(inner: InnerMapOptions): MapSpec {
  const { type, ...options } = checkInner(inner);
  if ("pin" in options) {
    throw new TypeError(
      "inner: pin: `inner` describes the inner maps and creates none, so there is nothing to pin",
    );
  }
  // InnerMapOptions relates the map type to its options; spec() checks them again at run time.
  return innerClassOf(type).kind.spec(options as never);
}

/**
 * Checks that the map type of inner maps is present, and that its class has all of the options.
 *
 * @throws {TypeError} if the type is missing or cannot be inside another map, or if an option is unknown.
 */
function checkInner<I extends InnerMapTypes>(inner: I): I {
  if (typeof inner !== "object" || inner === null || inner instanceof BpfMap) {
    const got =
      inner instanceof BpfMap ? `the ${inner}: pass the options that describe it` : describe(inner);
    throw new TypeError(
      `inner: expected an object such as { type: "hash", key, value, maxEntries }, got ${got}`,
    );
  }
  const { type, ...options } = inner as I & { readonly type: InnerMapName };
  innerClassOf(type).kind.checkNames(options);
  return inner;
}

/** Opens a map by its id, as a map that `inner` describes. */
function openInnerMap<I extends InnerMapTypes>(inner: I, id: number): InnerMap<I> {
  const Class = innerClassOf(inner.type);
  // TypeScript cannot see that the table and InnerMap have the same classes.
  return new Class(Class.kind.open({ id }, Class.kind.pickTypes(inner)) as never) as InnerMap<I>;
}

/** Layout of an inner map, which is stored as its descriptor and read as its id. */
const innerMapLayout: ValueLayout<number, BpfMap> = {
  size: u32.size,
  read: (view, offset) => u32.read(view, offset),
  write(view, offset, map) {
    if (!(map instanceof BpfMap)) throw new TypeError(`expected a map, got ${describe(map)}`);
    u32.write(view, offset, map.fd);
  },
};

const hints: Hints = {
  EINVAL:
    "The map differs from the option `inner`: sizes and flags must be the same, and so must the length of an array without the flag inner_map and, before Linux 5.10, maxEntries of any map",
};

/**
 * Default number of maps in an array that an iteration yields. All maps of an array are open at once, and processes often
 * have at most 1024 descriptors.
 */
const defaultBatchMax = 64;

/** Largest number of attempts to open an inner map that is replaced between the look-up of its id and the opening. */
const maxAttempts = 100;

/**
 * Base class of maps whose values are maps, all with the same map type, sizes and flags.
 *
 * `I` is the type of their description: the map type as `type`, and the types of its keys, values or events. A stored map
 * stays alive in the outer map after the object of the stored map is disposed of.
 */
export abstract class MapOfMaps<
  K,
  I extends InnerMapTypes,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  /** Description of the inner maps. */
  readonly inner: I;
  /** @internal Redeclared by the classes. */
  protected readonly types: object;
  readonly #elements: MapElements<K, number, BpfMap>;

  /** @internal */
  protected constructor(handle: MapHandle<{ readonly inner: I }>, key: AnyType) {
    super(handle);
    this.types = handle.types;
    this.inner = handle.types.inner;
    this.#elements = new MapElements(handle, { key: key as Type<K>, value: innerMapLayout, hints });
  }

  /**
   * Opens the map under a key, or returns `undefined` if there is none. The caller must dispose of the returned object.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   * @throws {TypeError | RangeError} if the key type rejects the key.
   *
   * Requires Linux 4.13 and CAP_SYS_ADMIN: the map is opened by its id.
   */
  get(key: K): InnerMap<I> | undefined {
    for (let attempt = 1; ; attempt++) {
      const id = this.getId(key);
      if (id === undefined) return undefined;
      try {
        return openInnerMap(this.inner, id);
      } catch (error) {
        // Another map has replaced the inner map since the look-up, and the kernel has freed the inner map.
        const isGone = error instanceof BpfError && error.code === "ENOENT";
        if (!isGone || attempt === maxAttempts) throw error;
      }
    }
  }

  /** Returns the id of the map under a key, or `undefined` if there is none. */
  getId(key: K): number | undefined {
    return this.#elements.get(key);
  }

  /** Returns true if there is a map under the key. */
  has(key: K): boolean {
    return this.#elements.has(key);
  }

  /**
   * Stores a map under a key, and replaces the previous map if there is one. Programs see the old or the new map. Since
   * Linux 4.20 the call returns only when no program uses the old map any more, which takes milliseconds.
   *
   * @throws {BpfError} EINVAL if the map differs from {@link inner}.
   * @throws {BpfError} E2BIG if this map is full.
   * @throws {TypeError | RangeError} if the key type rejects the key, or if the value is not a map of the right type.
   */
  set(key: K, map: InnerMap<I>): this {
    this.store(key, map, BPF_ANY);
    return this;
  }

  /**
   * Stores many maps, in one system call from Linux 5.19 on: the kernel then waits once for programs that use the old maps,
   * and not once for each. All pairs are checked before the first one is stored. The maps are not stored in one atomic
   * step.
   *
   * @throws {BatchError} if the kernel rejects a map. `applied` is the number of maps that were stored before.
   * @throws {TypeError | RangeError} if the key type rejects a key, or if a value is not a map of the right type. Nothing
   *   is stored then.
   */
  setMany(pairs: Iterable<readonly [key: K, map: InnerMap<I>]>): this {
    const list = listOf(pairs, "pairs");
    // MapElements.setMany() rejects elements that are not pairs.
    for (const pair of list) if (Array.isArray(pair)) this.#checkType(pair[1] as InnerMap<I>);
    this.#elements.setMany(list as readonly (readonly [K, BpfMap])[]);
    return this;
  }

  /**
   * Removes the map under a key. Returns true if there was one.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
   */
  delete(key: K): boolean {
    return this.#elements.delete(key);
  }

  /**
   * Removes the maps under many keys, in one system call from Linux 5.19 on for hash tables. Returns the number of keys
   * that had a map.
   *
   * @throws {BatchError} if the kernel rejects a key. `applied` is the number of keys processed before, including absent
   *   ones.
   * @throws {TypeError | RangeError} if the key type rejects a key. Nothing is removed then.
   */
  deleteMany(keys: Iterable<K>): number {
    return this.#elements.deleteMany(keys);
  }

  /**
   * Opens the map under a key and removes it there, or returns `undefined` if there is none. The caller must dispose of the
   * returned object.
   *
   * The call takes two steps: a map that is stored under the key between them is removed.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   * @throws {TypeError | RangeError} if the key type rejects the key.
   *
   * Requires Linux 4.13 and CAP_SYS_ADMIN.
   */
  take(key: K): InnerMap<I> | undefined {
    const map = this.get(key);
    if (map !== undefined) this.delete(key);
    return map;
  }

  /**
   * Returns the key after `key` in the kernel's order, the first key if there is no argument, or `undefined` after the last
   * key. If `key` is no longer in a hash table, the kernel starts again from the first: see {@link KeyedMap.nextKey}.
   */
  nextKey(key?: K): K | undefined {
    return this.#elements.nextKey(key);
  }

  /** Iterates over the keys that have a map. The map may change during the loop: see {@link KeyedMap.entries}. */
  *keys(): Generator<K, undefined, undefined> {
    for (const [key] of this.ids()) yield key;
    return undefined;
  }

  /** Iterates over the keys and the ids of their maps. The map may change during the loop: see {@link KeyedMap.entries}. */
  ids(): Generator<[key: K, id: number], undefined, undefined> {
    const elements = this.#elements;
    return decodeWalk(
      () => elements.walk(),
      (walk, index) => elements.readEntry(walk, index),
    );
  }

  /**
   * Iterates over the keys and their maps in arrays of up to `max`, by default 64, because each map is an open descriptor.
   * The maps are disposed of when the loop continues or ends: call `dup()` on those to keep.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   * @throws {RangeError} if `max` is not a positive integer.
   */
  entriesInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, map: InnerMap<I>][], undefined, undefined> {
    return this.#inBatches("entriesInBatches", options, false);
  }

  /**
   * Iterates over the keys and their maps, and removes each one when it is returned. The map is disposed of when the loop
   * continues or ends: `dup()` it to keep it. A map that is stored under the key at that moment can be removed instead, as
   * by {@link take}.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   */
  *takeAll(): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    for (const batch of this.#inBatches("takeAll", { max: 1 }, true)) yield* batch;
    return undefined;
  }

  /**
   * Removes all maps in arrays of up to `max`, by default 64. From Linux 5.19 on, one system call removes a whole array from
   * a hash table. Otherwise the method works as {@link takeAll}.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN. The maps of the array stay then.
   * @throws {RangeError} if `max` is not a positive integer.
   */
  takeAllInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, map: InnerMap<I>][], undefined, undefined> {
    return this.#inBatches("takeAllInBatches", options, true);
  }

  *#inBatches(
    what: string,
    options: BatchesOptions,
    isTaken: boolean,
  ): Generator<[key: K, map: InnerMap<I>][], undefined, undefined> {
    checkBatches(what, options);
    const { max = defaultBatchMax } = options;
    for (const ids of inBatches(this.ids(), max)) {
      using opened = new DisposableStack();
      const batch: [K, InnerMap<I>][] = [];
      for (const [key] of ids) {
        // The map may have been removed since the iteration read the key.
        const map = this.get(key);
        if (map !== undefined) batch.push([key, opened.use(map)]);
      }
      if (isTaken) this.deleteMany(batch.map(([key]) => key));
      if (batch.length > 0) yield batch;
    }
    return undefined;
  }

  /**
   * Iterates over the keys and their maps. Each map is disposed of when the loop continues or ends: `dup()` it to keep it.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   */
  *entries(): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    for (const [key] of this.ids()) {
      // The map may have been removed since the iteration read the key.
      using map = this.get(key);
      if (map !== undefined) yield [key, map];
    }
    return undefined;
  }

  /**
   * Iterates over the keys and their maps: the same as {@link entries}.
   *
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   */
  [Symbol.iterator](): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    return this.entries();
  }

  /** Returns the number of stored maps. The kernel keeps no count, so this method iterates over all keys. */
  count(): number {
    using walk = this.#elements.walk();
    let count = 0;
    while (walk.next()) count += walk.count;
    return count;
  }

  /** Removes the maps that are stored when the call begins. Maps that are stored meanwhile may remain. */
  clear(): void {
    using walk = this.#elements.walk();
    while (walk.next()) walk.deleteChunk();
  }

  /** @internal Stores a map if its type is right. Returns false if the flags forbid it. */
  protected store(key: K, map: InnerMap<I>, flags: number): boolean {
    this.#checkType(map);
    return this.#elements.set(key, map, flags, undefined, `the ${map}`);
  }

  #checkType(map: InnerMap<I>): void {
    if (!(map instanceof BpfMap) || map.type === this.inner.type) return;
    throw new TypeError(`value of ${this}: expected a ${this.inner.type} map, got the ${map}`);
  }

  /** Closes the descriptor and frees the memory for calls. Further calls do nothing. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}

/** Types of the maps in an {@link ArrayOfMaps}. */
export interface ArrayOfMapsTypes<I extends InnerMapTypes> {
  /** Description of the inner maps. */
  readonly inner: I;
}

/** Options of {@link ArrayOfMaps}. */
export interface ArrayOfMapsOptions<I extends InnerMapTypes>
  extends CommonMapOptions, ArrayOfMapsTypes<I> {
  /** Description of the inner maps: the options of their class, and their map type as `type`. */
  readonly inner: I & InnerMapOptions;
  /** Number of slots: 1 to 2^32 - 1. All are empty at first. */
  readonly length: number;
}

/**
 * Array of maps, empty at first: programs look a map up by its index, and then a value in that map. Its usual use is a ring
 * buffer for each CPU.
 *
 * Keys are indexes from 0 to `length - 1`. All inner maps have the map type, sizes and flags of the option `inner`: the
 * kernel copies them from a template map at creation. Since Linux 5.10, `maxEntries` may differ from map to map in hash
 * tables, and `length` in arrays with the flag `"inner_map"`. A map of maps cannot be inside another one.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL if the kernel does not accept the map type or flags of `inner`.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { ArrayOfMaps, possibleCpus, RingBuf, t } from "bun-bpf";
 * const events = { event: t.u64Number, size: 4096 };
 * const cpus = possibleCpus();
 * using rings = new ArrayOfMaps({ length: Math.max(...cpus) + 1, inner: { type: "ringbuf", ...events } });
 * for (const cpu of cpus) {
 *   using ring = new RingBuf(events);
 *   rings.set(cpu, ring);
 * }
 * console.log(rings.count() === cpus.length); // true
 * ```
 *
 * Requires Linux 4.13.
 */
export class ArrayOfMaps<I extends InnerMapTypes> extends MapOfMaps<number, I, "array_of_maps"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ new MapKind<
    "ArrayOfMaps",
    ArrayOfMapsTypes<InnerMapTypes>,
    ArrayOfMapsOptions<InnerMapOptions>
  >({
    row: ARRAY_OF_MAPS,
    className: "ArrayOfMaps",
    types: ["inner"],
    options: ["length"],
    refuseRenamed: refuseMaxEntries,
    sizes({ inner }) {
      checkInner(inner);
      return { keySize: u32.size, valueSize: u32.size };
    },
    innerRow: ({ inner }) => innerClassOf(inner.type).kind.row,
    complete({ inner, length }) {
      checkLength(length);
      return { maxEntries: length, inner: innerMapSpec(inner) };
    },
  });
  /** Types of the inner maps. */
  declare readonly types: ArrayOfMapsTypes<I>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: ArrayOfMapsOptions<I>) {
    super(ArrayOfMaps.kind.handle<ArrayOfMapsTypes<I>>(options), u32);
  }

  /** Number of slots: the same as `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores a map at an index, and replaces the previous map if there is one. Since Linux 4.20 the call returns only when no
   * program uses the old map any more, which takes milliseconds.
   *
   * @throws {BpfError} EINVAL if the map differs from {@link inner}.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a map of the right type.
   */
  override set(index: number, map: InnerMap<I>): this {
    checkIndex(this, index);
    return super.set(index, map);
  }

  /**
   * Stores many maps, in one system call from Linux 5.19 on. All pairs are checked before the first one is stored.
   *
   * @throws {BatchError} if the kernel rejects a map. `applied` is the number of maps that were stored before.
   * @throws {TypeError | RangeError} if an index is outside the array, or if a value is not a map of the right type.
   *   Nothing is stored then.
   */
  override setMany(pairs: Iterable<readonly [index: number, map: InnerMap<I>]>): this {
    const list = listOf(pairs, "pairs");
    // MapElements.setMany() rejects elements that are not pairs.
    for (const pair of list) if (Array.isArray(pair)) checkIndex(this, pair[0]);
    return super.setMany(list);
  }

  /**
   * Empties many slots. Returns the number of slots that had a map.
   *
   * @throws {BatchError} if the kernel rejects an index. `applied` is the number of indexes processed before.
   * @throws {TypeError | RangeError} if an index is outside the array. Nothing is removed then.
   */
  override deleteMany(indexes: Iterable<number>): number {
    const list = listOf(indexes, "keys");
    for (const index of list) checkIndex(this, index);
    return super.deleteMany(list);
  }

  /**
   * Empties a slot. Returns true if it had a map.
   *
   * @throws {TypeError | RangeError} if the index is outside the array.
   */
  override delete(index: number): boolean {
    checkIndex(this, index);
    return super.delete(index);
  }
}

/** Types of the keys of a {@link HashOfMaps}, and of the maps in it. */
export interface HashOfMapsTypes<K extends AnyType, I extends InnerMapTypes> {
  /** Type of the keys. */
  readonly key: K;
  /** Description of the inner maps. */
  readonly inner: I;
}

/** Options of {@link HashOfMaps}. */
export interface HashOfMapsOptions<K extends AnyType, I extends InnerMapTypes>
  extends CommonMapOptions, HashOfMapsTypes<K, I> {
  /** Description of the inner maps: the options of their class, and their map type as `type`. */
  readonly inner: I & InnerMapOptions;
  /** Largest number of maps: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/**
 * Hash table of maps: programs look a map up by its key, and then a value in that map. User space can replace whole maps
 * while programs run: a new table of rules replaces the old one in one step.
 *
 * Keys have any type. All inner maps have the map type, sizes and flags of the option `inner`: the kernel copies them from
 * a template map at creation. Since Linux 5.10, `maxEntries` may differ from map to map in hash tables, and `length` in
 * arrays with the flag `"inner_map"`. A map of maps cannot be inside another one.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL if the kernel does not accept the map type or flags of `inner`.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
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
 * using opened = tenants.get(7); // another object for the same map, which the outer map keeps alive
 * console.log(opened?.get("192.0.2.1"), tenants.get(8)); // 1 undefined
 * ```
 *
 * Requires Linux 4.13.
 */
export class HashOfMaps<K extends AnyType, I extends InnerMapTypes> extends MapOfMaps<
  Infer<K>,
  I,
  "hash_of_maps"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ new MapKind<
    "HashOfMaps",
    HashOfMapsTypes<AnyType, InnerMapTypes>,
    HashOfMapsOptions<AnyType, InnerMapOptions>
  >({
    row: HASH_OF_MAPS,
    className: "HashOfMaps",
    types: ["key", "inner"],
    options: ["maxEntries"],
    sizes({ key, inner }) {
      checkPlainType("key", key);
      checkInner(inner);
      return { keySize: key.size, valueSize: u32.size };
    },
    innerRow: ({ inner }) => innerClassOf(inner.type).kind.row,
    complete({ inner, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, inner: innerMapSpec(inner) };
    },
  });
  /** Types of the keys and of the inner maps. */
  declare readonly types: HashOfMapsTypes<K, I>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: HashOfMapsOptions<K, I>) {
    const handle = HashOfMaps.kind.handle<HashOfMapsTypes<K, I>>(options);
    super(handle, handle.types.key);
  }

  /**
   * Stores a map only if there is none under the key. Returns true if it was stored. The kernel checks and stores in one
   * step.
   *
   * @throws {BpfError} EINVAL if the map differs from {@link inner}.
   * @throws {TypeError | RangeError} if the key type rejects the key, or if the value is not a map of the right type.
   */
  add(key: Infer<K>, map: InnerMap<I>): boolean {
    return this.store(key, map, BPF_NOEXIST);
  }

  /**
   * Stores a map only if there is one under the key. Returns true if it was stored. The kernel checks and stores in one
   * step.
   *
   * @throws {BpfError} EINVAL if the map differs from {@link inner}.
   * @throws {TypeError | RangeError} if the key type rejects the key, or if the value is not a map of the right type.
   */
  replace(key: Infer<K>, map: InnerMap<I>): boolean {
    return this.store(key, map, BPF_EXIST);
  }
}
