/**
 * @module Reads the source of functions: the text that the engine has, and its syntax tree.
 *
 * All positions are offsets in the text of a function. {@link Sources} holds the functions of one compilation, and finds the
 * places in the TypeScript files.
 */
import type * as Acorn from "acorn";
import { describe } from "../../check/describe.ts";
import type { SourcePosition } from "../../asm/instruction.ts";
import { readFileSync } from "../../ffi/files.ts";
import type { CallSite } from "./call_site.ts";
import { CompileError, type ErrorRange } from "./compile_error.ts";
import type { TextPosition } from "../ir/ir.ts";
import { findOriginal, type Original, OriginalFile } from "./original.ts";
import { SourceText } from "./source_text.ts";

/** Number of characters of the longest text that is read. */
const maxLength = 256 * 1024;
/** Depth to which syntax may be nested, so that the compiler can walk the tree recursively. */
const maxDepth = 500;
/** Number of characters of the longest file that is searched for TypeScript. */
const maxFileLength = 1 << 20;

/** A function of acorn's syntax tree. Methods are function expressions. */
type FunctionNode = Acorn.FunctionExpression | Acorn.ArrowFunctionExpression;

/** The source of a function. */
export interface FunctionSource {
  /** The number of the text: `source` of positions in it. */
  readonly id: number;
  /** The name of the function; its place, if it has none. */
  readonly name: string;
  /** The key under which it was given, or another name for messages. */
  readonly place: string;
  /** The text as the engine has it: JavaScript, in which positions are offsets. */
  readonly text: string;
  /** The function's node. `start` and `end` of it and all nodes in it are offsets in `text`. */
  readonly node: FunctionNode;
  readonly isAsync: boolean;
}

/** A reason for which a function cannot be read. */
class Refusal extends Error {
  readonly hint: string | undefined;
  readonly range: readonly [start: number, end: number] | undefined;

  constructor(problem: string, hint?: string, range?: readonly [start: number, end: number]) {
    super(problem);
    this.hint = hint;
    this.range = range;
  }
}

/**
 * Returns the source of a function.
 *
 * @param place the key under which it was given, or another name for messages
 * @throws {CompileError} if it is not a function in JavaScript that can be compiled: native, bound, a class, a generator, an
 * accessor, too long, or nested too deeply.
 */
export function readFunction(fn: Function, id: number, place: string): FunctionSource {
  const text = textOf(fn);
  return explained(
    place,
    () => parseFunction(fn, text, id, place),
    (range) => range && { file: textFile(place, text), start: range[0], end: range[1] },
  );
}

/** Returns the text of a function; an empty string for other values. */
function textOf(fn: unknown): string {
  return typeof fn === "function" ? Function.prototype.toString.call(fn) : "";
}

/** Returns the function's own text as a file. */
function textFile(place: string, text: string): SourceText {
  return new SourceText(`<function ${JSON.stringify(place)}>`, text);
}

/** Runs a function. @throws {CompileError} for refusals, with the range that `locate` returns. */
function explained<Result>(
  place: string,
  run: () => Result,
  locate: (range: Refusal["range"]) => ErrorRange | undefined,
): Result {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { message: problem, hint, range } = error;
    throw new CompileError({ place, problem, hint, range: locate(range) });
  }
}

