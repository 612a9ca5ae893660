/** Tests of decoding bytes by their BTF types. */
import { describe, expect, test } from "bun:test";
import { encodeBtf } from "../../src/btf/encode.ts";
import { loadBtf } from "../../src/ffi/bpf_btf.ts";
import { Btf, type BtfValue } from "../../src/index.ts";
import * as t from "../../src/types/t.ts";
import { BTF_INT_BOOL, BTF_INT_CHAR, BTF_INT_SIGNED } from "../../src/uapi/btf.ts";
import { repetitions } from "../support/effort.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { withRandom } from "../types/random.ts";
import { randomType } from "../types/random_type.ts";
import { kernelTypesTest } from "./kernel_types.ts";
import { RawTypes } from "./raw_types.ts";

/** Decodes bytes as the type that `make` adds after `int` (id 1), `char` (id 2) and `unsigned long long` (id 3). */
function decode(make: (types: RawTypes) => number, bytes: readonly number[]): BtfValue {
  const types = new RawTypes();
  types.int("int", 4, BTF_INT_SIGNED);
  types.int("char", 1, BTF_INT_SIGNED);
  types.int("unsigned long long", 8);
  const id = make(types);
  return Btf.parse(types.encode()).decode(id, Uint8Array.from(bytes));
}

const [int, char, u64] = [1, 2, 3] as const;
const ff = (count: number) => Array.from({ length: count }, () => 0xff);

describe("numbers", () => {
  test.each([
    ["int", 4, BTF_INT_SIGNED, ff(4), -1],
    ["unsigned int", 4, 0, ff(4), 2 ** 32 - 1],
    ["short", 2, BTF_INT_SIGNED, [0x00, 0x80], -32768],
    ["unsigned short", 2, 0, [0x34, 0x12], 0x1234],
    ["signed char", 1, BTF_INT_SIGNED, [0xff], -1],
    ["unsigned char", 1, 0, [0xff], 255],
    ["char", 1, BTF_INT_CHAR, [0x41], 0x41],
    ["long", 8, BTF_INT_SIGNED, ff(8), -1n],
    ["unsigned long", 8, 0, ff(8), 2n ** 64n - 1n],
    ["__int128", 16, BTF_INT_SIGNED, ff(16), -1n],
    ["unsigned __int128", 16, 0, [...ff(15), 0x7f], 2n ** 127n - 1n],
    ["_Bool", 1, BTF_INT_BOOL, [0], false],
    ["_Bool", 1, BTF_INT_BOOL, [2], true],
    ["an integer of no size of C's", 3, 0, [1, 2, 3], [1, 2, 3]],
  ] as const)("%s of %d bytes", (name, size, encoding, bytes, value) => {
    expect(decode((types) => types.int(name, size, encoding), bytes)).toEqual(value as BtfValue);
  });

  test.each([
    [4, [0, 0, 0xc0, 0xbf], -1.5],
    [8, [0, 0, 0, 0, 0, 0, 0xf8, 0x3f], 1.5],
    [2, [1, 2], [1, 2]],
  ] as const)("floating point of %d bytes", (size, bytes, value) => {
    expect(decode((types) => types.float("float", size), bytes)).toEqual(value as BtfValue);
  });

  test("pointers are bigints or hexadecimal strings", () => {
    const types = new RawTypes();
    const id = types.ptr(0);
    const btf = Btf.parse(types.encode());
    const bytes = Uint8Array.from([0, 0, 0, 0, 0x80, 0x88, 0xff, 0xff]);
    expect(btf.decode(id, bytes)).toBe(0xffff_8880_0000_0000n);
    expect(btf.decode(id, bytes, { pointers: "bigint" })).toBe(0xffff_8880_0000_0000n);
    expect(btf.decode(id, bytes, { pointers: "hex" })).toBe("0xffff888000000000");
  });
});

