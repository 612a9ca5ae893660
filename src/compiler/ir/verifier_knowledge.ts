/**
 * @module The verifier's knowledge of values. It is less than what the interval analysis knows: the verifier forgets ranges after
 * divisions, and learns little from comparisons. The functions here promise nothing that one of the supported kernels forgets.
 */

import { isWithin, product, rangeOfBits, rangeOfConstant, sum } from "./interval.ts";
import type { Node, Range } from "./ir.ts";

/** Knowledge of the verifier at a place, which it has because it follows the iterations of loops. */
export interface PlaceKnowledge {
  /** Returns the values of a counter that the verifier sees at the place, if the node is one that it follows. */
  counterRange(node: Node): Range | undefined;
  /** True if the kernel keeps the ranges of values that are spilled to the stack (since 5.11), not only constants. */
  readonly keepsSpilledRanges: boolean;
  /** The node that needs the value. */
  readonly user: Node;
}

/** Distance of nodes in a block at which a value may have been spilled. */
const nearby = 6;
const greatest32: Range = { min: 0, max: 2 ** 32 - 1 };

/** True if the verifier knows that a value is in a range. */
export function verifierKnows(
  node: Node,
  min: number,
  max: number,
  place: PlaceKnowledge,
): boolean {
  if (min > max) return false;
  const range = knownRange(node, place);
  if (range === undefined || !isWithin(range, { min, max })) return false;
  return place.keepsSpilledRanges || isConstantOnPaths(node, place) || isNear(node, place.user);
}

/** True if the verifier sees a constant on each path, which kernels keep when it is spilled. */
function isConstantOnPaths(node: Node, place: PlaceKnowledge): boolean {
  const { operation, inputs } = node;
  if (operation.kind === "constant") return true;
  if (operation.kind === "phi") return place.counterRange(node) !== undefined;
  const isComputed = operation.kind === "binary" || operation.kind === "extend";
  return isComputed && inputs.every((input) => isConstantOnPaths(input, place));
}

function isNear(node: Node, user: Node): boolean {
  const { nodes } = user.block;
  const at = nodes.indexOf(user);
  return node.block === user.block && nodes.slice(Math.max(0, at - nearby), at).includes(node);
}

/** Returns the natural numbers that the verifier has as a range of a value, if it has one. */
function knownRange(node: Node, place: PlaceKnowledge): Range | undefined {
  const { operation, inputs } = node;
  const known = (index: number) => knownRange(inputs[index]!, place);
  switch (operation.kind) {
    case "constant": {
      const range = rangeOfConstant(operation.value);
      return natural(range);
    }
    case "phi":
      return natural(place.counterRange(node));
    case "load":
      return operation.signed || operation.size === 8
        ? undefined
        : rangeOfBits(operation.size * 8, false);
    case "extend": {
      if (operation.signed) return undefined;
      const all = rangeOfBits(operation.bits, false);
      const input = known(0);
      return input !== undefined && isWithin(input, all) ? input : all;
    }
    case "compare":
      return { min: 0, max: 1 };
    case "bound":
      return natural({ min: operation.min, max: operation.max });
    case "binary": {
      const left = known(0);
      const right = known(1);
      const limited = (range: Range | undefined) =>
        range !== undefined && (operation.width === 64 || isWithin(range, greatest32))
          ? natural(range)
          : undefined;
      const shift =
        right !== undefined && right.min === right.max && right.max < operation.width
          ? right.min
          : undefined;
      const all: Range | undefined = operation.width === 32 ? greatest32 : undefined;
      switch (operation.operator) {
        case "and": {
          const max = Math.min(left?.max ?? Infinity, right?.max ?? Infinity);
          return limited({ min: 0, max }) ?? all;
        }
        case "add":
          return limited(left && right && sum(left, right)) ?? all;
        case "mul":
          // The verifier multiplies ranges of 32 bits only.
          return (
            limited(
              left && right && isWithin(left, greatest32) && isWithin(right, greatest32)
                ? product(left, right)
                : undefined,
            ) ?? all
          );
        case "lsh":
          if (left === undefined || shift === undefined) return all;
          return limited(product(left, { min: 2 ** shift, max: 2 ** shift })) ?? all;
        case "rsh": {
          if (shift === undefined) return all;
          const from = left ?? (operation.width === 32 ? greatest32 : { min: 0, max: 2 ** 64 });
          if (operation.width === 32 && !isWithin(from, greatest32)) return all;
          return limited({ min: 0, max: Math.floor(from.max / 2 ** shift) }) ?? all;
        }
        default:
          return all;
      }
    }
    default:
      return undefined;
  }
}

function natural(range: Range | undefined): Range | undefined {
  return range !== undefined && range.min >= 0 && Number.isSafeInteger(range.max)
    ? range
    : undefined;
}
