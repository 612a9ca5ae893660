import { describe } from "../check/describe.ts";
import type { KindHints } from "../ffi/bpf_map.ts";
import { MapBatch } from "../ffi/bpf_map_batch.ts";
import { MapElement } from "../ffi/bpf_map_element.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { mapScratch } from "../ffi/mapped_memory.ts";
import { LITTLE_ENDIAN } from "../types/memory.ts";

/**
 * Error of a call on many entries if the kernel rejects an entry after it has applied the first `applied` entries. `code`,
 * `errno` and `hint` are those of the rejected entry.
 *
 * @example
 * ```ts
 * import { BatchError, HashMap, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 2 });
 * try {
 *   map.setMany([[1, 1], [2, 2], [3, 3]]);
 * } catch (error) {
 *   if (error instanceof BatchError) console.log(error.applied); // 2
 * }
 * ```
 */
export class BatchError extends BpfError {
  /** The name of the class. */
  override readonly name = "BatchError";
  /** Number of keys or entries that were applied, counted from the first. */
  readonly applied: number;

  /** @internal */
  constructor(cause: BpfError, applied: number, total: number, doing: string) {
    super({ ...cause, doing: `${doing} (${applied} of ${total} were applied)` });
    this.applied = applied;
  }
}

/**
 * Returns the error for a call on many entries that failed after `applied` of them: a {@link BatchError} if the kernel
 * rejected one.
 */
export function batchError(cause: unknown, applied: number, total: number, doing: string): unknown {
  return cause instanceof BpfError ? new BatchError(cause, applied, total, doing) : cause;
}

/** Bytes of an entry that could not be decoded. */
export interface RawEntry {
  /** Bytes of the key. */
  readonly key: Uint8Array;
  /** Bytes of the value. `undefined` if it was the key that could not be decoded. */
  readonly value: Uint8Array | undefined;
}

/**
 * Error of a key or value that its type cannot decode, because a `t.custom` throws. An iteration returns all other entries
 * first, and throws this error at its end. The message and `cause` (the type's own error) are those of the first such entry.
 *
 * No data is lost: an entry that was taken is stored again. If that is impossible (the key has a newer value, the map is
 * full, or it is a queue or stack), only this error has its bytes.
 *
 * `clear()` and `count()` decode nothing. A map that is opened with `t.bytes(n)` as its types, where `n` is `keySize` or
 * `valueSize`, can read, store and delete all entries: `HashMap.fromFd(map.fd, { key: t.bytes(8), value: t.bytes(4) })`.
 *
 * @example
 * ```ts
 * import { DecodeError, HashMap, t } from "bun-bpf";
 * const Letter = t.custom<"a" | "b">({
 *   size: 1,
 *   read(view, offset) {
 *     const code = view.getUint8(offset);
 *     if (code > 1) throw new RangeError(`${code} is not a letter`);
 *     return code === 0 ? "a" : "b";
 *   },
 *   write: (view, offset, letter) => view.setUint8(offset, letter === "a" ? 0 : 1),
 * });
 * using raw = new HashMap({ key: t.u8, value: t.u32, maxEntries: 4 });
 * using map = HashMap.fromFd(raw.set(0, 10).set(7, 11).fd, { key: Letter, value: t.u32 });
 * try {
 *   for (const [letter, value] of map) console.log(letter, value); // a 10
 * } catch (error) {
 *   if (error instanceof DecodeError) console.log(error.entries[0]?.key); // Uint8Array(1) [ 7 ]
 * }
 * ```
 */
export class DecodeError extends Error {
  /** The name of the class. */
  override readonly name = "DecodeError";
  /** Entries that could not be decoded, at most the first 1000. */
  readonly entries: RawEntry[];
  /** Number of entries that could not be decoded. */
  readonly count: number = 1;

