/** @module Constants of the scope: numbers, strings, and arrays and objects of them. */

import { describe } from "../../check/describe.ts";
import { arrayMethod, elementAt } from "./sequences.ts";
import { StringValue } from "./text.ts";
import {
  type Argument,
  BigintValue,
  BooleanValue,
  FixedValue,
  nullValue,
  NumberValue,
  type Syntax,
  undefinedValue,
  type Value,
  type Lowering,
} from "./value.ts";

/** Number of elements and properties of a constant at most. */
const maxParts = 65_536;

/** Returns the value of a constant. It is refused if kernel code cannot have it. */
export function constantValue(l: Lowering, at: Syntax, name: string, constant: unknown): Value {
  switch (typeof constant) {
    case "number":
      if (!Number.isSafeInteger(constant)) {
        l.refuse(
          at,
          `${name} of the scope is ${constant}, and kernel code has only safe integers`,
          "Scale it to an integer, or use a bigint",
        );
      }
      return new NumberValue(constant === 0 ? 0 : constant);
    case "bigint":
      if (constant < -(2n ** 63n) || constant >= 2n ** 64n) {
        l.refuse(
          at,
          `${name} of the scope is ${constant}n, and bigints have 64 bits here`,
          wrapHint,
        );
      }
      return new BigintValue(constant);
    case "boolean":
      return new BooleanValue(constant);
    case "string":
      return new StringValue(constant);
    case "undefined":
      return undefinedValue;
    case "object":
      if (constant === null) return nullValue;
      if (Array.isArray(constant)) return arrayOf(l, at, name, constant);
      if (ArrayBuffer.isView(constant) && !(constant instanceof DataView)) {
        return arrayOf(l, at, name, Array.from(constant as unknown as ArrayLike<unknown>));
      }
      if (isPlain(constant)) return new ConstantObject(name, constant);
      break;
    default:
  }
  return l.refuse(
    at,
    `${name} of the scope is ${describe(constant)}, which kernel code cannot use`,
    typeof constant === "function"
      ? "Make it a function of kernel code: bpf.fn({ ... }, fn)"
      : "A scope has maps, ring buffers, types, bpf.fn(), bpf.global(), and numbers, bigints, booleans, strings, arrays and plain objects of them",
  );
}

const wrapHint = "Wrap it: BigInt.asUintN(64, x)";

function arrayOf(l: Lowering, at: Syntax, name: string, elements: readonly unknown[]): Value {
  if (elements.length > maxParts) {
    l.refuse(
      at,
      `${name} of the scope has ${elements.length} elements, more than ${maxParts}`,
      "Put them into an ArrayMap",
    );
  }
  return new ConstantArray(name, elements);
}

function isPlain(constant: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(constant);
  return prototype === Object.prototype || prototype === null;
}

const constantHint = "Constants are copied into the program: use an ArrayMap, or bpf.global()";

/** An array of constants. */
class ConstantArray extends FixedValue {
  readonly #name: string;
  readonly #elements: readonly unknown[];
  readonly #values: (Value | undefined)[] = [];

  constructor(name: string, elements: readonly unknown[]) {
    super();
    this.#name = name;
    this.#elements = elements;
  }

  override describe(): string {
    return `the constant array ${this.#name}`;
  }

  #at(l: Lowering, at: Syntax, index: number): Value {
    if (!(index in this.#elements)) return undefinedValue;
    return (this.#values[index] ??= constantValue(
      l,
      at,
      `${this.#name}[${index}]`,
      this.#elements[index],
    ));
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return name === "length" ? new NumberValue(this.#elements.length) : super.property(l, name, at);
  }

  override element(l: Lowering, index: Value, at: Syntax): Value {
    const known = index.known?.value;
    return typeof known === "number"
      ? this.#at(l, at, known)
      : elementAt(l, this.items(l, at), index, at);
  }

  override setElement(l: Lowering, _index: Value, _value: Value, at: Syntax): void {
    l.refuse(at, `${this.describe()} cannot be changed`, constantHint);
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    return arrayMethod(l, this, name, args, at);
  }

  override items(l: Lowering, at: Syntax): readonly Value[] {
    return this.#elements.map((_, index) => this.#at(l, at, index));
  }
}

/** An object of constants. */
class ConstantObject extends FixedValue {
  readonly #name: string;
  readonly #object: Readonly<Record<string, unknown>>;

  constructor(name: string, object: object) {
    super();
    this.#name = name;
    this.#object = object as Readonly<Record<string, unknown>>;
  }

  override describe(): string {
    return `the constant object ${this.#name}`;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (!Object.hasOwn(this.#object, name)) {
      l.refuse(
        at,
        `${this.describe()} has no property ${JSON.stringify(name)}`,
        `It has ${Object.keys(this.#object).join(", ") || "none"}`,
      );
    }
    return constantValue(l, at, `${this.#name}.${name}`, this.#object[name]);
  }

  override element(l: Lowering, index: Value, at: Syntax): Value {
    const known = index.known?.value;
    if (typeof known === "string" || typeof known === "number") {
      return Object.hasOwn(this.#object, known) ? this.property(l, `${known}`, at) : undefinedValue;
    }
    return l.refuse(
      at,
      "the name of a property must be known when the function is compiled",
      "Use a map",
    );
  }

  override setProperty(l: Lowering, _name: string, _value: Value, at: Syntax): void {
    l.refuse(at, `${this.describe()} cannot be changed`, constantHint);
  }

  override setElement(l: Lowering, _index: Value, _value: Value, at: Syntax): void {
    l.refuse(at, `${this.describe()} cannot be changed`, constantHint);
  }

  override entries(l: Lowering, at: Syntax): Iterable<readonly [name: string, value: Value]> {
    return Object.keys(this.#object).map((name) => [name, this.property(l, name, at)] as const);
  }
}
