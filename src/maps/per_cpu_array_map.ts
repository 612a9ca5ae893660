import { u32 } from "../types/integer.ts";
import { arrayKind, type ArrayMapTypes, type IndexedMapOptions } from "./array_kind.ts";
import type { MapHandle } from "./handle.ts";
import { checkIndex } from "./index_check.ts";
import { IndexedMap } from "./indexed_map.ts";
import { PerCpuLayout } from "./per_cpu_layout.ts";
import { reduceValues, sumValues } from "./per_cpu_values.ts";

/** Options of {@link PerCpuArrayMap}. */
export type PerCpuArrayMapOptions<V> = IndexedMapOptions<V>;

/**
 * An array with a value for each CPU at every index: a program counts on its own CPU without contention, and the reader
 * adds up. All values are there from the start, zeroed, and none can be deleted.
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
 * using totals = new PerCpuArrayMap({ value: t.u64, maxEntries: 4 });
 * totals.set(2, possibleCpus().map((cpu) => BigInt(cpu)));
 * console.log(totals.sum(0), totals.reduce(2, (largest, value) => (value > largest ? value : largest), 0n));
 * ```
 */
export class PerCpuArrayMap<V> extends IndexedMap<V[], readonly V[]> {
  /** @internal */
  static readonly kind = arrayKind("percpu-array", "PerCpuArrayMap", [], () => ({}));
  /** The type that the values of one CPU are written and read with. */
  readonly types: ArrayMapTypes<V>;
  readonly #values: PerCpuLayout<V>;

  constructor(options: PerCpuArrayMapOptions<V>);
  /** @internal */
  constructor(types: ArrayMapTypes<V>, existing: MapHandle);
  constructor(options: ArrayMapTypes<V>, existing = PerCpuArrayMap.kind.create(options)) {
    const { value } = options;
    const values = new PerCpuLayout(value);
    super(existing, { key: u32, value: values });
    this.types = { value };
    this.#values = values;
  }

  /** Opens the array pinned at a path on a BPF file system (kernel 4.4). @throws as {@link ArrayMap.open} */
  static open<V>(path: string, types: ArrayMapTypes<V>): PerCpuArrayMap<V> {
    return new PerCpuArrayMap(types, PerCpuArrayMap.kind.open(path, types));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link ArrayMap.open} */
  static fromId<V>(id: number, types: ArrayMapTypes<V>): PerCpuArrayMap<V> {
    return new PerCpuArrayMap(types, PerCpuArrayMap.kind.byId(id, types));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link ArrayMap.open} */
  static fromFd<V>(fd: number, types: ArrayMapTypes<V>): PerCpuArrayMap<V> {
    return new PerCpuArrayMap(types, PerCpuArrayMap.kind.byFd(fd, types));
  }

  /**
   * The sum of an index's values over all CPUs, or `undefined` outside the array. For numbers and bigints; a sum of numbers
   * is exact up to 2^53.
   *
   * @throws {TypeError} when the values are something else
   */
  sum(index: number): (V & (number | bigint)) | undefined {
    return sumValues(this.get(index), `${this}`);
  }

  /** Folds an index's values, one CPU after the other, into one; `undefined` outside the array. */
  reduce<R>(
    index: number,
    fn: (accumulator: R, value: V, cpu: number) => R,
    initial: R,
  ): R | undefined {
    return reduceValues(this.get(index), fn, initial);
  }

  /** The value of one CPU, or `undefined` outside the array. @throws {RangeError} for a CPU that cannot be */
  getCpu(index: number, cpu: number): V | undefined {
    return this.findCpu(index, cpu, this.#values);
  }

  /**
   * Stores the value of one CPU and leaves those of the others (kernel 7.0).
   *
   * @throws {BpfError} `EINVAL` before 7.0
   * @throws {RangeError} for a CPU that cannot be, or an index outside the array
   */
  setCpu(index: number, cpu: number, value: V): this {
    checkIndex(this, index);
    this.updateCpu(index, cpu, value, this.#values);
    return this;
  }

  override dup(): PerCpuArrayMap<V> {
    return new PerCpuArrayMap(this.types, this.duplicateHandle());
  }
}
