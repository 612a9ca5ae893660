import { describe } from "../check/describe.ts";
import type { KindHints } from "../ffi/bpf_map.ts";
import { MapBatch } from "../ffi/bpf_map_batch.ts";
import { MapElement } from "../ffi/bpf_map_element.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { mapScratch } from "../ffi/mapped_memory.ts";
import { LITTLE_ENDIAN } from "../types/memory.ts";

/**
 * A refusal in the midst of many: the map has the first `applied` of them.
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
  override readonly name = "BatchError";
  /** The number of those that were applied, counted from the first one given. */
  readonly applied: number;

  /** @internal */
  constructor(cause: BpfError, applied: number, total: number, doing: string) {
    super({ ...cause, doing: `${doing} (${applied} of ${total} were applied)` });
    this.applied = applied;
  }
}

/** The error for what stopped many when `applied` of them were done: a {@link BatchError} where the kernel refused. */
export function batchError(cause: unknown, applied: number, total: number, doing: string): unknown {
  return cause instanceof BpfError ? new BatchError(cause, applied, total, doing) : cause;
}

/** The bytes of an entry. */
export interface RawEntry {
  readonly key: Uint8Array;
  /** `undefined` where the key could not be decoded. */
  readonly value: Uint8Array | undefined;
}

/**
 * The error of a key or value that its type cannot decode, because a `t.custom` throws. A walk returns all other entries first and
 * throws this at its end. The message and `cause` (the type's own error) are those of the first such entry.
 *
 * No data is lost: an entry that was taken is stored again. If that is impossible (there is a newer value, the map is full, or it
 * is a queue or stack), only this error has its bytes.
 *
 * `clear()` and `count()` decode nothing. A map that is opened with `t.bytes(n)` as its types, where `n` is `keySize` or
 * `valueSize`, reads, stores and deletes all entries: `HashMap.fromFd(map.fd, { key: t.bytes(8), value: t.bytes(4) })`.
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
  override readonly name = "DecodeError";
  /** The entries that could not be decoded, at most the first 1000. */
  readonly entries: RawEntry[];
  /** The number of entries that could not be decoded. */
  readonly count: number = 1;

  /** @internal */
  constructor(what: string, cause: unknown, entry: RawEntry) {
    const hex = (bytes?: Uint8Array) => bytes && `0x${bytes.slice(0, 64).toHex()}`;
    const reason = cause instanceof Error ? cause.message : describe(cause);
    super(
      `cannot decode the entry of ${what} with key ${hex(entry.key)}, value ${hex(entry.value)}: ${reason}: open the map with t.bytes(n) as key and value to read it`,
      { cause },
    );
    this.entries = [entry];
  }
}

/** Adds a decoding error to that of a walk, which is thrown at its end. Throws any other error. */
export function collectDecodeError(first: DecodeError | undefined, error: unknown): DecodeError {
  if (!(error instanceof DecodeError)) throw error;
  if (first === undefined) return error;
  if ((first as { count: number }).count++ < 1000) first.entries.push(...error.entries);
  return first;
}

/**
 * Deletes the first `count` keys of a batch; absent ones do not matter. Returns how many were there.
 *
 * @param deleteOne deletes a key by a call of its own, where the batch may say that it cannot; false where it is absent
 * @param isKeyByKey true to delete all of them like this
 * @throws {BatchError} when the kernel refuses one; it says how many keys are done, the absent ones included
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
      // It stopped at an absent key: go on after that.
      done += batch.count + (result === "more" ? 1 : 0);
      batch.count = 0;
    }
    return deleted;
  } catch (error) {
    throw batchError(error, done + batch.count, count, `delete keys of ${what}`);
  }
}

/** The number of keys that are kept: a walk only begins anew when so many in a row are deleted while it stands still. */
const maxVisitedKeys = 4096;
const maxVisitedBytes = 256 * 1024;

