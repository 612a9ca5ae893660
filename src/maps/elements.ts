/** @module Calls of bpf(2) on the elements of a map, with JavaScript keys and values. */

import { checkBoolean, checkCount, checkOptions, listOf } from "../check/arguments.ts";
import { describe, withContext } from "../check/describe.ts";
import type { KindHints } from "../ffi/bpf_map.ts";
import { MapBatch } from "../ffi/bpf_map_batch.ts";
import { elementKeyOffset, MapElement } from "../ffi/bpf_map_element.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { bytesAt } from "../types/memory.ts";
import type { Type } from "../types/type.ts";
import { BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST } from "../uapi/bpf.ts";
import { copiedValueSize, type MapHandle } from "./create.ts";
import { ManyLookups } from "./get_many.ts";
import { isLossless, RawKeys } from "./raw_keys.ts";
import type { ValueLayout } from "./value_layout.ts";
import {
  type BatchWalk,
  batchError,
  type Chunk,
  DecodeError,
  deleteBatch,
  type Walk,
  type WalkedMap,
} from "./walk.ts";

/** Key type of maps without keys. */
export const noKey: Type<undefined> = {
  kind: "none",
  name: "none",
  size: 0,
  align: 1,
  read: () => undefined,
  write: () => {},
};

/** Options of a call that looks up or stores one element. */
export interface ElementOptions {
  /**
   * Copies the value while its spin lock is held, so that programs that hold the lock never see or leave it half updated.
   *
   * @default true if the value type has a `t.spinLock` field, else false
   *
   * Requires Linux 5.1.
   */
  readonly lock?: boolean;
  /**
   * Further flags of the call: the kernel's bits (`BPF_F_*`).
   *
   * @default 0
   */
  readonly flags?: number;
}

/**
 * Memory layout of a map's keys and values, and hints for the kernel's errors. The type parameters default to `any` because
 * TypeScript cannot relate the values of a class's types to them.
 */
export interface ElementLayout<K = any, V = any, W = any> extends KindHints {
  readonly key: Type<K>;
  readonly value: ValueLayout<V, W>;
  /** True if values have a spin lock. */
  readonly isLocked?: boolean;
  /** True if a look-up by a program returns the same value as one by user space, and has no effect on the map. */
  readonly isReadByPrograms?: boolean;
  /** Reason why values cannot be read, for messages. */
  readonly unreadable?: string | undefined;
}

/** Smallest number of keys for which the look-up program runs. One run costs as much as a few single calls. */
const minKeysPerRun = 16;
/**
 * Number of requested keys at which the look-up program is loaded: loading takes about as long as this many single calls.
 */
const minKeysForProgram = 4096;
/** Bytes of the largest value that the look-up program copies. */
const maxProgramValueSize = 512;

/**
 * Elements of a map: calls on one or many of them, and iteration. Map classes expose the calls that their map type has.
 *
 * `V` is the type of values that are read, and `W` the type of values that are stored: the same for most map types.
 */
export class MapElements<K, V, W = V> implements Disposable {
  readonly layout: ElementLayout<K, V, W>;
  /** Flags of calls without options. */
  readonly #flags: number;
  readonly #handle: MapHandle;
  readonly #descriptor: Descriptor;
  readonly #keySize: number;
  /** Bytes that the kernel copies for a value. Fixed at creation, because a custom type may change its size later. */
  readonly #valueSize: number;
  /** Memory for calls on one element. `undefined` while a call uses it, and after disposal. */
  #element: MapElement | undefined;
  #manyLookups: ManyLookups | undefined;
  /** Keys requested by `getMany` so far. */
  #requestedKeys = 0;
  /** Bytes of keys that the key type does not preserve; `undefined` if it preserves every byte. */
  readonly #rawKeys: RawKeys<K> | undefined;

  constructor(handle: MapHandle, layout: ElementLayout<K, V, W>) {
    this.#handle = handle;
    this.#descriptor = handle.descriptor;
    this.layout = layout;
    this.#flags = layout.isLocked === true ? BPF_F_LOCK : 0;
    const { keySize, valueSize } = handle.info;
    this.#keySize = keySize;
    try {
      // Custom types can change their size: the kernel would then write past the end of the memory.
      const copied = copiedValueSize(handle.row, valueSize);
      this.#valueSize = copied;
      if (layout.key.size !== keySize || layout.value.size !== copied) {
        throw new TypeError(
          `the types of the ${this} changed their sizes since it was created or opened: a key has ${layout.key.size} and a value ${layout.value.size} bytes, not ${keySize} and ${copied}`,
        );
      }
      this.#element = this.#newElement();
      if (!isLossless(layout.key)) {
        this.#rawKeys = new RawKeys(handle, layout.key);
      }
    } catch (error) {
      handle.abandon();
      throw error;
    }
  }

