/**
 * @module Explanations of refused calls that need probes of the kernel. Probes are in `features`, above all that calls the
 * kernel: where that folder is imported, it registers itself here.
 */

import type { ProgramTypeName } from "../ffi/bpf_prog.ts";

/** Answers to "why did the kernel refuse this?"; `undefined` where the kernel has it, or nothing is known. */
export interface Explainer {
  /** Says what is missing where the kernel has no maps of a type: `"lru_hash"`. */
  mapType(type: string): string | undefined;
  /** Says what is missing where the kernel has no programs of a type: `"sched_cls"`. */
  programType(type: ProgramTypeName): string | undefined;
  /** Says what is missing where the verifier's log says that programs of a type cannot call a helper. */
  helper(programType: ProgramTypeName, log: string): string | undefined;
}

let current: Explainer | undefined;

/** Registers the explainer that probes. */
export function registerExplainer(explainer: Explainer): void {
  current = explainer;
}

/** Returns the explainer that probes; `undefined` where none is registered. */
export function explainer(): Explainer | undefined {
  return current;
}
