import type { Recipe } from "./recipe.ts";
import { Place, Source } from "./source.ts";

/** A compiled decoder. */
export type Read<T> = (view: DataView, offset: number) => T;

/** A compiled encoder. */
export type Write = (view: DataView, offset: number, value: unknown) => void;

/** The encoder of a part; `path` says where it lies in the value being written, for messages. */
type PartWrite = (view: DataView, offset: number, value: unknown, path: string) => void;

// A part that several types contain is compiled once.
const reads = new WeakMap<Recipe<unknown>, Read<unknown>>();
const partWrites = new WeakMap<Recipe<unknown>, PartWrite>();

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
export function compileWrite(recipe: Recipe<unknown>): Write {
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
function compilePartWrite(recipe: Recipe<unknown>): PartWrite {
  let write = partWrites.get(recipe);
  if (write === undefined) {
    write = generated<PartWrite>(() => {
      const source = new Source();
      recipe.emitWrite(source, new Place("offset"), "value", "path");
      return source.compile("view, offset, value, path") as PartWrite;
    }, recipe.write);
    partWrites.set(recipe, write);
  }
  return write;
}

// The engine does not optimize very large functions, so a large part becomes one of its own.
const HEAVIEST_INLINE = 64;

/** Puts a part's decoder into the source of what surrounds it: inline, or as a call when large. */
export function emitPartRead(source: Source, recipe: Recipe<unknown>, place: Place): string {
  if (recipe.weight <= HEAVIEST_INLINE) return recipe.emitRead(source, place);
  return `${source.capture(compileRead(recipe))}(view, ${place})`;
}

/** Puts a part's encoder into the source of what surrounds it: inline, or as a call when large. */
export function emitPartWrite(
  source: Source,
  recipe: Recipe<unknown>,
  place: Place,
  value: string,
  path: string,
): void {
  if (recipe.weight <= HEAVIEST_INLINE) recipe.emitWrite(source, place, value, path);
  else
    source.line(`${source.capture(compilePartWrite(recipe))}(view, ${place}, ${value}, ${path});`);
}
