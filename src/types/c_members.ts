/** @module BTF members of structs and unions, with C identifiers as their names. */

import { type CMember, type CTypeWriter, unsignedChar } from "./c_type.ts";
import type { BitsType, EnumType, Type } from "./type.ts";

/** The number of members is a field of 16 bits. */
export const maxMembers = 0xffff;
/** The offset of a member is a bit count of 32 bits; of 24 bits in structs with bit-fields. */
const maxOffset = 2 ** 32 - 1;
const maxOffsetWithBitFields = 2 ** 24 - 1;

/** A member as its type describes it. Types that others made may describe anything. */
interface Described {
  readonly type?: Type<unknown>;
  readonly offset?: number;
  readonly bitOffset?: number;
}

/**
 * Encodes the members of a struct or union, or returns `undefined` where they are malformed.
 *
 * @param isUnion true where members may overlap
 */
export function encodeMembers(
  types: CTypeWriter,
  { size, fields }: Type<unknown> & { readonly fields?: Readonly<Record<string, Described>> },
  part: (type: Type<unknown>) => number,
  isUnion: boolean,
): CMember[] | undefined {
  const entries = Object.entries(fields ?? {}).filter(([, field]) => widthOf(field?.type) !== 0);
  if (entries.length === 0 || entries.length > maxMembers) return undefined;
  const names = identifiers(entries.map(([name]) => name));
  const members: CMember[] = [];
  const hasBits = entries.some(([, field]) => widthOf(field?.type) !== undefined);
  let end = 0;
  /** The bit up to which byte arrays stand for bit-fields. */
  let covered = 0;
  for (const [index, [, field]] of entries.entries()) {
    const { type, offset = NaN, bitOffset = offset * 8 } = field ?? {};
    if (!isType(type) || !isCount(bitOffset)) return undefined;
    const bits = widthOf(type) ?? type.size * 8;
    if (bitOffset < end || bitOffset + bits > size * 8) return undefined;
    if (bitOffset > (hasBits ? maxOffsetWithBitFields : maxOffset)) return undefined;
    if (!isUnion) end = bitOffset + bits;
    // The kernel rejects members that do not begin at a byte where it looks for special fields (btf_find_struct_field, since 6.11).
    if (types.hasOpaque && isBits(type)) {
      const from = Math.floor(bitOffset / 8);
      const first = from * 8 >= covered ? from : Math.ceil(covered / 8);
      const length = Math.ceil((bitOffset + bits) / 8) - first;
      if (length <= 0) continue;
      covered = (first + length) * 8;
      const typeId = types.array(unsignedChar(types), length);
      members.push({ name: names[index] as string, typeId, bitOffset: first * 8 });
      continue;
    }
    const member = memberType(types, type, bitOffset, bits);
    // In structs with bit-fields the kernel assumes 4 bytes for an enum unless the member has a width
    // (btf_enum_check_kflag_member).
    const isSized =
      hasBits && !types.hasOpaque && (isBits(type) || (type.kind === "enum" && bits < 32));
    members.push({
      name: names[index] as string,
      typeId: typeof member === "number" ? member : part(member),
      bitOffset,
      ...(isSized && { bitSize: bits }),
    });
  }
  return members;
}

/** Returns the type of a member, or the id of a substitute where the kernel would reject it. */
function memberType(
  types: CTypeWriter,
  type: Type<unknown>,
  bitOffset: number,
  bits: number,
): Type<unknown> | number {
  // Misaligned floats are rejected (btf_float_check_member in kernel/bpf/btf.c).
  if (/^f\d/.test(type.kind) && bitOffset % bits !== 0) {
    return types.array(unsignedChar(types), type.size);
  }
  if (!isBits(type)) return type;
  const { base } = type;
  // Bit-fields of an enum that are wider than an int.
  return base.kind === "enum" && bits > 32 ? (base as EnumType<string, number>).base : base;
}

/** The number of bits of a bit-field. */
function widthOf(type: Type<unknown> | undefined): number | undefined {
  return isBits(type) ? type.width : undefined;
}

/** Returns true for what {@link bits} makes; a type from elsewhere may call itself so. */
export function isBits(type: Type<unknown> | undefined): type is BitsType<unknown> {
  const { kind, base, width } = (type ?? {}) as Partial<BitsType<unknown>>;
  return kind === "bits" && isType(base) && isCount(width);
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
 * Returns a different C identifier for each name, in order. A name that is an identifier already does not change, whatever the
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
