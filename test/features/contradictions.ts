import { type Capability, hasCapability } from "../../src/ffi/capabilities.ts";
import { isKernelSince, kernelConfig } from "../../src/ffi/kernel.ts";
import type { Feature } from "../../src/index.ts";

const capabilities: readonly Capability[] = [
  "CAP_BPF",
  "CAP_PERFMON",
  "CAP_NET_ADMIN",
  "CAP_SYS_ADMIN",
];

/** Returns features that are available before their first version, or missing since then without an explanation. */
export function contradictions(group: Iterable<Feature>): string[] {
  return [...group].flatMap((feature) => {
    const { name, since, reason, available, isBackported } = feature;
    if (available) {
      return isDue(feature) || isBackported ? [] : [`${name} is available before ${since}`];
    }
    return isDue(feature) && !isExplained(feature) ? [`${name} (since ${since}): ${reason}`] : [];
  });
}

/** Returns true if the running kernel's version should have a feature. */
function isDue({ since }: Feature): boolean {
  return since !== undefined && isKernelSince(since);
}

function isExplained({ name, status, config, reason }: Feature): boolean {
  // A setting of the machine may forbid it, but not in a guest, which the tests set up themselves.
  if (status === "refused") {
    return process.env["BUN_BPF_GUEST"] === undefined && capabilities.every(hasCapability);
  }
  const options = kernelConfig();
  if (options === undefined) return true;
  // A module may be missing: guests have none.
  if (config.some((option) => options.get(option) !== "y")) return true;
  // Another reason describes what the probe needs; for a fix it describes the bug.
  return reason?.startsWith("the kernel returns ") === false && !name.startsWith("fix ");
}
