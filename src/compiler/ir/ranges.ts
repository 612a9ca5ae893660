/** @module Proves that numbers stay safe integers, that loops end, and that indices are in their bounds. */

import type { LoopBound } from "./counting.ts";
import type { NaturalLoop } from "./flow.ts";
import { exactResult, greatest, isWithin, rangeOfConstant, safeIntegers } from "./interval.ts";
import { Intervals, isExactArithmetic } from "./intervals.ts";
import type { Block, IrFunction, Node, Range, TextPosition } from "./ir.ts";
import { replaceUses } from "./rewrite.ts";
import { type PlaceKnowledge, verifierKnows } from "./verifier_knowledge.ts";

/** Refuses code: throws an error with the place in the source, the reason, and the way out. */
export type Report = (position: TextPosition | undefined, message: string, hint: string) => never;

/** The features of a kernel that decide how loops are compiled. */
export interface LoopTarget {
  /** True if the kernel has the instruction `may_goto`. */
  readonly mayGoto: boolean;
}

/** The greatest number of iterations of a loop, with those of the loops around it. */
const maxTotalIterations = 1_000_000;
/** The number of instructions that the verifier follows, at most. Nodes are about as many. */
const maxVerifiedNodes = 1_000_000;
/** Iterations that the verifier follows one by one even if the kernel has `may_goto`. */
const maxPlainIterations = 1000;

/**
 * Computes the ranges of a function's nodes and the bounds of its loops. Reports what cannot be proved, and removes `bound` nodes
 * that tell the verifier nothing new. Ranges that nodes have before are taken as given.
 */
export function analyseRanges(fn: IrFunction, report: Report, target: LoopTarget): void {
  const intervals = new Intervals(fn);
  const { flow } = intervals;
  const loops = new Map(flow.loops.map((loop) => [loop.header, loop]));
  const steps = new Map<NaturalLoop, number>();
  for (const block of flow.order) {
    if (!intervals.isReachable(block)) continue;
    const loop = loops.get(block);
    if (loop !== undefined) boundLoop(loop, intervals, steps, report, target);
    for (const node of [...block.phis, ...block.nodes]) {
      if (isExactArithmetic(node)) proveSafe(node, intervals, report);
      if (node.operation.kind === "bound") proveBound(node, node.operation, intervals, report);
      node.range = intervals.base(node);
    }
  }
  removeKnownBounds(fn, intervals, target);
}

function proveSafe(node: Node, intervals: Intervals, report: Report): void {
  const { operation, inputs, block, position } = node;
  if (operation.kind !== "binary") return;
  const [left, right] = inputs.map((input) => intervals.at(input, block)) as [Range, Range];
  const range = exactResult(operation.operator, left, right);
  if (isWithin(range, safeIntegers)) return;
  const what =
    { add: "sum", sub: "difference", mul: "product" }[operation.operator as "add"] ?? "product";
  const wrapped = operation.operator === "mul" ? "`Math.imul(a, b)`" : "`| 0` or `>>> 0`";
  report(
    position,
    operation.operator === "lsh"
      ? `the product may leave the safe integers: it is ${show(range)}, and one factor is ${show(left)}`
      : `the ${what} may leave the safe integers: it is ${show(range)}, of ${show(left)} and ${show(right)}`,
    `Wrap it to 32 bits by ${wrapped}, limit its inputs by a condition, or compute with bigints`,
  );
}

function proveBound(
  { inputs, block, position }: Node,
  { min, max }: Range,
  intervals: Intervals,
  report: Report,
): void {
  const range = intervals.at(inputs[0]!, block);
  if (isWithin(range, { min, max })) return;
  report(
    position,
    max === Number.MAX_SAFE_INTEGER
      ? "the bigint may be beyond the integers that a number holds exactly"
      : `the index may be out of ${show({ min, max })}: it is ${show(range)}`,
    max === Number.MAX_SAFE_INTEGER
      ? "Check it before, by a condition such as `x < 2n ** 48n`, or take its low bits: BigInt.asUintN(48, x), k.u32(x)"
      : range.min < min && range.max > max
        ? `Check it before, by a condition such as \`index >= ${min} && index <= ${max}\``
        : range.max > max
          ? `Check it before, by a condition such as \`index <= ${max}\``
          : `Check it before, by a condition such as \`index >= ${min}\``,
  );
}