/** @throws {Refusal} if the function cannot be compiled. */
function parseFunction(fn: Function, text: string, id: number, place: string): FunctionSource {
  if (typeof fn !== "function") throw new Refusal(`expected a function, got ${describe(fn)}`);
  if (/\{\s*\[native code\]\s*\}$/.test(text)) refuseNative(fn);
  const head = /^.*/.exec(text)?.[0].length ?? 0;
  if (text.length > maxLength) {
    throw new Refusal(
      `the function has ${text.length} characters, more than ${maxLength}`,
      "Divide it into several functions, or move tables of constants into the scope",
      [0, head],
    );
  }
  if (/^class\b(?!\s*\()/.test(text)) {
    throw new Refusal(
      "a class cannot run in the kernel",
      "Write a function: (ctx, { counts }) => { ... }",
      [0, head],
    );
  }
  const node = parse(text);
  if (node.generator) {
    throw new Refusal(
      "a generator cannot run in the kernel",
      "Write a function without `*` and `yield`, and give results through a ring buffer or a map",
      [0, head],
    );
  }
  return { id, name: nameOf(fn) || place, place, text, node, isAsync: node.async };
}

/** Returns the own name of a function, or an empty string. */
function nameOf(fn: Function): string {
  const name: unknown = Object.getOwnPropertyDescriptor(fn, "name")?.value;
  return typeof name === "string" ? name : "";
}

function refuseNative(fn: Function): never {
  const name = nameOf(fn);
  if (name.startsWith("bound ")) {
    throw new Refusal(
      "a bound function has no source text",
      "Pass the function itself, and its values through the scope: bpf.attach({ limit }, ...)",
    );
  }
  throw new Refusal(
    `${name === "" ? "the function" : `the function ${JSON.stringify(name)}`} has no source text: it is part of the engine, or a Proxy`,
    "Write a function in TypeScript: (ctx, { counts }) => { ... }",
  );
}

let parser: typeof Acorn | undefined;

/** Returns acorn. It is loaded on first use, because loading takes as long as starting Bun. */
function acorn(): typeof Acorn {
  return (parser ??= require("acorn") as typeof Acorn);
}

/** Matches the beginning of functions and arrows. Methods named `async` begin alike. */
const isExpression = /^(?:async\s*)?(?:function\b|\(|[^\s("'[]+\s*=>)/;

/** Returns the syntax tree of a function's text. @throws {Refusal} if it cannot be parsed. */
function parse(text: string): FunctionNode {
  const { parseExpressionAt } = acorn();
  const options = {
    ecmaVersion: "latest",
    allowSuperOutsideMethod: true,
    checkPrivateFields: false,
  } as const satisfies Acorn.Options;
  let failure: unknown;
  // The text of a method is not an expression. An object or, for private methods, a class around it makes it one.
  const wrappers = isExpression.test(text) ? ["", "{", "class{"] : ["{", "class{", ""];
  for (const before of wrappers) {
    const whole = before === "" ? text : `${before}${text}}`;
    let node: Acorn.AnyNode;
    try {
      node = parseExpressionAt(whole, 0, options) as Acorn.AnyNode;
    } catch (error) {
      if (isTooDeep(error)) refuseDepth();
      failure ??= error;
      continue;
    }
    if (node.end !== whole.length) continue;
    shiftPositions(node, before.length);
    return functionIn(node, text);
  }
  const { message = "its end is missing", pos = 0 } = (failure ?? {}) as Partial<SyntaxError> & {
    readonly pos?: number;
  };
  throw new Refusal(
    `its text cannot be parsed: ${message.replace(/ \(\d+:\d+\)$/, "")}`,
    undefined,
    [pos, pos + 1],
  );
}

/** True for an error of acorn for which the stack had no room. */
function isTooDeep(error: unknown): boolean {
  return (
    error instanceof RangeError ||
    (error instanceof SyntaxError && error.message.startsWith("Not enough stack space"))
  );
}

function refuseDepth(at = 0): never {
  throw new Refusal(
    "the function is nested too deeply",
    `Use variables for parts of long expressions, and functions for inner blocks: at most ${maxDepth} levels are possible`,
    [at, at + 1],
  );
}

/** Makes the positions of a node, and of all nodes in it, offsets in the text. @throws {Refusal} if the tree is too deep. */
function shiftPositions(node: Acorn.Node, by: number, depth = 0): void {
  node.start -= by;
  node.end -= by;
  if (depth > maxDepth) refuseDepth(Math.max(0, node.start));
  for (const key in node) {
    const value: unknown = node[key as keyof typeof node];
    if (typeof value !== "object" || value === null) continue;
    if (Array.isArray(value)) {
      for (const element of value as (Acorn.Node | null)[]) {
        if (element !== null) shiftPositions(element, by, depth + 1);
      }
    } else if (typeof (value as Partial<Acorn.Node>).type === "string") {
      shiftPositions(value as Acorn.Node, by, depth + 1);
    }
  }
}

/** Returns the function of a parsed expression. @throws {Refusal} if it is not one. */
function functionIn(node: Acorn.AnyNode, text: string): FunctionNode {
  if (node.type === "FunctionExpression" || node.type === "ArrowFunctionExpression") return node;
  const member =
    node.type === "ObjectExpression"
      ? node.properties[0]
      : node.type === "ClassExpression"
        ? node.body.body[0]
        : undefined;
  const range = [0, text.length] as const;
  if (member?.type !== "Property" && member?.type !== "MethodDefinition") {
    throw new Refusal("its text is not that of a function", undefined, range);
  }
  if (member.kind === "get" || member.kind === "set") {
    throw new Refusal(
      `a ${member.kind}ter cannot run in the kernel`,
      `Write a method, without ${JSON.stringify(member.kind)}`,
      range,
    );
  }
  return member.value as Acorn.FunctionExpression;
}

/** The functions of one compilation. */
export class Sources {
  readonly #callSites: readonly CallSite[];
  readonly #texts: { readonly place: string; readonly text: string }[] = [];
  readonly #files = new Map<string, OriginalFile | undefined>();
  readonly #originals: (Original | SourceText)[] = [];

  /** @param callSites the calls that gave the functions to the library, the innermost first */
  constructor(callSites: readonly CallSite[] = []) {
    this.#callSites = callSites;
  }

  /**
   * Returns the source of a function, with the next number.
   *
   * @throws {CompileError} like {@link readFunction}.
   */
  read(fn: Function, place: string): FunctionSource {
    const text = textOf(fn);
    const id = this.#texts.push({ place, text }) - 1;
    return explained(
      place,
      () => parseFunction(fn, text, id, place),
      (range) =>
        range === undefined
          ? this.#keyOf(place)
          : this.#rangeOf({ source: id, start: range[0], end: range[1] }),
    );
  }

  /**
   * Returns the error for a position.
   *
   * @param problem the description of what is wrong, without the place
   * @param hint what to write instead
   */
  error({ source, start, end }: TextPosition, problem: string, hint?: string): CompileError {
    const { place } = this.#texts[source]!;
    const range = this.#rangeOf({ source, start, end });
    return new CompileError({ place, problem, hint, range });
  }

  /** Returns the place of a position in the TypeScript file, or in the function's text if the file is not available. */
  sourceOf(position: TextPosition): SourcePosition {
    const { file, start } = this.#rangeOf(position);
    const { line, column } = file.placeOf(start);
    return { file: file.name, line, column, text: file.lineText(line) };
  }

  #rangeOf({ source, start, end }: TextPosition): ErrorRange {
    const original = (this.#originals[source] ??= this.#findOriginal(source));
    return original instanceof SourceText
      ? { file: original, start, end }
      : original.rangeOf(start, end);
  }

  #findOriginal(source: number): Original | SourceText {
    const { place, text } = this.#texts[source]!;
    const searched = new Set<string>();
    for (const { file: path, line } of this.#callSites) {
      const file = searched.has(path) ? undefined : this.#file(path);
      searched.add(path);
      const original = file && findOriginal(file, { text, place, line });
      if (original !== undefined) return original;
    }
    return textFile(place, text);
  }

  /** Returns the range of a key in the file that gave the functions. */
  #keyOf(place: string): ErrorRange | undefined {
    const [callSite] = this.#callSites;
    const file = callSite && this.#file(callSite.file);
    return file?.keyAfter(callSite?.line ?? 1, place);
  }

  /** Returns a file; `undefined` if it cannot be read or is too long. */
  #file(path: string): OriginalFile | undefined {
    if (!this.#files.has(path)) this.#files.set(path, readOriginal(path));
    return this.#files.get(path);
  }
}

function readOriginal(path: string): OriginalFile | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    // The file is only for messages: without it they show the function's own text.
    return undefined;
  }
  return text.length > maxFileLength ? undefined : new OriginalFile(new SourceText(path, text));
}
