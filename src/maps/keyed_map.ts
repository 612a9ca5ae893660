import { checkCount, checkOptions } from "../types/argument.ts";
import type { Type } from "../types/type.ts";
import { BatchedMap } from "./batched_map.ts";
import type { ElementOptions } from "./element_map.ts";
import { MapWalk } from "./map_walk.ts";
import type { Walk } from "./walk.ts";

/** The types of a map's keys and values. */
export interface KeyedMapTypes<K, V> {
  readonly key: Type<K>;
  readonly value: Type<V>;
}

/** How {@link KeyedMap.batches} and {@link AssociativeMap.drainBatches} divide. */
export interface BatchesOptions {
  /** Entries in an array at the most; there may be fewer. (More where one bucket of a hash table holds more.) @default 1024 */
  readonly max?: number;
}

/** Checks how a walk is to be divided; how many entries an array has at the most. @throws {TypeError | RangeError} */
export function checkBatches(what: string, options: BatchesOptions): number {
  checkOptions(what, options, ["max"]);
  const { max = 1024 } = options;
  checkCount("max", max, 1);
  return max;
}

/**
 * Maps that are read by key and walked over.
 *
 * `V` is what is read, `W` what is written: the same for most kinds.
 */
export abstract class KeyedMap<K, V, W = V> extends BatchedMap<K, V, W> {
  /**
   * The value of a key, or `undefined`.
   *
   * @throws {TypeError | RangeError} for a key that its type refuses
   */
  get(key: K, options?: ElementOptions): V | undefined {
    return this.find(key, options);
  }

  /** Whether there is a value for the key. */
  has(key: K): boolean {
    return this.contains(key);
  }

  /**
   * The values of these keys in their order, `undefined` where there is none.
   *
   * The kernel has no call for chosen keys: this is a look-up for each. For hash maps, arrays and LPM tries there is a
   * quicker way from kernel 5.17 on, with CAP_BPF: once some thousands of keys were asked for, a program in the kernel does
   * the look-ups, several times as fast, more than ten times for numbers. It is loaded for this object (`lookup_many` in `bpftool prog`), and unloaded
   * with it.
   */
  getMany(keys: Iterable<K>): (V | undefined)[] {
    return this.findMany(keys);
  }

  /**
   * The entries, in the kernel's order, fetched in batches as they are asked for (kernel 5.6; key by key before, and for
   * kinds without batches).
   *
   * The map may change during the walk. Deleting the entry at hand is safe. An entry that is there during the whole walk
   * is seen; one that is added or deleted meanwhile may be seen or not; the values are those of the moment of the fetch.
   * The walk always ends: without batches after twice `maxEntries` entries, if so many are added ahead of it. It takes at most
   * about 256 KiB however large the map is, and frees that when it ends, breaks or throws. Any number of walks may go on at
   * once.
   */
  *entries(): Generator<[key: K, value: V], undefined, undefined> {
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

  /** The keys: as {@link entries}. */
  *keys(): Generator<K, undefined, undefined> {
    const { key } = this.layout;
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) yield key.read(walk.view, walk.keyOffset(i));
    }
    return undefined;
  }

  /** The values: as {@link entries}. */
  *values(): Generator<V, undefined, undefined> {
    const { value } = this.layout;
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) yield value.read(walk.view, walk.valueOffset(i));
    }
    return undefined;
  }

  /**
   * The entries in arrays, as the kernel hands them out: as {@link entries}, for whoever sends or stores many at once.
   *
   * @throws {RangeError} for a `max` that is no integer from 1 on
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1000 });
   * map.setMany(Array.from({ length: 1000 }, (_, key) => [key, key * key]));
   * for (const batch of map.batches({ max: 300 })) console.log(batch.length, batch[0]);
   * ```
   */
  *batches(options: BatchesOptions = {}): Generator<[key: K, value: V][], undefined, undefined> {
    const max = checkBatches("batches", options);
    using walk = this.walk();
    while (walk.next()) {
      for (let start = 0; walk.has(start); start += max) {
        yield this.readEntries(walk, start, Math.min(max, walk.count - start));
      }
    }
    return undefined;
  }

  /** The same as {@link entries}. */
  [Symbol.iterator](): Generator<[key: K, value: V], undefined, undefined> {
    return this.entries();
  }

  /** Calls `fn` for each entry: as {@link entries}. */
  forEach(fn: (value: V, key: K, map: this) => void): void {
    for (const [key, value] of this.entries()) fn(value, key, this);
  }

  /** How many entries there are: counted by a walk, as the kernel keeps no number. */
  count(): number {
    using walk = this.walk();
    let count = 0;
    while (walk.next()) count += walk.count;
    return count;
  }

  /** A copy as a `Map`. Keys that decode to objects are compared by identity there. */
  toMap(): Map<K, V> {
    return new Map(this.entries());
  }

  /** @internal Decodes `length` entries, from the one at `start` on. */
  protected readEntries(
    chunk: Pick<Walk, "view" | "keyOffset" | "valueOffset">,
    start: number,
    length: number,
  ): [key: K, value: V][] {
    const { key, value } = this.layout;
    return Array.from({ length }, (_, index) => [
      key.read(chunk.view, chunk.keyOffset(start + index)),
      value.read(chunk.view, chunk.valueOffset(start + index)),
    ]);
  }

  /** @internal A walk over all entries. */
  protected walk(): Walk {
    return new MapWalk(this.walked);
  }
}
