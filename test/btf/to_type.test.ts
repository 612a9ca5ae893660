/** Tests of the conversion of BTF types to types of `t`. */
import { describe, expect, test } from "bun:test";
import { encodeBtf } from "../../src/btf/encode.ts";
import { Btf, type BtfRecord, type BtfValue, HashMap } from "../../src/index.ts";
import * as t from "../../src/types/t.ts";
import { BTF_INT_BOOL, BTF_INT_SIGNED } from "../../src/uapi/btf.ts";
import { repetitions } from "../support/effort.ts";
import { bpfTest } from "../support/privilege.ts";
import { withRandom } from "../types/random.ts";
import { randomType } from "../types/random_type.ts";
import { kernelTypesTest } from "./kernel_types.ts";
import { RawTypes } from "./raw_types.ts";

/** Converts the type that `make` adds after `int` (id 1), `char` (id 2) and `unsigned long long` (id 3). */
function typeOf(make: (types: RawTypes) => number): t.Type<BtfValue> {
  const types = new RawTypes();
  types.int("int", 4, BTF_INT_SIGNED);
  types.int("char", 1, BTF_INT_SIGNED);
  types.int("unsigned long long", 8);
  const id = make(types);
  return Btf.parse(types.encode()).toType(id);
}

const [int, char, u64] = [1, 2, 3] as const;

function written(type: t.Type<BtfValue>, value: unknown): number[] {
  const bytes = new Uint8Array(type.size).fill(0xff);
  type.write(new DataView(bytes.buffer), 0, value as BtfValue);
  return [...bytes];
}

function read(type: t.Type<BtfValue>, bytes: readonly number[]): BtfValue {
  return type.read(new DataView(Uint8Array.from(bytes).buffer), 0);
}

