/** Runs functions of kernel code in JavaScript, with plain objects in place of maps, rings and the context. */

import type * as acorn from "acorn";
import type { Syntax } from "../../src/compiler/language/value.ts";

/** Insertions of text into the source of a function. */
interface Insertion {
  readonly at: number;
  readonly text: string;
  /** Order of insertions at the same place. */
  readonly rank: number;
}

/** Names that the changed text uses for what JavaScript does not do by itself. */
const runtime = {
  signed: (value: bigint) => BigInt.asIntN(64, value),
  unsigned: (value: bigint) => BigInt.asUintN(64, value),
  /** A quotient or remainder of numbers: 0 if the divisor is 0. */
  finite: (value: number) => (Number.isFinite(value) ? value : 0),
  /** The divisor of a quotient: one that gives 0, for the divisor 0. */
  divisor: (value: bigint | number) => (value === 0n ? 2n ** 65n : value),
  /** The divisor of a remainder: one that gives 0, for the divisor 0. */
  modulus: (value: bigint | number) => (value === 0n ? 1n : value),
} as const;

/**
 * Returns a function that computes as kernel code does: bigints have 64 bits, and a division by zero gives 0.
 *
 * @param signs the sign of each bigint that an operator computes, as the compiler found it
 */
export function toJavaScript(
  text: string,
  node: acorn.Function,
  signs: ReadonlyMap<Syntax, boolean>,
): (...args: readonly unknown[]) => unknown {
  const insertions: Insertion[] = [];
  const wrap = (start: number, end: number, name: keyof typeof runtime, depth: number) => {
    insertions.push({ at: start, text: `$.${name}(`, rank: depth });
    insertions.push({ at: end, text: ")", rank: -depth });
  };
  const visit = (each: unknown, depth: number): void => {
    if (Array.isArray(each)) return each.forEach((item) => visit(item, depth));
    if (typeof each !== "object" || each === null || !("type" in each)) return;
    const syntax = each as acorn.AnyNode;
    if (syntax.type === "BinaryExpression") {
      const { operator, right } = syntax;
      const isSigned = signs.get(syntax);
      if (isSigned !== undefined) {
        wrap(syntax.start, syntax.end, isSigned ? "signed" : "unsigned", depth);
        if (operator === "/") wrap(right.start, right.end, "divisor", depth);
        if (operator === "%") wrap(right.start, right.end, "modulus", depth);
      } else if (operator === "/" || operator === "%") {
        wrap(syntax.start, syntax.end, "finite", depth);
      }
    } else if (syntax.type === "UnaryExpression") {
      const isSigned = signs.get(syntax);
      if (isSigned !== undefined) wrap(syntax.start, syntax.end, "signed", depth);
    } else if (syntax.type === "AssignmentExpression" && syntax.operator.length > 1) {
      rewriteAssignment(text, syntax, signs.get(syntax), insertions, depth);
    }
    for (const [key, value] of Object.entries(syntax)) {
      if (key !== "type" && key !== "start" && key !== "end") visit(value, depth + 1);
    }
  };
  visit(node, 0);
  insertions.sort((a, b) => a.at - b.at || a.rank - b.rank);
  let changed = "";
  let from = 0;
  for (const { at, text: inserted } of insertions) {
    changed += text.slice(from, at) + inserted;
    from = at;
  }
  changed += text.slice(from);
  const isMethod = node.type === "FunctionExpression" && !/^(?:async\s+)?function\b/.test(text);
  const source = isMethod ? `Object.values({ ${changed} })[0]` : `(${changed})`;
  // The text is that of a function of this process. Only fixed names were added.
  return new Function("$", `"use strict"; return ${source};`)(runtime) as (
    ...args: readonly unknown[]
  ) => unknown;
}

/** Writes `x += y` as `x = x + y`, so that the sum can be wrapped. */
function rewriteAssignment(
  text: string,
  { operator, left, start, end }: acorn.AssignmentExpression,
  isSigned: boolean | undefined,
  insertions: Insertion[],
  depth: number,
): void {
  const short = operator.slice(0, -1);
  const isDivision = short === "/" || short === "%";
  if (isSigned === undefined && !isDivision) return;
  const name = isSigned === undefined ? "finite" : isSigned ? "signed" : "unsigned";
  const target = text.slice(left.start, left.end);
  const operatorAt = text.indexOf(operator, left.end);
  const guard =
    isSigned === undefined || !isDivision ? "" : short === "/" ? "$.divisor" : "$.modulus";
  // `x = $.signed(x + (y))`: the operator that is there becomes a comment.
  insertions.push({ at: start, text: `${target} = $.${name}(`, rank: depth });
  insertions.push({ at: operatorAt, text: `${short} /*`, rank: depth });
  insertions.push({ at: operatorAt + operator.length, text: `*/ ${guard}(`, rank: depth });
  insertions.push({ at: end, text: "))", rank: -depth });
}
