import * as t from "../../src/types/t.ts";

/** A struct of vectors.c as a type of `t`, and the values of its samples. */
export interface Vector {
  readonly type: t.StructType<t.Fields>;
  readonly samples: readonly unknown[];
}

function vector<F extends t.Fields>(
  type: t.StructType<F>,
  ...samples: readonly t.StructValue<F>[]
): Vector {
  return { type: type as unknown as t.StructType<t.Fields>, samples };
}

const inner = t.struct({ kind: t.u8, id: t.u32 });
const wideInner = t.struct({ a: t.u32, b: t.u64Number });
const nestedWide = t.struct({ a: t.u32, inner: wideInner, b: t.u8 });
const packedMixed = t.struct({ a: t.u8, b: t.u64, c: t.u16, d: t.u32, e: t.u8 }, { packed: true });

export const vectors: Readonly<Record<string, Vector>> = {
  unsigned_widths: vector(
    t.struct({ a: t.u8, b: t.u16, c: t.u8, d: t.u32, e: t.u8, f: t.u64, g: t.u8 }),
    { a: 1, b: 0x0203, c: 4, d: 0x05060708, e: 9, f: 0x0a0b0c0d0e0f1011n, g: 0x12 },
    { a: 255, b: 65535, c: 255, d: 4294967295, e: 255, f: 2n ** 64n - 1n, g: 255 },
  ),
  signed_widths: vector(
    t.struct({ a: t.i64, b: t.i8, c: t.i32, d: t.i8, e: t.i16 }),
    { a: -2n, b: -3, c: -4, d: -5, e: -6 },
    { a: -(2n ** 63n), b: -128, c: -(2 ** 31), d: 127, e: -32768 },
  ),
  number_widths: vector(
    t.struct({ a: t.u8, b: t.u64Number, c: t.i64Number, d: t.u16 }),
    { a: 1, b: Number.MAX_SAFE_INTEGER, c: Number.MIN_SAFE_INTEGER, d: 2 },
    { a: 0, b: 2 ** 32, c: -1, d: 0 },
    { a: 0, b: 2 ** 32 - 1, c: -(2 ** 32) - 1, d: 65535 },
  ),
  tail_padding: vector(t.struct({ a: t.u64, b: t.u8 }), { a: 0x1122334455667788n, b: 0x99 }),
  no_padding: vector(t.struct({ a: t.u32, b: t.u16, c: t.u8, d: t.u8 }), {
    a: 1,
    b: 2,
    c: 3,
    d: 4,
  }),
  single_byte: vector(t.struct({ a: t.u8 }), { a: 200 }),
  bools: vector(t.struct({ a: t.bool, b: t.u32, c: t.bool, d: t.bool }), {
    a: true,
    b: 7,
    c: false,
    d: true,
  }),
  char_arrays: vector(
    t.struct({ comm: t.cstring(16), a: t.u8, odd: t.cstring(5), b: t.u16 }),
    { comm: "systemd-journal", a: 1, odd: "abc", b: 2 },
    { comm: "héllo 🐝", a: 255, odd: "", b: 3 },
  ),
  raw_bytes: vector(t.struct({ a: t.u8, digest: t.bytes(3), b: t.u32, tail: t.bytes(17) }), {
    a: 1,
    digest: Uint8Array.of(2, 0, 255),
    b: 4,
    tail: Uint8Array.from({ length: 17 }, (_, i) => i * 15),
  }),
  nested: vector(t.struct({ a: t.u8, first: inner, b: t.u16, second: inner }), {
    a: 1,
    first: { kind: 2, id: 3 },
    b: 4,
    second: { kind: 5, id: 6 },
  }),
  nested_wide: vector(nestedWide, { a: 1, inner: { a: 2, b: 3 }, b: 4 }),
  scalar_arrays: vector(
    t.struct({
      a: t.u8,
      small: t.array(t.u16, 3),
      wide: t.array(t.u64, 2),
      many: t.array(t.u32, 40),
    }),
    {
      a: 9,
      small: [1, 2, 3],
      wide: [10n, 11n],
      many: Array.from({ length: 40 }, (_, i) => i * 1000003),
    },
  ),
  struct_arrays: vector(t.struct({ a: t.u8, items: t.array(inner, 3), b: t.u8 }), {
    a: 1,
    items: [
      { kind: 3, id: 100 },
      { kind: 4, id: 101 },
      { kind: 5, id: 102 },
    ],
    b: 2,
  }),
  matrix: vector(t.struct({ a: t.u8, rows: t.array(t.array(t.u16, 3), 2) }), {
    a: 1,
    rows: [
      [0, 1, 2],
      [10, 11, 12],
    ],
  }),
  packed_mixed: vector(packedMixed, {
    a: 1,
    b: 0x0203040506070809n,
    c: 0x0a0b,
    d: 0x0c0d0e0f,
    e: 0x10,
  }),
  holds_packed: vector(t.struct({ a: t.u8, inner: packedMixed, b: t.u32 }), {
    a: 1,
    inner: { a: 2, b: 3n, c: 4, d: 5, e: 6 },
    b: 7,
  }),
  packed_outside: vector(t.struct({ a: t.u8, inner, b: t.u16 }, { packed: true }), {
    a: 1,
    inner: { kind: 2, id: 3 },
    b: 4,
  }),
  network_order: vector(t.struct({ a: t.u8, port: t.be16, address: t.be32, id: t.be64 }), {
    a: 1,
    port: 443,
    address: 0x0a000001,
    id: 0x0102030405060708n,
  }),
  connection: vector(
    t.struct({ from6: t.ipv6, proto: t.u8, from: t.ipv4, port: t.be16, mac: t.mac }),
    {
      from6: "2001:db8::1:0:0:1",
      proto: 6,
      from: "192.168.1.254",
      port: 8080,
      mac: "02:42:ac:11:00:02",
    },
    { from6: "::ffff:10.1.2.3", proto: 17, from: "0.0.0.0", port: 0, mac: "00:00:00:00:00:00" },
  ),
  lpm4: vector(
    t.struct({ key: t.cidr4 }),
    { key: "172.16.0.0/12" },
    { key: "0.0.0.0/0" },
    { key: "255.255.255.255/32" },
  ),
  lpm6: vector(t.struct({ key: t.cidr6 }), { key: "2001:db8:8000::/33" }),
  deep: vector(t.struct({ a: t.u8, levels: t.array(nestedWide, 2), b: t.bool }), {
    a: 1,
    levels: [
      { a: 2, inner: { a: 3, b: 4 }, b: 5 },
      { a: 2, inner: { a: 3, b: 5 }, b: 5 },
    ],
    b: true,
  }),
};
