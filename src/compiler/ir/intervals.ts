/** @module Interval analysis: the range of each node, by abstract interpretation of a function. */

import { Counting, type LoopBound, type Values } from "./counting.ts";
import { Flow, type NaturalLoop } from "./flow.ts";
import {
  booleans,
  decide,
  everything,
  exactResult,
  hull,
  intersection,
  isEqual,
  isWithin,
  lowBits,
  narrowResult,
  rangeOf,
  rangeOfBits,
  rangeOfConstant,
  resultOf,
  safeIntegers,
} from "./interval.ts";
import type { BinaryOperator, Block, IrFunction, Node, Range } from "./ir.ts";
import { type Facts, join, Refinement } from "./refine.ts";

/** Passes after which ranges that still grow are a mistake of the analysis. A value grows a few times at most. */
const maxWideningPasses = 1000;

/** Returns a range, or all numbers for one that contains none: code that cannot run, whose values do not matter. */
function possible(range: Range): Range {
  return range.min <= range.max ? range : everything;
}

/** Steps of widening to constants of the function before a range becomes unlimited. */
const maxSteps = 6;
/** Passes that make ranges narrower. Each gives ranges that hold. */
const maxNarrowingPasses = 10;

/** Operators of numbers whose results are as in mathematics, if they are safe integers. */
const arithmetic: ReadonlySet<BinaryOperator> = new Set(["add", "sub", "mul", "lsh"]);

/** True for sums, differences and products of numbers: they must stay safe integers. */
export function isExactArithmetic({ operation, isNumber }: Node): boolean {
  return (
    isNumber &&
    operation.kind === "binary" &&
    operation.width === 64 &&
    arithmetic.has(operation.operator)
  );
}

/** Ranges of the nodes of a function, where they are computed and where more is known, and bounds of its loops. */
export class Intervals implements Values {
  readonly flow: Flow;
  /** Bounds of loops, by header. */
  readonly bounds = new Map<Block, LoopBound>();
  readonly #ranges = new Map<Node, Range>();
  readonly #given = new Map<Node, Range>();
  readonly #facts = new Map<Block, Facts>();
  readonly #edges = new Map<Block, readonly Refinement[]>();
  readonly #loops = new Map<Block, NaturalLoop>();
  readonly #widenings = new Map<Node, number>();
  readonly #thresholds: readonly number[];
  /** Ranges of phis of headers that follow from the number of iterations. */
  readonly #accumulated = new Map<Node, Range>();
  /** Their ranges after the test that ends the loop, by the block of the test. */
  readonly #inBody = new Map<Block, Map<Node, Range>>();
  #isWidening = true;
  #hasChanged = false;

  constructor(fn: IrFunction) {
    this.flow = new Flow(fn);
    for (const loop of this.flow.loops) this.#loops.set(loop.header, loop);
    const thresholds = new Set([0, -(2 ** 31), 2 ** 31 - 1, 2 ** 32 - 1]);
    for (const block of this.flow.order) {
      for (const node of [...block.phis, ...block.nodes]) {
        if (node.range !== undefined) this.#given.set(node, node.range);
        if (node.operation.kind !== "constant" || this.flow.loops.length === 0) continue;
        const { min, max } = rangeOfConstant(node.operation.value);
        if (min === max) for (const value of [min - 1, min, min + 1]) thresholds.add(value);
      }
    }
    this.#thresholds = [...thresholds].sort((a, b) => a - b);
    this.#solve();
  }

  base(node: Node): Range {
    return this.#ranges.get(node) ?? everything;
  }

  at(node: Node, block: Block): Range {
    return this.#facts.get(block)?.get(node) ?? this.base(node);
  }

  /** True if the values of branches allow that a block is reached. */
  isReachable(block: Block): boolean {
    return this.#facts.has(block);
  }

  after(block: Block, target: number): Refinement | undefined {
    const edge = this.#edges.get(block)?.[target];
    return edge === undefined || edge.isImpossible ? undefined : edge;
  }

