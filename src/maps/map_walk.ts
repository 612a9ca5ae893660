import { VisitedKeys } from "./visited_keys.ts";
import { ChunkWalk, type WalkedMap } from "./walk.ts";

/** A walk in batches where the kernel has them for the map, or else key by key. */
export class MapWalk extends ChunkWalk {
  #state: "batches" | "keys" | "ended" = "batches";
  /** Whether the element holds a key that is still to be visited. */
  #isKeyAhead = false;
  #steps = 0;
  readonly #visited: VisitedKeys;

  constructor(map: WalkedMap) {
    super(map);
    this.#visited = new VisitedKeys(map.keySize);
  }

  next(): boolean {
    if (this.#state === "batches") {
      this.growChunk();
      const result = this.batch.lookup(this.map.flags);
      if (result === "more") return true;
      this.#state = result === "end" ? "ended" : "keys";
      if (result === "end") return true;
    }
    return this.#state === "keys" && this.#nextByKeys();
  }

  #nextByKeys(): boolean {
    const { descriptor, maxEntries, flags } = this.map;
    // Asked for at each chunk: it throws once the map is disposed of.
    void descriptor.fd;
    if (this.element === undefined) {
      this.element = this.newElement();
      this.#isKeyAhead = this.element.nextKey(true);
    }
    const element = this.element;
    const { bytes, limit } = this.batch;
    // Keys may be added as fast as they are visited: the walk ends in any case.
    const largest = 2 * maxEntries;
    let count = 0;
    while (this.#isKeyAhead && count < limit && this.#steps < largest) {
      this.#steps++;
      element.useNextKey();
      const isNextAhead = element.nextKey(false);
      // In this order: a key that is there now was there when the next one was asked for. From one that was deleted the
      // kernel starts again from the first.
      if (element.lookup(flags)) {
        element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
        count++;
        this.#visited.push(element);
        this.#isKeyAhead = isNextAhead;
      } else {
        this.#isKeyAhead = this.#visited.goOnBehindNewest(element);
      }
    }
    if (!this.#isKeyAhead || this.#steps >= largest) this.#state = "ended";
    this.batch.count = count;
    return true;
  }
}
