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

/** Conversions of the result of 32-bit atomic operations, by the kind of integer type. */
const conversions32 = {
  i32: (bits: number) => bits,
  u32: (bits: number) => bits >>> 0,
} as const;
/** Conversions of the result of 64-bit atomic operations, by the kind of integer type. */
const conversions64 = {
  i64: (bits: bigint) => bits,
  u64: (bits: bigint) => BigInt.asUintN(64, bits),
  i64Number: (bits: bigint) => Number(bits),
  u64Number: (bits: bigint) => Number(BigInt.asUintN(64, bits)),
} as const;

/**
 * Returns a function that adds to an integer in shared memory atomically and returns its previous value.
 *
 * @param stride bytes from one integer to the next: a multiple of 8
 * @throws {TypeError} if the type is not an integer of 32 or 64 bits in the machine's byte order.
 */
function atomicAdder<V>(
  { kind, name }: Type<V>,
  buffer: ArrayBufferLike,
  stride: number,
): (index: number, amount: V) => V {
  // TypeScript cannot see that the kind of an integer type determines the type of the converted value.
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
    `atomicAdd: expected an array of ${names.slice(0, -1).join(", ")} or ${names.at(-1)}, got an array of ${name}`,
  );
}

/**
 * Checks an amount that is added to an integer.
 *
 * @throws {TypeError | RangeError} if the integer type cannot hold it.
 */
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

/** Values of an array, mapped into this process. The mapping is read-only if this process may not write the map. */
class MappedValues implements Disposable {
  readonly #memory: MappedMemory;
  readonly #isWritable: boolean;
  readonly #what: string;
  /** View of all values. Use {@link writable} to store: a store to read-only memory ends the process. */
  readonly view: DataView;
  /** View for users: its setters throw if the memory is read-only. */
  readonly safeView: DataView;

  /** @param length total size of the values in bytes, not necessarily a multiple of the page size */
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
      // EPERM: the map is frozen. EACCES: the descriptor or the map does not permit writing.
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

  /**
   * View for stores.
   *
   * @throws {TypeError} if the memory is read-only.
   */
  get writable(): DataView {
    return this.#isWritable ? this.view : this.#throwReadOnly();
  }

