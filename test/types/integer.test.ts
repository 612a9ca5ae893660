import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";

const numbers = [
  [t.u8, 1, 0, 255],
  [t.u16, 2, 0, 65535],
  [t.u32, 4, 0, 4294967295],
  [t.i8, 1, -128, 127],
  [t.i16, 2, -32768, 32767],
  [t.i32, 4, -2147483648, 2147483647],
  [t.u64Number, 8, 0, Number.MAX_SAFE_INTEGER],
  [t.i64Number, 8, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  [t.be16, 2, 0, 65535],
  [t.be32, 4, 0, 4294967295],
] as const;

const bigints = [
  [t.u64, 0n, 2n ** 64n - 1n],
  [t.i64, -(2n ** 63n), 2n ** 63n - 1n],
  [t.be64, 0n, 2n ** 64n - 1n],
] as const;

describe.each(numbers.map((row) => [row[0].name, ...row] as const))(
  "%s",
  (name, type, size, min, max) => {
    test("has the properties of its type", () => {
      expect(type).toMatchObject({ kind: name, size, align: size, min, max, signed: min < 0 });
      expect(type.byteOrder).toBe(name.startsWith("be") ? "big" : "native");
    });

    test("writes and reads the limits and their neighbours", () => {
      for (const value of [min, min + 1, 0, 1, max - 1, max]) {
        expect(roundTrip(type, value)).toBe(value);
      }
    });

    test("writes -0 as 0", () => {
      expect(encode(type, -0)).toBe("00".repeat(size));
      expect(roundTrip(type, -0)).toBe(0);
    });

    test.each([min - 1, max + 1, 1e300, -1e300, 0.5, max - 0.5, NaN, Infinity, -Infinity])(
      "rejects %p as out of range",
      (value) => {
        // Beyond 2^53 a number cannot have a half.
        if (Number.isSafeInteger(value) && value >= min && value <= max) return;
        expect(refusal(type, value)).toBe(
          `RangeError: expected an integer from ${min} to ${max} (${name}), got ${value}`,
        );
      },
    );

    test.each([
      ["a string", "1", '"1"'],
      ["a boolean", true, "true"],
      ["null", null, "null"],
      ["undefined", undefined, "undefined"],
      ["a symbol", Symbol("x"), "Symbol(x)"],
      ["an object that converts", { valueOf: () => 1 }, "an object"],
      ["a bigint", 1n, "1n: pass a number, e.g. 5"],
    ])("rejects %s as of the wrong type", (_what, value, got) => {
      expect(refusal(type, value)).toBe(
        `TypeError: expected an integer from ${min} to ${max} (${name}), got ${got}`,
      );
    });
  },
);

describe.each(bigints.map((row) => [row[0].name, ...row] as const))(
  "%s",
  (name, type, min, max) => {
    test("has the properties of its type", () => {
      expect(type).toMatchObject({ kind: name, size: 8, align: 8, min, max, signed: min < 0n });
    });

    test("writes and reads the limits and their neighbours", () => {
      for (const value of [min, min + 1n, 0n, 1n, 2n ** 53n + 1n, max - 1n, max]) {
        expect(roundTrip(type, value)).toBe(value);
      }
    });

    test.each([min - 1n, max + 1n])("rejects %p as out of range", (value) => {
      expect(refusal(type, value)).toBe(
        `RangeError: expected a bigint from ${min} to ${max} (${name}), got ${value}n`,
      );
    });

    test("rejects a number, with a hint", () => {
      const alternative = name === "be64" ? "" : `, or use t.${name}Number`;
      expect(refusal(type, 5)).toBe(
        `TypeError: expected a bigint from ${min} to ${max} (${name}), got 5: pass a bigint, e.g. 5n${alternative}`,
      );
    });

    test.each(["1", true, null, undefined])("rejects %p as of the wrong type", (value) => {
      expect(refusal(type, value)).toStartWith("TypeError: expected a bigint from ");
    });
  },
);

test("big-endian integers are in network byte order, others in the machine's", () => {
  expect(encode(t.be16, 0x0102)).toBe("0102");
  expect(encode(t.be32, 0x01020304)).toBe("01020304");
  expect(encode(t.be64, 0x0102030405060708n)).toBe("0102030405060708");
  const native = new Uint8Array(Uint32Array.of(0x01020304).buffer).toHex();
  expect(encode(t.u32, 0x01020304)).toBe(native);
});

test("u64Number and i64Number read values beyond the safe range as the nearest number", () => {
  for (const value of [
    2n ** 53n,
    2n ** 53n + 1n,
    2n ** 53n + 3n,
    2n ** 63n + 12345n,
    2n ** 64n - 1n,
  ]) {
    expect(decode(t.u64Number, encode(t.u64, value))).toBe(Number(value));
  }
  for (const value of [-(2n ** 53n) - 1n, -(2n ** 53n) - 3n, -(2n ** 63n), 2n ** 63n - 1n]) {
    expect(decode(t.i64Number, encode(t.i64, value))).toBe(Number(value));
  }
});

test("u64Number and i64Number have the same bytes as bigints", () => {
  for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1]) {
    expect(encode(t.u64Number, value)).toBe(encode(t.u64, BigInt(value)));
    expect(encode(t.i64Number, -value)).toBe(encode(t.i64, BigInt(-value)));
  }
});

test("bytes outside the view throw DataView's own RangeError", () => {
  const view = new DataView(new ArrayBuffer(7));
  expect(() => t.u64Number.read(view, 0)).toThrow(RangeError);
  expect(() => t.u32.read(view, -1)).toThrow(RangeError);
  expect(() => t.u32.write(view, 4, 0)).toThrow(RangeError);
});

test("bool has one byte: 0 or 1", () => {
  expect(t.bool).toMatchObject({ kind: "bool", name: "bool", size: 1, align: 1 });
  expect(encode(t.bool, false)).toBe("00");
  expect(encode(t.bool, true)).toBe("01");
});

test("bool reads every byte except 0 as true", () => {
  expect(decode(t.bool, "00")).toBe(false);
  expect(decode(t.bool, "01")).toBe(true);
  expect(decode(t.bool, "80")).toBe(true);
});

test.each([0, 1, "true", null, undefined, 1n])("bool rejects %p", (value) => {
  expect(refusal(t.bool, value)).toStartWith("TypeError: expected true or false (bool), got ");
});
