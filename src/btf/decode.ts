/** @module Values of JavaScript of the bytes of BTF types. */

import { ipv4, ipv6 } from "../types/address.ts";
import { bytesAt } from "../types/memory.ts";
import type { Type } from "../types/type.ts";
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

/** Reads the members of a struct at `at` into an object: its own, or that of the struct of which it is an anonymous part. */
type Filler = (view: DataView, at: number, end: number, into: BtfRecord) => void;

/** A member of a struct or union, or a variable of a section. */
interface Member {
  readonly offset: number;
  /** The end of an array without a length, from the start of the struct; `undefined` for that struct's end. */
  readonly end: number | undefined;
  readonly fill: Filler;
}

/** Most structs and arrays within one another. The kernel takes more, but no program has more. */
const maxDepth = 32;

/**
 * Returns the most values that some bytes may yield: a union yields several for the same bytes, and a crafted type up to 2^32. The
 * structs of Linux 6.18 yield at most 34 for each byte; large values are mostly arrays.
 */
export function maxValues(byteLength: number): number {
  return 1024 + Math.min(byteLength * 64, byteLength * 4 + (1 << 20));
}

/** The refusal of a type that makes more values than {@link maxValues}. */
export function tooManyValues(id: number, byteLength: number): RangeError {
  return new RangeError(
    `BTF type ${id} makes more than ${maxValues(byteLength)} values of ${byteLength} bytes: its members overlap too often`,
  );
}

/** Makes JavaScript's values of bytes. Each type gets its reader once. */
export class Decoder {
  readonly #graph: BtfGraph;
  readonly #hexPointers: boolean;
  /** Readers by type id, which is negated for integers in network byte order. */
  readonly #readers = new Map<number, Reader>();
  readonly #fillers = new Map<number, Filler>();
  /** Names of enumerators by type id: a struct may have many bit-fields of one enum. */
  readonly #names = new Map<number, EnumeratorNames>();
  #depth = 0;
  /** The number of bytes that are being decoded, and the number of values that they may still yield. */
  #byteLength = 0;
  #left = 0;

  constructor(graph: BtfGraph, { pointers = "bigint" }: BtfDecodeOptions) {
    this.#graph = graph;
    this.#hexPointers = pointers === "hex";
  }

  /**
   * @throws {RangeError} if there are fewer bytes than the type takes, it has no values, or yields more than {@link maxValues}
   *   for the bytes
   */
  decode(id: number, bytes: Uint8Array): BtfValue {
    const reader = this.#reader(id);
    const size = this.#graph.sizeOf(valueType(this.#graph, id).id);
    if (bytes.byteLength < size) {
      throw new RangeError(`BTF type ${id} takes ${size} bytes, got ${bytes.byteLength}`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#byteLength = bytes.byteLength;
    this.#left = maxValues(bytes.byteLength);
    return reader(view, 0, bytes.byteLength);
  }

  #spend(id: number, count: number): void {
    this.#left -= count;
    if (this.#left < 0) throw tooManyValues(id, this.#byteLength);
  }

  #reader(id: number): Reader {
    const type = valueType(this.#graph, id);
    const key = type.kind === "int" && isInNetworkOrder(this.#graph, id) ? -type.id : type.id;
    let reader = this.#readers.get(key);
    if (reader === undefined) {
      reader = key < 0 ? networkInteger(type) : this.#makeReader(type);
      this.#readers.set(key, reader);
    }
    return reader;
  }

  /** Makes the readers of the parts of a type. */
  #within<T>(id: number, make: () => T): T {
    if (++this.#depth > maxDepth) {
      throw new RangeError(
        `BTF type ${id} is within more than ${maxDepth} others: deeper ones are not decoded`,
      );
    }
    try {
      return make();
    } finally {
      this.#depth--;
    }
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
        return this.#float(type);
      case "array":
        return this.#array(type);
      case "struct":
      case "union":
        return addressOf(type) ?? this.#composite(type);
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
      const finish = isBool ? toBoolean : identity;
      return (view, at) => finish(readBits(view, at * 8 + bitOffset, bitSize, size, isSigned));
    }
    const read = readNumber(size, isSigned);
    if (read === undefined) return this.#bytes(id, size);
    return isBool ? (view, at) => toBoolean(read(view, at)) : read;
  }

  #enumeration(type: BtfType): Reader {
    const { id, size, isSigned = false } = type;
    const read = readNumber(size, isSigned);
    if (read === undefined) return this.#bytes(id, size);
    const names = this.#enumeratorNames(type);
    return (view, at) => {
      const value = read(view, at);
      return names.of(value, size * 8) ?? value;
    };
  }

