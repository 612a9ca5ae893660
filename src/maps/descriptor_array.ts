import { BpfMap } from "./bpf_map.ts";
import type { MapHandle } from "./create.ts";
import { BpfError } from "../ffi/error.ts";
import { checkIndex, type ElementLayout, MapElements } from "./elements.ts";
import { KeyedMap } from "./keyed_map.ts";
import type { MapTypeName } from "./map_types.ts";
import { BPF_ANY } from "../uapi/bpf.ts";

/**
 * Arrays whose places are empty until something is stored there: an empty one is `undefined`, and walks pass it over.
 *
 * `V` is what is read, `W` what is written. The kernel has no batches for them: a walk is a look-up for each index.
 */
export abstract class SparseArrayMap<V, W, Name extends MapTypeName = MapTypeName> extends KeyedMap<
  number,
  V,
  W,
  Name
> {
  /** The number of places: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores something at an index, whether the place was empty or not.
   *
   * @throws {BpfError} when the kernel refuses the object of a descriptor: the hint says why, the place is as before
   * @throws {TypeError | RangeError} for an index outside the array, or what cannot be stored
   */
  set(index: number, value: W): this {
    this.store(index, value, BPF_ANY);
    return this;
  }

  /** Empties a place; whether something was there. @throws {TypeError | RangeError} for an index outside the array */
  delete(index: number): boolean {
    checkIndex(this, index);
    return deletePlace(this.handle, this.elements, index);
  }

  /** Empties all places, one after the other. */
  clear(): void {
    for (let index = 0; index < this.length; index++) {
      deletePlace(this.handle, this.elements, index);
    }
  }

  /** @internal Stores something after checking the index; false where the flags forbid it. */
  protected store(index: number, value: W, flags: number): boolean {
    checkIndex(this, index);
    return this.elements.set(index, value, flags);
  }
}

/** Arrays of what the kernel shows to programs alone: user space stores and deletes, and cannot look. */
export abstract class WriteOnlyArrayMap<
  W,
  Name extends MapTypeName = MapTypeName,
> extends BpfMap<Name> {
  readonly #elements: MapElements<number, unknown, W>;

  /** @internal */
  protected constructor(handle: MapHandle, layout: ElementLayout) {
    super(handle);
    this.#elements = new MapElements(handle, layout);
  }

  /** The number of places: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores something at an index, whether the place was empty or not.
   *
   * @throws {BpfError} when the kernel refuses the object of a descriptor: the hint says why, the place is as before
   * @throws {TypeError | RangeError} for an index outside the array, or what cannot be stored
   */
  set(index: number, value: W): this {
    this.store(index, value, BPF_ANY);
    return this;
  }

  /** @internal Stores something after checking the index; false where the flags forbid it. */
  protected store(index: number, value: W, flags: number): boolean {
    checkIndex(this, index);
    return this.#elements.set(index, value, flags);
  }

  /** @internal Empties a place at an index that is checked. Returns whether something was there, where the kernel tells. */
  protected empty(index: number): boolean {
    checkIndex(this, index);
    return deletePlace(this.handle, this.#elements, index);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}

/** Empties a place; false where nothing was there, as far as the kernel tells. */
function deletePlace(
  { row: { absentDeletion, entries } }: MapHandle,
  elements: MapElements<number, unknown, never>,
  index: number,
): boolean {
  if (absentDeletion === undefined) return elements.delete(index);
  const isReadable = elements.layout.unreadable === undefined && typeof entries === "function";
  // A look-up is much cheaper than an error.
  if (isReadable && !elements.has(index)) return false;
  try {
    return elements.delete(index);
  } catch (error) {
    if (error instanceof BpfError && error.code === absentDeletion) return false;
    throw error;
  }
}