describe("single values", () => {
  test.each([
    ["int", 4, BTF_INT_SIGNED, t.i32],
    ["unsigned char", 1, 0, t.u8],
    ["short", 2, BTF_INT_SIGNED, t.i16],
    ["long", 8, BTF_INT_SIGNED, t.i64],
    ["unsigned long", 8, 0, t.u64],
    ["_Bool", 1, BTF_INT_BOOL, t.bool],
  ] as [string, number, number, t.Type<unknown>][])(
    "%s has a type of t",
    (name, size, encoding, expected) => {
      expect(typeOf((types) => types.int(name, size, encoding)) as unknown).toBe(expected);
    },
  );

  test("pointers are 64-bit integers, also through typedefs and qualifiers", () => {
    const make = (types: RawTypes) =>
      types.typedef("p", types.qualified("const", types.ptr(types.forward("later"))));
    expect(typeOf(make) as unknown).toBe(t.u64);
  });

  test("128-bit integers and floating-point numbers have types of t", () => {
    const wide = typeOf((types) => types.int("__int128", 16, BTF_INT_SIGNED));
    expect(wide as unknown).toBe(t.i128);
    expect(typeOf((types) => types.int("unsigned __int128", 16)) as unknown).toBe(t.u128);
    expect(typeOf((types) => types.float("double", 8)) as unknown).toBe(t.f64);
    expect(typeOf((types) => types.float("float", 4)) as unknown).toBe(t.f32);
    const long = typeOf((types) => types.float("long double", 16));
    expect(long).toMatchObject({ kind: "array", size: 16 });
  });

  test("integers without a type of t are bytes", () => {
    const odd = typeOf((types) => types.int("odd", 3));
    expect(written(odd, [1, 2, 3])).toEqual([1, 2, 3]);
  });

  test("enum values are names, or numbers without a name", () => {
    const state = typeOf((types) => types.enum("state", 4, { IDLE: 0, BUSY: 7 }));
    expect([state.name, state.size, state.align]).toEqual(["enum state", 4, 4]);
    expect(written(state, "BUSY")).toEqual([7, 0, 0, 0]);
    expect(written(state, 8)).toEqual([8, 0, 0, 0]);
    expect(read(state, [7, 0, 0, 0])).toBe("BUSY");
    expect(read(state, [8, 0, 0, 0])).toBe(8);
    expect(() => written(state, "BUZY")).toThrow('did you mean "BUSY"');
    expect(() => written(state, -1)).toThrow("from 0 to 4294967295 (u32), got -1");
    expect(() => written(state, 1n)).toThrow(TypeError);
    const wide = typeOf((types) => types.enum64("wide", { LARGE: 2n ** 63n }));
    expect(read(wide, written(wide, "LARGE"))).toBe("LARGE");
  });

  test("enums without a recorded sign have that of their enumerators", () => {
    const state = typeOf((types) => types.enum("state", 4, { IDLE: 0, LOST: -1 }));
    expect(written(state, "LOST")).toEqual([0xff, 0xff, 0xff, 0xff]);
    expect(written(state, -2)).toEqual([0xfe, 0xff, 0xff, 0xff]);
    expect(read(state, [0xfe, 0xff, 0xff, 0xff])).toBe(-2);
    expect(read(state, [0xff, 0xff, 0xff, 0xff])).toBe("LOST");
    expect(() => written(state, 2 ** 31)).toThrow(
      "expected an integer from -2147483648 to 2147483647 (i32), got 2147483648",
    );
    const wide = typeOf((types) => types.enum("wide", 8, { LOST: -1 }));
    expect(written(wide, "LOST")).toEqual(Array.from({ length: 8 }, () => 0xff));
    expect(read(wide, written(wide, "LOST"))).toBe("LOST");
    expect(read(wide, written(wide, -2n))).toBe(-2n);
    const narrow = typeOf((types) =>
      types.struct("s", 4, [
        { name: "e", type: types.enum("e", 4, { LOW: -200 }), bit: 3, bits: 9 },
      ]),
    );
    const bytes = [(312 << 3) & 0xff, (312 << 3) >> 8, 0, 0];
    expect(written(narrow, { e: "LOW" })).toEqual(bytes);
    expect(read(narrow, bytes)).toEqual({ e: "LOW" });
    expect(read(narrow, written(narrow, { e: -201 }))).toEqual({ e: -201 });
  });

  test("integers in network byte order and addresses have types of t", () => {
    const be16 = typeOf((types) => types.typedef("__be16", types.int("unsigned short", 2)));
    expect([be16.kind, written(be16, 443)]).toEqual(["be16", [0x01, 0xbb]]);
    const be64 = typeOf((types) => types.typedef("__be64", u64));
    expect(read(be64, [0, 0, 0, 0, 0, 0, 1, 2])).toBe(0x102n);
    for (const type of [t.ipv4, t.ipv6] as t.Type<unknown>[]) {
      const { bytes, valueTypeId } = encodeBtf({ value: type });
      expect(Btf.parse(bytes).toType(valueTypeId) as t.Type<unknown>).toBe(type);
    }
  });
});

describe("arrays", () => {
  test("are t.array, and strings for characters", () => {
    const numbers = typeOf((types) => types.array(types.array(int, 2), 3));
    expect([numbers.kind, numbers.size]).toEqual(["array", 24]);
    const text = typeOf((types) => types.array(types.qualified("const", char), 8));
    expect([text.kind, text.size]).toEqual(["cstring", 8]);
    expect(read(text, written(text, "bash"))).toBe("bash");
  });
});

