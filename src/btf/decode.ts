import type { BtfMember, BtfType } from "./description.ts";
import { byteList, textOf } from "./read_bytes.ts";
import { readBits, readNumber } from "./read_number.ts";
import type { TypeTable } from "./type_table.ts";
import type { BtfDecodeOptions, BtfRecord, BtfValue } from "./value.ts";

/** What a decoder asks of the types. */
export interface DecodedTypes {
  readonly table: TypeTable;
  resolve(id: number): BtfType;
  sizeOf(id: number): number;
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
  /** What an array without a length may not go beyond, from the start of the outermost struct; `undefined` for its end. */
  readonly end: number | undefined;
  readonly read: Reader;
}

/** Structs within one another: the kernel takes no more either (MAX_RESOLVE_DEPTH). */
const greatestDepth = 32;

/** Makes JavaScript's values of bytes. What is to be done for a type is found out once. */
export class Decoder {
  readonly #types: DecodedTypes;
  readonly #hexPointers: boolean;
  readonly #readers = new Map<number, Reader>();
  #depth = 0;

  constructor(types: DecodedTypes, { pointers = "bigint" }: BtfDecodeOptions) {
    this.#types = types;
    this.#hexPointers = pointers === "hex";
  }

  /** @throws {RangeError} when there are fewer bytes than the type takes, or the type has no values */
  decode(id: number, bytes: Uint8Array): BtfValue {
    const reader = this.#reader(id);
    const size = this.#types.sizeOf(this.#valueType(id).id);
    if (bytes.byteLength < size) {
      throw new RangeError(`BTF type ${id} takes ${size} bytes, got ${bytes.byteLength}`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return reader(view, 0, bytes.byteLength);
  }

  /** The type that values are of: what is behind typedefs, qualifiers and the name of a variable. */
  #valueType(id: number): BtfType {
    const type = this.#types.resolve(id);
    return type.kind === "var" ? this.#types.resolve(type.typeId) : type;
  }

  #reader(id: number): Reader {
    const type = this.#valueType(id);
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
    const { isSigned, isBool, bitOffset, bitSize } = this.#types.table.integer(id);
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
    const isSigned = this.#types.table.isSignedEnum(type.id);
    const read = readNumber(size, isSigned);
    return read === undefined
      ? (view, at) => byteList(view, at, size)
      : (view, at) => name(read(view, at));
  }

  /** What gives the name of an enumerator for its number, or else the number. */
  #enumeratorNames({ id, size }: BtfType): (value: number | bigint) => string | number | bigint {
    const names = new Map<bigint, string>();
    const bits = size * 8;
    for (const { name, value } of this.#types.table.enumerators(id)) {
      // Compared without sign: not every compiler says whether an enum has one.
      const key = BigInt.asUintN(bits, BigInt(value));
      if (!names.has(key)) names.set(key, name);
    }
    return (value) => names.get(BigInt.asUintN(bits, BigInt(value))) ?? value;
  }

  #array({ typeId, length, id }: BtfType): Reader {
    const element = this.#valueType(typeId);
    const size = this.#types.sizeOf(typeId);
    const read = this.#reader(typeId);
    const isText = this.#isCharacter(element);
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

  #isCharacter({ kind, size, name, id }: BtfType): boolean {
    if (kind !== "int" || size !== 1) return false;
    // Compilers seldom say that it is one.
    return name === "char" || this.#types.table.integer(id).isChar;
  }

  #composite(type: BtfType): Reader {
    return record(this.#flatMembers(type, 0, true), type.size);
  }

  /** @param isLast whether the struct ends where the outermost one does */
  #flatMembers(type: BtfType, base: number, isLast: boolean): FlatMember[] {
    const members = this.#types.table.members(type.id);
    return members.flatMap((member, index) => {
      const isAtEnd = isLast && (type.kind === "union" || index === members.length - 1);
      const offset = base + Math.floor(member.bitOffset / 8);
      const inner = this.#valueType(member.typeId);
      const isComposite = inner.kind === "struct" || inner.kind === "union";
      if (member.name === "" && isComposite) return this.#anonymous(inner, offset, isAtEnd);
      // An array without a length takes no room: where it is not at the end it is empty.
      const end = isAtEnd ? undefined : offset + this.#types.sizeOf(member.typeId);
      const isBitField = member.bitSize !== 0 || member.bitOffset % 8 !== 0;
      const read = isBitField ? this.#bitField(member, inner) : this.#reader(member.typeId);
      return { name: member.name, offset, end, read };
    });
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
    const { table } = this.#types;
    const { size, id } = type;
    const isEnum = type.kind === "enum" || type.kind === "enum64";
    if (type.kind !== "int" && !isEnum) {
      throw new RangeError(`a bit-field of the kind ${type.kind}: the bytes are damaged`);
    }
    const integer = isEnum ? undefined : table.integer(id);
    const isSigned = integer?.isSigned ?? table.isSignedEnum(id);
    const finish = isEnum ? this.#enumeratorNames(type) : integer?.isBool === true ? truth : asIs;
    // Where the struct does not say the width, the integer does.
    const bits = member.bitSize || (integer?.bitSize ?? size * 8);
    const bit = (member.bitOffset % 8) + (member.bitSize === 0 ? (integer?.bitOffset ?? 0) : 0);
    return (view, at) => finish(readBits(view, at * 8 + bit, bits, size, isSigned));
  }

  #section({ id, size }: BtfType): Reader {
    const taken = new Set<string>();
    const members = this.#types.table
      .variables(id)
      .map(({ name, typeId, offset, size: length }) => {
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
      if (member.name === "__proto__") {
        Object.defineProperty(object, member.name, { value, enumerable: true });
      } else {
        object[member.name] = value;
      }
    }
    return object;
  };
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
