import { checkCount, checkOptions, listOf } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { MapBatch } from "../ffi/bpf_map_batch.ts";
import { BpfError } from "../ffi/error.ts";
import type { MapHandle } from "./create.ts";
import { ElementMap, type ElementOptions } from "./element_map.ts";
import { LookupProgram, ManyLookups } from "./get_many.ts";
import { PerCpuLayout, reduceValues, sumValues } from "./value_layout.ts";
import { BatchError, deleteBatch, MapWalk, type Walk } from "./walk.ts";
import type { Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

/** Maps with calls on many elements at once: in one call of bpf(2) where the kernel can, or else one by one. */
export abstract class BatchedMap<K, V, W = V> extends ElementMap<K, V, W> {
  #manyLookups: ManyLookups | undefined;

  /** @internal The values of these keys, in their order. */
  protected findMany(keys: Iterable<K>): (V | undefined)[] {
    // None may be asked for: a disposed map refuses all the same.
    void this.fd;
    const list = listOf(keys, "keys");
    const found = this.#findByProgram(list);
    if (found !== undefined) return found;
    const flags = this.defaultFlags;
    const values = new Array<V | undefined>(list.length);
    const element = this.begin();
    try {
      for (let index = 0; index < list.length; index++) {
        this.writeKey(element, list[index] as K, index);
        values[index] = element.lookup(flags) ? this.readValue(element) : undefined;
      }
      return values;
    } finally {
      this.end(element);
    }
  }

  /** @internal Stores many values: all pairs are checked before the first is stored. */
  protected updateMany(pairs: Iterable<readonly [key: K, value: W]>): void {
    void this.fd;
    // A copy: the caller's own array may change while its values are encoded, and the memory is for so many.
    const list = listOf(pairs, "pairs");
    if (list.length === 0) return;
    const { key, value } = this.layout;
    using batch = this.newBatch(list.length);
    for (let index = 0; index < list.length; index++) {
      const pair: unknown = list[index];
      if (!isPair(pair)) {
        throw new TypeError(
          `pair ${index} for ${this}: expected [key, value], got ${describe(pair)}`,
        );
      }
      this.write("key", key, batch.view, batch.keyOffset(index), pair[0] as K, index);
      this.write("value", value, batch.view, batch.valueOffset(index), pair[1] as W, index);
    }
    let applied = 0;
    try {
      const isDone = batch.update(0, list.length, this.defaultFlags) !== "unsupported";
      if (!isDone) {
        for (; applied < list.length; applied++) this.#updateFrom(batch, applied, BPF_ANY);
      }
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      throw new BatchError(
        error,
        Math.max(applied, batch.count),
        list.length,
        `store values in ${this}`,
      );
    }
  }

  /** @internal Deletes many keys; how many were there. */
  protected removeMany(keys: Iterable<K>): number {
    void this.fd;
    const list = listOf(keys, "keys");
    if (list.length === 0) return 0;
    const { key: type } = this.layout;
    using batch = this.newBatch(list.length);
    for (const [index, key] of list.entries()) {
      this.write("key", type, batch.view, batch.keyOffset(index), key, index);
    }
    return deleteBatch(batch, list.length, this.walked);
  }

  /** @internal Room for so many keys and values. */
  protected newBatch(capacity: number): MapBatch {
    const { descriptor, keySize, valueSize, what, kind } = this.walked;
    return new MapBatch(descriptor, keySize, valueSize, capacity, what, kind);
  }

  /** @internal Stores what was fetched and deleted again, where no newer value has come. */
  protected putBack(batch: MapBatch): void {
    for (let index = 0; index < batch.count; index++) this.#updateFrom(batch, index, BPF_NOEXIST);
  }

  #updateFrom(batch: MapBatch, index: number, flags: number): void {
    const element = this.begin();
    try {
      element.setKey(batch.keyBytes(index));
      element.setValue(batch.valueBytes(index));
      element.update(this.defaultFlags | flags);
    } finally {
      this.end(element);
    }
  }

  /** Look-ups in one call, where that is possible and worth it. */
  #findByProgram(keys: readonly K[]): (V | undefined)[] | undefined {
    const { key: type, value, isReadByPrograms } = this.layout;
    if (isReadByPrograms !== true || !LookupProgram.fits(value.size)) return undefined;
    this.#manyLookups ??= new ManyLookups();
    if (!this.#manyLookups.isWorthwhile(keys.length)) return undefined;
    // A program may read what this descriptor may not: it is asked first, for its error.
    this.contains(keys[0] as K);
    const { fd, type: kind, keySize } = this;
    return this.#manyLookups.find(
      { fd, type: kind, keySize, valueSize: value.size, what: `${this}` },
      keys,
      (view, offset, key, index) => {
        this.write("key", type, view, offset, key, index);
        void this.fd;
      },
      value,
    );
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#manyLookups?.[Symbol.dispose]();
  }
}

function isPair(value: unknown): value is readonly [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}

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

