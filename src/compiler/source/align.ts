/**
 * @module Aligns two sequences of tokens: finds pairs of equal tokens, in the same order in both, that weigh the most.
 *
 * Sequences that are unique in both (patience diff) split the problem, so that long functions take about linear time. What lies
 * between them is aligned by dynamic programming.
 */
import type { Token } from "./tokens.ts";

/**
 * Numbers of neighbours, on both sides, with which tokens are compared to find unique ones. The most reliable comes first; the
 * others are only for problems that have more cells.
 */
const anchorKinds = [
  { radius: 3, minCells: 1024 },
  { radius: 1, minCells: 40_000 },
  { radius: 0, minCells: 160_000 },
] as const;
/** Number of cells and tokens that are looked at; when they are used up, the remaining tokens stay unaligned. */
const budget = 4_000_000;
/** Number of times that a problem is split, after which it is solved directly. */
const maxDepth = 32;

/** Tokens as numbers: equal tokens have the same number. */
interface Sequence {
  readonly ids: Int32Array;
  readonly weights: Uint8Array;
}

/** Part of both sequences. */
interface Problem {
  readonly a: number;
  readonly aEnd: number;
  readonly b: number;
  readonly bEnd: number;
}

const keywords: ReadonlySet<string> = /*@__PURE__*/ new Set(
  "async await break case const continue default do else false for function if in let new null of return switch this true typeof undefined using var void while".split(
    " ",
  ),
);

/** Returns the key by which tokens are compared: names and strings are equal, as `x["name"]` becomes `x.name`. */
export function tokenKey({ kind, value }: Token): string {
  return kind === "literal" && !isName(value) ? `"${value}` : value;
}

function isName(value: string): boolean {
  return /^[A-Za-z_$][\w$]*$/.test(value);
}

function weightOf({ kind, value }: Token): number {
  if (kind === "punctuation") return 2;
  return keywords.has(value) ? 4 : 8;
}

function sequence(tokens: readonly Token[], numbers: Map<string, number>): Sequence {
  const ids = new Int32Array(tokens.length);
  const weights = new Uint8Array(tokens.length);
  tokens.forEach((token, index) => {
    const key = tokenKey(token);
    let id = numbers.get(key);
    if (id === undefined) numbers.set(key, (id = numbers.size));
    ids[index] = id;
    weights[index] = weightOf(token);
  });
  return { ids, weights };
}

/** Returns for each token of `from` the index of its token in `to`, or -1. */
export function align(from: readonly Token[], to: readonly Token[]): Int32Array {
  const numbers = new Map<string, number>();
  const a = sequence(from, numbers);
  const b = sequence(to, numbers);
  const pairs = new Int32Array(from.length).fill(-1);
  let work = 0;

  const solve = (problem: Problem, depth: number): void => {
    const rows = problem.aEnd - problem.a;
    const columns = problem.bEnd - problem.b;
    if (rows === 0 || columns === 0) return;
    const anchors = depth < maxDepth ? findAnchors(a.ids, b.ids, problem) : [];
    work += rows + columns;
    if (anchors.length > 0 && work <= budget) {
      let { a: aStart, b: bStart } = problem;
      for (const [aIndex, bIndex] of anchors) {
        pairs[aIndex] = bIndex;
        solve({ a: aStart, aEnd: aIndex, b: bStart, bEnd: bIndex }, depth + 1);
        [aStart, bStart] = [aIndex + 1, bIndex + 1];
      }
      solve({ a: aStart, aEnd: problem.aEnd, b: bStart, bEnd: problem.bEnd }, depth + 1);
      return;
    }
    if (work + rows * columns > budget) return alignEnds(a.ids, b.ids, problem, pairs);
    work += rows * columns;
    alignDirectly(a, b, problem, pairs);
  };
  solve({ a: 0, aEnd: from.length, b: 0, bEnd: to.length }, 0);
  return pairs;
}

/** Returns pairs of tokens that are unique in both sequences, together with their neighbours. */
function findAnchors(a: Int32Array, b: Int32Array, problem: Problem): [number, number][] {
  const cells = (problem.aEnd - problem.a) * (problem.bEnd - problem.b);
  for (const { radius, minCells } of anchorKinds) {
    if (cells < minCells) break;
    const inB = uniqueIndexes(b, problem.b, problem.bEnd, radius);
    const candidates: [number, number][] = [];
    for (const [hash, aIndex] of uniqueIndexes(a, problem.a, problem.aEnd, radius)) {
      const bIndex = inB.get(hash) ?? -1;
      if (aIndex < 0 || bIndex < 0) continue;
      if (isEqualAround(a, aIndex, b, bIndex, radius)) candidates.push([aIndex, bIndex]);
    }
    if (candidates.length > 0) return longestIncreasing(candidates.sort((x, y) => x[0] - y[0]));
  }
  return [];
}

