/** @module What a BTF says, decoded. */

/** What a BTF type is, as the kernel's `BTF_KIND_*` names it. */
export type BtfKind =
  | "void"
  | "int"
  | "ptr"
  | "array"
  | "struct"
  | "union"
  | "enum"
  | "fwd"
  | "typedef"
  | "volatile"
  | "const"
  | "restrict"
  | "func"
  | "func_proto"
  | "var"
  | "datasec"
  | "float"
  | "decl_tag"
  | "type_tag"
  | "enum64";

/** One type of a Btf. `typeId` is the type it refers to where its kind refers to one (0 is void). */
export interface BtfType {
  readonly id: number;
  readonly kind: BtfKind;
  /** The C name; empty for anonymous types. */
  readonly name: string;
  /** Bytes, for kinds that have a size of their own; 0 otherwise. */
  readonly size: number;
  /** The type pointed to, aliased, qualified or returned; 0 for none or void. */
  readonly typeId: number;
  /** `BTF_KIND_ARRAY`: number of elements; 0 otherwise. */
  readonly length: number;
}

/** A member of a struct or union. */
export interface BtfMember {
  readonly name: string;
  readonly typeId: number;
  /** From the start of the struct that was asked about, in bits. */
  readonly bitOffset: number;
  /** Width in bits for a bit-field, 0 otherwise. */
  readonly bitSize: number;
}

/** A place inside a struct, in bytes. */
export interface BtfField {
  /** From the start of the struct. */
  readonly offset: number;
  readonly size: number;
  readonly typeId: number;
}

/** A named number of an enum; a bigint where a number would not hold it. */
export interface BtfEnumerator {
  readonly name: string;
  readonly value: number | bigint;
}

/** A variable of a section. */
export interface BtfVariable {
  readonly name: string;
  readonly typeId: number;
  /** From the start of the section, in bytes. */
  readonly offset: number;
  readonly size: number;
}

/** How an integer is to be understood. */
export interface BtfInteger {
  readonly isSigned: boolean;
  readonly isBool: boolean;
  /** Whether it is a character. */
  readonly isChar: boolean;
  /** Where it begins in the bytes of its type. */
  readonly bitOffset: number;
  readonly bitSize: number;
}
