/** @module Operators of numbers, bigints and booleans. */

import type * as acorn from "acorn";
import type { BinaryOperator, CompareOperator, Node } from "../ir/ir.ts";
import { StringValue } from "./text.ts";
import {
  BigintValue,
  BooleanValue,
  MaybeValue,
  NumberValue,
  presenceHint,
  type Shape,
  type Syntax,
  Value,
  type Lowering,
} from "./value.ts";

let fractions = 0;

/** The hint for fractions. */
export const roundHint = "Round it: Math.trunc(a / b), Math.floor(a / b) or a / b | 0";

/** The quotient of two numbers: a fraction, until it is rounded. */
export class QuotientValue extends Value {
  #key: string | undefined;
  readonly left: NumberValue;
  readonly right: NumberValue;

  constructor(left: NumberValue, right: NumberValue) {
    super();
    this.left = left;
    this.right = right;
  }

  override describe(): string {
    return "a fraction";
  }

  override get numberHint(): string {
    return roundHint;
  }

  override shape(): Shape {
    // Fractions are equal only to themselves: a value that is one or another must be rounded before.
    this.#key ??= `fraction ${fractions++}`;
    return { key: this.#key, count: 0, toNodes: () => [], fromNodes: () => this };
  }

  /** Returns the quotient without its fraction. */
  round(l: Lowering, mode: "trunc" | "floor" | "ceil"): NumberValue {
    const { b } = l;
    const [left, right] = [this.left.node(b), this.right.node(b)];
    const areNatural = [left, right].every(({ range }) => range !== undefined && range.min >= 0);
    if (areNatural && mode !== "ceil")
      return new NumberValue(b.number(b.binary("div", left, right)));
    const quotient = b.number(b.binary("sdiv", left, right));
    if (mode === "trunc") return new NumberValue(quotient);
    const rest = b.binary("sub", left, b.binary("mul", quotient, right));
    const signs = b.binary("xor", rest, right);
    const adjusts = b.binary(
      "and",
      b.binary("and", b.compare("ne", rest, 0), b.compare("ne", right, 0)),
      b.compare(mode === "floor" ? "slt" : "sge", signs, 0),
    );
    return new NumberValue(b.number(b.binary(mode === "floor" ? "sub" : "add", quotient, adjusts)));
  }
}

/** A fraction that the compiler knows: a literal, or one that the bundler computed. */
export class FractionValue extends QuotientValue {
  readonly #value: number;

  constructor(value: number) {
    super(new NumberValue(0), new NumberValue(1));
    this.#value = value;
  }

  override describe(): string {
    return `the fraction ${this.#value}`;
  }

  override get numberHint(): string {
    return "Scale it, to count in thousandths, for example; or round it: Math.trunc(x)";
  }

