/** @module Parsing of raw BTF: a header, the types as 32-bit words, and the strings. */

import {
  BTF_KIND_ARRAY,
  BTF_KIND_CONST,
  BTF_KIND_DATASEC,
  BTF_KIND_DECL_TAG,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_FLOAT,
  BTF_KIND_FUNC,
  BTF_KIND_FUNC_PROTO,
  BTF_KIND_FWD,
  BTF_KIND_INT,
  BTF_KIND_PTR,
  BTF_KIND_RESTRICT,
  BTF_KIND_STRUCT,
  BTF_KIND_TYPEDEF,
  BTF_KIND_TYPE_TAG,
  BTF_KIND_UNION,
  BTF_KIND_UNKN,
  BTF_KIND_VAR,
  BTF_KIND_VOLATILE,
  BTF_MAGIC,
} from "../uapi/btf.ts";

/** Names of the kinds, by the kernel's numbers. */
export const kindNames = {
  [BTF_KIND_UNKN]: "void",
  [BTF_KIND_INT]: "int",
  [BTF_KIND_PTR]: "ptr",
  [BTF_KIND_ARRAY]: "array",
  [BTF_KIND_STRUCT]: "struct",
  [BTF_KIND_UNION]: "union",
  [BTF_KIND_ENUM]: "enum",
  [BTF_KIND_FWD]: "fwd",
  [BTF_KIND_TYPEDEF]: "typedef",
  [BTF_KIND_VOLATILE]: "volatile",
  [BTF_KIND_CONST]: "const",
  [BTF_KIND_RESTRICT]: "restrict",
  [BTF_KIND_FUNC]: "func",
  [BTF_KIND_FUNC_PROTO]: "func_proto",
  [BTF_KIND_VAR]: "var",
  [BTF_KIND_DATASEC]: "datasec",
  [BTF_KIND_FLOAT]: "float",
  [BTF_KIND_DECL_TAG]: "decl_tag",
  [BTF_KIND_TYPE_TAG]: "type_tag",
  [BTF_KIND_ENUM64]: "enum64",
} as const;

/** Kind of a BTF type: the kernel's `BTF_KIND_*` in lower case, such as `"struct"`, `"func_proto"` and `"datasec"`. */
export type BtfKind = (typeof kindNames)[keyof typeof kindNames];

/** The kernel's numbers of the kinds, by name. */
export const kindNumbers = /* @__PURE__ */ numbersByName();

function numbersByName(): Readonly<Record<BtfKind, number>> {
  const numbers = Object.entries(kindNames).map(([number, name]) => [name, Number(number)]);
  return Object.fromEntries(numbers) as Record<BtfKind, number>;
}

/** Returns the kind in a type's `info`. It has 7 bits since Linux 7.2; before, it had 5, and the 2 others were 0. */
export function kindOf(info: number): number {
  return (info >>> 24) & kindMask;
}

/** Returns the number of entries (`vlen`) in a type's `info`. It has 24 bits since Linux 7.2; before, it had 16, and 8 were 0. */
export function entryCountOf(info: number): number {
  return info & 0xffffff;
}

/** Returns the flag (`kind_flag`) in a type's `info`. Its meaning depends on the kind. */
export function flagOf(info: number): boolean {
  return info >>> 31 === 1;
}

const kindMask = 0x7f;
const unknownKind = 0xff;

/** Linkage of a function or variable: local to its file, visible to other files, or defined elsewhere. */
export type BtfLinkage = "static" | "global" | "extern";

/** Linkages by the kernel's numbers, which are the same for functions and variables. */
export const linkages: readonly BtfLinkage[] = ["static", "global", "extern"];

/** Number of 32-bit words of each kind before its entries (members, enumerators, parameters and so on), and of each entry. */
const wordsOfKinds = [
  [BTF_KIND_INT, 4, 0],
  [BTF_KIND_PTR, 3, 0],
  [BTF_KIND_ARRAY, 6, 0],
  [BTF_KIND_STRUCT, 3, 3],
  [BTF_KIND_UNION, 3, 3],
  [BTF_KIND_ENUM, 3, 2],
  [BTF_KIND_FWD, 3, 0],
  [BTF_KIND_TYPEDEF, 3, 0],
  [BTF_KIND_VOLATILE, 3, 0],
  [BTF_KIND_CONST, 3, 0],
  [BTF_KIND_RESTRICT, 3, 0],
  [BTF_KIND_FUNC, 3, 0],
  [BTF_KIND_FUNC_PROTO, 3, 2],
  [BTF_KIND_VAR, 4, 0],
  [BTF_KIND_DATASEC, 3, 3],
  [BTF_KIND_FLOAT, 3, 0],
  [BTF_KIND_DECL_TAG, 4, 0],
  [BTF_KIND_TYPE_TAG, 3, 0],
  [BTF_KIND_ENUM64, 3, 3],
] as const;

/** Number of words before the entries, by kind. It is a Uint8Array for speed, because it is read for every type. */
const fixedWords = /* @__PURE__ */ wordsByKind(1, unknownKind);
/** Number of words of each entry, by kind. */
const entryWords = /* @__PURE__ */ wordsByKind(2, 0);

