import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { MapBatch } from "../ffi/map_batch.ts";
import { MapElement } from "../ffi/map_element.ts";
import type { KindHints } from "../ffi/map_hints.ts";
import { BatchError } from "./batch_error.ts";

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

/** What all walks share: the room for a chunk. */
export abstract class ChunkWalk implements Walk {
  protected readonly map: WalkedMap;
  protected readonly batch: MapBatch;

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
    const offset = this.keyOffset(index);
    return this.batch.bytes.subarray(offset, offset + this.map.keySize);
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

  /** Asks for more at a time once a chunk was of use: most maps are small, and many a walk is left early. */
  protected growChunk(): void {
    const { batch } = this;
    if (batch.count > 0) batch.limit = Math.min(batch.capacity, batch.limit * 4);
  }

  [Symbol.dispose](): void {
    this.batch[Symbol.dispose]();
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
    using element = new MapElement(
      map.descriptor.fd,
      map.keySize,
      map.valueSize,
      map.what,
      map.kind,
    );
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
