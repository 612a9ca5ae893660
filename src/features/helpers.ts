import { isKernelSince } from "../ffi/kernel.ts";
import { readLockdown } from "../ffi/security.ts";
import * as asm from "../asm/asm.ts";
import type { HelperName } from "../asm/call.ts";
import { keyword } from "../check/names.ts";
import { Feature } from "./feature.ts";
import { helperFacts } from "./helper_facts.ts";
import { probeLoad, type ProgramTypeFacts } from "./program_types.ts";

/** What the verifier says of a helper that programs of a type cannot call, or not those that never sleep: through the years. */
const unavailable = new RegExp(
  [
    "(?:invalid|unknown) func ",
    "program of this type cannot use helper ",
    "helper call might sleep in a non-sleepable",
    "sleepable helper .* in non-sleepable",
    "helper call is not allowed in probe",
    "not supported for program type",
    "supported only for ",
  ].join("|"),
);

/** Helpers that read the kernel: one that is locked against that acts as if it had none (security_locked_down()). */
const readsKernel = /^probe_read(?:_kernel)?(?:_str)?$/;

/** Whether the kernel keeps a helper from everybody by its lockdown. */
function isLocked(helper: HelperName): boolean {
  const writesUserSpace = helper === "probe_write_user";
  if (!writesUserSpace && !readsKernel.test(helper)) return false;
  const lockdown = readLockdown();
  return lockdown === "confidentiality" || (lockdown === "integrity" && writesUserSpace);
}

/** Whether programs of a type can call a helper: one does. Whatever else the verifier finds wrong then, it knows the helper. */
export function helperFeature(type: ProgramTypeFacts, helper: HelperName): Feature {
  const facts = helperFacts(type, helper);
  const name = `helper bpf_${helper} for program type ${keyword(type.name)}`;
  const probe = () => {
    const { error, log } = probeLoad(type, [asm.call(helper), asm.mov(asm.r0, 0), asm.exit()]);
    if (error === undefined) return "available";
    if (log.trim() === "") return error;
    if (!unavailable.test(log)) return "available";
    // Asked last, as the answer may take a mount.
    const isDue = facts.since !== undefined && isKernelSince(facts.since);
    return isDue && isLocked(helper) ? "EPERM" : "EINVAL";
  };
  return new Feature({ ...facts, name, needs: type.needs, probe });
}
