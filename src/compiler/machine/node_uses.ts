/** @module Counts the uses of nodes, without those that instructions can do without. */

import {
  type Block,
  effectOf,
  type End,
  inputsOf,
  type IrFunction,
  type Node,
  targetsOf,
} from "../ir/ir.ts";
import { opposites } from "../ir/comparison.ts";

/** A comparison, as a branch makes it. */
export type Comparison = Pick<Extract<End, { kind: "branch" }>, "operator" | "width" | "inputs">;

/** Numbers of uses of the nodes of a function. */
export class NodeUses {
  readonly #counts: Uint32Array;
  readonly #inRegisters: Uint32Array;

  constructor(blocks: readonly Block[], nodeCount: number) {
    this.#counts = new Uint32Array(nodeCount);
    this.#inRegisters = new Uint32Array(nodeCount);
    this.#mark(blocks);
  }

  /** Returns the number of uses of a node: 0 if it is not needed. */
  count({ id }: Node): number {
    return this.#counts[id] as number;
  }

  /** Returns the number of uses of the value in a register. Others are folded into the instructions that use it. */
  inRegister({ id }: Node): number {
    return this.#inRegisters[id] as number;
  }

  /** Counts the uses of nodes: first those that are needed, then those that need a register. */
  #mark(blocks: readonly Block[]): void {
    const uses = this.#counts;
    const reachable = new Set(blocks);
    const work: Node[] = [];
    const use = (node: Node) => {
      uses[node.id] = (uses[node.id] as number) + 1;
      if (uses[node.id] === 1) work.push(node);
    };
    for (const block of blocks) {
      for (const node of block.nodes) if (effectOf(node.operation) === "write") use(node);
      for (const input of fusedInputs(block.end)) use(input);
    }
    for (let node = work.pop(); node !== undefined; node = work.pop()) {
      if (node.operation.kind !== "phi") {
        for (const input of readInputs(node)) use(input);
        continue;
      }
      for (const [i, predecessor] of node.block.predecessors.entries()) {
        if (reachable.has(predecessor)) use(node.inputs[i] as Node);
      }
    }
    // Uses come after definitions in this order, except in phis, which need registers anyway.
    const registerUses = this.#inRegisters;
    const need = (node: Node) => {
      registerUses[node.id] = (registerUses[node.id] as number) + 1;
    };
    for (const block of blocks.toReversed()) {
      for (const input of fusedInputs(block.end)) need(input);
      for (const node of block.nodes.toReversed()) {
        if (this.count(node) === 0) continue;
        const foldsPointer = isAccess(node) || node.operation.kind === "address";
        for (const [i, input] of readInputs(node).entries()) {
          if (i > 0 || !foldsPointer) need(input);
        }
      }
    }
    for (const block of blocks) {
      for (const phi of block.phis) if (this.count(phi) > 0) phi.inputs.forEach(need);
    }
  }
}

/** Returns one more than the greatest id of the nodes. */
export function countNodes(blocks: readonly Block[]): number {
  let count = 0;
  for (const { phis, nodes } of blocks) {
    for (const { id } of phis) count = Math.max(count, id + 1);
    for (const { id } of nodes) count = Math.max(count, id + 1);
  }
  return count;
}

/** Returns the blocks that can be reached from the entry, in the function's order. */
export function reachableBlocks(fn: IrFunction): Block[] {
  const seen = new Set([fn.entry]);
  // A set may grow while it is iterated.
  for (const block of seen) for (const target of targetsOf(block.end)) seen.add(target);
  return fn.blocks.filter((block) => seen.has(block));
}

/** Returns the nodes that the instructions of a node read: an extension of bits that they ignore is left out. */
export function readInputs(node: Node): readonly Node[] {
  const { operation, inputs } = node;
  switch (operation.kind) {
    case "store":
      return [inputs[0] as Node, lowBits(inputs[1] as Node, operation.size * 8)];
    case "binary":
    case "compare":
      return operation.width === 32 ? inputs.map((input) => lowBits(input, 32)) : inputs;
    case "extend":
      return [lowBits(inputs[0] as Node, operation.bits)];
    default:
      return inputs;
  }
}

/** Returns a node whose low bits are those of another. */
function lowBits(node: Node, bits: number): Node {
  const { operation, inputs } = node;
  if (operation.kind !== "extend" || operation.bits < bits) return node;
  return lowBits(inputs[0] as Node, bits);
}

function isAccess({ operation }: Node): boolean {
  return operation.kind === "load" || operation.kind === "store" || operation.kind === "atomic";
}

/** Returns true for the constant 0. */
export function isZero({ operation }: Node): boolean {
  return operation.kind === "constant" && operation.value === 0n;
}

/** Returns the comparison that a branch depends on: that of its left input, if the branch only tests its truth. */
export function fusedComparison(branch: Extract<End, { kind: "branch" }>): Comparison {
  const [first, second] = branch.inputs;
  const end =
    branch.width === 32
      ? { ...branch, inputs: [lowBits(first, 32), lowBits(second, 32)] as [Node, Node] }
      : branch;
  const [left, right] = end.inputs;
  const { operation } = left;
  if (operation.kind !== "compare" || !isZero(right)) return end;
  if (end.operator !== "ne" && end.operator !== "eq") return end;
  const { operator, width } = operation;
  const comparison = { operator, width, inputs: readInputs(left) as [Node, Node] };
  if (end.operator === "ne") return comparison;
  // There is no opposite of "set".
  return operator === "set" ? end : { ...comparison, operator: opposites[operator] };
}

function fusedInputs(end: End | undefined): readonly Node[] {
  return end?.kind === "branch" ? fusedComparison(end).inputs : inputsOf(end);
}
