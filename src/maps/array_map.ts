import { checkBoolean, listOf } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { openById } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { type FileMapping, MappedMemory, roundUp8, roundUpToPage } from "../ffi/mapped_memory.ts";
import type { BpfMap } from "./bpf_map.ts";
import { checkIndex, type ElementOptions } from "./elements.ts";
import { KeyedMap } from "./keyed_map.ts";
import {
  type AnyType,
  arrayKind,
  type IndexedMapOptions,
  type TypeIn,
  type ValueTypes,
} from "./map_options.ts";
import { ARRAY, PERCPU_ARRAY, type MapTypeName } from "./map_types.ts";
import { PerCpuElements, PerCpuLayout, reduceValues, sumValues } from "./per_cpu.ts";
import { u32 } from "../types/integer.ts";
import { hasOpaqueField, hasSpinLock } from "../types/opaque.ts";
import type { Infer, Type } from "../types/type.ts";
import { BPF_ANY, BPF_F_MMAPABLE } from "../uapi/bpf.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    ArrayMap: ArrayMap<TypeIn<T, "value">>;
    PerCpuArrayMap: PerCpuArrayMap<TypeIn<T, "value">>;
  }
}

/** Conversions of the bits that the engine's atomics give, by the kind of integer. */
const conversions32 = {
  i32: (bits: number) => bits,
  u32: (bits: number) => bits >>> 0,
} as const;
const conversions64 = {
  i64: (bits: bigint) => bits,
  u64: (bits: bigint) => BigInt.asUintN(64, bits),
  i64Number: (bits: bigint) => Number(bits),
  u64Number: (bits: bigint) => Number(BigInt.asUintN(64, bits)),
} as const;

/**
 * Returns what adds to an integer in shared memory in one step, and returns the integer as it was before.
 *
 * @param stride bytes from one integer to the next: a multiple of 8
 * @throws {TypeError} when the type is not an integer of 32 or 64 bits in the machine's byte order
 */
function atomicAdder<V>(
  { kind, name }: Type<V>,
  buffer: ArrayBufferLike,
  stride: number,
): (index: number, amount: V) => V {
  // The values have the type that the conversion gives, which the kind says and TypeScript cannot tell.
  if (Object.hasOwn(conversions32, kind)) {
    const cells = new Int32Array(buffer);
    const convert = conversions32[kind as keyof typeof conversions32];
    const step = stride / Int32Array.BYTES_PER_ELEMENT;
    return (index, amount) => {
      checkAmount(kind, amount);
      return convert(Atomics.add(cells, index * step, amount as number)) as V;
    };
  }
  if (Object.hasOwn(conversions64, kind)) {
    const cells = new BigInt64Array(buffer);
    const convert = conversions64[kind as keyof typeof conversions64];
    const step = stride / BigInt64Array.BYTES_PER_ELEMENT;
    return (index, amount) => {
      checkAmount(kind, amount);
      return convert(Atomics.add(cells, index * step, BigInt(amount as number | bigint))) as V;
    };
  }
  const names = [...Object.keys(conversions32), ...Object.keys(conversions64)].map(
    (known) => `t.${known}`,
  );
  throw new TypeError(
    `atomicAdd: expected an array of ${names.slice(0, -1).join(", ")} or ${names.at(-1)}, this is one of ${name}`,
  );
}

/** Checks an amount that is added to an integer. @throws {TypeError | RangeError} for one that the integer cannot hold */
function checkAmount(kind: string, amount: unknown): void {
  const expectedType = kind === "i64" || kind === "u64" ? "bigint" : "number";
  if (typeof amount !== expectedType) {
    throw new TypeError(`amount: expected a ${expectedType} (${kind}), got ${describe(amount)}`);
  }
  const largest = Object.hasOwn(conversions32, kind) ? 0xffffffff : Number.MAX_SAFE_INTEGER;
  const isInRange =
    typeof amount === "bigint"
      ? amount > -(2n ** 64n) && amount < 2n ** 64n
      : Number.isInteger(amount) && Math.abs(amount as number) <= largest;
  if (isInRange) return;
  throw new RangeError(
    `amount: expected an integer that ${kind} can hold, got ${describe(amount)}`,
  );
}

