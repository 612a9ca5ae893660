import { roundUp8 } from "../ffi/align.ts";
import { possibleCpus } from "../ffi/cpus.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import type { ValueLayout } from "./value_layout.ts";

/**
 * The values of one key in a per-CPU map: one for each possible CPU, in the order of {@link possibleCpus}.
 *
 * The kernel copies each rounded up to 8 bytes, for as many CPUs as are possible, whatever it was told of the size: with
 * less room it writes past the end.
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
    for (let cpu = 0; cpu < this.#cpus; cpu++) values[cpu] = this.readOne(view, offset, cpu);
    return values;
  }

  /** The value of the CPU that is at `index` among the possible ones. */
  readOne(view: DataView, offset: number, index: number): V {
    return this.#type.read(view, offset + index * this.#stride);
  }

  write(view: DataView, offset: number, values: readonly V[]): void {
    const expected = `expected an array of ${this.#cpus}, a value for each possible CPU`;
    if (!Array.isArray(values)) throw new TypeError(`${expected}, got ${describe(values)}`);
    if (values.length !== this.#cpus) throw new RangeError(`${expected}, got ${values.length}`);
    for (let index = 0; index < this.#cpus; index++) {
      this.writeOne(view, offset + index * this.#stride, values[index] as V, index);
    }
  }

  /** Writes a value to where it lies alone. */
  writeOne(view: DataView, offset: number, value: V, index: number): void {
    try {
      this.#type.write(view, offset, value);
    } catch (error) {
      if (error instanceof Error)
        error.message = `value of CPU ${possibleCpus()[index]}: ${error.message}`;
      throw error;
    }
  }
}
