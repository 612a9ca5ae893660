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
   * Largest number of entries in an array. Arrays can be shorter. They can be longer if one bucket of a hash table has more
   * entries.
   *
   * @default 1024
   */
  readonly max?: number;
}

/**
 * Checks {@link BatchesOptions}. Returns the largest number of entries in an array.
 *
 * @throws {TypeError | RangeError} if an option is unknown, or `max` is not a positive integer.
 */
export function checkBatches(what: string, options: BatchesOptions): number {
  checkOptions(what, options, ["max"]);
  const { max = 1024 } = options;
  checkCount("max", max, 1);
  return max;
}

/**
 * Base class of maps whose entries are looked up by key and can be iterated.
 *
 * `K` is the type of keys, `V` the type of values that are read, and `W` the type of values that are stored: the same as
 * `V` for most map types.
 */
export abstract class KeyedMap<
  K,
  V,
  W = V,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  /** @internal */
  protected readonly elements: MapElements<K, V, W>;
  /** @internal Redeclared by classes whose types the user chooses. */
  protected readonly types: object;

  /** @internal */
  protected constructor(handle: MapHandle, layout: ElementLayout) {
    super(handle);
    this.types = handle.types;
    this.elements = new MapElements(handle, layout);
  }

  /**
   * Returns the value of a key, or `undefined` if the key is absent.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
   * @throws {DecodeError} if the value type cannot decode the value.
   * @throws {BpfError} if the kernel rejects the look-up.
   */
  get(key: K, options?: ElementOptions): V | undefined {
    return this.elements.get(key, options);
  }

  /**
   * Returns true if the map has the key. The value is not decoded.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
   */
  has(key: K): boolean {
    return this.elements.has(key);
  }

  /**
   * Returns the values of many keys in the order of `keys`, with `undefined` for absent keys. The look-ups are not one
   * atomic step.
   *
   * The kernel has no call that looks up several chosen keys, so each key costs a system call. For `HashMap`, `ArrayMap` and
   * `LpmTrie` a program in the kernel does the look-ups once about 4,000 keys were requested in calls with at least 16 keys
   * (Linux 5.17, CAP_BPF, values of at most 512 bytes). The program is several times as fast, and for numbers more than ten
   * times. The program belongs to this object and is unloaded with it; `bpftool prog` shows it as `lookup_many`.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
   * @throws {DecodeError} if the value type cannot decode a value.
   */
  getMany(keys: Iterable<K>): (V | undefined)[] {
    return this.elements.getMany(keys);
  }

  /**
   * Iterates over the entries in the kernel's order, which is not the order of insertion. Entries are fetched in batches as
   * the loop needs them, or key by key for map types without batches.
   *
   * The map may change during the loop:
   *
   * - Deleting the current entry is safe.
   * - An entry that is in the map during the whole loop is returned. An entry that is added or deleted meanwhile may be
   *   returned or not.
   * - Values are as they were when the batch was fetched.
   * - The loop always ends. Without batches it ends after twice `maxEntries` entries if other writers keep adding entries
   *   ahead of it.
   *
   * A loop takes at most about 256 KiB of memory, and twice that without batches. It takes more only if one entry, or one
   * bucket of a hash table, is larger than that. It frees the memory when it ends, breaks or throws. Any number of loops can
   * run at once.
   *
   * **Keys that decoding does not preserve.** Programs can store keys that their type writes differently or not at all:
   * garbage in the padding of a struct or after the NUL of a `t.cstring`, text that is not UTF-8 or fills its field, a
   * `t.bool` of 2, a `t.u64Number` past 2^53. A key that a loop (or {@link nextKey}) returns stands for exactly the bytes
   * that it was read from, in all methods of this object. The object keeps the bytes of such keys:
   *
   * - The bytes of a key that is an object are kept as long as the object lives. A changed object or a copy stands for the
   *   bytes that its type writes.
   * - Strings, numbers, bigints and booleans have no identity: equal keys stand for the last returned key that is still in
   *   the map, then for earlier ones, and then for the bytes that the type writes. So a loop reaches each entry by its key,
   *   and `deleteMany([...map.keys()])` deletes all entries. At least the last `maxEntries` keys are kept, and at most twice
   *   as many.
   *
   * Types that keep every byte, such as integers, addresses and structs of these without padding, have no extra cost. To
   * see the bytes, open the map with `t.bytes(n)` as the key type, where `n` is {@link keySize}.
   *
   * **Entries that cannot be decoded**, because a `t.custom` throws, do not end the loop. The loop returns all other
   * entries. At its end it throws a {@link DecodeError} with the bytes of the entries that cannot be decoded, so that none
   * is skipped silently.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded.
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

  /**
   * Iterates over the keys, with the guarantees of {@link entries}.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded.
   */
  keys(): Generator<K, undefined, undefined> {
    return this.decode((walk, index) => this.elements.readKey(walk, index));
  }

  /**
   * Iterates over the values, with the guarantees of {@link entries}.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded.
   */
  values(): Generator<V, undefined, undefined> {
    return this.decode((walk, index) => this.elements.readValue(walk, index));
  }

  /**
   * Iterates over arrays of up to `max` entries, with the guarantees of {@link entries}. This method suits code that sends
   * or stores many entries at once.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded.
   * @throws {RangeError} if `max` is not a positive integer.
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

  /** Iterates over the entries: the same as {@link entries}. */
  [Symbol.iterator](): Generator<[key: K, value: V], undefined, undefined> {
    return this.entries();
  }

  /**
   * Calls `fn` for each entry, with the guarantees of {@link entries}.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded.
   */
  forEach(fn: (value: V, key: K, map: this) => void): void {
    for (const [key, value] of this.entries()) fn(value, key, this);
  }

  /**
   * Returns the key after `key` in the kernel's order, or the first key if there is no argument. Returns `undefined` after
   * the last key.
   *
   * This method is one step of the kernel (`BPF_MAP_GET_NEXT_KEY`), for iterations that stop and resume later, even in
   * another process. The iterators of this class are faster, and safe if entries are deleted. **If the key is no longer in
   * the map, the kernel starts again from the first**: get the next key before you delete the current one, and limit the
   * number of steps if other processes or programs delete keys. Arrays return every index, including those of empty slots.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
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

  /** Returns the number of entries. The kernel keeps no count, so this method iterates over the whole map. */
  count(): number {
    using walk = this.walk();
    let count = 0;
    while (walk.next()) count += walk.count;
    return count;
  }

  /**
   * Returns a copy of the entries as a `Map`. The `Map` compares keys that are objects by identity.
   *
   * @throws {DecodeError} if entries could not be decoded.
   */
  toMap(): Map<K, V> {
    return new Map(this.entries());
  }

  /**
   * @internal Decodes the entries from `start` to `end`. Calls `onError` with the error of each entry that cannot be
   *   decoded.
   */
  protected readEntries(
    chunk: Chunk,
    start: number,
    end: number,
    onError: (error: unknown, index: number) => void,
  ): [key: K, value: V][] {
    const entries: [key: K, value: V][] = [];
    for (let index = start; index < end; index++) {
      try {
        entries.push(this.elements.readEntry(chunk, index));
      } catch (error) {
        onError(error, index);
      }
    }
    return entries;
  }

  /** @internal Yields the result of `read` for each entry of a walk. */
  protected decode<T>(read: (walk: Walk, index: number) => T): Generator<T, undefined, undefined> {
    return decodeWalk(() => this.walk(), read);
  }

  /** @internal Begins an iteration over all entries. */
  protected walk(): Walk {
    return this.elements.walk();
  }

  /** Closes the descriptor and frees the memory for calls. Further calls do nothing. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.elements[Symbol.dispose]();
  }
}

/**
 * Base class of maps whose keys are added by storing a value and removed by deletion: hash tables, tries and the like.
 *
 * `K` is the type of keys, `V` the type of values that are read, and `W` the type of values that are stored.
 */
