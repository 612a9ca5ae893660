/** @module The calls of bpf(2) on the elements of a map, with keys and values as JavaScript has them. */

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

/** The key of maps that have none. */
export const noKey: Type<undefined> = {
  kind: "none",
  name: "none",
  size: 0,
  align: 1,
  read: () => undefined,
  write: () => {},
};

/** Options of a look-up or store of one element. */
export interface ElementOptions {
  /**
   * Copies the value while its spin lock is held, so that it is never half of an update by a program (kernel 5.1).
   *
   * @default true for types with a `t.spinLock`, else false
   */
  readonly lock?: boolean;
  /** More of the kernel's bits (`BPF_F_*`) for the call. @default 0 */
  readonly flags?: number;
}

/**
 * The memory layout of a map's keys and values, and hints for errors of the kernel. A class gives its base the layout of its
 * own types, whose values TypeScript cannot tell: hence `any`.
 */
export interface ElementLayout<K = any, V = any, W = any> extends KindHints {
  readonly key: Type<K>;
  readonly value: ValueLayout<V, W>;
  /** True where values carry a spin lock. */
  readonly isLocked?: boolean;
  /** True where a program reads values just as this process does, and changes nothing by that. */
  readonly isReadByPrograms?: boolean;
  /** The reason why values cannot be read, where that is so. */
  readonly unreadable?: string | undefined;
}

/** Look-ups of fewer keys at once stay single calls: a run of the program costs as much as a few of them. */
const minKeysPerRun = 16;
/** Look-ups of keys until a program is loaded for them, which takes some milliseconds: as much as so many single calls. */
const minKeysForProgram = 4096;
/** Bytes of the largest value that the program copies. */
const maxProgramValueSize = 512;

/**
 * The elements of a map: calls on one of them, on many, and walks. Classes of maps show those that their type has.
 *
 * `V` is what is read, `W` what is written: the same for most types.
 */
export class MapElements<K, V, W = V> implements Disposable {
  readonly layout: ElementLayout<K, V, W>;
  /** The flags of every call whose options say nothing else. */
  readonly #flags: number;
  readonly #handle: MapHandle;
  readonly #descriptor: Descriptor;
  readonly #keySize: number;
  /** Bytes that the kernel copies for a value. They are fixed at creation: a custom type may return another size later. */
  readonly #valueSize: number;
  /** Memory for calls on one element; `undefined` while an operation has it, and after disposal. */
  #element: MapElement | undefined;
  #manyLookups: ManyLookups | undefined;
  /** Keys that were asked for by many at once. */
  #requestedKeys = 0;
  /** Absent where the key's type writes every key as the bytes that it read. */
  readonly #rawKeys: RawKeys<K> | undefined;

