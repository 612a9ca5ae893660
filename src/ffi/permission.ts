import { type Capability, explainMissing } from "./capabilities.ts";
import { readLockdown } from "./lockdown.ts";

/** Explains a refusal for want of privilege: names what is missing, of `needed`, and how to get it; else what may forbid it. */
export function explainPermission(needed: readonly Capability[]): string {
  const missing = explainMissing(needed);
  if (missing !== undefined) return missing;
  const lockdown = readLockdown();
  const cause =
    lockdown === undefined || lockdown === "none"
      ? "a seccomp filter or security module of the container, or the kernel's configuration"
      : `most likely that the kernel is locked down (${lockdown}), else a seccomp filter or security module of the container`;
  return `This process has ${needed.join(" and ")}, so something else forbids it: ${cause}`;
}
