import { type Capability, explainMissing } from "./capabilities.ts";
import { explainLockedMemory } from "./locked_memory.ts";
import { readLockdown } from "./lockdown.ts";

/**
 * Explains a refusal for want of privilege: names what is missing, of `needed`, and how to get it; else what may forbid it.
 *
 * @param locksMemory whether the limit on locked memory may be the reason: what was refused is a map or a program
 */
export function explainPermission(needed: readonly Capability[], locksMemory = false): string {
  const certain = explainMissing(needed) ?? (locksMemory ? explainLockedMemory() : undefined);
  if (certain !== undefined) return certain;
  const lockdown = readLockdown();
  const cause =
    lockdown === undefined || lockdown === "none"
      ? "a seccomp filter or security module of the container, or the kernel's configuration"
      : `most likely that the kernel is locked down (${lockdown}), else a seccomp filter or security module of the container`;
  return `This process has ${needed.join(" and ")}, so something else forbids it: ${cause}`;
}
