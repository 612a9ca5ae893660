import { BPF_ANY } from "../uapi/bpf.ts";
import { ElementMap } from "./element_map.ts";
import { checkIndex } from "./index_check.ts";

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
