/** @module Results of operations on constants, as the instructions compute them. */

import type { BinaryOperator, CompareOperator, Operation, Width } from "./ir.ts";

const signedOf = (value: bigint, width: Width) => BigInt.asIntN(width, value);
const unsignedOf = (value: bigint, width: Width) => BigInt.asUintN(width, value);

/** Returns the result of an operation of constants as a signed integer of 64 bits. */
export function resultOfConstants(operation: Operation, left: bigint, right = 0n): bigint {
  switch (operation.kind) {
    case "binary":
      return binaryResult(operation.operator, operation.width, left, right);
    case "extend": {
      const { bits, signed } = operation;
      return signed ? BigInt.asIntN(bits, left) : BigInt.asUintN(bits, left);
    }
    case "compare":
      return compareResult(operation.operator, operation.width, left, right) ? 1n : 0n;
    default:
      throw new Error(`the operation ${operation.kind} has no constant result`);
  }
}

/** Returns the result of an operation with two inputs: one of 32 bits has zeros above them. */
function binaryResult(operator: BinaryOperator, width: Width, left: bigint, right: bigint): bigint {
  const a = unsignedOf(left, width);
  const b = unsignedOf(right, width);
  const signedA = signedOf(left, width);
  const signedB = signedOf(right, width);
  const shift = b & BigInt(width - 1);
  const results: Record<BinaryOperator, () => bigint> = {
    add: () => a + b,
    sub: () => a - b,
    mul: () => a * b,
    and: () => a & b,
    or: () => a | b,
    xor: () => a ^ b,
    lsh: () => a << shift,
    rsh: () => a >> shift,
    arsh: () => signedA >> shift,
    div: () => (b === 0n ? 0n : a / b),
    mod: () => (b === 0n ? a : a % b),
    sdiv: () => (b === 0n ? 0n : signedA / signedB),
    smod: () => (b === 0n ? a : signedA % signedB),
  };
  return BigInt.asIntN(64, unsignedOf(results[operator](), width));
}

/** Returns the result of a comparison. */
export function compareResult(
  operator: CompareOperator,
  width: Width,
  left: bigint,
  right: bigint,
): boolean {
  const isSigned = operator.length === 3 && operator !== "set";
  const a = isSigned ? signedOf(left, width) : unsignedOf(left, width);
  const b = isSigned ? signedOf(right, width) : unsignedOf(right, width);
  switch (operator) {
    case "eq":
      return a === b;
    case "ne":
      return a !== b;
    case "lt":
    case "slt":
      return a < b;
    case "le":
    case "sle":
      return a <= b;
    case "gt":
    case "sgt":
      return a > b;
    case "ge":
    case "sge":
      return a >= b;
    case "set":
      return (a & b) !== 0n;
  }
}
