import { type Capability, hasCapability } from "../../src/ffi/capabilities.ts";
import { isKernelSince, kernelConfig } from "../../src/ffi/kernel.ts";
import type { Feature } from "../../src/index.ts";

const capabilities: readonly Capability[] = [
  "CAP_BPF",
  "CAP_PERFMON",
  "CAP_NET_ADMIN",
  "CAP_SYS_ADMIN",
];

/** Features that the kernel has before its version has them, or lacks although its version has them and nothing explains that: none. */
export function contradictions(group: Iterable<Feature>): string[] {
  return [...group].flatMap((feature) => {
    const { name, since, reason, available, isBackported } = feature;
    if (available) {
      return isDue(feature) || isBackported ? [] : [`${name} is there, though since ${since}`];
    }
    return isDue(feature) && !isExplained(feature) ? [`${name} (since ${since}): ${reason}`] : [];
  });
}

/** Whether the version of the running kernel says that it has a feature. */
function isDue({ since }: Feature): boolean {
  return since !== undefined && isKernelSince(since);
}

function isExplained({ name, status, config, reason }: Feature): boolean {
  // A rule of the machine; other kernels are booted by the tests themselves, and nothing there has a right to refuse.
  if (status === "refused") {
    return process.env["BUN_BPF_GUEST"] === undefined && capabilities.every(hasCapability);
  }
  const options = kernelConfig();
  if (options === undefined) return true;
  // What is in a module may not be there: guests have none.
  if (config.some((option) => options.get(option) !== "y")) return true;
  // In words it says what there is not to try it with; of a fix, what is still wrong.
  return reason?.startsWith("the kernel returns ") === false && !name.startsWith("fix ");
}