describe("enums", () => {
  const state = (types: RawTypes) => types.enum("state", 4, { IDLE: 0, BUSY: 7, AGAIN: 7 });

  test("are names of enumerators, or numbers without a name", () => {
    expect(decode(state, [7, 0, 0, 0])).toBe("BUSY");
    expect(decode(state, [8, 0, 0, 0])).toBe(8);
  });

  test("may be signed, also if the compiler does not record it", () => {
    const signed = (types: RawTypes) => types.enum("s", 4, { ERROR: -1 }, true);
    const unrecorded = (types: RawTypes) => types.enum("s", 4, { ERROR: -1 });
    const small = (types: RawTypes) => types.enum("s", 1, { ERROR: -1 });
    for (const make of [signed, unrecorded]) expect(decode(make, ff(4))).toBe("ERROR");
    expect(decode(small, [0xff])).toBe("ERROR");
    expect(decode(signed, [0xfe, 0xff, 0xff, 0xff])).toBe(-2);
  });

  test("may have 64 bits", () => {
    const wide = (types: RawTypes) =>
      types.enum64("wide", { SMALL: 1n, LARGE: 2n ** 63n + 1n }, false);
    expect(decode(wide, [1, 0, 0, 0, 0, 0, 0, 0])).toBe("SMALL");
    expect(decode(wide, [1, 0, 0, 0, 0, 0, 0, 0x80])).toBe("LARGE");
    expect(decode(wide, [2, 0, 0, 0, 0, 0, 0, 0])).toBe(2n);
    const signed = (types: RawTypes) => types.enum64("wide", { MINUS: -1n }, true);
    expect(decode(signed, ff(8))).toBe("MINUS");
    expect(decode(signed, [0xfe, ...ff(7)])).toBe(-2n);
  });

  describe("from compilers that do not record signs", () => {
    test("are compared in their width, with the sign of their enumerators", () => {
      const wide = (types: RawTypes) => types.enum("wide", 8, { LOST: -1, FOUND: 1 });
      expect(decode(wide, ff(8))).toBe("LOST");
      expect(decode(wide, [1, 0, 0, 0, 0, 0, 0, 0])).toBe("FOUND");
      expect(decode(wide, [0xfe, ...ff(7)])).toBe(-2n);
      // Enums of 8 bytes, whose values have 4 bytes in BTF.
      expect(decode(wide, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])).toBe(0xffff_ffffn);
      const short = (types: RawTypes) => types.enum("short", 2, { LOW: -200 });
      expect(decode(short, [0x38, 0xff])).toBe("LOW");
      expect(decode(short, [0x37, 0xff])).toBe(-201);
    });

    test("are unsigned if only masks of upper bits would be negative", () => {
      const flags = (types: RawTypes) =>
        types.enum("flags", 4, { LOW: 1, MASK: 0xffff_0000, HIGH: 0x8000_0000 });
      expect(decode(flags, [0, 0, 0, 0x80])).toBe("HIGH");
      expect(decode(flags, [1, 0, 0, 0x80])).toBe(0x8000_0001);
    });

    test("have the same sign and names in bit-fields", () => {
      const field = (values: Record<string, number>, bits: number) => (types: RawTypes) =>
        types.struct("s", 4, [
          { name: "e", type: types.enum("e", 4, values), bit: 3, bits },
          { name: "rest", type: int, bit: 3 + bits, bits: 2 },
        ]);
      // -200 in 9 bits is 312.
      const bytes = [(312 << 3) & 0xff, (312 << 3) >> 8, 0, 0];
      expect(decode(field({ LOW: -200 }, 9), bytes)).toEqual({ e: "LOW", rest: 0 });
      expect(decode(field({ OTHER: -3 }, 9), bytes)).toEqual({ e: -200, rest: 0 });
      expect(decode(field({ HIGH: 312 }, 9), bytes)).toEqual({ e: "HIGH", rest: 0 });
      expect(decode(field({ OTHER: 3 }, 9), bytes)).toEqual({ e: 312, rest: 0 });
    });

    test("are unsigned if another enum is marked as signed", () => {
      const make = (types: RawTypes) => {
        types.enum("signed", 4, { NONE: -1 }, true);
        return types.enum("unsigned", 4, { ALL: 0xffff_ffff });
      };
      expect(decode(make, ff(4))).toBe("ALL");
      expect(decode(make, [0xfe, 0xff, 0xff, 0xff])).toBe(0xffff_fffe);
    });
  });
});