/** The values of an array, mapped into this process: read-only where it may not write them. */
class MappedValues implements Disposable {
  readonly #memory: MappedMemory;
  readonly #isWritable: boolean;
  readonly #what: string;
  /** All values. Do not store through it unless the values are {@link writable}. */
  readonly view: DataView;
  /** The public view, which rejects stores where they would end the process. */
  readonly safeView: DataView;

  /** @param length bytes of the values, which may end within a page */
  constructor({ fd, id }: BpfMap, length: number, what: string) {
    const mapping: FileMapping = {
      fd,
      offset: 0,
      length: roundUpToPage(length),
      writable: true,
      what,
      hint: "The map was created or opened without the right to read it",
    };
    let isWritable = true;
    try {
      this.#memory = MappedMemory.ofFile(mapping);
    } catch (error) {
      // EPERM of a frozen map, EACCES of a descriptor or a map without the right to write.
      if (!(error instanceof BpfError) || !["EPERM", "EACCES"].includes(error.code)) throw error;
      this.#memory = mapReadOnly({ ...mapping, writable: false }, id);
      isWritable = false;
    }
    const { buffer } = this.#memory;
    this.#isWritable = isWritable;
    this.#what = what;
    this.view = new DataView(buffer, 0, length);
    this.safeView = isWritable ? this.view : this.#makeReadOnly(new DataView(buffer, 0, length));
  }

  /** The view for stores. @throws {TypeError} where it is read-only */
  get writable(): DataView {
    return this.#isWritable ? this.view : this.#throwReadOnly();
  }

  /** Removes the setters of a view and its buffer: arrays over the buffer could store, and so do the engine's atomic loads. */
  #makeReadOnly(view: DataView): DataView {
    const throwReadOnly = (): never => this.#throwReadOnly();
    for (const name of Object.getOwnPropertyNames(DataView.prototype)) {
      if (name.startsWith("set")) Object.defineProperty(view, name, { value: throwReadOnly });
    }
    return Object.defineProperty(view, "buffer", { get: throwReadOnly });
  }

  #throwReadOnly(): never {
    throw new TypeError(
      `the view of the ${this.#what} is read-only, as the map is frozen or was created or opened without the right to write it: read it with load(), or with the get methods of the view`,
    );
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

function mapReadOnly(mapping: FileMapping, id: number): MappedMemory {
  try {
    return MappedMemory.ofFile(mapping);
  } catch (error) {
    // The kernel treats a shared mapping of a read-only descriptor as private (do_mmap()), which maps do not support.
    if (!(error instanceof BpfError) || error.code !== "EINVAL") throw error;
    using descriptor = new Descriptor(openById("map", id), mapping.what);
    return MappedMemory.ofFile({ ...mapping, fd: descriptor.fd });
  }
}

/** Arrays: an element for each index from 0, all there from the start. */
export abstract class IndexedMap<V, W = V, Name extends MapTypeName = MapTypeName> extends KeyedMap<
  number,
  V,
  W,
  Name
