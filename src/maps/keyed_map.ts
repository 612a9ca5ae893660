import { checkCount, checkOptions } from "../check/arguments.ts";
import type { BatchResult } from "../ffi/bpf_map_batch.ts";
import type { Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import { BpfMap } from "./bpf_map.ts";
import type { MapHandle } from "./create.ts";
import { type ElementLayout, type ElementOptions, MapElements } from "./elements.ts";
import type { AnyType, KeyedMapTypes } from "./map_options.ts";
import type { MapTypeName } from "./map_types.ts";
import { PerCpuElements, PerCpuLayout, reduceValues, sumValues } from "./per_cpu.ts";
import {
  type Chunk,
  collectDecodeError,
  type DecodeError,
  decodeWalk,
  inBatches,
  type Walk,
} from "./walk.ts";

/** Options of {@link KeyedMap.entriesInBatches} and {@link AssociativeMap.takeAllInBatches}. */
export interface BatchesOptions {
  /**
   * The largest number of entries in an array. There may be fewer, or more where one bucket of a hash table holds more.
   *
   * @default 1024
   */
  readonly max?: number;
}

/** Checks the options of a walk in arrays. Returns the largest number of entries in one. @throws {TypeError | RangeError} */
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
export abstract class KeyedMap<
  K,
  V,
  W = V,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  /** @internal */
  protected readonly elements: MapElements<K, V, W>;
  /** @internal Shown by classes whose types are chosen by the user. */
  protected readonly types: object;

  /** @internal */
  protected constructor(handle: MapHandle, layout: ElementLayout) {
    super(handle);
    this.types = handle.types;
    this.elements = new MapElements(handle, layout);
  }

  /**
   * The value of a key, or `undefined`.
   *
   * @throws {TypeError | RangeError} for a key that its type refuses
   * @throws {DecodeError} for a value that its type cannot decode
   */
  get(key: K, options?: ElementOptions): V | undefined {
    return this.elements.get(key, options);
  }

  /** Returns true where there is a value for the key. */
  has(key: K): boolean {
    return this.elements.has(key);
  }

  /**
   * The values of these keys in their order, `undefined` where there is none.
   *
   * The kernel has no call for chosen keys: each key costs a look-up. For hash maps, arrays and LPM tries (kernel 5.17,
   * CAP_BPF), a program in the kernel does the look-ups once some thousands of keys were asked for. That is several times
   * as fast, and more than ten times for numbers. The program is loaded for this object (`lookup_many` in `bpftool prog`),
   * and unloaded with it.
   */
  getMany(keys: Iterable<K>): (V | undefined)[] {
    return this.elements.getMany(keys);
  }

  /**
   * The entries, in the kernel's order, fetched in batches as they are asked for; key by key for
   * kinds that the kernel has no batches for.
   *
   * The map may change during the walk. Deleting the entry at hand is safe. An entry that is there during the whole walk
   * is seen; one that is added or deleted meanwhile may be seen or not; the values are those of the moment of the fetch.
   * The walk always ends: without batches after twice `maxEntries` entries, if so many are added ahead of it. It takes at most
   * about 256 KiB however large the map is, and frees that when it ends, breaks or throws. Any number of walks may go on at
   * once.
   *
   * **Keys that decoding does not preserve.** Programs can store keys that their type writes differently or not at all: garbage in
   * the padding of a struct or after the NUL of a `t.cstring`, text that is not UTF-8 or fills its field, a `t.bool` of 2, a
   * `t.u64Number` past 2^53. A key that a walk (or {@link nextKey}) returns stands for exactly the bytes that it was read from, in
   * all methods of this object. The object keeps the bytes of such keys:
   *
   * - For a key that is an object, as long as that object lives. A changed object or a copy stands for the bytes that its type
   *   writes.
   * - Strings, numbers, bigints and booleans have no identity: equal ones stand for the last returned key that is still in the map,
   *   then for earlier ones, and then for the bytes that the type writes. So a loop reaches each entry by its key, and
   *   `deleteMany([...map.keys()])` deletes all. At least the last `maxEntries` keys are kept, and at most twice as many.
   *
   * Types that keep every byte, such as integers, addresses and structs of these without padding, have no extra cost. To see the
   * bytes, open the map with `t.bytes(n)` as the key type, where `n` is {@link keySize}.
   *
   * **Entries that cannot be decoded**, because a `t.custom` throws, do not end the walk: it returns all others, and throws a
   * {@link DecodeError} with their bytes at the end. So no entry is unreachable, and none is skipped silently.
   *
   * @throws {DecodeError} at the end, when entries could not be decoded
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * const Key = t.struct({ address: t.u64, pid: t.u32 }); // 4 bytes of padding at its end
   * using raw = new HashMap({ key: t.bytes(Key.size), value: t.u32, maxEntries: 4 });
   * raw.set(new Uint8Array(16).fill(1), 5); // as a program that leaves garbage there
   * using map = HashMap.fromFd(raw.fd, { key: Key, value: t.u32 });
   * for (const [key] of map) console.log(map.get({ ...key }), map.get(key), map.delete(key)); // undefined 5 true
   * ```
   */
  entries(): Generator<[key: K, value: V], undefined, undefined> {
    return this.decode((walk, index) => this.elements.readEntry(walk, index));
  }

  /** The keys: as {@link entries}. */
  keys(): Generator<K, undefined, undefined> {
    return this.decode((walk, index) => this.elements.readKey(walk, index));
  }

  /** The values: as {@link entries}. */
  values(): Generator<V, undefined, undefined> {
    return this.decode((walk, index) => this.elements.readValue(walk, index));
  }

  /**
   * The entries in arrays, as the kernel returns them: like {@link entries}, for code that sends or stores many at once.
   *
   * @throws {DecodeError} at the end, when entries could not be decoded
   * @throws {RangeError} for a `max` that is not a positive integer
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1000 });
   * map.setMany(Array.from({ length: 1000 }, (_, key) => [key, key * key]));
   * for (const batch of map.entriesInBatches({ max: 300 })) console.log(batch.length, batch[0]);
   * ```
   */
  *entriesInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, value: V][], undefined, undefined> {
    const max = checkBatches("entriesInBatches", options);
    using walk = this.walk();
    let errors: DecodeError | undefined;
    while (walk.next()) {
      for (let start = 0; walk.has(start); start += max) {
        const end = Math.min(start + max, walk.count);
        const entries = this.readEntries(walk, start, end, (error) => {
          errors = collectDecodeError(errors, error);
        });
        if (entries.length > 0) yield entries;
      }
    }
    if (errors !== undefined) throw errors;
  }

  /** The same as {@link entries}. */
  [Symbol.iterator](): Generator<[key: K, value: V], undefined, undefined> {
    return this.entries();
  }

  /** Calls `fn` for each entry: as {@link entries}. */
  forEach(fn: (value: V, key: K, map: this) => void): void {
    for (const [key, value] of this.entries()) fn(value, key, this);
  }

  /**
   * Returns the key after another one in the kernel's order, or the first without an argument; `undefined` after the last.
   *
   * It is one step of the kernel (`BPF_MAP_GET_NEXT_KEY`), for walks that stop and go on later, even in another process. The loops
   * of this class are faster, and safe under deletion. **If the key is no longer in the map, the kernel starts again from the
   * first**: get the next key before you delete the current one, and limit the number of steps where others delete. Arrays return
   * every index, also of empty places.
   *
   * @throws {TypeError | RangeError} for a key that its type refuses
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
   * map.set(1, 10).set(2, 20);
   * for (let key = map.nextKey(); key !== undefined; ) {
   *   const next = map.nextKey(key);
   *   map.delete(key);
   *   key = next;
   * }
   * console.log(map.count()); // 0
   * ```
   */
  nextKey(key?: K): K | undefined {
    return this.elements.nextKey(key);
  }

  /** Counts the entries by a walk, as the kernel keeps no number. */
  count(): number {
    using walk = this.walk();
    let count = 0;
    while (walk.next()) count += walk.count;
    return count;
  }

  /** A copy as a `Map`. Keys that decode to objects are compared by identity there. @throws as {@link entries} */
  toMap(): Map<K, V> {
    return new Map(this.entries());
  }

  /** @internal Decodes the entries from `start` to `end`; calls `refuse` for those that cannot be decoded. */
  protected readEntries(
    chunk: Chunk,
    start: number,
    end: number,
    refuse: (error: unknown, index: number) => void,
  ): [key: K, value: V][] {
    const entries: [key: K, value: V][] = [];
    for (let index = start; index < end; index++) {
      try {
        entries.push(this.elements.readEntry(chunk, index));
      } catch (error) {
        refuse(error, index);
      }
    }
    return entries;
  }

  /** @internal Yields the result of `read` for each entry of a walk. */
  protected decode<T>(read: (walk: Walk, index: number) => T): Generator<T, undefined, undefined> {
    return decodeWalk(() => this.walk(), read);
  }

  /** @internal A walk over all entries. */
  protected walk(): Walk {
    return this.elements.walk();
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.elements[Symbol.dispose]();
  }
}