describe("arrays", () => {
  test("are arrays, also nested ones", () => {
    const nested = (types: RawTypes) => types.array(types.array(int, 2), 2);
    expect(decode(nested, [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(decode((types) => types.array(int, 0), [])).toEqual([]);
    expect(decode((types) => types.array(types.struct("", 0, []), 3), [])).toEqual([]);
  });

  const eight = (types: RawTypes) => types.array(char, 8);
  test.each([
    ["text", [0x62, 0x61, 0x73, 0x68, 0, 0, 0, 0], "bash"],
    ["a string with other bytes after its NUL", [0x6c, 0x73, 0, 0x68, 0xff, 1, 2, 3], "ls"],
    ["a string that is not ASCII", [0xc3, 0xa9, 0xf0, 0x9f, 0x90, 0x9d, 0, 0], "é\u{1f41d}"],
    ["an empty string", [0, 0, 0, 0, 0, 0, 0, 0], ""],
    ["white space", [0x09, 0x0a, 0x0d, 0x20, 0, 0, 0, 0], "\t\n\r "],
    [
      "a string without a NUL",
      [0x62, 0x61, 0x73, 0x68, 0x62, 0x61, 0x73, 0x68],
      [98, 97, 115, 104, 98, 97, 115, 104],
    ],
    ["a control character", [0x1b, 0x5b, 0x6d, 0, 0, 0, 0, 0], [27, 91, 109, 0, 0, 0, 0, 0]],
    [
      "a control character of two bytes",
      [0xc2, 0x9b, 0, 0, 0, 0, 0, 0],
      [-62, -101, 0, 0, 0, 0, 0, 0],
    ],
    ["bytes that are not UTF-8", [0xff, 0xfe, 0, 0, 0, 0, 0, 0], [-1, -2, 0, 0, 0, 0, 0, 0]],
    ["numbers that begin with 0", [0, 0, 0, 5, 0, 0, 0, 0], [0, 0, 0, 5, 0, 0, 0, 0]],
  ] as const)("of characters: %s", (_, bytes, value) => {
    expect(decode(eight, bytes)).toEqual(value as BtfValue);
  });

  test("of other integers are never strings", () => {
    const bytes = (types: RawTypes) => types.array(types.int("unsigned char", 1), 3);
    expect(decode(bytes, [0x61, 0x62, 0])).toEqual([0x61, 0x62, 0]);
    const said = (types: RawTypes) => types.array(types.int("unsigned char", 1, BTF_INT_CHAR), 3);
    expect(decode(said, [0x61, 0x62, 0])).toBe("ab");
  });
});

describe("values in network byte order", () => {
  const port = (types: RawTypes) =>
    types.typedef("__be16", types.typedef("__u16", types.int("unsigned short", 2)));
  const address = (types: RawTypes) =>
    types.typedef("__be32", types.typedef("__u32", types.int("unsigned int", 4)));

  test("are decoded as integers", () => {
    expect(decode(port, [0x01, 0xbb])).toBe(443);
    expect(
      decode(
        (types) => types.typedef("port_t", types.qualified("const", port(types))),
        [0x01, 0xbb],
      ),
    ).toBe(443);
    expect(decode(address, [10, 0, 0, 1])).toBe(0x0a00_0001);
    expect(decode((types) => types.typedef("__be64", u64), [0, 0, 0, 0, 0, 0, 1, 2])).toBe(0x102n);
    expect(decode((types) => types.array(port(types), 2), [0, 80, 1, 0xbb])).toEqual([80, 443]);
    expect(decode((types) => types.variable("port", port(types)), [1, 0xbb])).toBe(443);
    // The integer type itself is in the machine's byte order. The name on another type than an integer of its size has no effect.
    expect(
      decode(
        (types) =>
          types.struct("s", 4, [
            { name: "network", type: port(types), bit: 0 },
            { name: "host", type: types.length - 2, bit: 16 },
          ]),
        [1, 2, 1, 2],
      ),
    ).toEqual({ network: 0x102, host: 0x201 });
    expect(decode((types) => types.typedef("__be16", u64), [1, 0, 0, 0, 0, 0, 0, 0])).toBe(1n);
  });

  test("are decoded as address strings in the structs of IP addresses", () => {
    const in4 = (types: RawTypes) =>
      types.struct("in_addr", 4, [{ name: "s_addr", type: address(types), bit: 0 }]);
    expect(decode(in4, [10, 0, 0, 1])).toBe("10.0.0.1");
    const in6 = (types: RawTypes) => {
      const bytes = types.array(types.int("unsigned char", 1), 16);
      const union = types.union("", 16, [
        { name: "u6_addr8", type: bytes, bit: 0 },
        { name: "u6_addr32", type: types.array(address(types), 4), bit: 0 },
      ]);
      return types.struct("in6_addr", 16, [{ name: "in6_u", type: union, bit: 0 }]);
    };
    const bytes = [0x20, 0x01, 0x0d, 0xb8, ...Array.from({ length: 11 }, () => 0), 1];
    expect(decode(in6, bytes)).toBe("2001:db8::1");
    // Structs of that name with another size are decoded as structs.
    const other = (types: RawTypes) =>
      types.struct("in6_addr", 4, [{ name: "a", type: int, bit: 0 }]);
    expect(decode(other, [1, 0, 0, 0])).toEqual({ a: 1 });
  });
});

describe("structs and unions", () => {
  test("are objects with the names of their members, through typedefs and qualifiers", () => {
    const make = (types: RawTypes) => {
      const point = types.struct("point", 8, [
        { name: "x", type: types.qualified("const", int), bit: 0 },
        { name: "y", type: types.typedef("coordinate", types.typeTag("user", int)), bit: 32 },
      ]);
      return types.typedef("point_t", types.qualified("volatile", point));
    };
    expect(decode(make, [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])).toEqual({ x: 1, y: -1 });
  });

  test("include the members of anonymous ones", () => {
    const make = (types: RawTypes) => {
      const inner = types.struct("", 8, [
        { name: "low", type: int, bit: 0 },
        { name: "high", type: int, bit: 32 },
      ]);
      const union = types.union("", 8, [
        { name: "whole", type: u64, bit: 0 },
        { name: "", type: inner, bit: 0 },
      ]);
      return types.struct("s", 16, [
        { name: "first", type: int, bit: 0 },
        { name: "", type: union, bit: 64 },
      ]);
    };
    expect(decode(make, [5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0])).toEqual({
      first: 5,
      whole: 0x2_0000_0001n,
      low: 1,
      high: 2,
    });
  });

  test("can have any names of members", () => {
    const make = (types: RawTypes) =>
      types.struct("s", 8, [
        { name: "__proto__", type: int, bit: 0 },
        { name: "constructor", type: int, bit: 32 },
      ]);
    const value = decode(make, [1, 0, 0, 0, 2, 0, 0, 0]) as object;
    expect(Object.entries(value)).toEqual([
      ["__proto__", 1],
      ["constructor", 2],
    ]);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  });

  test("use the last member if several have the same name", () => {
    for (const name of [
      "__proto__",
      "constructor",
      "toString",
      "then",
      "toJSON",
      "hasOwnProperty",
    ]) {
      const make = (types: RawTypes) =>
        types.struct("s", 8, [
          { name, type: int, bit: 0 },
          { name, type: int, bit: 32 },
        ]);
      const value = decode(make, [1, 0, 0, 0, 2, 0, 0, 0]) as object;
      expect(Object.entries(value)).toEqual([[name, 2]]);
      expect(JSON.stringify(value)).toBe(`{"${name}":2}`);
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
      Object.assign(value, { other: 3 });
    }
  });

  test("decode bit-fields, with signs, names and booleans", () => {
    const make = (types: RawTypes) => {
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
    };
    const bytes = [0b1111_1101, 0xf0, 0xff, 0x7f, 9, 0, 0, 0, 1, 0, 0, 0, 0x80, 1, 2, 0x83];
    expect(decode(make, bytes)).toEqual({
      a: 0b101,
      b: -1,
      c: true,
      mode: "ON",
      across: 0x7ffff,
      whole: 9,
      wide: 0x80_0000_0001n,
      last: 0x830201n,
    });
  });

  test("decode bit-fields whose width is in an integer type (compilers before 2019)", () => {
    const make = (types: RawTypes) =>
      types.struct("old", 4, [
        { name: "low", type: types.int("unsigned int", 4, 0, 3), bit: 0 },
        { name: "high", type: types.int("int", 4, BTF_INT_SIGNED, 4, 3), bit: 0 },
        { name: "bit", type: types.int("_Bool", 1, BTF_INT_BOOL, 1), bit: 7 },
      ]);
    expect(decode(make, [0b1111_1010, 0, 0, 0])).toEqual({ low: 2, high: -1, bit: true });
  });

  test("decode a flexible array with as many elements as fit", () => {
    const make = (types: RawTypes) =>
      types.struct("list", 4, [
        { name: "count", type: int, bit: 0 },
        { name: "items", type: types.array(types.int("unsigned short", 2), 0), bit: 32 },
      ]);
    expect(decode(make, [2, 0, 0, 0, 1, 0, 2, 0, 3])).toEqual({ count: 2, items: [1, 2] });
    expect(decode(make, [0, 0, 0, 0])).toEqual({ count: 0, items: [] });
    const nested = (types: RawTypes) =>
      types.struct("outer", 8, [
        { name: "before", type: make(types), bit: 0 },
        { name: "after", type: make(types), bit: 32 },
      ]);
    // A flexible array that is not at the end is empty.
    expect(decode(nested, [2, 0, 0, 0, 1, 0, 0, 0, 7, 0])).toEqual({
      before: { count: 2, items: [] },
      after: { count: 1, items: [7] },
    });
    const named = (types: RawTypes) =>
      types.struct("named", 4, [
        { name: "id", type: int, bit: 0 },
        { name: "name", type: types.array(char, 0), bit: 32 },
      ]);
    expect(decode(named, [1, 0, 0, 0, 0x6c, 0x73, 0, 0])).toEqual({ id: 1, name: "ls" });
  });
});

describe("sections", () => {
  test("are objects with the names of their variables", () => {
    const make = (types: RawTypes) => {
      const count = types.variable("count", u64);
      const again = types.variable("limit", int);
      const limit = types.variable("limit", types.qualified("const", int));
      return types.section(".data", 16, [
        [count, 0, 8],
        [limit, 8, 4],
        [again, 12, 4],
      ]);
    };
    const bytes = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
    expect(decode(make, bytes)).toEqual({ count: 1n, limit: 2, "limit@12": 3 });
  });

  test("list their variables", () => {
    const types = new RawTypes();
    const count = types.variable("count", types.int("int", 4));
    const id = types.section(".bss", 4, [[count, 0, 4]]);
    const btf = Btf.parse(types.encode());
    expect(btf.variables(id)).toEqual([{ name: "count", typeId: 1, offset: 0, size: 4 }]);
    expect(() => btf.variables(1)).toThrow("only sections have variables");
    expect(btf.decode(count, Uint8Array.from([5, 0, 0, 0]))).toBe(5);
  });
});

describe("types with too many values for their bytes are rejected", () => {
  /** Decodes a type, and returns the error. The kernel must load the type, because such types can be found in a kernel. */
  const refusal = (make: (types: RawTypes) => number, size: number): unknown => {
    try {
      return decode((types) => {
        const id = make(types);
        if (bpfObstacle === undefined) loadBtf(types.encode(), "types of a test")[Symbol.dispose]();
        return id;
      }, new Array<number>(size).fill(0x41));
    } catch (error) {
      return error;
    }
  };
  const tooMany = (id: number, most: number, size: number) =>
    new RangeError(
      `BTF type ${id} has more than ${most} values in ${size} bytes: too many of its members overlap`,
    );
  const eight = (type: number, name: (index: number) => string) =>
    Array.from({ length: 8 }, (_, index) => ({ name: name(index), type, bit: 0 }));

  test.each([
    ["anonymous", () => ""],
    ["named", (index: number) => `m${index}`],
  ] as const)("%s members of unions within one another", (_, name) => {
    const make = (types: RawTypes) => {
      let inner = types.struct("leaf", 64, [{ name: "x", type: int, bit: 0 }]);
      for (let level = 0; level < 8; level++) inner = types.union("", 64, eight(inner, name));
      return inner;
    };
    // The limit is reached in the innermost union.
    expect(refusal(make, 64)).toEqual(tooMany(5, 5120, 64));
  });

  test("a struct whose members all begin at its start", () => {
    const make = (types: RawTypes) => {
      let inner = int as number;
      for (let level = 0; level < 8; level++) {
        inner = types.struct(
          `s${level}`,
          4,
          eight(inner, (index) => `m${index}`),
        );
      }
      return inner;
    };
    expect(refusal(make, 4)).toEqual(tooMany(4, 1280, 4));
  });

  test("a wide union in an array", () => {
    const make = (types: RawTypes) => {
      const members = Array.from({ length: 60_000 }, (_, index) => ({
        name: `m${index}`,
        type: char,
        bit: 0,
      }));
      return types.array(types.union("wide", 1, members), 256);
    };
    expect(refusal(make, 256)).toEqual(tooMany(4, 17_408, 256));
  });

  test("strings that overlap", () => {
    const make = (types: RawTypes) => {
      const text = types.array(char, 1000);
      return types.union(
        "texts",
        1000,
        Array.from({ length: 1000 }, (_, index) => ({ name: `m${index}`, type: text, bit: 0 })),
      );
    };
    expect(refusal(make, 1000)).toEqual(tooMany(4, 65_024, 1000));
  });

  test("large arrays that overlap", () => {
    const size = 1 << 20;
    const make = (types: RawTypes) => {
      const type = types.array(types.int("unsigned char", 1), size);
      const members = ["a", "b", "c", "d", "e", "f"].map((name) => ({ name, type, bit: 0 }));
      return types.union("arrays", size, members);
    };
    expect(refusal(make, size)).toEqual(tooMany(5, 1024 + 5 * size, size));
  });

  test("unlike the unions of real programs, which are decoded", () => {
    const make = (types: RawTypes) =>
      types.union(
        "u",
        8,
        Array.from({ length: 1000 }, (_, index) => ({ name: `m${index}`, type: u64, bit: 0 })),
      );
    expect(Object.keys(refusal(make, 8) as object)).toHaveLength(1000);
  });
});

describe("decode() throws", () => {
  test("for a type without values", () => {
    for (const make of [
      (types: RawTypes) => types.forward("later"),
      (types: RawTypes) => types.func("f", types.functionProto(0)),
      () => 0,
    ]) {
      expect(() => decode(make, [0, 0, 0, 0])).toThrow("it has no values to decode");
    }
  });

  test("for too few bytes, and for an unknown id", () => {
    expect(() => decode(() => u64, [1, 2, 3])).toThrow(
      new RangeError("BTF type 3 takes 8 bytes, got 3"),
    );
    for (const id of [99, -1, 0.5]) expect(() => decode(() => id, [])).toThrow(RangeError);
  });

  test("for bytes that are not a Uint8Array, and for misspelt options", () => {
    const btf = Btf.parse(encodeBtf({ value: t.u32 }).bytes);
    expect(() => btf.decode(1, [1, 2, 3, 4] as never)).toThrow("bytes: expected a Uint8Array");
    expect(() => btf.decode(1, new Uint8Array(4), { pointer: "hex" } as never)).toThrow(
      'unknown option "pointer"',
    );
    expect(() => btf.decode(1, new Uint8Array(4), { pointers: "octal" } as never)).toThrow(
      'pointers: expected "bigint" or "hex", got "octal"',
    );
  });

  test("for structs and arrays that are nested too deep", () => {
    const within = (depth: number) => (types: RawTypes) => {
      let inner: number = int;
      for (let count = 0; count < depth; count++) {
        const name = count % 3 === 0 ? "" : "s";
        inner =
          count % 2 === 0
            ? types.array(inner, 1)
            : types.struct("", 4, [{ name, type: inner, bit: 0 }]);
      }
      return inner;
    };
    expect(Bun.inspect(decode(within(32), [7, 0, 0, 0]), { depth: 40 })).toContain("7");
    expect(() => decode(within(33), [7, 0, 0, 0])).toThrow("is nested in more than 32 types");
  });

  test("for a struct inside itself", () => {
    const make = (types: RawTypes) => types.struct("s", 4, [{ name: "s", type: 4, bit: 0 }]);
    expect(() => decode(make, [0, 0, 0, 0])).toThrow("is nested in more than 32 types");
    const hidden = (types: RawTypes) => types.struct("s", 4, [{ name: "", type: 4, bit: 0 }]);
    expect(() => decode(hidden, [0, 0, 0, 0])).toThrow("is nested in more than 32 types");
  });
});

test("bytes in the middle of a buffer are decoded without the bytes around them", () => {
  const btf = Btf.parse(encodeBtf({ value: t.struct({ a: t.u16, b: t.bytes(2) }) }).bytes);
  const buffer = Uint8Array.from([9, 9, 9, 1, 0, 2, 3, 9]);
  const [id] = [...btf.ids("struct")];
  expect(btf.decode(id as number, buffer.subarray(3, 7))).toEqual({ a: 1, b: [2, 3] });
  expect(() => btf.decode(id as number, buffer.subarray(3, 6))).toThrow("takes 4 bytes, got 3");
});

/** Returns the expected result of `decode()` for a value of a `t` type; `undefined` if the two decode it differently. */
function asBtf(type: t.Type<unknown>, view: DataView, offset: number): BtfValue | undefined {
  const raw = (size: number) => new Uint8Array(view.buffer, view.byteOffset + offset, size);
  switch (type.kind) {
    case "u8":
    case "u16":
    case "u32":
    case "i8":
    case "i16":
    case "i32":
    case "u64":
    case "i64":
      return type.read(view, offset) as BtfValue;
    case "u64Number":
      return view.getBigUint64(offset, true);
    case "i64Number":
      return view.getBigInt64(offset, true);
    case "bytes":
    case "mac":
      return [...raw(type.size)];
    case "array": {
      const { element, length } = type as t.ArrayType<unknown>;
      const values = Array.from({ length }, (_, index) =>
        asBtf(element, view, offset + index * element.size),
      );
      return values.includes(undefined) ? undefined : (values as BtfValue[]);
    }
    case "struct": {
      const fields = Object.values((type as t.StructType<t.Fields>).fields);
      const values = fields.map((field) => asBtf(field.type, view, offset + field.offset));
      return values.includes(undefined)
        ? undefined
        : (Object.fromEntries(values.entries()) as BtfValue);
    }
    default:
      return undefined;
  }
}

/** Returns the values of an object in order. Names that are not C identifiers are changed in BTF, so they are not compared. */
function byPlace(value: BtfValue): BtfValue {
  if (Array.isArray(value)) return value.map(byPlace);
  if (typeof value !== "object") return value;
  return Object.fromEntries(Object.values(value).map((part, index) => [index, byPlace(part)]));
}

test("random types are decoded as by `t`", () => {
  withRandom((random) => {
    let compared = 0;
    while (compared < repetitions(100)) {
      const { type } = randomType(random, 3);
      const { bytes, valueTypeId } = encodeBtf({ value: type });
      const value = Uint8Array.from({ length: type.size }, () => random.below(256));
      const decoded = Btf.parse(bytes).decode(valueTypeId, value);
      const expected = asBtf(type, new DataView(value.buffer), 0);
      if (expected === undefined) continue;
      compared++;
      expect(byPlace(decoded)).toEqual(byPlace(expected));
    }
  });
});

test("damaged types are decoded or throw a RangeError", () => {
  const types = new RawTypes();
  types.int("int", 4, BTF_INT_SIGNED);
  types.int("char", 1, BTF_INT_SIGNED);
  const union = types.union("", 8, [
    { name: "p", type: types.ptr(1), bit: 0 },
    { name: "e", type: types.enum("e", 4, { A: 1 }), bit: 0 },
  ]);
  const struct = types.struct("s", 24, [
    { name: "a", type: 1, bit: 0, bits: 5 },
    { name: "", type: union, bit: 64 },
    { name: "c", type: types.array(2, 8), bit: 128 },
  ]);
  types.section(".data", 24, [[types.variable("v", struct), 0, 24]]);
  const whole = types.encode();
  const seed = anySeed();
  const random = randomNumbers(seed);
  const value = new Uint8Array(64).fill(0x41);
  for (let round = 0; round < repetitions(20_000); round++) {
    const bytes = whole.slice();
    for (let count = 1 + random(4); count > 0; count--) bytes[random(bytes.length)] = random(256);
    try {
      const btf = Btf.parse(bytes);
      for (let id = 0; id < btf.length; id++) {
        try {
          btf.decode(id, value);
        } catch (error) {
          if (!(error instanceof RangeError) || /call stack/.test(`${error}`)) throw error;
        }
      }
    } catch (error) {
      if (!(error instanceof RangeError) || /call stack/.test(`${error}`)) {
        throw new Error(`seed ${seed}, round ${round}`, { cause: error });
      }
    }
  }
});

test("an array that is longer than the bytes is rejected before memory is allocated", () => {
  const types = new RawTypes();
  const int = types.int("int", 4, BTF_INT_SIGNED);
  // In damaged BTF a struct can be smaller than its member.
  const array = types.array(int, 100_000_000);
  const struct = types.struct("s", 24, [{ name: "a", type: array, bit: 64 }]);
  const btf = Btf.parse(types.encode());
  expect(() => btf.decode(struct, new Uint8Array(64))).toThrow(
    `BTF type ${array}, 100000000 elements at 8, extends beyond the end of the 64 bytes`,
  );
});

kernelTypesTest("every struct of the kernel is decoded", () => {
  const btf = Btf.kernel();
  const bytes = new Uint8Array(1 << 20);
  let decoded = 0;
  for (const id of btf.ids("struct")) {
    const size = btf.sizeOf(id);
    if (size > 4096) continue;
    const isAddress = ["in_addr", "in6_addr"].includes(btf.type(id).name);
    const value = btf.decode(id, bytes.subarray(0, size));
    expect(typeof value).toBe(isAddress ? "string" : "object");
    decoded++;
  }
  expect(decoded).toBeGreaterThan(1000);
  const task = btf.find("struct", "task_struct") as number;
  expect(btf.decode(task, bytes)).toMatchObject({ comm: "", pid: 0 });
});
