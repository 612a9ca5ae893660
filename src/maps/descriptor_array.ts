import { checkIndex, ElementMap } from "./element_map.ts";
import { KeyedMap } from "./keyed_map.ts";
import { IndexWalk, type Walk } from "./walk.ts";
import { BPF_ANY } from "../uapi/bpf.ts";

/**
 * Arrays whose places are empty until something is stored there: an empty one is `undefined`, and walks pass it over.
 *
 * `V` is what is read, `W` what is written. The kernel has no batches for them: a walk is a look-up for each index.
 */
export abstract class SparseArrayMap<V, W> extends KeyedMap<number, V, W> {
  /** How many places there are: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores something at an index, whether the place was empty or not.
   *
   * @throws {BpfError} when the kernel refuses what is behind a descriptor: the hint says why, the place is as before
   * @throws {TypeError | RangeError} for an index outside the array, or what cannot be stored
   */
  set(index: number, value: W): this {
    this.store(index, value, BPF_ANY);
    return this;
  }

  /** Empties a place; whether something was there. @throws {TypeError | RangeError} for an index outside the array */
  delete(index: number): boolean {
    checkIndex(this, index);
    return this.remove(index);
  }

  /** Empties all places, one after the other. */
  clear(): void {
    const element = this.begin();
    try {
      for (let index = 0; index < this.length; index++) {
        element.setIndex(index);
        this.deleteElement(element);
      }
    } finally {
      this.end(element);
    }
  }

  /** @internal Stores something at an index that is checked; false where the flags forbid it. */
  protected store(index: number, value: W, flags: number): boolean {
    checkIndex(this, index);
    return this.update(index, value, flags);
  }

  /** @internal */
  protected override walk(): Walk {
    return new IndexWalk(this.walked);
  }
}

/** Arrays of what the kernel shows to programs alone: user space stores and deletes, and cannot look. */
export abstract class WriteOnlyArrayMap<W> extends ElementMap<number, unknown, W> {
  /** How many places there are: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores something at an index, whether the place was empty or not.
   *
   * @throws {BpfError} when the kernel refuses what is behind a descriptor: the hint says why, the place is as before
   * @throws {TypeError | RangeError} for an index outside the array, or what cannot be stored
   */
  set(index: number, value: W): this {
    this.store(index, value, BPF_ANY);
    return this;
  }

  /** @internal Stores something at an index that is checked; false where the flags forbid it. */
  protected store(index: number, value: W, flags: number): boolean {
    checkIndex(this, index);
    return this.update(index, value, flags);
  }

  /** @internal Empties a place at an index that is checked; whether something was there, where the kernel says so. */
  protected empty(index: number): boolean {
    checkIndex(this, index);
    return this.remove(index);
  }
}