describe("structs and unions", () => {
  test("are t.struct if it has the same layout", () => {
    const make = (types: RawTypes) =>
      types.struct("event", 16, [
        { name: "kind", type: char, bit: 0 },
        { name: "pid", type: int, bit: 32 },
        { name: "time", type: u64, bit: 64 },
        { name: "more", type: types.array(u64, 0), bit: 128 },
      ]);
    const type = typeOf(make);
    expect([type.kind, type.size, type.align]).toEqual(["struct", 16, 8]);
    expect((type as unknown as t.StructType<t.Fields>).fields["pid"]?.offset).toBe(4);
    const packed = typeOf((types) =>
      types.struct("packed", 5, [
        { name: "kind", type: char, bit: 0 },
        { name: "pid", type: int, bit: 8 },
      ]),
    );
    expect([packed.kind, packed.size, packed.align]).toEqual(["struct", 5, 1]);
  });

  const spread = (types: RawTypes) => {
    const inner = types.struct("", 8, [
      { name: "low", type: int, bit: 0 },
      { name: "high", type: int, bit: 32 },
    ]);
    const union = types.union("", 8, [
      { name: "whole", type: u64, bit: 0 },
      { name: "", type: inner, bit: 0 },
    ]);
    return types.struct("s", 24, [
      { name: "first", type: int, bit: 0 },
      { name: "", type: union, bit: 64 },
      { name: "last", type: char, bit: 136 },
    ]);
  };

  test("include the members of anonymous ones, and write exactly one member of a union", () => {
    const type = typeOf(spread);
    expect([type.kind, type.name, type.size, type.align]).toEqual(["custom", "struct s", 24, 8]);
    const zeroes = Array.from({ length: 24 }, () => 0);
    const bytes = [...zeroes];
    bytes.splice(0, 1, 5);
    bytes.splice(8, 5, 1, 0, 0, 0, 2);
    bytes.splice(17, 1, 9);
    const rest = { first: 5, last: 9 };
    expect(read(type, bytes)).toEqual({ ...rest, whole: 0x2_0000_0001n, low: 1, high: 2 });
    expect(written(type, { ...rest, whole: 0x2_0000_0001n })).toEqual(bytes);
    expect(written(type, { ...rest, low: 1, high: 2 })).toEqual(bytes);
    expect(() => written(type, { ...rest, whole: 1n, low: 1, high: 2 })).toThrow(
      "union: expected a value for one of its members (whole, low, high), got 2",
    );
    expect(() => written(type, rest)).toThrow("got 0");
    expect(() => written(type, { ...rest, low: 1 })).toThrow('missing field "high"');
    expect(() => written(type, { whole: 1n, last: 9 })).toThrow('missing field "first"');
    expect(() => written(type, { ...rest, hole: 1n })).toThrow('unknown field "hole"');
    expect(() => written(type, 5)).toThrow("expected an object (struct s), got 5");
    expect(() => written(type, { ...rest, low: "x", high: 2 })).toThrow('field "low": expected');
  });

  test("can be nested, with the path in errors", () => {
    const type = typeOf((types) => types.array(spread(types), 2));
    const list = t.struct({ id: t.u32, list: type });
    const view = new DataView(new ArrayBuffer(list.size));
    const good = { first: 1, last: 2, whole: 3n };
    list.write(view, 0, { id: 1, list: [good, { first: -1, last: 0, low: 1, high: 2 }] });
    expect(list.read(view, 0).list).toMatchObject([good, { first: -1, low: 1, high: 2 }]);
    expect(() => list.write(view, 0, { id: 1, list: [good, { ...good, first: "1" }] })).toThrow(
      'field "list[1].first": expected',
    );
    expect(() => list.write(view, 0, { id: 1, list: [good, { first: 1, last: 1 }] })).toThrow(
      "list[1]: union: expected a value for one of its members",
    );
  });

  test("are t.struct if members are aligned by an attribute", () => {
    const made = typeOf((types) => {
      const number = types.int("unsigned int", 4);
      const byte = types.int("unsigned char", 1);
      return types.struct("lines", 128, [
        { name: "a", type: byte, bit: 0 },
        { name: "b", type: number, bit: 64 * 8 },
      ]);
    });
    expect(made).toMatchObject({ kind: "struct", name: "struct lines", size: 128, align: 4 });
    const bytes = new Uint8Array(128).fill(0xaa);
    made.write(new DataView(bytes.buffer), 0, { a: 1, b: 2 });
    expect(bytes.toHex()).toBe("01".padEnd(128, "0") + "02000000".padEnd(128, "0"));
    expect(read(made, [...bytes])).toEqual({ a: 1, b: 2 });
  });

  test("are t.struct with bit-fields, enums and unions, if these have all values", () => {
    const made = typeOf((types) => {
      const colour = types.enum("colour", 4, { RED: 0, GREEN: 5 });
      const number = types.int("float", 4);
      const either = types.union("either", 4, [
        { name: "colour", type: colour, bit: 0 },
        { name: "half", type: number, bit: 0, bits: 16 },
      ]);
      return types.struct("s", 12, [
        { name: "version", type: number, bit: 0, bits: 4 },
        { name: "colour", type: colour, bit: 4, bits: 3 },
        { name: "either", type: either, bit: 32 },
        { name: "last", type: number, bit: 64, bits: 32 },
      ]);
    });
    expect(made.kind).toBe("struct");
    const { fields } = made as unknown as t.StructType<Record<string, t.Type<unknown>>>;
    expect(Object.values(fields).map(({ type }) => type.kind)).toEqual([
      "bits",
      "bits",
      "union",
      "bits",
    ]);
    const value = { version: 9, colour: "GREEN", either: { half: 5 }, last: 7 };
    expect(read(made, written(made, value))).toEqual({
      ...value,
      either: { half: 5, colour: "GREEN" },
    });
    expect(encodeBtf({ value: made as t.Type<unknown> }).bytes.length).toBeGreaterThan(100);
    // An enumerator whose value does not fit into the bit-field.
    const narrow = typeOf((types) => {
      const colour = types.enum("colour", 4, { RED: 0, GREEN: 5 });
      return types.struct("s", 4, [{ name: "colour", type: colour, bit: 0, bits: 2 }]);
    });
    expect(narrow.kind).toBe("custom");
  });

  test("have bit-fields, with signs, names and booleans", () => {
    const type = typeOf((types) => {
      const bool = types.int("_Bool", 1, BTF_INT_BOOL);
      const mode = types.enum("mode", 4, { OFF: 0, ON: 3 });
      const unsigned = types.int("unsigned int", 4);
      return types.struct("flags", 16, [
        { name: "a", type: unsigned, bit: 0, bits: 3 },
        { name: "b", type: int, bit: 3, bits: 2 },
        { name: "c", type: bool, bit: 5, bits: 1 },
        { name: "mode", type: mode, bit: 6, bits: 2 },
        { name: "across", type: unsigned, bit: 12, bits: 20 },
        { name: "whole", type: int, bit: 32 },
        { name: "wide", type: u64, bit: 64, bits: 40 },
        { name: "last", type: u64, bit: 104, bits: 24 },
      ]);
    });
    const value = {
      a: 0b101,
      b: -1,
      c: true,
      mode: "ON",
      across: 0x7ffff,
      whole: 9,
      wide: 0x80_0000_0001n,
      last: 0x830201n,
    };
    const bytes = [0b1111_1101, 0xf0, 0xff, 0x7f, 9, 0, 0, 0, 1, 0, 0, 0, 0x80, 1, 2, 0x83];
    expect(read(type, bytes)).toEqual(value);
    expect(written(type, value)).toEqual(bytes);
    expect(() => written(type, { ...value, a: 8 })).toThrow(
      'field "a": expected an unsigned integer of 3 bits, got 8',
    );
    expect(() => written(type, { ...value, b: 2 })).toThrow("a signed integer of 2 bits");
    expect(() => written(type, { ...value, c: 1 })).toThrow('field "c": expected true or false');
    expect(() => written(type, { ...value, last: 1 })).toThrow(
      "expected an unsigned bigint of 24 bits",
    );
  });

  test("have bit-fields whose width is in an integer type (compilers before 2019)", () => {
    const type = typeOf((types) =>
      types.struct("old", 4, [
        { name: "low", type: types.int("unsigned int", 4, 0, 3), bit: 0 },
        { name: "high", type: types.int("int", 4, BTF_INT_SIGNED, 4, 3), bit: 0 },
        { name: "bit", type: types.int("_Bool", 1, BTF_INT_BOOL, 1), bit: 7 },
      ]),
    );
    const value = { low: 2, high: -1, bit: true };
    expect(read(type, [0b1111_1010, 0, 0, 0])).toEqual(value);
    expect(written(type, value)).toEqual([0b1111_1010, 0, 0, 0]);
  });

  test("can have any names of members", () => {
    const type = typeOf((types) =>
      types.union("u", 4, [
        { name: "__proto__", type: int, bit: 0 },
        { name: "constructor", type: int, bit: 0 },
      ]),
    );
    expect(Object.entries(read(type, [1, 0, 0, 0]))).toEqual([
      ["__proto__", 1],
      ["constructor", 1],
    ]);
    expect(written(type, JSON.parse('{ "__proto__": 2 }'))).toEqual([2, 0, 0, 0]);
    const odd = typeOf((types) =>
      types.struct("odd", 4, [
        { name: "constructor", type: int, bit: 0, bits: 3 },
        { name: "rest", type: int, bit: 3, bits: 2 },
      ]),
    );
    expect(() => written(odd, { rest: 1 })).toThrow('field "constructor"');
  });

  test("have opaque locks and timers", () => {
    const { bytes, valueTypeId } = encodeBtf({ value: t.struct({ a: t.u32, lock: t.spinLock }) });
    const type = Btf.parse(bytes).toType(valueTypeId);
    expect(type.name).toBe(t.struct({ a: t.u32, lock: t.spinLock }).name);
    expect(written(type, { a: 1 })).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
  });
});