  /** Returns the name of the map for messages: `hash map "counts"`. */
  toString(): string {
    return this.#descriptor.what;
  }

  /** Looks up a value. Returns `undefined` if the key is absent. */
  get(key: K, options?: ElementOptions): V | undefined {
    const { layout } = this;
    if (layout.unreadable !== undefined) this.#checkReadable();
    const flags = options === undefined ? this.#flags : this.#flagsOf(options);
    // Inlines #acquire(), here and in set(): test/maps/children/calls_of_get.ts counts the calls.
    const element = this.#element ?? this.#newElement();
    this.#element = undefined;
    try {
      this.writeKey(element, key);
      if (!element.lookup(flags)) return undefined;
      try {
        return layout.value.read(element.view, element.valueOffset);
      } catch (cause) {
        throw this.#decodeError(cause, element.view, elementKeyOffset, element.valueOffset);
      }
    } finally {
      this.#release(element);
    }
  }

  /** Returns true if the key is present. */
  has(key: K): boolean {
    this.#checkReadable();
    const element = this.#acquire();
    try {
      this.writeKey(element, key);
      return element.lookup(0);
    } finally {
      this.#release(element);
    }
  }

  /** Stores a value, which messages call `storedName`. Returns false if the flags forbid it. */
  set(key: K, value: W, flags: number, options?: ElementOptions, storedName?: string): boolean {
    const all = flags | (options === undefined ? this.#flags : this.#flagsOf(options));
    const element = this.#element ?? this.#newElement();
    this.#element = undefined;
    try {
      this.writeKey(element, key);
      this.write("value", this.layout.value, element.view, element.valueOffset, value);
      // Throws a DisposedError if the value type's code disposed of the map.
      void this.#descriptor.fd;
      return element.update(all, storedName);
    } finally {
      this.#release(element);
    }
  }

  /** Deletes a key. Returns false if it was absent. */
  delete(key: K): boolean {
    const element = this.#acquire();
    try {
      this.writeKey(element, key);
      return element.delete();
    } finally {
      this.#release(element);
    }
  }

  /** Looks up a value and deletes its key, in one atomic step if the map type and the kernel support that. */
  take(key: K): V | undefined {
    const element = this.#acquire();
    try {
      this.writeKey(element, key);
      return this.takeElement(element) ? this.#readTaken(element) : undefined;
    } finally {
      this.#release(element);
    }
  }

  /** Looks up and deletes many keys one after the other. If one fails, stores the entries taken before again. */
  takeMany(keys: Iterable<K>): (V | undefined)[] {
    const list = listOf(keys, "keys");
    using taken = this.newBatch(list.length);
    try {
      return this.use((element) =>
        list.map((key, index) => {
          this.writeKey(element, key, index);
          if (!this.takeElement(element)) return undefined;
          const at = taken.count++;
          element.copyTo(taken.bytes, taken.keyOffset(at), taken.valueOffset(at));
          return this.read(element);
        }),
      );
    } catch (error) {
      for (let index = 0; index < taken.count; index++) this.restore(taken, index);
      throw error;
    }
  }

  /**
   * Takes the entry at `index` of a walk. Finds the entry by the bytes of its key, because the key type may write other
   * bytes.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  takeEntry(walk: Walk, index: number): [key: K, value: V] | undefined {
    const key = this.readKey(walk, index);
    return this.use((element) => {
      element.setKey(walk.keyBytes(index));
      return this.takeElement(element) ? [key, this.#readTaken(element)] : undefined;
    });
  }

  /** Returns the key after another one, or the first if `key` is `undefined`. */
  nextKey(key: K | undefined): K | undefined {
    this.#checkReadable();
    return this.use((element) => {
      if (key !== undefined) this.writeKey(element, key);
      element.seek();
      // Throws a DisposedError after disposal, even if there is no key to encode.
      void this.#descriptor.fd;
      if (!element.nextKey(key === undefined)) return undefined;
      return this.#readKeyAt(element.view, element.nextKeyOffset);
    });
  }

  /** Looks up the value of an element's key and deletes the key. Returns false if it was absent. */
  takeElement(element: MapElement): boolean {
    this.#checkReadable();
    const flags = this.#flags;
    return element.lookupAndDelete(flags) ?? (element.lookup(flags) && element.delete());
  }

  /**
   * Decodes the value of an element, by default with the value type of the map.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  read(element: MapElement): V;
  read<T>(element: MapElement, type: Pick<ValueLayout<T>, "read">): T;
  read(element: MapElement, type: Pick<ValueLayout<unknown>, "read"> = this.layout.value): unknown {
    return this.#decode(type, element.view, elementKeyOffset, element.valueOffset);
  }

  /**
   * Decodes the value that was taken with an element's key. Stores the value again if it cannot be decoded.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  #readTaken(element: MapElement): V {
    try {
      return this.read(element);
    } catch (error) {
      this.#storeAgain(element);
      throw error;
    }
  }

  /**
   * Stores a taken entry again unless the key has a newer value. If the map is full, the entry is lost; the decoding error
   * that the caller throws has its bytes. Values without keys are not stored again, because their place in the order is
   * lost.
   */
  #storeAgain(element: MapElement): void {
    // Throws a DisposedError if the value type's code disposed of the map.
    void this.#descriptor.fd;
    try {
      if (this.#keySize > 0) element.update(this.#flags | BPF_NOEXIST);
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
    }
  }

  /**
   * Decodes the key at `index` of a chunk.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  readKey(chunk: Chunk, index: number): K {
    return this.#readKeyAt(chunk.view, chunk.keyOffset(index));
  }

  /**
   * Decodes a key, and remembers its bytes if its type writes other bytes.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  #readKeyAt(view: DataView, offset: number): K {
    const key = this.#decode(this.layout.key, view, offset);
    this.#rawKeys?.remember(key, view, offset);
    return key;
  }

  /**
   * Decodes the value at `index` of a chunk.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  readValue(chunk: Chunk, index: number): V {
    return this.#decode(
      this.layout.value,
      chunk.view,
      chunk.keyOffset(index),
      chunk.valueOffset(index),
    );
  }

  /**
   * Decodes the value at `valueOffset`, or the key if `valueOffset` is absent.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  #decode<T>(
    type: Pick<ValueLayout<T>, "read">,
    view: DataView,
    keyOffset: number,
    valueOffset?: number,
  ): T {
    try {
      return type.read(view, valueOffset ?? keyOffset);
    } catch (cause) {
      throw this.#decodeError(cause, view, keyOffset, valueOffset);
    }
  }

  /** Returns the error for a value that cannot be decoded, or for a key if `valueOffset` is absent. */
  #decodeError(
    cause: unknown,
    view: DataView,
    keyOffset: number,
    valueOffset?: number,
  ): DecodeError {
    return new DecodeError(`${this}`, cause, {
      key: bytesAt(view, keyOffset, this.#keySize).slice(),
      value:
        valueOffset === undefined ? undefined : bytesAt(view, valueOffset, this.#valueSize).slice(),
    });
  }

  /**
   * Decodes the entry at `index` of a chunk.
   *
   * @throws {DecodeError} if the type cannot decode the bytes.
   */
  readEntry(chunk: Chunk, index: number): [key: K, value: V] {
    return [this.readKey(chunk, index), this.readValue(chunk, index)];
  }

  /** Looks up the values of many keys, in their order. */
  getMany(keys: Iterable<K>): (V | undefined)[] {
    this.#checkReadable();
    // Throws a DisposedError after disposal, even if there are no keys.
    void this.#descriptor.fd;
    const list = listOf(keys, "keys");
    const found = this.#getByProgram(list);
    if (found !== undefined) return found;
    return this.use((element) =>
      list.map((key, index) => {
        this.writeKey(element, key, index);
        return element.lookup(this.#flags) ? this.read(element) : undefined;
      }),
    );
  }

  /** Looks up keys by a program in the kernel if that is possible and faster. Returns `undefined` otherwise. */
  #getByProgram(keys: readonly K[]): (V | undefined)[] | undefined {
    const { value, isReadByPrograms } = this.layout;
    if (
      isReadByPrograms !== true ||
      this.#valueSize > maxProgramValueSize ||
      keys.length < minKeysPerRun ||
      this.#manyLookups?.isUsable === false ||
      (this.#requestedKeys += keys.length) < minKeysForProgram
    ) {
      return undefined;
    }
    this.#manyLookups ??= new ManyLookups(this.#handle, this.#valueSize);
    // A program can read a map that this descriptor may not read. For such a map, this look-up throws the error.
    this.has(keys[0] as K);
    return this.#manyLookups.get(
      keys,
      (view, offset, key, index) => this.#writeKeyTo(view, offset, key, index),
      value,
    );
  }

  /** Stores many values. All pairs are checked before the first is stored. */
  setMany(pairs: Iterable<readonly [key: K, value: W]>): void {
    // Throws a DisposedError after disposal, even if there are no pairs.
    void this.#descriptor.fd;
    // listOf() returns a copy: encoding runs the user's code, which may change the array after memory was allocated for it.
    const list = listOf(pairs, "pairs");
    if (list.length === 0) return;
    using batch = this.newBatch(list.length);
    list.forEach((pair: unknown, index) => {
      if (!Array.isArray(pair) || pair.length !== 2) {
        throw new TypeError(
          `pair ${index} for ${this}: expected [key, value], got ${describe(pair)}`,
        );
      }
      this.#writeKeyTo(batch.view, batch.keyOffset(index), pair[0] as K, index);
      this.write(
        "value",
        this.layout.value,
        batch.view,
        batch.valueOffset(index),
        pair[1] as W,
        index,
      );
    });
    let applied = 0;
    try {
      if (batch.update(0, list.length, this.#flags) !== "unsupported") return;
      for (; applied < list.length; applied++) {
        this.#storeFrom(batch, applied, (element) => element.update(this.#flags));
      }
    } catch (error) {
      // `applied` is 0 if the batch failed, and `batch.count` is 0 otherwise.
      throw batchError(error, applied + batch.count, list.length, `store values in ${this}`);
    }
  }

  /** Deletes many keys. Returns the number of keys that were present. */
  deleteMany(keys: Iterable<K>): number {
    // Throws a DisposedError after disposal, even if there are no keys.
    void this.#descriptor.fd;
    const list = listOf(keys, "keys");
    using batch = this.newBatch(list.length);
    list.forEach((key, index) => {
      this.#writeKeyTo(batch.view, batch.keyOffset(index), key, index);
    });
    const isRaw = this.#rawKeys?.isUsed === true;
    return this.use((element) =>
      deleteBatch(
        batch,
        list.length,
        `${this}`,
        (index) => {
          // Equal keys can stand for several entries. The entries that were deleted before determine which one a key stands
          // for.
          if (isRaw) this.writeKey(element, list[index] as K);
          else element.setKey(batch.keyBytes(index));
          return element.delete();
        },
        isRaw,
      ),
    );
  }

  /** Allocates memory for `capacity` keys and values. */
  newBatch(capacity: number): MapBatch {
    const { descriptor, keySize, valueSize, what, kind } = this.walked;
    return new MapBatch(descriptor, keySize, valueSize, capacity, what, kind);
  }

  /** Stores a taken entry again, unless the key has a newer value. */
  restore(batch: MapBatch, index: number): void {
    this.#storeFrom(batch, index, (element) => this.#storeAgain(element));
  }

  #storeFrom(batch: MapBatch, index: number, store: (element: MapElement) => unknown): void {
    this.use((element) => {
      element.setKey(batch.keyBytes(index));
      element.setValue(batch.valueBytes(index));
      store(element);
    });
  }

  /** Begins a walk over all elements, by the walk class of the map type. */
  walk(): Walk {
    this.#checkReadable();
    // Classes of map types without a walk class have no methods that call this.
    return new (this.#handle.row.entries as typeof BatchWalk)(this.walked);
  }

  /**
   * Description of the map for walks.
   *
   * @throws {DisposedError} after disposal.
   */
  get walked(): WalkedMap {
    // Throws a DisposedError after disposal, before memory is allocated.
    void this.#descriptor.fd;
    return {
      descriptor: this.#descriptor,
      keySize: this.#keySize,
      valueSize: this.#valueSize,
      maxEntries: this.#handle.info.maxEntries,
      flags: this.#flags,
      what: `${this}`,
      kind: this.layout,
    };
  }

  /** Returns the flags of a call with options. */
  #flagsOf(options: ElementOptions): number {
    checkOptions("options", options, ["lock", "flags"]);
    const { lock, flags = 0 } = options;
    if (lock !== undefined) checkBoolean("lock", lock);
    checkCount("flags", flags, 0, 0xffffffff);
    if ((flags & (BPF_NOEXIST | BPF_EXIST)) !== 0) {
      throw new RangeError(
        "flags: call add() instead of passing BPF_NOEXIST, and replace() instead of BPF_EXIST",
      );
    }
    return flags | (lock === undefined ? this.#flags : lock ? BPF_F_LOCK : 0);
  }

  /**
   * Calls a function with the memory for one element.
   *
   * Types and getters of values are the user's code: they may use this map, or dispose of it, while a key or a value is
   * encoded or decoded. Such a nested call gets separate memory.
   */
  use<T>(call: (element: MapElement) => T): T {
    const element = this.#acquire();
    try {
      return call(element);
    } finally {
      this.#release(element);
    }
  }

  /**
   * Takes the memory for a call until {@link #release}. This method replaces {@link use} in calls that must not allocate a
   * closure.
   */
  #acquire(): MapElement {
    const element = this.#element ?? this.#newElement();
    this.#element = undefined;
    return element;
  }

  /** Returns the memory of a call. */
  #release(element: MapElement): void {
    if (this.#element === undefined && !this.#descriptor.disposed) this.#element = element;
    else element[Symbol.dispose]();
  }

  /**
   * Encodes the key of a call.
   *
   * @throws {DisposedError} if the key type's code disposed of the map.
   */
  writeKey(element: MapElement, key: K, index?: number): void {
    if (this.#rawKeys?.writeRawKey(element, key) !== true) {
      try {
        this.layout.key.write(element.view, elementKeyOffset, key);
      } catch (error) {
        throw this.#addContext(error, "key", index);
      }
    }
    void this.#descriptor.fd;
  }

  /**
   * Encodes one of many keys into memory outside of an element.
   *
   * @throws {DisposedError} if the key type's code disposed of the map.
   */
  #writeKeyTo(view: DataView, offset: number, key: K, index: number): void {
    if (this.#rawKeys?.isUsed === true) {
      this.use((element) => {
        this.writeKey(element, key, index);
        element.copyKeyTo(bytesAt(view, offset, this.#keySize), 0);
      });
    } else this.write("key", this.layout.key, view, offset, key, index);
    void this.#descriptor.fd;
  }

  /**
   * Encodes a key or value. Adds its role and the map to the message of an error.
   *
   * @param role `"key"` or `"value"`
   * @param index index among many, from 0
   */
  write<T>(
    role: string,
    type: Pick<ValueLayout<unknown, T>, "write">,
    view: DataView,
    offset: number,
    value: T,
    index?: number,
  ): void {
    try {
      type.write(view, offset, value);
    } catch (error) {
      throw this.#addContext(error, role, index);
    }
  }

  #addContext(error: unknown, role: string, index: number | undefined): unknown {
    return withContext(error, `${index === undefined ? role : `${role} ${index}`} of ${this}`);
  }

  #checkReadable(): void {
    const { unreadable } = this.layout;
    if (unreadable === undefined) return;
    // A DisposedError takes precedence.
    void this.#descriptor.fd;
    throw new TypeError(`${this} cannot be read: ${unreadable}`);
  }

  #newElement(): MapElement {
    const { fd, what } = this.#descriptor;
    return new MapElement(fd, this.#keySize, this.#valueSize, what, this.layout);
  }

  [Symbol.dispose](): void {
    this.#element?.[Symbol.dispose]();
    this.#element = undefined;
    this.#manyLookups?.[Symbol.dispose]();
  }
}

/** Array for which {@link checkIndex} checks indexes. */
interface Indexed {
  readonly length: number;
  /** Throws a DisposedError after disposal. */
  readonly fd: number;
}

/**
 * Checks that an index is before the end of an array. The key type rejects all values that are not an unsigned integer.
 *
 * @throws {RangeError} if the index is past the end.
 */
export function checkIndex(array: Indexed, index: number): void {
  if (typeof index !== "number" || index < array.length) return;
  // A DisposedError takes precedence.
  void array.fd;
  throw new RangeError(
    `index of ${array}: expected an integer from 0 to ${array.length - 1}, got ${index}`,
  );
}
