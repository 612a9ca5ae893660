/** @module The kernel's names as keywords: `LRU_HASH` is `"lru-hash"`. */

/** A name of the kernel's as a keyword. */
export type Keyword<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Lowercase<Head>}-${Keyword<Tail>}`
  : Lowercase<Name>;

/** A name of the kernel's as a keyword. */
export function keyword<Name extends string>(name: Name): Keyword<Name> {
  return name.toLowerCase().replaceAll("_", "-") as Keyword<Name>;
}

/** The keywords of an enumeration. Of several names for one number, the later one: the kernel renames what it deprecates. */
export function keywordsByNumber<Name extends string>(
  enumeration: Readonly<Record<Name, number>>,
): ReadonlyMap<number, Keyword<Name>> {
  return new Map(
    Object.entries<number>(enumeration).map(([name, number]) => [number, keyword(name as Name)]),
  );
}

/** The keyword of a number, also of one that is newer than this library: `"type-99"`. */
export function keywordOf<Name extends string>(
  keywords: ReadonlyMap<number, Name>,
  number: number,
): Name {
  return keywords.get(number) ?? (`type-${number}` as Name);
}
