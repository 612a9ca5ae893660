import { BpfMap } from "./bpf_map.ts";
import type { MapHandle } from "./create.ts";
import { BpfError } from "../ffi/error.ts";
import { checkIndex, type ElementLayout, MapElements } from "./elements.ts";
import { KeyedMap } from "./keyed_map.ts";
import type { MapTypeName } from "./map_types.ts";
import { BPF_ANY } from "../uapi/bpf.ts";

/**
 * Base class of arrays whose slots are empty until something is stored. `get` returns `undefined` for an empty slot, and
 * iteration skips it.
 *
 * `V` is the type of values that are read, such as ids, and `W` the type of values that are stored, such as descriptors.
 * The kernel has no batches for these map types: iteration costs one look-up for each index.
 */
export abstract class SparseArrayMap<V, W, Name extends MapTypeName = MapTypeName> extends KeyedMap<
  number,
  V,
  W,
  Name
> {
  /** Number of slots: the same as `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores a value at an index, whether the slot was empty or not.
   *
   * @throws {BpfError} if the kernel rejects the object that a descriptor refers to: `hint` has the cause. The slot is
   *   unchanged then.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value cannot be stored.
   */
  set(index: number, value: W): this {
    this.store(index, value, BPF_ANY);
    return this;
  }

  /**
   * Empties a slot. Returns true if it was not empty.
   *
   * @throws {TypeError | RangeError} if the index is outside the array.
   */
  delete(index: number): boolean {
    checkIndex(this, index);
    return emptySlot(this.handle, this.elements, index);
  }

  /** Empties all slots, one after the other. */
  clear(): void {
    for (let index = 0; index < this.length; index++) {
      emptySlot(this.handle, this.elements, index);
    }
  }

  /** @internal Stores a value at an index of the array. Returns false if the flags forbid it. */
  protected store(index: number, value: W, flags: number): boolean {
    checkIndex(this, index);
    return this.elements.set(index, value, flags);
  }
}

/** Base class of arrays whose slots only programs can read: user space can store and delete values. */
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

  /** Number of slots: the same as `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores a value at an index, whether the slot was empty or not.
   *
   * @throws {BpfError} if the kernel rejects the object that a descriptor refers to: `hint` has the cause. The slot is
   *   unchanged then.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value cannot be stored.
   */
  set(index: number, value: W): this {
    this.store(index, value, BPF_ANY);
    return this;
  }

  /** @internal Stores a value at an index of the array. Returns false if the flags forbid it. */
  protected store(index: number, value: W, flags: number): boolean {
    checkIndex(this, index);
    return this.#elements.set(index, value, flags);
  }

  /**
   * @internal Empties a slot. Returns true if it was not empty. For some map types the kernel does not report empty slots:
   *   the result is always true then.
   */
  protected empty(index: number): boolean {
    checkIndex(this, index);
    return emptySlot(this.handle, this.#elements, index);
  }

  /** Closes the descriptor and frees the memory for calls. Further calls do nothing. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}

/** Empties a slot. Returns false if it was empty, as far as the kernel or a look-up reports it. */
function emptySlot(
  { row: { absentDeletion, entries } }: MapHandle,
  elements: MapElements<number, unknown, never>,
  index: number,
): boolean {
  if (absentDeletion === undefined) return elements.delete(index);
  const isReadable = elements.layout.unreadable === undefined && typeof entries === "function";
  // Looks up the slot first: for some map types the kernel does not report empty slots, and a look-up costs less than an error.
  if (isReadable && !elements.has(index)) return false;
  try {
    return elements.delete(index);
  } catch (error) {
    if (error instanceof BpfError && error.code === absentDeletion) return false;
    throw error;
  }
}