/** Returns the index of each token of the part, by a hash of it and its neighbours; -1 if the hash is not unique. */
function uniqueIndexes(
  ids: Int32Array,
  start: number,
  end: number,
  radius: number,
): Map<number, number> {
  const indexes = new Map<number, number>();
  for (let index = start + radius; index < end - radius; index++) {
    let hash = 0;
    for (let near = index - radius; near <= index + radius; near++) {
      hash = Math.imul(hash, 0x01000193) ^ Math.imul(ids[near]! + 1, 0x9e3779b1);
    }
    indexes.set(hash, indexes.has(hash) ? -1 : index);
  }
  return indexes;
}

function isEqualAround(
  a: Int32Array,
  aIndex: number,
  b: Int32Array,
  bIndex: number,
  radius: number,
): boolean {
  for (let near = -radius; near <= radius; near++) {
    if (a[aIndex + near] !== b[bIndex + near]) return false;
  }
  return true;
}

/** Returns the longest subsequence of pairs, which are in the order of their first index, that is in the order of the second. */
function longestIncreasing(pairs: readonly [number, number][]): [number, number][] {
  /** The index of the last pair of the best subsequence, by its length - 1. */
  const tails: number[] = [];
  const previous = new Int32Array(pairs.length);
  pairs.forEach(([, value], index) => {
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[tails[middle]!]![1] < value) low = middle + 1;
      else high = middle;
    }
    previous[index] = low === 0 ? -1 : tails[low - 1]!;
    tails[low] = index;
  });
  const longest: [number, number][] = [];
  for (let at = tails.at(-1) ?? -1; at >= 0; at = previous[at]!) longest.push(pairs[at]!);
  return longest.reverse();
}

/** Pairs equal tokens at the start and at the end of a problem, up to the first difference. */
function alignEnds(a: Int32Array, b: Int32Array, problem: Problem, pairs: Int32Array): void {
  let { a: aStart, aEnd, b: bStart, bEnd } = problem;
  while (aStart < aEnd && bStart < bEnd && a[aStart] === b[bStart]) pairs[aStart++] = bStart++;
  while (aStart < aEnd && bStart < bEnd && a[aEnd - 1] === b[bEnd - 1]) pairs[--aEnd] = --bEnd;
}

/** Aligns by dynamic programming. Pairs with equal neighbours weigh more, so that the tokens of an expression stay together. */
function alignDirectly(a: Sequence, b: Sequence, problem: Problem, pairs: Int32Array): void {
  const rows = problem.aEnd - problem.a;
  const columns = problem.bEnd - problem.b;
  /** The step to a cell: 1 for a pair, 2 over a token of `a`, 0 over a token of `b`. */
  const steps = new Uint8Array(rows * columns);
  let above = new Int32Array(columns + 1);
  let current = new Int32Array(columns + 1);
  for (let row = 0; row < rows; row++) {
    const aIndex = problem.a + row;
    const id = a.ids[aIndex]!;
    const weight = a.weights[aIndex]!;
    const before = aIndex === 0 ? -1 : a.ids[aIndex - 1];
    const after = aIndex + 1 < a.ids.length ? a.ids[aIndex + 1] : -1;
    for (let column = 0; column < columns; column++) {
      const bIndex = problem.b + column;
      let best = current[column]!;
      let step = 0;
      if (above[column + 1]! > best) {
        best = above[column + 1]!;
        step = 2;
      }
      if (b.ids[bIndex] === id) {
        let score = above[column]! + weight;
        if (bIndex > 0 && b.ids[bIndex - 1] === before) score++;
        if (b.ids[bIndex + 1] === after) score++;
        if (score >= best) {
          best = score;
          step = 1;
        }
      }
      current[column + 1] = best;
      steps[row * columns + column] = step;
    }
    [above, current] = [current, above];
    current[0] = 0;
  }
  let row = rows - 1;
  let column = columns - 1;
  while (row >= 0 && column >= 0) {
    const step = steps[row * columns + column];
    if (step === 1) pairs[problem.a + row--] = problem.b + column--;
    else if (step === 2) row--;
    else column--;
  }
}
