import type { Descriptor } from "../ffi/descriptor.ts";
import { MapBatch } from "../ffi/map_batch.ts";
import { MapElement } from "../ffi/map_element.ts";
import type { KindHints } from "../ffi/map_hints.ts";
import { deleteBatch } from "./delete_batch.ts";

/** Memory that a walk takes at the most, unless one bucket of the map holds more. */
const largestBatchBytes = 256 * 1024;
const firstBatchEntries = 64;

/** The map that is walked, and the sizes in which the kernel copies its keys and values. */
export interface WalkedMap {
  readonly descriptor: Descriptor;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Of each look-up. */
  readonly flags: number;
  readonly what: string;
  readonly kind: KindHints;
}

/**
 * A walk over a map in chunks.
 *
 * After `next()` has returned true, entries 0 to `count - 1` lie at `keyOffset(i)` and `valueOffset(i)` of `view`, until
 * the next call.
 */
export interface Walk extends Disposable {
  readonly count: number;
  readonly view: DataView;
  keyOffset(index: number): number;
  valueOffset(index: number): number;
  /** The bytes of key `index`. */
  keyBytes(index: number): Uint8Array;
  /** Whether the chunk has an entry `index`. @throws {DisposedError} once the map is disposed of */
  has(index: number): boolean;
  /** Fetches the next chunk, which may be empty; false when there is none. */
  next(): boolean;
  /** Deletes the entries of the chunk that are still there. */
  deleteChunk(): void;
}

/** What all walks share: the memory. A generator that is dropped unfinished never disposes of it: it is collected then. */
export abstract class ChunkWalk implements Walk {
  protected readonly map: WalkedMap;
  protected readonly batch: MapBatch;
  /** Of walks that ask for one element at a time, from when they do. */
  protected element: MapElement | undefined;

  constructor(map: WalkedMap) {
    this.map = map;
    const entrySize = map.keySize + map.valueSize;
    const largest = Math.max(
      1,
      Math.min(map.maxEntries, Math.floor(largestBatchBytes / entrySize)),
    );
    this.batch = new MapBatch(map.descriptor, map.keySize, map.valueSize, largest, map.what);
    this.batch.limit = Math.min(largest, firstBatchEntries);
  }

  abstract next(): boolean;

  get count(): number {
    return this.batch.count;
  }

  get view(): DataView {
    return this.batch.view;
  }

  keyOffset(index: number): number {
    return this.batch.keyOffset(index);
  }

  valueOffset(index: number): number {
    return this.batch.valueOffset(index);
  }

  keyBytes(index: number): Uint8Array {
    return this.batch.keyBytes(index);
  }

  has(index: number): boolean {
    void this.map.descriptor.fd;
    return index < this.batch.count;
  }

  deleteChunk(): void {
    const { count } = this;
    deleteBatch(this.batch, count, this.map);
    this.batch.count = count;
  }

  /** For walks that ask for one element at a time. */
  protected newElement(): MapElement {
    const { descriptor, keySize, valueSize, what } = this.map;
    // Errors are not explained with hints about keys: those of a walk are not the user's.
    return new MapElement(descriptor.fd, keySize, valueSize, what, {}, "mapping");
  }

  /** Asks for more at a time once a chunk was of use: most maps are small, and many a walk is left early. */
  protected growChunk(): void {
    const { batch } = this;
    if (batch.count > 0) batch.limit = Math.min(batch.capacity, batch.limit * 4);
  }

  [Symbol.dispose](): void {
    this.element?.[Symbol.dispose]();
    this.batch[Symbol.dispose]();
  }
}
