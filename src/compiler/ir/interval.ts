/**
 * @module Intervals of integers, and what operations make of them.
 *
 * An end is a safe integer or infinite. An infinite end says that the value may be beyond the safe integers, up to the ends of 64
 * bits. Values are signed integers of 64 bits.
 */

import { lesserOf } from "./comparison.ts";
import type { BinaryOperator, CompareOperator, Range, Width } from "./ir.ts";

/** The greatest safe integer. */
export const greatest = Number.MAX_SAFE_INTEGER;
/** The range of all values. */
export const everything: Range = { min: -Infinity, max: Infinity };
/** The range of JavaScript's integers. */
export const safeIntegers: Range = { min: -greatest, max: greatest };
/** The range of booleans. */
export const booleans: Range = { min: 0, max: 1 };

const two32 = 2 ** 32;
const two63 = 2 ** 63;
const unsigned32: Range = { min: 0, max: two32 - 1 };
const signed32: Range = { min: -(2 ** 31), max: 2 ** 31 - 1 };
const naturals: Range = { min: 0, max: Infinity };

/** Returns a range whose ends are safe integers or infinite, and which contains the given one. */
export function rangeOf(min: number, max: number): Range {
  return {
    min: min < -greatest ? -Infinity : Math.min(min, greatest) + 0,
    max: max > greatest ? Infinity : Math.max(max, -greatest) + 0,
  };
}

/** Returns the range of a constant. */
export function rangeOfConstant(value: bigint): Range {
  return rangeOf(Number(value), Number(value));
}

/** Returns the range of integers of a number of bits. */
export function rangeOfBits(bits: number, signed: boolean): Range {
  if (bits >= 64) return everything;
  return signed
    ? { min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 }
    : { min: 0, max: 2 ** bits - 1 };
}

/** True if both ranges are the same. */
export function isEqual(a: Range, b: Range): boolean {
  return a.min === b.min && a.max === b.max;
}

/** True if the first range is inside of the second. */
export function isWithin(inner: Range, outer: Range): boolean {
  return inner.min >= outer.min && inner.max <= outer.max;
}

/** True if all values of a range are safe integers. */
export function isFinite(range: Range): boolean {
  return range.min !== -Infinity && range.max !== Infinity;
}

/** Returns the smallest range that contains both. */
export function hull(a: Range, b: Range): Range {
  if (isWithin(a, b)) return b;
  if (isWithin(b, a)) return a;
  return { min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) };
}

/** Returns the values that are in both ranges, or `undefined` if there are none. */
export function intersection(a: Range, b: Range): Range | undefined {
  if (isWithin(a, b)) return a;
  if (isWithin(b, a)) return b;
  const min = Math.max(a.min, b.min);
  const max = Math.min(a.max, b.max);
  return min > max ? undefined : { min, max };
}

/** Returns a product of ends of ranges: 0 times infinity is 0. */
function times(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : a * b;
}

/** Returns the smallest range that contains the results of a function that is monotonic in each argument. */
function corners(a: Range, b: Range, of: (x: number, y: number) => number): Range {
  const ends = [of(a.min, b.min), of(a.min, b.max), of(a.max, b.min), of(a.max, b.max)];
  return { min: Math.min(...ends), max: Math.max(...ends) };
}

/** Returns sums, as mathematics has them: not wrapped. */
export function sum(a: Range, b: Range): Range {
  return rangeOf(a.min + b.min, a.max + b.max);
}

/** Returns differences, as mathematics has them: not wrapped. */
export function difference(a: Range, b: Range): Range {
  return rangeOf(a.min - b.max, a.max - b.min);
}

/** Returns products, as mathematics has them: not wrapped. */
export function product(a: Range, b: Range): Range {
  const { min, max } = corners(a, b, times);
  return rangeOf(min, max);
}

