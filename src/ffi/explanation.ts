/**
 * @module The hook for error hints that need probes. The folder `features` probes the kernel, but the folders that call the
 * kernel cannot import it. Importing `features` registers its explainer here.
 */

import type { Lockdown } from "./kernel.ts";

/**
 * Explains failed calls by probing. A method returns `undefined` where the kernel has the feature, or where the cause is not
 * known.
 */
export interface Explainer {
  /** Explains why the kernel has no maps of a type, such as `"lru_hash"`. */
  mapType(type: string): string | undefined;
  /** Explains why the kernel has no programs of a type, such as `"sched_cls"`. */
  programType(type: string): string | undefined;
  /** Explains a verifier log that says that programs of a type cannot call a helper. */
  helper(programType: string, log: string): string | undefined;
  /** Reads the kernel's lockdown mode, also where securityfs is not mounted. */
  lockdown(): Lockdown | undefined;
}

let current: Explainer | undefined;

/** Registers the explainer. */
export function registerExplainer(explainer: Explainer): void {
  current = explainer;
}

/** Returns the registered explainer, or `undefined`. */
export function explainer(): Explainer | undefined {
  return current;
}
