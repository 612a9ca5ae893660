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

/** The name of a kind that can be inside another map: `"hash"`, `"array"`, ... */
export type InnerMapName = Exclude<SimpleMapName, NeverInnerName>;

/** The description of the maps inside another one: the options of their class, and its kind as `type`. */
export type InnerMapOptions = {
  [N in InnerMapName]: { readonly type: N; readonly pin?: never } & Omit<
    OptionsOf<(typeof simpleClasses)[N]>,
    "pin"
  >;
}[InnerMapName];

/** The part of {@link InnerMapOptions} that opens a map inside another one: its kind, and the types of its keys, values or events. */
export type InnerMapTypes = {
  [N in InnerMapName]: { readonly type: N } & TypesOf<(typeof simpleClasses)[N]>;
}[InnerMapName];

/** The class of a map inside another one. */
export type InnerMap<I extends InnerMapTypes> = SimpleMap<I["type"], I>;

function innerClass(type: InnerMapName): MapClass {
  const names = Object.keys(simpleClasses).filter(
    (name) => mapTypes.get(name as SimpleMapName)?.isNeverInner !== true,
  );
  if (names.includes(type)) return simpleClasses[type];
  throw new TypeError(
    `inner: type: expected a kind that can be inside another map, got ${describe(type)}: ${suggest(String(type), names)}`,
  );
}

/** Checks the options of an inner map and makes plain data of them. @throws {TypeError | RangeError} */
function innerMapSpec(inner: InnerMapOptions): MapSpec {
  const { type, ...options } = checkInner(inner);
  if ("pin" in options) {
    throw new TypeError(
      "inner: pin: `inner` describes the maps inside and creates none, so there is nothing to pin",
    );
  }
  // Which options belong to which kind is the type's, InnerMapOptions, and is checked again at run time.
  return innerClass(type).kind.spec(options as never);
}

/** Checks that the kind of an inner map was said, and no option that it does not have. @throws {TypeError} */
function checkInner<I extends InnerMapTypes>(inner: I): I {
  if (typeof inner !== "object" || inner === null || inner instanceof BpfMap) {
    const got =
      inner instanceof BpfMap ? `the ${inner}: give the options that describe it` : describe(inner);
    throw new TypeError(
      `inner: expected an object such as { type: "hash", key, value, maxEntries }, got ${got}`,
    );
  }
  const { type, ...options } = inner as I & { readonly type: InnerMapName };
  innerClass(type).kind.checkNames(options);
  return inner;
}

/** Opens a map by its id, as what `inner` says. */
function openInnerMap<I extends InnerMapTypes>(inner: I, id: number): InnerMap<I> {
  const Class = innerClass(inner.type);
  // The table of classes and InnerMap name the same classes, which TypeScript cannot tell.
  return new Class(Class.kind.open({ id }, Class.kind.pickTypes(inner)) as never) as InnerMap<I>;
}

/** The kernel takes a descriptor, and gives an id. */
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
    "The map is not like the one that this was created for: sizes and flags must be the same, for an array without the flag inner_map also the length",
};

/** The usual number of maps in an array of them: all are open at once, and processes may have no more than 1024 descriptors. */
const defaultBatchMax = 64;

/** Attempts to open an inner map that is exchanged between the reading of its id and the opening. */
const maxAttempts = 100;

/**
 * Maps whose values are maps, all of one kind. `I` says of which: its `type`, and the types of its keys and values.
 *
 * A map that is stored stays alive in it, whoever disposes of the object.
 */