/** Returns the smallest 2^n - 1 that is not smaller than a natural number. */
function filled(value: number): number {
  if (value > greatest) return Infinity;
  const high = Math.floor(value / two32);
  const bits = high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(value);
  return 2 ** bits - 1;
}

/** Returns -2^n for the smallest n for which a number, negative or not, fits into n + 1 bits with sign. */
function leastOf(value: number): number {
  return value === -Infinity || value === Infinity
    ? -Infinity
    : -filled(value < 0 ? -value - 1 : value) - 1;
}

function conjunction(a: Range, b: Range): Range {
  if (a.min >= 0 && b.min >= 0) return { min: 0, max: Math.min(a.max, b.max) };
  if (a.min >= 0) return { min: 0, max: a.max };
  if (b.min >= 0) return { min: 0, max: b.max };
  const min = leastOf(Math.min(a.min, b.min));
  const bothNegative = a.max < 0 && b.max < 0;
  return rangeOf(min, bothNegative ? Math.min(a.max, b.max) : Math.max(a.max, b.max));
}

function disjunction(a: Range, b: Range): Range {
  if (a.min >= 0 && b.min >= 0) {
    const max = Math.min(filled(Math.max(a.max, b.max)), a.max + b.max);
    return rangeOf(Math.max(a.min, b.min), max);
  }
  const isNegative = a.max < 0 || b.max < 0;
  const min = a.min < 0 && b.min < 0 ? Math.min(a.min, b.min) : a.min < 0 ? a.min : b.min;
  return rangeOf(min, isNegative ? -1 : filled(Math.max(a.max, b.max)));
}

function exclusiveDisjunction(a: Range, b: Range): Range {
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    if (one.min === -1 && one.max === -1) return rangeOf(-other.max - 1, -other.min - 1);
  }
  if (a.min >= 0 && b.min >= 0) {
    return rangeOf(0, Math.min(filled(Math.max(a.max, b.max)), a.max + b.max));
  }
  const least = Math.min(leastOf(a.min), leastOf(a.max), leastOf(b.min), leastOf(b.max));
  return rangeOf(least, -least - 1);
}

/** Returns the range of the number of bits of a shift, which the instruction takes modulo the width. */
function shiftOf(amount: Range, width: Width): Range {
  const possible = { min: 0, max: width - 1 };
  return isWithin(amount, possible) ? amount : possible;
}

function unsignedQuotient(a: Range, b: Range, width: Width): Range {
  // A negative number is a great unsigned one. A division by 1 gives it back, one by 2 does not.
  if (b.max < 0) return booleans;
  if (a.min < 0 && b.min < 2) return everything;
  if (b.min < 0) return { min: 0, max: a.max };
  const dividend =
    a.min >= 0 ? { min: a.min, max: Math.min(a.max, two63) } : { min: 0, max: 2 ** width };
  const max = Math.floor(dividend.max / Math.max(1, b.min));
  const min = b.min === 0 || b.max === Infinity ? 0 : Math.floor(dividend.min / b.max);
  return rangeOf(min, max);
}

function unsignedRemainder(a: Range, b: Range): Range {
  if (b.min > 0 && b.max < Infinity) {
    if (a.min >= 0 && a.max < b.min) return a;
    return { min: 0, max: a.min >= 0 ? Math.min(a.max, b.max - 1) : b.max - 1 };
  }
  // The remainder of a division by zero is the dividend.
  if (a.min >= 0) return { min: 0, max: a.max };
  return b.min > 0 ? naturals : everything;
}

function signedQuotient(a: Range, b: Range): Range {
  const parts: Range[] = [];
  const divide = (x: number, y: number) => {
    if (Number.isFinite(y)) return Math.trunc(x / y);
    return Number.isFinite(x) ? 0 : Math.sign(x) * Math.sign(y) * Infinity;
  };
  if (b.max >= 1) parts.push(corners(a, { min: Math.max(1, b.min), max: b.max }, divide));
  if (b.min <= -1) parts.push(corners(a, { min: b.min, max: Math.min(-1, b.max) }, divide));
  if (b.min <= 0 && b.max >= 0) parts.push({ min: 0, max: 0 });
  // The least number of 64 bits divided by -1 is itself.
  if (a.min === -Infinity && b.min <= -1 && b.max >= -1) return everything;
  const { min, max } = parts.reduce(hull);
  return rangeOf(min, max);
}

