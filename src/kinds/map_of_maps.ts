import { BpfError } from "../ffi/error.ts";
import type { Hints } from "../ffi/map_hints.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import { ElementMap } from "../maps/element_map.ts";
import type { MapHandle } from "../maps/handle.ts";
import { MapWalk } from "../maps/map_walk.ts";
import type { ValueLayout } from "../maps/value_layout.ts";
import type { Walk } from "../maps/walk.ts";
import { u32 } from "../types/integer.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import { BPF_ANY } from "../uapi/bpf.ts";
import { type InnerMap, type InnerMapTypes, openInnerMap } from "./inner_map.ts";

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
    "The map is not like the one that this was created for: sizes and flags must be the same, for an array without the flag inner-map also maxEntries",
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
