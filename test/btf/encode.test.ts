import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EncodedBtf, encodeBtf } from "../../src/btf/encode.ts";
import { loadBtf } from "../../src/ffi/bpf_btf.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { Btf } from "../../src/index.ts";
import { hasOpaqueField } from "../../src/types/opaque.ts";
import * as t from "../../src/types/t.ts";
import { bpftoolJson, bpftoolTest } from "../support/bpftool.ts";
import { bpfTest } from "../support/privilege.ts";
import { withRandom } from "../types/random.ts";
import { randomType } from "../types/random_type.ts";

function encodeValue(value: t.Type<unknown>): { btf: Btf; id: number } {
  const { bytes, valueTypeId } = encodeBtf({ value });
  return { btf: Btf.parse(bytes), id: valueTypeId };
}

/** Returns the C declaration of a type, without sizes and offsets. */
function declaration(btf: Btf, id: number): string {
  const type = btf.type(id);
  if (type.kind === "array") return `${declaration(btf, type.typeId)}[${type.length}]`;
  if (type.kind !== "struct" && type.kind !== "union") return type.name;
  if (type.name !== "") return `struct ${type.name}`;
  const members = btf
    .members(id)
    .map((member) => `${declaration(btf, member.typeId)} ${member.name};`);
  return `${type.kind} { ${members.join(" ")} }`;
}

function declared(type: t.Type<unknown>): string {
  const { btf, id } = encodeValue(type);
  expect(btf.sizeOf(id)).toBe(type.size);
  return declaration(btf, id);
}

/** Makes a type that is not from `t`. */
function foreign(kind: string, size: number, more: object = {}): t.Type<unknown> {
  return { kind, name: "foreign", size, align: 1, read: () => 0, write: () => {}, ...more };
}

/** Loads BTF, and throws if the kernel rejects it. */
function load({ bytes, older }: EncodedBtf): void {
  // Every kernel accepts the encoding for kernels before 5.13 (floats) and 6.0 (signed and 64-bit enums).
  if (older !== undefined) load(older);
  if (older === undefined || isKernelSince("6.0")) {
    loadBtf(bytes, "types of a test")[Symbol.dispose]();
  }
}

describe("single values have C's types", () => {
  test.each([
    [t.u8, "unsigned char"],
    [t.u16, "unsigned short"],
    [t.u32, "unsigned int"],
    [t.u64, "unsigned long long"],
    [t.u64Number, "unsigned long long"],
    [t.i8, "signed char"],
    [t.i16, "short"],
    [t.i32, "int"],
    [t.i64, "long long"],
    [t.i64Number, "long long"],
    [t.be16, "__be16"],
    [t.be32, "__be32"],
    [t.be64, "__be64"],
    [t.bool, "_Bool"],
    [t.bytes(3), "unsigned char[3]"],
    [t.cstring(16), "char[16]"],
    [t.ipv4, "struct in_addr"],
    [t.ipv6, "struct in6_addr"],
    [t.mac, "__u8[6]"],
    [t.cidr4, "struct { __u32 prefixlen; struct in_addr addr; }"],
    [t.cidr6, "struct { __u32 prefixlen; struct in6_addr addr; }"],
    [t.custom({ size: 5, read: () => 0, write: () => {} }), "unsigned char[5]"],
    [t.spinLock, "struct bpf_spin_lock"],
    [t.timer, "struct bpf_timer"],
  ] as [t.Type<unknown>, string][])("$kind", (type, expected) => {
    expect(declared(type)).toBe(expected);
  });

  test("typedefs are those of the kernel's headers", () => {
    const { btf, id } = encodeValue(t.be16);
    const inner = btf.type(btf.type(id).typeId);
    expect(inner).toMatchObject({ kind: "typedef", name: "__u16" });
    expect(btf.resolve(id)).toMatchObject({ kind: "int", name: "unsigned short" });
  });

  test("locks and timers have the structs of the kernel's headers", () => {
    const { btf } = encodeValue(t.struct({ lock: t.spinLock, timer: t.timer, address: t.ipv6 }));
    expect(btf.field("bpf_spin_lock", "val")).toMatchObject({ offset: 0, size: 4 });
    expect(btf.field("bpf_timer", "__opaque")).toMatchObject({ offset: 0, size: 16 });
    expect(btf.field("in6_addr", "in6_u.u6_addr32")).toMatchObject({ offset: 0, size: 16 });
    const { btf: another } = encodeValue(t.ipv4);
    expect(another.field("in_addr", "s_addr")).toMatchObject({ offset: 0, size: 4 });
  });
});