  /** @internal */
  constructor(what: string, cause: unknown, entry: RawEntry) {
    const hex = (bytes: Uint8Array) => `0x${bytes.slice(0, 64).toHex()}`;
    const reason = cause instanceof Error ? cause.message : describe(cause);
    super(
      `cannot decode the entry of ${what} with key ${hex(entry.key)}${entry.value ? `, value ${hex(entry.value)}` : ""}: ${reason}: open the map with t.bytes(n) as key and value to read it`,
      { cause },
    );
    this.entries = [entry];
  }
}

/** Adds a decoding error to the one that a walk throws at its end. Rethrows any other error. */
export function collectDecodeError(first: DecodeError | undefined, error: unknown): DecodeError {
  if (!(error instanceof DecodeError)) throw error;
  if (first === undefined) return error;
  if ((first as { count: number }).count++ < 1000) first.entries.push(...error.entries);
  return first;
}

/**
 * Deletes the first `count` keys of a batch. Returns the number of keys that were present.
 *
 * @param deleteOne deletes the key at an index by a single call and returns false if it is absent; required for maps that
 *   may lack batches
 * @param isKeyByKey true to delete all keys by `deleteOne`
 * @throws {BatchError} if the kernel rejects a key. `applied` is the number of keys processed before, including absent
 *   ones.
 */
export function deleteBatch(
  batch: MapBatch,
  count: number,
  what: string,
  deleteOne?: (index: number) => boolean,
  isKeyByKey = false,
): number {
  let deleted = 0;
  let done = 0;
  try {
    while (done < count) {
      if (isKeyByKey && deleteOne !== undefined) {
        if (deleteOne(done)) deleted++;
        done++;
        continue;
      }
      const result = batch.delete(done, count - done);
      isKeyByKey = result === "unsupported";
      deleted += batch.count;
      // The kernel stopped at an absent key, so the loop continues after that key.
      done += batch.count + (result === "more" ? 1 : 0);
      batch.count = 0;
    }
    return deleted;
  } catch (error) {
    throw batchError(error, done + batch.count, count, `delete keys of ${what}`);
  }
}

/** Largest number of remembered keys. A walk starts again from the first key only if all of them are deleted while it pauses. */
const maxVisitedKeys = 4096;
const maxVisitedBytes = 256 * 1024;

/**
 * Last keys that a walk visited. If the current key is deleted, the walk resumes after the newest of them that is still in
 * the map.
 *
 * For a key that is no longer in the map, BPF_MAP_GET_NEXT_KEY returns the first key of the map.
 */
class VisitedKeys {
  readonly #keySize: number;
  readonly #capacity: number;
  /** Ring of keys: the newest is before `#next`. Allocated at the first key. */
  #keys: Uint8Array | undefined;
  #next = 0;
  #count = 0;

  constructor(keySize: number) {
    this.#keySize = keySize;
    this.#capacity = Math.max(1, Math.min(maxVisitedKeys, Math.floor(maxVisitedBytes / keySize)));
  }

