import { roundUp8 } from "../ffi/align.ts";
import { MappedMemory, roundUpToPage } from "../ffi/memory.ts";
import { checkCount, checkOptions, checkType } from "../types/argument.ts";
import { u32 } from "../types/integer.ts";
import type { Type } from "../types/type.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";
import {
  createMapHandle,
  type MapHandle,
  mapHandleById,
  mapHandleFromFd,
  openMapHandle,
} from "./handle.ts";
import { KeyedMap } from "./keyed_map.ts";
import { type CommonMapOptions, commonMapOptionNames, mapSpec } from "./spec.ts";

/** The type of an array's values. */
export interface ArrayMapTypes<V> {
  readonly value: Type<V>;
}

/** Options of {@link ArrayMap}. */
export interface ArrayMapOptions<V> extends CommonMapOptions, ArrayMapTypes<V> {
  /** The length: 1 to 2^32 - 1. */
  readonly maxEntries: number;
  /** Makes the values mappable, for {@link ArrayMap.view} (kernel 5.5). @default false */
  readonly mmap?: boolean;
}

/**
 * An array of values, indexed from 0: all are there from the start, zeroed, and none can be deleted.
 *
 * Kernel 3.19.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { ArrayMap, t } from "bun-bpf";
 * using totals = new ArrayMap({ value: t.u64, maxEntries: 4 });
 * totals.set(2, 7n);
 * console.log([...totals.values()]); // [ 0n, 0n, 7n, 0n ]
 * ```
 */
export class ArrayMap<V> extends KeyedMap<number, V> {
  #mapping: MappedMemory | undefined;
  #view: DataView | undefined;

  constructor(options: ArrayMapOptions<V>);
  /** @internal */
  constructor(types: ArrayMapTypes<V>, existing: MapHandle, pinnedAt?: string);
  constructor(
    options: ArrayMapOptions<V> | ArrayMapTypes<V>,
    existing?: MapHandle,
    pinnedAt?: string,
  ) {
    if (existing !== undefined) {
      super(existing, { key: u32, value: options.value }, pinnedAt);
      return;
    }
    const created = options as ArrayMapOptions<V>;
    super(createArrayMap(created), { key: u32, value: created.value }, created.pin);
  }

  /**
   * Opens the array pinned at a path on a BPF file system (kernel 4.4).
   *
   * @throws {TypeError} when it is another kind of map, or its value has another size
   * @throws {Error} when nothing is pinned there
   */
  static open<V>(path: string, types: ArrayMapTypes<V>): ArrayMap<V> {
    return new ArrayMap(types, openMapHandle(path, expected(types)), path);
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<V>(id: number, types: ArrayMapTypes<V>): ArrayMap<V> {
    return new ArrayMap(types, mapHandleById(id, expected(types)));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<V>(fd: number, types: ArrayMapTypes<V>): ArrayMap<V> {
    return new ArrayMap(types, mapHandleFromFd(fd, expected(types)));
  }

  /** How many values there are: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores the value at an index.
   *
   * @throws {TypeError | RangeError} for an index outside the array, or a value that its type refuses
   */
  override set(index: number, value: V): this {
    this.#checkIndex(index);
    return super.set(index, value);
  }

  /**
   * Stores many values, in one call where the kernel can (5.6), in the order given.
   * All pairs are checked before the first is stored.
   *
   * @throws {BatchError} when the kernel refuses one; it says how many were stored before
   * @throws {TypeError | RangeError} for an index outside the array, or a value that its type refuses
   */
  override setMany(pairs: Iterable<readonly [index: number, value: V]>): this {
    const list = [...pairs];
    for (const [index] of list) this.#checkIndex(index);
    return super.setMany(list);
  }

  /** What is no index of any array is refused by the key's type, in the kernel's stead. */
  #checkIndex(index: number): void {
    if (typeof index !== "number" || index < this.length) return;
    void this.fd;
    throw new RangeError(
      `index of ${this}: expected an integer from 0 to ${this.length - 1}, got ${index}`,
    );
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

  /** Bytes from one value to the next in {@link view}: the value's size, rounded up to 8. */
  get stride(): number {
    return roundUp8(this.valueSize);
  }

  /**
   * The kernel's own memory of the values, no copy: value `i` is at `i * stride`. For arrays with `mmap: true`.
   *
   * The kernel and its programs change it at any time. In a loop that waits for a change, read it by `Atomics.load` of an
   * integer array over `view.buffer`, or call a method of the map in the loop: a plain read may be done once for the whole
   * loop, and a call of `Date.now()` or `performance.now()` there does not keep the engine from that. Disposal detaches the
   * view.
   *
   * @throws {TypeError} when the array was not created with `mmap: true`
   * @throws {BpfError} when it may not be written by this process: it is frozen, or has a flag that forbids it
   *
   * @example
   * ```ts
   * import { ArrayMap, t } from "bun-bpf";
   * using totals = new ArrayMap({ value: t.u64, maxEntries: 4, mmap: true });
   * totals.set(1, 5n);
   * console.log(totals.view.getBigUint64(1 * totals.stride, true)); // 5n
   * ```
   */
  get view(): DataView {
    const { fd } = this;
    if (this.#view !== undefined) return this.#view;
    if ((this.flags & BPF_F_MMAPABLE) === 0) {
      throw new TypeError(`${this} has no view: create it with { mmap: true }`);
    }
    const length = this.stride * this.length;
    const size = roundUpToPage(length);
    // Always writable: a store to a read-only mapping would end the process, where a refusal here is an error.
    this.#mapping = MappedMemory.ofFile({
      fd,
      offset: 0,
      length: size,
      writable: true,
      what: `${this}`,
      hint: "A view is writable, which the kernel refuses for a map that is frozen or has the flag rdonly, wronly or rdonly-prog: use get() and set()",
    });
    this.#view = new DataView(this.#mapping.buffer, 0, length);
    return this.#view;
  }

  override dup(): ArrayMap<V> {
    return new ArrayMap({ value: this.types.value }, this.duplicateHandle());
  }

  /**
   * Detaches the view and closes the descriptor; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view: nothing is disposed of then
   */
  override [Symbol.dispose](): void {
    this.#mapping?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

function expected({ value }: ArrayMapTypes<unknown>) {
  checkType("value", value);
  return { type: "array", keySize: u32.size, valueSize: value.size } as const;
}

function createArrayMap(options: ArrayMapOptions<unknown>): MapHandle {
  checkOptions("ArrayMap", options, ["value", "maxEntries", "mmap", ...commonMapOptionNames]);
  const { mmap = false, maxEntries, pin } = options;
  const kind = expected(options);
  checkCount("maxEntries", maxEntries, 1, 0xffffffff);
  if (typeof mmap !== "boolean") throw new TypeError("mmap: expected true or false");
  const spec = mapSpec(options, { ...kind, maxEntries });
  return createMapHandle(mmap ? { ...spec, flags: spec.flags | BPF_F_MMAPABLE } : spec, pin);
}
