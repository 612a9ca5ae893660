/** @module Changes of functions that several passes make. */

import { type Block, type IrFunction, inputsOf, type Node } from "./ir.ts";

/** Lets all nodes and ends read other nodes, except for these other nodes themselves. */
export function replaceUses(fn: IrFunction, replaced: ReadonlyMap<Node, Node>): void {
  const others = new Set(replaced.values());
  rewriteInputs(fn, replaced, (node) => !others.has(node) || replaced.has(node));
}

/** Lets all nodes and ends read the nodes that stand for removed ones. */
export function forwardUses(fn: IrFunction, removed: ReadonlyMap<Node, Node>): void {
  rewriteInputs(fn, removed, () => true);
}

/** Returns a function that returns the node that stands for another in the end. Nodes that are replaced later count, too. */
export function resolverOf(replaced: ReadonlyMap<Node, Node>): (node: Node) => Node {
  const resolve = (node: Node): Node => {
    const other = replaced.get(node);
    return other === undefined ? node : resolve(other);
  };
  return resolve;
}

function rewriteInputs(
  fn: IrFunction,
  replaced: ReadonlyMap<Node, Node>,
  isReader: (node: Node) => boolean,
): void {
  const resolve = resolverOf(replaced);
  const replaceIn = (inputs: Node[]) => {
    for (const [index, input] of inputs.entries()) inputs[index] = resolve(input);
  };
  for (const block of fn.blocks) {
    for (const node of [...block.phis, ...block.nodes]) if (isReader(node)) replaceIn(node.inputs);
    replaceIn(inputsOf(block.end) as Node[]);
  }
}

/**
 * Inserts an empty block into the edge from a branch to one of its targets. The block has no end yet; its edge to the target is
 * there, so that the end must lead to it.
 */
export function splitEdge(
  fn: IrFunction,
  from: Block,
  target: 0 | 1,
): { middle: Block; to: Block } {
  const { end } = from;
  if (end?.kind !== "branch") throw new Error("the block does not end with a branch");
  const to = target === 0 ? end.then : end.else;
  const middle = fn.newBlock();
  if (target === 0) end.then = middle;
  else end.else = middle;
  middle.predecessors.push(from);
  const indices = [...to.predecessors.keys()].filter((index) => to.predecessors[index] === from);
  // If both targets were the same block, the first edge is that of `then`.
  to.predecessors[indices[indices.length > 1 ? target : 0]!] = middle;
  fn.blocks.splice(fn.blocks.indexOf(from) + 1, 0, middle);
  return { middle, to };
}
