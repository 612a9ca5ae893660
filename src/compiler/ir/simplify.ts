/** @module Replaces operations by simpler ones with the same result. */

import { oppositeOf } from "./comparison.ts";
import { compareResult, resultOfConstants } from "./constants.ts";
import { removeEdge } from "./clean_blocks.ts";
import { decide } from "./interval.ts";
import type { Block, IrFunction, Node, Operation, Range } from "./ir.ts";
import { forwardUses, resolverOf } from "./rewrite.ts";

const constantOf = ({ operation }: Node): bigint | undefined =>
  operation.kind === "constant" ? operation.value : undefined;

const isWithin = (range: Range | undefined, min: number, max: number) =>
  range !== undefined && range.min >= min && range.max <= max;

/** Simplifies all nodes and branches. */
export function simplify(fn: IrFunction): void {
  const replaced = new Map<Node, Node>();
  const resolve = resolverOf(replaced);
  for (const block of fn.blocks) {
    const nodes: Node[] = [];
    const constant = (value: bigint, { position }: Node): Node => {
      const made = fn.newNode(block, { kind: "constant", value }, [], position);
      nodes.push(made);
      return made;
    };
    for (const node of block.nodes) {
      for (const [index, input] of node.inputs.entries()) node.inputs[index] = resolve(input);
      const result = simplifyNode(node, constant);
      nodes.push(node);
      if (result === undefined) continue;
      if ("inputs" in result) replaced.set(node, result);
      else {
        node.operation = result;
        node.inputs.length = 0;
      }
    }
    block.nodes.splice(0, Infinity, ...nodes);
    simplifyEnd(block, resolve);
  }
  if (replaced.size > 0) forwardUses(fn, replaced);
}

/** Makes a constant before a node. */
type MakeConstant = (value: bigint, before: Node) => Node;

/** Returns a node with the same value, or the operation of a constant; `undefined` if the node stays. It may change the node. */
function simplifyNode(node: Node, constant: MakeConstant): Node | Operation | undefined {
  const { operation, inputs } = node;
  const [left, right] = inputs;
  if (left === undefined) return undefined;
  const [a, b] = [constantOf(left), right && constantOf(right)];
  switch (operation.kind) {
    case "binary":
      if (a !== undefined && b !== undefined) return folded(operation, a, b);
      return simplifyBinary(node, operation, a, b, constant);
    case "extend": {
      if (a !== undefined) return folded(operation, a);
      const { bits, signed } = operation;
      const [min, max] = signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
      if (isWithin(left.range, min, max)) return left;
      const inner = left.operation;
      // Only the low bits of the input matter, which the inner operation does not change.
      if (inner.kind === "extend" && inner.bits >= bits) inputs[0] = left.inputs[0] as Node;
      return undefined;
    }
    case "compare": {
      if (a !== undefined && b !== undefined) return folded(operation, a, b);
      const decided =
        left.range &&
        right?.range &&
        decide(operation.operator, operation.width, left.range, right.range);
      if (decided !== undefined) return { kind: "constant", value: decided ? 1n : 0n };
      if (right === undefined || b !== 0n || left.operation.kind !== "compare") return undefined;
      if (operation.operator === "ne") return left;
      const opposite = oppositeOf(left.operation.operator);
      if (operation.operator !== "eq" || opposite === undefined) return undefined;
      node.operation = { ...left.operation, operator: opposite };
      inputs.splice(0, 2, ...left.inputs);
      return undefined;
    }
    case "address": {
      const inner = left.operation;
      if (right === undefined && operation.offset === 0) return left;
      if (inner.kind !== "address" || left.inputs.length !== 1) return undefined;
      node.operation = { ...operation, offset: operation.offset + inner.offset };
      inputs[0] = left.inputs[0] as Node;
      return undefined;
    }
    case "load":
    case "store":
    case "atomic": {
      const inner = left.operation;
      if (inner.kind !== "address" || left.inputs.length !== 1) return undefined;
      node.operation = { ...operation, offset: operation.offset + inner.offset };
      inputs[0] = left.inputs[0] as Node;
      return undefined;
    }
    default:
      return undefined;
  }
}

function folded(operation: Operation, left: bigint, right?: bigint): Operation {
  return { kind: "constant", value: resultOfConstants(operation, left, right) };
}

