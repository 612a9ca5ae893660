/** @module Values of JavaScript of the bytes of BTF types. */

import type { BtfGraph, BtfMember, BtfType } from "./graph.ts";

/** A value of a BTF type as a value of JavaScript: see {@link Btf.decode}. */
export type BtfValue = number | bigint | boolean | string | BtfValue[] | BtfRecord;

/** A struct, union or section: its members or variables by their names. */
export interface BtfRecord {
  [name: string]: BtfValue;
}

/** Options of {@link Btf.decode}. */
export interface BtfDecodeOptions {
  /** Pointers as bigints, or as hexadecimal texts, which tell them from numbers: `"0xffff888003a40000"`. @default "bigint" */
  readonly pointers?: "bigint" | "hex";
}

/**
 * Reads a value at `at`. What it belongs to ends at `end`: an array without a length, as the last member of a struct, goes
 * on until there.
 */
type Reader = (view: DataView, at: number, end: number) => BtfValue;

/** A member with those of anonymous structs and unions among them. */
interface FlatMember {
  readonly name: string;
  readonly offset: number;
  /** The end of an array without a length, from the start of the outermost struct; `undefined` for that struct's end. */
  readonly end: number | undefined;
  readonly read: Reader;
}

/** Structs within one another: the kernel takes no more either (MAX_RESOLVE_DEPTH). */
const greatestDepth = 32;

/** Members of a struct with those of anonymous ones: damaged types, or such as were made for it, can have 2^32. */
const mostMembers = 1 << 16;

/** Makes JavaScript's values of bytes. Each type gets its reader once. */
export class Decoder {
  readonly #graph: BtfGraph;
  readonly #hexPointers: boolean;
  readonly #readers = new Map<number, Reader>();
  #depth = 0;

  constructor(graph: BtfGraph, { pointers = "bigint" }: BtfDecodeOptions) {
    this.#graph = graph;
    this.#hexPointers = pointers === "hex";
  }

  /** @throws {RangeError} when there are fewer bytes than the type takes, or the type has no values */
  decode(id: number, bytes: Uint8Array): BtfValue {
    const reader = this.#reader(id);
    const size = this.#graph.sizeOf(valueType(this.#graph, id).id);
    if (bytes.byteLength < size) {
      throw new RangeError(`BTF type ${id} takes ${size} bytes, got ${bytes.byteLength}`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return reader(view, 0, bytes.byteLength);
  }

  #reader(id: number): Reader {
    const type = valueType(this.#graph, id);
    let reader = this.#readers.get(type.id);
    if (reader === undefined) {
      if (++this.#depth > greatestDepth) {
        throw new RangeError(
          `BTF type ${id} is within more than ${greatestDepth} others: the bytes are damaged`,
        );
      }
      try {
        reader = this.#makeReader(type);
      } finally {
        this.#depth--;
      }
      this.#readers.set(type.id, reader);
    }
    return reader;
  }

  #makeReader(type: BtfType): Reader {
    switch (type.kind) {
      case "int":
        return this.#integer(type);
      case "enum":
      case "enum64":
        return this.#enumeration(type);
      case "ptr":
        return this.#hexPointers
          ? (view, at) => `0x${view.getBigUint64(at, true).toString(16)}`
          : (view, at) => view.getBigUint64(at, true);
      case "float":
        return float(type);
      case "array":
        return this.#array(type);
      case "struct":
      case "union":
        return this.#composite(type);
      case "datasec":
        return this.#section(type);
      default:
        throw new RangeError(
          `BTF type ${type.id} is of the kind ${type.kind}: it has no values to decode`,
        );
    }
  }

  #integer({ id, size }: BtfType): Reader {
    const { isSigned, isBool, bitOffset, bitSize } = this.#graph.integer(id);
    // As compilers described bit-fields at first: by an integer of fewer bits than its bytes have.
    if (bitOffset !== 0 || (bitSize !== 0 && bitSize < size * 8)) {
      const finish = isBool ? truth : asIs;
      return (view, at) => finish(readBits(view, at * 8 + bitOffset, bitSize, size, isSigned));
    }
    const read = readNumber(size, isSigned);
    if (read === undefined) return (view, at) => byteList(view, at, size);
    return isBool ? (view, at) => truth(read(view, at)) : read;
  }

