/** @module Values of the program at compile time: their kinds, and the nodes that compute them. */

import type * as acorn from "acorn";
import type { Btf } from "../../btf/btf.ts";
import type { Builder } from "../ir/builder.ts";
import type { Block, Node, TextPosition } from "../ir/ir.ts";
import type { Context, Scope, Variable } from "./scope.ts";

/** A part of the syntax tree, for the positions of errors. */
export type Syntax = acorn.Node;

/** An argument of a call, or an element of an array: not evaluated yet, so that a value can be built where it is stored. */
export type Argument = acorn.Expression;

/** The values of the variables at a place. */
export type State = Map<Variable, Value>;

/** A way to a place that is not joined with others yet: an open block, and the variables at its end. */
export interface Edge {
  block: Block;
  readonly state: State;
}

/** The edges of a condition. */
export interface Condition {
  readonly yes: Edge[];
  readonly no: Edge[];
}

/** The parts of the compilation that the translation needs. */
export interface LoweringHost {
  /** Returns the error of a problem in a function. */
  error(position: TextPosition, message: string, hint?: string): Error;
  /** Returns the value of a global name, such as `Math`. */
  global(name: string): Value | undefined;
  /** Reports a result of the function that its section does not have. */
  checkResult(l: Lowering, value: Value, at: Syntax): void;
  /** True if a helper returns the current task as a pointer with a type (Linux 5.11). */
  readonly hasTypedTask: boolean;
  /** Numbers of the results that have names. */
  readonly resultNames: Readonly<Record<string, number>>;
  /** Returns the types of the kernel. */
  kernelTypes(): Btf;
}

/** The translation of a function, as values see it. */
export interface Lowering {
  /** Appends nodes. */
  readonly b: Builder;
  readonly host: LoweringHost;
  /** The context of the program. */
  readonly contextNode: Node;
  /** The values of the variables at the current place. */
  readonly state: State;
  /** The function that is being inlined. */
  readonly frame: { readonly source: number; readonly context: Context };
  /** The names at the current place, for functions that are defined there. */
  readonly scope: Scope;
  /** The ways that leave the optional chains around the current expression. */
  readonly chains: Edge[][];
  /** The sign of each bigint that an operator of the syntax computed, for the JavaScript side. */
  readonly signs: Map<Syntax, boolean>;

  /** Reports a problem of the program. */
  refuse(at: Syntax, message: string, hint?: string): never;
  positionOf(at: Syntax): TextPosition;
  /** Counts a part of the syntax, and sets the position of nodes. */
  enterSyntax(at: Syntax): void;
  /** Translates an expression. */
  lower(expression: acorn.Expression): Value;

  read(variable: Variable): Value;
  write(variable: Variable, value: Value): void;
  readName(name: string, at: Syntax): Value;
  writeName(name: string, value: Value, at: Syntax): void;
  /** Declares a variable in the current block of the program. */
  declare(at: Syntax, name: string, value: Value, isConstant: boolean): void;
  /** Runs a function with a new block of names. */
  inScope<T>(body: () => T, context?: Context): T;
  /** Returns a new object with the values as properties. @param path tells objects of the same part of the syntax apart */
  newObject(at: Syntax, values: ReadonlyMap<string, Value>, isArray: boolean, path?: string): Value;
  /** Returns the number that stands for a known string. That of a result is the result's number. */
  textId(text: string): number;

  /** Ends the current way, and returns it. */
  leave(): Edge[];
  /** Continues where edges meet. Returns false if there are none: then no code follows. */
  enter(edges: readonly Edge[]): boolean;
  /** Continues where edges with the same variables meet, and returns the phis of their nodes. */
  joinNodes(ways: readonly { edge: Edge; nodes: readonly (Node | number)[] }[]): Node[];
  /** Ends the current way with a test. */
  test(condition: boolean | Node): Condition;
  /** Ends the current way with a test of a value that may be missing. */
  testPresence(value: MaybeValue): Condition;
  /** Runs one of two functions, and returns the value of the one that ran. */
  choose(condition: Condition, yes: () => Value, no: () => Value, at?: Syntax): Value;
  /** Runs one of two functions, depending on whether a value is there. */
  whenPresent(value: MaybeValue, yes: (value: Value) => Value, no: () => Value): BooleanValue;
  /** Translates an optional chain. Its value is `undefined` on the ways that leave it. */
  inChain(body: () => Value): Value;
  /** Translates a loop. */
  loop(at: Syntax, label: string | undefined, parts: LoopParts): void;
  /** Inlines a function, and returns its result. @param bind declares the parameters */
  inline(
    fn: acorn.Function,
    source: number,
    scope: Scope | undefined,
    at: Syntax | undefined,
    bind: () => void,
  ): Value;

