/** @module Decoding of bytes to JavaScript values by their BTF types. */

import { ipv4, ipv6 } from "../types/address.ts";
import { bytesAt } from "../types/memory.ts";
import type { Type } from "../types/type.ts";
import type { BtfGraph, BtfMember, BtfType } from "./graph.ts";

/** JavaScript value of a BTF type, as returned by {@link Btf.decode}. */
export type BtfValue = number | bigint | boolean | string | BtfValue[] | BtfRecord;

/** JavaScript value of a struct, union or section: its members or variables by name. */
export interface BtfRecord {
  [name: string]: BtfValue;
}

/** Options of {@link Btf.decode}. */
export interface BtfDecodeOptions {
  /**
   * Form of pointers: bigints, or hexadecimal strings such as `"0xffff888003a40000"`, which can be distinguished from integers.
   *
   * @default "bigint"
   */
  readonly pointers?: "bigint" | "hex";
}

/** Reads the value at `at`. `end` is the end of the outer struct, up to which a flexible array member extends. */
type Reader = (view: DataView, at: number, end: number) => BtfValue;

/** Reads the members of a struct at `at` into an object: that of the outer struct if the struct is anonymous. */
type Filler = (view: DataView, at: number, end: number, into: BtfRecord) => void;

/** A member of a struct or union, or a variable of a section. */
interface Member {
  /** Offset in bytes from the start of the struct. */
  readonly offset: number;
  /** End of a flexible array member, in bytes from the start of the struct; `undefined` for the end of the struct. */
  readonly end: number | undefined;
  readonly fill: Filler;
}

/** Greatest nesting of structs and arrays. The kernel accepts deeper types, but programs do not have them. */
const maxDepth = 32;

/**
 * Returns the greatest number of values that bytes may decode to. The members of a union are several values for the same bytes, and
 * a malicious type could have up to 2^32. The structs of Linux 6.18 have at most 34 for each byte; large values are mostly arrays.
 */
export function maxValues(byteLength: number): number {
  return 1024 + Math.min(byteLength * 64, byteLength * 4 + (1 << 20));
}

/** Returns the error for a type with more values than {@link maxValues}. */
export function tooManyValues(id: number, byteLength: number): RangeError {
  return new RangeError(
    `BTF type ${id} has more than ${maxValues(byteLength)} values in ${byteLength} bytes: too many of its members overlap`,
  );
}

/** Decoder of the types of one graph. It makes one reader for each type. */
export class Decoder {
  readonly #graph: BtfGraph;
  readonly #hexPointers: boolean;
  /** Readers by type id. For integers in network byte order the id is negated. */
  readonly #readers = new Map<number, Reader>();
  readonly #fillers = new Map<number, Filler>();
  /** Enumerator names by type id. They are shared by the bit-fields of an enum. */
  readonly #names = new Map<number, EnumeratorNames>();
  #depth = 0;
  /** Number of bytes that are being decoded. */
  #byteLength = 0;
  /** Number of values that these bytes may still have. */
  #left = 0;

  constructor(graph: BtfGraph, { pointers = "bigint" }: BtfDecodeOptions) {
    this.#graph = graph;
    this.#hexPointers = pointers === "hex";
  }

  /**
   * Decodes a value.
   *
   * @throws {RangeError} if there are fewer bytes than the type takes, or it has no values or more than {@link maxValues}.
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
      reader = key < 0 ? makeNetworkIntegerReader(type) : this.#makeReader(type);
      this.#readers.set(key, reader);
    }
    return reader;
  }

  /** Runs a function that makes the readers inside a type. @throws {RangeError} if types are nested too deep. */
  #nested<T>(id: number, make: () => T): T {
    if (++this.#depth > maxDepth) {
      throw new RangeError(`BTF type ${id} is nested in more than ${maxDepth} types`);
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
        return makeAddressReader(type) ?? this.#composite(type);
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
    // Compilers before 2019 described bit-fields by integer types with fewer bits than their bytes have.
    if (bitOffset !== 0 || (bitSize !== 0 && bitSize < size * 8)) {
      const finish = isBool ? toBoolean : identity;
      return (view, at) => finish(readBits(view, at * 8 + bitOffset, bitSize, size, isSigned));
    }
    const read = makeNumberReader(size, isSigned);
    if (read === undefined) return this.#bytes(id, size);
    return isBool ? (view, at) => toBoolean(read(view, at)) : read;
  }