/** Maps whose entries come and go: any key, added by storing a value and gone by deletion. */
export abstract class AssociativeMap<
  K,
  V,
  W = V,
  Name extends MapTypeName = MapTypeName,
> extends KeyedMap<K, V, W, Name> {
  /**
   * Stores a value, whether there was one or not.
   *
   * @throws {BpfError} `E2BIG` (an LPM trie: `ENOSPC`) when the map is full
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  set(key: K, value: W, options?: ElementOptions): this {
    this.elements.set(key, value, BPF_ANY, options);
    return this;
  }

  /** Stores a value only if the key is absent. Returns true where it did. @throws as {@link set} */
  add(key: K, value: W, options?: ElementOptions): boolean {
    return this.elements.set(key, value, BPF_NOEXIST, options);
  }

  /** Stores a value only if the key is present. Returns true where it did. */
  replace(key: K, value: W, options?: ElementOptions): boolean {
    return this.elements.set(key, value, BPF_EXIST, options);
  }

  /**
   * Stores many values, in one call where the kernel can (5.6), in the order given.
   * All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  setMany(pairs: Iterable<readonly [key: K, value: W]>): this {
    this.elements.setMany(pairs);
    return this;
  }

  /** Deletes a key. Returns true where it was there. */
  delete(key: K): boolean {
    return this.elements.delete(key);
  }

  /**
   * Deletes many keys, in one call where the kernel can (5.6). Returns how many were there. Once a walk has returned a key that its
   * type writes differently (see {@link entries}), each key takes a call.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many keys were done before, absent ones included
   * @throws {TypeError | RangeError} for a key that its type refuses: the map is as before
   */
  deleteMany(keys: Iterable<K>): number {
    return this.elements.deleteMany(keys);
  }

  /**
   * Fetches a value and deletes its key: for hash maps in one step since kernel 5.14. Before, and for other kinds, a
   * change of the value between the look-up and the deletion is lost.
   *
   * @throws {DecodeError} when its type cannot decode the value, which is stored again unless there is a newer one
   */
  take(key: K): V | undefined {
    return this.elements.take(key);
  }

  /**
   * Returns the values of these keys in their order, `undefined` for absent ones, and deletes the keys. Each takes a call, as
   * {@link take}. A repeated key has its value only the first time.
   *
   * If one fails, the entries taken before are stored again, unless a newer value was stored or the map is full.
   *
   * @throws {BpfError} when the kernel refuses one
   * @throws {DecodeError} when its type cannot decode a value
   * @throws {TypeError | RangeError} for a key that its type refuses
   */
  takeMany(keys: Iterable<K>): (V | undefined)[] {
    return this.elements.takeMany(keys);
  }

  /**
   * Takes the entries out one after the other: each is deleted, as by {@link take}, when it is handed out, so that none is
   * lost when the loop ends early. Entries that are added meanwhile may be left.
   *
   * @throws {DecodeError} at the end, when entries could not be decoded: they stay in the map
   */
  *takeAll(): Generator<[key: K, value: V], undefined, undefined> {
    for (const entry of this.decode((walk, index) => this.elements.takeEntry(walk, index))) {
      if (entry !== undefined) yield entry;
    }
  }

  /**
   * Takes all entries out in arrays: like {@link takeAll}, but with one call for each array where the kernel can (hash
   * maps: 5.6), which is several times as fast. The loop gets whole arrays, so that no entry is lost when it ends early.
   *
   * @throws {DecodeError} as {@link takeAll}: entries that cannot be decoded are stored again
   * @throws {RangeError} for a `max` that is not a positive integer
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 1000 });
   * counts.setMany(Array.from({ length: 1000 }, (_, key) => [key, 1]));
   * let total = 0;
   * for (const batch of counts.takeAllInBatches()) for (const [, count] of batch) total += count;
   * console.log(total, counts.count()); // 1000 0
   * ```
   */
  *takeAllInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, value: V][], undefined, undefined> {
    const { elements } = this;
    using batch = elements.newBatch(
      Math.min(checkBatches("takeAllInBatches", options), this.maxEntries),
    );
    batch.isRequired = true;
    let errors: DecodeError | undefined;
    let result: BatchResult;
    do {
      result = batch.lookupAndDelete(elements.walked.flags);
      const entries = this.readEntries(batch, 0, batch.count, (error, index) => {
        errors = collectDecodeError(errors, error);
        elements.restore(batch, index);
      });
      if (entries.length > 0) yield entries;
    } while (result === "more");
    if (errors !== undefined) throw errors;
  }

  /** Deletes all entries that are there when it begins, in batches where the kernel can (5.6). */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }
}

