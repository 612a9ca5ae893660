/** @module Helper functions of the kernel, by type of program. The verifier is asked about each, with a program that calls it. */

import * as asm from "../asm/asm.ts";
import type { HelperName } from "../asm/call.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { readLockdown } from "../ffi/security.ts";
import { programTypes } from "../program/program_types.ts";
import { bpfHelpers } from "../uapi/helpers.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";
import { probeLoad, programTypeFeature } from "./trial_program.ts";

/** The names of all helpers, in the order in which the kernel got them: helper 1 comes first. */
export const helperNames: readonly HelperName[] = (
  Object.keys(bpfHelpers) as (keyof typeof bpfHelpers)[]
).filter((name) => name !== "unspec");

/** The verifier's words, of all versions, for a helper that programs of a type cannot call, or not those that never sleep. */
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

/** The verifier's word for a helper that no program of this kernel can call. */
const unknownHelper = /\bfunc unknown#/;

/** Types of programs that get the helpers for tracing (bpf_tracing_func_proto()). */
const tracingTypes: ReadonlySet<ProgramTypeName> = new Set([
  "kprobe",
  "tracepoint",
  "perf_event",
  "raw_tracepoint",
  "raw_tracepoint_writable",
  "tracing",
  "lsm",
  "syscall",
]);

/**
 * Returns true where the kernel's lockdown takes a helper from programs that have it otherwise (security_locked_down()). The
 * verifier then says what it says of a helper that they never had.
 */
function isLocked(type: ProgramTypeName, helper: HelperName, log: string): boolean {
  const isOfKernel = /^probe_read_kernel(?:_str)?$/.test(helper);
  const isOfTracing = tracingTypes.has(type) && /^probe_(?:read(?:_str)?|write_user)$/.test(helper);
  if ((!isOfKernel && !isOfTracing) || unknownHelper.test(log)) return false;
  const lockdown = readLockdown();
  if (helper === "probe_write_user" && lockdown === "integrity") return true;
  return lockdown === "confidentiality";
}

/** Returns the answer where the verifier was not asked: the kernel has no programs of the type, or refuses them all. */
function withoutLog(type: ProgramTypeName, error: string): ProbeAnswer {
  const { status, reason } = programTypeFeature(type);
  return status === "missing" && reason !== undefined ? { missing: reason } : error;
}

/**
 * Makes the feature of a helper for programs of a type: one calls it. Whatever else the verifier finds wrong then, it knows
 * the helper. Its first version is not known: it differs by type of program, and no source that a program can read has it.
 */
export function helperFeature(type: ProgramTypeName, helper: HelperName): Feature {
  const { config, needs } = programTypes[type];
  return new Feature({
    name: `helper bpf_${helper} for program type ${type}`,
    since: undefined,
    config,
    needs,
    probe: () => {
      const { error, log } = probeLoad(type, [asm.call(helper), asm.mov(asm.r0, 0), asm.exit()]);
      if (error === undefined) return "available";
      if (log.trim() === "") return withoutLog(type, error);
      if (!unavailable.test(log)) return "available";
      // Asked last, as the answer may take a mount.
      if (isLocked(type, helper, log)) return "EPERM";
      return { missing: "the verifier does not let programs of this type call it" };
    },
  });
}