describe("toType() throws", () => {
  test("for a type without values or bytes", () => {
    for (const make of [
      (types: RawTypes) => types.forward("later"),
      (types: RawTypes) => types.func("f", types.functionProto(0)),
      () => 0,
    ]) {
      expect(() => typeOf(make)).toThrow("it has no values, so it has no t type");
    }
    expect(() => typeOf((types) => types.struct("empty", 0, []))).toThrow("takes no bytes");
    expect(() => typeOf((types) => types.array(int, 0))).toThrow("takes no bytes");
    for (const id of [99, -1, 0.5]) expect(() => typeOf(() => id)).toThrow(RangeError);
  });

  test("for a struct inside itself, or smaller than its members", () => {
    for (const name of ["s", ""]) {
      const make = (types: RawTypes) => types.struct("s", 4, [{ name, type: 4, bit: 0 }]);
      expect(() => typeOf(make)).toThrow("is nested in more than 32 types");
    }
    const small = (types: RawTypes) => types.struct("s", 4, [{ name: "a", type: u64, bit: 0 }]);
    expect(() => typeOf(small)).toThrow("BTF type 4: member a is outside of the struct");
  });
});

describe("types with too many values for their bytes are rejected", () => {
  const levels = 30;
  const tooMany = "has more than 1280 values in 4 bytes";

  test("if named members overlap", () => {
    expect(() => typeOf((types) => nestedUnions(types, "m", types.int("int", 4)))).toThrow(tooMany);
  });

  test("if unnamed members overlap", () => {
    expect(() =>
      typeOf((types) => {
        const padding = types.struct("", 4, [
          { name: "", type: types.int("int", 4), bit: 0, bits: 3 },
        ]);
        return nestedUnions(types, "", padding);
      }),
    ).toThrow(tooMany);
  });

  /** Makes nested unions with two members each: there are a billion paths to the innermost type. */
  function nestedUnions(types: RawTypes, name: string, innermost: number): number {
    let type = innermost;
    for (let level = 0; level < levels; level++) {
      const members = [0, 1].map((at) => ({ name: name && `${name}${at}`, type, bit: 0 }));
      type = types.union("", 4, members);
    }
    return type;
  }
});

