/** @module Facts about the number of bits that values need, which follow from their operations and ranges. */

import type { Node } from "../ir/ir.ts";

/** Returns true if a value is known to be an unsigned number of at most so many bits. */
export function fitsUnsigned({ operation, range }: Node, bits: number): boolean {
  if (range !== undefined && range.min >= 0 && range.max < 2 ** bits) return true;
  switch (operation.kind) {
    case "constant":
      return operation.value === BigInt.asUintN(bits, operation.value);
    case "compare":
      return true;
    case "binary":
      return operation.width === 32 && bits >= 32;
    case "extend":
      return !operation.signed && operation.bits <= bits;
    case "swap":
      return operation.bits <= bits;
    case "load":
      return !operation.signed && operation.size < 8 && operation.size * 8 <= bits;
    case "atomic":
      return operation.size === 4 && bits >= 32;
    default:
      return false;
  }
}

/** Returns true if a value is known to be a signed number of at most so many bits. */
export function fitsSigned(node: Node, bits: number): boolean {
  const { operation, range } = node;
  const limit = 2 ** (bits - 1);
  if (range !== undefined && range.min >= -limit && range.max < limit) return true;
  if (operation.kind === "constant") {
    return operation.value === BigInt.asIntN(bits, operation.value);
  }
  if (operation.kind === "extend" && operation.signed) return operation.bits <= bits;
  if (operation.kind === "load" && operation.signed) return operation.size * 8 <= bits;
  return fitsUnsigned(node, bits - 1);
}

/** Returns true if a value, read with the width of an operation, is known not to be negative. */
export function isNonNegative(node: Node, is32: boolean): boolean {
  const { range } = node;
  if (is32) return fitsUnsigned(node, 31);
  return (range !== undefined && range.min >= 0) || fitsUnsigned(node, 63);
}