  /** Runs a function as if at the current place, and returns its result. Nothing of what it appended remains. */
  whatIf<T>(body: () => T): T;
  /** Returns nodes for a value of a shape that is not there, which nothing reads. */
  placeholders(shape: Shape): Node[];
  /** Returns the nodes of a value that may be missing: whether it is there, and those of its shape. */
  nodesOfMaybe(value: MaybeValue, inner: Shape): Node[];
  /** Returns the result of a comparison, or reports that the kinds cannot be compared. */
  toBoolean(
    result: boolean | Node | undefined,
    at: Syntax,
    left: Value,
    right: Value,
  ): BooleanValue;
}

/** The parts of a loop. */
export interface LoopParts {
  /** True if the body runs before the first test. */
  readonly testsLast?: boolean;
  test(): Condition;
  body(): void;
  update?(): void;
}

/**
 * Values of one kind in a form that a phi can merge: a number of nodes, which the shape turns back into a value.
 *
 * Shapes with the same `key` are equal.
 */
export interface Shape {
  readonly key: string;
  /** Number of nodes. */
  readonly count: number;
  /** The shapes of the properties of an object. */
  readonly parts?: {
    readonly names: readonly string[];
    readonly shapes: readonly Shape[];
    readonly isArray: boolean;
  };
  /** The known strings that a value is one of. */
  readonly texts?: readonly string[];
  /** Returns the nodes of a value. It appends nodes to the current block if the value has another form. */
  toNodes(l: Lowering, value: Value): Node[];
  fromNodes(l: Lowering, nodes: readonly Node[]): Value;
  /** Returns the shape that values of this one and of another have in common. */
  join?(other: Shape): Shape | undefined;
}

/** A value of the program, at compile time. The default of each operation refuses it. */
export abstract class Value {
  /** Describes the value in messages: "a number". */
  abstract describe(): string;

  /** The hint where a number was expected. */
  get numberHint(): string | undefined {
    return undefined;
  }

  /** Returns the form in which phis merge the value; `undefined` for values that the compiler must know. */
  abstract shape(): Shape;

  /** Reads a property. */
  property(l: Lowering, name: string, at: Syntax): Value {
    return l.refuse(
      at,
      `${this.describe()} has no property ${JSON.stringify(name)}`,
      "Values of kernel code have only the members of the language",
    );
  }

  /** Writes a property. */
  setProperty(l: Lowering, name: string, _value: Value, at: Syntax): void {
    l.refuse(
      at,
      `the property ${JSON.stringify(name)} of ${this.describe()} cannot be written`,
      "Use a variable of the function, or bpf.global() for values that outlive the call",
    );
  }

  /** Reads an element by its index. */
  element(l: Lowering, _index: Value, at: Syntax): Value {
    return l.refuse(at, `${this.describe()} has no elements`, "Use an array, or a map");
  }

  /** Writes an element by its index. */
  setElement(l: Lowering, _index: Value, _value: Value, at: Syntax): void {
    l.refuse(
      at,
      `elements of ${this.describe()} cannot be written`,
      "Use memory with a type: k.zeroed(T)",
    );
  }

  /** Calls the value. */
  call(l: Lowering, _args: readonly Argument[], at: Syntax): Value {
    return l.refuse(
      at,
      `${this.describe()} cannot be called`,
      "Call functions of this function, of the language, or of the scope: bpf.fn()",
    );
  }