  #enumeration(type: BtfType): Reader {
    const { id, size, isSigned = false } = type;
    const read = makeNumberReader(size, isSigned);
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

  /** Returns a reader for numbers of unusual sizes, which are decoded as arrays of bytes. */
  #bytes(id: number, size: number): Reader {
    return (view, at) => {
      this.#spend(id, size);
      return [...checkedBytes(view, at, size)];
    };
  }

  #array({ typeId, length, id }: BtfType): Reader {
    const element = valueType(this.#graph, typeId);
    const size = this.#graph.sizeOf(typeId);
    const read = this.#nested(id, () => this.#reader(typeId));
    const isText = isCharacter(this.#graph, element);
    const isFlexible = length === 0;
    if (!isFlexible && !Number.isSafeInteger(size * length)) {
      throw new RangeError(`BTF type ${id} is larger than any value: the bytes are damaged`);
    }
    return (view, at, end) => {
      const count = size === 0 ? 0 : isFlexible ? Math.floor((end - at) / size) : length;
      // The length is checked before the array is made, because a damaged length could take gigabytes.
      if (at + count * size > view.byteLength) {
        throw new RangeError(
          `BTF type ${id}, ${count} elements at ${at}, extends beyond the end of the ${view.byteLength} bytes`,
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
      filler = this.#nested(type.id, () => this.#makeFiller(type));
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
        if (offset > size) {
          throw new RangeError(`BTF type ${id}: member ${member.name} is outside of the struct`);
        }
        const isAtEnd = kind === "union" || index === members.length - 1;
        // A flexible array takes no bytes, so one that is not the last member is empty.
        const end = isAtEnd ? undefined : offset + this.#graph.sizeOf(member.typeId);
        const inner = valueType(this.#graph, member.typeId);
        const isComposite = inner.kind === "struct" || inner.kind === "union";
        if (member.name === "" && isComposite) return { offset, end, fill: this.#filler(inner) };
        const isBitField = member.bitSize !== 0 || member.bitOffset % 8 !== 0;
        const read = isBitField ? this.#bitField(member, inner) : this.#reader(member.typeId);
        return { offset, end, fill: memberFiller(member.name, read) };
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
      throw new RangeError(
        `member ${member.name} is a bit-field of the kind ${type.kind}: the bytes are damaged`,
      );
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
      // Static variables of different functions can have the same name.
      const unique = taken.has(name) ? `${name}@${offset}` : name;
      taken.add(unique);
      const read = this.#nested(id, () => this.#reader(typeId));
      return { offset, end, fill: memberFiller(unique, read) };
    });
    const fill = this.#fillAll(id, members);
    return (view, at, end) => {
      const record: BtfRecord = {};
      fill(view, at, end, record);
      return record;
    };
  }
}

/** Returns a filler that reads one value into a property. */
function memberFiller(name: string, read: Reader): Filler {
  return (view, at, end, into) => setMember(into, name, read(view, at, end));
}

/** Names of an enum's values. */
export class EnumeratorNames {
  readonly #graph: BtfGraph;
  readonly #type: BtfType;
  /** Number of bits of a value in BTF. */
  readonly #width: number;
  /** Names by value as an unsigned integer, read on first use. */
  #names: Map<bigint, string> | undefined;

  constructor(graph: BtfGraph, type: BtfType) {
    this.#graph = graph;
    this.#type = type;
    this.#width = type.kind === "enum64" ? 64 : 32;
  }

  /**
   * Returns the name of a value with this number of bits; `undefined` if it has none.
   *
   * Old compilers do not record whether an enum is signed, so an enum that is not marked as signed can have negative enumerators.
   */
  of(value: number | bigint, bits: number): string | undefined {
    const { isSigned = false } = this.#type;
    const unsigned = BigInt.asUintN(bits, BigInt(value));
    const signed = BigInt.asIntN(bits, unsigned);
    const name = isSigned ? undefined : this.#find(unsigned, BigInt.asUintN(this.#width, unsigned));
    if (name !== undefined || (!isSigned && signed >= 0n)) return name;
    return this.#find(signed, BigInt.asIntN(this.#width, signed));
  }

  /** Finds the name of a value. @param truncated the value truncated to the width in BTF; if it differs, the value has no name */
  #find(value: bigint, truncated: bigint): string | undefined {
    if (value !== truncated) return undefined;
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

/** Sizes in bytes of the kernel's integers in network byte order, by name. */
const networkIntegers: ReadonlyMap<string, number> = new Map([
  ["__be16", 2],
  ["__be32", 4],
  ["__be64", 8],
]);

/** Returns true for an integer in network byte order, which has a typedef with the name `__be16`, `__be32` or `__be64`. */
export function isInNetworkOrder(graph: BtfGraph, id: number): boolean {
  let type = graph.type(id);
  while (type.kind !== "int") {
    const size = type.kind === "typedef" ? networkIntegers.get(type.name) : undefined;
    if (size !== undefined) return size === graph.sizeOf(type.id);
    type = graph.type(type.typeId);
  }
  return false;
}

function makeNetworkIntegerReader({ size }: BtfType): Reader {
  if (size === 2) return (view, at) => view.getUint16(at);
  if (size === 4) return (view, at) => view.getUint32(at);
  return (view, at) => view.getBigUint64(at);
}

/** Types of `t` for the kernel's structs of IP addresses, by name. */
export const addressTypes: ReadonlyMap<string, Type<string>> = new Map([
  ["in_addr", ipv4],
  ["in6_addr", ipv6],
]);

/** Returns a reader for a struct of an IP address; `undefined` for another struct. */
function makeAddressReader({ name, size }: BtfType): Reader | undefined {
  const address = addressTypes.get(name);
  return address?.size === size ? (view, at) => address.read(view, at) : undefined;
}

/** Returns the type of the values of a type or variable, without typedefs and qualifiers. */
export function valueType(graph: BtfGraph, id: number): BtfType {
  const type = graph.resolve(id);
  return type.kind === "var" ? graph.resolve(type.typeId) : type;
}

/** Returns true for a character type, whose arrays are strings. */
export function isCharacter(graph: BtfGraph, { kind, size, name, id }: BtfType): boolean {
  if (kind !== "int" || size !== 1) return false;
  // The name is checked too, because compilers rarely set the flag.
  return name === "char" || graph.integer(id).isChar;
}

/** Sets a property, also one with the name `__proto__`. */
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

/** Reads an integer: a number if it has up to 4 bytes, otherwise a bigint. */
type NumberReader = (view: DataView, at: number) => number | bigint;

/** Returns a reader of integers of `size` bytes; `undefined` if C has no integers of that size. */
function makeNumberReader(size: number, isSigned: boolean): NumberReader | undefined {
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
 * Reads an integer of `bits` bits, beginning at bit `bit` of the view. Bits are counted from the least significant bit of each byte.
 *
 * @param size size of the declared type in bytes. The result is a number if it is at most 4, otherwise a bigint.
 */
export function readBits(
  view: DataView,
  bit: number,
  bits: number,
  size: number,
  isSigned: boolean,
): number | bigint {
  let value = 0n;
  // Only the bytes that contain some of the bits are read, because the view may end after these bytes.
  for (let at = (bit + bits - 1) >> 3; at >= bit >> 3; at--) {
    value = (value << 8n) | BigInt(view.getUint8(at));
  }
  value >>= BigInt(bit & 7);
  value = isSigned ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  return size <= 4 ? Number(value) : value;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Control characters other than white space. Strings are not expected to have any. */
const controls = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/;

/**
 * Returns the string before the first NUL. Returns `undefined` if there is no NUL, or the bytes before it are not printable UTF-8.
 *
 * @throws {RangeError} if the bytes extend beyond the end of the view.
 */
function textOf(view: DataView, at: number, length: number): string | undefined {
  const bytes = checkedBytes(view, at, length);
  const end = bytes.indexOf(0);
  if (end === -1) return undefined;
  // An array that begins with a NUL but has other bytes is more likely a list of numbers.
  if (end === 0) return bytes.some((byte) => byte !== 0) ? undefined : "";
  try {
    const text = utf8.decode(bytes.subarray(0, end));
    return controls.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Returns a range of the view's bytes without copying. @throws {RangeError} if it extends beyond the end. */
function checkedBytes(view: DataView, at: number, length: number): Uint8Array {
  if (at + length > view.byteLength) {
    throw new RangeError(
      `${length} bytes at ${at} extend beyond the end of the ${view.byteLength} bytes`,
    );
  }
  return bytesAt(view, at, length);
}
