/** @module Translates statements and control flow of a function to the intermediate representation. */

import type * as acorn from "acorn";
import type { Builder } from "../ir/builder.ts";
import { lowerCondition, lowerExpression } from "./expressions.ts";
import { FunctionValue } from "./functions.ts";
import type { Loop, Node, TextPosition } from "../ir/ir.ts";
import { bindPattern, hoistedNames, namesOf, walkPattern } from "./patterns.ts";
import { comparisonHint, unknownName, unsupportedStatement } from "./refusals.ts";
import { ObjectValue } from "./object_value.ts";
import {
  BooleanValue,
  joinShapes,
  MaybeValue,
  maybeShape,
  type Shape,
  type Syntax,
  undefinedValue,
  Value,
  type Edge,
  type State,
  type LoopParts,
  type LoweringHost,
  type Condition,
  type Lowering,
} from "./value.ts";
import { Variable, Context, Scope } from "./scope.ts";

/** A statement that `break` and `continue` can leave. */
interface Target {
  readonly label: string | undefined;
  readonly breaks: Edge[];
  /** `undefined` for statements that are not loops. */
  readonly continues: Edge[] | undefined;
  /** True for statements that only a `break` with their label leaves. */
  readonly needsLabel?: boolean;
}

/** The function that is being inlined. */
interface Frame {
  readonly source: number;
  readonly scope: Scope;
  readonly context: Context;
  readonly returns: Edge[];
  /** Holds the result at each return. */
  readonly result: Variable;
  readonly targets: Target[];
  readonly caller: Frame | undefined;
  readonly fn: acorn.Function;
}

/** Number of parts of the syntax that are translated at most. Inlined functions and unrolled loops count each time. */
const maxParts = 200_000;

/** Number of translations of a loop until its changing variables must be known. */
const maxAttempts = 40;

/** The first number for strings that are not results. */
const firstTextId = 1 << 20;

/** Number of functions that are inlined in each other at most. */
const maxDepth = 32;

/** A value whose kind depends on the path: it cannot be used. */
class ConflictValue extends Value {
  readonly #kinds: string;

  constructor(kinds: string) {
    super();
    this.#kinds = kinds;
  }

  override describe(): string {
    return `${this.#kinds}, depending on the path`;
  }

  override shape(): Shape {
    const shape: Shape = {
      key: "conflict",
      count: 0,
      toNodes: () => [],
      fromNodes: () => this,
      join: () => shape,
    };
    return shape;
  }
}

/** Translates one function of the program, with all that is inlined into it. */
export class FunctionLowering implements Lowering {
  readonly b: Builder;
  readonly host: LoweringHost;
  /** The context of the program. */
  readonly contextNode: Node;
  state: State = new Map();
  #frame: Frame | undefined;
  #parts = 0;
  #depth = 0;
  /** The ways that leave the optional chains around the current expression. */
  readonly chains: Edge[][] = [];
  /** Lists of edges that a repeated translation of a loop must shorten again. */
  readonly #lists: Edge[][] = [];
  /** The variables that change in each loop, by the loop's syntax, as found so far. */
  readonly #varying = new Map<Context, Map<Syntax, Map<Variable, Shape>>>();

  constructor(b: Builder, host: LoweringHost) {
    this.b = b;
    this.host = host;
    this.contextNode = b.add({ kind: "parameter", index: 0 });
  }

