/** @module Conversion of BTF types to types of `t`. */

import { memberPath, refuseRange, refuseType } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { array } from "../types/array.ts";
import { bits } from "../types/bits.ts";
import { defineType, type Recipe, recipeOf } from "../types/compile.ts";
import { defineEnum } from "../types/enum.ts";
import { f32, f64 } from "../types/float.ts";
import { i128, u128 } from "../types/int128.ts";
import { be16, be32, be64, bool, i16, i32, i64, i8, u16, u32, u64, u8 } from "../types/integer.ts";
import { zero } from "../types/memory.ts";
import { isOpaque, spinLock, timer } from "../types/opaque.ts";
import { defineStruct, struct } from "../types/struct.ts";
import { type Field, layOutAtOffsets } from "../types/struct_layout.ts";
import { cstring } from "../types/text.ts";
import { union } from "../types/union.ts";
import type { BitsType, FieldPlace, Fields, IntegerType, Type } from "../types/type.ts";
import {
  addressTypes,
  type BtfRecord,
  type BtfValue,
  EnumeratorNames,
  isCharacter,
  isInNetworkOrder,
  maxValues,
  readBits,
  setMember,
  tooManyValues,
  valueType,
} from "./decode.ts";
import type { BtfEnumerator, BtfGraph, BtfMember, BtfType } from "./graph.ts";

/** Decoder and encoder of a value, which may begin inside a byte. The bytes are zero before `write` is called. */
interface Codec<T = BtfValue> {
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: unknown, path: string): void;
}

/** Decoder and encoder of a member, which has several values if it is an anonymous struct or union. */
interface MemberCodec extends Codec<void> {
  /** Names of the properties with its values. */
  readonly names: readonly string[];
  /** Reads the member into properties of the outer struct's object. */
  read(view: DataView, offset: number, into?: BtfRecord): void;
  /** Writes the member from properties of the outer struct's object. */
  write(view: DataView, offset: number, from: unknown, path: string): void;
}

/** Greatest nesting of structs and arrays. The kernel accepts deeper types, but programs do not have them. */
const maxDepth = 32;

const signed: ReadonlyMap<number, Type<BtfValue>> = integersBySize([i8, i16, i32, i64, i128]);
const unsigned: ReadonlyMap<number, Type<BtfValue>> = integersBySize([u8, u16, u32, u64, u128]);
const inNetworkOrder: ReadonlyMap<number, Type<BtfValue>> = integersBySize([be16, be32, be64]);

function integersBySize(types: readonly unknown[]): ReadonlyMap<number, Type<BtfValue>> {
  return new Map((types as readonly Type<BtfValue>[]).map((type) => [type.size, type]));
}

const floats: ReadonlyMap<number, Type<number>> = new Map(
  [f32, f64].map((type) => [type.size, type]),
);

/** Opaque types of `t`, by the names of their structs. */
const opaqueTypes: ReadonlyMap<string, Type<never>> = new Map<string, Type<never>>([
  ["bpf_spin_lock", spinLock],
  ["bpf_timer", timer],
]);

/** Converter of a graph's types to types of `t`. Each type is made once. */
export class TypeMaker {
  readonly #graph: BtfGraph;
  readonly #types = new Map<number, Type<BtfValue>>();
  readonly #counts = new Map<number, number>();
  #depth = 0;

  constructor(graph: BtfGraph) {
    this.#graph = graph;
  }

  /** Returns the type of `t` for a BTF type. @throws {RangeError} if it has no values, too many values, or is nested too deep. */
  make(id: number): Type<BtfValue> {
    const type = valueType(this.#graph, id);
    if (type.kind === "int" && isInNetworkOrder(this.#graph, id)) {
      return inNetworkOrder.get(type.size) as Type<BtfValue>;
    }
    let made = this.#types.get(type.id);
    if (made === undefined) {
      this.#checkCount(type);
      made = this.#nested(type, () => this.#make(type));
      this.#types.set(type.id, made);
    }
    return made;
  }

  /** Runs a function for the types inside a type. @throws {RangeError} if types are nested too deep. */
  #nested<T>({ id }: BtfType, make: () => T): T {
    try {
      if (++this.#depth > maxDepth) {
        throw new RangeError(`BTF type ${id} is nested in more than ${maxDepth} types`);
      }
      return make();
    } finally {
      this.#depth--;
    }
  }

  #make(type: BtfType): Type<BtfValue> {
    switch (type.kind) {
      case "int":
        return this.#integer(type);
      case "enum":
      case "enum64":
        return this.#enumeration(type);
      case "ptr":
        return u64 as Type<BtfValue>;
      case "float":
        return (floats.get(type.size) ?? byteArray(type)) as Type<BtfValue>;
      case "array":
        return this.#array(type);
      case "struct":
      case "union":
        return this.#composite(type);
      default:
        throw new RangeError(
          `BTF type ${type.id} is of the kind ${type.kind}: it has no values, so it has no t type`,
        );
    }
  }

