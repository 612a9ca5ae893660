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

  /** Leaves those entries in the chunk that are behind all that were visited: the kernel may start again in its midst too. */
  #passOverVisited(): void {
    const { batch } = this;
    const { count } = batch;
    const { bytes } = batch;
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
    batch.count = kept;
    // Others may delete and add as fast as this goes on: it ends in any case.
    this.#visited += kept;
    this.#passed = kept > 0 ? 0 : this.#passed + count;
    const { maxEntries } = this.map;
    if (this.#visited >= 2 * maxEntries || this.#passed > 4 * maxEntries) this.#state = "ended";
  }

  #move(from: number, to: number): void {
    const { bytes } = this.batch;
    bytes.copyWithin(this.keyOffset(to), this.keyOffset(from), this.keyOffset(from + 1));
    bytes.copyWithin(this.valueOffset(to), this.valueOffset(from), this.valueOffset(from + 1));
  }

  #fillByKeys(): void {
    const { descriptor, flags } = this.map;
    // Asked for at each chunk: it throws once the map is disposed of.
    void descriptor.fd;
    if (this.element === undefined) {
      this.element = this.newElement();
      this.#isKeyAhead = this.element.nextKey(true);
    }
    const element = this.element;
    const { bytes, limit } = this.batch;
    let count = 0;
    // The steps are limited too: every key may be deleted between the two calls.
    for (let steps = 0; this.#isKeyAhead && steps < limit; steps++) {
      element.useNextKey();
      if (element.lookup(flags)) {
        element.copyTo(bytes, this.keyOffset(count), this.valueOffset(count));
        count++;
      }
      this.#isKeyAhead = element.nextKey(false);
    }
    if (!this.#isKeyAhead) this.#state = "ended";
    this.batch.count = count;
  }
}

/** Which of two keys the kernel visits first: negative for `a`, 0 for the same prefix. */
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
