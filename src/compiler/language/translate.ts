/** @module Compiles a function to a program. */

import { FunctionLowering } from "./lowering.ts";
import { Btf } from "../../btf/btf.ts";
import { BpfMap } from "../../maps/bpf_map.ts";
import type { AnyType } from "../../maps/map_options.ts";
import { RingBuf } from "../../ring/ring_buf.ts";
import { u32 } from "../../types/integer.ts";
import { isType } from "../../types/type.ts";
import { Builder } from "../ir/builder.ts";
import { constantValue } from "./constant_value.ts";
import { ContextValue, type SectionMembers } from "./context.ts";
import { FunctionValue } from "./functions.ts";
import { globalValue } from "./globals.ts";
import { IrFunction, type TextPosition } from "../ir/ir.ts";
import { library } from "./library.ts";
import { MapValue } from "./map_value.ts";
import { bindPattern } from "./patterns.ts";
import { RingValue } from "./ring_value.ts";
import { BpfFunction, BpfGlobal, GlobalValue } from "./shared_values.ts";
import type { FunctionSource, Sources } from "../source/source.ts";
import type { Target } from "../machine/target.ts";
import { StringChoice, StringValue } from "./text.ts";
import { TypeValue } from "./type_value.ts";
import {
  AbsentValue,
  type Argument,
  BooleanValue,
  FixedValue,
  MaybeValue,
  NumberValue,
  presenceHint,
  type Syntax,
  type Value,
  type LoweringHost,
  type Lowering,
} from "./value.ts";

/** A function of kernel code, as the user writes it. */
export type AnyKernelFunction = (...args: never[]) => unknown;

/** Results of a section: names and their numbers, or the kinds of values that become numbers. */
export interface SectionResults {
  /** Numbers of named results, such as `"drop"`. */
  readonly names?: Readonly<Record<string, number>>;
  /** The number for a function that returns nothing; `undefined` if it must return something. */
  readonly none: number | undefined;
}

/** The objects of a scope, as they are in the program's code. */
export class ScopeMaps {
  /** Maps by their names in the code. */
  readonly maps = new Map<string, BpfMap>();

  /** Returns the name of a map in the code. */
  nameOf(map: BpfMap, name: string): string {
    for (const [known, each] of this.maps) if (each === map) return known;
    let free = name;
    for (let index = 2; this.maps.has(free); index++) free = `${name}.${index}`;
    this.maps.set(free, map);
    return free;
  }
}

/** A scope: the second parameter of a function. */
class ScopeValue extends FixedValue {
  readonly #members: Readonly<Record<string, unknown>>;
  readonly #maps: ScopeMaps;
  readonly #sources: Sources;
  readonly #values = new Map<string, Value>();

  constructor(members: Readonly<Record<string, unknown>>, maps: ScopeMaps, sources: Sources) {
    super();
    this.#sources = sources;
    this.#members = members;
    this.#maps = maps;
  }

