/**
 * @module The hook for explanations of refused calls that need probes. `features` probes, and lies above all folders that
 * call the kernel: importing it registers its explainer here.
 */

import type { Lockdown } from "./kernel.ts";

/** Explains refusals. A method returns `undefined` where the kernel has the feature, or where the reason is not known. */
export interface Explainer {
  /** Explains why the kernel has no maps of a type: `"lru_hash"`. */
  mapType(type: string): string | undefined;
  /** Explains why the kernel has no programs of a type: `"sched_cls"`. */
  programType(type: string): string | undefined;
  /** Explains a verifier's log which says that programs of a type cannot call a helper. */
  helper(programType: string, log: string): string | undefined;
  /** Reads how far the kernel is locked down, for machines where securityfs is not mounted. */
  lockdown(): Lockdown | undefined;
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