test("a type is converted once", () => {
  const btf = Btf.parse(encodeBtf({ value: t.struct({ a: t.u16, b: t.u64 }) }).bytes);
  const [id = 0] = btf.ids("struct");
  expect(btf.toType(id)).toBe(btf.toType(id));
});

bpfTest("maps accept them for keys and values", () => {
  const types = new RawTypes();
  const number = types.int("unsigned int", 4);
  const union = types.union("", 4, [
    { name: "port", type: number, bit: 0 },
    { name: "code", type: number, bit: 0 },
  ]);
  const id = types.struct("s", 8, [
    { name: "pid", type: number, bit: 0 },
    { name: "", type: union, bit: 32 },
  ]);
  const value = Btf.parse(types.encode()).toType(id);
  using map = new HashMap({ key: t.u32, value, maxEntries: 4 });
  map.set(1, { pid: 5, port: 80 });
  expect(map.get(1)).toEqual({ pid: 5, port: 80, code: 80 });
});

/**
 * Checks that a value of a `t` type equals the result of `decode()`, which distinguishes strings from other arrays of `char`, and
 * includes members without bytes.
 *
 * @param emptyMembers names of members without bytes
 */
function compare(
  made: BtfValue | undefined,
  decoded: BtfValue,
  path: string,
  emptyMembers: ReadonlySet<string> = new Set(),
): void {
  if (typeof made === "string" && Array.isArray(decoded)) {
    const bytes = Buffer.from(Int8Array.from(decoded as number[]).buffer);
    const end = bytes.indexOf(0);
    expect(made).toBe(bytes.toString("utf8", 0, end === -1 ? bytes.length : end));
  } else if (Array.isArray(made)) {
    const list = decoded as BtfValue[];
    if (made.length !== list.length) throw new Error(`${path}: ${made.length} of ${list.length}`);
    for (const [index, element] of made.entries()) {
      compare(element, list[index] as BtfValue, `${path}[${index}]`, emptyMembers);
    }
  } else if (typeof made === "object") {
    for (const [name, value] of Object.entries(decoded as BtfRecord)) {
      if (!Object.hasOwn(made, name) && (emptyMembers.has(name) || isEmpty(value))) continue;
      compare(made[name], value, `${path}.${name}`, emptyMembers);
    }
    expect(Object.keys(decoded)).toEqual(expect.arrayContaining(Object.keys(made)));
  } else if (made !== decoded && !(Number.isNaN(made) && Number.isNaN(decoded))) {
    throw new Error(`${path}: ${made} is decoded as ${Bun.inspect(decoded)}`);
  }
}

