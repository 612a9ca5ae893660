import { possibleCpus } from "../ffi/cpus.ts";
import { describe } from "../types/refusal.ts";

/** Folds the values of one key; see `reduce` of the per-CPU classes. */
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

/** Adds the values of one key up. @throws {TypeError} when they are no numbers or bigints */
export function sumValues<V>(
  values: readonly V[] | undefined,
  what: string,
): (V & (number | bigint)) | undefined {
  if (values === undefined) return undefined;
  // Which of the two it is, is the same for all values of a type.
  let sum: number | bigint = typeof values[0] === "bigint" ? 0n : 0;
  for (const value of values) {
    if (typeof value !== "number" && typeof value !== "bigint") {
      throw new TypeError(
        `sum of ${what}: its values are no numbers but ${describe(value)}: use reduce()`,
      );
    }
    sum = (sum as number) + (value as number);
  }
  return sum as V & (number | bigint);
}

/** Where a CPU's value is among those of a key. @throws {RangeError} for a CPU that this machine cannot have */
export function cpuIndex(cpu: number): number {
  const index = possibleCpus().indexOf(cpu);
  if (index >= 0) return index;
  throw new RangeError(
    `cpu: expected one of the possible CPUs (${possibleCpus().join(", ")}), got ${describe(cpu)}`,
  );
}
