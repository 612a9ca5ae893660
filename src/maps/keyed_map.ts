import { BpfError } from "../ffi/error.ts";
import { MapBatch } from "../ffi/map_batch.ts";
import { elementKeyOffset, MapElement } from "../ffi/map_element.ts";
import { checkType } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import { BatchError } from "./batch_error.ts";
import { BpfMap } from "./bpf_map.ts";
import type { MapHandle } from "./handle.ts";
import { MapWalk, type WalkedMap } from "./walk.ts";

/** The types of a map's keys and values. */
export interface KeyedMapTypes<K, V> {
  readonly key: Type<K>;
  readonly value: Type<V>;
}

/** Checks that types were given. @throws {TypeError} */
export function checkTypes(types: KeyedMapTypes<unknown, unknown>): void {
  checkType("key", types.key);
  checkType("value", types.value);
}

/** Maps with a value for each key: look-ups, updates and walks. */
export abstract class KeyedMap<K, V> extends BpfMap {
  readonly #keyType: Type<K>;
  readonly #valueType: Type<V>;
  /** Memory for calls on one element; `undefined` while an operation has it, and after disposal. */
  #element: MapElement | undefined;

  /** @internal */
  protected constructor(handle: MapHandle, types: KeyedMapTypes<K, V>, pinnedAt?: string) {
    super(handle, pinnedAt);
    this.#keyType = types.key;
    this.#valueType = types.value;
    this.#element = new MapElement(this.fd, this.keySize, this.valueSize, `${this}`);
  }

  /** The types that keys and values are written and read with. */
  get types(): KeyedMapTypes<K, V> {
    return { key: this.#keyType, value: this.#valueType };
  }

  /**
   * The value of a key, or `undefined`.
   *
   * @throws {TypeError | RangeError} for a key that its type refuses
   */
  get(key: K): V | undefined {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return element.lookup(0) ? this.readValue(element) : undefined;
    } finally {
      this.end(element);
    }
  }