export abstract class MapOfMaps<
  K,
  I extends InnerMapTypes,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  /** The description of the maps in it. */
  readonly inner: I;
  /** @internal Shown by the classes. */
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
   * Opens the map under a key: the caller disposes of it. `undefined` where there is none.
   *
   * Kernel 4.13; opening takes CAP_SYS_ADMIN, as it goes by the id.
   *
   * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
   */
  get(key: K): InnerMap<I> | undefined {
    for (let attempt = 1; ; attempt++) {
      const id = this.getId(key);
      if (id === undefined) return undefined;
      try {
        return openInnerMap(this.inner, id);
      } catch (error) {
        // Another map has taken its place meanwhile, and it is gone.
        const isGone = error instanceof BpfError && error.code === "ENOENT";
        if (!isGone || attempt === maxAttempts) throw error;
      }
    }
  }

  /** The id of the map under a key, or `undefined`. */
  getId(key: K): number | undefined {
    return this.#elements.get(key);
  }

  /** Returns true where there is a map under the key. */
  has(key: K): boolean {
    return this.#elements.has(key);
  }

  /**
   * Stores a map, whether there was one or not. Since kernel 4.20 the call returns when no program uses the old one any
   * more, which takes milliseconds.
   *
   * @throws {BpfError} `EINVAL` when the map is not like the one this was created for; `E2BIG` when this is full
   */
  set(key: K, map: InnerMap<I>): this {
    this.store(key, map, BPF_ANY);
    return this;
  }

  /**
   * Stores many maps, in one call where the kernel can (5.19): the kernel then waits once for programs that use the old maps, not
   * once for each. All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   */
  setMany(pairs: Iterable<readonly [key: K, map: InnerMap<I>]>): this {
    const list = listOf(pairs, "pairs");
    // Elements that are not pairs are rejected below.
    for (const pair of list) if (Array.isArray(pair)) this.#checkType(pair[1] as InnerMap<I>);
    this.#elements.setMany(list as readonly (readonly [K, BpfMap])[]);
    return this;
  }

  /** Removes the map under a key; whether there was one. */
  delete(key: K): boolean {
    return this.#elements.delete(key);
  }

  /**
   * Removes the maps under many keys, in one call where the kernel can (hash tables: 5.19). Returns how many were there.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many keys were done before, absent ones included
   */
  deleteMany(keys: Iterable<K>): number {
    return this.#elements.deleteMany(keys);
  }

  /**
   * Opens the map under a key and removes it there: the caller disposes of it. `undefined` where there is none.
   *
   * The kernel has no call for both: if another map is stored under the key in between, that one is removed.
   *
   * @throws as {@link get}
   */
  take(key: K): InnerMap<I> | undefined {
    const map = this.get(key);
    if (map !== undefined) this.delete(key);
    return map;
  }

  /** Finds the key after another one: see {@link KeyedMap.nextKey}. */
  nextKey(key?: K): K | undefined {
    return this.#elements.nextKey(key);
  }

  /** The keys that have a map: see {@link KeyedMap.entries} for what holds when it changes meanwhile. */
  *keys(): Generator<K, undefined, undefined> {
    for (const [key] of this.ids()) yield key;
    return undefined;
  }

  /** The keys and the ids of their maps. */
  ids(): Generator<[key: K, id: number], undefined, undefined> {
    const elements = this.#elements;
    return decodeWalk(
      () => elements.walk(),
      (walk, index) => elements.readEntry(walk, index),
    );
  }

  /**
   * Returns the keys and their maps in arrays, by default of 64, because each map is a descriptor. The maps are disposed of when the
   * loop goes on or ends: `dup()` those to keep.
   *
   * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
   * @throws {RangeError} for a `max` that is not a positive integer
   */
  entriesInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, map: InnerMap<I>][], undefined, undefined> {
    return this.#inBatches("entriesInBatches", options, false);
  }

  /**
   * Removes all maps one after the other, and yields each. It is disposed of when the loop goes on or ends: `dup()` it to keep it.
   * Maps that others store meanwhile can be removed as by {@link take}.
   *
   * @throws as {@link take}
   */
  *takeAll(): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    for (const batch of this.#inBatches("takeAll", { max: 1 }, true)) yield* batch;
    return undefined;
  }

  /**
   * Removes all maps in arrays, by default of 64, as {@link takeAll}, with one call for each array where the kernel can (hash tables:
   * 5.19).
   *
   * @throws as {@link entriesInBatches}: the maps of the array stay then
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
        // It may have been removed since the walk read the key.
        const map = this.get(key);
        if (map !== undefined) batch.push([key, opened.use(map)]);
      }
      if (isTaken) this.deleteMany(batch.map(([key]) => key));
      if (batch.length > 0) yield batch;
    }
    return undefined;
  }

  /**
   * The keys and their maps. Each map is open until the loop goes on or ends, and is disposed of then: `dup()` it to keep it.
   *
   * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
   */
  *entries(): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    for (const [key] of this.ids()) {
      // It may have been removed since the walk read the key.
      using map = this.get(key);
      if (map !== undefined) yield [key, map];
    }
    return undefined;
  }

  /** The same as {@link entries}. */
  [Symbol.iterator](): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    return this.entries();
  }

  /** Counts the maps by a walk. */
  count(): number {
    using walk = this.#elements.walk();
    let count = 0;
    while (walk.next()) count += walk.count;
    return count;
  }

  /** Removes all maps that are there when it begins. */
  clear(): void {
    using walk = this.#elements.walk();
    while (walk.next()) walk.deleteChunk();
  }

  /** @internal Stores a map, once it is known to fit; false where the flags forbid it. */
  protected store(key: K, map: InnerMap<I>, flags: number): boolean {
    this.#checkType(map);
    return this.#elements.set(key, map, flags, undefined, `the ${map}`);
  }

  #checkType(map: InnerMap<I>): void {
    if (!(map instanceof BpfMap) || map.type === this.inner.type) return;
    throw new TypeError(`value of ${this}: expected a ${this.inner.type} map, got the ${map}`);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}

/** The types of the maps in an {@link ArrayOfMaps}. */
export interface ArrayOfMapsTypes<I extends InnerMapTypes> {
  readonly inner: I;
}

