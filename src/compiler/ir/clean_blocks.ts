/** @module Removes blocks that cannot be reached, and joins those that always follow each other. */

import { type Block, type IrFunction, type Node, targetsOf } from "./ir.ts";
import { forwardUses, resolverOf } from "./rewrite.ts";

/** Removes one edge to a block, with the inputs of its phis. */
export function removeEdge(from: Block, to: Block): void {
  const index = to.predecessors.indexOf(from);
  if (index === -1) throw new Error("the blocks have no edge");
  to.predecessors.splice(index, 1);
  for (const phi of to.phis) phi.inputs.splice(index, 1);
}

/** Lets the edge of a block to a target lead to another block. It does not change the predecessors of either. */
export function redirect(from: Block, target: Block, to: Block): void {
  const { end } = from;
  if (end?.kind === "jump") end.target = to;
  else if (end?.kind === "branch") {
    if (end.then === target) end.then = to;
    else end.else = to;
  } else if (end?.kind === "mayGoto") {
    if (end.next === target) end.next = to;
    else end.exit = to;
  }
}

/** Removes blocks that cannot be reached, phis that have one value, and jumps to blocks with one predecessor. */
export function cleanBlocks(fn: IrFunction): void {
  removeUnreachable(fn);
  removeTrivialPhis(fn);
  mergeBlocks(fn);
  skipEmptyBlocks(fn);
}

function removeUnreachable(fn: IrFunction): void {
  const reachable = new Set([fn.entry]);
  for (const block of reachable) for (const target of targetsOf(block.end)) reachable.add(target);
  for (const block of fn.blocks) {
    if (reachable.has(block)) continue;
    for (const target of targetsOf(block.end)) if (reachable.has(target)) removeEdge(block, target);
  }
  fn.blocks = fn.blocks.filter((block) => reachable.has(block));
}

/** Replaces phis whose inputs are all the same, except for the phi itself. */
function removeTrivialPhis(fn: IrFunction): void {
  const replaced = new Map<Node, Node>();
  const resolve = resolverOf(replaced);
  for (let isStable = false; !isStable;) {
    isStable = true;
    for (const block of fn.blocks) {
      for (const phi of block.phis) {
        if (replaced.has(phi)) continue;
        let only: Node | undefined;
        const isTrivial = phi.inputs.every((input) => {
          const value = resolve(input);
          if (value === phi || value === only) return true;
          if (only !== undefined) return false;
          only = value;
          return true;
        });
        if (!isTrivial || only === undefined) continue;
        replaced.set(phi, only);
        isStable = false;
      }
    }
  }
  if (replaced.size === 0) return;
  for (const block of fn.blocks) {
    const kept = block.phis.filter((phi) => !replaced.has(phi));
    block.phis.splice(0, Infinity, ...kept);
  }
  forwardUses(fn, replaced);
}

/** Appends blocks to their only predecessor, if that always jumps to them. */
function mergeBlocks(fn: IrFunction): void {
  const removed = new Set<Block>();
  const replaced = new Map<Node, Node>();
  for (const block of fn.blocks) {
    if (removed.has(block)) continue;
    for (;;) {
      const { end } = block;
      if (end?.kind !== "jump" || end.target.predecessors.length !== 1) break;
      const { target } = end;
      if (target === block || target === fn.entry) break;
      for (const phi of target.phis) replaced.set(phi, phi.inputs[0] as Node);
      for (const node of target.nodes) {
        node.block = block;
        block.nodes.push(node);
      }
      block.end = target.end;
      for (const next of new Set(targetsOf(target.end))) {
        for (const [index, each] of next.predecessors.entries()) {
          if (each === target) next.predecessors[index] = block;
        }
      }
      removed.add(target);
    }
  }
  if (removed.size === 0) return;
  fn.blocks = fn.blocks.filter((block) => !removed.has(block));
  if (replaced.size > 0) forwardUses(fn, replaced);
}

/** Lets edges to an empty block lead to the block that follows. */
function skipEmptyBlocks(fn: IrFunction): void {
  for (const block of fn.blocks) {
    const { end } = block;
    if (end?.kind !== "jump" || block.phis.length > 0 || block.nodes.length > 0) continue;
    const { target } = end;
    if (block === fn.entry || target === block || block.loop !== undefined) continue;
    for (const predecessor of [...block.predecessors]) {
      // Two edges between the same blocks could not have different inputs.
      if (target.predecessors.includes(predecessor) && target.phis.length > 0) continue;
      const index = target.predecessors.indexOf(block);
      redirect(predecessor, block, target);
      block.predecessors.splice(block.predecessors.indexOf(predecessor), 1);
      target.predecessors.push(predecessor);
      for (const phi of target.phis) phi.inputs.push(phi.inputs[index] as Node);
    }
  }
  removeUnreachable(fn);
}