  /** Calls a method. */
  callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    return this.property(l, name, at).call(l, args, at);
  }

  /** Returns the truth of the value: `true` or `false` if it is known, otherwise a node of 0 or 1. */
  truth(l: Lowering, at: Syntax): boolean | Node {
    return l.refuse(at, `the truth of ${this.describe()} cannot be tested`);
  }

  /**
   * Returns whether the value is the same as another (`===`): `true` or `false` if it is known, otherwise a node of 0 or 1;
   * `undefined` if the kinds cannot be compared.
   */
  equals(_l: Lowering, _other: Value, _at: Syntax): boolean | Node | undefined {
    return undefined;
  }

  /** The JavaScript value, if the compiler knows it. */
  get known(): KnownValue | undefined {
    return undefined;
  }

  /** Returns the values of a loop over this one, if the compiler knows their number. */
  items(_l: Lowering, _at: Syntax): readonly Value[] | undefined {
    return undefined;
  }

  /** Returns the properties of the value, to copy them to an object. */
  entries(l: Lowering, at: Syntax): Iterable<readonly [name: string, value: Value]> {
    return l.refuse(
      at,
      `the properties of ${this.describe()} cannot be copied`,
      "Spread objects only",
    );
  }

  /** Translates a loop over this value, if the compiler does not know the number of its values. */
  forEach(l: Lowering, at: Syntax, _label: string | undefined, _body: (item: Value) => void): void {
    const { right = at } = at as Partial<acorn.ForOfStatement>;
    l.refuse(right, `${this.describe()} is not iterable`, iterableHint);
  }
}

/** The hint for values that a loop cannot go through. */
export const iterableHint = "Loop over k.range(n), an array, or constants of the scope";

/** A primitive JavaScript value that the compiler knows. */
export interface KnownValue {
  readonly value: number | bigint | boolean | string | undefined | null;
}

/** Returns a shape for values that are equal only to themselves. */
function identityShape(value: Value, key: string): Shape {
  return { key, count: 0, toNodes: () => [], fromNodes: () => value };
}

let identities = 0;

/** A value that exists only at compile time, such as a function or a map. It cannot depend on the path. */
export abstract class FixedValue extends Value {
  #key: string | undefined;

  override shape(): Shape {
    this.#key ??= `fixed ${identities++}`;
    return identityShape(this, this.#key);
  }

  override truth(_l: Lowering, _at: Syntax): boolean | Node {
    return true;
  }

  override equals(_l: Lowering, other: Value, _at: Syntax): boolean | Node | undefined {
    return other instanceof FixedValue ? this === other : undefined;
  }
}

/** `undefined` or `null`. */
export class AbsentValue extends Value {
  readonly which: "undefined" | "null";

  constructor(which: "undefined" | "null") {
    super();
    this.which = which;
  }

  override describe(): string {
    return this.which;
  }

  override get known(): KnownValue {
    return { value: this.which === "null" ? null : undefined };
  }

  override shape(): Shape {
    const { which } = this;
    return {
      key: which,
      count: 0,
      toNodes: () => [],
      fromNodes: () => this,
      join: (other) => maybeShape(other, which),
    };
  }

  override truth(): boolean {
    return false;
  }

  override equals(l: Lowering, other: Value, at: Syntax): boolean | Node | undefined {
    if (other instanceof AbsentValue) return this.which === other.which;
    if (other instanceof MaybeValue) return other.equals(l, this, at);
    return other.equals(l, this, at) ?? false;
  }
}

export const undefinedValue = new AbsentValue("undefined");
export const nullValue = new AbsentValue("null");

/** The hint for values that may be missing. */
export const presenceHint = "Check it first: if (x === undefined) return; or use ?. or ??";

/** A value that may be missing. */
export class MaybeValue extends Value {
  readonly absent: "undefined" | "null";
  /** A node that is not 0 if the value is there. */
  readonly test: Node;
  /** Returns the value. It is called where the test has been true. */
  readonly take: (l: Lowering) => Value;
  readonly #what: string;

  constructor(
    absent: "undefined" | "null",
    test: Node,
    take: (l: Lowering) => Value,
    what: string,
  ) {
    super();
    this.absent = absent;
    this.test = test;
    this.take = take;
    this.#what = what;
  }

  override describe(): string {
    return `${this.#what} that may be ${this.absent}`;
  }

  override get numberHint(): string {
    return presenceHint;
  }

  override shape(): Shape {
    throw new Error(
      "the shape of a value that may be missing depends on the value: use maybeShapeOf",
    );
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return this.#refuse(l, at, `its property ${JSON.stringify(name)} cannot be used`);
  }

  override setProperty(l: Lowering, _name: string, _value: Value, at: Syntax): void {
    this.#refuse(l, at, "it cannot be changed");
  }

  override element(l: Lowering, _index: Value, at: Syntax): Value {
    return this.#refuse(l, at, "its elements cannot be used");
  }