  override round(_l: Lowering, mode: "trunc" | "floor" | "ceil"): NumberValue {
    return new NumberValue(Math[mode](this.#value) + 0);
  }
}

/** Returns a node whose low 32 bits are those of the number, as JavaScript's 32-bit operators take it. */
function bits(l: Lowering, value: Value, at: Syntax): Node {
  if (value instanceof QuotientValue) return value.round(l, "trunc").node(l.b);
  return numberOf(l, value, at).node(l.b);
}

/** Returns a value as a number. */
export function numberOf(l: Lowering, value: Value, at: Syntax): NumberValue {
  if (value instanceof NumberValue) return value;
  return l.refuse(at, `expected a number, got ${value.describe()}`, value.numberHint);
}

const comparisons: Readonly<
  Record<string, readonly [signed: CompareOperator, unsigned: CompareOperator]>
> = {
  "<": ["slt", "lt"],
  "<=": ["sle", "le"],
  ">": ["sgt", "gt"],
  ">=": ["sge", "ge"],
};

const swapped: Readonly<Record<string, string>> = { "<": ">", "<=": ">=", ">": "<", ">=": "<=" };

/** Returns the value of an operator with two operands. */
export function binaryOperator(
  l: Lowering,
  operator: acorn.BinaryOperator,
  left: Value,
  right: Value,
  at: Syntax,
): Value {
  l.b.position = l.positionOf(at);
  for (const value of [left, right]) {
    if (value instanceof MaybeValue) {
      l.refuse(at, `${value.describe()} cannot be an operand`, presenceHint);
    }
  }
  if (operator in comparisons) return compareOrder(l, operator, left, right, at);
  if (left instanceof BigintValue && right instanceof BigintValue) {
    return bigintOperator(l, operator, left, right, at);
  }
  if (left instanceof BigintValue || right instanceof BigintValue) {
    l.refuse(
      at,
      `${left.describe()} and ${right.describe()} cannot be combined`,
      operator === "|" || operator === ">>>"
        ? "Convert one of them: BigInt(number), Number(bigint); k.u32(x) and k.i32(x) take the low 32 bits"
        : "Convert one of them: BigInt(number), Number(bigint)",
    );
  }
  if (operator === "+" && left instanceof StringValue && right instanceof StringValue) {
    return new StringValue(left.text + right.text);
  }
  return numberOperator(l, operator, left, right, at);
}

function numberOperator(
  l: Lowering,
  operator: acorn.BinaryOperator,
  left: Value,
  right: Value,
  at: Syntax,
): Value {
  const { b } = l;
  const [first, second] = [left.known?.value, right.known?.value];
  if (typeof first === "number" && typeof second === "number") {
    const folded = foldNumbers(operator, first, second);
    if (folded !== undefined && Number.isInteger(folded)) return knownNumber(l, folded, at);
  }
  switch (operator) {
    case "+":
    case "-":
    case "*": {
      const [x, y] = [numberOf(l, left, at), numberOf(l, right, at)];
      const name = ({ "+": "add", "-": "sub", "*": "mul" } as const)[operator];
      return new NumberValue(b.number(b.binary(name, x.node(b), y.node(b))));
    }
    case "/":
      return new QuotientValue(numberOf(l, left, at), numberOf(l, right, at));
    case "%":
      return remainder(l, numberOf(l, left, at).node(b), numberOf(l, right, at), at);
    case "&":
    case "|":
    case "^": {
      const name = ({ "&": "and", "|": "or", "^": "xor" } as const)[operator];
      // x | 0 only converts.
      const isConversion = second === 0 && operator !== "&";
      const low = isConversion
        ? bits(l, left, at)
        : b.binary(name, bits(l, left, at), bits(l, right, at), 32);
      return new NumberValue(b.number(b.extend(low, 32, true)));
    }
    case "<<":
    case ">>":
    case ">>>": {
      const value = bits(l, left, at);
      const count =
        typeof second === "number"
          ? b.constant(second & 31)
          : b.binary("and", bits(l, right, at), 31, 32);
      if (operator === ">>>") {
        const shifted = b.binary("rsh", value, count, 32);
        return new NumberValue(b.number(shifted, { min: 0, max: 2 ** 32 - 1 }));
      }
      const shifted = b.binary(operator === "<<" ? "lsh" : "arsh", value, count, 32);
      return new NumberValue(b.number(b.extend(shifted, 32, true)));
    }
    case "**":
      return l.refuse(at, "powers are known only for constants", "Multiply, or shift: 1 << n");
    default:
      return l.refuse(at, `the operator ${operator} is not in the language`);
  }
}

function foldNumbers(operator: acorn.BinaryOperator, x: number, y: number): number | undefined {
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "/":
      return y === 0 ? undefined : x / y;
    case "%":
      return y === 0 ? 0 : x % y;
    case "**":
      return x ** y;
    case "&":
      return x & y;
    case "|":
      return x | y;
    case "^":
      return x ^ y;
    case "<<":
      return x << y;
    case ">>":
      return x >> y;
    case ">>>":
      return x >>> y;
    default:
      return undefined;
  }
}

/** The remainder with the sign of the dividend; 0 for the divisor 0, where BPF returns the dividend. */
function remainder(l: Lowering, left: Node, right: NumberValue, at: Syntax): Value {
  const { b } = l;
  const known = right.known?.value;
  if (known === 0) return new NumberValue(0);
  const divisor = right.node(b);
  const isNatural = [left, divisor].every(({ range }) => range !== undefined && range.min >= 0);
  const result = () =>
    new NumberValue(b.number(b.binary(isNatural ? "mod" : "smod", left, divisor)));
  if (known !== undefined) return result();
  const value = l.choose(l.test(b.compare("eq", divisor, 0)), () => new NumberValue(0), result);
  return numberOf(l, value, at);
}

// ---- comparisons

function compareOrder(
  l: Lowering,
  operator: string,
  left: Value,
  right: Value,
  at: Syntax,
): BooleanValue {
  const { b } = l;
  const [signed, unsigned] = comparisons[operator] as (typeof comparisons)[string];
  const [first, second] = [left.known?.value, right.known?.value];
  if (
    (typeof first === "number" || typeof first === "bigint") &&
    (typeof second === "number" || typeof second === "bigint")
  ) {
    return new BooleanValue(compareKnown(operator, first, second));
  }
  for (const each of [left, right]) {
    if (!(each instanceof NumberValue) && !(each instanceof BigintValue)) {
      l.refuse(
        at,
        `${left.describe()} and ${right.describe()} have no order`,
        each instanceof QuotientValue
          ? "Round it: Math.trunc(a / b), or multiply the other side"
          : "Compare numbers or bigints",
      );
    }
  }
  // A number is an integer of 64 bits with sign.
  const isUnsigned = (value: Value) => value instanceof BigintValue && value.signed === false;
  const isNatural = (value: Value) => {
    const known = value.known?.value;
    if (typeof known === "number" || typeof known === "bigint") return known >= 0;
    return value instanceof BigintValue && value.signed === undefined;
  };
  const [x, y] = [left, right].map((value) => (value as NumberValue | BigintValue).node(b)) as [
    Node,
    Node,
  ];
  if (!isUnsigned(left) && !isUnsigned(right)) return new BooleanValue(b.compare(signed, x, y));
  const areBothUnsigned = [left, right].every((value) => isUnsigned(value) || isNatural(value));
  if (areBothUnsigned) return new BooleanValue(b.compare(unsigned, x, y));
  // One has a sign: a negative number is less than each unsigned one.
  if (isUnsigned(left)) return compareOrder(l, swapped[operator] as string, right, left, at);
  const isNegative = b.compare("slt", x, 0);
  const isLess = operator === "<" || operator === "<=";
  const order = b.compare(unsigned, x, y);
  return new BooleanValue(
    isLess
      ? b.binary("or", isNegative, order)
      : b.binary("and", b.binary("xor", isNegative, 1), order),
  );
}

function compareKnown(operator: string, x: number | bigint, y: number | bigint): boolean {
  if (operator === "<") return x < y;
  if (operator === "<=") return x <= y;
  return operator === ">" ? x > y : x >= y;
}

// ---- bigints

/** Returns the sign of a result whose operands are treated alike. */
function commonSign(left: BigintValue, right: BigintValue): boolean | undefined {
  if (left.signed === true || right.signed === true) return true;
  return left.signed ?? right.signed;
}

/** Returns a bigint that the compiler knows, in 64 bits. */
function knownBigint(value: bigint, signed: boolean | undefined): BigintValue {
  const wrapped = signed === false ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value);
  return new BigintValue(wrapped);
}

function bigintOperator(
  l: Lowering,
  operator: acorn.BinaryOperator,
  left: BigintValue,
  right: BigintValue,
  at: Syntax,
): BigintValue {
  const result = computeBigint(l, operator, left, right, at);
  l.signs.set(at, result.signed !== false);
  return result;
}

function computeBigint(
  l: Lowering,
  operator: acorn.BinaryOperator,
  left: BigintValue,
  right: BigintValue,
  at: Syntax,
): BigintValue {
  const { b } = l;
  const [first, second] = [left.known?.value, right.known?.value];
  const sign = operator === "-" ? true : commonSign(left, right);
  const isShift = operator === "<<" || operator === ">>";
  if (isShift && typeof second === "bigint" && (second < 0n || second > 63n)) {
    l.refuse(at, `a bigint is shifted by 0 to 63 bits, not by ${second}`, "Use & 63n");
  }
  if (typeof first === "bigint" && typeof second === "bigint") {
    const folded = foldBigints(operator, first, second);
    if (folded !== undefined) return knownBigint(folded, isShift ? left.signed : sign);
  }
  if (
    (operator === "/" || operator === "%") &&
    left.signed !== right.signed &&
    left.signed !== undefined &&
    right.signed !== undefined
  ) {
    l.refuse(
      at,
      `${left.describe()} and ${right.describe()} cannot be divided`,
      "Convert one of them: BigInt.asIntN(64, x) or BigInt.asUintN(64, x)",
    );
  }
  const x = left.node(b);
  switch (operator) {
    case "+":
    case "-":
    case "*":
    case "&":
    case "|":
    case "^": {
      const names = {
        "+": "add",
        "-": "sub",
        "*": "mul",
        "&": "and",
        "|": "or",
        "^": "xor",
      } as const;
      return new BigintValue(b.binary(names[operator], x, right.node(b)), sign ?? true);
    }
    case "/":
      return new BigintValue(
        b.binary(sign === false ? "div" : "sdiv", x, right.node(b)),
        sign ?? true,
      );
    case "%": {
      const name: BinaryOperator = sign === false ? "mod" : "smod";
      const divisor = right.node(b);
      const result = () => new BigintValue(b.binary(name, x, divisor), sign ?? true);
      if (second === 0n) return new BigintValue(b.constant(0), sign ?? true);
      if (second !== undefined) return result();
      const isZero = l.test(b.compare("eq", divisor, 0));
      const zero = () => new BigintValue(b.constant(0), sign ?? true);
      return l.choose(isZero, zero, result) as BigintValue;
    }
    case "<<":
    case ">>": {
      const name: BinaryOperator =
        operator === "<<" ? "lsh" : left.signed === false ? "rsh" : "arsh";
      const count =
        second === undefined
          ? b.add({ kind: "bound", min: 0, max: 63 }, [right.node(b)])
          : right.node(b);
      return new BigintValue(b.binary(name, x, count), left.signed ?? true);
    }
    case ">>>":
      return l.refuse(at, "bigints have no unsigned shift", "Use BigInt.asUintN(64, x) >> n");
    default:
      return l.refuse(
        at,
        `the operator ${operator} is not in the language for bigints`,
        operator === "**" ? "Multiply, or shift: 1n << n" : undefined,
      );
  }
}

function foldBigints(operator: acorn.BinaryOperator, x: bigint, y: bigint): bigint | undefined {
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "/":
      return y === 0n ? 0n : x / y;
    case "%":
      return y === 0n ? 0n : x % y;
    case "**":
      return y >= 0n && y <= 64n ? x ** y : undefined;
    case "&":
      return x & y;
    case "|":
      return x | y;
    case "^":
      return x ^ y;
    case "<<":
      return x << y;
    case ">>":
      return x >> y;
    default:
      return undefined;
  }
}

