/** @module Lets blocks whose branch is decided by where they are entered from be skipped from there. */

import { redirect, removeEdge } from "./clean_blocks.ts";
import { compareResult, resultOfConstants } from "./constants.ts";
import { Flow } from "./flow.ts";
import { type Block, effectOf, inputsOf, type IrFunction, type Node } from "./ir.ts";

/** Number of nodes that are copied at most to skip a branch. */
const maxCopied = 8;
/** Number of branches that are skipped at most, for each block of the function. */
const maxPerBlock = 4;

/** Copies blocks for predecessors that decide their branch. Returns true if there were any. */
export function threadJumps(fn: IrFunction): boolean {
  const { loops } = new Flow(fn);
  const headers = new Set(loops.map(({ header }) => header));
  let left = maxPerBlock * fn.blocks.length;
  let changed = false;
  for (const block of [...fn.blocks]) {
    if (block === fn.entry || headers.has(block) || block.end?.kind !== "branch") continue;
    if (block.phis.length === 0 || block.nodes.length > maxCopied) continue;
    if (block.nodes.some(({ operation }) => effectOf(operation) !== "none")) continue;
    for (const predecessor of new Set(block.predecessors)) {
      if (left === 0) return changed;
      const isDouble = block.predecessors.filter((each) => each === predecessor).length > 1;
      if (isDouble || predecessor === block) continue;
      const target = decidedTarget(block, block.predecessors.indexOf(predecessor));
      if (target === undefined) continue;
      skipBlock(fn, predecessor, block, target);
      left--;
      changed = true;
    }
  }
  return changed;
}

/** Returns the target of a block's branch if it is entered from a predecessor, if that is known. */
function decidedTarget(block: Block, predecessor: number): Block | undefined {
  const { end } = block;
  // Two edges to the same block have inputs of their own.
  if (end?.kind !== "branch" || end.then === end.else) return undefined;
  const known = new Map<Node, bigint | undefined>();
  const valueOf = (node: Node): bigint | undefined => {
    const { operation } = node;
    if (operation.kind === "constant") return operation.value;
    return known.get(node);
  };
  for (const phi of block.phis) known.set(phi, valueOf(phi.inputs[predecessor] as Node));
  for (const node of block.nodes) {
    const { kind } = node.operation;
    if (kind !== "binary" && kind !== "compare" && kind !== "extend") continue;
    const values = node.inputs.map(valueOf);
    if (values.includes(undefined)) continue;
    known.set(node, resultOfConstants(node.operation, values[0] as bigint, values[1]));
  }
  const [left, right] = end.inputs.map(valueOf);
  if (left === undefined || right === undefined) return undefined;
  return compareResult(end.operator, end.width, left, right) ? end.then : end.else;
}

/** Copies a block for one predecessor, from which it always goes on to the same target. */
function skipBlock(fn: IrFunction, predecessor: Block, block: Block, target: Block): void {
  const index = block.predecessors.indexOf(predecessor);
  const copy = fn.newBlock();
  const copies = new Map<Node, Node>();
  for (const phi of block.phis) copies.set(phi, phi.inputs[index] as Node);
  for (const node of block.nodes) {
    const inputs = node.inputs.map((input) => copies.get(input) ?? input);
    const copied = fn.newNode(copy, node.operation, inputs, node.position);
    copied.isNumber = node.isNumber;
    copied.range = node.range;
    copy.nodes.push(copied);
    copies.set(node, copied);
  }
  copy.end = { kind: "jump", target };
  copy.predecessors.push(predecessor);
  redirect(predecessor, block, copy);
  removeEdge(predecessor, block);
  const from = target.predecessors.indexOf(block);
  target.predecessors.push(copy);
  for (const phi of target.phis) {
    const input = phi.inputs[from] as Node;
    phi.inputs.push(copies.get(input) ?? input);
  }
  fn.blocks.splice(fn.blocks.indexOf(block), 0, copy);
  for (const [node, copied] of copies) repairUses(fn, node, block, copied, copy);
}

/**
 * Lets the uses of a value that is now computed in two blocks read the one that reaches them, with phis where both do.
 */
function repairUses(fn: IrFunction, node: Node, block: Block, copied: Node, copy: Block): void {
  const atStart = new Map<Block, Node>();
  const made: Node[] = [];
  const readEnd = (at: Block): Node => {
    if (at === block) return node;
    return at === copy ? copied : readStart(at);
  };
  const readStart = (at: Block): Node => {
    const known = atStart.get(at);
    if (known !== undefined) return known;
    const [only, ...others] = at.predecessors;
    if (only === undefined) throw new Error("the value does not reach its use");
    if (others.length === 0) {
      const value = readEnd(only);
      atStart.set(at, value);
      return value;
    }
    const phi = fn.newNode(at, { kind: "phi" }, [], node.position);
    phi.isNumber = node.isNumber;
    phi.range = node.range;
    atStart.set(at, phi);
    made.push(phi);
    for (const predecessor of at.predecessors) phi.inputs.push(readEnd(predecessor));
    at.phis.push(phi);
    return phi;
  };
  for (const user of [...fn.blocks]) {
    for (const phi of [...user.phis]) {
      if (made.includes(phi)) continue;
      for (const [index, input] of phi.inputs.entries()) {
        const from = user.predecessors[index] as Block;
        if (input === node && from !== block) phi.inputs[index] = readEnd(from);
      }
    }
    if (user === block) continue;
    for (const each of user.nodes) replaceInputs(each.inputs, node, () => readStart(user));
    replaceInputs(inputsOf(user.end) as Node[], node, () => readStart(user));
  }
}

function replaceInputs(inputs: Node[], node: Node, other: () => Node): void {
  for (const [index, input] of inputs.entries()) if (input === node) inputs[index] = other();
}