  override call(l: Lowering, _args: readonly Argument[], at: Syntax): Value {
    return this.#refuse(l, at, "it cannot be called");
  }

  override callMethod(l: Lowering, name: string, _args: readonly Argument[], at: Syntax): Value {
    return this.#refuse(l, at, `its method ${JSON.stringify(name)} cannot be called`);
  }

  #refuse(l: Lowering, at: Syntax, problem: string): never {
    return l.refuse(at, `this is ${this.describe()}: ${problem}`, presenceHint);
  }

  override truth(l: Lowering, at: Syntax): boolean | Node {
    const inner = l.whatIf(() => this.take(l));
    if (inner instanceof NumberValue || inner instanceof BigintValue) {
      return l.refuse(
        at,
        `the test is false for 0 and for ${this.absent}`,
        `Compare with ${this.absent}: if (x !== ${this.absent})`,
      );
    }
    return l.b.compare("ne", this.test, 0);
  }

  override equals(l: Lowering, other: Value, at: Syntax): boolean | Node | undefined {
    if (!(other instanceof AbsentValue)) {
      return l
        .whenPresent(
          this,
          (value) => l.toBoolean(value.equals(l, other, at), at, value, other),
          () => new BooleanValue(false),
        )
        .asCondition();
    }
    return other.which === this.absent && l.b.compare("eq", this.test, 0);
  }
}

/** Returns the shape of values of another shape that may be missing. */
export function maybeShape(inner: Shape, absent: "undefined" | "null"): Shape | undefined {
  if (inner.key.startsWith("maybe "))
    return inner.key.startsWith(`maybe ${absent} `) ? inner : undefined;
  if (inner.key === "undefined" || inner.key === "null") return undefined;
  return {
    key: `maybe ${absent} ${inner.key}`,
    count: 1 + inner.count,
    toNodes: (l, value) => {
      if (value instanceof AbsentValue) {
        return [l.b.constant(0), ...l.placeholders(inner)];
      }
      if (value instanceof MaybeValue) return l.nodesOfMaybe(value, inner);
      return [l.b.constant(1), ...inner.toNodes(l, value)];
    },
    fromNodes: (l, [test, ...rest]) =>
      new MaybeValue(
        absent,
        test as Node,
        (at) => inner.fromNodes(at, rest),
        inner.fromNodes(l, rest).describe(),
      ),
    join: (other) => {
      if (other.key === absent) return maybeShape(inner, absent);
      if (other.key.startsWith("maybe ")) return undefined;
      const joined = joinShapes(inner, other);
      return joined === undefined ? undefined : maybeShape(joined, absent);
    },
  };
}

/** Returns the shape that values of two shapes have in common, or `undefined`. */
export function joinShapes(first: Shape, second: Shape): Shape | undefined {
  if (first.key === second.key) return first;
  return first.join?.(second) ?? second.join?.(first);
}

/** A JavaScript number: an integer. */
export class NumberValue extends Value {
  readonly #value: number | Node;

  constructor(value: number | Node) {
    super();
    this.#value = value;
  }

  override describe(): string {
    return typeof this.#value === "number" ? `the number ${this.#value}` : "a number";
  }

  override get known(): KnownValue | undefined {
    return typeof this.#value === "number" ? { value: this.#value } : undefined;
  }

  /** Returns the node of the value. */
  node(b: Builder): Node {
    const value = this.#value;
    return typeof value === "number"
      ? b.number(b.constant(value), { min: value, max: value })
      : value;
  }

  override shape(): Shape {
    return numberShape;
  }

  override truth(l: Lowering): boolean | Node {
    return this.known === undefined ? l.b.compare("ne", this.node(l.b), 0) : this.known.value !== 0;
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (!(other instanceof NumberValue)) return undefined;
    if (this.known !== undefined && other.known !== undefined)
      return this.known.value === other.known.value;
    return l.b.compare("eq", this.node(l.b), other.node(l.b));
  }
}

const numberShape: Shape = {
  key: "number",
  count: 1,
  toNodes: (l, value) => [(value as NumberValue).node(l.b)],
  fromNodes: (l, [node]) => new NumberValue(l.b.number(node as Node)),
};

/** `true` or `false`. */
export class BooleanValue extends Value {
  readonly #value: boolean | Node;

