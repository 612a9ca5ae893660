import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import type { ElementOptions } from "./element_map.ts";
import { type BatchesOptions, checkBatches, KeyedMap } from "./keyed_map.ts";
import type { Walk } from "./walk.ts";

/** Maps whose entries come and go: any key, added by storing a value and gone by deletion. */
export abstract class AssociativeMap<K, V, W = V> extends KeyedMap<K, V, W> {
  /**
   * Stores a value, whether there was one or not.
   *
   * @throws {BpfError} `E2BIG` (an LPM trie: `ENOSPC`) when the map is full
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  set(key: K, value: W, options?: ElementOptions): this {
    this.update(key, value, BPF_ANY, options);
    return this;
  }

  /** Stores a value only if the key is absent; whether it did. @throws as {@link set} */
  add(key: K, value: W, options?: ElementOptions): boolean {
    return this.update(key, value, BPF_NOEXIST, options);
  }

  /** Stores a value only if the key is present; whether it did. */
  replace(key: K, value: W, options?: ElementOptions): boolean {
    return this.update(key, value, BPF_EXIST, options);
  }

  /**
   * Stores many values, in one call where the kernel can (5.6), in the order given.
   * All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   * @throws {TypeError | RangeError} for a key or value that its type refuses: the map is as before
   */
  setMany(pairs: Iterable<readonly [key: K, value: W]>): this {
    this.updateMany(pairs);
    return this;
  }

  /** Deletes a key; whether it was there. */
  delete(key: K): boolean {
    return this.remove(key);
  }

  /**
   * Deletes many keys, in one call where the kernel can (5.6); how many were there.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many keys were done before, absent ones included
   * @throws {TypeError | RangeError} for a key that its type refuses: the map is as before
   */
  deleteMany(keys: Iterable<K>): number {
    return this.removeMany(keys);
  }

  /**
   * Fetches a value and deletes its key: for hash maps in one step since kernel 5.14. Before, and for other kinds, a
   * change of the value between the look-up and the deletion is lost.
   */
  take(key: K): V | undefined {
    return this.takeOut(key);
  }

  /**
   * Takes the entries out one after the other: each is deleted, as by {@link take}, when it is handed out, so that none is
   * lost when the loop ends early. Entries that are added meanwhile may be left.
   */
  *drain(): Generator<[key: K, value: V], undefined, undefined> {
    using walk = this.walk();
    while (walk.next()) {
      for (let i = 0; walk.has(i); i++) {
        const entry = this.#takeFrom(walk, i);
        if (entry !== undefined) yield entry;
      }
    }
    return undefined;
  }

  /**
   * Takes all entries out in arrays: as {@link drain}, but in one call for each array where the kernel can (hash maps: 5.6),
   * which is several times as fast. An array is handed out whole, so that none is lost when the loop ends early; where a type
   * throws, the entries of that array are stored again.
   *
   * @throws {RangeError} for a `max` that is no integer from 1 on
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using counts = new HashMap({ key: t.u32, value: t.u64n, maxEntries: 1000 });
   * counts.setMany(Array.from({ length: 1000 }, (_, key) => [key, 1]));
   * let total = 0;
   * for (const batch of counts.drainBatches()) for (const [, count] of batch) total += count;
   * console.log(total, counts.count()); // 1000 0
   * ```
   */
  *drainBatches(
    options: BatchesOptions = {},
  ): Generator<[key: K, value: V][], undefined, undefined> {
    const max = checkBatches("drainBatches", options);
    using batch = this.newBatch(Math.min(max, this.maxEntries));
    for (let result = "more"; result === "more";) {
      result = batch.lookupAndDelete(this.defaultFlags);
      if (result === "unsupported") break;
      let entries: [K, V][];
      try {
        entries = this.readEntries(batch, 0, batch.count);
      } catch (error) {
        this.putBack(batch);
        throw error;
      }
      if (entries.length > 0) yield entries;
      if (result === "end") return undefined;
    }
    let entries: [K, V][] = [];
    for (const entry of this.drain()) {
      if (entries.push(entry) < max) continue;
      yield entries;
      entries = [];
    }
    if (entries.length > 0) yield entries;
    return undefined;
  }

  /** By the bytes of the key, as it may not be what its type would make of the decoded one: padding, text behind a NUL. */
  #takeFrom(walk: Walk, index: number): [key: K, value: V] | undefined {
    const key = this.layout.key.read(walk.view, walk.keyOffset(index));
    const element = this.begin();
    try {
      element.setKey(walk.keyBytes(index));
      return this.takeElement(element) ? [key, this.readValue(element)] : undefined;
    } finally {
      this.end(element);
    }
  }

  /** Deletes all entries that are there when it begins, in batches where the kernel can (5.6). */
  clear(): void {
    using walk = this.walk();
    while (walk.next()) walk.deleteChunk();
  }
}
