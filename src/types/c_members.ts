/** @module Encoding of struct and union members as BTF, with C identifiers as names. */

import { type CMember, type CTypeWriter, unsignedChar } from "./c_type.ts";
import type { BitsType, EnumType, Type } from "./type.ts";

/** Greatest number of members or enumerators that every kernel accepts (`vlen` had 16 bits before 7.2). */
export const maxMembers = 0xffff;
/** Greatest offset of a member in bits. */
const maxOffset = 2 ** 32 - 1;
/** Greatest offset in bits in a struct with bit-fields, where the upper 8 bits are the width. */
const maxOffsetWithBitFields = 2 ** 24 - 1;

/** Description of a member by its struct or union. A type that was not made by `t` can have any values here. */
interface Described {
  readonly type?: Type<unknown>;
  readonly offset?: number;
  readonly bitOffset?: number;
}

/**
 * Encodes the members of a struct or union. Returns `undefined` if the description is incomplete or contradictory, or exceeds
 * the limits of BTF.
 *
 * @param isUnion true for a union, whose members overlap
 */
export function encodeMembers(
  types: CTypeWriter,
  { size, fields }: Type<unknown> & { readonly fields?: Readonly<Record<string, Described>> },
  encodeNested: (type: Type<unknown>) => number,
  isUnion: boolean,
): CMember[] | undefined {
  const entries = Object.entries(fields ?? {}).filter(([, field]) => widthOf(field?.type) !== 0);
  if (entries.length === 0 || entries.length > maxMembers) return undefined;
  const names = identifiers(entries.map(([name]) => name));
  const members: CMember[] = [];
  const hasBits = entries.some(([, field]) => widthOf(field?.type) !== undefined);
  let end = 0;
  /** End of the last byte array that replaces bit-fields, in bits. */
  let covered = 0;
  for (const [index, [, field]] of entries.entries()) {
    const { type, offset = NaN, bitOffset = offset * 8 } = field ?? {};
    if (!isType(type) || !isCount(bitOffset)) return undefined;
    const bits = widthOf(type) ?? type.size * 8;
    if (bitOffset < end || bitOffset + bits > size * 8) return undefined;
    if (bitOffset > (hasBits ? maxOffsetWithBitFields : maxOffset)) return undefined;
    if (!isUnion) end = bitOffset + bits;
    // In structs that the kernel searches for special fields, it rejects members that do not begin at a byte boundary
    // (btf_find_struct_field, since 6.11).
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
    // In a struct with bit-fields the kernel assumes 4 bytes for an enum without a width (btf_enum_check_kflag_member).
    const isSized =
      hasBits && !types.hasOpaque && (isBits(type) || (type.kind === "enum" && bits < 32));
    members.push({
      name: names[index] as string,
      typeId: typeof member === "number" ? member : encodeNested(member),
      bitOffset,
      ...(isSized && { bitSize: bits }),
    });
  }
  return members;
}

/** Returns the type of a member, or the id of a byte array if the kernel would reject the type. */
function memberType(
  types: CTypeWriter,
  type: Type<unknown>,
  bitOffset: number,
  bits: number,
): Type<unknown> | number {
  // The kernel rejects misaligned floats (btf_float_check_member in kernel/bpf/btf.c).
  if (/^f\d/.test(type.kind) && bitOffset % bits !== 0) {
    return types.array(unsignedChar(types), type.size);
  }
  if (!isBits(type)) return type;
  const { base } = type;
  // A bit-field of an enum can have at most 32 bits: a wider one is encoded as an integer.
  return base.kind === "enum" && bits > 32 ? (base as EnumType<string, number>).base : base;
}

/** Returns the number of bits of a bit-field; `undefined` for another type. */
function widthOf(type: Type<unknown> | undefined): number | undefined {
  return isBits(type) ? type.width : undefined;
}

/** Returns true for a complete bit-field. A type that was not made by `t` can have the kind without its properties. */
export function isBits(type: Type<unknown> | undefined): type is BitsType<unknown> {
  const { kind, base, width } = (type ?? {}) as Partial<BitsType<unknown>>;
  return kind === "bits" && isType(base) && isCount(width);
}

/** Returns true for a safe integer that is not negative. */
export function isCount(value: number | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Returns true for an object with the size of a type. */
export function isType(type: Type<unknown> | undefined): type is Type<unknown> {
  return typeof type === "object" && type !== null && isCount(type.size) && type.size > 0;
}

/** Greatest length of a name that every kernel accepts (`KSYM_NAME_LEN` was 128 before 6.1). */
const maxNameLength = 127;

/** Keywords of C. */
const keywords = /*@__PURE__*/ new Set(
  /*@__PURE__*/ (
    "auto break case char const continue default do double else enum extern float for goto if inline int long " +
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
  ).split(" "),
);

/**
 * Returns a C identifier for each name, in order and without duplicates. A name that is already an identifier does not change.
 */
export function identifiers(names: readonly string[]): string[] {
  const taken = new Set(names.filter(isIdentifier));
  return names.map((name) => {
    if (isIdentifier(name)) return name;
    const stem = stemOf(name);
    let candidate = stem;
    for (let count = 2; taken.has(candidate); count++) {
      const suffix = `_${count}`;
      candidate = stem.slice(0, maxNameLength - suffix.length) + suffix;
    }
    taken.add(candidate);
    return candidate;
  });
}

function isIdentifier(name: string): boolean {
  return (
    /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && name.length <= maxNameLength && !keywords.has(name)
  );
}

function stemOf(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/gu, "_");
  if (keywords.has(letters)) return `${letters}_`;
  return (/^[A-Za-z_]/.test(letters) ? letters : `_${letters}`).slice(0, maxNameLength);
}