/** Sets the bound of a loop and how it is compiled. */
function boundLoop(
  loop: NaturalLoop,
  intervals: Intervals,
  steps: Map<NaturalLoop, number>,
  report: Report,
  target: LoopTarget,
): void {
  const { header } = loop;
  const position = header.loop?.position;
  const bound = intervals.bounds.get(header);
  if (loop.latches.every((index) => intervals.before(header, index) === undefined)) {
    // No path leads back.
    steps.set(loop, 1);
    if (header.loop !== undefined) {
      header.loop.maxIterations = 1;
      header.loop.kind = "plain";
    }
    return;
  }
  if (bound === undefined) {
    report(
      position,
      "the loop has no bound that the compiler can find",
      "Compare a counter that changes by a constant in each iteration with a limit, as in `for (let i = 0; i < 100; i++)`",
    );
  }
  const around = intervals.flow.loops.filter((other) => other !== loop && other.blocks.has(header));
  let total = bound.iterations;
  for (const other of around) total *= intervals.bounds.get(other.header)?.iterations ?? 1;
  if (total > maxTotalIterations) {
    const all = around.length === 0 ? "" : ", with those of the loops around it";
    report(
      position,
      `the loop is too long: it may have ${total >= greatest ? "any number of" : total} iterations${all}, and ${maxTotalIterations} are allowed`,
      "Limit the number of iterations by a smaller constant, as in `i < n && i < 1000`",
    );
  }
  // The verifier passes through the body of a `mayGoto` loop about twice.
  let followed = bound.iterations;
  const outer = around.at(-1);
  if (outer !== undefined)
    followed *= outer.header.loop?.kind === "mayGoto" ? 2 : steps.get(outer)!;
  const isFollowed = isBoundedForVerifier(bound, loop);
  const isLong = followed > maxPlainIterations || !isFollowed;
  const kind = target.mayGoto && isLong && header.loop !== undefined ? "mayGoto" : "plain";
  steps.set(loop, followed);
  if (header.loop !== undefined) {
    header.loop.maxIterations = bound.iterations;
    header.loop.kind = kind;
  }
  if (kind === "mayGoto") return;
  let size = 0;
  for (const block of loop.blocks) size += block.nodes.length + 1;
  if (followed * size > maxVerifiedNodes) {
    report(
      position,
      `the loop is too long for this kernel: its verifier follows each of up to ${followed} iterations`,
      "Limit the number of iterations by a smaller constant; Linux 6.9 and newer verify long loops",
    );
  }
}

/** Returns the value of a constant node. */
function constantOf({ operation }: Node): number | undefined {
  if (operation.kind !== "constant") return undefined;
  const { min, max } = rangeOfConstant(operation.value);
  return min === max ? min : undefined;
}

/** Returns the constant with which a counter enters its loop, if it is one. */
function startOf({ counter }: LoopBound, loop: NaturalLoop): number | undefined {
  const starts = new Set(loop.entries.map((index) => constantOf(counter.inputs[index]!)));
  const [start] = starts;
  return starts.size === 1 ? start : undefined;
}

/** True if the verifier finds by itself that a loop ends: it has a constant start, constant steps, and a constant limit. */
export function isBoundedForVerifier(bound: LoopBound, loop: NaturalLoop): boolean {
  return constantOf(bound.limit) !== undefined && isConstantForVerifier(bound, loop);
}

/** True if the counter of a loop is a constant for the verifier in each iteration. */
function isConstantForVerifier(bound: LoopBound, loop: NaturalLoop): boolean {
  const { counter } = bound;
  const isStepped = loop.latches.every((index) => isStepOf(counter, counter.inputs[index]!));
  return isStepped && startOf(bound, loop) !== undefined;
}

/** True if a node is a phi with a constant added or subtracted. */
function isStepOf(counter: Node, { operation, inputs }: Node): boolean {
  if (operation.kind === "extend") return isStepOf(counter, inputs[0]!);
  if (operation.kind !== "binary" || (operation.operator !== "add" && operation.operator !== "sub"))
    return false;
  return inputs[0] === counter && constantOf(inputs[1]!) !== undefined;
}

function removeKnownBounds(fn: IrFunction, intervals: Intervals, target: LoopTarget): void {
  const counters = new Map<Node, Counter>();
  for (const loop of intervals.flow.loops) {
    const bound = intervals.bounds.get(loop.header);
    if (bound === undefined || loop.header.loop?.kind !== "plain") continue;
    const start = startOf(bound, loop);
    const { step } = bound;
    if (start === undefined || !isConstantForVerifier(bound, loop)) continue;
    if (step === undefined || step.min !== step.max) continue;
    counters.set(bound.counter, { start, step: step.min, bound });
  }
  const replaced = new Map<Node, Node>();
  for (const block of fn.blocks) {
    for (const node of block.nodes) {
      const { operation, inputs } = node;
      if (operation.kind !== "bound") continue;
      const place: PlaceKnowledge = {
        counterRange: (phi) => counterRange(counters.get(phi), block, intervals),
        // Each kernel with may_goto is newer than the one that began to keep them.
        keepsSpilledRanges: target.mayGoto,
        user: node,
      };
      if (verifierKnows(inputs[0]!, operation.min, operation.max, place))
        replaced.set(node, inputs[0]!);
    }
  }
  if (replaced.size === 0) return;
  replaceUses(fn, replaced);
  for (const block of fn.blocks) {
    const kept = block.nodes.filter((node) => !replaced.has(node));
    block.nodes.splice(0, block.nodes.length, ...kept);
  }
}

interface Counter {
  readonly start: number;
  readonly step: number;
  readonly bound: LoopBound;
}

/** Returns the values of a counter that the verifier meets in a block. */
function counterRange(
  counter: Counter | undefined,
  block: Block,
  { flow }: Intervals,
): Range | undefined {
  if (counter === undefined) return undefined;
  const { start, step, bound } = counter;
  const { backEdges, staysAt, test } = bound;
  if (test.end?.kind !== "branch") return undefined;
  const body = staysAt === 0 ? test.end.then : test.end.else;
  const isInBody = body.predecessors.length === 1 && flow.dominates(body, block);
  const last = start + step * Math.max(0, isInBody ? backEdges - 1 : backEdges);
  return { min: Math.min(start, last), max: Math.max(start, last) };
}

function show({ min, max }: Range): string {
  return min === max ? showEnd(min) : `${showEnd(min)} to ${showEnd(max)}`;
}

function showEnd(value: number): string {
  if (Math.abs(value) < greatest) return String(value);
  return `${value < 0 ? "-" : ""}2^53${Number.isFinite(value) ? " - 1" : " or more"}`;
}
