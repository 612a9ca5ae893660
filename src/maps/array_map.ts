import { roundUp8 } from "../ffi/align.ts";
import { MappedMemory, roundUpToPage } from "../ffi/memory.ts";
import { u32 } from "../types/integer.ts";
import { hasOpaqueField, hasSpinLock } from "../types/opaque.ts";
import { describe } from "../types/refusal.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";
import { AtomicCells } from "./atomic_cells.ts";
import { arrayKind, type ArrayMapTypes, type IndexedMapOptions } from "./array_kind.ts";
import type { MapHandle } from "./handle.ts";
import { IndexedMap } from "./indexed_map.ts";

/** Options of {@link ArrayMap}. */
export interface ArrayMapOptions<V> extends IndexedMapOptions<V> {
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
export class ArrayMap<V> extends IndexedMap<V> {
  /** @internal */
  static readonly kind = arrayKind("array", "ArrayMap", ["mmap"], mappable);
  /** The type that values are written and read with. */
  readonly types: ArrayMapTypes<V>;
  #mapping: MappedMemory | undefined;
  #view: DataView | undefined;
  #cells: AtomicCells<V> | undefined;

  constructor(options: ArrayMapOptions<V>);
  /** @internal */
  constructor(types: ArrayMapTypes<V>, existing: MapHandle);
  constructor(options: ArrayMapTypes<V>, existing = ArrayMap.kind.create(options)) {
    const { value } = options;
    super(existing, {
      key: u32,
      value,
      isLocked: hasSpinLock(value),
      isReadByPrograms: !hasOpaqueField(value),
    });
    this.types = { value };
  }

  /**
   * Opens the array pinned at a path on a BPF file system (kernel 4.4).
   *
   * @throws {TypeError} when it is another kind of map, or its value has another size
   * @throws {Error} when nothing is pinned there
   */
  static open<V>(path: string, types: ArrayMapTypes<V>): ArrayMap<V> {
    return new ArrayMap(types, ArrayMap.kind.open(path, types));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<V>(id: number, types: ArrayMapTypes<V>): ArrayMap<V> {
    return new ArrayMap(types, ArrayMap.kind.byId(id, types));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<V>(fd: number, types: ArrayMapTypes<V>): ArrayMap<V> {
    return new ArrayMap(types, ArrayMap.kind.byFd(fd, types));
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
   * const Total = t.struct({ packets: t.u64n, bytes: t.u64n });
   * using totals = new ArrayMap({ value: Total, maxEntries: 4, mmap: true });
   * totals.store(2, { packets: 1, bytes: 1500 });
   * console.log(totals.load(2)); // { packets: 1, bytes: 1500 }
   * ```
   */
  load(index: number): V | undefined {
    const { view } = this;
    if (!Number.isInteger(index) || index < 0 || index >= this.length) return undefined;
    return this.types.value.read(view, index * this.stride);
  }

  /**
   * Writes the value at an index into {@link view}: no system call. Programs see it at once, and may see a part of it first.
   *
   * @throws {TypeError | RangeError} for an index outside the array, or a value that its type refuses, which may then be
   * written in part; else as {@link view}
   */
  store(index: number, value: V): this {
    const { view } = this;
    this.#checkPlace(index);
    this.write("value", this.types.value, view, index * this.stride, value);
    return this;
  }

  /**
   * Adds to the integer at an index in one step, so that nothing that programs add meanwhile is lost, and returns what it was
   * before; no system call. It wraps around as the C type does; a negative amount subtracts.
   *
   * For `t.u32`, `t.i32`, `t.u64`, `t.i64`, `t.u64n` and `t.i64n`.
   *
   * @throws {TypeError} for another type of values, or an amount of another kind than the values
   * @throws {RangeError} for an index outside the array, or an amount that is no integer of 64 bits; else as {@link view}
   *
   * @example
   * ```ts
   * import { ArrayMap, t } from "bun-bpf";
   * using totals = new ArrayMap({ value: t.u32, maxEntries: 4, mmap: true });
   * console.log(totals.atomicAdd(1, 5), totals.atomicAdd(1, -2), totals.load(1)); // 0 5 3
   * ```
   */
  atomicAdd(index: number, amount: V & (number | bigint)): V {
    const { buffer } = this.view;
    this.#checkPlace(index);
    this.#cells ??= new AtomicCells(this.types.value, buffer, this.stride);
    return this.#cells.add(index, amount);
  }

  #checkPlace(index: number): void {
    if (Number.isInteger(index) && index >= 0 && index < this.length) return;
    throw new RangeError(
      `index of ${this}: expected an integer from 0 to ${this.length - 1}, got ${describe(index)}`,
    );
  }

  override dup(): ArrayMap<V> {
    return new ArrayMap(this.types, this.duplicateHandle());
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

function mappable({ mmap = false, value }: ArrayMapOptions<unknown>) {
  if (typeof mmap !== "boolean") {
    throw new TypeError(`mmap: expected true or false, got ${describe(mmap)}`);
  }
  if (mmap && hasOpaqueField(value)) {
    throw new TypeError(
      "mmap: values with a spin lock or timer cannot be mapped, as user space could write those",
    );
  }
  return { flags: mmap ? BPF_F_MMAPABLE : 0 };
}
