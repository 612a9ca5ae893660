/** @module Bounds of loops: how often they run, and what that says about values that change by steps. */

import type { Flow, NaturalLoop } from "./flow.ts";
import {
  asSigned,
  difference,
  everything,
  hull,
  isFinite,
  isWithin,
  lowBits,
  product,
  rangeOf,
  rangeOfBits,
  sum,
} from "./interval.ts";
import { lesserOf, oppositeOf } from "./comparison.ts";
import type { Block, CompareOperator, Node, Range } from "./ir.ts";
import type { Refinement } from "./refine.ts";

/** Ranges of nodes at places. */
export interface Values {
  /** Returns the range of a node where it is computed. */
  base(node: Node): Range;
  /** Returns the range of a node in a block. */
  at(node: Node, block: Block): Range;
  /** Returns what is known after the end of a block that goes on to its target of an index, or `undefined` if it never does. */
  after(block: Block, target: number): Refinement | undefined;
  /** Returns the same for a predecessor of a block, by index. */
  before(block: Block, predecessor: number): Refinement | undefined;
}

/** Bound of a loop, and where it comes from. */
export interface LoopBound {
  /** The greatest number of jumps back to the header. */
  readonly backEdges: number;
  /** The greatest number of times that the body runs. */
  readonly iterations: number;
  /** The block whose branch is taken in each iteration, and ends the loop at last. */
  readonly test: Block;
  /** Index of the target of this branch that stays in the loop. */
  readonly staysAt: 0 | 1;
  /** The phi of the header that is counted. */
  readonly counter: Node;
  /** Change of the counter in each iteration, if it changes by steps. */
  readonly step: Range | undefined;
  /** The value that the counter is compared with. */
  readonly limit: Node;
}

/** A value in terms of a phi at the start of the iteration: the phi and an addend, or something else, or one of both. */
interface Parts {
  readonly relative: Range | undefined;
  readonly absolute: Range | undefined;
}

const zero: Range = { min: 0, max: 0 };

const hullOf = (a: Range | undefined, b: Range | undefined) =>
  a === undefined ? b : b === undefined ? a : hull(a, b);

/** Returns the sum of steps of which each of at most `times` iterations makes one. */
function repeated(step: Range, times: number): Range {
  return hull(zero, product(step, { min: 0, max: times }));
}

/** Finds the bounds of loops, given ranges of values that hold for any number of iterations. */
export class Counting {
  readonly #values: Values;
  readonly #loopOf = new Map<Block, NaturalLoop>();
  readonly #flow: Flow;
  readonly #bounds: ReadonlyMap<Block, LoopBound>;
  readonly #parts = new Map<Node, Map<Node, Parts>>();

  /** @param bounds The bounds that are known so far, by header. */
  constructor(flow: Flow, values: Values, bounds: ReadonlyMap<Block, LoopBound>) {
    this.#flow = flow;
    this.#values = values;
    this.#bounds = bounds;
    for (const loop of flow.loops) this.#loopOf.set(loop.header, loop);
  }

  /** Returns the ranges of a header's phi when it has changed by steps in at most `times` iterations. */
  accumulated(loop: NaturalLoop, phi: Node, times: number): Range | undefined {
    const { relative, absolute } = this.#change(loop, phi);
    if (relative === undefined) return undefined;
    const start = hullOf(this.#initial(loop, phi), absolute);
    if (start === undefined) return undefined;
    const range = sum(start, repeated(relative, times));
    return phi.isNumber || isFinite(range) ? range : undefined;
  }

  /** Returns how often a loop runs, or `undefined` if no bound is found. */
  boundOf(loop: NaturalLoop): LoopBound | undefined {
    let best: LoopBound | undefined;
    for (const test of loop.blocks) {
      const { end } = test;
      if (end?.kind !== "branch" || end.then === end.else) continue;
      const isIn = [end.then, end.else].map(
        (target, index) => loop.blocks.has(target) && this.#values.after(test, index) !== undefined,
      );
      if (isIn[0] === isIn[1]) continue;
      const isInEach = loop.latches.every((index) =>
        this.#flow.dominates(test, loop.header.predecessors[index]!),
      );
      if (!isInEach) continue;
      const staysAt = isIn[0] ? 0 : 1;
      const stays = isIn[0] ? end.operator : oppositeOf(end.operator);
      if (stays === undefined) continue;
      const lesser = lesserOf(stays);
      const [first, second] = end.inputs;
      const [left, right] = lesser === undefined ? [first, second] : [second, first];
      for (const counter of loop.header.phis) {
        const found = this.#count(loop, test, lesser ?? stays, left, right, counter);
        if (found === undefined) continue;
        const { backEdges } = found;
        if (best !== undefined && best.backEdges <= backEdges) continue;
        const isFirst = test === loop.header;
        best = {
          ...found,
          iterations: isFirst ? backEdges : backEdges + 1,
          test,
          staysAt,
          counter,
        };
      }
    }
    return best;
  }

  #initial(loop: NaturalLoop, phi: Node): Range | undefined {
    let range: Range | undefined;
    for (const index of loop.entries) {
      const edge = this.#values.before(loop.header, index);
      if (edge !== undefined) range = hullOf(range, edge.get(phi.inputs[index]!));
    }
    return range;
  }