/**
 * The keys that a walk by keys visited last, to go on from when the one that it stands at is deleted.
 *
 * The kernel's answer to "what comes after this key" is the first key of the map, when the key is not there any more.
 */
class VisitedKeys {
  readonly #keySize: number;
  readonly #capacity: number;
  /** A ring: the newest key is before `#next`. Allocated at the first key. */
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

  /** Finds the key after the newest one that is still in the map; all between the two were visited. False at the end. */
  resumeAfterDeleted(element: MapElement): boolean {
    for (let age = 1; age <= this.#count; age++) {
      const index = (this.#next - age + this.#capacity) % this.#capacity;
      const offset = index * this.#keySize;
      element.setKey((this.#keys as Uint8Array).subarray(offset, offset + this.#keySize));
      element.seek();
      const hasNextKey = element.nextKey(false);
      // In this order: the answer is right for a key that is still there after it.
      if (element.lookup(0)) return hasNextKey;
    }
    return element.nextKey(true);
  }
}

/** Memory that a walk takes at most, unless one bucket of the map holds more. */
const maxBatchBytes = 256 * 1024;
const firstBatchLimit = 64;

/** The map that is walked, and the sizes in which the kernel copies its keys and values. */
export interface WalkedMap {
  readonly descriptor: Descriptor;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** The flags of each look-up. */
  readonly flags: number;
  readonly what: string;
  readonly kind: KindHints;
}

/** Entries in memory. */
export interface Chunk {
  readonly view: DataView;
  keyOffset(index: number): number;
  valueOffset(index: number): number;
}

/**
 * A walk over a map in chunks.
 *
 * After `next()` has returned true, entries 0 to `count - 1` lie at `keyOffset(i)` and `valueOffset(i)` of `view`, until
 * the next call.
 */
export interface Walk extends Chunk, Disposable {
  readonly count: number;
  /** The bytes of key `index`. */
  keyBytes(index: number): Uint8Array;
  /** Returns true where the chunk has an entry `index`. @throws {DisposedError} once the map is disposed of */
  has(index: number): boolean;
  /** Fetches the next chunk, which may be empty; false when there is none. */
  next(): boolean;
  /** Deletes the entries of the chunk that are still there. */
  deleteChunk(): void;
}

/** Walks over all entries and yields the result of `read` for each. Decoding errors are thrown at the end. */
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

/** Yields items in arrays of `max`; items before an error are yielded before it is thrown. */
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

/** Asks for more at a time once a chunk was of use: most maps are small, and many a walk is left early. */
function growLimit(batch: MapBatch): void {
  if (batch.count > 0) batch.limit = Math.min(batch.capacity, batch.limit * 4);
}

/**
 * A walk in batches, for types that have them on every kernel.
 *
 * A generator that is dropped unfinished never disposes of it: its memory is collected then.
 */
export class BatchWalk extends MapBatch implements Walk {
  /** A map without batches, as one whose elements are in a network device, is refused with the kernel's error. */
  override isRequired = true;
  protected readonly map: WalkedMap;
  protected isEnded = false;

  constructor(map: WalkedMap) {
    const { descriptor, keySize, valueSize, maxEntries, what } = map;
    const fitting = Math.floor(maxBatchBytes / (keySize + valueSize));
    const largest = Math.max(1, Math.min(maxEntries, fitting));
    // Errors are not explained with hints about keys: those of a walk are not the user's.
    super(descriptor, keySize, valueSize, largest, what);
    this.map = map;
    this.limit = Math.min(largest, firstBatchLimit);
  }

  has(index: number): boolean {
    void this.map.descriptor.fd;
    return index < this.count;
  }

  /** Fetches the next batch; false where there is none, and where the map has no batches at all. */
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

/** A walk that asks for one element at a time, where there are no batches. */
abstract class ElementWalk extends BatchWalk {
  override isRequired = false;
  protected element: MapElement | undefined;

  /** Deletes the entries of the chunk one by one, where there are no batches. */
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

/** A walk in batches where the kernel has them for the map, or else key by key. */
export class MapWalk extends ElementWalk {
  /** True where the element holds a key that is still to be visited. */
  #hasNextKey = false;
  #steps = 0;
  #visited: VisitedKeys | undefined;

  override next(): boolean {
    if (this.isEnded) return false;
    if (this.#visited === undefined && super.next()) return true;
    const { descriptor, keySize, maxEntries, flags } = this.map;
    // Asked for at each chunk: it throws once the map is disposed of.
    void descriptor.fd;
    if (this.element === undefined) {
      this.element = this.newElement();
      this.#hasNextKey = this.element.nextKey(true);
    }
    const { element, bytes, limit } = this;
    this.#visited ??= new VisitedKeys(keySize);
    // Keys may be added as fast as they are visited: the walk ends in any case.
    const maxSteps = 2 * maxEntries;
    let count = 0;
    while (this.#hasNextKey && count < limit && this.#steps < maxSteps) {
      this.#steps++;
      element.useNextKey();
      const hasNextKey = element.nextKey(false);
      // In this order: a key that is there now was there when the next one was asked for. From one that was deleted the
      // kernel starts again from the first.
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
 * A walk over an array with empty places: a look-up for each index.
 *
 * The kernel's own way from key to key names empty places too, and its batches of such arrays stop at them.
 */
export class IndexWalk extends ElementWalk {
  #index = 0;

  override next(): boolean {
    const { descriptor, maxEntries, flags } = this.map;
    // Asked for at each chunk: it throws once the map is disposed of.
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

/** Bytes of the prefix length, before those of the address. */
const prefixBytes = 4;

/**
 * A walk over an LPM trie, in batches (kernel 5.13) or key by key.
 *
 * The kernel goes on from the key where it stopped, and starts again from the first when that key is gone. A look-up does
 * not tell whether a key is there, as a shorter prefix answers for it. But the order of the keys is known: longer prefixes
 * before those that cover them, a 0 bit before a 1 (`trie_get_next_key` in kernel/bpf/lpm_trie.c, since 4.16). After such
 * a start all that is not after the last key visited is passed over.
 */
export class TrieWalk extends ElementWalk {
  #hasNextKey = false;
  /** The key that was visited last. */
  readonly #last: Uint8Array;
  #hasLast = false;
  #visited = 0;
  /** Entries that were passed over since the last one that was new. */
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

  /** Leaves those entries in the chunk that come after all that were visited: the kernel may start again within it, too. */
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
    // Others may delete and add as fast as this goes on: it ends in any case.
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
    // Asked for at each chunk: it throws once the map is disposed of.
    void descriptor.fd;
    if (this.element === undefined) {
      this.element = this.newElement();
      this.#hasNextKey = this.element.nextKey(true);
    }
    const { element, bytes, limit } = this;
    let count = 0;
    // The steps are limited too: every key may be deleted between the two calls.
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

/** Compares two keys by the order in which the kernel visits them: negative where `a` is first, 0 for the same prefix. */
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
    // Bits beyond the shorter prefix do not count.
    const mask = shared - bit >= 8 ? 0xff : (0xff00 >> (shared - bit)) & 0xff;
    const byteOfA = (a[offsetOfA + index] as number) & mask;
    const byteOfB = (b[offsetOfB + index] as number) & mask;
    if (byteOfA !== byteOfB) return byteOfA - byteOfB;
  }
  return lengthOfB - lengthOfA;
}

/** A 32-bit number of at most 2048, so two of its bytes are enough. */
function prefixLength(key: Uint8Array, offset: number): number {
  const low = LITTLE_ENDIAN ? offset : offset + 3;
  const high = LITTLE_ENDIAN ? offset + 1 : offset + 2;
  return (key[low] as number) + (key[high] as number) * 256;
}
