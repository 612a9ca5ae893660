/** @module Encoding of `t` types as BTF, with the names of C types in clang's BTF and in the kernel's headers. */

import { cTypeOf, unsignedChar } from "../types/c_type.ts";
import { hasOpaqueField } from "../types/opaque.ts";
import type { Type } from "../types/type.ts";
import { DataBtfBuilder } from "./builder.ts";

/** BTF of a map's key and value. It is cached and shared, so it must not be changed. */
export interface EncodedBtf {
  /** Raw BTF. */
  readonly bytes: Uint8Array;
  /** Id of the key's type; 0 if the map has no key. */
  readonly keyTypeId: number;
  /** Id of the value's type; 0 if the map has no value. */
  readonly valueTypeId: number;
  /** Encoding for kernels that lack a kind of BTF in `bytes`: structs and integers replace types of the newer kinds. */
  readonly older?: EncodedBtf;
}

/** Types of a map's key and value, for {@link encodeBtf}. */
export interface MapTypes {
  readonly key?: Type<unknown> | undefined;
  readonly value?: Type<unknown> | undefined;
}

/** Key in `encodings` for a map without a key or value. */
const absent = {};
const encodings = new WeakMap<object, WeakMap<object, EncodedBtf>>();

/**
 * Encodes the types of a map's key and value as BTF: as C types of the same size, with the names that C headers use.
 *
 * A type without a C type, such as a custom type, is encoded as an array of bytes; so is a type that lacks the properties of
 * its kind. Field names that are not C identifiers are changed.
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

/** An encoded type. */
interface Encoded {
  readonly id: number;
  /** Number of nesting levels of structs and arrays in the type. */
  readonly height: number;
}

/**
 * Greatest nesting of structs and arrays; deeper types are encoded as bytes. The kernel looks for locks through at most 31 nested
 * structs, and rejects deeper types (MAX_RESOLVE_DEPTH). Some values without members in `t` are structs in C, such as addresses.
 */
const maxHeight = 28;

class Encoder {
  readonly types: DataBtfBuilder;
  readonly #encoded = new Map<Type<unknown>, Encoded>();
  /** Types that are being encoded, to stop at a type that contains itself, which only a type that was not made by `t` can do. */
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
    const id = cTypeOf(type.kind, type.size)?.encode(this.types, type, (nested) => {
      const inner = this.#nested(nested);
      height = Math.max(height, inner.height + 1);
      return inner.id;
    });
    encoded = id === undefined ? this.#bytes(type) : { id, height };
    this.#encoded.set(type, encoded);
    return encoded;
  }

  #nested(type: Type<unknown>): Encoded {
    const encoded = this.encode(type);
    return encoded.height < maxHeight ? encoded : this.#bytes(type);
  }

  #bytes({ size }: Type<unknown>): Encoded {
    return { id: encodeBytes(this.types, size), height: 0 };
  }
}

/** Encodes an array of bytes, which can replace any type. */
function encodeBytes(types: DataBtfBuilder, size: number): number {
  return types.array(unsignedChar(types), size);
}
