import { type CType, setCType } from "./c_type.ts";
import type { Type } from "./type.ts";

/**
 * Expression for a position in a view, in generated code: a variable plus a constant number of bytes. Its `toString` returns the
 * expression.
 */
export class Place {
  readonly #variable: string;
  readonly #bytes: number;

  constructor(variable: string, bytes = 0) {
    this.#variable = variable;
    this.#bytes = bytes;
  }

  /** Returns the position this number of bytes later. */
  plus(bytes: number): Place {
    return new Place(this.#variable, this.#bytes + bytes);
  }

  toString(): string {
    return this.#bytes === 0 ? this.#variable : `${this.#variable} + ${this.#bytes}`;
  }
}

/** Body of a function that is being generated, and the values that the function captures. */
export class Source {
  readonly #lines: string[] = [];
  readonly #captured = new Map<unknown, string>();
  #variables = 0;

  /** Adds a line: a statement, or the beginning or end of a block. */
  line(text: string): void {
    this.#lines.push(text);
  }

  /** Returns a variable name that was not returned before. */
  variable(prefix: string): string {
    return `${prefix}${this.#variables++}`;
  }

  /** Returns a name by which the generated code can refer to a value. */
  capture(value: unknown): string {
    let name = this.#captured.get(value);
    if (name === undefined) {
      name = `captured${this.#captured.size}`;
      this.#captured.set(value, name);
    }
    return name;
  }