describe("structs and arrays", () => {
  test("have members at the offsets of t", () => {
    const type = t.struct({ a: t.u8, lock: t.spinLock, b: t.array(t.array(t.u16, 2), 3) });
    const { btf, id } = encodeValue(type);
    expect(btf.type(id)).toMatchObject({ kind: "struct", name: "", size: 20 });
    expect(btf.members(id).map(({ name, bitOffset }) => [name, bitOffset])).toEqual([
      ["a", 0],
      ["lock", 32],
      ["b", 64],
    ]);
    expect(declared(type)).toBe(
      "struct { unsigned char a; struct bpf_spin_lock lock; unsigned short[2][3] b; }",
    );
    const packed = t.struct({ a: t.u8, b: t.u64 }, { packed: true });
    const encoded = encodeValue(packed);
    expect(encoded.btf.members(encoded.id)[1]).toMatchObject({ bitOffset: 8 });
    expect(encoded.btf.type(encoded.id).size).toBe(9);
  });

  test("have unique C identifiers as names", () => {
    const names = ["a b", "a_b", "a-b", "", "1st", "é", "int", "int_", "__proto__", "\ud83d\udc1d"];
    const type = t.struct(Object.fromEntries(names.map((name) => [name, t.u8])));
    const { btf, id } = encodeValue(type);
    expect(btf.members(id).map(({ name }) => name)).toEqual([
      "a_b_2",
      "a_b",
      "a_b_3",
      "_",
      "_1st",
      "__2",
      "int__2",
      "int_",
      "__proto__",
      "__3",
    ]);
  });

  bpfTest("have names of bounded length", () => {
    const long = "x".repeat(127);
    const value = t.struct({ [`${long}y`]: t.u8, [long]: t.u8, [`${long}z`]: t.u8 });
    const { btf, id } = encodeValue(value);
    expect(btf.members(id).map(({ name }) => name)).toEqual([
      `${"x".repeat(125)}_2`,
      long,
      `${"x".repeat(125)}_3`,
    ]);
    load(encodeBtf({ value }));
  });

  test("are encoded once, also if used several times", () => {
    const point = () => t.struct({ x: t.u32, y: t.u32 });
    const one = Btf.parse(encodeBtf({ key: point(), value: t.u32 }).bytes);
    const { bytes, keyTypeId, valueTypeId } = encodeBtf({ key: point(), value: point() });
    expect(keyTypeId).toBe(valueTypeId);
    expect(Btf.parse(bytes).length).toBe(one.length);
  });

  bpfTest("may be nested deep: levels that the kernel would reject are bytes", () => {
    let type: t.Type<unknown> = t.cidr6;
    for (let depth = 0; depth < 100; depth++) {
      type = depth % 3 === 0 ? t.array(type, 1) : t.struct({ inner: type });
    }
    const value = t.struct({ lock: t.spinLock, type });
    expect(encodeValue(value).btf.sizeOf(encodeBtf({ value }).valueTypeId)).toBe(value.size);
    load(encodeBtf({ value }));
  });

  bpfTest("may be large", () => {
    const far = 2 ** 29;
    const value = t.struct({ a: t.array(t.bytes(far), 1), b: t.u8 });
    expect(declared(value)).toBe(`unsigned char[${far + 1}]`);
    load(encodeBtf({ value }));
    const edge = t.struct({ a: t.bytes(far - 1), b: t.u8 });
    expect(declared(edge)).toBe(`struct { unsigned char[${far - 1}] a; unsigned char b; }`);
    load(encodeBtf({ value: edge }));
    const wide = t.struct(
      Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`f${i}`, t.u8])),
    );
    load(encodeBtf({ value: wide }));
  });
});