  before(block: Block, predecessor: number): Refinement | undefined {
    const from = block.predecessors[predecessor]!;
    const { end } = from;
    if (end?.kind === "branch" && end.then === end.else) {
      // The branch is twice among the predecessors, `then` first.
      return this.after(from, block.predecessors.indexOf(from) === predecessor ? 0 : 1);
    }
    const isSecond =
      end?.kind === "branch" ? end.else === block : end?.kind === "mayGoto" && end.exit === block;
    return this.after(from, isSecond ? 1 : 0);
  }

  #solve(): void {
    let passes = 0;
    do {
      if (++passes > maxWideningPasses) throw new Error("the ranges of a function do not settle");
      this.#hasChanged = false;
      this.#pass();
    } while (this.#hasChanged && this.#loops.size > 0);
    this.#isWidening = false;
    if (this.#loops.size === 0) return;
    for (let pass = 0; pass < maxNarrowingPasses; pass++) {
      this.#hasChanged = false;
      this.#pass();
      this.#count();
      if (!this.#hasChanged) break;
    }
    this.#pass();
  }

  /** Finds the bounds of loops and of values that change by steps, from inner loops to outer ones. */
  #count(): void {
    for (const loop of [...this.flow.loops].reverse()) {
      const { header } = loop;
      if (!this.isReachable(header)) continue;
      const counting = new Counting(this.flow, this, this.bounds);
      const bound = counting.boundOf(loop);
      if (bound === undefined) continue;
      const old = this.bounds.get(header);
      if (old !== undefined && old.backEdges <= bound.backEdges) continue;
      this.bounds.set(header, bound);
      this.#hasChanged = true;
    }
    const counting = new Counting(this.flow, this, this.bounds);
    this.#inBody.clear();
    for (const loop of this.flow.loops) {
      const bound = this.bounds.get(loop.header);
      if (bound === undefined || !this.isReachable(loop.header)) continue;
      const { backEdges, test } = bound;
      const inBody = this.#inBody.get(test) ?? new Map<Node, Range>();
      this.#inBody.set(test, inBody);
      for (const phi of loop.header.phis) {
        const range = counting.accumulated(loop, phi, backEdges);
        if (range === undefined) continue;
        const old = this.#accumulated.get(phi) ?? everything;
        const both = intersection(old, range) ?? old;
        if (!isEqual(both, old)) this.#hasChanged = true;
        this.#accumulated.set(phi, both);
        const first = counting.accumulated(loop, phi, Math.max(0, backEdges - 1));
        if (first !== undefined) inBody.set(phi, first);
      }
    }
  }

  #pass(): void {
    for (const block of this.flow.order) {
      // While ranges grow, what could be reached stays so: then they settle.
      const facts =
        this.#factsAtStartOf(block) ?? (this.#isWidening ? this.#facts.get(block) : undefined);
      if (facts === undefined) {
        if (this.#facts.delete(block)) this.#hasChanged = true;
        this.#edges.delete(block);
        continue;
      }
      if (!this.#facts.has(block)) this.#hasChanged = true;
      this.#facts.set(block, facts);
      const get = (node: Node) => possible(facts.get(node) ?? this.base(node));
      for (const phi of block.phis) this.#setPhi(block, phi);
      for (const node of block.nodes) this.#set(node, this.#evaluate(node, get));
      this.#leave(block, facts);
    }
  }

  #factsAtStartOf(block: Block): Facts | undefined {
    const loop = this.#loops.get(block);
    const places: Refinement[] = [];
    // What is known where a loop is entered stays true in it: these values are computed before.
    for (const index of loop?.entries ?? block.predecessors.keys()) {
      const edge = this.before(block, index);
      if (edge !== undefined) places.push(edge);
    }
    if (places.length > 0) return join(places);
    return block.predecessors.length === 0 || block === this.flow.order[0] ? new Map() : undefined;
  }

  #setPhi(block: Block, phi: Node): void {
    let range: Range | undefined;
    for (const [index, input] of phi.inputs.entries()) {
      const edge = this.before(block, index);
      if (edge === undefined || (!this.#ranges.has(input) && this.#isWidening)) continue;
      const one = possible(edge.get(input));
      range = range === undefined ? one : hull(range, one);
    }
    if (range === undefined) return;
    range = this.#limited(phi, range);
    const old = this.#ranges.get(phi);
    if (!this.#loops.has(block)) {
      this.#set(phi, range);
    } else if (!this.#isWidening) {
      const narrowed = intersection(range, this.#accumulated.get(phi) ?? everything) ?? range;
      const next = (old && intersection(narrowed, old)) ?? narrowed;
      if (old === undefined || !isEqual(next, old)) this.#hasChanged = true;
      this.#set(phi, next);
    } else if (old === undefined) {
      this.#hasChanged = true;
      this.#set(phi, range);
    } else if (!isWithin(range, old)) {
      this.#hasChanged = true;
      this.#set(phi, this.#widened(phi, old, hull(old, range)));
    }
  }

  #widened(phi: Node, old: Range, { min, max }: Range): Range {
    const count = this.#widenings.get(phi) ?? 0;
    this.#widenings.set(phi, count + 1);
    if (count >= maxSteps) {
      return { min: min < old.min ? -Infinity : min, max: max > old.max ? Infinity : max };
    }
    return {
      min: min < old.min ? (this.#thresholds.findLast((value) => value <= min) ?? -Infinity) : min,
      max: max > old.max ? (this.#thresholds.find((value) => value >= max) ?? Infinity) : max,
    };
  }

  #set(node: Node, range: Range): void {
    this.#ranges.set(node, this.#limited(node, range));
  }

  /** Returns what of a range is possible for what is known about the node itself. */
  #limited(node: Node, range: Range): Range {
    let limited = possible(range);
    const given = this.#given.get(node);
    if (given !== undefined) limited = intersection(limited, given) ?? given;
    if (node.isNumber) limited = intersection(limited, safeIntegers) ?? safeIntegers;
    return limited;
  }

  #evaluate(node: Node, get: (node: Node) => Range): Range {
    const { operation, inputs } = node;
    const [first, second] = inputs as [Node, Node];
    switch (operation.kind) {
      case "constant":
        return rangeOfConstant(operation.value);
      case "binary":
        return isExactArithmetic(node)
          ? exactResult(operation.operator, get(first), get(second))
          : resultOf(operation.operator, operation.width, get(first), get(second));
      case "extend": {
        const range = lowBits(get(first), operation.bits, operation.signed);
        const of = first.operation;
        if (of.kind !== "binary" || of.width !== 32 || operation.bits !== 32) return range;
        // The range with signs of the operation may be narrower than the one without.
        const [left, right] = first.inputs as [Node, Node];
        const narrow = narrowResult(
          of.operator,
          this.base(left),
          this.base(right),
          operation.signed,
        );
        return intersection(range, narrow) ?? range;
      }
      case "swap":
        return rangeOfBits(operation.bits, false);
      case "compare": {
        const result = decide(operation.operator, operation.width, get(first), get(second));
        return result === undefined ? booleans : rangeOf(Number(result), Number(result));
      }
      case "opaque":
        return get(first);
      case "bound":
        return intersection(get(first), operation) ?? { min: operation.min, max: operation.max };
      case "load":
        return rangeOfBits(operation.size * 8, operation.signed);
      case "atomic":
        return rangeOfBits(operation.size * 8, false);
      default:
        return everything;
    }
  }

  #leave(block: Block, facts: Facts): void {
    const { end } = block;
    const base = (node: Node) => this.base(node);
    const edges = [new Refinement(facts, base)];
    if (end?.kind === "mayGoto") edges.push(edges[0]!);
    if (end?.kind === "branch") {
      edges.push(new Refinement(facts, base));
      const { operator, width, inputs } = end;
      for (const [index, edge] of edges.entries())
        edge.assume(operator, width, ...inputs, index === 0);
      const inBody = this.#inBody.get(block);
      if (inBody !== undefined) {
        for (const { test, staysAt } of this.bounds.values()) {
          if (test !== block) continue;
          for (const [phi, range] of inBody) edges[staysAt]!.narrow(phi, range);
        }
      }
    }
    this.#edges.set(block, edges);
  }
}