  #enumeratorNames(type: BtfType): EnumeratorNames {
    return this.#names.getOrInsertComputed(type.id, () => new EnumeratorNames(this.#graph, type));
  }

  #float({ id, size }: BtfType): Reader {
    if (size === 8) return (view, at) => view.getFloat64(at, true);
    if (size === 4) return (view, at) => view.getFloat32(at, true);
    return this.#bytes(id, size);
  }

  /** Reads numbers that JavaScript has no type for as their bytes. */
  #bytes(id: number, size: number): Reader {
    return (view, at) => {
      this.#spend(id, size);
      return [...checkedBytes(view, at, size)];
    };
  }

  #array({ typeId, length, id }: BtfType): Reader {
    const element = valueType(this.#graph, typeId);
    const size = this.#graph.sizeOf(typeId);
    const read = this.#within(id, () => this.#reader(typeId));
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
      this.#spend(id, count);
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
    const fill = this.#filler(type);
    return (view, at, end) => {
      const record: BtfRecord = {};
      fill(view, at, end, record);
      return record;
    };
  }

  #filler(type: BtfType): Filler {
    let filler = this.#fillers.get(type.id);
    if (filler === undefined) {
      filler = this.#within(type.id, () => this.#makeFiller(type));
      this.#fillers.set(type.id, filler);
    }
    return filler;
  }

  #makeFiller({ id, kind, size }: BtfType): Filler {
    const members = this.#graph.members(id);
    return this.#fillAll(
      id,
      members.map((member, index): Member => {
        const offset = Math.floor(member.bitOffset / 8);
        if (offset > size) throw new RangeError(`member ${member.name} is outside of its struct`);
        const isAtEnd = kind === "union" || index === members.length - 1;
        // An array without a length takes no room: where it is not at the end it is empty.
        const end = isAtEnd ? undefined : offset + this.#graph.sizeOf(member.typeId);
        const inner = valueType(this.#graph, member.typeId);
        const isComposite = inner.kind === "struct" || inner.kind === "union";
        if (member.name === "" && isComposite) return { offset, end, fill: this.#filler(inner) };
        const isBitField = member.bitSize !== 0 || member.bitOffset % 8 !== 0;
        const read = isBitField ? this.#bitField(member, inner) : this.#reader(member.typeId);
        return { offset, end, fill: named(member.name, read) };
      }),
    );
  }

  #fillAll(id: number, members: readonly Member[]): Filler {
    return (view, at, end, into) => {
      this.#spend(id, members.length);
      for (const { offset, end: ownEnd, fill } of members) {
        fill(view, at + offset, ownEnd === undefined ? end : at + ownEnd, into);
      }
    };
  }

  #bitField(member: BtfMember, type: BtfType): Reader {
    const { size, id } = type;
    const isEnum = type.kind === "enum" || type.kind === "enum64";
    if (type.kind !== "int" && !isEnum) {
      throw new RangeError(`a bit-field of the kind ${type.kind}: the bytes are damaged`);
    }
    const bits = member.bitSize || size * 8;
    const bit = member.bitOffset % 8;
    if (isEnum) {
      const names = this.#enumeratorNames(type);
      return (view, at) => {
        const value = readBits(view, at * 8 + bit, bits, size, type.isSigned ?? false);
        return names.of(value, bits) ?? value;
      };
    }
    const { isSigned, isBool } = this.#graph.integer(id);
    const finish = isBool ? toBoolean : identity;
    return (view, at) => finish(readBits(view, at * 8 + bit, bits, size, isSigned));
  }

  #section({ id, size }: BtfType): Reader {
    const taken = new Set<string>();
    const members = this.#graph.variables(id).map((variable): Member => {
      const { name, typeId, offset } = variable;
      const end = offset + variable.size;
      if (end > size) throw new RangeError(`BTF type ${id} is smaller than its variables`);
      // Variables of functions may share a name.
      const unique = taken.has(name) ? `${name}@${offset}` : name;
      taken.add(unique);
      const read = this.#within(id, () => this.#reader(typeId));
      return { offset, end, fill: named(unique, read) };
    });
    const fill = this.#fillAll(id, members);
    return (view, at, end) => {
      const record: BtfRecord = {};
      fill(view, at, end, record);
      return record;
    };
  }
}