  /** Returns the frame of the function that is being translated. */
  get frame(): Frame {
    if (this.#frame === undefined) throw new Error("no function is being translated");
    return this.#frame;
  }

  positionOf(at: Syntax): TextPosition {
    return { source: this.frame.source, start: at.start, end: at.end };
  }

  /** Reports a problem of the program. */
  refuse(at: Syntax, message: string, hint?: string): never {
    throw this.host.error(this.positionOf(at), message, hint);
  }

  /** The sign of each bigint that an operator of the syntax computed, for the JavaScript side. */
  readonly signs = new Map<Syntax, boolean>();

  readonly #textIds = new Map<string, number>();

  /** Returns the number that stands for a known string. That of a result is the result's number. */
  textId(text: string): number {
    const { resultNames } = this.host;
    if (Object.hasOwn(resultNames, text)) return resultNames[text] as number;
    let id = this.#textIds.get(text);
    if (id === undefined) this.#textIds.set(text, (id = firstTextId + this.#textIds.size));
    return id;
  }

  /** Counts a part of the syntax, and sets the position of nodes. */
  enterSyntax(at: Syntax): void {
    this.b.position = this.positionOf(at);
    if (++this.#parts > maxParts) {
      this.refuse(
        at,
        "the function is too large after inlining and unrolling",
        "Use loops over k.range and maps instead of long constant arrays and repeated calls",
      );
    }
  }

  lower(expression: acorn.Expression): Value {
    return lowerExpression(this, expression);
  }

  // ---- variables

  read(variable: Variable): Value {
    const value = this.state.get(variable);
    if (value === undefined) throw new Error(`the variable ${variable.name} has no value here`);
    return value;
  }

  write(variable: Variable, value: Value): void {
    this.state.set(variable, value);
  }

  /** Returns the value of a name. */
  readName(name: string, at: Syntax): Value {
    const variable = this.#scope.find(name);
    if (variable === undefined) {
      const value = this.host.global(name);
      if (value !== undefined) return value;
      unknownName(this, name, at);
    }
    const value = this.state.get(variable);
    if (value === undefined) this.#refuseEarly(name, at);
    if (value instanceof ConflictValue) {
      this.refuse(at, `${name} is ${value.describe()}`, "Use one variable for each kind of value");
    }
    return value;
  }

  /** Writes a variable by its name. */
  writeName(name: string, value: Value, at: Syntax): void {
    const variable = this.#scope.find(name);
    if (variable === undefined) {
      this.refuse(
        at,
        `${name} is not a variable of this function`,
        "Use bpf.global() for variables that outlive the call",
      );
    }
    if (variable.isConstant) this.refuse(at, `${name} is a constant`, "Declare it with let");
    if (!this.state.has(variable)) this.#refuseEarly(name, at);
    this.write(variable, value);
  }

  #refuseEarly(name: string, at: Syntax): never {
    this.refuse(at, `${name} is used before its declaration`, "Declare it before it is used");
  }

  /**
   * Returns a new object with the values as properties.
   *
   * @param path tells objects of the same part of the syntax apart
   */
  newObject(
    at: Syntax,
    values: ReadonlyMap<string, Value>,
    isArray: boolean,
    path = "",
  ): ObjectValue {
    const fields = new Map<string, Variable>();
    for (const [name, value] of values) {
      const field = this.frame.context.variable(at, `${path}.${name}`, false);
      this.write(field, value);
      fields.set(name, field);
    }
    return new ObjectValue(fields, isArray);
  }

