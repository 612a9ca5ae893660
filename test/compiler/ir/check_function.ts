/** Checks the form of functions in the intermediate representation. */

import { Flow } from "../../../src/compiler/ir/flow.ts";
import {
  type Block,
  inputsOf,
  type IrFunction,
  type Node,
  targetsOf,
} from "../../../src/compiler/ir/ir.ts";

/** Checks that blocks, edges and uses fit together. @throws {Error} if they do not: a pass is wrong. */
export function checkFunction(fn: IrFunction): void {
  const flow = new Flow(fn);
  const blocks = new Set(fn.blocks);
  const fail = (block: Block, problem: string): never => {
    throw new Error(`b${block.id} of ${fn.name}: ${problem}`);
  };
  for (const block of flow.order) {
    if (!blocks.has(block)) fail(block, "it can be reached, and is not in the list");
    const edges = flow.order.flatMap((from) =>
      targetsOf(from.end)
        .filter((target) => target === block)
        .map(() => from.id),
    );
    const predecessors = block.predecessors.map(({ id }) => id);
    if (`${edges.sort()}` !== `${predecessors.sort()}`) {
      fail(
        block,
        `the predecessors are ${predecessors.join(", ")}, and the edges come from ${edges.join(", ")}`,
      );
    }
    if (block.end === undefined) fail(block, "it has no end");
    const defined = new Set<Node>(block.phis);
    const isKnown = (node: Node, at: Block): boolean =>
      node.block === at ? defined.has(node) : flow.dominates(node.block, at) && hasNode(node);
    for (const phi of block.phis) {
      if (phi.inputs.length !== block.predecessors.length)
        fail(block, `%${phi.id} has ${phi.inputs.length} inputs`);
      for (const [index, input] of phi.inputs.entries()) {
        const from = block.predecessors[index] as Block;
        if (!hasNode(input) || !flow.dominates(input.block, from))
          fail(block, `%${phi.id} reads %${input.id}`);
      }
    }
    for (const node of block.nodes) {
      if (node.block !== block) fail(block, `%${node.id} is of b${node.block.id}`);
      for (const input of node.inputs) {
        if (!isKnown(input, block))
          fail(block, `%${node.id} reads %${input.id}, which is not defined there`);
      }
      defined.add(node);
    }
    for (const input of inputsOf(block.end)) {
      if (!isKnown(input, block))
        fail(block, `the end reads %${input.id}, which is not defined there`);
    }
  }
}

/** Returns true if a node is in its block. */
function hasNode(node: Node): boolean {
  return node.block.phis.includes(node) || node.block.nodes.includes(node);
}