  #integer(type: BtfType): Type<BtfValue> {
    const { id, size, name } = type;
    const { isSigned, isBool, bitOffset, bitSize } = this.#graph.integer(id);
    const isPart = bitOffset !== 0 || (bitSize !== 0 && bitSize < size * 8);
    if (!isPart && isBool && size === 1) return bool as Type<BtfValue>;
    const plain = (isSigned ? signed : unsigned).get(size);
    if (!isPart && !isBool && plain !== undefined) return plain;
    if (plain === undefined) return byteArray(type);
    return customType(name, size, size, this.#bits(type, bitOffset, bitSize || size * 8));
  }

  /** Returns a `t.enum` if it can have all enumerators, otherwise a custom type. */
  #enumeration(type: BtfType): Type<BtfValue> {
    const { size, id, kind, isSigned = false } = type;
    const base = (isSigned ? signed : unsigned).get(size) as
      IntegerType<number | bigint> | undefined;
    if (base === undefined || size > 8) return byteArray(type);
    const enumerators = this.#graph.enumerators(id);
    // BTF_KIND_ENUM has 32-bit values: in an enum of 8 bytes, a value without a recorded sign may be negative.
    const greatestValue = kind === "enum" && size === 8 && !isSigned ? 2 ** 31 - 1 : base.max;
    const allFit = enumerators.every(({ value }) => value >= base.min && value <= greatestValue);
    const names = new Set(enumerators.map(({ name }) => name));
    if (allFit && names.size === enumerators.length) {
      const entries = enumerators.map(
        ({ name, value }) => [name, size === 8 ? BigInt(value) : Number(value)] as const,
      );
      return defineEnum(entries, base, nameOfType(type)) as Type<BtfValue>;
    }
    return customType(nameOfType(type), size, size, this.#bits(type, 0, size * 8));
  }

  /** Checks the number of values in a value of the type. @throws {RangeError} if there are too many. */
  #checkCount({ id }: BtfType): void {
    const size = this.#graph.sizeOf(id);
    if (this.#countOf(id) > maxValues(size)) throw tooManyValues(id, size);
  }

  /** Returns the number of values in a value of the type. */
  #countOf(id: number): number {
    const type = valueType(this.#graph, id);
    const known = this.#counts.get(type.id);
    if (known !== undefined) return known;
    // This entry ends the recursion for a struct that contains itself. Making the type of its member throws the error.
    this.#counts.set(type.id, 0);
    const count = this.#nested(type, () => {
      switch (type.kind) {
        case "array":
          return type.length * (1 + this.#countOf(type.typeId));
        case "struct":
        case "union":
          return this.#graph
            .members(type.id)
            .reduce((sum, { typeId }) => sum + 1 + this.#countOf(typeId), 0);
        default:
          return 0;
      }
    });
    this.#counts.set(type.id, count);
    return count;
  }

