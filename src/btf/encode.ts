/** @module Types of `t` as C types, with the names that clang and the kernel's headers give them. */

import { cTypeOf, unsignedChar } from "../types/c_type.ts";
import type { ArrayType, Fields, StructType, Type } from "../types/type.ts";
import { DataBtfBuilder, type NewMember } from "./builder.ts";

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
    const cType = cTypeOf(kind, size);
    return cType && { id: cType.encode(this.types, size), height: 0 };
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

/** An array of raw bytes: what any type is at the least. */
function encodeBytes(types: DataBtfBuilder, size: number): number {
  return types.array(unsignedChar(types), size);
}

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