  /**
   * Compiles the function, and returns it.
   *
   * @param parameters names of the parameters, separated by commas
   * @throws {EvalError} if code generation from strings is disabled in this process.
   */
  compile(parameters: string): unknown {
    const body = `"use strict";\nreturn (${parameters}) => {\n${this.#lines.join("\n")}\n};`;
    return new Function(...this.#captured.values(), body)(...this.#captured.keys());
  }
}

/**
 * Decoder and encoder of a type, in two forms that behave alike: JavaScript source, which an outer type
 * inlines in its own function, and plain functions for processes in which code generation from strings
 * is disabled.
 */
export interface Recipe<T> {
  /** Number of values that the source handles. It decides whether an outer type inlines the source. */
  readonly weight: number;
  /** Adds the statements that precede the use of the value, and returns an expression for the value. */
  emitRead(source: Source, place: Place): string;
  /**
   * Adds statements that check and store a value.
   *
   * @param value name of the variable with the value
   * @param path expression for the value's path in messages, evaluated only on failure
   */
  emitWrite(source: Source, place: Place, value: string, path: string): void;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: unknown, path: string): void;
  /**
   * Returns the recipe of the bit-field that begins at bit `bit` and reads at most `room` bytes. Only bit-fields have it. Writing
   * ORs the value into the bytes, where the bits of the bit-field must be 0.
   */
  atBit?(bit: number, room: number): Recipe<T>;
}

const recipes = new WeakMap<Type<unknown>, Recipe<unknown>>();

/** Registers the recipe of a type. */
function setRecipe<T>(type: Type<T>, recipe: Recipe<T>): void {
  recipes.set(type, recipe);
}

/** Returns the recipe of a type. For a type that was not made by `t`, it calls the type's methods. */
export function recipeOf<T>(type: Type<T>): Recipe<T> {
  let recipe = recipes.get(type);
  if (recipe === undefined) {
    recipe = calledRecipe<unknown>(
      (view, offset) => type.read(view, offset),
      (view, offset, value) => type.write(view, offset, value as T),
    );
    recipes.set(type, recipe);
  }
  // The entry of a Type<T> is always a Recipe<T>, which the type of a WeakMap cannot express.
  return recipe as Recipe<T>;
}

/** Returns a recipe that calls functions of a user's type, which check their values and throw their own errors. */
export function calledRecipe<T>(
  read: (view: DataView, offset: number) => T,
  write: (view: DataView, offset: number, value: T) => void,
): Recipe<T> {
  return {
    weight: 1,
    emitRead: (source, place) => `${source.capture(read)}(view, ${place})`,
    emitWrite: (source, place, value) =>
      source.line(`${source.capture(write)}(view, ${place}, ${value});`),
    read,
    write: (view, offset, value) => write(view, offset, value as T),
  };
}

/** Functions of a type that generated code decodes and encodes with one call, such as an address. */
export interface Scalar<T> {
  read(view: DataView, offset: number): T;
  /** Stores a value and returns true, or returns false if the value is invalid. */
  write(view: DataView, offset: number, value: unknown): boolean;
  /** Throws the error for an invalid value. */
  refuse(value: unknown, path: string): never;
}

/** Returns the recipe of a scalar. */
export function scalarRecipe<T>({ read, write, refuse }: Scalar<T>): Recipe<T> {
  return {
    weight: 1,
    emitRead: (source, place) => `${source.capture(read)}(view, ${place})`,
    emitWrite(source, place, value, path) {
      const [writer, refuser] = [source.capture(write), source.capture(refuse)];
      source.line(`if (!${writer}(view, ${place}, ${value})) ${refuser}(${value}, ${path});`);
    },
    read,
    write(view, offset, value, path) {
      if (!write(view, offset, value)) refuse(value, path);
    },
  };
}

/** Decoder of a type. */
export type Read<T> = (view: DataView, offset: number) => T;

/** Encoder of a type. */
type Write = (view: DataView, offset: number, value: unknown) => void;

/** Encoder of a type inside another one. `path` is the path from the outer value, for messages. */
type NestedWrite = (view: DataView, offset: number, value: unknown, path: string) => void;

// Compiled functions are cached, so that a type inside several others is compiled once.
const reads = new WeakMap<Recipe<unknown>, Read<unknown>>();
const nestedWrites = new WeakMap<Recipe<unknown>, NestedWrite>();

let isGenerationDisabled = false;

/** Runs a function that generates code. Returns `fallback` if code generation from strings is disabled. */
function generated<F>(generate: () => F, fallback: F): F {
  if (isGenerationDisabled) return fallback;
  try {
    return generate();
  } catch (error) {
    // Bun throws an EvalError if its flag --disallow-code-generation-from-strings is set.
    if (!(error instanceof EvalError)) throw error;
    isGenerationDisabled = true;
    return fallback;
  }
}

/** Returns the decoder for a recipe. */
export function compileRead<T>(recipe: Recipe<T>): Read<T> {
  let read = reads.get(recipe);
  if (read === undefined) {
    read = generated(() => {
      const source = new Source();
      source.line(`return ${recipe.emitRead(source, new Place("offset"))};`);
      return source.compile("view, offset") as Read<unknown>;
    }, recipe.read);
    reads.set(recipe, read);
  }
  // The entry of a Recipe<T> is always a Read<T>, which the type of a WeakMap cannot express.
  return read as Read<T>;
}

/**
 * Returns the encoder for a recipe. The encoder has no parameter for the path: where the engine does not
 * inline a call, omitting an argument costs 15 ns.
 */
function compileWrite(recipe: Recipe<unknown>): Write {
  return generated<Write>(
    () => {
      const source = new Source();
      recipe.emitWrite(source, new Place("offset"), "value", '""');
      return source.compile("view, offset, value") as Write;
    },
    (view, offset, value) => recipe.write(view, offset, value, ""),
  );
}

/** Returns the encoder of a type inside another one. */
function compileNestedWrite(recipe: Recipe<unknown>): NestedWrite {
  let write = nestedWrites.get(recipe);
  if (write === undefined) {
    write = generated<NestedWrite>(() => {
      const source = new Source();
      recipe.emitWrite(source, new Place("offset"), "value", "path");
      return source.compile("view, offset, value, path") as NestedWrite;
    }, recipe.write);
    nestedWrites.set(recipe, write);
  }
  return write;
}

/** Greatest weight of a type that is inlined in the function of an outer type. The engine does not optimize very large functions. */
const MAX_INLINE_WEIGHT = 64;

/** Adds the decoder of an inner type to the source of an outer type: inlined, or as a call if its weight is large. */
export function emitNestedRead(source: Source, recipe: Recipe<unknown>, place: Place): string {
  if (recipe.weight <= MAX_INLINE_WEIGHT) return recipe.emitRead(source, place);
  return `${source.capture(compileRead(recipe))}(view, ${place})`;
}

/** Adds the encoder of an inner type to the source of an outer type: inlined, or as a call if its weight is large. */
export function emitNestedWrite(
  source: Source,
  recipe: Recipe<unknown>,
  place: Place,
  value: string,
  path: string,
): void {
  if (recipe.weight <= MAX_INLINE_WEIGHT) recipe.emitWrite(source, place, value, path);
  else
    source.line(
      `${source.capture(compileNestedWrite(recipe))}(view, ${place}, ${value}, ${path});`,
    );
}

/** Properties of a type, without its methods. */
type Description<X extends Type<unknown>> = Omit<X, "read" | "write">;

/**
 * Makes a type. Its methods compile on their first call and are replaced by the compiled functions, so
 * that importing the library and declaring types takes little time.
 *
 * @param cType C type of the kind, to describe it to the kernel; without it, the type is an array of bytes
 */
export function defineType<T, X extends Type<T>>(
  description: Description<X>,
  recipe: Recipe<T>,
  cType?: CType,
): X {
  let read: Type<T>["read"] | undefined;
  let write: Type<T>["write"] | undefined;
  const methods: Pick<Type<T>, "read" | "write"> = {
    // A caller may have taken the method off the type before the first call, so it must work when called again.
    read(view, offset) {
      if (read === undefined) {
        read = compileRead(recipe);
        Object.defineProperty(type, "read", { value: read, configurable: false });
      }
      return read(view, offset);
    },
    write(view, offset, value) {
      if (write === undefined) {
        write = compileWrite(recipe);
        Object.defineProperty(type, "write", { value: write, configurable: false });
      }
      write(view, offset, value);
    },
  };
  // The description and the two methods make a whole X, which TypeScript cannot see through Omit.
  const type = { ...description, ...methods } as unknown as X;
  for (const name of Object.keys(type)) {
    const configurable = name === "read" || name === "write";
    Object.defineProperty(type, name, { writable: false, configurable });
  }
  Object.preventExtensions(type);
  setRecipe(type, recipe);
  if (cType !== undefined) setCType(type.kind, cType);
  return type;
}
