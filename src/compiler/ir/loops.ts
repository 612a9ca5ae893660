/**
 * @module Prepares functions for the verifier, which follows each path with the constants that it has there.
 *
 * A value that collects many constants, like a counter of events, makes the number of paths explode: the verifier merges no two paths
 * with different constants. An `opaque` node makes it forget the constant. A loop whose end the verifier would not find gets a
 * counter of its own, or `may_goto`.
 */

import type { LoopBound } from "./counting.ts";
import type { NaturalLoop } from "./flow.ts";
import { resultOfConstants } from "./constants.ts";
import { Intervals } from "./intervals.ts";
import type { Block, IrFunction, Node } from "./ir.ts";
import { isBoundedForVerifier } from "./ranges.ts";
import { replaceUses, splitEdge } from "./rewrite.ts";

/** Constants of a value on different paths that are too many. */
const maxConstants = 8;
/** Iterations of a loop after which an accumulator is opaque even if nothing compares it. */
const maxFollowed = 16;

/** The constants that a value may be on the paths to it; `many` if there are too many; `undefined` if the verifier has none. */
type Constants = ReadonlySet<bigint> | "many" | undefined;

/** Makes loops and values such that the verifier accepts them soon. The last pass before registers are allocated. */
export function prepareLoops(fn: IrFunction): void {
  const intervals = new Intervals(fn);
  const counters = new Set<Node>();
  const opaque = new Set<Node>();
  for (const loop of intervals.flow.loops) {
    const { header } = loop;
    const bound = intervals.bounds.get(header);
    if (bound === undefined) continue;
    if (header.loop?.kind === "mayGoto") {
      insertMayGoto(fn, bound);
      for (const phi of header.phis) if (isScalar(phi)) opaque.add(phi);
    } else if (isBoundedForVerifier(bound, loop)) counters.add(bound.counter);
    else counters.add(insertGuard(fn, loop, bound));
  }
  chooseOpaque(intervals, counters, opaque);
  makeOpaque(fn, opaque);
}

/** Lets a loop end after millions of iterations, as far as the verifier knows. */
function insertMayGoto(fn: IrFunction, { test, staysAt }: LoopBound): void {
  const exit = exitOf(test, staysAt);
  const { middle, to } = splitEdge(fn, test, staysAt);
  middle.end = { kind: "mayGoto", next: to, exit };
  addEdgeLike(test, middle, exit);
}

/** Counts the iterations of a loop, so that the verifier sees that it ends. Returns the counter. */
function insertGuard(
  fn: IrFunction,
  loop: NaturalLoop,
  { test, staysAt, backEdges, limit }: LoopBound,
): Node {
  const { header } = loop;
  const { position } = limit;
  const exit = exitOf(test, staysAt);
  const { middle, to } = splitEdge(fn, test, staysAt);
  const constant = (block: Block, value: number) => {
    const node = fn.newNode(block, { kind: "constant", value: BigInt(value) }, [], position);
    block.nodes.push(node);
    node.range = { min: value, max: value };
    return node;
  };
  const counter = fn.newNode(header, { kind: "phi" }, [], position);
  const next = fn.newNode(
    middle,
    { kind: "binary", operator: "add", width: 64 },
    [counter, constant(middle, 1)],
    position,
  );
  middle.nodes.push(next);
  counter.range = { min: 0, max: backEdges };
  next.range = { min: 1, max: backEdges + 1 };
  counter.isNumber = true;
  next.isNumber = true;
  const entries = new Set(loop.entries);
  for (const [index, predecessor] of header.predecessors.entries()) {
    counter.inputs.push(entries.has(index) ? constant(predecessor, 0) : next);
  }
  header.phis.push(counter);
  middle.end = {
    kind: "branch",
    operator: "lt",
    width: 64,
    inputs: [counter, constant(middle, backEdges)],
    then: to,
    else: exit,
  };
  addEdgeLike(test, middle, exit);
  return counter;
}

function exitOf({ end }: Block, staysAt: 0 | 1): Block {
  if (end?.kind !== "branch") throw new Error("the test of a loop is not a branch");
  return staysAt === 0 ? end.else : end.then;
}

/** Adds an edge to a block, with the values that another edge has. */
function addEdgeLike(like: Block, from: Block, to: Block): void {
  const index = to.predecessors.indexOf(like);
  to.predecessors.push(from);
  for (const { inputs } of to.phis) inputs.push(inputs[index]!);
}

/** Finds the phis that have so many constants that the verifier would follow too many paths. */
function chooseOpaque(
  { flow, bounds }: Intervals,
  counters: ReadonlySet<Node>,
  opaque: Set<Node>,
): void {
  const loops = new Map(flow.loops.map((loop) => [loop.header, loop]));
  const uses = findUses(flow.order);
  const constants = new Map<Node, Constants>();
  // Values of which the verifier knows single bits: an opaque one in which bits are set. Its constants are those of an opaque 0.
  const partly = new Set<Node>();
  // An opaque phi of a header often makes those in the loop harmless: they come second.
  let isHeadersOnly = true;
  for (let isStable = false; !isStable || isHeadersOnly;) {
    if (isStable) {
      isHeadersOnly = false;
      constants.clear();
    }
    isStable = true;
    for (const block of flow.order) {
      for (const node of [...block.phis, ...block.nodes]) {
        const old = constants.get(node);
        if (old === "many") continue;
        const isOpaque = opaque.has(node);
        if (isOpaque || isPartlyKnown(node, partly)) partly.add(node);
        const isForgotten = !partly.has(node) && node.inputs.some((input) => partly.has(input));
        let found: Constants = isOpaque ? new Set([0n]) : undefined;
        if (!isOpaque && !isForgotten) found = constantsOf(node, constants);
        if (found === "many" && node.operation.kind === "phi" && !counters.has(node)) {
          const loop = loops.get(block);
          const isExplosive =
            (!isHeadersOnly || loop !== undefined) &&
            (loop === undefined
              ? uses.isPrecise(node)
              : isFollowed(loop, bounds.get(block), uses.isPrecise(node), node));
          if (isExplosive && isScalar(node) && !uses.isReturned(node)) {
            opaque.add(node);
            // All that was taken for its constants must be forgotten.
            constants.clear();
            partly.clear();
            found = new Set([0n]);
            partly.add(node);
            isStable = false;
          }
        }
        const size = (value: Constants) =>
          value === "many" ? maxConstants + 1 : (value?.size ?? 0);
        if (size(found) === size(old)) continue;
        constants.set(node, found);
        isStable = false;
      }
    }
  }
}