/** Maps whose entries the kernel takes out one at a time: their types have no `BPF_MAP_LOOKUP_AND_DELETE_BATCH`. */
export abstract class SingleTakeMap<
  K,
  V,
  W = V,
  Name extends MapTypeName = MapTypeName,
> extends AssociativeMap<K, V, W, Name> {
  /** Takes all entries out in arrays, one after the other: see {@link AssociativeMap.takeAllInBatches}. */
  override *takeAllInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, value: V][], undefined, undefined> {
    yield* inBatches(this.takeAll(), checkBatches("takeAllInBatches", options));
  }
}

/** Hash tables with a value for each CPU under every key. */
export abstract class PerCpuAssociativeMap<
  K,
  V,
  Name extends MapTypeName = MapTypeName,
> extends AssociativeMap<K, V[], readonly V[], Name> {
  readonly #perCpu: PerCpuElements<K, V>;

  /** @internal */
  protected constructor(handle: MapHandle<KeyedMapTypes<AnyType, AnyType>>) {
    const { key, value } = handle.types;
    const values = new PerCpuLayout(value as Type<V>);
    super(handle, { key, value: values });
    this.#perCpu = new PerCpuElements(handle, this.elements, values);
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
    return this.#perCpu.get(key, cpu);
  }

  /**
   * Stores the value of one CPU and leaves those of the others (kernel 7.0); a key that is absent is added, with zeroes for
   * the others.
   *
   * @throws {BpfError} `EINVAL` before 7.0
   * @throws {RangeError} for a CPU that cannot be
   */
  setCpu(key: K, cpu: number, value: V): this {
    this.#perCpu.set(key, cpu, value);
    return this;
  }
}
