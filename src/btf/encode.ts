/** @module Types of `t` as C types, with the names that clang and the kernel's headers give them. */

import type { ArrayType, Fields, StructType, Type } from "../types/type.ts";
import { DataBtfBuilder, type NewInteger, type NewMember } from "./builder.ts";

/** Types in the form in which the kernel takes them. It is shared by all who encode the same types: not to be written to. */
export interface EncodedBtf {
  /** BTF in its raw form. */
  readonly bytes: Uint8Array;
  /** The id of the key's type in it; 0 for no key. */
  readonly keyTypeId: number;
  /** The id of the value's type in it; 0 for no value. */
  readonly valueTypeId: number;
}

/** The key and the value of a map, where it has them, for {@link encodeBtf}. */
export interface MapTypes {
  readonly key?: Type<unknown> | undefined;
  readonly value?: Type<unknown> | undefined;
}

/** Stands for a key or value that is not there. */
const absent = {};
const encodings = new WeakMap<object, WeakMap<object, EncodedBtf>>();

/**
 * Describes keys and values to the kernel as C types of the same size, with C's names.
 *
 * A type of which nothing is known, such as a custom one, and one that is not what its kind says, is an array of bytes.
 * Field names that C does not have are changed.
 */
export function encodeBtf({ key, value }: MapTypes): EncodedBtf {
  let ofKey = encodings.get(key ?? absent);
  if (ofKey === undefined) {
    ofKey = new WeakMap();
    encodings.set(key ?? absent, ofKey);
  }
  let encoded = ofKey.get(value ?? absent);
  if (encoded === undefined) {
    const encoder = new Encoder();
    const keyTypeId = key === undefined ? 0 : encoder.encode(key).id;
    const valueTypeId = value === undefined ? 0 : encoder.encode(value).id;
    encoded = Object.freeze({ bytes: encoder.types.encode(), keyTypeId, valueTypeId });
    ofKey.set(value ?? absent, encoded);
  }
  return encoded;
}

/** A type that was encoded. */
interface Encoded {
  readonly id: number;
  /** Number of structs and arrays that lie within one another in it. */
  readonly height: number;
}

/**
 * The kernel looks for locks through 31 structs within one another, and refuses a type with more (MAX_RESOLVE_DEPTH):
 * this leaves room for the structs that single values are to it, such as addresses.
 */
const greatestHeight = 28;
/** The number of members is a field of 16 bits. */
const mostMembers = 0xffff;
/** Where a member starts is counted in bits, by 32 of them. */
const greatestOffset = (2 ** 32 - 1) / 8;

class Encoder {
  readonly types = new DataBtfBuilder();
  readonly #encoded = new Map<Type<unknown>, Encoded>();
  /** Types whose parts are being encoded: one from elsewhere may claim to contain itself. */
  readonly #open = new Set<Type<unknown>>();

  encode(type: Type<unknown>): Encoded {
    let encoded = this.#encoded.get(type);
    if (encoded !== undefined) return encoded;
    if (this.#open.has(type)) return this.#bytes(type);
    this.#open.add(type);
    encoded = this.#single(type) ?? this.#struct(type) ?? this.#array(type) ?? this.#bytes(type);
    this.#encoded.set(type, encoded);
    return encoded;
  }

  #single({ kind, size }: Type<unknown>): Encoded | undefined {
    const cType = cTypes.get(kind);
    if (cType === undefined || (cType.size ?? size) !== size) return undefined;
    return { id: cType.encode(this.types, size), height: 0 };
  }

  #array(type: Type<unknown>): Encoded | undefined {
    if (type.kind !== "array") return undefined;
    const { element, length } = type as Partial<ArrayType<unknown>>;
    if (!isType(element) || !isCount(length) || element.size * length !== type.size) {
      return undefined;
    }
    const { id, height } = this.#part(element);
    return { id: this.types.array(id, length), height: height + 1 };
  }

  #struct(type: Type<unknown>): Encoded | undefined {
    if (type.kind !== "struct") return undefined;
    const { fields = {} } = type as Partial<StructType<Fields>>;
    const names = Object.keys(fields);
    if (names.length === 0 || names.length > mostMembers) return undefined;
    const memberNames = identifiers(names);
    const members: NewMember[] = [];
    let end = 0;
    let highest = 0;
    for (const [index, field] of Object.values(fields).entries()) {
      const { type: part, offset } = (field ?? {}) as Partial<typeof field>;
      if (!isType(part) || !isCount(offset) || offset < end || offset > greatestOffset) {
        return undefined;
      }
      end = offset + part.size;
      const { id, height } = this.#part(part);
      highest = Math.max(highest, height);
      members.push({ name: memberNames[index] as string, typeId: id, bitOffset: offset * 8 });
    }
    if (end > type.size) return undefined;
    return { id: this.types.struct("", type.size, members), height: highest + 1 };
  }

  #part(type: Type<unknown>): Encoded {
    const encoded = this.encode(type);
    return encoded.height < greatestHeight ? encoded : this.#bytes(type);
  }

  #bytes({ size }: Type<unknown>): Encoded {
    return { id: encodeBytes(this.types, size), height: 0 };
  }
}

