/** @module Probes of the kernel's helper functions, by program type. A probe loads a program that calls the helper. */

import * as asm from "../asm/asm.ts";
import type { HelperName } from "../asm/call.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { readLockdown } from "../ffi/security.ts";
import { programTypes } from "../program/program_types.ts";
import { bpfHelpers } from "../uapi/helpers.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";
import { probeLoad, programTypeFeature } from "./probe_program.ts";

/** The names of all helpers, in the order of their numbers from 1 on. */
export const helperNames: readonly HelperName[] = (
  Object.keys(bpfHelpers) as (keyof typeof bpfHelpers)[]
).filter((name) => name !== "unspec");

/** Matches the verifier's messages, in all versions, about a helper that programs of a type cannot call. */
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

/** Matches the verifier's message about a helper that this kernel does not have. */
const unknownHelper = /\bfunc unknown#/;

/** Program types with the helpers for tracing (bpf_tracing_func_proto()). */
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
 * Returns true if the kernel's lockdown forbids a helper that programs of the type can call otherwise (security_locked_down()).
 * The verifier's message is then the same as for a helper that these programs can never call.
 */
function isLocked(type: ProgramTypeName, helper: HelperName, log: string): boolean {
  const isOfKernel = /^probe_read_kernel(?:_str)?$/.test(helper);
  const isOfTracing = tracingTypes.has(type) && /^probe_(?:read(?:_str)?|write_user)$/.test(helper);
  if ((!isOfKernel && !isOfTracing) || unknownHelper.test(log)) return false;
  const lockdown = readLockdown();
  if (helper === "probe_write_user" && lockdown === "integrity") return true;
  return lockdown === "confidentiality";
}

/** Returns the answer if the kernel refused the program before it was verified. */
function unverifiedAnswer(type: ProgramTypeName, error: string): ProbeAnswer {
  const { status, reason } = programTypeFeature(type);
  return status === "missing" && reason !== undefined ? { missing: reason } : error;
}

/**
 * Makes the feature of a helper for programs of a type. Its probe loads a program that calls the helper: if the verifier
 * rejects it for another reason, such as its arguments, the helper is available. The first version is not known, because it
 * differs by program type.
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
      if (log.trim() === "") return unverifiedAnswer(type, error);
      if (!unavailable.test(log)) return "available";
      // This check is the last one, because reading the lockdown may need a mount.
      if (isLocked(type, helper, log)) return "EPERM";
      return { missing: "the verifier does not let programs of this type call it" };
    },
  });
}
