/** @module Names that every function of the language has: Math, BigInt, Number, Boolean. */

import type { Builder } from "../ir/builder.ts";
import type { Node } from "../ir/ir.ts";
import {
  binaryOperator,
  booleanAsNumber,
  numberOf,
  QuotientValue,
  unaryOperator,
  knownNumber,
} from "./numbers.ts";
import {
  type Argument,
  BigintValue,
  BooleanValue,
  FixedValue,
  NumberValue,
  type Syntax,
  Value,
  type Lowering,
  argument,
} from "./value.ts";

/** A function of the language, which is translated at compile time. */
export type BuiltIn = (l: Lowering, args: readonly Argument[], at: Syntax) => Value;

/** A function of the language as a value. */
export class BuiltInValue extends FixedValue {
  readonly #name: string;
  readonly #call: BuiltIn;

  constructor(name: string, call: BuiltIn) {
    super();
    this.#name = name;
    this.#call = call;
  }

  override describe(): string {
    return `the function ${this.#name}`;
  }

  override call(l: Lowering, args: readonly Argument[], at: Syntax): Value {
    return this.#call(l, args, at);
  }

  /** Members of the function, such as `BigInt.asUintN`. */
  members: ReadonlyMap<string, Value> = new Map();

  override property(l: Lowering, name: string, at: Syntax): Value {
    const member = this.members.get(name);
    if (member !== undefined) return member;
    const names = [...this.members.keys()].join(", ");
    return l.refuse(
      at,
      `${this.#name}.${name} is not in the language`,
      names === "" ? `Call it: ${this.#name}()` : `${this.#name} has ${names}`,
    );
  }
}

/** An object of the language with fixed members, such as `Math`. */
export class Namespace extends FixedValue {
  readonly #name: string;
  readonly #members: ReadonlyMap<string, Value>;

  constructor(name: string, members: ReadonlyMap<string, Value>) {
    super();
    this.#name = name;
    this.#members = members;
  }

  override describe(): string {
    return this.#name;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    const member = this.#members.get(name);
    if (member !== undefined) return member;
    return l.refuse(
      at,
      `${this.#name}.${name} is not in the language`,
      `${this.#name} has ${[...this.#members.keys()].join(", ")}`,
    );
  }
}

/** Returns members of an object of the language from their translations. */
export function builtIns(
  owner: string,
  functions: Readonly<Record<string, BuiltIn>>,
): Map<string, Value> {
  return new Map(
    Object.entries(functions).map(([name, call]) => [
      name,
      new BuiltInValue(`${owner}.${name}`, call),
    ]),
  );
}

/** Returns a number argument. */
export function numberArgument(
  l: Lowering,
  args: readonly Argument[],
  index: number,
  at: Syntax,
): NumberValue {
  return numberOf(l, argument(l, args, index, at), args[index] ?? at);
}

/** Returns an argument that must be known when the function is compiled. */
export function knownArgument(
  l: Lowering,
  args: readonly Argument[],
  index: number,
  at: Syntax,
): number {
  const known = argument(l, args, index, at).known?.value;
  if (typeof known === "number") return known;
  return l.refuse(
    args[index] ?? at,
    "this number must be known when the function is compiled",
    "Use a number, or a constant of the scope",
  );
}

const rounding =
  (mode: "trunc" | "floor" | "ceil"): BuiltIn =>
  (l, args, at) => {
    const value = argument(l, args, 0, at);
    return value instanceof QuotientValue ? value.round(l, mode) : numberOf(l, value, at);
  };

const extreme =
  (operator: "<" | ">"): BuiltIn =>
  (l, args, at) => {
    let best: NumberValue | undefined;
    for (const index of args.keys()) {
      const value = numberArgument(l, args, index, at);
      const before = best;
      if (before === undefined) {
        best = value;
        continue;
      }
      const wins = binaryOperator(l, operator, value, before, at) as BooleanValue;
      const chosen = l.choose(
        l.test(wins.asCondition()),
        () => value,
        () => before,
      );
      best = numberOf(l, chosen, at);
    }
    return (
      best ??
      l.refuse(at, "Math.min() and Math.max() need an argument here", "Pass the numbers one by one")
    );
  };

const math = new Namespace(
  "Math",
  builtIns("Math", {
    trunc: rounding("trunc"),
    floor: rounding("floor"),
    ceil: rounding("ceil"),
    min: extreme("<"),
    max: extreme(">"),
    abs: (l, args, at) => {
      const value = numberArgument(l, args, 0, at);
      const isNegative = binaryOperator(l, "<", value, new NumberValue(0), at) as BooleanValue;
      return l.choose(
        l.test(isNegative.asCondition()),
        () => unaryOperator(l, "-", value, at),
        () => value,
      );
    },
    sign: (l, args, at) => {
      const value = numberArgument(l, args, 0, at);
      const compare = (operator: "<" | ">") =>
        booleanAsNumber(
          l,
          binaryOperator(l, operator, value, new NumberValue(0), at) as BooleanValue,
        );
      return binaryOperator(l, "-", compare(">"), compare("<"), at);
    },
    imul: (l, args, at) => {
      const [x, y] = [numberArgument(l, args, 0, at), numberArgument(l, args, 1, at)];
      const [first, second] = [x.known?.value, y.known?.value];
      if (typeof first === "number" && typeof second === "number") {
        return new NumberValue(Math.imul(first, second));
      }
      const product = l.b.binary("mul", x.node(l.b), y.node(l.b), 32);
      return new NumberValue(l.b.number(l.b.extend(product, 32, true)));
    },
    clz32: (l, args, at) => {
      const value = numberArgument(l, args, 0, at);
      const known = value.known?.value;
      if (typeof known === "number") return new NumberValue(Math.clz32(known));
      return new NumberValue(leadingZeros(l, l.b.extend(value.node(l.b), 32, false)));
    },
  }),
);