> {
  /** The number of values: `maxEntries`. */
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
    this.elements.set(index, value, BPF_ANY, options);
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
    // Elements that are not pairs are refused with the values.
    for (const pair of list) if (Array.isArray(pair)) checkIndex(this, pair[0]);
    this.elements.setMany(list);
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

/** Options of {@link ArrayMap}. */
export interface ArrayMapOptions<V extends AnyType> extends IndexedMapOptions<V> {
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
 * using totals = new ArrayMap({ value: t.u64, length: 4 });
 * totals.set(2, 7n);
 * console.log([...totals.values()]); // [ 0n, 0n, 7n, 0n ]
 * ```
 */
export class ArrayMap<V extends AnyType> extends IndexedMap<Infer<V>, Infer<V>, "array"> {
  static readonly kind = /*@__PURE__*/ arrayKind<"ArrayMap", ArrayMapOptions<AnyType>>(
    ARRAY,
    "ArrayMap",
    ["mmap"],
    mmapFlag,
  );
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;
  #mapped: MappedValues | undefined;
  #atomicAdd: ((index: number, amount: Infer<V>) => Infer<V>) | undefined;

  constructor(options: ArrayMapOptions<V>) {
    const handle = ArrayMap.kind.handle(options);
    const { value } = handle.types;
    super(handle, {
      key: u32,
      value,
      isLocked: hasSpinLock(value),
      isReadByPrograms: !hasOpaqueField(value),
    });
  }

  /** Bytes from one value to the next in {@link view}: the value's size, rounded up to 8. */
  get stride(): number {
    return roundUp8(this.valueSize);
  }

  /**
   * The kernel's own memory of the values, no copy: value `i` is at `i * stride`. For arrays with `mmap: true`.
   *
   * The kernel and its programs change it at any time. In a loop that waits for a change, read it by `Atomics.load` of an
   * integer array over `view.buffer`, or call a method of the map in the loop: the engine may do a plain read only once for
   * the whole loop, even where that calls `Date.now()` or `performance.now()`. Disposal detaches the view.
   *
   * It is read-only for a map that is frozen, has the flag `"rdonly_prog"`, or was created or opened with `"rdonly"`: its `set`
   * methods and its `buffer` then throw a TypeError, as a store to such memory would end the process. To wait for a change, call
   * {@link load} in a loop. For a map that was opened with `"rdonly"` it needs CAP_SYS_ADMIN: the kernel cannot map such a
   * descriptor, so another one is opened by id.
   *
   * @throws {TypeError} when the array was not created with `mmap: true`
   * @throws {BpfError} `EACCES` when this object may not read the map, `EPERM` without CAP_SYS_ADMIN
   *
   * @example
   * ```ts
   * import { ArrayMap, t } from "bun-bpf";
   * using totals = new ArrayMap({ value: t.u64, length: 4, mmap: true });
   * totals.set(1, 5n);
   * console.log(totals.view.getBigUint64(1 * totals.stride, true)); // 5n
   * ```
   */
  get view(): DataView {
    return this.#values().safeView;
  }

  #values(): MappedValues {
    // Read only for its error after disposal.
    void this.fd;
    if (this.#mapped !== undefined) return this.#mapped;
    if ((this.flags & BPF_F_MMAPABLE) === 0) {
      throw new TypeError(`${this} has no view: create it with { mmap: true }`);
    }
    this.#mapped = new MappedValues(this, this.stride * this.length, `${this}`);
    return this.#mapped;
  }

  /**
   * The value at an index, decoded from {@link view}: no system call. `undefined` outside the array.
   *
   * Programs may write while it is read: a value of more than one integer may be half old and half new.
   *
   * @throws as {@link view}
   *
   * @example
   * ```ts
   * import { ArrayMap, t } from "bun-bpf";
   * const Total = t.struct({ packets: t.u64Number, bytes: t.u64Number });
   * using totals = new ArrayMap({ value: Total, length: 4, mmap: true });
   * totals.store(2, { packets: 1, bytes: 1500 });
   * console.log(totals.load(2)); // { packets: 1, bytes: 1500 }
   * ```
   */
  load(index: number): Infer<V> | undefined {
    const { view } = this.#values();
    if (!Number.isInteger(index) || index < 0 || index >= this.length) return undefined;
    return this.elements.layout.value.read(view, index * this.stride);
  }

  /**
   * Writes the value at an index into {@link view}: no system call. Programs see it at once, and may see a part of it first.
   *
   * @throws {TypeError | RangeError} for an index outside the array, or a value that its type refuses, which may then be
   *   written in part; {TypeError} where the view is read-only; else as {@link view}
   */
  store(index: number, value: Infer<V>): this {
    const view = this.#values().writable;
    this.#checkIndex(index);
    const { elements, stride } = this;
    elements.write("value", elements.layout.value, view, index * stride, value);
    return this;
  }

  /**
   * Adds to the integer at an index atomically, without a system call, and returns its previous value. It wraps around as
   * the C type does; a negative amount subtracts.
   *
   * For `t.u32`, `t.i32`, `t.u64`, `t.i64`, `t.u64Number` and `t.i64Number`.
   *
   * @throws {TypeError} for another type of values, an amount of the wrong type, or a read-only view
   * @throws {RangeError} for an index outside the array, or an amount that is not an integer of 64 bits; else as {@link view}
   *
   * @example
   * ```ts
   * import { ArrayMap, t } from "bun-bpf";
   * using totals = new ArrayMap({ value: t.u32, length: 4, mmap: true });
   * console.log(totals.atomicAdd(1, 5), totals.atomicAdd(1, -2), totals.load(1)); // 0 5 3
   * ```
   */
  atomicAdd(index: number, amount: Infer<V> & (number | bigint)): Infer<V> {
    const { buffer } = this.#values().writable;
    this.#checkIndex(index);
    this.#atomicAdd ??= atomicAdder(this.types.value as Type<Infer<V>>, buffer, this.stride);
    return this.#atomicAdd(index, amount);
  }

  #checkIndex(index: number): void {
    if (Number.isInteger(index) && index >= 0 && index < this.length) return;
    throw new RangeError(
      `index of ${this}: expected an integer from 0 to ${this.length - 1}, got ${describe(index)}`,
    );
  }

  /**
   * Detaches the view and closes the descriptor; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view: nothing is disposed of then
   */
  override [Symbol.dispose](): void {
    this.#mapped?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

function mmapFlag({ mmap = false, value }: ArrayMapOptions<AnyType>) {
  checkBoolean("mmap", mmap);
  if (mmap && hasOpaqueField(value)) {
    throw new TypeError(
      "mmap: values with a spin lock or timer cannot be mapped, as user space could write those",
    );
  }
  return { flags: mmap ? BPF_F_MMAPABLE : 0 };
}

/** Options of {@link PerCpuArrayMap}. */
export type PerCpuArrayMapOptions<V extends AnyType> = IndexedMapOptions<V>;

/**
 * An array with a value for each CPU at every index: a program changes the value of its CPU without contention, and the
 * reader adds the values up. All values are there from the start, zeroed, and none can be deleted.
 *
 * Kernel 4.6. Values are arrays in the order of {@link possibleCpus}. A value takes at most 32 KiB. The values of one index
 * are read one CPU after the other while programs go on: their sum is not that of one moment.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` where the kernel has no memory for all entries, `E2BIG` for a value
 * of more than 32 KiB
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { PerCpuArrayMap, possibleCpus, t } from "bun-bpf";
 * using totals = new PerCpuArrayMap({ value: t.u64, length: 4 });
 * totals.set(2, possibleCpus().map((cpu) => BigInt(cpu)));
 * console.log(totals.sum(0), totals.reduce(2, (largest, value) => (value > largest ? value : largest), 0n));
 * ```
 */
export class PerCpuArrayMap<V extends AnyType> extends IndexedMap<
  Infer<V>[],
  readonly Infer<V>[],
  "percpu_array"
> {
  static readonly kind = /*@__PURE__*/ arrayKind(PERCPU_ARRAY, "PerCpuArrayMap");
  /** The type that the values of one CPU are written and read with. */
  declare readonly types: ValueTypes<V>;
  readonly #perCpu: PerCpuElements<number, Infer<V>>;

  constructor(options: PerCpuArrayMapOptions<V>) {
    const handle = PerCpuArrayMap.kind.handle(options);
    const values = new PerCpuLayout(handle.types.value as Type<Infer<V>>);
    super(handle, { key: u32, value: values });
    this.#perCpu = new PerCpuElements(handle, this.elements, values);
  }

  /**
   * The sum of an index's values over all CPUs, or `undefined` outside the array. For numbers and bigints; a sum of numbers
   * is exact up to 2^53.
   *
   * @throws {TypeError} when the values are something else
   */
  sum(index: number): (Infer<V> & (number | bigint)) | undefined {
    return sumValues(this.get(index), `${this}`);
  }

  /** Folds an index's values, one CPU after the other, into one; `undefined` outside the array. */
  reduce<R>(
    index: number,
    fn: (accumulator: R, value: Infer<V>, cpu: number) => R,
    initial: R,
  ): R | undefined {
    return reduceValues(this.get(index), fn, initial);
  }

  /** The value of one CPU, or `undefined` outside the array. @throws {RangeError} for a CPU that cannot be */
  getCpu(index: number, cpu: number): Infer<V> | undefined {
    return this.#perCpu.get(index, cpu);
  }

  /**
   * Stores the value of one CPU and leaves those of the others (kernel 7.0).
   *
   * @throws {BpfError} `EINVAL` before 7.0
   * @throws {RangeError} for a CPU that cannot be, or an index outside the array
   */
  setCpu(index: number, cpu: number, value: Infer<V>): this {
    checkIndex(this, index);
    this.#perCpu.set(index, cpu, value);
    return this;
  }
}