/** Reads a value into a property. */
function named(name: string, read: Reader): Filler {
  return (view, at, end, into) => setMember(into, name, read(view, at, end));
}

/** The names of an enum's values. */
export class EnumeratorNames {
  readonly #graph: BtfGraph;
  readonly #type: BtfType;
  /** Bits of a value in the BTF. */
  readonly #width: number;
  /** By the values as unsigned integers. Read on first use. */
  #names: Map<bigint, string> | undefined;

  constructor(graph: BtfGraph, type: BtfType) {
    this.#graph = graph;
    this.#type = type;
    this.#width = type.kind === "enum64" ? 64 : 32;
  }

  /**
   * Returns the name of a value with this number of bits; `undefined` where it has none.
   *
   * Not every compiler records whether an enum is signed: one that looks unsigned can have negative enumerators.
   */
  of(value: number | bigint, bits: number): string | undefined {
    const { isSigned = false } = this.#type;
    const unsigned = BigInt.asUintN(bits, BigInt(value));
    const signed = BigInt.asIntN(bits, unsigned);
    const name = isSigned ? undefined : this.#find(unsigned, BigInt.asUintN(this.#width, unsigned));
    if (name !== undefined || (!isSigned && signed >= 0n)) return name;
    return this.#find(signed, BigInt.asIntN(this.#width, signed));
  }

  /** @param kept the value cut to the width of the BTF: where that changes it, it has no name */
  #find(value: bigint, kept: bigint): string | undefined {
    if (value !== kept) return undefined;
    this.#names ??= this.#read();
    return this.#names.get(BigInt.asUintN(this.#width, value));
  }

  #read(): Map<bigint, string> {
    const names = new Map<bigint, string>();
    for (const { name, value } of this.#graph.enumerators(this.#type.id)) {
      const key = BigInt.asUintN(this.#width, BigInt(value));
      if (!names.has(key)) names.set(key, name);
    }
    return names;
  }
}

/** The kernel's integers in network byte order, and their sizes. */
const networkIntegers: ReadonlyMap<string, number> = new Map([
  ["__be16", 2],
  ["__be32", 4],
  ["__be64", 8],
]);

/** Returns true for an integer in network byte order, by the names of its typedefs. */
export function isInNetworkOrder(graph: BtfGraph, id: number): boolean {
  let type = graph.type(id);
  while (type.kind !== "int") {
    const size = type.kind === "typedef" ? networkIntegers.get(type.name) : undefined;
    if (size !== undefined) return size === graph.sizeOf(type.id);
    type = graph.type(type.typeId);
  }
  return false;
}

function networkInteger({ size }: BtfType): Reader {
  if (size === 2) return (view, at) => view.getUint16(at);
  if (size === 4) return (view, at) => view.getUint32(at);
  return (view, at) => view.getBigUint64(at);
}

/** The kernel's structs of IP addresses. */
export const addressTypes: ReadonlyMap<string, Type<string>> = new Map([
  ["in_addr", ipv4],
  ["in6_addr", ipv6],
]);

/** Reads IP addresses as text; `undefined` for another struct. */
function addressOf({ name, size }: BtfType): Reader | undefined {
  const address = addressTypes.get(name);
  return address?.size === size ? (view, at) => address.read(view, at) : undefined;
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

/** Sets a property, whatever its name is. */
export function setMember(object: BtfRecord, name: string, value: BtfValue): void {
  if (name !== "__proto__") object[name] = value;
  else {
    Object.defineProperty(object, name, {
      ...{ value, enumerable: true, writable: true, configurable: true },
    });
  }
}

function toBoolean(value: number | bigint): boolean {
  return value !== 0 && value !== 0n;
}

function identity(value: number | bigint): number | bigint {
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

/**
 * The text up to the first NUL, or `undefined` where it is none: without a NUL, or with bytes that no text has.
 *
 * @throws {RangeError} if the view has not so many bytes
 */
function textOf(view: DataView, at: number, length: number): string | undefined {
  const bytes = checkedBytes(view, at, length);
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

function checkedBytes(view: DataView, at: number, length: number): Uint8Array {
  if (at + length > view.byteLength) {
    throw new RangeError(
      `${length} bytes at ${at} are beyond the end of the ${view.byteLength} there are`,
    );
  }
  return bytesAt(view, at, length);
}
