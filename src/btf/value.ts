/** @module What values of BTF types are decoded to. */

/** A value of a BTF type as a value of JavaScript: see {@link Btf.decode}. */
export type BtfValue = number | bigint | boolean | string | BtfValue[] | BtfRecord;

/** A struct, union or section: its members or variables by their names. */
export interface BtfRecord {
  [name: string]: BtfValue;
}

/** How {@link Btf.decode} makes values. */
export interface BtfDecodeOptions {
  /** Pointers as bigints, or as hexadecimal texts, which tell them from numbers: `"0xffff888003a40000"`. @default "bigint" */
  readonly pointers?: "bigint" | "hex";
}
