/** @module Types of `t` as C types, with the names that clang and the kernel's headers give them. */

import { cTypeOf, unsignedChar } from "../types/c_type.ts";
import { hasOpaqueField } from "../types/opaque.ts";
import type { Type } from "../types/type.ts";
import { DataBtfBuilder } from "./builder.ts";

/** Types in the form in which the kernel takes them. It is shared by all who encode the same types: not to be written to. */
export interface EncodedBtf {
  /** BTF in its raw form. */
  readonly bytes: Uint8Array;
  /** The id of the key's type in it; 0 for no key. */
  readonly keyTypeId: number;
  /** The id of the value's type in it; 0 for no value. */
  readonly valueTypeId: number;
  /** The same for kernels that lack a kind of BTF in it: structs and integers replace the types of that kind. */
  readonly older?: EncodedBtf;
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
    encoded = encode(key, value, false);
    ofKey.set(value ?? absent, encoded);
  }
  return encoded;
}

function encode(key: MapTypes["key"], value: MapTypes["value"], isLegacy: boolean): EncodedBtf {
  const hasOpaque = [key, value].some((type) => type && hasOpaqueField(type));
  const types = new DataBtfBuilder(hasOpaque, isLegacy);
  const encoder = new Encoder(types);
  const keyTypeId = key === undefined ? 0 : encoder.encode(key).id;
  const valueTypeId = value === undefined ? 0 : encoder.encode(value).id;
  const older = !isLegacy && types.usesNewKinds && { older: encode(key, value, true) };
  return Object.freeze({ bytes: types.encode(), keyTypeId, valueTypeId, ...older });
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
const maxHeight = 28;

class Encoder {
  readonly types: DataBtfBuilder;
  readonly #encoded = new Map<Type<unknown>, Encoded>();
  /** Types whose parts are being encoded: one from elsewhere may claim to contain itself. */
  readonly #open = new Set<Type<unknown>>();

  constructor(types: DataBtfBuilder) {
    this.types = types;
  }

  encode(type: Type<unknown>): Encoded {
    let encoded = this.#encoded.get(type);
    if (encoded !== undefined) return encoded;
    if (this.#open.has(type)) return this.#bytes(type);
    this.#open.add(type);
    let height = 0;
    const id = cTypeOf(type.kind, type.size)?.encode(this.types, type, (part) => {
      const inner = this.#part(part);
      height = Math.max(height, inner.height + 1);
      return inner.id;
    });
    encoded = id === undefined ? this.#bytes(type) : { id, height };
    this.#encoded.set(type, encoded);
    return encoded;
  }

  #part(type: Type<unknown>): Encoded {
    const encoded = this.encode(type);
    return encoded.height < maxHeight ? encoded : this.#bytes(type);
  }

  #bytes({ size }: Type<unknown>): Encoded {
    return { id: encodeBytes(this.types, size), height: 0 };
  }
}

/** An array of raw bytes: what any type is at the least. */
function encodeBytes(types: DataBtfBuilder, size: number): number {
  return types.array(unsignedChar(types), size);
}
