import { BpfError } from "../ffi/error.ts";
import type { MapBatch } from "../ffi/map_batch.ts";
import { MapElement } from "../ffi/map_element.ts";
import { BatchError } from "./batch_error.ts";
import type { WalkedMap } from "./walk.ts";

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
      element.setKey(batch.keyBytes(done));
      if (element.delete()) deleted++;
    }
    return deleted;
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    throw new BatchError(error, done + batch.count, count, `delete keys of ${map.what}`);
  }
}