function wordsByKind(column: 1 | 2, ofUnknown: number): Uint8Array {
  const words = new Uint8Array(kindMask + 1).fill(ofUnknown);
  for (const row of wordsOfKinds) words[row[0]] = row[column];
  return words;
}

/** Kinds whose third word is a size. For other kinds it is a type id. */
export const sizedKinds = new Set([
  BTF_KIND_INT,
  BTF_KIND_STRUCT,
  BTF_KIND_UNION,
  BTF_KIND_ENUM,
  BTF_KIND_DATASEC,
  BTF_KIND_FLOAT,
  BTF_KIND_ENUM64,
]);

/** Size of `struct btf_header` in bytes. */
const headerSize = 24;

/** Sections of BTF, and the start of each type in them. */
export interface RawBtf {
  /** Type section. */
  readonly words: Uint32Array;
  /** String section: names, each terminated by a NUL. */
  readonly strings: Uint8Array;
  /** Index of each type in `words`, by type id. The entry of void (id 0) is unused. */
  readonly starts: Uint32Array;
  /** Offset of each type's name in the strings, by type id. Look-ups search all offsets, so they are copied into one array. */
  readonly names: Uint32Array;
}

/**
 * Checks the header of BTF, and finds its sections and the start of every type. The bytes are copied only if they are misaligned.
 *
 * @param isSplit true if the BTF has a base, whose types and strings come first
 * @throws {RangeError} if the bytes are not little-endian BTF, or are truncated or damaged.
 */
export function parseRawBtf(bytes: Uint8Array, isSplit = false): RawBtf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < 2 || view.getUint16(0, true) !== BTF_MAGIC) {
    throw new RangeError("not BTF of a little-endian machine: the magic number 0xeb9f is missing");
  }
  if (bytes.byteLength < headerSize) {
    throw new RangeError(
      `BTF is truncated: its header takes ${headerSize} bytes, got ${bytes.byteLength}`,
    );
  }
  const headerLength = view.getUint32(4, true);
  const typeStart = headerLength + view.getUint32(8, true);
  const typeLength = view.getUint32(12, true);
  const stringStart = headerLength + view.getUint32(16, true);
  const stringLength = view.getUint32(20, true);
  if (typeStart + typeLength > bytes.byteLength || stringStart + stringLength > bytes.byteLength) {
    throw new RangeError(
      `BTF is truncated: its header describes ${Math.max(typeStart + typeLength, stringStart + stringLength)} bytes, got ${bytes.byteLength}`,
    );
  }
  if (typeLength % 4 !== 0) {
    throw new RangeError(
      `BTF is damaged: expected its types to take a multiple of 4 bytes, got ${typeLength}`,
    );
  }
  // The string at offset 0 must be empty, except in split BTF, where the base has it. Every string must end with a NUL.
  const isUnterminated = stringLength > 0 && bytes[stringStart + stringLength - 1] !== 0;
  if (isUnterminated || (!isSplit && (stringLength === 0 || bytes[stringStart] !== 0))) {
    throw new RangeError("BTF is damaged: its strings do not begin and end with a NUL");
  }
  // A Uint32Array must be aligned, but a section of an object file can be misaligned.
  const words = new Uint32Array(
    (bytes.byteOffset + typeStart) % 4 === 0
      ? bytes.buffer
      : bytes.slice(typeStart, typeStart + typeLength).buffer,
    (bytes.byteOffset + typeStart) % 4 === 0 ? bytes.byteOffset + typeStart : 0,
    typeLength / 4,
  );
  const strings = bytes.subarray(stringStart, stringStart + stringLength);
  return { words, strings, ...findTypes(words) };
}

/**
 * Finds the start and the name offset of every type. This runs once over more than 100,000 types, before the engine has compiled
 * it: each function call and property access in the loop would add milliseconds (bench/btf.ts).
 */
function findTypes(words: Uint32Array): Pick<RawBtf, "starts" | "names"> {
  // A type takes at least three words.
  const bound = Math.floor(words.length / 3) + 1;
  const starts = new Uint32Array(bound);
  const names = new Uint32Array(bound);
  const end = words.length - 2;
  let count = 1;
  let at = 0;
  while (at < end) {
    starts[count] = at;
    names[count++] = words[at] as number;
    const info = words[at + 1] as number;
    // The following is kindOf() and entryCountOf() without calls.
    const kind = (info >>> 24) & kindMask;
    const fixed = fixedWords[kind] as number;
    if (fixed === unknownKind) {
      throw new RangeError(
        `BTF type ${count - 1} has the unknown kind ${kind}: it is from a newer kernel, or the bytes are damaged`,
      );
    }
    at += fixed + (entryWords[kind] as number) * (info & 0xffffff);
  }
  if (at !== words.length) {
    throw new RangeError(`BTF is truncated: type ${count - 1} extends beyond the end of the types`);
  }
  return { starts: starts.subarray(0, count), names: names.subarray(0, count) };
}
