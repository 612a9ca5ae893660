import { AssociativeMap } from "./associative_map.ts";
import type { MapHandle } from "./handle.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";
import { PerCpuLayout } from "./per_cpu_layout.ts";
import { reduceValues, sumValues } from "./per_cpu_values.ts";

/** Hash tables with a value for each CPU under every key. */
export abstract class PerCpuAssociativeMap<K, V> extends AssociativeMap<K, V[], readonly V[]> {
  /** The types that keys, and the values of one CPU, are written and read with. */
  readonly types: KeyedMapTypes<K, V>;
  readonly #values: PerCpuLayout<V>;

  /** @internal */
  protected constructor(handle: MapHandle, { key, value }: KeyedMapTypes<K, V>) {
    const values = new PerCpuLayout(value);
    super(handle, { key, value: values });
    this.types = { key, value };
    this.#values = values;
  }

  /**
   * The sum of a key's values over all CPUs, or `undefined`. For numbers and bigints; a sum of numbers is exact up to 2^53.
   *
   * @throws {TypeError} when the values are something else
   */
  sum(key: K): (V & (number | bigint)) | undefined {
    return sumValues(this.get(key), `${this}`);
  }

  /** Folds a key's values, one CPU after the other, into one; `undefined` for a key that is absent. */
  reduce<R>(key: K, fn: (accumulator: R, value: V, cpu: number) => R, initial: R): R | undefined {
    return reduceValues(this.get(key), fn, initial);
  }

  /** The value of one CPU, or `undefined` for a key that is absent. @throws {RangeError} for a CPU that cannot be */
  getCpu(key: K, cpu: number): V | undefined {
    return this.findCpu(key, cpu, this.#values);
  }

  /**
   * Stores the value of one CPU and leaves those of the others (kernel 7.0); a key that is absent is added, with zeroes for
   * the others.
   *
   * @throws {BpfError} `EINVAL` before 7.0
   * @throws {RangeError} for a CPU that cannot be
   */
  setCpu(key: K, cpu: number, value: V): this {
    this.updateCpu(key, cpu, value, this.#values);
    return this;
  }
}
