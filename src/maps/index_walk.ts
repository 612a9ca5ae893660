import { ChunkWalk } from "./walk.ts";

/**
 * A walk over an array with empty places: a look-up for each index.
 *
 * The kernel's own way from key to key names empty places too, and its batches of such arrays stop at them.
 */
export class IndexWalk extends ChunkWalk {
  #index = 0;

  next(): boolean {
    const { descriptor, maxEntries, flags } = this.map;
    // Asked for at each chunk: it throws once the map is disposed of.
    void descriptor.fd;
    if (this.#index >= maxEntries) return false;
    this.growChunk();
    this.element ??= this.newElement();
    const element = this.element;
    const { bytes, limit } = this.batch;
    let count = 0;
    for (; this.#index < maxEntries && count < limit; this.#index++) {
      element.setIndex(this.#index);
      if (!element.lookup(flags)) continue;
      element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
      count++;
    }
    this.batch.count = count;
    return true;
  }
}
