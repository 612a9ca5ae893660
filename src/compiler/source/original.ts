/**
 * @module Finds the TypeScript of a function in its file, and the places there of positions in the function's text.
 *
 * The text that the engine has of a function is not that of the file: types and comments are gone, constants are inlined, and
 * expressions are written differently. The tokens that are left are enough to align the two.
 */
import { align, tokenKey } from "./align.ts";
import type { SourceText } from "./source_text.ts";
import { type Token, tokenize } from "./tokens.ts";

/** Number of characters of a line up to which people can have written it. */
const maxLineLength = 500;
/** The part of a function's tokens that its TypeScript must have at least. A minifier that renames variables leaves more. */
const minSimilarity = 0.5;
/** Number by which the similarity of candidates may differ if their places decide. Inlined constants make small differences. */
const tolerance = 0.03;

/** A file with TypeScript, and its tokens. */
export class OriginalFile {
  readonly source: SourceText;
  readonly tokens: readonly Token[];
  /** The index of the other bracket of a pair, by the index of each; -1 for other tokens. */
  readonly partners: Int32Array;
  /** The index of the innermost opening bracket around each token, or -1. */
  readonly parents: Int32Array;

  constructor(source: SourceText) {
    this.source = source;
    this.tokens = tokenize(source.text);
    this.partners = new Int32Array(this.tokens.length).fill(-1);
    this.parents = new Int32Array(this.tokens.length).fill(-1);
    const open: number[] = [];
    this.tokens.forEach(({ kind, value }, index) => {
      if (kind === "punctuation" && isClosing(value)) {
        const start = open.pop();
        if (start !== undefined) {
          this.partners[start] = index;
          this.partners[index] = start;
        }
      }
      this.parents[index] = open.at(-1) ?? -1;
      if (kind === "punctuation" && isOpening(value)) open.push(index);
    });
  }

  /** Returns the range of the first key of an object with this name, at or after a line; `undefined` if there is none. */
  keyAfter(line: number, name: string): TextRange | undefined {
    const { source: file } = this;
    const index = this.tokens.findIndex(
      ({ kind, value, start }, at) =>
        kind !== "punctuation" &&
        value === name &&
        [":", ",", "}"].some((next) => this.is(at + 1, next)) &&
        file.placeOf(start).line >= line,
    );
    return index < 0 ? undefined : { file, ...boundsOf(this.tokens[index]!) };
  }

  /** True if a token is this punctuation or name. */
  is(index: number, value: string): boolean {
    const token = this.tokens[index];
    return token !== undefined && token.kind !== "literal" && token.value === value;
  }
}

function boundsOf({ start, end }: Token): { start: number; end: number } {
  return { start, end };
}

function isOpening(value: string): boolean {
  return value === "(" || value === "[" || value === "{" || value === "${";
}

function isClosing(value: string): boolean {
  return value === ")" || value === "]" || value === "}";
}

/** A range of a file's text. */
export interface TextRange {
  readonly file: SourceText;
  readonly start: number;
  readonly end: number;
}

/** The TypeScript of a function. */
export class Original {
  readonly #file: SourceText;
  /** The tokens of the function's text. */
  readonly #tokens: readonly Token[];
  /** The token of the file for each of them. */
  readonly #originals: readonly Token[];
  /** True for those that have the same value in the file. */
  readonly #isExact: readonly boolean[];

  /** Aligns the tokens of a function's text with those of the file from index `start` to `end`, which is not included. */
  constructor(tokens: readonly Token[], file: OriginalFile, start: number, end: number) {
    const region = file.tokens.slice(start, end);
    const pairs = align(tokens, region);
    this.#isExact = Array.from(pairs, (pair) => pair >= 0);
    pairReplaced(pairs, region.length);
    let last = 0;
    this.#originals = Array.from(pairs, (pair) => region[(last = pair >= 0 ? pair : last)]!);
    this.#file = file.source;
    this.#tokens = tokens;
  }

