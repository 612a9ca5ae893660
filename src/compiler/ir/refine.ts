/** @module Facts about values at places where a comparison is true. */

import { asSigned, decide, hull, intersection, isFinite, isWithin, lowBits } from "./interval.ts";
import { lesserOf, oppositeOf } from "./comparison.ts";
import type { CompareOperator, Node, Range, Width } from "./ir.ts";

/** Ranges of nodes that are narrower at a place than where the nodes are computed. */
export type Facts = ReadonlyMap<Node, Range>;

/** The number of operations through which a fact about a result tells something about an input. */
const maxDepth = 6;

/** Facts that are collected, on top of others. */
export class Refinement {
  readonly #base: (node: Node) => Range;
  readonly #before: Facts;
  #facts: Map<Node, Range> | undefined;
  #depth = 0;
  /** True if the place cannot be reached: a value would have to be in no range. */
  isImpossible = false;

  /** @param base Returns the range of a node where it is computed. */
  constructor(before: Facts, base: (node: Node) => Range) {
    this.#before = before;
    this.#base = base;
  }

  /** All facts of the place. */
  get facts(): Facts {
    return this.#facts ?? this.#before;
  }

  get(node: Node): Range {
    return this.facts.get(node) ?? this.#base(node);
  }

  /** Adds that a node is in a range, and what follows for the nodes that it is computed from. */
  narrow(node: Node, to: Range): void {
    const old = this.get(node);
    const range = intersection(old, to);
    if (range === undefined) this.isImpossible = true;
    else if (range.min > old.min || range.max < old.max) {
      this.#facts ??= new Map(this.#before);
      this.#facts.set(node, range);
      if (this.#depth === maxDepth) return;
      this.#depth++;
      this.#narrowInputs(node, range);
      this.#depth--;
    }
  }

  #narrowInputs(node: Node, range: Range): void {
    const { operation } = node;
    const [first, second] = node.inputs as [Node, Node];
    switch (operation.kind) {
      case "opaque":
      case "bound":
        this.narrow(first, range);
        break;
      case "extend": {
        // Where the operation changes nothing, its result is its input.
        const input = this.get(first);
        const isSame = lowBits(input, operation.bits, operation.signed) === input;
        if (isSame) this.narrow(first, range);
        break;
      }
      case "compare":
        if (range.min === range.max) {
          this.assume(operation.operator, operation.width, first, second, range.min === 1);
        }
        break;
      case "binary": {
        if (operation.width === 32) break;
        const left = this.get(first);
        const right = this.get(second);
        // Without wrapping, sums and differences can be turned around.
        if (!isFinite(left) || !isFinite(right)) break;
        if (operation.operator === "add") {
          this.narrow(first, { min: range.min - right.max, max: range.max - right.min });
          this.narrow(second, { min: range.min - left.max, max: range.max - left.min });
        } else if (operation.operator === "sub") {
          this.narrow(first, { min: range.min + right.min, max: range.max + right.max });
          this.narrow(second, { min: left.min - range.max, max: left.max - range.min });
        } else if (operation.operator === "mul" && right.min === right.max && right.min > 0) {
          if (!node.isNumber) break;
          const factor = right.min;
          const min = Math.ceil(range.min / factor) + 0;
          this.narrow(first, { min, max: Math.floor(range.max / factor) });
        } else if (operation.operator === "xor" && right.min === 1 && right.max === 1) {
          const isBoolean = isWithin(left, { min: 0, max: 1 });
          if (isBoolean && range.min === range.max) {
            this.narrow(first, { min: 1 - range.min, max: 1 - range.min });
          }
        }
        break;
      }
      default:
    }
  }

  /** Adds that a comparison has a result. */
  assume(operator: CompareOperator, width: Width, left: Node, right: Node, result: boolean): void {
    if (!result) {
      const opposite = oppositeOf(operator);
      if (opposite !== undefined) this.assume(opposite, width, left, right, true);
      else if (this.#isDecided(operator, width, left, right) === true) this.isImpossible = true;
      return;
    }
    const lesser = lesserOf(operator);
    if (lesser !== undefined) {
      this.assume(lesser, width, right, left, true);
      return;
    }
    if (this.#isDecided(operator, width, left, right) === false) {
      this.isImpossible = true;
      return;
    }
    const leftRange = this.get(left);
    const rightRange = this.get(right);
    const comparison = asSigned(operator, width, leftRange, rightRange);
    if (comparison === undefined) {
      // What is less than a natural number, without signs, is a natural number.
      if (width === 64 && rightRange.min >= 0 && (operator === "lt" || operator === "le")) {
        this.narrow(left, { min: 0, max: operator === "lt" ? rightRange.max - 1 : rightRange.max });
      }
      return;
    }
    switch (comparison.operator) {
      case "slt":
        this.narrow(left, { min: -Infinity, max: rightRange.max - 1 });
        this.narrow(right, { min: leftRange.min + 1, max: Infinity });
        break;
      case "sle":
        this.narrow(left, { min: -Infinity, max: rightRange.max });
        this.narrow(right, { min: leftRange.min, max: Infinity });
        break;
      case "eq":
        this.narrow(left, rightRange);
        this.narrow(right, leftRange);
        break;
      case "ne":
        this.#exclude(left, rightRange);
        this.#exclude(right, leftRange);
        break;
      case "set":
        this.#exclude(left, { min: 0, max: 0 });
        this.#exclude(right, { min: 0, max: 0 });
        break;
      default:
    }
  }

  #isDecided(
    operator: CompareOperator,
    width: Width,
    left: Node,
    right: Node,
  ): boolean | undefined {
    return decide(operator, width, this.get(left), this.get(right));
  }

  /** Adds that a node is not a constant, which shows if that is one of the ends of its range. */
  #exclude(node: Node, { min: value, max }: Range): void {
    if (value !== max) return;
    const range = this.get(node);
    if (range.min === value) this.narrow(node, { min: value + 1, max: Infinity });
    else if (range.max === value) this.narrow(node, { min: -Infinity, max: value - 1 });
  }
}

/** Returns the facts of a place that is reached from several: what holds in all. */
export function join(places: readonly { facts: Facts; get(node: Node): Range }[]): Facts {
  const [first, ...others] = places;
  if (first === undefined) return new Map();
  if (others.every(({ facts }) => facts === first.facts)) return first.facts;
  const joined = new Map<Node, Range>();
  for (const [node, range] of first.facts) {
    let all = range;
    if (!others.every(({ facts }) => facts.has(node))) continue;
    for (const other of others) all = hull(all, other.get(node));
    joined.set(node, all);
  }
  return joined;
}
