/** @module Runs functions of the intermediate representation. */
import { compareResult, resultOfConstants } from "../../../src/compiler/ir/constants.ts";
import type { Block, IrFunction, Node } from "../../../src/compiler/ir/ir.ts";

/** Inputs of a run, and functions that it calls. */
export interface Run {
  readonly parameters: readonly bigint[];
  /** Returns the value of a load, call or other source. */
  source(node: Node): bigint;
  /** Called with each value that is computed. A result of `false` ends the run. */
  observe?(node: Node, value: bigint): boolean | undefined;
  /** Called with each block that is entered. */
  enter?(block: Block, from: Block | undefined): void;
  /** Number of blocks after which the run ends. */
  readonly maxBlocks: number;
}

/** Returns the result of a function, or `undefined` if the run was ended. */
export function interpret(fn: IrFunction, run: Run): bigint | undefined {
  const values = new Map<Node, bigint>();
  let block = fn.entry;
  let edge = 0;
  let from: Block | undefined;
  for (let count = 0; count < run.maxBlocks; count++) {
    run.enter?.(block, from);
    const entered = block.phis.map((phi) => values.get(phi.inputs[edge]!)!);
    for (const [index, phi] of block.phis.entries()) {
      values.set(phi, entered[index]!);
      if (run.observe?.(phi, entered[index]!) === false) return undefined;
    }
    for (const node of block.nodes) {
      const value = BigInt.asIntN(64, valueOf(node, values, run));
      values.set(node, value);
      if (run.observe?.(node, value) === false) return undefined;
    }
    const { end } = block;
    let next: Block;
    let isSecond = false;
    if (end?.kind === "return") return values.get(end.inputs[0]);
    if (end?.kind === "jump") next = end.target;
    else if (end?.kind === "mayGoto") next = end.next;
    else if (end?.kind === "branch") {
      const [left, right] = end.inputs.map((input) => values.get(input)!) as [bigint, bigint];
      const isTrue = compareResult(end.operator, end.width, left, right);
      next = isTrue ? end.then : end.else;
      isSecond = !isTrue && end.then === end.else;
    } else throw new Error(`block ${block.id} has no end that can be run`);
    edge = next.predecessors.indexOf(block);
    if (isSecond) edge = next.predecessors.indexOf(block, edge + 1);
    from = block;
    block = next;
  }
  return undefined;
}

function valueOf(node: Node, values: ReadonlyMap<Node, bigint>, run: Run): bigint {
  const { operation } = node;
  const inputs = node.inputs.map((input) => values.get(input)!);
  switch (operation.kind) {
    case "constant":
      return operation.value;
    case "parameter":
      return run.parameters[operation.index]!;
    case "binary":
    case "extend":
    case "compare":
      return resultOfConstants(operation, inputs[0]!, inputs[1]);
    case "opaque":
    case "bound":
      return inputs[0]!;
    default:
      return run.source(node);
  }
}
