import type { Descriptor } from "../ffi/descriptor.ts";
import { MapBatch } from "../ffi/map_batch.ts";
import { MapElement } from "../ffi/map_element.ts";

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
  #steps = 0;

  constructor(map: WalkedMap) {
    this.#map = map;
    const entrySize = map.keySize + map.valueSize;
    this.#largest = Math.max(1, Math.min(map.maxEntries, Math.floor(largestBatchBytes / entrySize)));
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
    this.#element ??= new MapElement(fd, keySize, valueSize, what);
    const element = this.#element;
    const { bytes, capacity } = this.#batch;
    let count = 0;
    // The kernel starts again from the first key when the last one was deleted meanwhile: twice round is enough.
    while (count < capacity && this.#steps < 2 * maxEntries) {
      if (!element.nextKey(this.#steps === 0)) {
        this.#state = "ended";
        break;
      }
      this.#steps++;
      element.useNextKey();
      if (!element.lookup(0)) continue;
      element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
      count++;
    }
    if (this.#steps >= 2 * maxEntries) this.#state = "ended";
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
 */
export function deleteBatch(batch: MapBatch, count: number, map: WalkedMap): number {
  let deleted = 0;
  for (let start = 0; start < count; ) {
    const result = batch.delete(start, count - start);
    if (result === "unsupported") return deleted + deleteSingly(batch, start, count, map);
    deleted += batch.count;
    // It stopped at an absent key: go on behind that.
    start += batch.count + (result === "more" ? 1 : 0);
  }
  return deleted;
}

function deleteSingly(batch: MapBatch, start: number, count: number, map: WalkedMap): number {
  using element = new MapElement(map.descriptor.fd, map.keySize, map.valueSize, map.what);
  let deleted = 0;
  for (let i = start; i < count; i++) {
    const offset = batch.keyOffset(i);
    element.setKey(batch.bytes.subarray(offset, offset + map.keySize));
    if (element.delete()) deleted++;
  }
  return deleted;
}