  /** Whether there is a value for the key. */
  has(key: K): boolean {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return element.lookup(0);
    } finally {
      this.end(element);
    }
  }

  /**
   * Stores a value, whether there was one or not.
   *
   * @throws {BpfError} `E2BIG` when the map is full
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  set(key: K, value: V): this {
    this.update(key, value, 0);
    return this;
  }

  /**
   * The values of these keys in their order, `undefined` where there is none.
   * The kernel has no call for chosen keys: this is a look-up for each.
   */
  getMany(keys: Iterable<K>): (V | undefined)[] {
    // None may be asked for: a disposed map refuses all the same.
    void this.fd;
    return [...keys].map((key) => this.get(key));
  }

  /**
   * Stores many values, in one call where the kernel can (5.6), in the order given.
   * All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  setMany(pairs: Iterable<readonly [key: K, value: V]>): this {
    void this.fd;
    // A copy: the caller's own array may change while its values are encoded, and the memory is for so many.
    const list = [...pairs];
    if (list.length === 0) return this;
    using batch = this.#newBatch(list.length);
    for (const [index, pair] of list.entries()) {
      if (!isPair(pair)) {
        throw new TypeError(
          `pair ${index} for ${this}: expected [key, value], got ${describe(pair)}`,
        );
      }
      this.#write("key", this.#keyType, batch.view, batch.keyOffset(index), pair[0] as K);
      this.#write("value", this.#valueType, batch.view, batch.valueOffset(index), pair[1] as V);
    }
    let applied = 0;
    try {
      const isDone = batch.update(0, list.length, 0) !== "unsupported";
      if (!isDone) {
        for (; applied < list.length; applied++) this.#updateFrom(batch, applied);
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
    return this;
  }

  /**
   * The entries, in the kernel's order, fetched in batches as they are asked for (kernel 5.6; key by key before).
   *
   * The map may change during the walk. Deleting the entry at hand is safe. An entry that is there during the whole walk
   * is seen; one that is added or deleted meanwhile may be seen or not; the values are those of the moment of the fetch.
   * The walk always ends, takes at most about 256 KiB however large the map is, and frees that when it ends, breaks or
   * throws. Any number of walks may go on at once.
   */
  *entries(): Generator<[key: K, value: V], undefined, undefined> {
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) {
        const key = this.#keyType.read(walk.view, walk.keyOffset(i));
        yield [key, this.#valueType.read(walk.view, walk.valueOffset(i))];
      }
    }
    return undefined;
  }

  /** The keys: as {@link entries}. */
  *keys(): Generator<K, undefined, undefined> {
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) {
        yield this.#keyType.read(walk.view, walk.keyOffset(i));
      }
    }
    return undefined;
  }

  /** The values: as {@link entries}. */
  *values(): Generator<V, undefined, undefined> {
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) {
        yield this.#valueType.read(walk.view, walk.valueOffset(i));
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

  /** @internal Stores a value; false where the flags forbid it. */
  protected update(key: K, value: V, flags: number): boolean {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      this.#write("value", this.#valueType, element.view, element.valueOffset, value);
      void this.fd;
      return element.update(flags);
    } finally {
      this.end(element);
    }
  }

  /**
   * @internal Takes the memory for a call, until {@link end}.
   *
   * Types and getters of values are the user's code and may use this very map, or dispose of it, while a key or a value
   * is being written or read: such a call gets memory of its own.
   */
  protected begin(): MapElement {
    const element = this.#element;
    if (element === undefined) {
      return new MapElement(this.fd, this.keySize, this.valueSize, `${this}`);
    }
    this.#element = undefined;
    return element;
  }

  /** @internal */
  protected end(element: MapElement): void {
    if (this.#element === undefined && !this.disposed) this.#element = element;
    else element[Symbol.dispose]();
  }

  /** @internal Writes the key of a call. @throws {DisposedError} when that disposed of the map */
  protected writeKey(element: MapElement, key: K): void {
    this.#write("key", this.#keyType, element.view, elementKeyOffset, key);
    void this.fd;
  }

  /** @internal */
  protected readValue(element: MapElement): V {
    return this.#valueType.read(element.view, element.valueOffset);
  }

  /** @internal */
  protected walk(): MapWalk {
    return new MapWalk(this.walked);
  }

  /** @internal */
  protected get walked(): WalkedMap {
    const { descriptor, keySize, valueSize, maxEntries } = this;
    // Asking for the number refuses a disposed map here, before memory is taken.
    void descriptor.fd;
    return { descriptor, keySize, valueSize, maxEntries, what: `${this}` };
  }

  /** @internal Room for `keys`, filled with them. */
  protected batchOfKeys(keys: readonly K[]): MapBatch {
    const batch = this.#newBatch(keys.length);
    try {
      keys.forEach((key, index) => {
        this.#write("key", this.#keyType, batch.view, batch.keyOffset(index), key);
      });
      return batch;
    } catch (error) {
      batch[Symbol.dispose]();
      throw error;
    }
  }

  #newBatch(capacity: number): MapBatch {
    const { descriptor, keySize, valueSize, what } = this.walked;
    return new MapBatch(descriptor, keySize, valueSize, capacity, what);
  }

  #updateFrom(batch: MapBatch, index: number): void {
    const element = this.begin();
    try {
      const keyOffset = batch.keyOffset(index);
      const valueOffset = batch.valueOffset(index);
      element.setKey(batch.bytes.subarray(keyOffset, keyOffset + this.keySize));
      element.setValue(batch.bytes.subarray(valueOffset, valueOffset + this.valueSize));
      element.update(0);
    } finally {
      this.end(element);
    }
  }

  #write<T>(role: string, type: Type<T>, view: DataView, offset: number, value: T): void {
    try {
      type.write(view, offset, value);
    } catch (error) {
      // The type does not know what it describes: the message should.
      if (error instanceof Error) error.message = `${role} of ${this}: ${error.message}`;
      throw error;
    }
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#element?.[Symbol.dispose]();
    this.#element = undefined;
  }
}

function isPair(value: unknown): value is readonly [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}