export abstract class AssociativeMap<
  K,
  V,
  W = V,
  Name extends MapTypeName = MapTypeName,
> extends KeyedMap<K, V, W, Name> {
  /**
   * Stores a value under a key, and replaces the previous value if there is one.
   *
   * @throws {BpfError} E2BIG (ENOSPC for an LPM trie) if the map is full.
   * @throws {TypeError | RangeError} if the key or value type rejects the key or value. Nothing is stored then.
   */
  set(key: K, value: W, options?: ElementOptions): this {
    this.elements.set(key, value, BPF_ANY, options);
    return this;
  }

  /**
   * Stores a value only if the key is absent. Returns true if it was stored. The kernel checks and stores in one step.
   *
   * @throws {BpfError} E2BIG (ENOSPC for an LPM trie) if the map is full.
   * @throws {TypeError | RangeError} if the key or value type rejects the key or value. Nothing is stored then.
   */
  add(key: K, value: W, options?: ElementOptions): boolean {
    return this.elements.set(key, value, BPF_NOEXIST, options);
  }

  /**
   * Stores a value only if the key is present. Returns true if it was stored. The kernel checks and stores in one step.
   *
   * @throws {TypeError | RangeError} if the key or value type rejects the key or value. Nothing is stored then.
   */
  replace(key: K, value: W, options?: ElementOptions): boolean {
    return this.elements.set(key, value, BPF_EXIST, options);
  }

  /**
   * Stores many entries in the given order. Storing takes one system call from Linux 5.6 on if the map type has batches,
   * otherwise one call for each entry. All pairs are checked before the first one is stored. The entries are not stored in
   * one atomic step.
   *
   * @throws {BatchError} if the kernel rejects an entry. `applied` is the number of entries that were stored before.
   * @throws {TypeError | RangeError} if the key or value type rejects a key or value. Nothing is stored then.
   */
  setMany(pairs: Iterable<readonly [key: K, value: W]>): this {
    this.elements.setMany(pairs);
    return this;
  }

  /**
   * Deletes a key. Returns true if it was present.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
   */
  delete(key: K): boolean {
    return this.elements.delete(key);
  }

  /**
   * Deletes many keys, in one system call from Linux 5.6 on if the map type has batches. Returns the number of keys that
   * were present. Each key takes a separate call once an iteration has returned a key that its type writes differently (see
   * {@link entries}).
   *
   * @throws {BatchError} if the kernel rejects a key. `applied` is the number of keys processed before, including absent
   *   ones.
   * @throws {TypeError | RangeError} if the key type rejects a key. Nothing is deleted then.
   */
  deleteMany(keys: Iterable<K>): number {
    return this.elements.deleteMany(keys);
  }

  /**
   * Returns the value of a key and deletes the key. Returns `undefined` if the key is absent.
   *
   * For hash tables, the call is one atomic step from Linux 5.14 on. Otherwise it is a look-up and then a deletion: an
   * update of the value between these two is lost.
   *
   * @throws {TypeError | RangeError} if the key type rejects the key.
   * @throws {DecodeError} if the value type cannot decode the value. The value is stored again unless the key has a newer
   *   one.
   */
  take(key: K): V | undefined {
    return this.elements.take(key);
  }

  /**
   * Returns the values of many keys in the order of `keys`, with `undefined` for absent keys, and deletes the keys. Each key
   * takes a separate call, as {@link take} does. A repeated key has its value only the first time.
   *
   * If a key fails, the entries taken before are stored again, unless the key has a newer value or the map is full.
   *
   * @throws {BpfError} if the kernel rejects a key.
   * @throws {DecodeError} if the value type cannot decode a value.
   * @throws {TypeError | RangeError} if the key type rejects a key.
   */
  takeMany(keys: Iterable<K>): (V | undefined)[] {
    return this.elements.takeMany(keys);
  }

  /**
   * Iterates over the entries and deletes each one when it is returned, as {@link take} does. No entry is lost if the loop
   * ends early. Entries that are added during the loop may remain.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded: they stay in the map.
   */
  *takeAll(): Generator<[key: K, value: V], undefined, undefined> {
    for (const entry of this.decode((walk, index) => this.elements.takeEntry(walk, index))) {
      if (entry !== undefined) yield entry;
    }
  }

  /**
   * Takes all entries out of the map in arrays of up to `max`. Unlike {@link takeAll}, this method takes a whole array in
   * one system call if the map type supports that (hash tables from Linux 5.6 on), which is several times as fast. The
   * entries of an array are deleted before the loop receives the array.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded: they are stored again.
   * @throws {RangeError} if `max` is not a positive integer.
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

  /**
   * Deletes the entries that are in the map when the call begins, in batches from Linux 5.6 on if the map type has them.
   * Entries that are added meanwhile may remain.
   */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }
}

