/** @module Members of structs and unions, and enumerators, as C has them. */

import type { CMember } from "./c_type.ts";
import type { BitsType, Type } from "./type.ts";

/** The number of members is a field of 16 bits. */
export const mostMembers = 0xffff;
/** Where a member starts is counted in bits, by 32 of them; beside bit-fields by 24. */
const greatestOffset = 2 ** 32 - 1;
const greatestOffsetBesideBits = 2 ** 24 - 1;

/** A member as a type describes it; one from elsewhere may describe anything. */
interface Described {
  readonly type?: Type<unknown>;
  readonly offset?: number;
  readonly bitOffset?: number;
}

/**
 * Encodes the members of a struct or union, or returns `undefined` where they are not what they should be.
 *
 * @param isUnion true where members may lie over one another
 */
export function encodeMembers(
  { size, fields }: Type<unknown> & { readonly fields?: Readonly<Record<string, Described>> },
  part: (type: Type<unknown>) => number,
  isUnion: boolean,
): CMember[] | undefined {
  const entries = Object.entries(fields ?? {}).filter(([, field]) => widthOf(field?.type) !== 0);
  if (entries.length === 0 || entries.length > mostMembers) return undefined;
  const names = identifiers(entries.map(([name]) => name));
  const members: CMember[] = [];
  let end = 0;
  let hasBits = false;
  for (const [index, [, field]] of entries.entries()) {
    const { type, offset = NaN, bitOffset = offset * 8 } = field ?? {};
    if (!isType(type) || !isCount(bitOffset)) return undefined;
    if (bitOffset < end || bitOffset > greatestOffset) return undefined;
    const width = widthOf(type);
    const last = bitOffset + (width ?? type.size * 8);
    if (last > size * 8) return undefined;
    if (!isUnion) end = last;
    hasBits ||= width !== undefined;
    members.push({
      name: names[index] as string,
      typeId: part(width === undefined ? type : (type as BitsType<unknown>).base),
      bitOffset,
      ...(width !== undefined && { bitSize: width }),
    });
  }
  return hasBits && members.some((member) => member.bitOffset > greatestOffsetBesideBits)
    ? undefined
    : members;
}

/** The number of bits of a bit-field. */
function widthOf(type: Type<unknown> | undefined): number | undefined {
  return type?.kind === "bits" ? (type as Partial<BitsType<unknown>>).width : undefined;
}

export function isCount(value: number | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export function isType(type: Type<unknown> | undefined): type is Type<unknown> {
  return typeof type === "object" && type !== null && isCount(type.size) && type.size > 0;
}

/** Longest name that every kernel with BTF takes (`KSYM_NAME_LEN` was 128 before 6.1). */
const longest = 127;

const keywords = /*@__PURE__*/ new Set(
  /*@__PURE__*/ (
    "auto break case char const continue default do double else enum extern float for goto if inline int long " +
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
  ).split(" "),
);

/**
 * C identifiers in place of names, in their order and all different. A name that is one already stays, whatever the
 * others become.
 */
export function identifiers(names: readonly string[]): string[] {
  const taken = new Set(names.filter(isIdentifier));
  return names.map((name) => {
    if (isIdentifier(name)) return name;
    const stem = stemOf(name);
    let candidate = stem;
    for (let count = 2; taken.has(candidate); count++) {
      const suffix = `_${count}`;
      candidate = stem.slice(0, longest - suffix.length) + suffix;
    }
    taken.add(candidate);
    return candidate;
  });
}

function isIdentifier(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && name.length <= longest && !keywords.has(name);
}

function stemOf(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/gu, "_");
  if (keywords.has(letters)) return `${letters}_`;
  return (/^[A-Za-z_]/.test(letters) ? letters : `_${letters}`).slice(0, longest);
}
