/** @module Functions of the program that are inlined where they are called. */

import type * as acorn from "acorn";
import type { Scope } from "./scope.ts";
import { bindPattern } from "./patterns.ts";
import {
  type Argument,
  FixedValue,
  type Syntax,
  undefinedValue,
  type Value,
  type Lowering,
} from "./value.ts";

/** A function. */
export class FunctionValue extends FixedValue {
  readonly fn: acorn.Function;
  readonly #source: number;
  readonly #scope: Scope | undefined;

  /** @param scope the scope in which the function is; `undefined` if it refers to no variables outside it */
  constructor(fn: acorn.Function, source: number, scope: Scope | undefined) {
    super();
    this.fn = fn;
    this.#source = source;
    this.#scope = scope;
  }

  override describe(): string {
    return "a function";
  }

  override call(l: Lowering, args: readonly Argument[], at: Syntax): Value {
    return this.callWith(
      l,
      args.map((argument) => l.lower(argument)),
      at,
    );
  }

  /** Calls the function with values. */
  callWith(l: Lowering, args: readonly Value[], at: Syntax): Value {
    const { fn } = this;
    if (fn.async) l.refuse(at, "a function that kernel code calls cannot be async", "Remove async");
    if (fn.generator) l.refuse(at, "a function cannot be a generator", "Use a loop");
    return l.inline(fn, this.#source, this.#scope, at, () => {
      for (const [index, parameter] of fn.params.entries()) {
        bindPattern(l, parameter, args[index] ?? undefinedValue, false);
      }
    });
  }
}
