import type { MapElement } from "../ffi/map_element.ts";

/** How many keys are kept: so many must be deleted in a row, while the walk stands still, for it to begin anew. */
const capacity = 4096;
const largestBytes = 256 * 1024;

/**
 * The keys that a walk by keys visited last, to go on from when the one that it stands at is deleted.
 *
 * The kernel's answer to "what comes after this key" is the first key of the map, when the key is not there any more.
 */
export class VisitedKeys {
  readonly #keySize: number;
  readonly #capacity: number;
  /** A ring: the newest key is before `#next`. Allocated at the first key. */
  #keys: Uint8Array | undefined;
  #next = 0;
  #count = 0;

  constructor(keySize: number) {
    this.#keySize = keySize;
    this.#capacity = Math.max(1, Math.min(capacity, Math.floor(largestBytes / keySize)));
  }

  /** Adds the key of an element. */
  push(element: MapElement): void {
    this.#keys ??= new Uint8Array(this.#capacity * this.#keySize);
    element.copyKeyTo(this.#keys, this.#next * this.#keySize);
    this.#next = (this.#next + 1) % this.#capacity;
    this.#count = Math.min(this.#count + 1, this.#capacity);
  }

  /** Finds the key behind the newest one that is still in the map; all between the two were visited. False at the end. */
  goOnBehindNewest(element: MapElement): boolean {
    for (let age = 1; age <= this.#count; age++) {
      const index = (this.#next - age + this.#capacity) % this.#capacity;
      const offset = index * this.#keySize;
      element.setKey((this.#keys as Uint8Array).subarray(offset, offset + this.#keySize));
      element.seek();
      const isNextAhead = element.nextKey(false);
      // In this order: the answer is right for a key that is still there after it.
      if (element.lookup(0)) return isNextAhead;
    }
    return element.nextKey(true);
  }
}