function isCount(value: number | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isType(type: Type<unknown> | undefined): type is Type<unknown> {
  return typeof type === "object" && type !== null && isCount(type.size) && type.size > 0;
}

/** A kind of `t` as a C type. */
interface CType {
  /** The size that it always has; without, any size will do. */
  readonly size?: number;
  /** Gives the id of the C type. */
  encode(types: DataBtfBuilder, size: number): number;
}

/** An array of raw bytes: what any type is at the least. */
function encodeBytes(types: DataBtfBuilder, size: number): number {
  return types.array(unsignedChar(types), size);
}

const unsignedChar = (types: DataBtfBuilder) => types.int("unsigned char", 1);
const u8 = (types: DataBtfBuilder) => types.typedef("__u8", unsignedChar(types));
const u16 = (types: DataBtfBuilder) => types.typedef("__u16", types.int("unsigned short", 2));
const u32 = (types: DataBtfBuilder) => types.typedef("__u32", types.int("unsigned int", 4));
const u64 = (types: DataBtfBuilder) => types.typedef("__u64", types.int("unsigned long long", 8));
const be16 = (types: DataBtfBuilder) => types.typedef("__be16", u16(types));
const be32 = (types: DataBtfBuilder) => types.typedef("__be32", u32(types));
const be64 = (types: DataBtfBuilder) => types.typedef("__be64", u64(types));

function in6Address(types: DataBtfBuilder): number {
  const union = types.union("", 16, [
    { name: "u6_addr8", typeId: types.array(u8(types), 16), bitOffset: 0 },
    { name: "u6_addr16", typeId: types.array(be16(types), 8), bitOffset: 0 },
    { name: "u6_addr32", typeId: types.array(be32(types), 4), bitOffset: 0 },
  ]);
  return types.struct("in6_addr", 16, [{ name: "in6_u", typeId: union, bitOffset: 0 }]);
}

/** The key of an LPM trie, which the kernel takes only if it is a struct. */
function network(types: DataBtfBuilder, addressId: number, addressSize: number): number {
  return types.struct("", 4 + addressSize, [
    { name: "prefixlen", typeId: u32(types), bitOffset: 0 },
    { name: "addr", typeId: addressId, bitOffset: 32 },
  ]);
}

function integer(name: string, size: number, encoding: NewInteger = {}): CType {
  return { size, encode: (types) => types.int(name, size, encoding) };
}

/** By the kind of the type. */
const cTypes: ReadonlyMap<string, CType> = new Map<string, CType>([
  ["u8", integer("unsigned char", 1)],
  ["u16", integer("unsigned short", 2)],
  ["u32", integer("unsigned int", 4)],
  ["u64", integer("unsigned long long", 8)],
  ["u64Number", integer("unsigned long long", 8)],
  ["i8", integer("signed char", 1, { isSigned: true })],
  ["i16", integer("short", 2, { isSigned: true })],
  ["i32", integer("int", 4, { isSigned: true })],
  ["i64", integer("long long", 8, { isSigned: true })],
  ["i64Number", integer("long long", 8, { isSigned: true })],
  ["be16", { size: 2, encode: be16 }],
  ["be32", { size: 4, encode: be32 }],
  ["be64", { size: 8, encode: be64 }],
  ["bool", integer("_Bool", 1, { isBool: true })],
  ["bytes", { encode: encodeBytes }],
  // bpftool shows an array as text if its elements are called "char"; clang, too, makes them signed.
  [
    "cstring",
    { encode: (types, size) => types.array(types.int("char", 1, { isSigned: true }), size) },
  ],
  ["ipv4", { size: 4, encode: be32 }],
  ["ipv6", { size: 16, encode: in6Address }],
  ["mac", { size: 6, encode: (types) => types.array(u8(types), 6) }],
  ["cidr4", { size: 8, encode: (types) => network(types, be32(types), 4) }],
  ["cidr6", { size: 20, encode: (types) => network(types, in6Address(types), 16) }],
  // The kernel knows these two by their names.
  [
    "spin_lock",
    {
      size: 4,
      encode: (types) =>
        types.struct("bpf_spin_lock", 4, [{ name: "val", typeId: u32(types), bitOffset: 0 }]),
    },
  ],
  [
    "timer",
    {
      size: 16,
      encode: (types) =>
        types.struct("bpf_timer", 16, [
          { name: "__opaque", typeId: types.array(u64(types), 2), bitOffset: 0 },
        ]),
    },
  ],
]);

/** Longest name that every kernel with BTF takes (`KSYM_NAME_LEN` was 128 before 6.1). */
const longest = 127;

const keywords = new Set(
  (
    "auto break case char const continue default do double else enum extern float for goto if inline int long " +
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
  ).split(" "),
);

/**
 * C identifiers in place of names, in their order and all different. A name that is one already stays, whatever the
 * others become.
 */
function identifiers(names: readonly string[]): string[] {
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