describe("types of other libraries that lack the properties of their kind are encoded as bytes", () => {
  const own = foreign("struct", 4) as t.Type<unknown> & { fields: object };
  own.fields = { self: { type: own, offset: 0 } };
  test.each([
    ["u32", foreign("u32", 8)],
    ["ipv6", foreign("ipv6", 4)],
    ["toString", foreign("toString", 4)],
    ["struct without fields", foreign("struct", 4)],
    ["empty struct", foreign("struct", 4, { fields: {} })],
    ["struct with null as a field", foreign("struct", 4, { fields: { a: null } })],
    [
      "struct of numbers instead of types",
      foreign("struct", 4, { fields: { a: { type: 5, offset: 0 } } }),
    ],
    [
      "struct of types without a size",
      foreign("struct", 4, { fields: { a: { type: {}, offset: 0 } } }),
    ],
    ["struct without offsets", foreign("struct", 4, { fields: { a: { type: t.u8 } } })],
    [
      "struct smaller than its field",
      foreign("struct", 4, { fields: { a: { type: t.u32, offset: 1 } } }),
    ],
    [
      "struct with fields out of order",
      foreign("struct", 8, {
        fields: { a: { type: t.u32, offset: 4 }, b: { type: t.u32, offset: 0 } },
      }),
    ],
    ["array without elements", foreign("array", 4)],
    ["array longer than its size", foreign("array", 4, { element: t.u16, length: 3 })],
  ])("%s", (_, type) => {
    expect(declared(type)).toBe(`unsigned char[${type.size}]`);
  });

  test("a struct inside itself", () => {
    expect(declared(own)).toBe("struct { unsigned char[4] self; }");
  });

  test("types with the properties of their kind are encoded", () => {
    expect(declared(foreign("u32", 4))).toBe("unsigned int");
    const point = foreign("struct", 8, { fields: { x: { type: t.i32, offset: 4 } } });
    expect(declared(foreign("array", 16, { element: point, length: 2 }))).toBe(
      "struct { int x; }[2]",
    );
  });
});

test("an absent key or value has the id 0", () => {
  expect(encodeBtf({})).toMatchObject({ keyTypeId: 0, valueTypeId: 0 });
  expect(Btf.parse(encodeBtf({}).bytes).length).toBe(1);
  expect(encodeBtf({ key: t.u32 })).toMatchObject({ keyTypeId: 1, valueTypeId: 0 });
  expect(encodeBtf({ value: t.u32 })).toMatchObject({ keyTypeId: 0, valueTypeId: 1 });
});

test("the encoding of the same types is cached", () => {
  const value = t.struct({ a: t.u32 });
  expect(encodeBtf({ key: t.u32, value })).toBe(encodeBtf({ key: t.u32, value }));
  expect(encodeBtf({ value })).toBe(encodeBtf({ value }));
  expect(encodeBtf({ value })).not.toBe(encodeBtf({ key: value }));
});