/** Returns true for the value of a type without bytes, or of an opaque type. */
function isEmpty(value: BtfValue): boolean {
  if (typeof value !== "object") return false;
  const parts = Object.values(value) as BtfValue[];
  return parts.length === 0 || "val" in value || "__opaque" in value || parts.every(isEmpty);
}

kernelTypesTest("structs of the kernel are read as by decode(), and written unchanged", () => {
  const btf = Btf.kernel();
  withRandom((random) => {
    const emptyMembers = new Set(
      [...btf.ids("struct"), ...btf.ids("union")].flatMap((id) =>
        btf.members(id).flatMap(({ name, typeId }) => (btf.sizeOf(typeId) === 0 ? [name] : [])),
      ),
    );
    const counts = { all: 0, plain: 0, written: 0 };
    for (const id of [...btf.ids("struct"), ...btf.ids("union")]) {
      const size = btf.sizeOf(id);
      const isChosen = random.below(100) < repetitions(20);
      if (size === 0 || size > 4096 || !isChosen) continue;
      const type = btf.toType(id);
      if ("opaque" in type) continue;
      expect(type.size).toBe(size);
      // Strings, for arrays of characters.
      const bytes = Uint8Array.from({ length: size }, () => 0x21 + random.below(0x5e));
      for (let at = 7; at < size; at += 8) bytes[at] = 0;
      const view = new DataView(bytes.buffer);
      const value = type.read(view, 0);
      compare(value, btf.decode(id, bytes), btf.type(id).name, emptyMembers);
      counts.all++;
      if (type.kind === "struct") counts.plain++;
      if (rewrites(type, value)) counts.written++;
    }
    expect(counts.all).toBeGreaterThan(repetitions(500));
    expect(counts.plain).toBeGreaterThan(counts.all / 4);
    expect(counts.written).toBeGreaterThan(counts.all / 3);
  });
});

/**
 * Checks that writing and reading a value does not change it. Returns false if it cannot be written: a union with all members, or a
 * string without a NUL.
 */
function rewrites(type: t.Type<BtfValue>, value: BtfValue): boolean {
  const view = new DataView(new ArrayBuffer(type.size));
  try {
    type.write(view, 0, value);
  } catch (error) {
    if (
      !/expected a value for one of its members|expected exactly one member|it takes \d+ bytes/.test(
        String(error),
      )
    )
      throw error;
    return false;
  }
  expect(type.read(view, 0)).toEqual(value);
  return true;
}

test("encoded types of t are converted back to the same layout", () => {
  withRandom((random) => {
    for (let round = 0; round < repetitions(100); round++) {
      const { type } = randomType(random, 3);
      const { bytes, valueTypeId } = encodeBtf({ value: type });
      const btf = Btf.parse(bytes);
      const again = btf.toType(valueTypeId);
      expect(again.size).toBe(type.size);
      if ("opaque" in again) continue;
      const value = Uint8Array.from({ length: type.size }, () => 1 + random.below(100));
      compare(again.read(new DataView(value.buffer), 0), btf.decode(valueTypeId, value), "value");
    }
  });
});
