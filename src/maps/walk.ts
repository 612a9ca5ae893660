import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { MapBatch } from "../ffi/map_batch.ts";
import { MapElement } from "../ffi/map_element.ts";
import { BatchError } from "./batch_error.ts";
import { VisitedKeys } from "./visited_keys.ts";

/** Memory that a walk takes at the most, unless one bucket of the map holds more. */
const largestBatchBytes = 256 * 1024;
const firstBatchEntries = 64;

/** The map that is walked, and the sizes in which the kernel copies its keys and values. */
export interface WalkedMap {
  readonly descriptor: Descriptor;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly what: string;
}

/**
 * A walk over a map in chunks: batches where the kernel has them for the map, or else key by key.
 *
 * After `next()` has returned true, entries 0 to `count - 1` lie at `keyOffset(i)` and `valueOffset(i)` of `view`, until
 * the next call.
 */
export class MapWalk implements Disposable {
  readonly #map: WalkedMap;
  readonly #batch: MapBatch;
  readonly #largest: number;
  #state: "batches" | "keys" | "ended" = "batches";
  /** For the walk by keys only. */
  #element: MapElement | undefined;
  /** Whether the element holds a key that is still to be visited. */
  #isKeyAhead = false;
  #steps = 0;
  readonly #visited: VisitedKeys;

  constructor(map: WalkedMap) {
    this.#map = map;
    this.#visited = new VisitedKeys(map.keySize);
    const entrySize = map.keySize + map.valueSize;
    this.#largest = Math.max(
      1,
      Math.min(map.maxEntries, Math.floor(largestBatchBytes / entrySize)),
    );
    const first = Math.min(this.#largest, firstBatchEntries);
    this.#batch = new MapBatch(map.descriptor, map.keySize, map.valueSize, first, map.what);
  }

  get count(): number {
    return this.#batch.count;
  }

  get view(): DataView {
    return this.#batch.view;
  }

  keyOffset(index: number): number {
    return this.#batch.keyOffset(index);
  }

  valueOffset(index: number): number {
    return this.#batch.valueOffset(index);
  }

  /** The bytes of key `index`. */
  keyBytes(index: number): Uint8Array {
    const offset = this.keyOffset(index);
    return this.#batch.bytes.subarray(offset, offset + this.#map.keySize);
  }

  /** Whether the chunk has an entry `index`. @throws {DisposedError} once the map is disposed of */
  has(index: number): boolean {
    void this.#map.descriptor.fd;
    return index < this.#batch.count;
  }

  /** Fetches the next chunk, which may be empty; false when there is none. */
  next(): boolean {
    if (this.#state === "batches") {
      if (this.#batch.count > 0 && this.#batch.capacity < this.#largest) {
        this.#batch.grow(Math.min(this.#largest, this.#batch.capacity * 4));
      }
      const result = this.#batch.lookup();
      if (result === "more") return true;
      this.#state = result === "end" ? "ended" : "keys";
      if (result === "end") return true;
    }
    return this.#state === "keys" && this.#nextByKeys();
  }

  /** Deletes the entries of the chunk that are still there. */
  deleteChunk(): void {
    const { count } = this;
    deleteBatch(this.#batch, count, this.#map);
    this.#batch.count = count;
  }

  #nextByKeys(): boolean {
    const { keySize, valueSize, descriptor, what, maxEntries } = this.#map;
    // Asked for at each chunk: it throws once the map is disposed of.
    const { fd } = descriptor;
    if (this.#element === undefined) {
      this.#element = new MapElement(fd, keySize, valueSize, what);
      this.#isKeyAhead = this.#element.nextKey(true);
    }
    const element = this.#element;
    const { bytes, capacity } = this.#batch;
    // Keys may be added as fast as they are visited: the walk ends in any case.
    const largest = 2 * maxEntries;
    let count = 0;
    while (this.#isKeyAhead && count < capacity && this.#steps < largest) {
      this.#steps++;
      element.useNextKey();
      if (element.lookup(0)) {
        element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
        count++;
        this.#visited.push(element);
        this.#isKeyAhead = element.nextKey(false);
      } else {
        // Deleted since it was found: from there the kernel would start again from the first key.
        this.#isKeyAhead = this.#visited.goOnBehindNewest(element);
      }
    }
    if (!this.#isKeyAhead || this.#steps >= largest) this.#state = "ended";
    this.#batch.count = count;
    return true;
  }

  [Symbol.dispose](): void {
    this.#element?.[Symbol.dispose]();
    this.#batch[Symbol.dispose]();
  }
}

/**
 * Deletes the first `count` keys of a batch; absent ones do not matter. Returns how many were there.
 *
 * @throws {BatchError} when the kernel refuses one; it says how many keys are done, the absent ones included
 */
export function deleteBatch(batch: MapBatch, count: number, map: WalkedMap): number {
  let deleted = 0;
  let done = 0;
  try {
    while (done < count) {
      batch.count = 0;
      const result = batch.delete(done, count - done);
      if (result === "unsupported") break;
      deleted += batch.count;
      // It stopped at an absent key: go on behind that.
      done += batch.count + (result === "more" ? 1 : 0);
      batch.count = 0;
    }
    if (done === count) return deleted;
    using element = new MapElement(map.descriptor.fd, map.keySize, map.valueSize, map.what);
    for (; done < count; done++) {
      const offset = batch.keyOffset(done);
      element.setKey(batch.bytes.subarray(offset, offset + map.keySize));
      if (element.delete()) deleted++;
    }
    return deleted;
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    throw new BatchError(error, done + batch.count, count, `delete keys of ${map.what}`);
  }
}