  /** Adds the key of an element. */
  push(element: MapElement): void {
    this.#keys ??= new Uint8Array(this.#capacity * this.#keySize);
    element.copyKeyTo(this.#keys, this.#next * this.#keySize);
    this.#next = (this.#next + 1) % this.#capacity;
    this.#count = Math.min(this.#count + 1, this.#capacity);
  }

  /**
   * Moves an element to the key after the newest visited key that is still in the map; all keys between were visited.
   * Returns false at the end.
   */
  resumeAfterDeleted(element: MapElement): boolean {
    for (let age = 1; age <= this.#count; age++) {
      const index = (this.#next - age + this.#capacity) % this.#capacity;
      const offset = index * this.#keySize;
      element.setKey((this.#keys as Uint8Array).subarray(offset, offset + this.#keySize));
      element.seek();
      const hasNextKey = element.nextKey(false);
      // The next key is right only if this key is still present after that call.
      if (element.lookup(0)) return hasNextKey;
    }
    return element.nextKey(true);
  }
}

/** Largest size of a batch, unless one entry or one bucket of the map needs more. */
const maxBatchBytes = 256 * 1024;
/** Number of entries in the first batch: see {@link growLimit}. */
const firstBatchLimit = 64;

/** Map that a walk reads, and the sizes in which the kernel copies its keys and values. */
export interface WalkedMap {
  readonly descriptor: Descriptor;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Flags of each look-up. */
  readonly flags: number;
  /** Name of the map for messages. */
  readonly what: string;
  /** Hints of the map class for errors. */
  readonly kind: KindHints;
}

/** Entries in memory. */
export interface Chunk {
  readonly view: DataView;
  keyOffset(index: number): number;
  valueOffset(index: number): number;
}

/**
 * Iteration over the entries of a map in chunks.
 *
 * After `next()` has returned true, the entries 0 to `count - 1` are at `keyOffset(i)` and `valueOffset(i)` of `view`,
 * until the next call.
 */
export interface Walk extends Chunk, Disposable {
  readonly count: number;
  /** Returns the bytes of the key at `index`. */
  keyBytes(index: number): Uint8Array;
  /**
   * Returns true if the chunk has an entry at `index`.
   *
   * @throws {DisposedError} after the map was disposed of.
   */
  has(index: number): boolean;
  /** Fetches the next chunk, which may be empty. Returns false at the end. */
  next(): boolean;
  /** Deletes the entries of the chunk that are still in the map. */
  deleteChunk(): void;
}

/** Iterates over all entries and yields the result of `read` for each. Throws decoding errors at the end. */
export function* decodeWalk<T>(
  begin: () => Walk,
  read: (walk: Walk, index: number) => T,
): Generator<T, undefined, undefined> {
  using walk = begin();
  let errors: DecodeError | undefined;
  while (walk.next()) {
    for (let i = 0; walk.has(i); i++) {
      let item: T;
      try {
        item = read(walk, i);
      } catch (error) {
        errors = collectDecodeError(errors, error);
        continue;
      }
      yield item;
    }
  }
  if (errors !== undefined) throw errors;
}

/** Yields items in arrays of `max`. Yields the items before an error, and then throws it. */
export function* inBatches<T>(
  items: Iterable<T>,
  max: number,
): Generator<T[], undefined, undefined> {
  let batch: T[] = [];
  let failure: readonly unknown[] = [];
  try {
    for (const item of items) {
      if (batch.push(item) < max) continue;
      const full = batch;
      batch = [];
      yield full;
    }
  } catch (error) {
    failure = [error];
  }
  if (batch.length > 0) yield batch;
  if (failure.length > 0) throw failure[0];
}

/** Increases the size of the next chunk. Chunks start small because most maps are small and many iterations end early. */
function growLimit(batch: MapBatch): void {
  if (batch.count > 0) batch.limit = Math.min(batch.capacity, batch.limit * 4);
}

/**
 * Walk in batches, for map types that have them on every kernel.
 *
 * If a generator is abandoned before its end, it does not dispose of its walk: the memory is then garbage-collected.
 */
export class BatchWalk extends MapBatch implements Walk {
  /** True to throw the kernel's error for a map without batches, such as one that is offloaded to a network device. */
  override isRequired = true;
  protected readonly map: WalkedMap;
  protected isEnded = false;

  constructor(map: WalkedMap) {
    const { descriptor, keySize, valueSize, maxEntries, what } = map;
    const fitting = Math.floor(maxBatchBytes / (keySize + valueSize));
    const largest = Math.max(1, Math.min(maxEntries, fitting));
    // Omits the hints about keys, because the user did not choose the keys of a walk.
    super(descriptor, keySize, valueSize, largest, what);
    this.map = map;
    this.limit = Math.min(largest, firstBatchLimit);
  }

  has(index: number): boolean {
    void this.map.descriptor.fd;
    return index < this.count;
  }

  /** Fetches the next batch. Returns false at the end, and if the map has no batches. */
  next(): boolean {
    if (this.isEnded) return false;
    growLimit(this);
    const result = this.lookup(this.map.flags);
    this.isEnded = result === "end";
    return result !== "unsupported";
  }

  deleteChunk(): void {
    const { count } = this;
    deleteBatch(this, count, this.map.what);
    this.count = count;
  }
}

/** Walk that can look up single elements, for maps without batches. */
abstract class ElementWalk extends BatchWalk {
  override isRequired = false;
  protected element: MapElement | undefined;

  /** Deletes the entries of the chunk, one by one if the map has no batches. */
  override deleteChunk(): void {
    const { count } = this;
    const { descriptor, keySize, valueSize, what, kind } = this.map;
    using element = new MapElement(descriptor.fd, keySize, valueSize, what, kind);
    deleteBatch(this, count, what, (index) => {
      element.setKey(this.keyBytes(index));
      return element.delete();
    });
    this.count = count;
  }

  /** Allocates the element. */
  protected newElement(): MapElement {
    const { descriptor, keySize, valueSize, what } = this.map;
    return new MapElement(descriptor.fd, keySize, valueSize, what, {}, mapScratch);
  }

  override [Symbol.dispose](): void {
    this.element?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

/** Walk in batches if the kernel has them for the map, else key by key. */
export class MapWalk extends ElementWalk {
  /** True if the element holds a key that was not visited yet. */
  #hasNextKey = false;
  #steps = 0;
  #visited: VisitedKeys | undefined;

  override next(): boolean {
    if (this.isEnded) return false;
    if (this.#visited === undefined && super.next()) return true;
    const { descriptor, keySize, maxEntries, flags } = this.map;
    // Throws a DisposedError if the map was disposed of since the last chunk.
    void descriptor.fd;
    if (this.element === undefined) {
      this.element = this.newElement();
      this.#hasNextKey = this.element.nextKey(true);
    }
    const { element, bytes, limit } = this;
    this.#visited ??= new VisitedKeys(keySize);
    // Programs and other processes may add keys as fast as the walk visits them: this limit ends the walk.
    const maxSteps = 2 * maxEntries;
    let count = 0;
    while (this.#hasNextKey && count < limit && this.#steps < maxSteps) {
      this.#steps++;
      element.useNextKey();
      const hasNextKey = element.nextKey(false);
      // Gets the next key before the look-up. For a deleted key the kernel returns the first key of the map, so the next key
      // is right only if this key is still present after that call.
      if (element.lookup(flags)) {
        element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
        count++;
        this.#visited.push(element);
        this.#hasNextKey = hasNextKey;
      } else {
        this.#hasNextKey = this.#visited.resumeAfterDeleted(element);
      }
    }
    this.isEnded = !this.#hasNextKey || this.#steps >= maxSteps;
    this.count = count;
    return true;
  }
}

/**
 * Walk over an array with empty slots: a look-up for each index.
 *
 * BPF_MAP_GET_NEXT_KEY returns empty slots too, and the kernel's batches of such arrays stop at them.
 */
export class IndexWalk extends ElementWalk {
  #index = 0;

  override next(): boolean {
    const { descriptor, maxEntries, flags } = this.map;
    // Throws a DisposedError if the map was disposed of since the last chunk.
    void descriptor.fd;
    if (this.#index >= maxEntries) return false;
    growLimit(this);
    this.element ??= this.newElement();
    const { element, bytes, limit } = this;
    let count = 0;
    for (; this.#index < maxEntries && count < limit; this.#index++) {
      element.setIndex(this.#index);
      if (!element.lookup(flags)) continue;
      element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
      count++;
    }
    this.count = count;
    return true;
  }
}

/** Bytes of the prefix length, before the address. */
const prefixBytes = 4;

/**
 * Walk over an LPM trie, in batches (Linux 5.13) or key by key.
 *
 * The kernel continues after the last key, but starts again from the first key if the last key was deleted. A look-up does
 * not reveal the deletion, because a shorter prefix matches too. But the order of keys is fixed: longer prefixes before
 * those that cover them, and 0 bits before 1 bits (`trie_get_next_key` in kernel/bpf/lpm_trie.c, since 4.16). Therefore the
 * walk skips all keys that are not after the last visited key.
 */
export class TrieWalk extends ElementWalk {
  #hasNextKey = false;
  /** Key that was visited last. */
  readonly #last: Uint8Array;
  #hasLast = false;
  #visited = 0;
  /** Entries skipped since the last new one. */
  #skipped = 0;

  constructor(map: WalkedMap) {
    super(map);
    this.#last = new Uint8Array(map.keySize);
  }

  override next(): boolean {
    if (this.isEnded) return false;
    if (this.element !== undefined || !super.next()) this.#fillByKeys();
    this.#skipVisited();
    return true;
  }

  /** Removes the entries from the chunk that are not after all visited ones. The kernel can start again within a chunk too. */
  #skipVisited(): void {
    const { bytes, count } = this;
    let kept = 0;
    for (let index = 0; index < count; index++) {
      const order =
        kept > 0
          ? comparePrefixes(bytes, bytes, this.keyOffset(index), this.keyOffset(kept - 1))
          : comparePrefixes(bytes, this.#last, this.keyOffset(index), 0);
      if (order <= 0 && (kept > 0 || this.#hasLast)) continue;
      if (kept < index) this.#move(index, kept);
      kept++;
    }
    if (kept > 0) {
      this.#last.set(this.keyBytes(kept - 1));
      this.#hasLast = true;
    }
    this.count = kept;
    // Programs and other processes may delete and add keys as fast as the walk visits them: these limits end the walk.
    this.#visited += kept;
    this.#skipped = kept > 0 ? 0 : this.#skipped + count;
    const { maxEntries } = this.map;
    if (this.#visited >= 2 * maxEntries || this.#skipped > 4 * maxEntries) this.isEnded = true;
  }

  #move(from: number, to: number): void {
    const { bytes } = this;
    bytes.copyWithin(this.keyOffset(to), this.keyOffset(from), this.keyOffset(from + 1));
    bytes.copyWithin(this.valueOffset(to), this.valueOffset(from), this.valueOffset(from + 1));
  }

  #fillByKeys(): void {
    const { descriptor, flags } = this.map;
    // Throws a DisposedError if the map was disposed of since the last chunk.
    void descriptor.fd;
    if (this.element === undefined) {
      this.element = this.newElement();
      this.#hasNextKey = this.element.nextKey(true);
    }
    const { element, bytes, limit } = this;
    let count = 0;
    // Limits the steps and not only the entries: every key can be deleted before its look-up.
    for (let steps = 0; this.#hasNextKey && steps < limit; steps++) {
      element.useNextKey();
      if (element.lookup(flags)) {
        element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
        count++;
      }
      this.#hasNextKey = element.nextKey(false);
    }
    if (!this.#hasNextKey) this.isEnded = true;
    this.count = count;
  }
}

/** Compares two keys in the kernel's order. Returns a negative number if `a` is first, and 0 if the prefixes are equal. */
export function comparePrefixes(
  a: Uint8Array,
  b: Uint8Array,
  offsetOfA = 0,
  offsetOfB = 0,
): number {
  const lengthOfA = prefixLength(a, offsetOfA);
  const lengthOfB = prefixLength(b, offsetOfB);
  const shared = Math.min(lengthOfA, lengthOfB);
  for (let bit = 0; bit < shared; bit += 8) {
    const index = prefixBytes + bit / 8;
    // Ignores the bits after the shorter prefix.
    const mask = shared - bit >= 8 ? 0xff : (0xff00 >> (shared - bit)) & 0xff;
    const byteOfA = (a[offsetOfA + index] as number) & mask;
    const byteOfB = (b[offsetOfB + index] as number) & mask;
    if (byteOfA !== byteOfB) return byteOfA - byteOfB;
  }
  return lengthOfB - lengthOfA;
}

/** Returns the prefix length of a key, a `u32` of at most 2048: its two low bytes are enough. */
function prefixLength(key: Uint8Array, offset: number): number {
  const low = LITTLE_ENDIAN ? offset : offset + 3;
  const high = LITTLE_ENDIAN ? offset + 1 : offset + 2;
  return (key[low] as number) + (key[high] as number) * 256;
}