/** Base class of maps without `BPF_MAP_LOOKUP_AND_DELETE_BATCH`: entries can be taken only one at a time. */
export abstract class SingleTakeMap<
  K,
  V,
  W = V,
  Name extends MapTypeName = MapTypeName,
> extends AssociativeMap<K, V, W, Name> {
  /**
   * Takes all entries out of the map in arrays of up to `max`. Each entry takes separate calls, as
   * {@link AssociativeMap.take} does.
   *
   * @throws {DecodeError} at the end, if entries could not be decoded: they stay in the map.
   * @throws {RangeError} if `max` is not a positive integer.
   */
  override *takeAllInBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, value: V][], undefined, undefined> {
    yield* inBatches(this.takeAll(), checkBatches("takeAllInBatches", options));
  }
}

/**
 * Base class of hash tables that have one value for each CPU under every key. Values are arrays in the order of
 * {@link possibleCpus}.
 */
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
   * Returns the sum of a key's values over all CPUs, or `undefined` if the key is absent. A sum of numbers is exact up to
   * 2^53.
   *
   * @throws {TypeError} if the values are neither numbers nor bigints.
   */
  sum(key: K): (V & (number | bigint)) | undefined {
    return sumValues(this.get(key), `${this}`);
  }

  /**
   * Calls `fn` with the value of each CPU in turn and returns the last result, or `undefined` if the key is absent. `fn`
   * gets the previous result (at first `initial`), the value and the number of the CPU.
   */
  reduce<R>(key: K, fn: (accumulator: R, value: V, cpu: number) => R, initial: R): R | undefined {
    return reduceValues(this.get(key), fn, initial);
  }

  /**
   * Returns the value of one CPU, or `undefined` if the key is absent. The kernel copies the values of all CPUs even for
   * one.
   *
   * @throws {RangeError} if `cpu` is not one of {@link possibleCpus}.
   */
  getCpu(key: K, cpu: number): V | undefined {
    return this.#perCpu.get(key, cpu);
  }

  /**
   * Stores the value of one CPU and leaves the values of the other CPUs unchanged. An absent key is added, with zeros for
   * the other CPUs.
   *
   * @throws {BpfError} EINVAL before Linux 7.0.
   * @throws {RangeError} if `cpu` is not one of {@link possibleCpus}.
   *
   * Requires Linux 7.0.
   */
  setCpu(key: K, cpu: number, value: V): this {
    this.#perCpu.set(key, cpu, value);
    return this;
  }
}