  constructor(handle: MapHandle, layout: ElementLayout<K, V, W>) {
    this.#handle = handle;
    this.#descriptor = handle.descriptor;
    this.layout = layout;
    this.#flags = layout.isLocked === true ? BPF_F_LOCK : 0;
    const { keySize, valueSize } = handle.info;
    this.#keySize = keySize;
    try {
      // Types are the user's objects, which may say one thing now and another then: the kernel would write past the room.
      const copied = copiedValueSize(handle.row, valueSize);
      this.#valueSize = copied;
      if (layout.key.size !== keySize || layout.value.size !== copied) {
        throw new TypeError(
          `the types of the ${this} are not those that it was made or opened with: a key of ${layout.key.size} and a value of ${layout.value.size} bytes, not ${keySize} and ${copied}`,
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

  /** The map for messages: `hash map "counts"`. */
  toString(): string {
    return this.#descriptor.what;
  }

  /** Looks a value up; `undefined` where there is none. */
  get(key: K, options?: ElementOptions): V | undefined {
    const { layout } = this;
    if (layout.unreadable !== undefined) this.#checkReadable();
    const flags = options === undefined ? this.#flags : this.#flagsOf(options);
    // As #acquire() does, without its call, here and in set(): test/maps/children/calls_of_get.ts counts them.
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

  /** Returns true where there is a value for the key. */
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

  /** Stores a value, which errors call `stored`; false where the flags forbid it. */
  set(key: K, value: W, flags: number, options?: ElementOptions, storedName?: string): boolean {
    const all = flags | (options === undefined ? this.#flags : this.#flagsOf(options));
    const element = this.#element ?? this.#newElement();
    this.#element = undefined;
    try {
      this.writeKey(element, key);
      this.write("value", this.layout.value, element.view, element.valueOffset, value);
      void this.#descriptor.fd;
      return element.update(all, storedName);
    } finally {
      this.#release(element);
    }
  }

  /** Deletes a key; false where it was absent. */
  delete(key: K): boolean {
    const element = this.#acquire();
    try {
      this.writeKey(element, key);
      return element.delete();
    } finally {
      this.#release(element);
    }
  }

  /** Fetches a value and deletes its key, in one step where map and kernel can. */
  take(key: K): V | undefined {
    const element = this.#acquire();
    try {
      this.writeKey(element, key);
      return this.takeElement(element) ? this.#readTaken(element) : undefined;
    } finally {
      this.#release(element);
    }
  }

  /** Fetches and deletes the values of many keys, one after the other. If one fails, all are stored again. */
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

  /** Takes the entry at `index` of a walk: by its bytes, which its type may write in another way. @throws {DecodeError} */
  takeEntry(walk: Walk, index: number): [key: K, value: V] | undefined {
    const key = this.readKey(walk, index);
    return this.use((element) => {
      element.setKey(walk.keyBytes(index));
      return this.takeElement(element) ? [key, this.#readTaken(element)] : undefined;
    });
  }

  /** Finds the key after another one, by default the first. */
  nextKey(key: K | undefined): K | undefined {
    this.#checkReadable();
    return this.use((element) => {
      if (key !== undefined) this.writeKey(element, key);
      element.seek();
      void this.#descriptor.fd;
      if (!element.nextKey(key === undefined)) return undefined;
      return this.#readKeyAt(element.view, element.nextKeyOffset);
    });
  }

  /** Fetches the value of an element's key and deletes the key; false where it was absent. */
  takeElement(element: MapElement): boolean {
    this.#checkReadable();
    const flags = this.#flags;
    return element.lookupAndDelete(flags) ?? (element.lookup(flags) && element.delete());
  }

  /** Decodes the value that an element has, by default all of it. @throws {DecodeError} */
  read(element: MapElement): V;
  read<T>(element: MapElement, type: Pick<ValueLayout<T>, "read">): T;
  read(element: MapElement, type: Pick<ValueLayout<unknown>, "read"> = this.layout.value): unknown {
    return this.#decode(type, element.view, elementKeyOffset, element.valueOffset);
  }

  /** Decodes the value that was taken with an element's key; if that fails, it is stored again. @throws {DecodeError} */
  #readTaken(element: MapElement): V {
    try {
      return this.read(element);
    } catch (error) {
      this.#storeAgain(element);
      throw error;
    }
  }

  /**
   * Stores a taken entry again, unless there is a newer value. A full map refuses it: the caller then gets the decoding error,
   * which has the bytes. Values without keys are not stored again, as their place in the order is lost.
   */
  #storeAgain(element: MapElement): void {
    void this.#descriptor.fd;
    try {
      if (this.#keySize > 0) element.update(this.#flags | BPF_NOEXIST);
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
    }
  }

  /** Decodes the key at `index` of a chunk. @throws {DecodeError} */
  readKey(chunk: Chunk, index: number): K {
    return this.#readKeyAt(chunk.view, chunk.keyOffset(index));
  }

  /** Decodes a key, and notes its bytes if its type writes other bytes. @throws {DecodeError} */
  #readKeyAt(view: DataView, offset: number): K {
    const key = this.#decode(this.layout.key, view, offset);
    this.#rawKeys?.remember(key, view, offset);
    return key;
  }

  /** Decodes the value at `index` of a chunk. @throws {DecodeError} */
  readValue(chunk: Chunk, index: number): V {
    return this.#decode(
      this.layout.value,
      chunk.view,
      chunk.keyOffset(index),
      chunk.valueOffset(index),
    );
  }

  /** Decodes a key, or its value where the offset of that is given. @throws {DecodeError} */
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

  /** Returns the error for a key, or for a value if its offset is given, that its type cannot decode. */
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

  /** Decodes the entry at `index` of a chunk. @throws {DecodeError} */
  readEntry(chunk: Chunk, index: number): [key: K, value: V] {
    return [this.readKey(chunk, index), this.readValue(chunk, index)];
  }

  /** Looks up the values of these keys, in their order. */
  getMany(keys: Iterable<K>): (V | undefined)[] {
    this.#checkReadable();
    // None may be asked for: a disposed map refuses all the same.
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

  /** Looks up in one call, where that is possible and enough keys were asked for. */
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
    // A program may read what this descriptor may not: it is asked first, for its error.
    this.has(keys[0] as K);
    return this.#manyLookups.get(
      keys,
      (view, offset, key, index) => this.#writeKeyTo(view, offset, key, index),
      value,
    );
  }

  /** Stores many values: all pairs are checked before the first is stored. */
  setMany(pairs: Iterable<readonly [key: K, value: W]>): void {
    void this.#descriptor.fd;
    // A copy: the caller's own array may change while its values are encoded, and the memory is for so many.
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
      // One of the two is 0.
      throw batchError(error, applied + batch.count, list.length, `store values in ${this}`);
    }
  }

  /** Deletes many keys. Returns how many were there. */
  deleteMany(keys: Iterable<K>): number {
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
          // Equal keys can stand for several entries: the entry of one is known only after those before are deleted.
          if (isRaw) this.writeKey(element, list[index] as K);
          else element.setKey(batch.keyBytes(index));
          return element.delete();
        },
        isRaw,
      ),
    );
  }

  /** Allocates room for so many keys and values. */
  newBatch(capacity: number): MapBatch {
    const { descriptor, keySize, valueSize, what, kind } = this.walked;
    return new MapBatch(descriptor, keySize, valueSize, capacity, what, kind);
  }

  /** Stores an entry that was fetched and deleted again, where no newer value has come. */
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

  /** Begins a walk over all elements, in the order of the map's type. */
  walk(): Walk {
    this.#checkReadable();
    // Maps of types without one have no methods that come here.
    return new (this.#handle.row.entries as typeof BatchWalk)(this.walked);
  }

  /** The map as walks see it. @throws {DisposedError} after disposal */
  get walked(): WalkedMap {
    // Asking for the number refuses a disposed map here, before memory is taken.
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

  /** The flags of a call with options. */
  #flagsOf(options: ElementOptions): number {
    checkOptions("options", options, ["lock", "flags"]);
    const { lock, flags = 0 } = options;
    if (lock !== undefined) checkBoolean("lock", lock);
    checkCount("flags", flags, 0, 0xffffffff);
    if ((flags & (BPF_NOEXIST | BPF_EXIST)) !== 0) {
      throw new RangeError(
        "flags: BPF_NOEXIST is what add() is for, BPF_EXIST what replace() is for",
      );
    }
    return flags | (lock === undefined ? this.#flags : lock ? BPF_F_LOCK : 0);
  }

  /**
   * Lends the memory for a call.
   *
   * Types and getters of values are the user's code and may use this very map, or dispose of it, while a key or a value
   * is being written or read: such a call gets memory of its own.
   */
  use<T>(call: (element: MapElement) => T): T {
    const element = this.#acquire();
    try {
      return call(element);
    } finally {
      this.#release(element);
    }
  }

  /** Takes the memory for a call, until {@link #release}: as {@link use}, for the calls that leave no garbage. */
  #acquire(): MapElement {
    const element = this.#element ?? this.#newElement();
    this.#element = undefined;
    return element;
  }

  /** Gives the memory of a call back. */
  #release(element: MapElement): void {
    if (this.#element === undefined && !this.#descriptor.disposed) this.#element = element;
    else element[Symbol.dispose]();
  }

  /** Writes the key of a call. @throws {DisposedError} when that disposed of the map */
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

  /** Writes one of many keys to memory outside of an element. @throws {DisposedError} when that disposed of the map */
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
   * Writes a part of a call: the type does not know what it describes, the message should.
   *
   * @param index of many, from 0
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

/** An array, as far as its indexes go. */
interface Indexed {
  readonly length: number;
  /** Throws when the array is disposed of. */
  readonly fd: number;
}

/**
 * Checks that an array has an index. Values that are not an index of any array are refused by the key's type.
 *
 * @throws {RangeError} for one past the end
 */
export function checkIndex(array: Indexed, index: number): void {
  if (typeof index !== "number" || index < array.length) return;
  void array.fd;
  throw new RangeError(
    `index of ${array}: expected an integer from 0 to ${array.length - 1}, got ${index}`,
  );
}
