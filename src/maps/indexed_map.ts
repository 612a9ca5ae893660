import { listOf } from "../types/argument.ts";
import { BPF_ANY } from "../uapi/bpf.ts";
import type { ElementOptions } from "./element_map.ts";
import { checkIndex } from "./index_check.ts";
import { KeyedMap } from "./keyed_map.ts";

/** Arrays: an element for each index from 0, all there from the start. */
export abstract class IndexedMap<V, W = V> extends KeyedMap<number, V, W> {
  /** How many values there are: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores the value at an index.
   *
   * @throws {TypeError | RangeError} for an index outside the array, or a value that its type refuses
   */
  set(index: number, value: W, options?: ElementOptions): this {
    checkIndex(this, index);
    this.update(index, value, BPF_ANY, options);
    return this;
  }

  /**
   * Stores many values, in one call where the kernel can (5.6), in the order given.
   * All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   * @throws {TypeError | RangeError} for an index outside the array, or a value that its type refuses
   */
  setMany(pairs: Iterable<readonly [index: number, value: W]>): this {
    const list = listOf(pairs, "pairs");
    // What is no pair is refused with the values.
    for (const pair of list) if (Array.isArray(pair)) checkIndex(this, pair[0]);
    this.updateMany(list);
    return this;
  }

  /** The value at an index; a negative one counts from the end; `undefined` outside. */
  at(index: number): V | undefined {
    void this.fd;
    const place = Math.trunc(index) || 0;
    const absolute = place < 0 ? place + this.length : place;
    return absolute < 0 || absolute >= this.length ? undefined : this.get(absolute);
  }

  /** The length: an array's entries are always there. */
  override count(): number {
    void this.fd;
    return this.length;
  }
}