const commutative = new Set(["add", "mul", "and", "or", "xor"]);

function simplifyBinary(
  node: Node,
  operation: Extract<Operation, { kind: "binary" }>,
  a: bigint | undefined,
  b: bigint | undefined,
  constant: MakeConstant,
): Node | Operation | undefined {
  const { operator, width } = operation;
  const { inputs } = node;
  if (a !== undefined && commutative.has(operator)) {
    inputs.reverse();
    return simplifyBinary(node, operation, b, a, constant);
  }
  const left = inputs[0] as Node;
  const right = inputs[1] as Node;
  const areNatural = isWithin(left.range, 0, Infinity) && isWithin(right.range, 0, Infinity);
  if (areNatural && (operator === "sdiv" || operator === "smod") && width === 64) {
    node.operation = { ...operation, operator: operator === "sdiv" ? "div" : "mod" };
    return simplifyBinary(node, node.operation as typeof operation, a, b, constant);
  }
  if (left === right && (operator === "xor" || operator === "sub"))
    return { kind: "constant", value: 0n };
  if (b === undefined) return undefined;
  // The upper half of a result of 32 bits is zero, so it is not the input.
  if (width === 64) {
    if (b === 0n && ["add", "sub", "or", "xor", "lsh", "rsh", "arsh"].includes(operator))
      return left;
    if (b === 1n && ["mul", "div", "sdiv"].includes(operator)) return left;
    if (b === -1n && operator === "and") return left;
  }
  if (b === 0n && (operator === "and" || operator === "mul"))
    return { kind: "constant", value: 0n };
  // All low bits. An operation of 32 bits also clears the upper half.
  const isMask = b > 0n && (b & (b + 1n)) === 0n && (width === 64 || b <= 0xffff_ffffn);
  if (operator === "and" && isMask && isWithin(left.range, 0, Number(b))) return left;
  const bits = width === 64 ? powerOfTwo(b) : undefined;
  if (bits !== undefined && bits > 0) {
    const shifts = { mul: "lsh", div: "rsh" } as const;
    if (operator === "mul" || operator === "div") {
      node.operation = { kind: "binary", operator: shifts[operator], width };
      inputs[1] = constant(BigInt(bits), node);
    } else if (operator === "mod") {
      node.operation = { kind: "binary", operator: "and", width };
      inputs[1] = constant(b - 1n, node);
    }
  }
  return undefined;
}

function powerOfTwo(value: bigint): number | undefined {
  return value > 0n && (value & (value - 1n)) === 0n ? value.toString(2).length - 1 : undefined;
}

function simplifyEnd(block: Block, resolve: (node: Node) => Node): void {
  const { end } = block;
  if (end?.kind === "return") end.inputs[0] = resolve(end.inputs[0]);
  if (end?.kind !== "branch") return;
  const inputs = end.inputs.map(resolve) as [Node, Node];
  end.inputs[0] = inputs[0];
  end.inputs[1] = inputs[1];
  const [left, right] = inputs;
  const [a, b] = [constantOf(left), constantOf(right)];
  const decided =
    a !== undefined && b !== undefined
      ? compareResult(end.operator, end.width, a, b)
      : left.range && right.range && decide(end.operator, end.width, left.range, right.range);
  if (decided !== undefined || end.then === end.else) {
    const isTaken = decided ?? true;
    const [target, dropped] = isTaken ? [end.then, end.else] : [end.else, end.then];
    if (target === dropped && target.phis.length > 0) return;
    removeEdge(block, dropped);
    block.end = { kind: "jump", target };
    return;
  }
  const { operation } = left;
  if (b !== 0n || operation.kind !== "compare" || (end.operator !== "eq" && end.operator !== "ne"))
    return;
  const operator = end.operator === "ne" ? operation.operator : oppositeOf(operation.operator);
  if (operator === undefined) {
    // A branch on the opposite of `set` goes the other way.
    block.end = {
      ...end,
      operator: operation.operator,
      width: operation.width,
      inputs: left.inputs as [Node, Node],
      then: end.else,
      else: end.then,
    };
  } else {
    block.end = {
      ...end,
      operator,
      width: operation.width,
      inputs: [...left.inputs] as [Node, Node],
    };
  }
}