/** Options of {@link ArrayOfMaps}. */
export interface ArrayOfMapsOptions<I extends InnerMapTypes>
  extends CommonMapOptions, ArrayOfMapsTypes<I> {
  /** The description of the maps in it: the options of their class, and its kind as `type`. */
  readonly inner: I & InnerMapOptions;
  /** The number of places: 1 to 2^32 - 1. */
  readonly length: number;
}

/**
 * An array of maps, empty at first: programs look a map up by its index, and then a value in that map. A ring buffer for
 * each CPU is its usual use.
 *
 * Kernel 4.12. All maps in it are alike, as in {@link HashOfMaps}.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` for an inner kind or flag that the kernel does not take
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
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
 */
export class ArrayOfMaps<I extends InnerMapTypes> extends MapOfMaps<number, I, "array_of_maps"> {
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
    innerRow: ({ inner }) => innerClass(inner.type).kind.row,
    complete({ inner, length }) {
      checkLength(length);
      return { maxEntries: length, inner: innerMapSpec(inner) };
    },
  });
  /** The types of the maps. */
  declare readonly types: ArrayOfMapsTypes<I>;

  constructor(options: ArrayOfMapsOptions<I>) {
    super(ArrayOfMaps.kind.handle<ArrayOfMapsTypes<I>>(options), u32);
  }

  /** The number of places: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /** Stores a map at an index. @throws {RangeError} for an index outside the array; else as {@link MapOfMaps.set} */
  override set(index: number, map: InnerMap<I>): this {
    checkIndex(this, index);
    return super.set(index, map);
  }

  /** Stores many maps. @throws {RangeError} for an index outside the array; else as {@link MapOfMaps.setMany} */
  override setMany(pairs: Iterable<readonly [index: number, map: InnerMap<I>]>): this {
    const list = listOf(pairs, "pairs");
    // Elements that are not pairs are refused with the maps.
    for (const pair of list) if (Array.isArray(pair)) checkIndex(this, pair[0]);
    return super.setMany(list);
  }

  /** Empties many places. Returns how many had a map. @throws {RangeError} for an index outside the array */
  override deleteMany(indexes: Iterable<number>): number {
    const list = listOf(indexes, "keys");
    for (const index of list) checkIndex(this, index);
    return super.deleteMany(list);
  }

  /** Empties a place; whether a map was there. @throws {RangeError} for an index outside the array */
  override delete(index: number): boolean {
    checkIndex(this, index);
    return super.delete(index);
  }
}

/** The types of a {@link HashOfMaps}: of its keys, and of the maps in it. */
export interface HashOfMapsTypes<K extends AnyType, I extends InnerMapTypes> {
  readonly key: K;
  readonly inner: I;
}

/** Options of {@link HashOfMaps}. */
export interface HashOfMapsOptions<K extends AnyType, I extends InnerMapTypes>
  extends CommonMapOptions, HashOfMapsTypes<K, I> {
  /** The description of the maps in it: the options of their class, and its kind as `type`. */
  readonly inner: I & InnerMapOptions;
  /** The largest number of maps: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/**
 * A hash table of maps: programs look a map up by any key, and then a value in that map. User space exchanges whole maps
 * under running programs: a new table of rules takes the place of the old one in one step.
 *
 * Kernel 4.12. All maps in it have the type, sizes and flags that `inner` says: the kernel takes them from a template map
 * at creation. In hash tables `maxEntries` may differ from map to map, in arrays `length` with the flag `"inner_map"` only
 * (5.10). A map of maps cannot be inside another one.
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
 * using opened = tenants.get(7); // a HashMap by address: the map lives on in the other one
 * console.log(opened?.get("192.0.2.1"), tenants.get(8)); // 1 undefined
 * ```
 */
export class HashOfMaps<K extends AnyType, I extends InnerMapTypes> extends MapOfMaps<
  Infer<K>,
  I,
  "hash_of_maps"
> {
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
    innerRow: ({ inner }) => innerClass(inner.type).kind.row,
    complete({ inner, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, inner: innerMapSpec(inner) };
    },
  });
  /** The types of keys, and of the maps. */
  declare readonly types: HashOfMapsTypes<K, I>;

  constructor(options: HashOfMapsOptions<K, I>) {
    const handle = HashOfMaps.kind.handle<HashOfMapsTypes<K, I>>(options);
    super(handle, handle.types.key);
  }

  /** Stores a map only if there is none under the key; whether it did. @throws as {@link set} */
  add(key: Infer<K>, map: InnerMap<I>): boolean {
    return this.store(key, map, BPF_NOEXIST);
  }

  /** Stores a map only if there is one under the key; whether it did. @throws as {@link set} */
  replace(key: Infer<K>, map: InnerMap<I>): boolean {
    return this.store(key, map, BPF_EXIST);
  }
}
