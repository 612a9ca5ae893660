/** @module The C types that values without parts are, with the names that clang and the kernel's headers give them. */

import { BTF_INT_BOOL, BTF_INT_SIGNED } from "../uapi/btf.ts";
import type { BtfBuilder } from "./builder.ts";

/** A kind of `t` as a C type. */
export interface CType {
  /** The size that it always has; without, any size will do. */
  readonly size?: number;
  /** Gives the id of the C type. */
  encode(types: BtfBuilder, size: number): number;
}

/** An array of raw bytes: what any type is at the least. */
export function encodeBytes(types: BtfBuilder, size: number): number {
  return types.array(unsignedChar(types), size);
}

const unsignedChar = (types: BtfBuilder) => types.int("unsigned char", 1, 0);
const u8 = (types: BtfBuilder) => types.typedef("__u8", unsignedChar(types));
const u16 = (types: BtfBuilder) => types.typedef("__u16", types.int("unsigned short", 2, 0));
const u32 = (types: BtfBuilder) => types.typedef("__u32", types.int("unsigned int", 4, 0));
const u64 = (types: BtfBuilder) => types.typedef("__u64", types.int("unsigned long long", 8, 0));
const be16 = (types: BtfBuilder) => types.typedef("__be16", u16(types));
const be32 = (types: BtfBuilder) => types.typedef("__be32", u32(types));
const be64 = (types: BtfBuilder) => types.typedef("__be64", u64(types));

function in6Address(types: BtfBuilder): number {
  const union = types.union("", 16, [
    { name: "u6_addr8", typeId: types.array(u8(types), 16) },
    { name: "u6_addr16", typeId: types.array(be16(types), 8) },
    { name: "u6_addr32", typeId: types.array(be32(types), 4) },
  ]);
  return types.struct("in6_addr", 16, [{ name: "in6_u", typeId: union, offset: 0 }]);
}

/** The key of an LPM trie, which the kernel takes only if it is a struct. */
function network(types: BtfBuilder, addressId: number, addressSize: number): number {
  return types.struct("", 4 + addressSize, [
    { name: "prefixlen", typeId: u32(types), offset: 0 },
    { name: "addr", typeId: addressId, offset: 4 },
  ]);
}

function integer(name: string, size: number, encoding: number): CType {
  return { size, encode: (types) => types.int(name, size, encoding) };
}

/** By the kind of the type. */
export const cTypes: ReadonlyMap<string, CType> = new Map<string, CType>([
  ["u8", integer("unsigned char", 1, 0)],
  ["u16", integer("unsigned short", 2, 0)],
  ["u32", integer("unsigned int", 4, 0)],
  ["u64", integer("unsigned long long", 8, 0)],
  ["u64Number", integer("unsigned long long", 8, 0)],
  ["i8", integer("signed char", 1, BTF_INT_SIGNED)],
  ["i16", integer("short", 2, BTF_INT_SIGNED)],
  ["i32", integer("int", 4, BTF_INT_SIGNED)],
  ["i64", integer("long long", 8, BTF_INT_SIGNED)],
  ["i64Number", integer("long long", 8, BTF_INT_SIGNED)],
  ["be16", { size: 2, encode: be16 }],
  ["be32", { size: 4, encode: be32 }],
  ["be64", { size: 8, encode: be64 }],
  ["bool", integer("_Bool", 1, BTF_INT_BOOL)],
  ["bytes", { encode: encodeBytes }],
  // bpftool shows an array as text if its elements are called "char"; clang, too, makes them signed.
  ["cstring", { encode: (types, size) => types.array(types.int("char", 1, BTF_INT_SIGNED), size) }],
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
        types.struct("bpf_spin_lock", 4, [{ name: "val", typeId: u32(types), offset: 0 }]),
    },
  ],
  [
    "timer",
    {
      size: 16,
      encode: (types) =>
        types.struct("bpf_timer", 16, [
          { name: "__opaque", typeId: types.array(u64(types), 2), offset: 0 },
        ]),
    },
  ],
]);