  #enumeration(type: BtfType): Reader {
    const { size } = type;
    const name = this.#enumeratorNames(type);
    const { isSigned = false } = type;
    const read = readNumber(size, isSigned);
    return read === undefined
      ? (view, at) => byteList(view, at, size)
      : (view, at) => name(read(view, at));
  }

  /** Returns a function from the number of an enumerator to its name, or to the number where it has none. */
  #enumeratorNames({ id, size }: BtfType): (value: number | bigint) => string | number | bigint {
    const names = new Map<bigint, string>();
    const bits = size * 8;
    for (const { name, value } of this.#graph.enumerators(id)) {
      // Compared without sign: not every compiler says whether an enum has one.
      const key = BigInt.asUintN(bits, BigInt(value));
      if (!names.has(key)) names.set(key, name);
    }
    return (value) => names.get(BigInt.asUintN(bits, BigInt(value))) ?? value;
  }

  #array({ typeId, length, id }: BtfType): Reader {
    const element = valueType(this.#graph, typeId);
    const size = this.#graph.sizeOf(typeId);
    const read = this.#reader(typeId);
    const isText = isCharacter(this.#graph, element);
    // Without a length, as many as there is room for.
    const isFlexible = length === 0;
    if (!isFlexible && !Number.isSafeInteger(size * length)) {
      throw new RangeError(`BTF type ${id} is larger than any value: the bytes are damaged`);
    }
    return (view, at, end) => {
      const count = size === 0 ? 0 : isFlexible ? Math.floor((end - at) / size) : length;
      // Before there is an array for so many: a damaged length may be that of gigabytes.
      if (at + count * size > view.byteLength) {
        throw new RangeError(
          `the ${count} elements of BTF type ${id} at ${at} are beyond the end of the ${view.byteLength} bytes there are`,
        );
      }
      if (isText) {
        const text = textOf(view, at, count);
        if (text !== undefined) return text;
      }
      const elements = new Array<BtfValue>(count);
      for (let index = 0; index < count; index++) {
        const start = at + index * size;
        elements[index] = read(view, start, start + size);
      }
      return elements;
    };
  }

  #composite(type: BtfType): Reader {
    return record(this.#flatMembers(type, 0, true), type.size);
  }

  /** @param isLast whether the struct ends where the outermost one does */
  #flatMembers(type: BtfType, base: number, isLast: boolean): FlatMember[] {
    const members = this.#graph.members(type.id);
    const flat = members.flatMap((member, index) => {
      const isAtEnd = isLast && (type.kind === "union" || index === members.length - 1);
      const offset = base + Math.floor(member.bitOffset / 8);
      const inner = valueType(this.#graph, member.typeId);
      const isComposite = inner.kind === "struct" || inner.kind === "union";
      if (member.name === "" && isComposite) return this.#anonymous(inner, offset, isAtEnd);
      // An array without a length takes no room: where it is not at the end it is empty.
      const end = isAtEnd ? undefined : offset + this.#graph.sizeOf(member.typeId);
      const isBitField = member.bitSize !== 0 || member.bitOffset % 8 !== 0;
      const read = isBitField ? this.#bitField(member, inner) : this.#reader(member.typeId);
      return { name: member.name, offset, end, read };
    });
    checkMemberCount(type.id, flat.length);
    return flat;
  }

  #anonymous(inner: BtfType, offset: number, isAtEnd: boolean): FlatMember[] {
    if (++this.#depth > greatestDepth) {
      throw new RangeError(
        `BTF type ${inner.id} is within more than ${greatestDepth} others: the bytes are damaged`,
      );
    }
    try {
      return this.#flatMembers(inner, offset, isAtEnd);
    } finally {
      this.#depth--;
    }
  }

  #bitField(member: BtfMember, type: BtfType): Reader {
    const { size, id } = type;
    const isEnum = type.kind === "enum" || type.kind === "enum64";
    if (type.kind !== "int" && !isEnum) {
      throw new RangeError(`a bit-field of the kind ${type.kind}: the bytes are damaged`);
    }
    const integer = isEnum ? undefined : this.#graph.integer(id);
    const isSigned = integer?.isSigned ?? type.isSigned ?? false;
    const finish = isEnum ? this.#enumeratorNames(type) : integer?.isBool === true ? truth : asIs;
    // Where the struct does not say the width, the integer does.
    const bits = member.bitSize || (integer?.bitSize ?? size * 8);
    const bit = (member.bitOffset % 8) + (member.bitSize === 0 ? (integer?.bitOffset ?? 0) : 0);
    return (view, at) => finish(readBits(view, at * 8 + bit, bits, size, isSigned));
  }

  #section({ id, size }: BtfType): Reader {
    const taken = new Set<string>();
    const members = this.#graph.variables(id).map(({ name, typeId, offset, size: length }) => {
      // Variables of functions may share a name.
      const unique = taken.has(name) ? `${name}@${offset}` : name;
      taken.add(unique);
      return { name: unique, offset, end: offset + length, read: this.#reader(typeId) };
    });
    const needed = Math.max(size, ...members.map(({ end }) => end));
    if (needed > size) throw new RangeError(`BTF type ${id} is smaller than its variables`);
    return record(members, size);
  }
}

/** @throws {RangeError} when there are more members than any struct has */
export function checkMemberCount(id: number, count: number): void {
  if (count > mostMembers) {
    throw new RangeError(
      `BTF type ${id} has more than ${mostMembers} members: the bytes are damaged`,
    );
  }
}