  /** Makes names known whose declarations come later in the block: until then, they have no value. */
  #announce(statements: readonly acorn.Statement[]): void {
    for (const statement of statements) {
      if (statement.type !== "VariableDeclaration" || statement.kind === "var") continue;
      for (const { id } of statement.declarations) {
        for (const name of namesOf(id)) {
          const variable = this.frame.context.variable(name, name.name, statement.kind !== "let");
          this.#scope.declare(variable);
          this.state.delete(variable);
        }
      }
    }
  }

  /** Declares the variables of a function's `var` declarations. */
  #hoist(body: acorn.BlockStatement): void {
    for (const name of hoistedNames(body)) {
      if (this.#scope.find(name.name, this.frame.scope) !== undefined) continue;
      this.declare(name, name.name, undefinedValue, false);
    }
  }

  /** Declares a variable in the current block of the program. */
  declare(at: Syntax, name: string, value: Value, isConstant: boolean): void {
    const variable = this.frame.context.variable(at, name, isConstant);
    this.#scope.declare(variable);
    this.write(variable, value);
  }

  #blockScope: Scope | undefined;

  get #scope(): Scope {
    return this.#blockScope ?? this.frame.scope;
  }

  /** The names at the current place, for functions that are defined there. */
  get scope(): Scope {
    return this.#scope;
  }

  /** Runs a function with a new block of names. */
  inScope<T>(body: () => T, context?: Context): T {
    const before = this.#blockScope;
    const frame = this.#frame;
    this.#blockScope = new Scope(this.#scope);
    if (context !== undefined) this.#frame = { ...this.frame, context };
    try {
      return body();
    } finally {
      this.#blockScope = before;
      this.#frame = frame;
    }
  }

  // ---- joins

  /** Ends the current way, and returns it. */
  leave(): Edge[] {
    const { block } = this.b;
    if (block === undefined) return [];
    this.b.block = undefined;
    return [{ block, state: this.state }];
  }

  /** Continues where edges meet. Returns false if there are none: then no code follows. */
  enter(edges: readonly Edge[]): boolean {
    const { b } = this;
    const [first, ...others] = edges;
    if (first === undefined) {
      b.block = undefined;
      return false;
    }
    if (others.length === 0) {
      b.block = first.block;
      this.state = new Map(first.state);
      return true;
    }
    const joined: State = new Map();
    const merged: { variable: Variable; shape: Shape; values: Value[] }[] = [];
    for (const [variable, value] of first.state) {
      const values = [value];
      for (const { state } of others) {
        const other = state.get(variable);
        if (other !== undefined) values.push(other);
      }
      if (values.length < edges.length) continue;
      if (values.every((other) => isSame(value, other))) {
        joined.set(variable, value);
        continue;
      }
      const shape = this.#commonShape(edges, values);
      if (shape !== undefined) merged.push({ variable, shape, values });
      else {
        const kinds = [...new Set(values.map((each) => each.describe()))].join(" or ");
        joined.set(variable, new ConflictValue(kinds));
      }
    }
    const nodes = edges.map((edge, index) => {
      b.block = edge.block;
      this.state = new Map(edge.state);
      const converted = merged.map(({ shape, values }) =>
        shape.toNodes(this, values[index] as Value),
      );
      return { converted, end: b.block };
    });
    const target = b.fn.newBlock();
    for (const { end } of nodes) {
      b.block = end;
      b.jump(target);
    }
    b.continueIn(target);
    this.state = joined;
    for (const [index, { variable, shape }] of merged.entries()) {
      const perEdge = nodes.map(({ converted }) => converted[index] as Node[]);
      const leaves = (perEdge[0] as Node[]).map((leaf, at) => {
        const inputs = perEdge.map((list) => list[at] as Node);
        return inputs.every((input) => input === leaf) ? leaf : b.phi(target, inputs);
      });
      this.write(variable, shape.fromNodes(this, leaves));
    }
    return true;
  }

  /** Returns the shape of a value at the current place. */
  shapeOf(value: Value): Shape {
    if (value instanceof MaybeValue) {
      const inner = this.whatIf(() => this.shapeOf(value.take(this)));
      const shape = maybeShape(inner, value.absent);
      if (shape === undefined) throw new Error("a value that may be missing has another in it");
      return shape;
    }
    return value instanceof ObjectValue ? this.#objectShape(value) : value.shape();
  }

  #objectShape(object: ObjectValue): Shape {
    const names = [...object.fields.keys()];
    const shapes = Array.from(object.fields.values(), (field) => this.shapeOf(this.read(field)));
    return objectShape(names, shapes, object.isArray);
  }

  #commonShape(edges: readonly Edge[], values: readonly Value[]): Shape | undefined {
    let common: Shape | undefined;
    for (const [index, value] of values.entries()) {
      const { block, state } = edges[index] as Edge;
      this.b.block = block;
      this.state = state;
      const shape = this.shapeOf(value);
      common = index === 0 ? shape : common && joinShapes(common, shape);
    }
    return common;
  }

  /** Runs a function as if at the current place, and returns its result. Nothing of what it appended remains. */
  whatIf<T>(body: () => T): T {
    const restore = this.#checkpoint();
    try {
      return body();
    } finally {
      restore();
    }
  }

  #checkpoint(): () => void {
    const { b, state } = this;
    const { fn, block, writes, loop, position } = b;
    const blockCount = fn.blocks.length;
    const nodeCount = block?.nodes.length ?? 0;
    const lengths = this.#lists.map(({ length }) => length);
    const listCount = this.#lists.length;
    const savedState = new Map(state);
    return () => {
      fn.blocks.length = blockCount;
      if (block !== undefined) {
        block.nodes.length = nodeCount;
        block.end = undefined;
      }
      this.#lists.length = listCount;
      for (const [index, length] of lengths.entries())
        (this.#lists[index] as Edge[]).length = length;
      this.state = savedState;
      b.block = block;
      b.writes = writes;
      b.loop = loop;
      b.position = position;
    };
  }

  /** Returns nodes for a value of a shape that is not there, which nothing reads. */
  placeholders(shape: Shape): Node[] {
    return Array.from({ length: shape.count }, () => this.b.constant(0));
  }

  /** Returns the nodes of a value that may be missing: whether it is there, and those of its shape. */
  nodesOfMaybe(value: MaybeValue, inner: Shape): Node[] {
    const { yes, no } = this.testPresence(value);
    this.enter(yes);
    const present = inner.toNodes(this, value.take(this));
    const [presentEdge] = this.leave();
    this.enter(no);
    const missing = this.placeholders(inner);
    const [missingEdge] = this.leave();
    return this.joinNodes([
      { edge: presentEdge as Edge, nodes: [1, ...present] },
      { edge: missingEdge as Edge, nodes: [0, ...missing] },
    ]);
  }

  /** Continues where edges with the same variables meet, and returns the phis of their nodes. */
  joinNodes(ways: readonly { edge: Edge; nodes: readonly (Node | number)[] }[]): Node[] {
    const { b } = this;
    const target = b.fn.newBlock();
    const lists = ways.map(({ edge, nodes }) => {
      b.block = edge.block;
      const list = nodes.map((node) => (typeof node === "number" ? b.constant(node) : node));
      b.jump(target);
      return list;
    });
    b.continueIn(target);
    const [first] = ways;
    this.state = new Map(first?.edge.state);
    return (lists[0] ?? []).map((_, index) =>
      b.phi(
        target,
        lists.map((list) => list[index] as Node),
      ),
    );
  }

  // ---- conditions

  /** Ends the current way with a test. */
  test(condition: boolean | Node): Condition {
    const { b } = this;
    if (typeof condition === "boolean") {
      const edges = this.leave();
      return condition ? { yes: edges, no: [] } : { yes: [], no: edges };
    }
    const [yes, no] = [b.fn.newBlock(), b.fn.newBlock()];
    b.branch(condition, yes, no);
    b.continueIn(yes);
    b.continueIn(no);
    b.block = undefined;
    return {
      yes: [{ block: yes, state: this.state }],
      no: [{ block: no, state: new Map(this.state) }],
    };
  }

  /** Ends the current way with a test of a value that may be missing. */
  testPresence(value: MaybeValue): Condition {
    return this.test(this.b.compare("ne", value.test, 0));
  }

  /**
   * Runs one of two functions, and returns the value of the one that ran.
   *
   * @param at the place of the problem if the values are of different kinds
   */
  choose(condition: Condition, yes: () => Value, no: () => Value, at?: Syntax): Value {
    const result = new Variable("", false);
    const edges: Edge[] = [];
    for (const [way, make] of [
      [condition.yes, yes],
      [condition.no, no],
    ] as const) {
      if (!this.enter(way)) continue;
      const value = make();
      if (!this.b.isReachable) continue;
      this.write(result, value);
      edges.push(...this.leave());
    }
    if (at !== undefined) this.b.position = this.positionOf(at);
    return this.#joinResult(edges, result);
  }

  /** Translates an optional chain. Its value is `undefined` on the ways that leave it. */
  inChain(body: () => Value): Value {
    const ends: Edge[] = [];
    this.#lists.push(ends);
    this.chains.push(ends);
    const value = body();
    this.chains.pop();
    this.#lists.pop();
    return this.choose(
      { yes: this.leave(), no: ends },
      () => value,
      () => undefinedValue,
    );
  }

  #joinResult(edges: readonly Edge[], result: Variable): Value {
    if (!this.enter(edges)) return undefinedValue;
    const value = this.read(result);
    this.state.delete(result);
    if (value instanceof ConflictValue) {
      this.refuse(
        this.#lastSyntax,
        `the value is ${value.describe()}`,
        "Use values of one kind in all cases",
      );
    }
    return value;
  }

  get #lastSyntax(): Syntax {
    const { position } = this.b;
    return { start: position?.start ?? 0, end: position?.end ?? 0, type: "" } as Syntax;
  }

  /** Runs one of two functions, depending on whether a value is there. */
  whenPresent(value: MaybeValue, yes: (value: Value) => Value, no: () => Value): BooleanValue {
    const result = this.choose(this.testPresence(value), () => yes(value.take(this)), no);
    if (!(result instanceof BooleanValue)) throw new Error("expected a boolean");
    return result;
  }

  /** Returns the result of a comparison, or reports that the kinds cannot be compared. */
  toBoolean(
    result: boolean | Node | undefined,
    at: Syntax,
    left: Value,
    right: Value,
  ): BooleanValue {
    if (result !== undefined) return new BooleanValue(result);
    return this.refuse(
      at,
      `${left.describe()} cannot be compared with ${right.describe()}`,
      comparisonHint(left, right),
    );
  }

  // ---- functions

  /**
   * Inlines a function, and returns its result.
   *
   * @param bind declares the parameters
   */
  inline(
    fn: acorn.Function,
    source: number,
    scope: Scope | undefined,
    at: Syntax | undefined,
    bind: () => void,
  ): Value {
    const caller = this.#frame;
    for (let frame = caller; frame !== undefined; frame = frame.caller) {
      if (frame.fn === fn) {
        this.refuse(at ?? fn, "a function cannot call itself", "Use a loop over k.range()");
      }
    }
    if (this.#depth >= maxDepth) this.refuse(at ?? fn, "the functions are nested too deeply");
    this.#depth++;
    const blockScope = this.#blockScope;
    const context = caller === undefined ? new Context() : caller.context.child(at ?? fn);
    const result = context.variable(fn, "(result)", false);
    const returns: Edge[] = [];
    this.#lists.push(returns);
    this.#blockScope = undefined;
    this.#frame = {
      source,
      scope: new Scope(scope),
      context,
      returns,
      result,
      targets: [],
      caller,
      fn,
    };
    try {
      bind();
      if (fn.body.type === "BlockStatement") {
        this.#hoist(fn.body);
        this.#lowerStatements(fn.body.body);
        if (this.b.isReachable) this.return(undefinedValue, fn);
      } else this.return(lowerExpression(this, fn.body), fn.body);
      return this.#joinResult(returns, result);
    } finally {
      this.#lists.splice(this.#lists.indexOf(returns), 1);
      this.#frame = caller;
      this.#blockScope = blockScope;
      this.#depth--;
    }
  }

  /** Ends the current way with a result of the function. */
  return(value: Value, at: Syntax): void {
    if (this.frame.caller === undefined && this.b.isReachable)
      this.host.checkResult(this, value, at);
    this.write(this.frame.result, value);
    this.frame.returns.push(...this.leave());
  }

  // ---- statements

  #lowerStatements(statements: readonly acorn.Statement[]): void {
    this.#announce(statements);
    for (const statement of statements) {
      if (statement.type !== "FunctionDeclaration") continue;
      const value = new FunctionValue(statement, this.frame.source, this.#scope);
      this.declare(statement, statement.id.name, value, true);
    }
    for (const statement of statements) {
      if (!this.b.isReachable) return;
      this.lowerStatement(statement);
    }
  }

  lowerStatement(statement: acorn.Statement, label?: string): void {
    this.enterSyntax(statement);
    switch (statement.type) {
      case "ExpressionStatement":
        lowerExpression(this, statement.expression, true);
        return;
      case "VariableDeclaration":
        return this.#lowerDeclaration(statement);
      case "BlockStatement":
        return this.inScope(() => this.#lowerStatements(statement.body));
      case "EmptyStatement":
      case "FunctionDeclaration":
        return;
      case "ReturnStatement":
        return this.return(
          statement.argument ? lowerExpression(this, statement.argument) : undefinedValue,
          statement.argument ?? statement,
        );
      case "IfStatement":
        return this.#lowerIf(statement);
      case "ForStatement":
        return this.#lowerFor(statement, label);
      case "WhileStatement":
        return this.loop(statement, label, {
          test: () => lowerCondition(this, statement.test),
          body: () => this.lowerStatement(statement.body),
        });
      case "DoWhileStatement":
        return this.loop(statement, label, {
          testsLast: true,
          test: () => lowerCondition(this, statement.test),
          body: () => this.lowerStatement(statement.body),
        });
      case "ForOfStatement":
        return this.#lowerForOf(statement, label);
      case "SwitchStatement":
        return this.#lowerSwitch(statement, label);
      case "LabeledStatement":
        return this.#lowerLabeled(statement);
      case "BreakStatement":
      case "ContinueStatement":
        return this.#lowerJump(statement);
      default:
        return unsupportedStatement(this, statement);
    }
  }

  #lowerDeclaration(statement: acorn.VariableDeclaration): void {
    if (statement.kind !== "const" && statement.kind !== "let" && statement.kind !== "var") {
      return unsupportedStatement(this, statement);
    }
    for (const { id, init } of statement.declarations) {
      // A `var` without a value leaves the variable as it is.
      if (!init && statement.kind === "var") continue;
      const value = init ? lowerExpression(this, init) : undefinedValue;
      if (!this.b.isReachable) return;
      this.#bind(statement.kind, id, value);
    }
  }

  /** Gives the names of a declaration their values. */
  #bind(kind: acorn.VariableDeclaration["kind"], id: acorn.Pattern, value: Value): void {
    if (kind !== "var") return bindPattern(this, id, value, kind === "const");
    walkPattern(this, id, value, (target, each) => {
      this.writeName((target as acorn.Identifier).name, each, target);
    });
  }

  #lowerIf({ test, consequent, alternate }: acorn.IfStatement): void {
    const { yes, no } = lowerCondition(this, test);
    const after: Edge[] = [];
    if (this.enter(yes)) {
      this.lowerStatement(consequent);
      after.push(...this.leave());
    }
    if (this.enter(no)) {
      if (alternate) this.lowerStatement(alternate);
      after.push(...this.leave());
    }
    this.enter(after);
  }

  #lowerFor(statement: acorn.ForStatement, label: string | undefined): void {
    const { init, test, update, body } = statement;
    this.inScope(() => {
      if (init?.type === "VariableDeclaration") this.#lowerDeclaration(init);
      else if (init) lowerExpression(this, init, true);
      this.loop(statement, label, {
        test: () => (test ? lowerCondition(this, test) : { yes: this.leave(), no: [] }),
        body: () => this.lowerStatement(body),
        update: () => {
          if (update) lowerExpression(this, update, true);
        },
      });
    });
  }

  /** Translates a loop. */
  loop(at: Syntax, label: string | undefined, parts: LoopParts): void {
    let perContext = this.#varying.get(this.frame.context);
    if (perContext === undefined) this.#varying.set(this.frame.context, (perContext = new Map()));
    let varying = perContext.get(at);
    if (varying === undefined) perContext.set(at, (varying = new Map()));
    const breaks: Edge[] = [];
    const continues: Edge[] = [];
    this.#lists.push(breaks, continues);
    this.frame.targets.push({ label, breaks, continues });
    for (let attempt = 0; ; attempt++) {
      const restore = this.#checkpoint();
      if (this.#tryLoop(at, varying, parts, breaks, continues)) break;
      restore();
      if (attempt === maxAttempts) {
        this.refuse(
          at,
          "a value grows with each iteration of the loop",
          "Use a map or an array of fixed size",
        );
      }
    }
    this.frame.targets.pop();
    this.#lists.length -= 2;
    this.enter(breaks);
  }

  /** Translates a loop whose changing variables are known. Returns false if there are others, which are added. */
  #tryLoop(
    at: Syntax,
    varying: Map<Variable, Shape>,
    parts: LoopParts,
    breaks: Edge[],
    continues: Edge[],
  ): boolean {
    const { b } = this;
    const changing = [...varying].filter(([variable]) => this.state.has(variable));
    const entryNodes = changing.map(([variable, shape]) =>
      shape.toNodes(this, this.read(variable)),
    );
    const header = b.fn.newBlock();
    const outer = b.loop;
    const loop: Loop = { position: this.positionOf(at), parent: outer, maxIterations: undefined };
    header.loop = loop;
    b.jump(header);
    b.continueIn(header);
    b.loop = loop;
    const phis = entryNodes.map((nodes) => nodes.map((node) => b.phi(header, [node])));
    for (const [index, [variable, shape]] of changing.entries()) {
      this.write(variable, shape.fromNodes(this, phis[index] as Node[]));
    }
    const atHeader: State = new Map(this.state);
    let again: Edge[];
    if (parts.testsLast) {
      parts.body();
      this.enter([...continues, ...this.leave()]);
      const { yes, no } = this.b.isReachable ? parts.test() : { yes: [], no: [] };
      breaks.push(...no);
      again = yes;
    } else {
      const { yes, no } = parts.test();
      breaks.push(...no);
      if (this.enter(yes)) parts.body();
      if (this.enter([...continues, ...this.leave()])) parts.update?.();
      again = this.leave();
    }
    const repeats = this.enter(again);
    if (repeats) {
      let isComplete = true;
      for (const [variable, value] of atHeader) {
        const now = this.state.get(variable);
        if (now === undefined) continue;
        const known = varying.get(variable);
        if (known === undefined && isSame(value, now)) continue;
        const shape = this.shapeOf(now);
        const before = known ?? this.shapeOf(value);
        const joined = joinShapes(before, shape);
        if (joined === undefined) {
          this.refuse(
            at,
            `${variable.name} is ${value.describe()} at the start of the loop, and ${now.describe()} at its end`,
            "Use one variable for each kind of value",
          );
        }
        if (known?.key === joined.key) continue;
        varying.set(variable, joined);
        isComplete = false;
      }
      if (!isComplete) return false;
      const nodes = changing.map(([variable, shape]) => shape.toNodes(this, this.read(variable)));
      for (const [index, list] of phis.entries()) {
        for (const [leaf, phi] of list.entries())
          phi.inputs.push((nodes[index] as Node[])[leaf] as Node);
      }
      b.jump(header);
    } else header.loop = undefined;
    b.loop = outer;
    return true;
  }

  #lowerForOf(statement: acorn.ForOfStatement, label: string | undefined): void {
    const { left, right, body } = statement;
    if (statement.await)
      this.refuse(statement, "for await is not in the language", "Use for...of without await");
    if (left.type !== "VariableDeclaration") {
      this.refuse(left, "declare the variable of the loop in it", "for (const x of ...)");
    }
    const [declarator] = left.declarations;
    const sequence = lowerExpression(this, right);
    const items = sequence.items(this, right);
    const bind = (value: Value) =>
      this.#bind(left.kind, (declarator as acorn.VariableDeclarator).id, value);
    if (items === undefined) {
      sequence.forEach(this, statement, label, (value) =>
        this.inScope(() => {
          bind(value);
          this.lowerStatement(body);
        }),
      );
      return;
    }
    const breaks: Edge[] = [];
    this.#lists.push(breaks);
    for (const [index, item] of items.entries()) {
      const continues: Edge[] = [];
      this.#lists.push(continues);
      this.frame.targets.push({ label, breaks, continues });
      this.inScope(
        () => {
          bind(item);
          this.lowerStatement(body);
        },
        this.frame.context.child(statement, index),
      );
      this.frame.targets.pop();
      this.#lists.pop();
      if (!this.enter([...continues, ...this.leave()])) break;
    }
    this.#lists.pop();
    this.enter([...breaks, ...this.leave()]);
  }

  #lowerSwitch(statement: acorn.SwitchStatement, label: string | undefined): void {
    const subject = lowerExpression(this, statement.discriminant);
    const breaks: Edge[] = [];
    this.#lists.push(breaks);
    this.frame.targets.push({ label, breaks, continues: undefined });
    this.inScope(() => {
      const entries: Edge[][] = [];
      for (const { consequent } of statement.cases) this.#announce(consequent);
      let fallback: number | undefined;
      for (const [index, { test }] of statement.cases.entries()) {
        entries.push([]);
        if (!test) {
          fallback = index;
          continue;
        }
        if (!this.b.isReachable) continue;
        const value = lowerExpression(this, test);
        const same = this.toBoolean(subject.equals(this, value, test), test, subject, value);
        const { yes, no } = this.test(same.asCondition());
        (entries[index] as Edge[]).push(...yes);
        this.enter(no);
      }
      const rest = this.leave();
      if (fallback === undefined) breaks.push(...rest);
      else (entries[fallback] as Edge[]).push(...rest);
      for (const [index, { consequent }] of statement.cases.entries()) {
        if (this.enter([...(entries[index] as Edge[]), ...this.leave()])) {
          this.#lowerStatements(consequent);
        }
      }
    });
    this.frame.targets.pop();
    this.#lists.pop();
    this.enter([...breaks, ...this.leave()]);
  }

  #lowerLabeled(statement: acorn.LabeledStatement): void {
    const { body } = statement;
    const { name } = statement.label;
    if (/^(?:For|While|DoWhile|Switch)/.test(body.type)) return this.lowerStatement(body, name);
    const breaks: Edge[] = [];
    this.#lists.push(breaks);
    this.frame.targets.push({ label: name, breaks, continues: undefined, needsLabel: true });
    this.lowerStatement(body);
    this.frame.targets.pop();
    this.#lists.pop();
    this.enter([...breaks, ...this.leave()]);
  }

  #lowerJump(statement: acorn.BreakStatement | acorn.ContinueStatement): void {
    const name = statement.label?.name;
    const isBreak = statement.type === "BreakStatement";
    const target = this.frame.targets.findLast(({ label, continues, needsLabel = false }) =>
      name === undefined ? !needsLabel && (isBreak || continues !== undefined) : label === name,
    );
    const edges = isBreak ? target?.breaks : target?.continues;
    if (edges === undefined) throw new Error("the parser accepts no such jump");
    edges.push(...this.leave());
  }
}

