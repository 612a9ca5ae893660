/**
 * C layouts and the JavaScript values they decode to: what the keys, values and events of maps and ring
 * buffers are declared with.
 *
 * @module
 */
export { array } from "./array.ts";
export { bool } from "./bool.ts";
export { bytes } from "./bytes.ts";
export { cidr4, cidr6 } from "./cidr.ts";
export { custom, type CustomOptions } from "./custom.ts";
export { be16, be32, be64, i16, i32, i64, i64n, i8, u16, u32, u64, u64n, u8 } from "./integer.ts";
export { ipv4 } from "./ipv4.ts";
export { ipv6 } from "./ipv6.ts";
export { mac } from "./mac.ts";
export { spinLock, timer } from "./opaque.ts";
export { cstring } from "./string.ts";
export { struct, type StructOptions } from "./struct.ts";
export type {
  ArrayType,
  BytesType,
  CStringType,
  Fields,
  Infer,
  IntegerKind,
  IntegerType,
  OpaqueType,
  StructCursor,
  StructType,
  StructValue,
  Type,
} from "./type.ts";
