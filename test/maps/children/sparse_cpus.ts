/**
 * Child process for which the possible CPUs are "0,2-3,8". Prints as JSON how the library uses them. They are more than the
 * machine has, so that the kernel writes less than the memory has room for.
 */
import { PerCpuArrayMap, possibleCpus, t } from "../../../src/index.ts";

using map = new PerCpuArrayMap({ value: t.u32, length: 1 });
map.set(0, [10, 20, 30, 40]);
const refusals = [1, 4, -1, 2.5].map((cpu) => {
  try {
    return map.getCpu(0, cpu);
  } catch (error) {
    return String(error);
  }
});
let wrongLength: unknown;
try {
  map.set(0, [1, 2]);
} catch (error) {
  wrongLength = String(error);
}
console.log(
  JSON.stringify({
    cpus: possibleCpus(),
    // The kernel writes the values of its own CPUs, and leaves the memory of the others unchanged.
    values: map.get(0),
    ofCpu0: map.getCpu(0, 0),
    folded: map.reduce(0, (cpus: number[], _value, cpu) => [...cpus, cpu], []),
    refusals,
    wrongLength,
  }),
);
