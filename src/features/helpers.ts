import * as asm from "../program/asm.ts";
import type { HelperName } from "../program/asm_call.ts";
import type { ProbeAnswer } from "./feature.ts";
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

/** Calls a helper from a program of a type: whatever else the verifier finds wrong with the call, it knows the helper. */
export function probeHelper(type: ProgramTypeFacts, helper: HelperName): ProbeAnswer {
  const { error, log } = probeLoad(type, [asm.call(helper), asm.mov(asm.r0, 0), asm.exit()]);
  if (error === undefined) return "available";
  if (log.trim() === "") return error;
  return unavailable.test(log) ? "EINVAL" : "available";
}
