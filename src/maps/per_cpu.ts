/** @module Values of per-CPU maps: one for each possible CPU. */

import { describe, Located } from "../check/describe.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { roundUp8 } from "../ffi/mapped_memory.ts";
import type { Type } from "../types/type.ts";
import { BPF_F_CPU } from "../uapi/bpf.ts";
import type { MapHandle } from "./create.ts";
import type { MapElements } from "./elements.ts";
import type { ValueLayout } from "./value_layout.ts";

/** Folds the values of one key: see `reduce` of the per-CPU classes. */
export function reduceValues<V, R>(
  values: readonly V[] | undefined,
  fn: (accumulator: R, value: V, cpu: number) => R,
  initial: R,
): R | undefined {
  if (values === undefined) return undefined;
  const cpus = possibleCpus();
  let result = initial;
  for (let index = 0; index < values.length; index++) {
    result = fn(result, values[index] as V, cpus[index] as number);
  }
  return result;
}

/**
 * Returns the sum of the values of one key.
 *
 * @throws {TypeError} if they are neither numbers nor bigints.
 */
export function sumValues<V>(
  values: readonly V[] | undefined,
  what: string,
): (V & (number | bigint)) | undefined {
  if (values === undefined) return undefined;
  // All values of a type are numbers, or all are bigints.
  let sum: number | bigint = typeof values[0] === "bigint" ? 0n : 0;
  for (const value of values) {
    if (typeof value !== "number" && typeof value !== "bigint") {
      throw new TypeError(
        `sum of ${what}: expected numbers or bigints as values, got ${describe(value)}: use reduce()`,
      );
    }
    sum = (sum as number) + (value as number);
  }
  return sum as V & (number | bigint);
}

/**
 * Returns the index of a CPU's value among the values of a key.
 *
 * @throws {RangeError} if the CPU is not possible on this machine.
 */
function cpuIndex(cpu: number): number {
  const index = possibleCpus().indexOf(cpu);
  if (index >= 0) return index;
  throw new RangeError(
    `cpu: expected one of the possible CPUs (${possibleCpus().join(", ")}), got ${describe(cpu)}`,
  );
}

/**
 * Layout of the values of one key in a per-CPU map: one for each possible CPU, in the order of {@link possibleCpus}.
 *
 * The kernel rounds the size of each value up to a multiple of 8 bytes, and copies one value for every possible CPU. The
 * kernel cannot check the size of the buffer: it writes past the end of a smaller buffer.
 */
export class PerCpuLayout<V> implements ValueLayout<V[], readonly V[]> {
  readonly #type: Type<V>;
  readonly #stride: number;
  readonly #cpus: number;
  readonly size: number;

  constructor(type: Type<V>) {
    this.#type = type;
    this.#stride = roundUp8(type.size);
    this.#cpus = possibleCpus().length;
    this.size = this.#stride * this.#cpus;
  }

  read(view: DataView, offset: number): V[] {
    const values = new Array<V>(this.#cpus);
    for (let cpu = 0; cpu < this.#cpus; cpu++) values[cpu] = this.readCpu(view, offset, cpu);
    return values;
  }

  /** Decodes the value of the CPU at `index` among the possible CPUs. */
  readCpu(view: DataView, offset: number, index: number): V {
    return this.#type.read(view, offset + index * this.#stride);
  }

  write(view: DataView, offset: number, values: readonly V[]): void {
    const expected = `expected an array of ${this.#cpus}, a value for each possible CPU`;
    if (!Array.isArray(values)) throw new TypeError(`${expected}, got ${describe(values)}`);
    if (values.length !== this.#cpus) throw new RangeError(`${expected}, got ${values.length}`);
    for (let index = 0; index < this.#cpus; index++) {
      this.writeCpu(view, offset + index * this.#stride, values[index] as V, index);
    }
  }

  /**
   * Encodes the value of one CPU.
   *
   * @throws {Located} if the type rejects the value. The error adds the number of the CPU to the message.
   */
  writeCpu(view: DataView, offset: number, value: V, index: number): void {
    try {
      this.#type.write(view, offset, value);
    } catch (error) {
      throw new Located(error, `value of CPU ${possibleCpus()[index]}`);
    }
  }
}

/** Access to the value of one CPU in the elements of a per-CPU map. */
export class PerCpuElements<K, V> {
  readonly #handle: MapHandle;
  readonly #elements: MapElements<K, V[], readonly V[]>;
  readonly #layout: PerCpuLayout<V>;

  constructor(
    handle: MapHandle,
    elements: MapElements<K, V[], readonly V[]>,
    layout: PerCpuLayout<V>,
  ) {
    this.#handle = handle;
    this.#elements = elements;
    this.#layout = layout;
  }

  /**
   * Looks up the values of a key and returns the value of one CPU.
   *
   * @throws {RangeError} if the CPU is not possible.
   */
  get(key: K, cpu: number): V | undefined {
    const index = cpuIndex(cpu);
    const elements = this.#elements;
    return elements.use((element) => {
      elements.writeKey(element, key);
      if (!element.lookup(0)) return undefined;
      return elements.read(element, {
        read: (view, offset) => this.#layout.readCpu(view, offset, index),
      });
    });
  }

  /**
   * Stores the value of one CPU and leaves the values of the other CPUs unchanged. Requires Linux 7.0.
   *
   * @throws {RangeError} if the CPU is not possible.
   */
  set(key: K, cpu: number, value: V): void {
    const index = cpuIndex(cpu);
    const elements = this.#elements;
    elements.use((element) => {
      elements.writeKey(element, key);
      const cpuLayout = {
        write: (view: DataView, offset: number) =>
          this.#layout.writeCpu(view, offset, value, index),
      };
      elements.write("value", cpuLayout, element.view, element.valueOffset, value);
      // Throws a DisposedError if the value type's code disposed of the map.
      void this.#handle.descriptor.fd;
      element.setCpu(cpu);
      try {
        element.update(BPF_F_CPU, `the value of CPU ${cpu}`, {
          EINVAL:
            "Storing the value of one CPU needs Linux 7.0: store the values of all CPUs with set()",
        });
      } finally {
        element.setCpu(0);
      }
    });
  }
}