/** Returns the number of leading zeros of a value of 32 bits. */
function leadingZeros(l: Lowering, value: Node): Node {
  const { b } = l;
  const { position, isSet } = highestBit(b, value, 32);
  const zeros = b.binary("sub", b.constant(32), b.binary("add", position, isSet));
  return b.number(zeros, { min: 0, max: 32 });
}

/** Finds the highest bit that is set, by halving. If the value is 0, the position and `isSet` are 0; otherwise `isSet` is 1. */
export function highestBit(
  b: Builder,
  value: Node,
  bits: 32 | 64,
): { position: Node; isSet: Node } {
  let rest = value;
  let position = b.constant(0);
  for (let width = bits / 2; width >= 1; width /= 2) {
    const high = b.compare("ge", rest, b.constant(2n ** BigInt(width)));
    const shift = b.binary("lsh", high, Math.log2(width));
    rest = b.binary("rsh", rest, shift);
    position = b.binary("add", position, shift);
  }
  return { position, isSet: rest };
}

const number = new BuiltInValue("Number", (l, args, at) => {
  const value = argument(l, args, 0, at);
  const known = value.known?.value;
  if (typeof known === "bigint" || typeof known === "boolean")
    return knownNumber(l, Number(known), at);
  if (value instanceof BooleanValue) return booleanAsNumber(l, value);
  if (!(value instanceof BigintValue)) return numberOf(l, value, at);
  const limit = Number.MAX_SAFE_INTEGER;
  const bound = l.b.add({ kind: "bound", min: value.signed === false ? 0 : -limit, max: limit }, [
    value.node(l.b),
  ]);
  return new NumberValue(l.b.number(bound));
});
number.members = new Map<string, Value>([
  ["MAX_SAFE_INTEGER", new NumberValue(Number.MAX_SAFE_INTEGER)],
  ["MIN_SAFE_INTEGER", new NumberValue(Number.MIN_SAFE_INTEGER)],
]);

/** Returns the low bits of a bigint, with or without sign. */
const truncate =
  (signed: boolean): BuiltIn =>
  (l, args, at) => {
    const width = knownArgument(l, args, 0, at);
    const value = argument(l, args, 1, at);
    if (!(value instanceof BigintValue)) {
      return l.refuse(
        args[1] ?? at,
        `expected a bigint, got ${value.describe()}`,
        "Convert it: BigInt(x)",
      );
    }
    if (!Number.isInteger(width) || width < 1 || width > 64) {
      return l.refuse(args[0] ?? at, "the number of bits is from 1 to 64", "Use 64, 32, 16 or 8");
    }
    const known = value.known?.value;
    if (typeof known === "bigint") {
      return new BigintValue(signed ? BigInt.asIntN(width, known) : BigInt.asUintN(width, known));
    }
    const { b } = l;
    const node = value.node(b);
    if (width === 64) return new BigintValue(node, signed);
    if (signed) {
      const high = b.binary("lsh", node, 64 - width);
      return new BigintValue(b.binary("arsh", high, 64 - width), true);
    }
    if (width === 32) return new BigintValue(b.extend(node, 32, false));
    if (width < 32) return new BigintValue(b.binary("and", node, b.constant(2 ** width - 1)));
    const high = b.binary("lsh", node, 64 - width);
    return new BigintValue(b.binary("rsh", high, 64 - width));
  };

const bigint = new BuiltInValue("BigInt", (l, args, at) => {
  const value = argument(l, args, 0, at);
  const known = value.known?.value;
  if (typeof known === "number" || typeof known === "boolean")
    return new BigintValue(BigInt(known));
  if (value instanceof BigintValue) return value;
  const converted =
    value instanceof BooleanValue ? booleanAsNumber(l, value) : numberOf(l, value, at);
  const node = converted.node(l.b);
  const isNatural = node.range !== undefined && node.range.min >= 0;
  return new BigintValue(node, isNatural ? undefined : true);
});
bigint.members = builtIns("BigInt", { asUintN: truncate(false), asIntN: truncate(true) });

const boolean = new BuiltInValue("Boolean", (l, args, at) => {
  const value = argument(l, args, 0, at);
  return new BooleanValue(value.truth(l, args[0] ?? at));
});

const globals: ReadonlyMap<string, Value> = new Map<string, Value>([
  ["Math", math],
  ["Number", number],
  ["BigInt", bigint],
  ["Boolean", boolean],
]);

/** Returns the value of a global name of the language. */
export function globalValue(name: string): Value | undefined {
  return globals.get(name);
}