  override describe(): string {
    return "the scope";
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (name === "k") return library;
    if (!Object.hasOwn(this.#members, name)) {
      const names = [...Object.keys(this.#members), "k"].join(", ");
      l.refuse(at, `the scope has no member ${JSON.stringify(name)}`, `It has ${names}`);
    }
    let value = this.#values.get(name);
    if (value === undefined) {
      this.#values.set(
        name,
        (value = scopeValue(l, at, name, this.#members[name], this.#maps, this.#sources)),
      );
    }
    return value;
  }
}

/** A function of the scope, with a scope of its own: `bpf.fn()`. */
class ScopedFunction extends FixedValue {
  readonly #name: string;
  readonly #fn: BpfFunction;
  readonly #scope: ScopeValue;
  readonly #sources: Sources;
  #source: FunctionSource | undefined;

  constructor(name: string, fn: BpfFunction, maps: ScopeMaps, sources: Sources) {
    super();
    this.#name = name;
    this.#fn = fn;
    this.#sources = sources;
    this.#scope = new ScopeValue(fn.scope, maps, sources);
  }

  override describe(): string {
    return `the function ${this.#name}`;
  }

  override call(l: Lowering, args: readonly Argument[], at: Syntax): Value {
    this.#source ??= this.#sources.read(this.#fn.fn, this.#name);
    const { node, id } = this.#source;
    const values = args.map((argument) => l.lower(argument));
    return new FunctionValue(node, id, undefined).callWith(l, [this.#scope, ...values], at);
  }
}

/** Returns the value of a member of a scope. It is refused if kernel code cannot use it. */
function scopeValue(
  l: Lowering,
  at: Syntax,
  name: string,
  member: unknown,
  maps: ScopeMaps,
  sources: Sources,
): Value {
  if (member instanceof BpfGlobal) {
    return new GlobalValue(
      maps.nameOf(member.map as unknown as BpfMap, name),
      member.type as AnyType,
    );
  }
  if (member instanceof BpfFunction) return new ScopedFunction(name, member, maps, sources);
  if (member instanceof RingBuf) {
    const ring = member as RingBuf<AnyType>;
    const own = maps.nameOf(ring, name);
    return new RingValue(own, ring.types.event, () => {
      maps.maps.set(`${own}.lost`, ring.lost as unknown as BpfMap);
      return `${own}.lost`;
    });
  }
  if (member instanceof BpfMap) {
    const { key, value } = (member as { types?: { key?: AnyType; value?: AnyType } }).types ?? {};
    return new MapValue({
      name: maps.nameOf(member, name),
      type: member.type,
      key: key ?? (member.type.endsWith("array") ? u32 : undefined),
      value,
      maxEntries: member.maxEntries,
    });
  }
  if (isType(member)) return new TypeValue(member);
  return constantValue(l, at, name, member);
}

/** Arguments of {@link translate}. */
export interface TranslateRequest {
  readonly sources: Sources;
  readonly fn: AnyKernelFunction;
  /** The key of the function, for messages. */
  readonly place: string;
  readonly scope: Readonly<Record<string, unknown>>;
  readonly maps: ScopeMaps;
  readonly members: SectionMembers;
  readonly results: SectionResults;
  /** The value of `ctx.probe`. */
  readonly probe: string;
  /** The kernel that the program is for. */
  readonly target: Target;
}

/** A function in the intermediate representation. */
export interface Translated {
  readonly main: IrFunction;
  /** The syntax of the function. */
  readonly node: FunctionSource["node"];
  /** The sign of each bigint that an operator computes: see {@link Lowering.signs}. */
  readonly signs: ReadonlyMap<Syntax, boolean>;
}

/** Translates a function to the intermediate representation. @throws {CompileError} if it is not in the language. */
export function translate(request: TranslateRequest): Translated {
  const { sources, place, results } = request;
  const source = sources.read(request.fn, place);
  const main = new IrFunction("main", 1);
  const b = new Builder(main);
  const host: LoweringHost = {
    error: (position: TextPosition, message, hint) => sources.error(position, message, hint),
    global: globalValue,
    checkResult: (inner, value, at) => {
      if (value instanceof MaybeValue) {
        inner.refuse(at, `the result is ${value.describe()}`, presenceHint);
      }
      const number = resultNumber(b, value, results);
      if (typeof number === "string") inner.refuse(at, number, resultHint(value, results));
    },
    hasTypedTask: request.target.taskBtf,
    resultNames: results.names ?? {},
    kernelTypes: () => Btf.kernel(),
  };
  const l = new FunctionLowering(b, host);
  const { node } = source;
  const result = l.inline(node, source.id, undefined, undefined, () => {
    const [contextPattern, scopePattern, extra] = node.params;
    if (extra !== undefined) {
      l.refuse(extra, "a function of kernel code has two parameters: the context and the scope");
    }
    if (contextPattern !== undefined) {
      const value = new ContextValue(
        l.contextNode,
        request.members,
        new StringValue(request.probe),
      );
      bindPattern(l, contextPattern, value, false);
    }
    if (scopePattern !== undefined) {
      bindPattern(l, scopePattern, new ScopeValue(request.scope, request.maps, sources), false);
    }
  });
  if (b.isReachable) {
    const number = resultNumber(b, result, results);
    if (typeof number === "string") {
      throw sources.error(
        { source: source.id, start: node.start, end: node.end },
        "the function returns a result on some paths, and nothing on others",
        "Return a result at the end of the function, too",
      );
    }
    b.return(number);
  }
  if (node.async) {
    throw sources.error(
      { source: source.id, start: node.start, end: node.end },
      "the function is async, and awaits nothing",
      "Remove async",
    );
  }
  return { main, node, signs: l.signs };
}

/** Returns the hint for a result that the section does not have. */
function resultHint(value: Value, { names }: SectionResults): string | undefined {
  if (value instanceof AbsentValue) return "Return a result at the end of the function, too";
  return names === undefined ? (value.numberHint ?? "Return a number, or nothing") : undefined;
}

/** Returns the node or the number of a result; a message, if the section has no such result. */
function resultNumber(
  b: Builder,
  value: Value,
  { names, none }: SectionResults,
): ReturnType<NumberValue["node"]> | number | string {
  if (value instanceof AbsentValue) {
    return none ?? "the function must return a result on each path";
  }
  if (value instanceof NumberValue) return value.node(b);
  if (value instanceof BooleanValue) return value.node(b);
  if (value instanceof StringValue && names !== undefined && Object.hasOwn(names, value.text)) {
    return names[value.text] as number;
  }
  if (value instanceof StringChoice && names !== undefined) {
    if (value.texts.every((text) => Object.hasOwn(names, text))) return value.node;
  }
  const list = Object.keys(names ?? {}).map((name) => JSON.stringify(name));
  const known = names === undefined ? "a number" : `one of ${list.join(", ")}`;
  return `the result is ${value.describe()}, and it must be ${known}`;
}