function signedRemainder(a: Range, b: Range): Range {
  const mayBeZero = b.min <= 0 && b.max >= 0;
  const limit = mayBeZero ? Infinity : Math.max(Math.abs(b.min), Math.abs(b.max)) - 1;
  const least = mayBeZero ? 0 : Math.min(Math.abs(b.min), Math.abs(b.max));
  if (a.min > -least && a.max < least) return a;
  return {
    min: a.min >= 0 ? 0 : Math.max(a.min, -limit),
    max: a.max <= 0 ? 0 : Math.min(a.max, limit),
  };
}

/** Returns the results of an operation as mathematics has them, without wrapping, for inputs of a width. */
function exactly(operator: BinaryOperator, a: Range, b: Range, width: Width): Range {
  switch (operator) {
    case "add":
      return sum(a, b);
    case "sub":
      return difference(a, b);
    case "mul":
      return product(a, b);
    case "and":
      return conjunction(a, b);
    case "or":
      return disjunction(a, b);
    case "xor":
      return exclusiveDisjunction(a, b);
    case "lsh": {
      const shift = shiftOf(b, width);
      return product(a, { min: 2 ** shift.min, max: 2 ** shift.max });
    }
    case "rsh": {
      const shift = shiftOf(b, width);
      const positive = a.min >= 0 || shift.min === 0;
      const value = positive ? a : { min: 0, max: 2 ** width - 1 };
      if (a.min < 0 && shift.min === 0) return everything;
      const { min, max } = corners(value, shift, (x, y) =>
        Math.floor((x === Infinity ? two63 : x) / 2 ** y),
      );
      return rangeOf(min, max);
    }
    case "arsh": {
      const { min, max } = corners(a, shiftOf(b, width), (x, y) =>
        Math.floor(Math.max(-two63, Math.min(x, two63)) / 2 ** y),
      );
      return rangeOf(min, max);
    }
    case "div":
      return unsignedQuotient(a, b, width);
    case "mod":
      return unsignedRemainder(a, b);
    case "sdiv":
      return signedQuotient(a, b);
    case "smod":
      return signedRemainder(a, b);
  }
}

/** Returns the results of an operation on numbers: sums, differences and products are not wrapped. */
export function exactResult(operator: BinaryOperator, a: Range, b: Range): Range {
  return exactly(operator, a, b, 64);
}

/** Returns the results of an operation of 64 bits, which wraps. */
function wrappedResult(operator: BinaryOperator, a: Range, b: Range): Range {
  if (operator === "add" || operator === "sub") {
    return isFinite(a) && isFinite(b) ? exactly(operator, a, b, 64) : everything;
  }
  if (operator === "mul" || operator === "lsh") {
    const shift = shiftOf(b, 64);
    const factor = operator === "mul" ? b : { min: 2 ** shift.min, max: 2 ** shift.max };
    const { min, max } = corners(a, factor, times);
    // Doubles round: a bit of distance from the ends keeps this right.
    return min > -two63 / 2 && max < two63 / 2 ? rangeOf(min, max) : everything;
  }
  return exactly(operator, a, b, 64);
}

/** Returns the low bits of values, as integers with or without sign. */
export function lowBits(range: Range, bits: 8 | 16 | 32, signed: boolean): Range {
  const all = rangeOfBits(bits, signed);
  if (isWithin(range, all)) return range;
  if (!isFinite(range)) return all;
  const size = 2 ** bits;
  const window = Math.floor((range.min - all.min) / size) * size;
  const moved = { min: range.min - window, max: range.max - window };
  return isWithin(moved, all) ? moved : all;
}

