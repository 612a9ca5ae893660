/** @module Comparisons that say the same as others. */

import type { CompareOperator } from "./ir.ts";

/** Comparisons that are true where others are false. `set` has none. */
export const opposites = {
  eq: "ne",
  ne: "eq",
  lt: "ge",
  le: "gt",
  gt: "le",
  ge: "lt",
  slt: "sge",
  sle: "sgt",
  sgt: "sle",
  sge: "slt",
} as const satisfies Record<Exclude<CompareOperator, "set">, CompareOperator>;

/** Comparisons that say the same with left and right exchanged. */
export const exchanged = {
  eq: "eq",
  ne: "ne",
  lt: "gt",
  le: "ge",
  gt: "lt",
  ge: "le",
  slt: "sgt",
  sle: "sge",
  sgt: "slt",
  sge: "sle",
  set: "set",
} as const satisfies Record<CompareOperator, CompareOperator>;

/** Returns the comparison that is true when another is false, if there is one: `set` has none. */
export function oppositeOf(operator: CompareOperator): CompareOperator | undefined {
  return operator === "set" ? undefined : opposites[operator];
}

/** Returns the comparison with left and right exchanged that says the same, for those that say "greater". */
export function lesserOf(operator: CompareOperator): CompareOperator | undefined {
  switch (operator) {
    case "gt":
    case "ge":
    case "sgt":
    case "sge":
      return exchanged[operator];
    default:
      return undefined;
  }
}