/** Returns the value of an operator with one operand. */
export function unaryOperator(
  l: Lowering,
  operator: "-" | "+" | "~",
  value: Value,
  at: Syntax,
): Value {
  l.b.position = l.positionOf(at);
  if (value instanceof BigintValue) {
    if (operator === "+") l.refuse(at, "+x does not convert bigints", "Use Number(x)");
    const zero = new BigintValue(operator === "-" ? 0n : -1n);
    return bigintOperator(l, operator === "-" ? "-" : "^", zero, value, at);
  }
  if (operator === "+") {
    return value instanceof BooleanValue ? booleanAsNumber(l, value) : numberOf(l, value, at);
  }
  const [zero, name] = operator === "-" ? ([0, "-"] as const) : ([-1, "^"] as const);
  return numberOperator(l, name, new NumberValue(zero), numberOf(l, value, at), at);
}

/** Returns 0 or 1. */
export function booleanAsNumber(l: Lowering, value: BooleanValue): NumberValue {
  const known = value.asCondition();
  if (typeof known === "boolean") return new NumberValue(known ? 1 : 0);
  return new NumberValue(l.b.number(known, { min: 0, max: 1 }));
}

/** Returns the value of a number that the compiler knows. It must be an integer. */
export function knownNumber(l: Lowering, value: number, at: acorn.Node): NumberValue {
  if (!Number.isSafeInteger(value)) {
    l.refuse(
      at,
      Number.isInteger(value)
        ? `${value} is beyond the integers that a number holds exactly`
        : `${value} is not an integer, and kernel code has only integers`,
      !Number.isInteger(value)
        ? "Scale it: count in thousandths, for example"
        : Math.abs(value) < 2 ** 63
          ? `Use a bigint: ${BigInt(value)}n`
          : "Numbers have up to 53 bits, and bigints 64",
    );
  }
  return new NumberValue(value === 0 ? 0 : value);
}