  /** Returns the range of the file for a range of the function's text. */
  rangeOf(start: number, end: number): TextRange {
    const first = this.#tokenAt(start);
    // Past the last token that begins in the range.
    const last = Math.max(first, this.#tokenAt(Math.max(start, end - 1)));
    // Tokens without an equal in the file have only an approximate place.
    let from = first;
    while (from < last && !this.#isExact[from]) from++;
    let to = last;
    while (to > from && !this.#isExact[to]) to--;
    return {
      file: this.#file,
      start: this.#originals[from]!.start,
      end: Math.max(this.#originals[from]!.end, this.#originals[to]!.end),
    };
  }

  /** Returns the index of the token at an offset, or of the last one before it. */
  #tokenAt(offset: number): number {
    let low = 0;
    let high = this.#tokens.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#tokens[middle]!.start <= offset) low = middle;
      else high = middle;
    }
    return low;
  }
}

/**
 * Pairs tokens that were replaced: those without an equal, between two tokens that have one, with the tokens of the file between
 * the equals of the two.
 */
function pairReplaced(pairs: Int32Array, count: number): void {
  for (let start = 0, previous = -1; start < pairs.length; start++) {
    if (pairs[start]! >= 0) {
      previous = pairs[start]!;
      continue;
    }
    let end = start;
    while (end < pairs.length && pairs[end]! < 0) end++;
    const next = end < pairs.length ? pairs[end]! : count;
    const room = next - previous - 1;
    for (let index = start; index < end && room > 0; index++) {
      pairs[index] = previous + 1 + Math.min(index - start, room - 1);
    }
    start = end - 1;
  }
}

/** The function that is searched. */
export interface SearchedFunction {
  /** The text that the engine has. */
  readonly text: string;
  /** The key under which it was given. */
  readonly place: string;
  /** The line at which it was given. */
  readonly line: number;
}

/** Finds the TypeScript of a function in a file; `undefined` if the file does not have it in a form that people read. */
export function findOriginal(file: OriginalFile, searched: SearchedFunction): Original | undefined {
  const tokens = tokenize(searched.text);
  const shape = shapeOf(tokens);
  let matches = matchesOf(file, tokens, shape);
  // The name may be that of a constant in the file.
  const computed = { kind: "method", name: undefined } as const;
  if (matches.length === 0 && shape.kind === "method") matches = matchesOf(file, tokens, computed);
  const named = matches.filter(({ start }) => hasPlace(file, start, searched.place));
  const considered = named.length > 0 ? named : matches;
  const best = considered.reduce((max, { similarity }) => Math.max(max, similarity), 0);
  const found = nearest(
    considered.filter(({ similarity }) => similarity >= best - tolerance),
    ({ start }) => file.source.placeOf(file.tokens[start]!.start).line,
    searched.line,
  );
  if (found === undefined) return undefined;
  const { line } = file.source.placeOf(file.tokens[found.start]!.start);
  if (file.source.lineText(line).length > maxLineLength) return undefined;
  return new Original(tokens, file, found.start, found.end);
}

/** A function of a file that may be the one that is searched. */
interface Match {
  readonly start: number;
  readonly end: number;
  readonly similarity: number;
}

/** Returns the functions of a form that are similar to the one with these tokens. */
function matchesOf(file: OriginalFile, tokens: readonly Token[], shape: Shape): Match[] {
  const counts = countTokens(tokens);
  return starts(file, shape).flatMap((start) => {
    const end = endOf(file, start, tokens.length * 3 + 50);
    if (end === undefined || end - start < tokens.length * minSimilarity) return [];
    const similarity = similarityOf(counts, tokens.length, file.tokens.slice(start, end));
    return similarity < minSimilarity ? [] : [{ start, end, similarity }];
  });
}

/** Returns the first item at or after a line; the last one before it, if there is none. */
function nearest<Item>(
  items: readonly Item[],
  lineOf: (item: Item) => number,
  line: number,
): Item | undefined {
  return items.find((item) => lineOf(item) >= line) ?? items.at(-1);
}

/** Form of a function, by which its beginning is found. */
type Shape =
  | { readonly kind: "arrow" | "function" | "class" }
  /** The name is `undefined` for a computed one. */
  | { readonly kind: "method"; readonly name: string | undefined };

function shapeOf(tokens: readonly Token[]): Shape {
  const first = tokens[0]?.value === "async" && tokens[1]?.value !== "(" ? 1 : 0;
  const value = tokens[first]?.value;
  if (value === "function" || value === "class") return { kind: value };
  const isArrow = [first, first + 1].some(
    (index) => tokens[index + 1]?.value === "=>" || closesBeforeArrow(tokens, index),
  );
  if (isArrow) return { kind: "arrow" };
  const name =
    tokens[tokens.findIndex((token, index) => index > 0 && isPunctuation(token, "(")) - 1];
  return {
    kind: "method",
    name: name === undefined || isPunctuation(name, "]") ? undefined : tokenKey(name),
  };
}

function isPunctuation(token: Token | undefined, value: string): boolean {
  return token?.kind === "punctuation" && token.value === value;
}

/** True if a parameter list starts at the index, and an arrow follows it. */
function closesBeforeArrow(tokens: readonly Token[], start: number): boolean {
  if (!isPunctuation(tokens[start], "(")) return false;
  let depth = 0;
  for (let index = start; index < tokens.length; index++) {
    const { kind, value } = tokens[index]!;
    if (kind !== "punctuation") continue;
    if (isOpening(value)) depth++;
    else if (isClosing(value) && --depth === 0) return isPunctuation(tokens[index + 1], "=>");
  }
  return false;
}

/** Returns the indexes at which functions of a form can start. */
function starts(file: OriginalFile, shape: Shape): number[] {
  const found: number[] = [];
  /** True if `(` is at the index, and its `)` precedes one of these. */
  const hasParameters = (index: number, ...next: string[]): boolean => {
    const end = file.partners[index] ?? -1;
    return file.is(index, "(") && end >= 0 && next.some((value) => file.is(end + 1, value));
  };
  file.tokens.forEach((token, index) => {
    let start = -1;
    if (shape.kind === "arrow") {
      if (hasParameters(index, "=>", ":")) start = index;
      else if (token.kind === "name" && file.is(index + 1, "=>")) start = index;
    } else if (shape.kind !== "method") {
      if (file.is(index, shape.kind)) start = index;
    } else if (shape.name === undefined) {
      const end = file.partners[index]!;
      if (file.is(index, "[") && end >= 0 && hasParameters(end + 1, "{", ":")) start = index;
    } else if (isSameName(tokenKey(token), shape.name)) {
      if (file.is(index + 1, "<") || hasParameters(index + 1, "{", ":")) start = index;
    }
    if (start < 0) return;
    while (start > 0 && (file.is(start - 1, "async") || file.is(start - 1, "*"))) start--;
    if (shape.kind !== "method" || !isValue(file.tokens[start - 1])) found.push(start);
  });
  return found;
}

/** True if methods can have the same name. Minifiers rename private ones. */
function isSameName(a: string, b: string): boolean {
  return a === b || (a.startsWith("#") && b.startsWith("#"));
}

/** True if what follows a token is not a method: it is a value, or a call of a method. */
function isValue(previous: Token | undefined): boolean {
  return (
    previous?.kind === "punctuation" && [".", "?.", ":", "=", "=>", "("].includes(previous.value)
  );
}

/** Returns the index after a function that starts at `start`; `undefined` if it has more than `max` tokens. */
function endOf(file: OriginalFile, start: number, max: number): number | undefined {
  const { tokens, partners } = file;
  let hasParameters = false;
  for (let index = start; index < tokens.length; index++) {
    if (index - start > max) return undefined;
    const { kind, value } = tokens[index]!;
    if (kind !== "punctuation") continue;
    if (isClosing(value)) return index;
    if (hasParameters && (value === "," || value === ";")) return index;
    if (!isOpening(value)) continue;
    index = partners[index]! < 0 ? tokens.length - 1 : partners[index]!;
    if (value === "(") hasParameters = true;
    // Braces may also be the type of the result, or of a part of it.
    const isBody = value === "{" && hasParameters;
    if (isBody && !["{", "|", "&", "[", "=>"].some((next) => file.is(index + 1, next))) {
      return index - start > max ? undefined : index + 1;
    }
  }
  return tokens.length;
}

/** Returns the number of tokens by key. */
function countTokens(tokens: readonly Token[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const token of tokens) {
    const key = tokenKey(token);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/** Returns the part of a function's tokens that others have too, with a small deduction for those that it does not have. */
function similarityOf(
  counts: ReadonlyMap<string, number>,
  total: number,
  tokens: readonly Token[],
): number {
  let common = 0;
  for (const [key, count] of countTokens(tokens)) common += Math.min(count, counts.get(key) ?? 0);
  return common / total - (0.02 * (tokens.length - common)) / tokens.length;
}

/** True if the function that starts at `start` has the place as its name or key, or is a member of the object that has the key. */
function hasPlace({ tokens, parents }: OriginalFile, start: number, place: string): boolean {
  const isKey = (index: number): boolean => {
    const token = tokens[index];
    return token !== undefined && token.kind !== "punctuation" && token.value === place;
  };
  const hasKey = (index: number): boolean =>
    isPunctuation(tokens[index - 1], ":") && isKey(index - 2);
  let name = start;
  while (["async", "*", "function"].includes(tokens[name]?.value ?? "")) name++;
  const isAsync = tokens[start - 1]?.value === "async";
  return (
    (isKey(start) && !isValue(tokens[start - 1])) ||
    isKey(name) ||
    hasKey(isAsync ? start - 1 : start) ||
    hasKey(parents[start]!)
  );
}
