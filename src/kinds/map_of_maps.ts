import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import { BpfError } from "../ffi/error.ts";
import {
  type BuildIdIn,
  type MapClass,
  simpleClasses,
  type SimpleMapName,
  type SimpleMapsByKind,
  type SimpleOptionsByKind,
  type TypeIn,
} from "./classes.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import type { MapHandle } from "../maps/create.ts";
import { checkIndex, ElementMap } from "../maps/element_map.ts";
import { checkPlainType, MapKind } from "../maps/map_options.ts";
import { checkMaxEntries, type CommonMapOptions, type MapSpec } from "../maps/map_spec.ts";
import { mapTypes } from "../maps/map_types.ts";
import type { ValueLayout } from "../maps/value_layout.ts";
import { IndexWalk, MapWalk, type Walk } from "../maps/walk.ts";
import { u32 } from "../types/integer.ts";
import type { Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

type NeverInner = "prog_array";

/** The name of a kind that can be inside another map: `"hash"`, `"array"`, ... */
export type InnerMapName = Exclude<SimpleMapName, NeverInner>;

/** What the maps inside another one are like: the options of their class, and its kind as `type`. */
export type InnerMapOptions = {
  [N in InnerMapName]: { readonly type: N; readonly pin?: never } & Omit<
    SimpleOptionsByKind[N],
    "pin"
  >;
}[InnerMapName];

type KeyedName = "hash" | "lru_hash" | "percpu_hash" | "lru_percpu_hash" | "lpm_trie";
type ValueName =
  | "array"
  | "percpu_array"
  | "queue"
  | "stack"
  | "bloom_filter"
  | "sk_storage"
  | "inode_storage"
  | "task_storage"
  | "cgrp_storage";
type EventName = "ringbuf" | "user_ringbuf";

/** What it takes to open a map that is inside another one: its kind, and the types of its keys, values or events. */
export type InnerMapTypes =
  | { readonly type: KeyedName; readonly key: Type<unknown>; readonly value: Type<unknown> }
  | { readonly type: ValueName; readonly value: Type<unknown> }
  | { readonly type: EventName; readonly event: Type<unknown> }
  | { readonly type: "sockhash"; readonly key: Type<unknown> }
  | { readonly type: "stack_trace"; readonly buildId?: boolean }
  | {
      readonly type: Exclude<
        InnerMapName,
        KeyedName | ValueName | EventName | "sockhash" | "stack_trace"
      >;
    };

/** The class of a map inside another one. */
export type InnerMap<I extends InnerMapTypes> = SimpleMapsByKind<
  TypeIn<I, "key">,
  TypeIn<I, "value">,
  TypeIn<I, "event">,
  BuildIdIn<I>
>[I["type"]];

function classOf(type: InnerMapName): MapClass {
  const names = Object.keys(simpleClasses).filter(
    (name) => mapTypes.get(name as SimpleMapName)?.isNeverInner !== true,
  );
  if (names.includes(type)) return simpleClasses[type];
  throw new TypeError(
    `inner: type: expected a kind that can be inside another map, got ${describe(type)}: ${suggest(String(type), names)}`,
  );
}

/** Checks the options of an inner map and makes plain data of them. @throws {TypeError | RangeError} */
export function innerMapSpec(inner: InnerMapOptions): MapSpec {
  const { type, ...options } = checkInner(inner);
  if ("pin" in options) {
    throw new TypeError(
      "inner: pin: this says what maps inside are like, and makes none to be pinned",
    );
  }
  // Which options belong to which kind is the type's, InnerMapOptions, and is checked again at run time.
  return classOf(type).kind.spec(options as never);
}

/** Checks that the kind of an inner map was said. @throws {TypeError} */
export function checkInner<I extends InnerMapTypes>(inner: I): I {
  if (typeof inner !== "object" || inner === null) {
    throw new TypeError(
      `inner: expected an object such as { type: "hash", key, value, maxEntries }, got ${describe(inner)}`,
    );
  }
  classOf(inner.type);
  return inner;
}

/** What is left of options when only the types count. */
function typesOf(inner: InnerMapTypes): object {
  const names = ["key", "value", "event", "buildId"];
  return Object.fromEntries(Object.entries(inner).filter(([name]) => names.includes(name)));
}

/** Opens a map by its id, as what `inner` says. */
export function openInnerMap<I extends InnerMapTypes>(inner: I, id: number): InnerMap<I> {
  // The table and SimpleMapsByKind name the same classes, which TypeScript cannot tell.
  return classOf(inner.type).fromId(id, typesOf(inner) as never) as InnerMap<I>;
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
    "The map is not like the one that this was created for: sizes and flags must be the same, for an array without the flag inner_map also maxEntries",
};

/** How often an inner map may be exchanged between the reading of its id and the opening, before that is an error. */
const largestTries = 100;

/**
 * Maps whose values are maps, all of one kind. `I` says of which: its `type`, and the types of its keys and values.
 *
 * A map that is stored stays alive in it, whoever disposes of the object.
 */
export abstract class MapOfMaps<K, I extends InnerMapTypes> extends ElementMap<K, number, BpfMap> {
  /** What the maps in it are. */
  readonly inner: I;

  /** @internal */
  protected constructor(handle: MapHandle, key: Type<K>, inner: I) {
    super(handle, { key, value: innerMapLayout, hints });
    this.inner = inner;
  }

  /**
   * Opens the map under a key: the caller disposes of it. `undefined` where there is none.
   *
   * Kernel 4.13; opening takes CAP_SYS_ADMIN, as it goes by the id.
   *
   * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
   */
  get(key: K): InnerMap<I> | undefined {
    for (let tries = 1; ; tries++) {
      const id = this.getId(key);
      if (id === undefined) return undefined;
      try {
        return openInnerMap(this.inner, id);
      } catch (error) {
        // Another map has taken its place meanwhile, and it is gone.
        const isGone = error instanceof BpfError && error.code === "ENOENT";
        if (!isGone || tries === largestTries) throw error;
      }
    }
  }

  /** The id of the map under a key, or `undefined`. */
  getId(key: K): number | undefined {
    return this.find(key);
  }

  /** Whether there is a map under the key. */
  has(key: K): boolean {
    return this.contains(key);
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

  /** Removes the map under a key; whether there was one. */
  delete(key: K): boolean {
    return this.remove(key);
  }

  /** The keys that have a map: see {@link KeyedMap.entries} for what holds when it changes meanwhile. */
  *keys(): Generator<K, undefined, undefined> {
    for (const [key] of this.ids()) yield key;
    return undefined;
  }

  /** The keys and the ids of their maps. */
  *ids(): Generator<[key: K, id: number], undefined, undefined> {
    const { key, value } = this.layout;
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) {
        const entry = key.read(walk.view, walk.keyOffset(i));
        yield [entry, value.read(walk.view, walk.valueOffset(i))];
      }
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
      // It may be gone since the walk read the key.
      using map = this.get(key);
      if (map !== undefined) yield [key, map];
    }
    return undefined;
  }

  /** The same as {@link entries}. */
  [Symbol.iterator](): Generator<[key: K, map: InnerMap<I>], undefined, undefined> {
    return this.entries();
  }

  /** How many maps there are: counted by a walk. */
  count(): number {
    using walk = this.walk();
    let count = 0;
    while (walk.next()) count += walk.count;
    return count;
  }

  /** Removes all maps that are there when it begins. */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }

  /** @internal Stores a map, once it is known to fit; false where the flags forbid it. */
  protected store(key: K, map: InnerMap<I>, flags: number): boolean {
    if (map instanceof BpfMap && map.type !== this.inner.type) {
      throw new TypeError(`value of ${this}: expected a ${this.inner.type} map, got the ${map}`);
    }
    return this.update(key, map, flags, undefined, `the ${map}`);
  }

  /** @internal A walk over all entries. */
  protected walk(): Walk {
    return new MapWalk(this.walked);
  }
}

