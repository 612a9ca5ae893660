/**
 * A position in the view, in generated code: a variable and a constant number of bytes.
 * It renders itself when put into a template.
 */
export class Place {
  readonly #variable: string;
  readonly #bytes: number;

  constructor(variable: string, bytes = 0) {
    this.#variable = variable;
    this.#bytes = bytes;
  }

  plus(bytes: number): Place {
    return new Place(this.#variable, this.#bytes + bytes);
  }

  toString(): string {
    return this.#bytes === 0 ? this.#variable : `${this.#variable} + ${this.#bytes}`;
  }
}

/** The body of one function in the making, and the values from outside that it refers to. */
export class Source {
  readonly #lines: string[] = [];
  readonly #captured = new Map<unknown, string>();
  #variables = 0;

  /** Adds a statement, or the head or tail of a block. */
  line(text: string): void {
    this.#lines.push(text);
  }

  /** A variable name that is not used yet. */
  variable(prefix: string): string {
    return `${prefix}${this.#variables++}`;
  }

  /** A name by which the generated code can refer to a value. */
  capture(value: unknown): string {
    let name = this.#captured.get(value);
    if (name === undefined) {
      name = `captured${this.#captured.size}`;
      this.#captured.set(value, name);
    }
    return name;
  }

  /**
   * Makes the function.
   *
   * @throws {EvalError} when the process may not make code from strings
   */
  compile(parameters: string): unknown {
    const body = `"use strict";\nreturn (${parameters}) => {\n${this.#lines.join("\n")}\n};`;
    return new Function(...this.#captured.values(), body)(...this.#captured.keys());
  }
}