  constructor(value: boolean | Node) {
    super();
    this.#value = value;
  }

  override describe(): string {
    return typeof this.#value === "boolean" ? `${this.#value}` : "a boolean";
  }

  override get numberHint(): string {
    return "Convert it: Number(x), or x ? 1 : 0";
  }

  override get known(): KnownValue | undefined {
    return typeof this.#value === "boolean" ? { value: this.#value } : undefined;
  }

  /** Returns the value, or its node, which is 0 or 1. */
  asCondition(): boolean | Node {
    return this.#value;
  }

  /** Returns the node of the value: 0 or 1. */
  node(b: Builder): Node {
    const value = this.#value;
    return typeof value === "boolean" ? b.constant(value ? 1 : 0) : value;
  }

  override shape(): Shape {
    return booleanShape;
  }

  override truth(): boolean | Node {
    return this.#value;
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (!(other instanceof BooleanValue)) return undefined;
    if (typeof this.#value === "boolean" && typeof other.#value === "boolean")
      return this.#value === other.#value;
    return l.b.compare("eq", this.node(l.b), other.node(l.b));
  }
}

const booleanShape: Shape = {
  key: "boolean",
  count: 1,
  toNodes: (l, value) => [(value as BooleanValue).node(l.b)],
  fromNodes: (_l, [node]) => {
    (node as Node).range ??= { min: 0, max: 1 };
    return new BooleanValue(node as Node);
  },
};

/** A bigint of 64 bits. */
export class BigintValue extends Value {
  readonly #value: bigint | Node;
  /** True if the value is from -2^63 to 2^63 - 1, false if it is from 0 to 2^64 - 1, `undefined` if it is in both ranges. */
  readonly signed: boolean | undefined;

  /** @param value a node, or a number in the range of `signed`, which is then found from it */
  constructor(value: bigint | Node, signed?: boolean) {
    super();
    this.#value = value;
    this.signed =
      typeof value !== "bigint"
        ? signed
        : value < 0n
          ? true
          : value >= 2n ** 63n
            ? false
            : undefined;
  }

  override describe(): string {
    if (typeof this.#value === "bigint") return `the bigint ${this.#value}n`;
    return this.signed === false
      ? "an unsigned bigint"
      : this.signed
        ? "a signed bigint"
        : "a bigint";
  }

  override get numberHint(): string {
    return "Convert it: Number(x), if it is a safe integer, or k.u32(x)";
  }

  override get known(): KnownValue | undefined {
    return typeof this.#value === "bigint" ? { value: this.#value } : undefined;
  }

  node(b: Builder): Node {
    const value = this.#value;
    return typeof value === "bigint" ? b.constant(value) : value;
  }

  override shape(): Shape {
    return bigintShape(this.signed);
  }

  override truth(l: Lowering): boolean | Node {
    return this.known === undefined
      ? l.b.compare("ne", this.node(l.b), 0)
      : this.known.value !== 0n;
  }

  override equals(l: Lowering, other: Value): boolean | Node | undefined {
    if (!(other instanceof BigintValue)) return undefined;
    if (this.known !== undefined && other.known !== undefined)
      return this.known.value === other.known.value;
    const same = l.b.compare("eq", this.node(l.b), other.node(l.b));
    if (this.signed === other.signed || this.signed === undefined || other.signed === undefined)
      return same;
    // The same bits are different numbers if the sign bit is set.
    const common = l.b.compare("sge", this.node(l.b), 0);
    return l.b.binary("and", same, common);
  }
}

function bigintShape(signed: boolean | undefined): Shape {
  return {
    key: `bigint ${signed}`,
    count: 1,
    toNodes: (l, value) => [(value as BigintValue).node(l.b)],
    fromNodes: (_l, [node]) => new BigintValue(node as Node, signed),
    join: (other) => {
      if (!other.key.startsWith("bigint ")) return undefined;
      if (signed === undefined) return other;
      return other.key === "bigint undefined" ? bigintShape(signed) : undefined;
    },
  };
}

/** Returns the value of an argument, which must be given. */
export function argument(l: Lowering, args: readonly Argument[], index: number, at: Syntax): Value {
  const arg = args[index];
  if (arg === undefined) l.refuse(at, `the argument ${index + 1} is missing`);
  const value = l.lower(arg);
  l.b.position = l.positionOf(at);
  return value;
}