  #array(type: BtfType): Type<BtfValue> {
    const { typeId, length, id } = type;
    const element = valueType(this.#graph, typeId);
    if (length === 0 || this.#graph.sizeOf(typeId) === 0) throw sizelessError(id);
    if (isCharacter(this.#graph, element)) return cstring(length);
    return array(this.make(typeId), length);
  }

  #composite(type: BtfType): Type<BtfValue> {
    const known = opaqueTypes.get(type.name) ?? addressTypes.get(type.name);
    if (known?.size === type.size) return known as Type<unknown> as Type<BtfValue>;
    if (type.size === 0) throw sizelessError(type.id);
    return this.#plainComposite(type) ?? this.#customStruct(type);
  }

  /** Returns a `t.struct` or `t.union` if it has the same layout; `undefined` otherwise. */
  #plainComposite(type: BtfType): Type<BtfValue> | undefined {
    const { kind, id, size } = type;
    const members = this.#graph.members(id).filter((member) => this.#hasBytes(member));
    if (members.length === 0 || !members.every((member) => member.name !== "")) return undefined;
    const types = members.map((member) =>
      this.#isBitField(member) ? this.#plainBits(member) : this.make(member.typeId),
    );
    const fields = Object.fromEntries(members.map(({ name }, index) => [name, types[index]]));
    if (types.includes(undefined) || Object.keys(fields).length !== members.length) {
      return undefined;
    }
    const makers =
      kind === "union"
        ? types.some((member) => isOpaque(member as Type<unknown>))
          ? []
          : [() => union(fields as Fields)]
        : [false, true].map((packed) => () => struct(fields as Fields, { packed }));
    for (const make of makers) {
      const made = make();
      const fits = members.every(({ name, bitOffset }) => {
        const { offset = NaN, bitOffset: bit = offset * 8 } = (made.fields[name] ?? {}) as Partial<
          FieldPlace<Type<unknown>>
        >;
        return bit === bitOffset;
      });
      if (fits && made.size === size) return made as Type<unknown> as Type<BtfValue>;
    }
    return kind === "struct" ? this.#placedStruct(type, members) : undefined;
  }

  /**
   * Returns a struct with additional padding, for example because of an alignment attribute; `undefined` if members overlap or are
   * bit-fields.
   */
  #placedStruct(type: BtfType, members: readonly BtfMember[]): Type<BtfValue> | undefined {
    let end = 0;
    const fields: (Field & { readonly offset: number })[] = [];
    for (const member of members) {
      const made = this.make(member.typeId);
      const offset = member.bitOffset / 8;
      if (this.#isBitField(member) || offset < end) return undefined;
      end = offset + made.size;
      fields.push({ name: member.name, type: made, size: made.size, align: made.align, offset });
    }
    if (end > type.size) return undefined;
    const layout = layOutAtOffsets(fields, type.size);
    return defineStruct(layout, false, nameOfType(type)) as Type<unknown> as Type<BtfValue>;
  }

  /** Returns a `t.bits` if it has all values of the bit-field; `undefined` otherwise. */
  #plainBits({ typeId, bitSize }: BtfMember): BitsType<unknown> | undefined {
    const type = valueType(this.#graph, typeId);
    const made = this.make(typeId);
    const { byteOrder } = made as Partial<IntegerType<number>>;
    const isPlain =
      made.kind === "bool" ? bitSize === 1 : byteOrder === "native" || made.kind === "enum";
    if (bitSize === 0 || made.size > 8 || !isPlain) return undefined;
    const [low, high] = type.isSigned
      ? [-(2n ** BigInt(bitSize - 1)), 2n ** BigInt(bitSize - 1)]
      : [0n, 2n ** BigInt(bitSize)];
    const isWide = ({ value }: BtfEnumerator) => value < low || value >= high;
    if (made.kind === "enum" && this.#graph.enumerators(type.id).some(isWide)) return undefined;
    return bits(made as Type<unknown>, bitSize);
  }

  #customStruct(type: BtfType): Type<BtfValue> {
    const codec = this.#members(type);
    const { align } = codec;
    const name = nameOfType(type);
    return customType<BtfValue>(name, type.size, align, {
      read(view, offset) {
        const record: BtfRecord = {};
        codec.read(view, offset, record);
        return record;
      },
      write(view, offset, value, path) {
        if (typeof value !== "object" || value === null) {
          return refuseType(path, `an object (${name})`, value);
        }
        for (const key of Object.keys(value)) {
          if (codec.names.includes(key)) continue;
          const field = JSON.stringify(memberPath(path, key));
          throw new TypeError(`unknown field ${field}: ${suggest(key, codec.names)}`);
        }
        codec.write(view, offset, value, path);
      },
    });
  }

  /** Returns a codec for all members of a struct or union. */
  #members(type: BtfType): MemberCodec & { readonly align: number } {
    const { id, kind, size } = type;
    let align = 1;
    const codecs = this.#graph.members(id).flatMap((member): readonly MemberCodec[] => {
      if (!this.#hasBytes(member)) return [];
      const inner = valueType(this.#graph, member.typeId);
      const end = Math.ceil(
        (member.bitOffset + (member.bitSize || this.#graph.sizeOf(member.typeId) * 8)) / 8,
      );
      if (end > size) {
        throw new RangeError(`BTF type ${id}: member ${member.name} is outside of the struct`);
      }
      const offset = Math.floor(member.bitOffset / 8);
      if (member.name === "" && (inner.kind === "struct" || inner.kind === "union")) {
        const codec = this.#nested(inner, () => this.#members(inner));
        align = Math.max(align, offset % codec.align === 0 ? codec.align : 1);
        return [atOffset(codec, offset)];
      }
      // Unnamed bit-fields are padding.
      if (member.name === "") return [];
      if (this.#isBitField(member))
        return [atOffset(namedMember(member.name, this.#bitField(member)), offset)];
      const made = this.make(member.typeId);
      if (offset % made.align === 0) align = Math.max(align, made.align);
      return isOpaque(made) ? [] : [atOffset(namedMember(member.name, recipeOf(made)), offset)];
    });
    while (size % align !== 0) align /= 2;
    const names = codecs.flatMap((codec) => codec.names);
    const read: MemberCodec["read"] = (view, offset, into) => {
      for (const codec of codecs) codec.read(view, offset, into);
    };
    const write: MemberCodec["write"] = (view, offset, from, path) => {
      for (const codec of codecs) codec.write(view, offset, from, path);
    };
    const writeOne: MemberCodec["write"] = (view, offset, from, path) => {
      const given = codecs.filter((codec) =>
        codec.names.some((name) => Object.hasOwn(from as BtfRecord, name)),
      );
      const [only, another] = given;
      if (only === undefined || another !== undefined) {
        throw new TypeError(
          `${path === "" ? "" : `${path}: `}${nameOfType(type)}: expected a value for one of its members (${names.join(", ")}), got ${given.length}`,
        );
      }
      only.write(view, offset, from, path);
    };
    return { names, align, read, write: kind === "union" ? writeOne : write };
  }

  /** Returns false for flexible arrays and empty structs, which are not part of a value of fixed size. */
  #hasBytes({ typeId }: BtfMember): boolean {
    return this.#graph.sizeOf(typeId) !== 0;
  }

  #isBitField({ bitOffset, bitSize, typeId }: BtfMember): boolean {
    if (bitSize !== 0 || bitOffset % 8 !== 0) return true;
    const { kind, id, size } = valueType(this.#graph, typeId);
    if (kind !== "int") return false;
    const integer = this.#graph.integer(id);
    return integer.bitOffset !== 0 || (integer.bitSize !== 0 && integer.bitSize < size * 8);
  }

  #bitField(member: BtfMember): Codec {
    const type = valueType(this.#graph, member.typeId);
    if (type.kind !== "int" && type.kind !== "enum" && type.kind !== "enum64") {
      throw new RangeError(
        `member ${member.name} is a bit-field of the kind ${type.kind}: the bytes are damaged`,
      );
    }
    // If the struct does not record the width, the integer type does.
    const integer =
      member.bitSize === 0 && type.kind === "int" ? this.#graph.integer(type.id) : undefined;
    const bit = (member.bitOffset % 8) + (integer?.bitOffset ?? 0);
    return this.#bits(type, bit, member.bitSize || (integer?.bitSize ?? type.size * 8));
  }

  /** Returns the codec of a bit-field: an integer, a boolean or the name of an enumerator. */
  #bits(type: BtfType, bit: number, count: number): Codec {
    const { id, size, kind } = type;
    const integer = kind === "int" ? this.#graph.integer(id) : undefined;
    const bits = bitCodec({
      bit,
      count,
      size,
      isSigned: integer?.isSigned ?? type.isSigned ?? false,
    });
    if (integer !== undefined) return integer.isBool ? booleanCodec(bits, size) : bits;
    return this.#named(type, bits, count);
  }

  #named(type: BtfType, bits: Codec<number | bigint>, count: number): Codec {
    const names = new EnumeratorNames(this.#graph, type);
    const values = new Map<string, number | bigint>();
    for (const { name, value } of this.#graph.enumerators(type.id)) {
      const wrapped = type.isSigned
        ? BigInt.asIntN(count, BigInt(value))
        : BigInt.asUintN(count, BigInt(value));
      values.set(name, type.size <= 4 ? Number(wrapped) : wrapped);
    }
    return {
      read(view, offset) {
        const value = bits.read(view, offset);
        return names.of(value, count) ?? value;
      },
      write(view, offset, value, path) {
        if (typeof value !== "string") return bits.write(view, offset, value, path);
        const number = values.get(value);
        if (number !== undefined) return bits.write(view, offset, number, path);
        const known = [...values.keys()];
        refuseRange(
          path,
          `a name or a number of ${nameOfType(type)}`,
          value,
          suggest(value, known),
        );
      },
    };
  }
}

/** Returns the name of a type for messages: `struct list_head`. */
function nameOfType({ kind, name }: BtfType): string {
  const word = kind === "enum64" ? "enum" : kind;
  return name === "" ? word : `${word} ${name}`;
}

function sizelessError(id: number): RangeError {
  return new RangeError(`BTF type ${id} takes no bytes, so it has no t type`);
}

function byteArray({ size, id }: BtfType): Type<BtfValue> {
  if (size === 0) throw sizelessError(id);
  return array(u8, size);
}

/** Makes a custom type from a codec. All bytes are zero before the codec writes. */
function customType<T>(name: string, size: number, align: number, codec: Codec<T>): Type<T> {
  const write: Recipe<T>["write"] = (view, offset, value, path) => {
    zero(view, offset, size);
    codec.write(view, offset, value, path);
  };
  const read: Recipe<T>["read"] = (view, offset) => codec.read(view, offset);
  return defineType<T, Type<T>>(
    { kind: "custom", name, size, align },
    {
      weight: 1,
      emitRead: (source, place) => `${source.capture(read)}(view, ${place})`,
      emitWrite: (source, place, value, path) =>
        source.line(`${source.capture(write)}(view, ${place}, ${value}, ${path});`),
      read,
      write,
    },
  );
}

/** Returns the codec of a member with a name. */
function namedMember(name: string, codec: Codec<unknown>): MemberCodec {
  return {
    names: [name],
    read(view, offset, into = {}) {
      setMember(into, name, codec.read(view, offset) as BtfValue);
    },
    write(view, offset, from, path) {
      // Only own properties are read, because a member may have the name "constructor".
      const value = Object.hasOwn(from as BtfRecord, name) ? (from as BtfRecord)[name] : undefined;
      const where = memberPath(path, name);
      if (value === undefined) throw new TypeError(`missing field ${JSON.stringify(where)}`);
      codec.write(view, offset, value, where);
    },
  };
}

/** Returns the codec of a member at an offset in bytes. */
function atOffset({ names, read, write }: MemberCodec, offset: number): MemberCodec {
  return {
    names,
    read: (view, start, into) => read(view, start + offset, into),
    write: (view, start, from, path) => write(view, start + offset, from, path),
  };
}

function booleanCodec(bits: Codec<number | bigint>, size: number): Codec<boolean> {
  return {
    read: (view, offset) => Number(bits.read(view, offset)) !== 0,
    write(view, offset, value, path) {
      if (typeof value !== "boolean") return refuseType(path, "true or false", value);
      bits.write(view, offset, size <= 4 ? Number(value) : BigInt(value), path);
    },
  };
}

/** A bit-field. */
interface Bits {
  /** First bit, counted from the least significant bit of the first byte. */
  readonly bit: number;
  /** Number of bits. */
  readonly count: number;
  /** Size of the declared type in bytes. Values are numbers if it is at most 4, otherwise bigints. */
  readonly size: number;
  readonly isSigned: boolean;
}

function bitCodec({ bit, count, size, isSigned }: Bits): Codec<number | bigint> {
  const isNumber = size <= 4;
  const expected = `${isSigned ? "a signed" : "an unsigned"} ${isNumber ? "integer" : "bigint"} of ${count} bits`;
  return {
    read: (view, offset) => readBits(view, offset * 8 + bit, count, size, isSigned),
    write(view, offset, value, path) {
      if (isNumber ? !Number.isInteger(value) : typeof value !== "bigint") {
        return refuseType(path, expected, value);
      }
      const given = BigInt(value as number | bigint);
      const kept = isSigned ? BigInt.asIntN(count, given) : BigInt.asUintN(count, given);
      if (kept !== given) refuseRange(path, expected, value);
      addBits(view, offset * 8 + bit, count, BigInt.asUintN(count, given));
    },
  };
}

/** Stores bits where all bits are 0, without changing neighbouring bits. */
function addBits(view: DataView, bit: number, count: number, value: bigint): void {
  let rest = value << BigInt(bit & 7);
  for (let at = bit >> 3; at <= (bit + count - 1) >> 3; at++) {
    view.setUint8(at, view.getUint8(at) | Number(rest & 0xffn));
    rest >>= 8n;
  }
}