/** Returns true if two values are the same wherever both are known. */
function isSame(first: Value, second: Value): boolean {
  if (first === second) return true;
  const [a, b] = [first.known, second.known];
  if (a !== undefined && b !== undefined) return Object.is(a.value, b.value);
  return false;
}

/** Returns the shape of objects with these properties. A joined object is a new one, which cannot be changed. */
function objectShape(names: readonly string[], shapes: readonly Shape[], isArray: boolean): Shape {
  const key = `${isArray ? "array" : "object"} {${names.map((name, index) => `${JSON.stringify(name)}: ${shapes[index]?.key}`).join(", ")}}`;
  return {
    key,
    count: shapes.reduce((sum, { count }) => sum + count, 0),
    toNodes: (l, value) => {
      const object = value as ObjectValue;
      object.isShared = true;
      return names.flatMap((name, index) => {
        const field = object.fields.get(name) as Variable;
        return (shapes[index] as Shape).toNodes(l, l.read(field));
      });
    },
    fromNodes: (l, nodes) => {
      let at = 0;
      const fields = new Map<string, Variable>();
      for (const [index, name] of names.entries()) {
        const { count } = shapes[index] as Shape;
        const field = new Variable(name, false);
        l.write(field, (shapes[index] as Shape).fromNodes(l, nodes.slice(at, at + count)));
        fields.set(name, field);
        at += count;
      }
      const object = new ObjectValue(fields, isArray);
      object.isShared = true;
      return object;
    },
    join: (other) => {
      const parts = other.parts;
      if (parts === undefined || parts.isArray !== isArray) return undefined;
      if (parts.names.join("\n") !== names.join("\n")) return undefined;
      const joined: Shape[] = [];
      for (const [index, shape] of shapes.entries()) {
        const common = joinShapes(shape, parts.shapes[index] as Shape);
        if (common === undefined) return undefined;
        joined.push(common);
      }
      return objectShape(names, joined, isArray);
    },
    parts: { names, shapes, isArray },
  };
}