/** Checks that a BTF type has the layout of a `t` type, member by member. */
function compare(btf: Btf, id: number, type: t.Type<unknown>): void {
  expect(btf.sizeOf(id)).toBe(type.size);
  const { kind, length, typeId } = btf.type(id);
  if (type.kind === "struct") {
    const fields = Object.entries((type as t.StructType<t.Fields>).fields);
    const members = btf.members(id);
    const hasBits = fields.some(([, field]) => field.type.kind === "bits");
    expect(kind).toBe("struct");
    expect(members.map(({ bitOffset, bitSize }) => [bitOffset, bitSize])).toEqual(
      fields.map(([, { offset, bitOffset = offset * 8, type: part }]) => {
        if (part.kind === "bits") return [bitOffset, (part as t.BitsType<unknown>).width];
        const isSmallEnum = hasBits && part.kind === "enum" && part.size < 4;
        return [bitOffset, isSmallEnum ? part.size * 8 : 0];
      }),
    );
    expect(new Set(members.map(({ name }) => name)).size).toBe(fields.length);
    for (const [index, { name, typeId: part }] of members.entries()) {
      const [fieldName, field] = fields[index]!;
      expect(name).toMatch(/^[A-Za-z_][A-Za-z0-9_]*$/);
      if (/^[a-z]$/.test(fieldName)) expect(name).toBe(fieldName);
      compare(btf, part, field.type);
    }
  } else if (type.kind === "enum") {
    const { values, base } = type as t.EnumType<string, number | bigint>;
    expect({ kind, isSigned: btf.type(id).isSigned }).toEqual({
      kind: base.size === 8 ? "enum64" : "enum",
      isSigned: base.signed,
    });
    expect(btf.enumerators(id).map(({ value }) => BigInt(value))).toEqual(
      Object.values(values).map(BigInt),
    );
  } else if (type.kind === "array") {
    const { element, length: count } = type as t.ArrayType<unknown>;
    expect({ kind, length }).toEqual({ kind: "array", length: count });
    compare(btf, typeId, element);
  }
}

test("random types are read back with the same layout", () => {
  withRandom((random) => {
    for (let i = 0; i < 200; i++) {
      const [key, value] = [randomType(random, 3).type, randomType(random, 3).type];
      const { bytes, keyTypeId, valueTypeId } = encodeBtf({ key, value });
      const btf = Btf.parse(bytes);
      // In a struct with opaque fields, bit-fields are encoded as bytes.
      const hasOpaque = hasOpaqueField(key) || hasOpaqueField(value);
      for (const [id, type] of [
        [keyTypeId, key],
        [valueTypeId, value],
      ] as const) {
        if (hasOpaque) expect(btf.sizeOf(id)).toBe(type.size);
        else compare(btf, id, type);
      }
    }
  });
});

bpfTest("the kernel loads random types", () => {
  withRandom((random) => {
    for (let i = 0; i < 200; i++) {
      load(encodeBtf({ key: randomType(random, 3).type, value: randomType(random, 4).type }));
    }
  });
});

bpftoolTest("bpftool reads the same layouts", async () => {
  const value = t.struct({
    comm: t.cstring(16),
    ok: t.bool,
    "from port": t.be16,
    net: t.cidr6,
    lock: t.spinLock,
    list: t.array(t.struct({ id: t.u32, weight: t.i64Number }), 2),
  });
  const { bytes } = encodeBtf({ key: t.cidr4, value });
  const folder = mkdtempSync(join(tmpdir(), "encode-"));
  try {
    const file = join(folder, "types.btf");
    writeFileSync(file, bytes);
    const { types } = await bpftoolJson<{ types: readonly PrintedType[] }>(
      "btf",
      "dump",
      "file",
      file,
    );
    const btf = Btf.parse(bytes);
    expect(types).toHaveLength(btf.length - 1);
    for (const { id, kind, name, members } of types) {
      const type = btf.type(id);
      expect([kind, name]).toEqual([type.kind.toUpperCase(), type.name || "(anon)"]);
      if (members === undefined) continue;
      expect(members.map((member) => [member.name, member.type_id, member.bits_offset])).toEqual(
        btf.members(id).map((member) => [member.name, member.typeId, member.bitOffset]),
      );
    }
    const encodings = types.flatMap(({ name, encoding }) => (encoding ? [[name, encoding]] : []));
    expect(Object.fromEntries(encodings)).toMatchObject({
      char: "SIGNED",
      _Bool: "BOOL",
      "long long": "SIGNED",
      "unsigned int": "(none)",
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** A type in the JSON output of bpftool. */
interface PrintedType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly encoding?: string;
  readonly members?: readonly {
    readonly name: string;
    readonly type_id: number;
    readonly bits_offset: number;
  }[];
}
