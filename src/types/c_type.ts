/**
 * @module C types of the kinds of `t`, which describe keys and values to the kernel. Each kind registers its own C type, so
 * that a bundle contains only those that it uses. A kind without a C type is encoded as an array of bytes.
 */

import type { Type } from "./type.ts";

/** A member of a struct or union. */
export interface CMember {
  readonly name: string;
  readonly typeId: number;
  readonly bitOffset: number;
  /** Width in bits; only for bit-fields. */
  readonly bitSize?: number;
}

/** Encoder of C types as BTF. Its methods return the id of the type. */
export interface CTypeWriter {
  /** True if the types have opaque fields, such as locks, for which the kernel searches the types. */
  readonly hasOpaque: boolean;
  /** True if the encoding is for kernels that lack newer kinds of BTF. */
  readonly isLegacy: boolean;
  /** True if a type was added whose encoding differs for kernels that lack newer kinds of BTF. */
  usesNewKinds: boolean;
  /** Adds an integer type, by default unsigned. */
  int(
    name: string,
    size: number,
    encoding?: { readonly isSigned?: boolean; readonly isBool?: boolean },
  ): number;
  /** Adds a typedef. */
  typedef(name: string, typeId: number): number;
  /** Adds an array type. */
  array(elementId: number, length: number): number;
  /** Adds a struct. @param name name of the struct; empty if it is anonymous */
  struct(name: string, size: number, members: readonly CMember[]): number;
  /** Adds a union. @param name name of the union; empty if it is anonymous */
  union(name: string, size: number, members: readonly CMember[]): number;
  /** Adds a type of any kind, by the kernel's number of the kind (`BTF_KIND_*`). */
  add(
    kind: number,
    name: string,
    size: number,
    more?: { readonly flag?: boolean; readonly entries?: readonly (readonly number[])[] },
  ): number;
  /** Returns the offset of a name in the string section. */
  nameOffset(name: string): number;
}

/** Encoding of the types of one kind of `t` as a C type. */
export interface CType {
  /** Size in bytes of all types of the kind, if it is fixed. */
  readonly size?: number;
  /**
   * Returns the id of the C type; `undefined` if the type lacks the properties of its kind.
   *
   * @param encodeNested encodes a type inside this one (an element or a member), and returns its id
   */
  encode(
    types: CTypeWriter,
    type: Type<unknown>,
    encodeNested: (type: Type<unknown>) => number,
  ): number | undefined;
}

const cTypes = new Map<string, CType>();

/** Registers the C type of a kind. */
export function setCType(kind: string, cType: CType): void {
  cTypes.set(kind, cType);
}

/** Returns the C type of a kind, if one is registered and has this size. */
export function cTypeOf(kind: string, size: number): CType | undefined {
  const cType = cTypes.get(kind);
  return cType !== undefined && (cType.size ?? size) === size ? cType : undefined;
}

/** Encodes C's `unsigned char`. */
export const unsignedChar = (types: CTypeWriter) => types.int("unsigned char", 1);
/** Encodes the kernel's `__u8`. */
export const cU8 = (types: CTypeWriter) => types.typedef("__u8", unsignedChar(types));
/** Encodes the kernel's `__u16`. */
const cU16 = (types: CTypeWriter) => types.typedef("__u16", types.int("unsigned short", 2));
/** Encodes the kernel's `__u32`. */
export const cU32 = (types: CTypeWriter) => types.typedef("__u32", types.int("unsigned int", 4));
/** Encodes the kernel's `__u64`. */
export const cU64 = (types: CTypeWriter) =>
  types.typedef("__u64", types.int("unsigned long long", 8));
/** Encodes the kernel's `__be16`. */
export const cBe16 = (types: CTypeWriter) => types.typedef("__be16", cU16(types));
/** Encodes the kernel's `__be32`. */
export const cBe32 = (types: CTypeWriter) => types.typedef("__be32", cU32(types));
/** Encodes the kernel's `__be64`. */
export const cBe64 = (types: CTypeWriter) => types.typedef("__be64", cU64(types));

/** Encodes the kernel's `struct in_addr`. */
export const cInAddress = (types: CTypeWriter) =>
  types.struct("in_addr", 4, [{ name: "s_addr", typeId: cBe32(types), bitOffset: 0 }]);

/** Returns the id of `struct in6_addr`, with its union of bytes and words. */
export function cIn6Address(types: CTypeWriter): number {
  const union = types.union("", 16, [
    { name: "u6_addr8", typeId: types.array(cU8(types), 16), bitOffset: 0 },
    { name: "u6_addr16", typeId: types.array(cBe16(types), 8), bitOffset: 0 },
    { name: "u6_addr32", typeId: types.array(cBe32(types), 4), bitOffset: 0 },
  ]);
  return types.struct("in6_addr", 16, [{ name: "in6_u", typeId: union, bitOffset: 0 }]);
}
