import { readFileSync } from "node:fs";
import type { bpfMapTypes } from "../uapi/enumerations.ts";

const path = "/sys/devices/system/cpu/possible";

/** Kinds of maps that have a value for each CPU: to read one, there must be room for all of them. */
export const perCpuMapTypes: readonly Exclude<keyof typeof bpfMapTypes, "UNSPEC">[] = [
  "PERCPU_HASH",
  "PERCPU_ARRAY",
  "LRU_PERCPU_HASH",
  "PERCPU_CGROUP_STORAGE",
];

let cached: readonly number[] | undefined;

/**
 * The ids of the CPUs that this machine could have: the values of per-CPU maps are in this order, one for each.
 *
 * There may be more than are present or online, and ids may be left out. The list stays the same until the next boot.
 *
 * @throws {Error} where /sys is not mounted: guessing too few would let the kernel write past a buffer
 *
 * @example
 * ```ts
 * import { possibleCpus } from "bun-bpf";
 * console.log(`values for ${possibleCpus().length} CPUs, the first is CPU ${possibleCpus()[0]}`);
 * ```
 */
export function possibleCpus(): readonly number[] {
  cached ??= Object.freeze(parseCpuList(readPossible()));
  return cached;
}

function readPossible(): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new Error(
      `cannot tell how many CPUs this machine may have: ${path} is not readable; mount sysfs (mount -t sysfs sysfs /sys)`,
      { cause },
    );
  }
}

/** Reads the kernel's form of a list: `0-3,8` (lib/bitmap.c, "%*pbl"). */
export function parseCpuList(text: string): number[] {
  const ids: number[] = [];
  for (const range of text.trim().split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(range);
    if (match === null) throw new Error(`${path}: not a list of CPUs: ${JSON.stringify(text)}`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    for (let id = first; id <= last; id++) ids.push(id);
  }
  return ids;
}