  /**
   * Makes the setters and `buffer` of a view throw. A typed array over the buffer could store, and even an atomic load of
   * the engine writes to the memory.
   */
  #makeReadOnly(view: DataView): DataView {
    const throwReadOnly = (): never => this.#throwReadOnly();
    for (const name of Object.getOwnPropertyNames(DataView.prototype)) {
      if (name.startsWith("set")) Object.defineProperty(view, name, { value: throwReadOnly });
    }
    return Object.defineProperty(view, "buffer", { get: throwReadOnly });
  }

  #throwReadOnly(): never {
    throw new TypeError(
      `the view of the ${this.#what} is read-only, because the map is frozen or was created or opened without the right to write: read it with load(), or with the get methods of the view`,
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

/**
 * Base class of arrays with an element at each index from 0. All elements exist from creation, zeroed, and none can be
 * deleted.
 */
export abstract class IndexedMap<V, W = V, Name extends MapTypeName = MapTypeName> extends KeyedMap<
  number,
  V,
  W,
  Name
> {
  /** Number of elements: the same as `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /**
   * Stores the value at an index.
   *
   * The kernel copies the value in place. A program that reads at the same moment can see parts of the old and the new
   * value, unless the value type has a `t.spinLock` field.
   *
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value type rejects the value.
   */
  set(index: number, value: W, options?: ElementOptions): this {
    checkIndex(this, index);
    this.elements.set(index, value, BPF_ANY, options);
    return this;
  }

  /**
   * Stores many values in the given order. Storing takes one system call if the kernel has batches for the map type (arrays:
   * Linux 5.6, per-CPU arrays: 5.13), otherwise one call for each value. All pairs are checked before the first one is
   * stored. The values are not stored in one atomic step.
   *
   * @throws {BatchError} if the kernel rejects a value. `applied` is the number of values that were stored before.
   * @throws {TypeError | RangeError} if an index is outside the array, or if the value type rejects a value. Nothing is
   *   stored then.
   */
  setMany(pairs: Iterable<readonly [index: number, value: W]>): this {
    const list = listOf(pairs, "pairs");
    // MapElements.setMany() rejects elements that are not pairs.
    for (const pair of list) if (Array.isArray(pair)) checkIndex(this, pair[0]);
    this.elements.setMany(list);
    return this;
  }

  /**
   * Returns the value at an index, or `undefined` outside the array. A negative index counts from the end, as in
   * `Array.prototype.at`.
   */
  at(index: number): V | undefined {
    // Throws a DisposedError after disposal, for an index outside the array too.
    void this.fd;
    const place = Math.trunc(index) || 0;
    const absolute = place < 0 ? place + this.length : place;
    return absolute < 0 || absolute >= this.length ? undefined : this.get(absolute);
  }

  /** Returns {@link length}: all elements of an array exist. */
  override count(): number {
    // Throws a DisposedError after disposal.
    void this.fd;
    return this.length;
  }
}

/** Options of {@link ArrayMap}. */
export interface ArrayMapOptions<V extends AnyType> extends IndexedMapOptions<V> {
  /**
   * Makes the values mappable, for {@link ArrayMap.view}. Requires Linux 5.5.
   *
   * @default false
   */
  readonly mmap?: boolean;
}

/**
 * Array of values, indexed from 0. All values exist from creation, zeroed, and none can be deleted.
 *
 * Keys are indexes from 0 to `length - 1`. If the value type has a `t.spinLock` field, values are copied while the lock is
 * held (Linux 5.1 or later). With the option `mmap`, {@link view}, {@link load}, {@link store} and {@link atomicAdd} access
 * the values without system calls.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM if the kernel has no memory for all values.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { ArrayMap, t } from "bun-bpf";
 * using totals = new ArrayMap({ value: t.u64, length: 4 });
 * totals.set(2, 7n);
 * console.log([...totals.values()]); // [ 0n, 0n, 7n, 0n ]
 * ```
 *
 * Requires Linux 4.13.
 */
export class ArrayMap<V extends AnyType> extends IndexedMap<Infer<V>, Infer<V>, "array"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ arrayKind<"ArrayMap", ArrayMapOptions<AnyType>>(
    ARRAY,
    "ArrayMap",
    ["mmap"],
    mmapFlag,
  );
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;
  #mapped: MappedValues | undefined;
  #atomicAdd: ((index: number, amount: Infer<V>) => Infer<V>) | undefined;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
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

  /** Bytes from one value to the next in {@link view}: the size of a value, rounded up to a multiple of 8. */
  get stride(): number {
    return roundUp8(this.valueSize);
  }

  /**
   * The kernel's own memory of the values, without a copy. Value `i` is at byte `i * stride`. The array must have been
   * created with `mmap: true`.
   *
   * Programs change the memory at any time. In a loop that waits for a change, read it with `Atomics.load` of an integer
   * array over `view.buffer`, or call a method of the map in the loop. The engine may do a plain read only once for the
   * whole loop, even if the loop calls `Date.now()` or `performance.now()`. Disposal detaches the view.
   *
   * The view is read-only if the map is frozen, has the flag `"rdonly_prog"`, or was created or opened with `"rdonly"`. The
   * `set` methods and `buffer` of the view then throw a TypeError, because a store to such memory would end the process. To
   * wait for a change, call {@link load} in a loop. If the map was opened with `"rdonly"`, the view needs CAP_SYS_ADMIN: the
   * kernel cannot map such a descriptor, so the map is opened a second time by its id.
   *
   * @throws {TypeError} if the array was not created with `mmap: true`.
   * @throws {BpfError} EACCES if this object may not read the map.
   * @throws {BpfError} EPERM if the map was opened with `"rdonly"` and this process lacks CAP_SYS_ADMIN.
   *
   * @example
   * ```ts
   * import { ArrayMap, t } from "bun-bpf";
   * using totals = new ArrayMap({ value: t.u64, length: 4, mmap: true });
   * totals.set(1, 5n);
   * console.log(totals.view.getBigUint64(1 * totals.stride, true)); // 5n
   * ```
   *
   * Requires Linux 5.5.
   */
  get view(): DataView {
    return this.#values().safeView;
  }

  #values(): MappedValues {
    // Throws a DisposedError after disposal.
    void this.fd;
    if (this.#mapped !== undefined) return this.#mapped;
    if ((this.flags & BPF_F_MMAPABLE) === 0) {
      throw new TypeError(`${this} has no view: create it with { mmap: true }`);
    }
    this.#mapped = new MappedValues(this, this.stride * this.length, `${this}`);
    return this.#mapped;
  }

  /**
   * Returns the value at an index, decoded from {@link view} without a system call, or `undefined` outside the array.
   *
   * Programs may write at the same moment: a value of more than one integer can be half old and half new.
   *
   * @throws {TypeError} if the array was not created with `mmap: true`.
   * @throws {BpfError} if the memory cannot be mapped: see {@link view}.
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
   * Writes the value at an index into {@link view}, without a system call. Programs see the new value at once, and can see a
   * part of the new value before the rest.
   *
   * @throws {RangeError} if the index is outside the array.
   * @throws {TypeError | RangeError} if the value type rejects the value, which can then be written in part.
   * @throws {TypeError} if the view is read-only, or if the array was not created with `mmap: true`.
   * @throws {BpfError} if the memory cannot be mapped: see {@link view}.
   */
  store(index: number, value: Infer<V>): this {
    const view = this.#values().writable;
    this.#checkIndex(index);
    const { elements, stride } = this;
    elements.write("value", elements.layout.value, view, index * stride, value);
    return this;
  }

  /**
   * Adds to the integer at an index atomically, without a system call, and returns its previous value. The integer wraps
   * around as its C type does; a negative amount subtracts.
   *
   * The value type must be `t.u32`, `t.i32`, `t.u64`, `t.i64`, `t.u64Number` or `t.i64Number`.
   *
   * @throws {TypeError} if the array has another value type, if the amount has the wrong type, or if the view is read-only.
   * @throws {RangeError} if the index is outside the array, or if the amount is not an integer that fits the value type.
   * @throws {BpfError} if the memory cannot be mapped: see {@link view}.
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
   * Detaches the view and closes the descriptor. Further calls do nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view. Nothing is disposed of then.
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
      "mmap: expected a value type without a spin lock or timer, because user space could overwrite those",
    );
  }
  return { flags: mmap ? BPF_F_MMAPABLE : 0 };
}

/** Options of {@link PerCpuArrayMap}. */
export type PerCpuArrayMapOptions<V extends AnyType> = IndexedMapOptions<V>;

/**
 * Array that has one value for each CPU at every index. A program changes the value of its own CPU without contention, and
 * user space combines the values of all CPUs with `sum` or `reduce`. All values exist from creation, zeroed, and none can be
 * deleted.
 *
 * Values are arrays with one element for each possible CPU, in the order of {@link possibleCpus}. A value takes at most 32
 * KiB for each CPU. `set` stores all elements. The kernel copies the values of an index one CPU after the other while
 * programs run: their sum is not a snapshot of one moment.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM if the kernel has no memory for all values.
 * @throws {BpfError} E2BIG if a value has more than 32 KiB.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { PerCpuArrayMap, possibleCpus, t } from "bun-bpf";
 * using totals = new PerCpuArrayMap({ value: t.u64, length: 4 });
 * totals.set(2, possibleCpus().map((cpu) => BigInt(cpu)));
 * console.log(totals.sum(0), totals.reduce(2, (largest, value) => (value > largest ? value : largest), 0n));
 * ```
 *
 * Requires Linux 4.13.
 */
export class PerCpuArrayMap<V extends AnyType> extends IndexedMap<
  Infer<V>[],
  readonly Infer<V>[],
  "percpu_array"
> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ arrayKind(PERCPU_ARRAY, "PerCpuArrayMap");
  /** Type of the value of one CPU. */
  declare readonly types: ValueTypes<V>;
  readonly #perCpu: PerCpuElements<number, Infer<V>>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: PerCpuArrayMapOptions<V>) {
    const handle = PerCpuArrayMap.kind.handle(options);
    const values = new PerCpuLayout(handle.types.value as Type<Infer<V>>);
    super(handle, { key: u32, value: values });
    this.#perCpu = new PerCpuElements(handle, this.elements, values);
  }

  /**
   * Returns the sum of the values at an index over all CPUs, or `undefined` outside the array. A sum of numbers is exact up
   * to 2^53.
   *
   * @throws {TypeError} if the values are neither numbers nor bigints.
   */
  sum(index: number): (Infer<V> & (number | bigint)) | undefined {
    return sumValues(this.get(index), `${this}`);
  }

  /**
   * Calls `fn` with the value of each CPU in turn and returns the last result, or `undefined` outside the array. `fn` gets
   * the previous result (at first `initial`), the value and the number of the CPU.
   */
  reduce<R>(
    index: number,
    fn: (accumulator: R, value: Infer<V>, cpu: number) => R,
    initial: R,
  ): R | undefined {
    return reduceValues(this.get(index), fn, initial);
  }

  /**
   * Returns the value of one CPU, or `undefined` outside the array. The kernel copies the values of all CPUs even for one.
   *
   * @throws {RangeError} if `cpu` is not one of {@link possibleCpus}.
   */
  getCpu(index: number, cpu: number): Infer<V> | undefined {
    return this.#perCpu.get(index, cpu);
  }

  /**
   * Stores the value of one CPU and leaves the values of the other CPUs unchanged.
   *
   * @throws {BpfError} EINVAL before Linux 7.0.
   * @throws {RangeError} if the index is outside the array, or if `cpu` is not one of {@link possibleCpus}.
   *
   * Requires Linux 7.0.
   */
  setCpu(index: number, cpu: number, value: Infer<V>): this {
    checkIndex(this, index);
    this.#perCpu.set(index, cpu, value);
    return this;
  }
}