  /** Returns the value of a header's phi in the next iteration. */
  #change(loop: NaturalLoop, phi: Node): Parts {
    let relative: Range | undefined;
    let absolute: Range | undefined;
    for (const index of loop.latches) {
      const edge = this.#values.before(loop.header, index);
      if (edge === undefined) continue;
      const parts = this.#partsOf(loop, phi, phi.inputs[index]!);
      relative = hullOf(relative, parts.relative);
      const isOther = parts.relative === undefined;
      absolute = hullOf(absolute, isOther ? edge.get(phi.inputs[index]!) : parts.absolute);
    }
    return { relative, absolute };
  }

  #partsOf(loop: NaturalLoop, phi: Node, node: Node): Parts {
    let known = this.#parts.get(phi);
    if (known === undefined) this.#parts.set(phi, (known = new Map<Node, Parts>()));
    const old = known.get(node);
    if (old !== undefined) return old;
    const other = { relative: undefined, absolute: this.#values.base(node) };
    known.set(node, other);
    const parts = this.#computeParts(loop, phi, node) ?? other;
    known.set(node, parts);
    return parts;
  }

  #computeParts(loop: NaturalLoop, phi: Node, node: Node): Parts | undefined {
    if (node === phi) return { relative: zero, absolute: undefined };
    if (!loop.blocks.has(node.block)) return undefined;
    const { operation, inputs, block } = node;
    const [first, second] = inputs as [Node, Node];
    switch (operation.kind) {
      case "phi":
        return this.#partsOfPhi(loop, phi, node);
      case "opaque":
      case "bound":
        return this.#partsOf(loop, phi, first);
      case "extend":
        return this.#isKept(node) ? this.#partsOf(loop, phi, first) : undefined;
      case "binary": {
        const { operator, width } = operation;
        if (operator !== "add" && operator !== "sub") return undefined;
        if (
          width === 32 &&
          !isExactNarrow(operator, this.#values.at(first, block), this.#values.at(second, block))
        ) {
          return undefined;
        }
        const left = this.#partsOf(loop, phi, first);
        const right = this.#partsOf(loop, phi, second);
        if (left.relative !== undefined && right.relative === undefined) {
          const { min, max } = this.#values.at(second, block);
          return this.#moved(
            node,
            left,
            operator === "add" ? { min, max } : { min: -max, max: -min },
          );
        }
        if (operator === "add" && right.relative !== undefined && left.relative === undefined) {
          return this.#moved(node, right, this.#values.at(first, block));
        }
        return undefined;
      }
      default:
        return undefined;
    }
  }

  #moved(node: Node, parts: Parts, by: Range): Parts {
    const add = (range: Range | undefined) => {
      if (range === undefined) return undefined;
      const moved = sum(range, by);
      return node.isNumber || isFinite(moved) ? moved : everything;
    };
    return { relative: add(parts.relative), absolute: add(parts.absolute) };
  }

  #partsOfPhi(loop: NaturalLoop, phi: Node, node: Node): Parts | undefined {
    const inner = this.#loopOf.get(node.block);
    const indices = inner === undefined ? node.inputs.keys() : inner.entries;
    let relative: Range | undefined;
    let absolute: Range | undefined;
    for (const index of indices) {
      const edge = this.#values.before(node.block, index);
      if (edge === undefined) continue;
      const input = node.inputs[index]!;
      const parts = this.#partsOf(loop, phi, input);
      relative = hullOf(relative, parts.relative);
      const isOther = parts.relative === undefined;
      absolute = hullOf(absolute, isOther ? edge.get(input) : parts.absolute);
    }
    if (relative === undefined) return undefined;
    if (inner === undefined) return { relative, absolute };
    const change = this.#change(inner, node);
    absolute = hullOf(absolute, change.absolute);
    if (change.relative === undefined) return { relative, absolute };
    const times = this.#bounds.get(node.block)?.backEdges ?? Infinity;
    return this.#moved(node, { relative, absolute }, repeated(change.relative, times));
  }

  /** True if an operation that takes low bits gives its input. */
  #isKept(node: Node): boolean {
    const { operation, inputs, block } = node;
    if (operation.kind !== "extend")
      return operation.kind === "opaque" || operation.kind === "bound";
    const range = this.#values.at(inputs[0]!, block);
    return lowBits(range, operation.bits, operation.signed) === range;
  }

  #count(
    loop: NaturalLoop,
    test: Block,
    operator: CompareOperator,
    left: Node,
    right: Node,
    counter: Node,
  ): Pick<LoopBound, "backEdges" | "step" | "limit"> | undefined {
    const values = this.#values;
    const initial = this.#initial(loop, counter);
    if (initial === undefined || test.end?.kind !== "branch") return undefined;
    const ranges = [values.at(left, test), values.at(right, test)] as const;
    const comparison = asSigned(operator, test.end.width, ...ranges);
    // What is less than a natural number, without signs, is so with signs.
    const isLess = ranges[1].min >= 0 && test.end.width === 64;
    const signed =
      comparison?.operator ?? (isLess ? (`s${operator}` as CompareOperator) : undefined);
    if (signed === undefined || signed === "set" || signed === "eq") return undefined;
    const change = this.#change(loop, counter);
    for (const [side, limit] of [
      [left, right],
      [right, left],
    ] as const) {
      const { relative: offset, absolute } = this.#partsOf(loop, counter, side);
      if (offset === undefined || absolute !== undefined) continue;
      const isLeft = side === left;
      const bound = values.at(limit, test);
      const isInvariant = !loop.blocks.has(limit.block) || limit.operation.kind === "constant";
      const { relative: step } = change;
      let backEdges: number | undefined;
      if (step !== undefined && change.absolute === undefined) {
        if (!counter.isNumber && !(isFinite(step) && isFinite(offset) && isFinite(initial)))
          continue;
        if (signed === "ne") {
          if (isInvariant) backEdges = stepsUntil(initial, step, offset, bound);
        } else {
          const slack = signed === "slt" ? 1 : 0;
          if (isLeft && step.min >= 1) {
            backEdges = Math.floor((bound.max - slack - offset.min - initial.min) / step.min) + 1;
          } else if (!isLeft && step.max <= -1) {
            backEdges = Math.floor((initial.max + offset.max - bound.min - slack) / -step.max) + 1;
          }
        }
      } else if (offset.min === 0 && offset.max === 0) {
        backEdges = this.#countFactors(loop, counter, initial, signed, isLeft, bound);
      }
      if (backEdges === undefined || !Number.isFinite(backEdges)) continue;
      return { backEdges: Math.max(0, backEdges), step, limit };
    }
    return undefined;
  }

  /** Returns the number of iterations of a loop whose counter is multiplied, divided or shifted in each. */
  #countFactors(
    loop: NaturalLoop,
    counter: Node,
    initial: Range,
    operator: CompareOperator,
    isLeft: boolean,
    bound: Range,
  ): number | undefined {
    let growth = Infinity;
    let decline = Infinity;
    let clearsBits = true;
    for (const index of loop.latches) {
      if (this.#values.before(loop.header, index) === undefined) continue;
      let node = counter.inputs[index]!;
      while (this.#isKept(node)) node = node.inputs[0]!;
      const factor = this.#factorOf(node, counter, initial);
      growth = Math.min(growth, factor);
      decline = Math.min(decline, 1 / factor);
      clearsBits &&= this.#clearsBit(node, counter);
    }
    const isNotZero = operator === "ne" && bound.min === 0 && bound.max === 0;
    if (!isLeft || isNotZero) {
      const isAbove = !isLeft && operator !== "ne" && bound.min >= (operator === "slt" ? 0 : 1);
      if (!isNotZero && !isAbove) return undefined;
      const greatest = initial.min < 0 ? Math.max(-initial.min, initial.max, 2 ** 64) : initial.max;
      const limited = Math.min(greatest, 2 ** 64);
      if (clearsBits) return Math.ceil(Math.log2(limited + 1)) + 1;
      return decline <= 1 ? undefined : stepsBetween(1, limited, decline);
    }
    if (operator === "ne" || growth <= 1 || initial.min < 1) return undefined;
    return stepsBetween(initial.min, operator === "slt" ? bound.max - 1 : bound.max, growth);
  }

  /** Returns the factor by which a value differs from the counter, at least; 1 if it is not such a value. */
  #factorOf(node: Node, counter: Node, initial: Range): number {
    const { operation, inputs, block } = node;
    if (operation.kind !== "binary") return 1;
    const [first, second] = inputs as [Node, Node];
    let base = first;
    while (base !== counter && this.#isKept(base)) base = base.inputs[0]!;
    if (base !== counter) return 1;
    const value = this.#values.at(first, block);
    const amount = this.#values.at(second, block);
    const { operator, width } = operation;
    const isNatural = initial.min >= 0 && value.min >= 0 && (width === 64 || value.max < 2 ** 32);
    const isShift = amount.min >= 1 && amount.max < width;
    switch (operator) {
      case "rsh":
        return isShift && (isNatural || width === 64) ? 2 ** -amount.min : 1;
      case "arsh":
        return isShift && isNatural && value.max < 2 ** (width - 1) ? 2 ** -amount.min : 1;
      case "div":
        return amount.min >= 2 && (isNatural || width === 64) ? 1 / amount.min : 1;
      case "sdiv":
        return amount.min >= 2 && width === 64 ? 1 / amount.min : 1;
      case "mul":
      case "lsh": {
        const factor = operator === "mul" ? amount : { min: 2 ** amount.min, max: 2 ** amount.max };
        const { max } = rangeOf(0, value.max * factor.max);
        const isExact = (node.isNumber && width === 64) || max < 2 ** (width === 64 ? 53 : 31);
        const isRight = operator === "mul" ? amount.min >= 2 : isShift;
        return isNatural && isRight && isExact ? factor.min : 1;
      }
      default:
        return 1;
    }
  }

  /** True if a value is `x & (x - 1)`. */
  #clearsBit({ operation, inputs }: Node, counter: Node): boolean {
    if (operation.kind !== "binary" || operation.operator !== "and") return false;
    const other = inputs[0] === counter ? inputs[1] : inputs[1] === counter ? inputs[0] : undefined;
    const below = other?.operation;
    if (below?.kind !== "binary" || other?.inputs[0] !== counter) return false;
    const { min, max } = this.#values.base(other.inputs[1]!);
    const step = below.operator === "sub" ? 1 : -1;
    return (below.operator === "sub" || below.operator === "add") && min === step && max === step;
  }
}

/** True if an operation of 32 bits gives what one of 64 bits gives. */
function isExactNarrow(operator: "add" | "sub", left: Range, right: Range): boolean {
  const all = rangeOfBits(32, false);
  const result = operator === "add" ? sum(left, right) : difference(left, right);
  return isWithin(left, all) && isWithin(right, all) && isWithin(result, all);
}

/** Returns the number of multiplications until a number is greater than another. */
function stepsBetween(from: number, to: number, factor: number): number | undefined {
  if (!Number.isFinite(to)) return undefined;
  let count = 0;
  for (let value = from; value <= to; value *= factor) count++;
  return count;
}

/** Returns the number of steps until a sum is equal to a bound, if it cannot miss it. */
function stepsUntil(initial: Range, step: Range, offset: Range, bound: Range): number | undefined {
  if (step.min !== step.max || offset.min !== offset.max || step.min === 0) return undefined;
  const ends = [bound.min - offset.min - initial.max, bound.max - offset.min - initial.min];
  const steps = ends.map((end) => end / step.min);
  const least = Math.min(...steps);
  const most = Math.max(...steps);
  const isHit = Math.abs(step.min) === 1 || (least === most && Number.isInteger(most));
  return isHit && least >= 0 ? most : undefined;
}