/** The operators whose low bits depend only on the low bits of their inputs. */
const ofLowBits: ReadonlySet<BinaryOperator> = new Set([
  "add",
  "sub",
  "mul",
  "and",
  "or",
  "xor",
  "lsh",
]);
const ofSigned: ReadonlySet<BinaryOperator> = new Set(["arsh", "sdiv", "smod"]);

/** Returns the results of an operation of 32 bits, as integers with or without sign. */
export function narrowResult(operator: BinaryOperator, a: Range, b: Range, signed: boolean): Range {
  const all = signed ? signed32 : unsigned32;
  const withSigns = () => {
    const right = lowBits(b, 32, operator !== "arsh" && operator !== "lsh");
    return lowBits(exactly(operator, lowBits(a, 32, true), right, 32), 32, signed);
  };
  if (ofSigned.has(operator)) return withSigns();
  const plain = lowBits(
    exactly(operator, lowBits(a, 32, false), lowBits(b, 32, false), 32),
    32,
    signed,
  );
  if (!ofLowBits.has(operator)) return plain;
  return intersection(plain, withSigns()) ?? all;
}

/** Returns the results of an operation with two inputs. Those of 32 bits have zeros above. */
export function resultOf(operator: BinaryOperator, width: Width, a: Range, b: Range): Range {
  return width === 32 ? narrowResult(operator, a, b, false) : wrappedResult(operator, a, b);
}

/** A comparison of 64-bit integers with sign that says the same as another, of ranges that it does not change. */
export interface SignedComparison {
  readonly operator: CompareOperator;
  readonly left: Range;
  readonly right: Range;
}

/**
 * Returns a comparison as one of 64 bits with sign or of equality, or `undefined` if the values are such that it is not one: then
 * a comparison of low halves or of unsigned values is something else.
 */
export function asSigned(
  operator: CompareOperator,
  width: Width,
  left: Range,
  right: Range,
): SignedComparison | undefined {
  const isUnsigned =
    operator === "lt" || operator === "le" || operator === "gt" || operator === "ge";
  if (width === 32) {
    const both = hull(left, right);
    const fits = isUnsigned
      ? isWithin(both, unsigned32)
      : operator === "eq" || operator === "ne" || operator === "set"
        ? isWithin(both, unsigned32) || isWithin(both, signed32)
        : isWithin(both, signed32);
    if (!fits) return undefined;
  }
  if (!isUnsigned) return { operator, left, right };
  if (left.min < 0 || right.min < 0) return undefined;
  return { operator: `s${operator}` as CompareOperator, left, right };
}

/** Returns the result of a comparison, or `undefined` if both results are possible. */
export function decide(
  operator: CompareOperator,
  width: Width,
  left: Range,
  right: Range,
): boolean | undefined {
  const greater = lesserOf(operator);
  if (greater !== undefined) return decide(greater, width, right, left);
  const comparison = asSigned(operator, width, left, right);
  if (comparison === undefined) {
    // A natural number is less than a negative one, which is a great number without sign.
    if (width === 32 || (operator !== "lt" && operator !== "le")) return undefined;
    if (left.min >= 0 && right.max < 0) return true;
    return left.max < 0 && right.min >= 0 ? false : undefined;
  }
  const isSame = left.min === left.max && right.min === right.max && left.min === right.min;
  switch (comparison.operator) {
    case "eq":
    case "ne": {
      const isEq = comparison.operator === "eq";
      if (isSame) return isEq;
      return left.max < right.min || right.max < left.min ? !isEq : undefined;
    }
    case "slt":
      if (left.max < right.min) return true;
      return left.min >= right.max ? false : undefined;
    case "sle":
      if (left.max <= right.min) return true;
      return left.min > right.max ? false : undefined;
    case "set":
      if ((left.min === 0 && left.max === 0) || (right.min === 0 && right.max === 0)) return false;
      return undefined;
    default:
      return undefined;
  }
}