/** True if the verifier knows bits of a value of which it does not know the others. */
function isPartlyKnown({ operation, inputs }: Node, partly: ReadonlySet<Node>): boolean {
  const isKept =
    operation.kind === "phi" ||
    operation.kind === "extend" ||
    (operation.kind === "binary" && bitwise.has(operation.operator));
  return isKept && inputs.some((input) => partly.has(input));
}

const bitwise: ReadonlySet<string> = new Set(["and", "or", "xor"]);

/** True if the paths through the iterations of a loop differ by what a phi has. */
function isFollowed(
  loop: NaturalLoop,
  bound: LoopBound | undefined,
  isPrecise: boolean,
  phi: Node,
): boolean {
  const { range } = phi;
  if (range !== undefined && range.max - range.min < maxConstants) return false;
  let hasBranch = false;
  for (const { end } of loop.blocks) {
    hasBranch ||=
      end?.kind === "branch" &&
      end.inputs[0] !== bound?.counter &&
      end.inputs[1] !== bound?.counter;
  }
  return hasBranch && (isPrecise || bound === undefined || bound.iterations > maxFollowed);
}

function constantsOf(node: Node, known: ReadonlyMap<Node, Constants>): Constants {
  const { operation, inputs } = node;
  switch (operation.kind) {
    case "constant":
      return new Set([operation.value]);
    case "phi": {
      const all = new Set<bigint>();
      for (const input of inputs) {
        const some = known.get(input);
        if (some === "many") return "many";
        if (some !== undefined) for (const value of some) all.add(value);
      }
      return all.size === 0 ? undefined : limited(all);
    }
    case "binary":
    case "extend": {
      const [left, right] = inputs.map((input) => known.get(input));
      if (left === undefined || (inputs.length > 1 && right === undefined)) return undefined;
      if (left === "many" || right === "many") return "many";
      const all = new Set<bigint>();
      for (const a of left)
        for (const b of right ?? [0n]) all.add(resultOfConstants(operation, a, b));
      return limited(all);
    }
    default:
      return undefined;
  }
}

function limited(values: ReadonlySet<bigint>): Constants {
  return values.size > maxConstants ? "many" : values;
}

interface Uses {
  /** True if a value decides about the path, or must be known as a size or place. */
  isPrecise(node: Node): boolean;
  /** True if a value is returned: the kernel may demand that it is in a range. */
  isReturned(node: Node): boolean;
}

/** Finds the nodes from which others, that need the verifier's knowledge, are computed. */
function findUses(blocks: readonly Block[]): Uses {
  const precise = new Set<Node>();
  const returned = new Set<Node>();
  const mark = (set: Set<Node>, roots: readonly Node[], throughAll: boolean) => {
    const open = [...roots];
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      const { kind } = node.operation;
      const isComputed = kind === "phi" || (throughAll && (kind === "binary" || kind === "extend"));
      if (set.has(node)) continue;
      set.add(node);
      if (isComputed) open.push(...node.inputs);
    }
  };
  for (const { nodes, end } of blocks) {
    for (const { operation, inputs } of nodes) {
      const isPrecise = operation.kind === "compare" || operation.kind === "bound";
      if (isPrecise || operation.kind.startsWith("call")) mark(precise, inputs, true);
      if (operation.kind === "address") mark(precise, inputs.slice(1), true);
    }
    if (end?.kind === "branch") mark(precise, end.inputs, true);
    if (end?.kind === "return") mark(returned, end.inputs, false);
  }
  return { isPrecise: (node) => precise.has(node), isReturned: (node) => returned.has(node) };
}

/** True if a value is a number for the verifier, not a pointer: pointers have no arithmetic but `address`. */
function isScalar(phi: Node): boolean {
  if (phi.isNumber) return true;
  const seen = new Set<Node>();
  const open = [phi];
  let isComputed = false;
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    const { operation } = node;
    if (operation.kind === "phi") open.push(...node.inputs);
    else if (operation.kind === "constant") isComputed ||= operation.value !== 0n;
    else if (node.isNumber || scalarKinds.has(operation.kind)) isComputed = true;
    else if (operation.kind === "load" && operation.size < 8) isComputed = true;
    else if (operation.kind === "opaque" || operation.kind === "bound") isComputed = true;
    else return false;
  }
  return isComputed;
}

const scalarKinds: ReadonlySet<string> = new Set(["binary", "extend", "swap", "compare", "atomic"]);

/** Lets the uses of phis read opaque nodes at the start of the block. */
function makeOpaque(fn: IrFunction, phis: ReadonlySet<Node>): void {
  const replaced = new Map<Node, Node>();
  for (const phi of phis) {
    const { block, position } = phi;
    const node = fn.newNode(block, { kind: "opaque" }, [phi], position);
    node.isNumber = phi.isNumber;
    node.range = phi.range;
    block.nodes.unshift(node);
    replaced.set(phi, node);
  }
  if (replaced.size > 0) replaceUses(fn, replaced);
}
