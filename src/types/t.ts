/**
 * Types that pair a C layout with a JavaScript value. They declare the keys and values of maps, and the
 * records of ring buffers.
 *
 * @module
 */
export { array } from "./array.ts";
export {
  be16,
  be32,
  be64,
  bool,
  i16,
  i32,
  i64,
  i64Number,
  i8,
  u16,
  u32,
  u64,
  u64Number,
  u8,
} from "./integer.ts";
export { bits } from "./bits.ts";
export { bytes, cstring } from "./text.ts";
export { cidr4, cidr6 } from "./cidr.ts";
export { custom, type CustomOptions } from "./custom.ts";
export { type EnumOptions, enumeration as enum } from "./enum.ts";
export { f32, f64 } from "./float.ts";
export { i128, u128 } from "./int128.ts";
export { ipv4, ipv6, mac } from "./address.ts";
export { spinLock, timer } from "./opaque.ts";
export { struct, type StructOptions } from "./struct.ts";
export { union } from "./union.ts";
export type {
  ArrayType,
  BitsEnd,
  BitsType,
  BytesType,
  CStringType,
  EnumType,
  FieldPlace,
  Fields,
  Infer,
  Inside,
  IntegerKind,
  IntegerType,
  KernelBytes,
  KernelField,
  OpaqueKind,
  OpaqueType,
  StructCursor,
  StructInside,
  StructType,
  StructValue,
  Type,
  UnionType,
  UnionValue,
} from "./type.ts";
