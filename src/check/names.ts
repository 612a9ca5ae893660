/** @module Suggestions for misspelt names, and the kernel's names as keywords: `LRU_HASH` is `"lru_hash"`. */

/** Returns `did you mean "packed"?` if one of the known names is similar to `name`, and `known names: ...` otherwise. */
export function suggest(name: string, known: readonly string[]): string {
  return (
    suggestion(name, known) ??
    `known names: ${known.map((candidate) => JSON.stringify(candidate)).join(", ")}`
  );
}

/** Returns `did you mean "packed"?` if one of the known names is similar to `name`, and `undefined` otherwise. */
export function suggestion(name: string, known: Iterable<string>): string | undefined {
  // An empty name, which objects without a name have, is not a suggestion.
  const best = closest(name, known) || undefined;
  return best && `did you mean ${JSON.stringify(best)}?`;
}

/** Returns the known name that is the most similar to `name`; `undefined` if none is similar enough. */
export function closest(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  // Up to a third of the characters may differ.
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - name.length) >= bestDistance) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Returns the number of characters to insert, delete, replace or swap with their neighbour (Damerau-Levenshtein distance). */
function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= a.length; row++) {
    const above = rows[row - 1]!;
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let best = Math.min(
        above[column - 1]! + (same ? 0 : 1),
        above[column]! + 1,
        current[column - 1]! + 1,
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        best = Math.min(best, rows[row - 2]![column - 2]! + 1);
      }
      current.push(best);
    }
    rows.push(current);
  }
  return rows[a.length]![b.length]!;
}

/** The keyword for a name of the kernel: the name in lower case. */
export type Keyword<Name extends string> = Lowercase<Name>;

/** Returns the keyword for a name of the kernel. */
export function keyword<Name extends string>(name: Name): Keyword<Name> {
  return name.toLowerCase() as Keyword<Name>;
}

/**
 * Returns the keyword of each number of an enumeration. If a number has several names, the last one counts: earlier ones are
 * deprecated.
 */
export function keywordsByNumber<Name extends string>(
  enumeration: Readonly<Record<Name, number>>,
): ReadonlyMap<number, Keyword<Name>> {
  return new Map(
    Object.entries<number>(enumeration).map(([name, number]) => [number, keyword(name as Name)]),
  );
}

/** Returns the number of each keyword of an enumeration. */
export function numbersByKeyword<Name extends string>(
  enumeration: Readonly<Record<Name, number>>,
): Readonly<Record<Keyword<Name>, number>> {
  const entries = Object.entries<number>(enumeration);
  return Object.fromEntries(entries.map(([name, number]) => [keyword(name), number])) as Record<
    Keyword<Name>,
    number
  >;
}

/** Returns the keyword of a number; `"type_99"` for a number that is newer than this library. */
export function keywordOf<Name extends string>(
  keywords: ReadonlyMap<number, Name>,
  number: number,
): Name {
  return keywords.get(number) ?? (`type_${number}` as Name);
}

/**
 * Returns the name of a value in an enumeration: the first one if there are several, `undefined` if there is none.
 *
 * @param enumeration an object with names and numbers, such as those of `uapi`
 *
 * @example
 * ```ts
 * import { constantName, uapi } from "bun-bpf";
 * console.log(constantName(uapi.tcp_state, 10)); // TCP_LISTEN
 * console.log(constantName(uapi.errno, 13)); // EACCES
 * console.log(constantName(uapi.tcp_state, 99)); // undefined
 * ```
 */
export function constantName<Name extends string>(
  enumeration: Readonly<Record<Name, number>>,
  value: number,
): Name | undefined {
  for (const name in enumeration) if (enumeration[name] === value) return name;
  return undefined;
}
