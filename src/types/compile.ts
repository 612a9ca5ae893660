import { type CType, setCType } from "./c_type.ts";
import type { Type } from "./type.ts";

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
   * @throws {EvalError} if the process may not make code from strings
   */
  compile(parameters: string): unknown {
    const body = `"use strict";\nreturn (${parameters}) => {\n${this.#lines.join("\n")}\n};`;
    return new Function(...this.#captured.values(), body)(...this.#captured.keys());
  }
}

/**
 * How one type is decoded and encoded, in two forms that behave alike: JavaScript source that a
 * surrounding type puts into its own function, and plain functions for processes in which code may
 * not be made from strings.
 */
export interface Recipe<T> {
  /** How many values the source handles when written out: decides whether it is put inline. */
  readonly weight: number;
  /** Adds what has to come first to the source, and returns an expression for the value. */
  emitRead(source: Source, place: Place): string;
  /**
   * Adds statements that check and store a value.
   *
   * @param value the name of a variable that holds it
   * @param path an expression for the value's path, which is evaluated on failure only
   */
  emitWrite(source: Source, place: Place, value: string, path: string): void;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: unknown, path: string): void;
  /**
   * Makes the recipe of a bit-field that begins at bit `bit`. It reads at most `room` bytes. Writing ORs its bits into the bytes,
   * where its own bits must be zero.
   */
  atBit?(bit: number, room: number): Recipe<T>;
}

const recipes = new WeakMap<Type<unknown>, Recipe<unknown>>();

/** Notes how a type is decoded and encoded. */
function setRecipe<T>(type: Type<T>, recipe: Recipe<T>): void {
  recipes.set(type, recipe);
}

/** How a type is decoded and encoded; a type that was made elsewhere is called through its methods. */
export function recipeOf<T>(type: Type<T>): Recipe<T> {
  let recipe = recipes.get(type);
  if (recipe === undefined) {
    recipe = calledRecipe<unknown>(
      (view, offset) => type.read(view, offset),
      (view, offset, value) => type.write(view, offset, value as T),
    );
    recipes.set(type, recipe);
  }
  // The table's entry for a Type<T> is always a Recipe<T>, which a WeakMap cannot express.
  return recipe as Recipe<T>;
}

/** A recipe that calls functions of which nothing is known; they report their own errors. */
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
    // What the value is, is for the called function to check.
    write: (view, offset, value) => write(view, offset, value as T),
  };
}

/** The functions of a type that is decoded and encoded as a whole, such as an address. */
export interface Scalar<T> {
  read(view: DataView, offset: number): T;
  /** Stores the value and returns true, or returns false when the value is not one to store. */
  write(view: DataView, offset: number, value: unknown): boolean;
  /** Throws the error for a value that `write` did not store. */
  refuse(value: unknown, path: string): never;
}

/** The recipe of a scalar: generated code calls its functions. */
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

/** A compiled decoder. */
export type Read<T> = (view: DataView, offset: number) => T;

/** A compiled encoder. */
export type Write = (view: DataView, offset: number, value: unknown) => void;

/** The encoder of a part; `path` says where it lies in the value being written, for messages. */
type NestedWrite = (view: DataView, offset: number, value: unknown, path: string) => void;

// A part that several types contain is compiled once.
const reads = new WeakMap<Recipe<unknown>, Read<unknown>>();
const nestedWrites = new WeakMap<Recipe<unknown>, NestedWrite>();

let generationForbidden = false;

/** Runs a function that generates code; where that is forbidden, gives the other result. */
function generated<F>(generate: () => F, otherwise: F): F {
  if (generationForbidden) return otherwise;
  try {
    return generate();
  } catch (error) {
    // Bun's flag --disallow-code-generation-from-strings.
    if (!(error instanceof EvalError)) throw error;
    generationForbidden = true;
    return otherwise;
  }
}

/** The function that decodes by a recipe. */
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
  // The table's entry for a Recipe<T> is always a Read<T>, which a WeakMap cannot express.
  return read as Read<T>;
}

/**
 * The function that checks and encodes by a recipe. It has no parameter for the path: a call with fewer
 * arguments than parameters costs 15 ns more where the engine does not inline it.
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

/** The function that checks and encodes a part by its recipe. */
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

// The engine does not optimize very large functions, so a large part becomes one of its own.
const MAX_INLINE_WEIGHT = 64;

/** Puts a part's decoder into the source of what surrounds it: inline, or as a call when large. */
export function emitNestedRead(source: Source, recipe: Recipe<unknown>, place: Place): string {
  if (recipe.weight <= MAX_INLINE_WEIGHT) return recipe.emitRead(source, place);
  return `${source.capture(compileRead(recipe))}(view, ${place})`;
}

/** Puts a part's encoder into the source of what surrounds it: inline, or as a call when large. */
export function emitNestedWrite(
  source: Source,
  recipe: Recipe<unknown>,
  place: Place,
  value: string,
  path: string,
): void {
  if (recipe.weight <= MAX_INLINE_WEIGHT) recipe.emitWrite(source, place, value, path);
  else
    source.line(`${source.capture(compileNestedWrite(recipe))}(view, ${place}, ${value}, ${path});`);
}

/** What a type says about itself: everything but its methods. */
type Description<X extends Type<unknown>> = Omit<X, "read" | "write">;

/**
 * Makes a type. Its methods compile at the first call and put the compiled function in their own
 * place, so that importing the library and declaring types costs next to nothing.
 *
 * @param cType what all types of its kind are to the kernel; bytes where it is not given
 */
export function defineType<T, X extends Type<T>>(
  description: Description<X>,
  recipe: Recipe<T>,
  cType?: CType,
): X {
  let read: Type<T>["read"] | undefined;
  let write: Type<T>["write"] | undefined;
  const methods: Pick<Type<T>, "read" | "write"> = {
    // A caller may have taken the method off the type before its first call: it goes on working.
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
  // A description and the two methods are the whole type, which Omit keeps TypeScript from seeing.
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
