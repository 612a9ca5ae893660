/** @module Names and variables of the program. */

import type * as acorn from "acorn";

type Syntax = acorn.Node;

/** A variable of the program, or a property of an object that the program made. */
export class Variable {
  readonly name: string;
  readonly isConstant: boolean;

  constructor(name: string, isConstant: boolean) {
    this.name = name;
    this.isConstant = isConstant;
  }
}

/** A call that is being inlined, or an iteration of an unrolled loop. Its variables stay the same when a loop is translated again. */
export class Context {
  readonly #variables = new Map<Syntax, Map<string, Variable>>();
  readonly #children = new Map<Syntax, Map<number, Context>>();

  /** Returns the variable that a part of the syntax declares. */
  variable(at: Syntax, name: string, isConstant: boolean): Variable {
    let variables = this.#variables.get(at);
    if (variables === undefined) this.#variables.set(at, (variables = new Map()));
    let variable = variables.get(name);
    if (variable === undefined) {
      variables.set(name, (variable = new Variable(name, isConstant)));
    }
    return variable;
  }

  /** Returns the context of a call, or of an iteration. */
  child(at: Syntax, index = 0): Context {
    let children = this.#children.get(at);
    if (children === undefined) this.#children.set(at, (children = new Map()));
    let child = children.get(index);
    if (child === undefined) children.set(index, (child = new Context()));
    return child;
  }
}

/** The names of a block of the program. */
export class Scope {
  readonly #parent: Scope | undefined;
  readonly #names = new Map<string, Variable>();

  constructor(parent: Scope | undefined) {
    this.#parent = parent;
  }

  declare(variable: Variable): void {
    this.#names.set(variable.name, variable);
  }

  /** Returns the variable of a name. @param last the outermost block that is searched */
  find(name: string, last?: Scope): Variable | undefined {
    return this.#names.get(name) ?? (this === last ? undefined : this.#parent?.find(name, last));
  }
}
