import type { Source, Place } from "./source.ts";
import type { Type } from "./type.ts";

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
}

const recipes = new WeakMap<Type<unknown>, Recipe<unknown>>();

/** Notes how a type is decoded and encoded. */
export function setRecipe<T>(type: Type<T>, recipe: Recipe<T>): void {
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
