import { MapElement } from "../ffi/map_element.ts";
import { LITTLE_ENDIAN } from "../types/memory.ts";
import { ChunkWalk, type WalkedMap } from "./walk.ts";

/** Bytes of the prefix length, before those of the address. */
const prefixBytes = 4;

/**
 * A walk over an LPM trie, in batches (kernel 5.13) or key by key.
 *
 * The kernel goes on from the key where it stopped, and starts again from the first when that key is gone. A look-up does
 * not tell whether a key is there, as a shorter prefix answers for it. But the order of the keys is known: longer prefixes
 * before those that cover them, a 0 bit before a 1 (`trie_get_next_key` in kernel/bpf/lpm_trie.c, since 4.16). After such
 * a start all that is not behind the last key visited is passed over.
 */
export class TrieWalk extends ChunkWalk {
  #state: "batches" | "keys" | "ended" = "batches";
  /** For the walk by keys only. */
  #element: MapElement | undefined;
  #isKeyAhead = false;
  /** The key that was visited last. */
  readonly #last: Uint8Array;
  #hasLast = false;
  #visited = 0;
  /** Entries that were passed over since the last one that was new. */
  #passed = 0;

  constructor(map: WalkedMap) {
    super(map);
    this.#last = new Uint8Array(map.keySize);
  }

  next(): boolean {
    if (this.#state === "ended") return false;
    if (this.#state === "batches") {
      this.growChunk();
      const result = this.batch.lookup(this.map.flags);
      if (result !== "unsupported") {
        if (result === "end") this.#state = "ended";
        this.#passOverVisited();
        return true;
      }
      this.#state = "keys";
    }
    this.#fillByKeys();
    this.#passOverVisited();
    return true;
  }

  /** Closes the gap at the start of the chunk that entries which were visited before leave. */
  #passOverVisited(): void {
    const { batch } = this;
    const { count } = batch;
    let old = 0;
    if (this.#hasLast) {
      while (old < count && comparePrefixes(this.keyBytes(old), this.#last) <= 0) old++;
    }
    if (old > 0) {
      batch.bytes.copyWithin(this.keyOffset(0), this.keyOffset(old), this.keyOffset(count));
      batch.bytes.copyWithin(this.valueOffset(0), this.valueOffset(old), this.valueOffset(count));
      batch.count = count - old;
    }
    if (batch.count > 0) {
      this.#last.set(this.keyBytes(batch.count - 1));
      this.#hasLast = true;
    }
    // Others may delete and add as fast as this goes on: it ends in any case.
    this.#visited += batch.count;
    this.#passed = batch.count > 0 ? 0 : this.#passed + old;
    const { maxEntries } = this.map;
    if (this.#visited >= 2 * maxEntries || this.#passed > 4 * maxEntries) this.#state = "ended";
  }

  #fillByKeys(): void {
    const { keySize, valueSize, descriptor, what, flags } = this.map;
    // Asked for at each chunk: it throws once the map is disposed of.
    const { fd } = descriptor;
    if (this.#element === undefined) {
      this.#element = new MapElement(fd, keySize, valueSize, what);
      this.#isKeyAhead = this.#element.nextKey(true);
    }
    const element = this.#element;
    const { bytes, capacity } = this.batch;
    let count = 0;
    // The steps are limited too: every key may be deleted between the two calls.
    for (let steps = 0; this.#isKeyAhead && steps < capacity; steps++) {
      element.useNextKey();
      if (element.lookup(flags)) {
        element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
        count++;
      }
      this.#isKeyAhead = element.nextKey(false);
      if (count > 0 && this.#isRestart(element, count)) break;
    }
    if (!this.#isKeyAhead) this.#state = "ended";
    this.batch.count = count;
  }

  /** Whether the key that comes next is before the newest one of the chunk, whose keys must be in order. */
  #isRestart(element: MapElement, count: number): boolean {
    if (!this.#isKeyAhead) return false;
    const newest = this.keyBytes(count - 1);
    return comparePrefixes(element.nextKeyBytes, newest) <= 0;
  }

  override [Symbol.dispose](): void {
    this.#element?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

/** Which of two keys the kernel visits first: negative for `a`, 0 for the same prefix. */
export function comparePrefixes(a: Uint8Array, b: Uint8Array): number {
  const lengthOfA = prefixLength(a);
  const lengthOfB = prefixLength(b);
  const shared = Math.min(lengthOfA, lengthOfB);
  for (let bit = 0; bit < shared; bit += 8) {
    const index = prefixBytes + bit / 8;
    // Bits beyond the shorter prefix do not count.
    const mask = shared - bit >= 8 ? 0xff : (0xff00 >> (shared - bit)) & 0xff;
    const difference = ((a[index] as number) & mask) - ((b[index] as number) & mask);
    if (difference !== 0) return difference;
  }
  return lengthOfB - lengthOfA;
}

function prefixLength(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset, prefixBytes).getUint32(0, LITTLE_ENDIAN);
}