/** Maps whose entries come and go: any key, added by storing a value and gone by deletion. */
export abstract class AssociativeMap<K, V, W = V> extends KeyedMap<K, V, W> {
  /**
   * Stores a value, whether there was one or not.
   *
   * @throws {BpfError} `E2BIG` (an LPM trie: `ENOSPC`) when the map is full
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  set(key: K, value: W, options?: ElementOptions): this {
    this.update(key, value, BPF_ANY, options);
    return this;
  }

  /** Stores a value only if the key is absent; whether it did. @throws as {@link set} */
  add(key: K, value: W, options?: ElementOptions): boolean {
    return this.update(key, value, BPF_NOEXIST, options);
  }

  /** Stores a value only if the key is present; whether it did. */
  replace(key: K, value: W, options?: ElementOptions): boolean {
    return this.update(key, value, BPF_EXIST, options);
  }

  /**
   * Stores many values, in one call where the kernel can (5.6), in the order given.
   * All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  setMany(pairs: Iterable<readonly [key: K, value: W]>): this {
    this.updateMany(pairs);
    return this;
  }

  /** Deletes a key; whether it was there. */
  delete(key: K): boolean {
    return this.remove(key);
  }

  /**
   * Deletes many keys, in one call where the kernel can (5.6); how many were there.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many keys were done before, absent ones included
   * @throws {TypeError | RangeError} for a key that its type refuses: the map is as before
   */
  deleteMany(keys: Iterable<K>): number {
    return this.removeMany(keys);
  }

  /**
   * Fetches a value and deletes its key: for hash maps in one step since kernel 5.14. Before, and for other kinds, a
   * change of the value between the look-up and the deletion is lost.
   */
  take(key: K): V | undefined {
    return this.takeOut(key);
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

  /**
   * Takes all entries out in arrays: as {@link drain}, but in one call for each array where the kernel can (hash maps: 5.6),
   * which is several times as fast. An array is handed out whole, so that none is lost when the loop ends early; where a type
   * throws, the entries of that array are stored again.
   *
   * @throws {RangeError} for a `max` that is no integer from 1 on
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 1000 });
   * counts.setMany(Array.from({ length: 1000 }, (_, key) => [key, 1]));
   * let total = 0;
   * for (const batch of counts.drainBatches()) for (const [, count] of batch) total += count;
   * console.log(total, counts.count()); // 1000 0
   * ```
   */
  *drainBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, value: V][], undefined, undefined> {
    const max = checkBatches("drainBatches", options);
    using batch = this.newBatch(Math.min(max, this.maxEntries));
    for (let result = "more"; result === "more";) {
      result = batch.lookupAndDelete(this.defaultFlags);
      if (result === "unsupported") break;
      let entries: [K, V][];
      try {
        entries = this.readEntries(batch, 0, batch.count);
      } catch (error) {
        this.putBack(batch);
        throw error;
      }
      if (entries.length > 0) yield entries;
      if (result === "end") return undefined;
    }
    let entries: [K, V][] = [];
    for (const entry of this.drain()) {
      if (entries.push(entry) < max) continue;
      yield entries;
      entries = [];
    }
    if (entries.length > 0) yield entries;
    return undefined;
  }

  /** By the bytes of the key, as it may not be what its type would make of the decoded one: padding, text behind a NUL. */
  #takeFrom(walk: Walk, index: number): [key: K, value: V] | undefined {
    const key = this.layout.key.read(walk.view, walk.keyOffset(index));
    const element = this.begin();
    try {
      element.setKey(walk.keyBytes(index));
      return this.takeElement(element) ? [key, this.readValue(element)] : undefined;
    } finally {
      this.end(element);
    }
  }

  /** Deletes all entries that are there when it begins, in batches where the kernel can (5.6). */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }
}

/** Hash tables with a value for each CPU under every key. */
export abstract class PerCpuAssociativeMap<K, V> extends AssociativeMap<K, V[], readonly V[]> {
  /** The types that keys, and the values of one CPU, are written and read with. */
  readonly types: KeyedMapTypes<K, V>;
  readonly #values: PerCpuLayout<V>;

  /** @internal */
  protected constructor(handle: MapHandle, { key, value }: KeyedMapTypes<K, V>) {
    const values = new PerCpuLayout(value);
    super(handle, { key, value: values });
    this.types = { key, value };
    this.#values = values;
  }

  /**
   * The sum of a key's values over all CPUs, or `undefined`. For numbers and bigints; a sum of numbers is exact up to 2^53.
   *
   * @throws {TypeError} when the values are something else
   */
  sum(key: K): (V & (number | bigint)) | undefined {
    return sumValues(this.get(key), `${this}`);
  }

  /** Folds a key's values, one CPU after the other, into one; `undefined` for a key that is absent. */
  reduce<R>(key: K, fn: (accumulator: R, value: V, cpu: number) => R, initial: R): R | undefined {
    return reduceValues(this.get(key), fn, initial);
  }

  /** The value of one CPU, or `undefined` for a key that is absent. @throws {RangeError} for a CPU that cannot be */
  getCpu(key: K, cpu: number): V | undefined {
    return this.findCpu(key, cpu, this.#values);
  }

  /**
   * Stores the value of one CPU and leaves those of the others (kernel 7.0); a key that is absent is added, with zeroes for
   * the others.
   *
   * @throws {BpfError} `EINVAL` before 7.0
   * @throws {RangeError} for a CPU that cannot be
   */
  setCpu(key: K, cpu: number, value: V): this {
    this.updateCpu(key, cpu, value, this.#values);
    return this;
  }
}