/** The type that values are of: what is behind typedefs, qualifiers and the name of a variable. */
export function valueType(graph: BtfGraph, id: number): BtfType {
  const type = graph.resolve(id);
  return type.kind === "var" ? graph.resolve(type.typeId) : type;
}

/** Tells types whose arrays are text. */
export function isCharacter(graph: BtfGraph, { kind, size, name, id }: BtfType): boolean {
  if (kind !== "int" || size !== 1) return false;
  // Compilers seldom say that it is one.
  return name === "char" || graph.integer(id).isChar;
}

/** Reads an object of these members. */
function record(members: readonly FlatMember[], size: number): Reader {
  for (const { name, offset } of members) {
    if (offset > size) throw new RangeError(`member ${name} is outside of its struct`);
  }
  return (view, at, end) => {
    const object: BtfRecord = {};
    for (const member of members) {
      const value = member.read(
        view,
        at + member.offset,
        member.end === undefined ? end : at + member.end,
      );
      setMember(object, member.name, value);
    }
    return object;
  };
}

/** Sets a property, whatever its name is. */
export function setMember(object: BtfRecord, name: string, value: BtfValue): void {
  if (name === "__proto__") Object.defineProperty(object, name, { value, enumerable: true });
  else object[name] = value;
}

function float({ size }: BtfType): Reader {
  if (size === 8) return (view, at) => view.getFloat64(at, true);
  if (size === 4) return (view, at) => view.getFloat32(at, true);
  // Those of other sizes JavaScript has no number for.
  return (view, at) => byteList(view, at, size);
}

function truth(value: number | bigint): boolean {
  return value !== 0 && value !== 0n;
}

function asIs(value: number | bigint): number | bigint {
  return value;
}

/** Reads an integer: a number up to 4 bytes, a bigint beyond. */
type NumberReader = (view: DataView, at: number) => number | bigint;

/** Reads an integer of so many bytes; `undefined` for a size that C has no integers of. */
function readNumber(size: number, isSigned: boolean): NumberReader | undefined {
  switch (size) {
    case 1:
      return isSigned ? (view, at) => view.getInt8(at) : (view, at) => view.getUint8(at);
    case 2:
      return isSigned
        ? (view, at) => view.getInt16(at, true)
        : (view, at) => view.getUint16(at, true);
    case 4:
      return isSigned
        ? (view, at) => view.getInt32(at, true)
        : (view, at) => view.getUint32(at, true);
    case 8:
      return isSigned
        ? (view, at) => view.getBigInt64(at, true)
        : (view, at) => view.getBigUint64(at, true);
    case 16:
      return (view, at) => {
        const high = isSigned ? view.getBigInt64(at + 8, true) : view.getBigUint64(at + 8, true);
        return (high << 64n) | view.getBigUint64(at, true);
      };
    default:
      return undefined;
  }
}

/**
 * Reads some of the bits, counted from the start of the view: the least significant one of a byte comes first.
 *
 * @param size of the type that they belong to, in bytes: it decides between number and bigint
 */
export function readBits(
  view: DataView,
  bit: number,
  bits: number,
  size: number,
  isSigned: boolean,
): number | bigint {
  let value = 0n;
  // Only the bytes that have some of the bits: those behind may not be there.
  for (let at = (bit + bits - 1) >> 3; at >= bit >> 3; at--) {
    value = (value << 8n) | BigInt(view.getUint8(at));
  }
  value >>= BigInt(bit & 7);
  value = isSigned ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  return size <= 4 ? Number(value) : value;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Control characters other than white space: text has none. */
const controls = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/;

/** The bytes as numbers. @throws {RangeError} when the view has not so many */
function byteList(view: DataView, at: number, length: number): number[] {
  return [...bytesOf(view, at, length)];
}

/**
 * The text up to the first NUL, or `undefined` where it is none: without a NUL, or with bytes that no text has.
 *
 * @throws {RangeError} when the view has not so many bytes
 */
function textOf(view: DataView, at: number, length: number): string | undefined {
  const bytes = bytesOf(view, at, length);
  const end = bytes.indexOf(0);
  if (end === -1) return undefined;
  // Bytes that begin with a NUL and go on are more likely numbers.
  if (end === 0) return bytes.some((byte) => byte !== 0) ? undefined : "";
  try {
    const text = utf8.decode(bytes.subarray(0, end));
    return controls.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

function bytesOf(view: DataView, at: number, length: number): Uint8Array {
  if (at + length > view.byteLength) {
    throw new RangeError(
      `${length} bytes at ${at} are beyond the end of the ${view.byteLength} there are`,
    );
  }
  return new Uint8Array(view.buffer, view.byteOffset + at, length);
}
