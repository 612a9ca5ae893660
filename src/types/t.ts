/**
 * C layouts and the JavaScript values they decode to: what the keys, values and events of maps and ring
 * buffers are declared with.
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
export { bytes, cstring } from "./text.ts";
export { cidr4, cidr6 } from "./cidr.ts";
export { custom, type CustomOptions } from "./custom.ts";
export { ipv4, ipv6, mac } from "./address.ts";
export { spinLock, timer } from "./opaque.ts";
export { struct, type StructOptions } from "./struct.ts";
export type {
  ArrayType,
  BytesType,
  CStringType,
  Fields,
  Infer,
  Inside,
  IntegerKind,
  IntegerType,
  KernelField,
  OpaqueKind,
  OpaqueType,
  StructCursor,
  StructInside,
  StructType,
  StructValue,
  Type,
} from "./type.ts";