/** The types of the maps in an {@link ArrayOfMaps}. */
export interface ArrayOfMapsTypes<I extends InnerMapTypes> {
  readonly inner: I;
}

/** Options of {@link ArrayOfMaps}. */
export interface ArrayOfMapsOptions<I extends InnerMapTypes>
  extends CommonMapOptions, ArrayOfMapsTypes<I> {
  /** What the maps in it are like: the options of their class, and its kind as `type`. */
  readonly inner: I & InnerMapOptions;
  /** The length: 1 to 2^32 - 1. */
  readonly maxEntries: number;
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
 * using rings = new ArrayOfMaps({ maxEntries: Math.max(...cpus) + 1, inner: { type: "ringbuf", ...events } });
 * for (const cpu of cpus) {
 *   using ring = new RingBuf(events);
 *   rings.set(cpu, ring);
 * }
 * console.log(rings.count() === cpus.length); // true
 * ```
 */
export class ArrayOfMaps<I extends InnerMapTypes> extends MapOfMaps<number, I> {
  /** @internal */
  static readonly kind = new MapKind<
    ArrayOfMapsTypes<InnerMapTypes>,
    ArrayOfMapsOptions<InnerMapOptions>
  >({
    type: "array_of_maps",
    className: "ArrayOfMaps",
    options: ["inner", "maxEntries"],
    sizes({ inner }) {
      checkInner(inner);
      return { keySize: u32.size, valueSize: u32.size };
    },
    complete({ inner, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, inner: innerMapSpec(inner) };
    },
  });
  /** The types of the maps. */
  readonly types: ArrayOfMapsTypes<I>;

  constructor(options: ArrayOfMapsOptions<I>);
  /** @internal */
  constructor(types: ArrayOfMapsTypes<I>, existing: MapHandle);
  constructor(options: ArrayOfMapsTypes<I>, existing = ArrayOfMaps.kind.create(options)) {
    const { inner } = options;
    super(existing, u32, inner);
    this.types = { inner };
  }

  /** Opens the array pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<I extends InnerMapTypes>(path: string, types: ArrayOfMapsTypes<I>): ArrayOfMaps<I> {
    return new ArrayOfMaps(types, ArrayOfMaps.kind.open(path, types));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<I extends InnerMapTypes>(id: number, types: ArrayOfMapsTypes<I>): ArrayOfMaps<I> {
    return new ArrayOfMaps(types, ArrayOfMaps.kind.byId(id, types));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<I extends InnerMapTypes>(fd: number, types: ArrayOfMapsTypes<I>): ArrayOfMaps<I> {
    return new ArrayOfMaps(types, ArrayOfMaps.kind.byFd(fd, types));
  }

  /** How many places there are: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /** Stores a map at an index. @throws {RangeError} for an index outside the array; else as {@link MapOfMaps.set} */
  override set(index: number, map: InnerMap<I>): this {
    checkIndex(this, index);
    return super.set(index, map);
  }

  /** Empties a place; whether a map was there. @throws {RangeError} for an index outside the array */
  override delete(index: number): boolean {
    checkIndex(this, index);
    return super.delete(index);
  }

  override dup(): ArrayOfMaps<I> {
    return new ArrayOfMaps(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override walk(): Walk {
    return new IndexWalk(this.walked);
  }
}

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
 * map at creation. In hash tables `maxEntries` may differ from map to map, in arrays with the flag `"inner_map"` only
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
    type: "hash_of_maps",
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
