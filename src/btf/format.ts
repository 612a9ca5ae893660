/** @module The raw form of BTF: a header, the types as 32-bit words, and their names. */

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

/** The names of the kernel's numbers of kinds. */
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

/** The kind of a BTF type, as the kernel's `BTF_KIND_*` names it. */
export type BtfKind = (typeof kindNames)[keyof typeof kindNames];

/** The kernel's numbers of kinds, by their names. */
export const kindNumbers = /* @__PURE__ */ numbersByName();

function numbersByName(): Readonly<Record<BtfKind, number>> {
  const numbers = Object.entries(kindNames).map(([number, name]) => [name, Number(number)]);
  return Object.fromEntries(numbers) as Record<BtfKind, number>;
}

/**
 * The kind in the word `info` of a type: 7 bits since Linux 7.2, 5 before, where the 2 others are zero.
 */
export function kindOf(info: number): number {
  return (info >>> 24) & kindMask;
}

/** The number of entries in the word `info`: 24 bits since Linux 7.2, 16 before, where the 8 others are zero. */
export function entryCountOf(info: number): number {
  return info & 0xffffff;
}

/** The flag in the word `info`: its meaning depends on the kind. */
export function flagOf(info: number): boolean {
  return info >>> 31 === 1;
}

const kindMask = 0x7f;
const unknownKind = 0xff;

/** The linkage of a function or variable: seen in its own file, in all files, or defined elsewhere. */
export type BtfLinkage = "static" | "global" | "extern";

/** Linkages by the kernel's numbers, which are the same for functions and variables. */
export const linkages: readonly BtfLinkage[] = ["static", "global", "extern"];

/** For each kind, the 32-bit words before its entries, and those of each of its `vlen` entries: members, enumerators, parameters. */
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

/** The words before the entries, by kind. An array of bytes: every type is looked up in it. */
const fixedWords = /* @__PURE__ */ wordsByKind(1, unknownKind);
/** The words of each entry, by kind. */
const entryWords = /* @__PURE__ */ wordsByKind(2, 0);

function wordsByKind(column: 1 | 2, ofUnknown: number): Uint8Array {
  const words = new Uint8Array(kindMask + 1).fill(ofUnknown);
  for (const row of wordsOfKinds) words[row[0]] = row[column];
  return words;
}

/** Kinds whose third word is a size; for the others it is a type. */
export const sizedKinds = new Set([
  BTF_KIND_INT,
  BTF_KIND_STRUCT,
  BTF_KIND_UNION,
  BTF_KIND_ENUM,
  BTF_KIND_DATASEC,
  BTF_KIND_FLOAT,
  BTF_KIND_ENUM64,
]);

/** Bytes of `struct btf_header` that every version has. */
const headerSize = 24;

/** BTF whose header was checked and whose types were counted, but not decoded. */
export interface RawBtf {
  /** The types, one after another. */
  readonly words: Uint32Array;
  /** The names, each ended by a NUL. */
  readonly strings: Uint8Array;
  /** The index into `words` of each type, by type id; the one of void (id 0) means nothing. */
  readonly starts: Uint32Array;
  /** The offset of each type's name, by type id: a copy side by side, as every look-up goes through all of them. */
  readonly names: Uint32Array;
}

/**
 * Finds the parts of BTF and the start of every type. The bytes are not copied where their alignment allows it.
 *
 * @param isSplit whether types and names go on from those of another BTF
 * @throws {RangeError} if the bytes are not BTF of this machine's byte order, or are cut off or damaged
 */
export function parseRawBtf(bytes: Uint8Array, isSplit = false): RawBtf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < 2 || view.getUint16(0, true) !== BTF_MAGIC) {
    throw new RangeError("not BTF of a little-endian machine: the magic number 0xeb9f is missing");
  }
  if (bytes.byteLength < headerSize) {
    throw new RangeError(
      `BTF is cut off: its header takes ${headerSize} bytes, there are ${bytes.byteLength}`,
    );
  }
  const headerLength = view.getUint32(4, true);
  const typeStart = headerLength + view.getUint32(8, true);
  const typeLength = view.getUint32(12, true);
  const stringStart = headerLength + view.getUint32(16, true);
  const stringLength = view.getUint32(20, true);
  if (typeStart + typeLength > bytes.byteLength || stringStart + stringLength > bytes.byteLength) {
    throw new RangeError(
      `BTF is cut off: its header speaks of ${Math.max(typeStart + typeLength, stringStart + stringLength)} bytes, there are ${bytes.byteLength}`,
    );
  }
  if (typeLength % 4 !== 0) {
    throw new RangeError(`BTF is damaged: its types take ${typeLength} bytes, no multiple of 4`);
  }
  // Name offset 0 is "no name", unless there is a base that has it already; and every name is read up to its NUL.
  const isOpen = stringLength > 0 && bytes[stringStart + stringLength - 1] !== 0;
  if (isOpen || (!isSplit && (stringLength === 0 || bytes[stringStart] !== 0))) {
    throw new RangeError("BTF is damaged: its strings do not begin and end with a NUL");
  }
  // A Uint32Array needs an aligned start, which a section of an object file does not promise.
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
 * Goes through all types once, before the engine has compiled anything: each call, and each property of the array that is
 * looked up anew, costs milliseconds (bench/btf.ts).
 */
function findTypes(words: Uint32Array): Pick<RawBtf, "starts" | "names"> {
  // A type takes three words at least, so this bound holds every index.
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
    // As kindOf() and entryCountOf().
    const kind = (info >>> 24) & kindMask;
    const fixed = fixedWords[kind] as number;
    if (fixed === unknownKind) {
      throw new RangeError(
        `BTF type ${count - 1} has the unknown kind ${kind}: it comes from a newer kernel, or the bytes are damaged`,
      );
    }
    at += fixed + (entryWords[kind] as number) * (info & 0xffffff);
  }
  if (at !== words.length) {
    throw new RangeError(`BTF is cut off: type ${count - 1} goes beyond the end of the types`);
  }
  return { starts: starts.subarray(0, count), names: names.subarray(0, count) };
}
