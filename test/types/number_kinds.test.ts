/** Tests of floating-point numbers, 128-bit integers and enums. */
import { describe, expect, expectTypeOf, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";
import { withRandom } from "./random.ts";

describe("floating-point numbers", () => {
  test("have the properties of their type", () => {
    expect(t.f32).toMatchObject({ kind: "f32", name: "f32", size: 4, align: 4 });
    expect(t.f64).toMatchObject({ kind: "f64", name: "f64", size: 8, align: 8 });
    expectTypeOf<t.Infer<typeof t.f32>>().toEqualTypeOf<number>();
  });

  test("have the same bytes as in C", () => {
    expect(encode(t.f32, -1.5)).toBe("0000c0bf");
    expect(encode(t.f64, 0.1)).toBe("9a9999999999b93f");
    expect(decode(t.f32, "0000807f")).toBe(Infinity);
    expect(decode(t.f64, "0000000000000080")).toBe(-0);
    expect(decode(t.f32, "0000c07f")).toBeNaN();
  });

  test("of 4 bytes are rounded, and rejected if the result would be infinite", () => {
    expect(roundTrip(t.f32, 0.1)).toBe(Math.fround(0.1));
    expect(roundTrip(t.f32, 3.4028234663852886e38)).toBe(3.4028234663852886e38);
    expect(roundTrip(t.f32, -Infinity)).toBe(-Infinity);
    expect(roundTrip(t.f32, 1e-60)).toBe(0);
    expect(refusal(t.struct({ a: t.f32 }), { a: 1e39 })).toBe(
      'RangeError: field "a": expected a number up to 3.4028234663852886e38 (f32), got 1e+39: use t.f64',
    );
    expect(roundTrip(t.f64, 1e39)).toBe(1e39);
  });

  test.each([1n, "1", undefined, null, {}])("reject %p", (value) => {
    for (const type of [t.f32, t.f64]) {
      expect(refusal(type, value)).toStartWith(`TypeError: expected a number (${type.kind}), got`);
    }
  });
});

describe("integers of 128 bits", () => {
  test("have the properties of their type", () => {
    expect(t.u128).toMatchObject({ kind: "u128", size: 16, align: 16, signed: false, min: 0n });
    expect(t.i128).toMatchObject({ kind: "i128", size: 16, align: 16, signed: true });
    expect(t.u128.max).toBe(2n ** 128n - 1n);
    expect([t.i128.min, t.i128.max]).toEqual([-(2n ** 127n), 2n ** 127n - 1n]);
    expect(t.struct({ a: t.u8, b: t.u128 }).fields.b.offset).toBe(16);
    expectTypeOf<t.Infer<typeof t.u128>>().toEqualTypeOf<bigint>();
  });

  test("have their low half first", () => {
    expect(encode(t.u128, 0x0102030405060708090a0b0c0d0e0f10n)).toBe(
      "100f0e0d0c0b0a090807060504030201",
    );
    expect(encode(t.i128, -2n)).toBe(`fe${"ff".repeat(15)}`);
  });

  test("are read as written", () => {
    withRandom((random) => {
      for (let round = 0; round < 500; round++) {
        const bits = ((random.bits64() << 64n) | random.bits64()) >> BigInt(random.below(128));
        expect(roundTrip(t.u128, bits)).toBe(bits);
        expect(roundTrip(t.i128, BigInt.asIntN(128, bits))).toBe(BigInt.asIntN(128, bits));
        expect(roundTrip(t.i128, -(bits >> 1n))).toBe(-(bits >> 1n));
      }
    });
  });

  test("reject values out of range, and numbers", () => {
    for (const [type, value] of [
      [t.u128, -1n],
      [t.u128, 2n ** 128n],
      [t.i128, 2n ** 127n],
      [t.i128, -(2n ** 127n) - 1n],
    ] as const) {
      expect(refusal(type, value)).toBe(
        `RangeError: expected a bigint from ${type.min} to ${type.max} (${type.kind}), got ${value}n`,
      );
    }
    expect(refusal(t.u128, 5)).toEndWith("got 5: pass a bigint, e.g. 5n");
  });
});

describe("enums", () => {
  const Verdict = t.enum({ DROP: 1, PASS: 2, ACCEPT: 2 });

  test("have the properties of their type", () => {
    expect(Verdict).toMatchObject({ kind: "enum", size: 4, align: 4, base: t.u32 });
    expect(Verdict.name).toBe("enum { DROP = 1, PASS = 2, ACCEPT = 2 }");
    expect(Verdict.values.PASS).toBe(2);
    expect(Object.isFrozen(Verdict.values)).toBe(true);
    expect(t.enum({ NONE: 0, LOST: -1 }).base).toBe(t.i32);
    expect(t.enum({ A: 1 }, { base: t.u8 })).toMatchObject({ size: 1, name: "enum: u8 { A = 1 }" });
  });

  test("have names and numbers as their TypeScript type", () => {
    expectTypeOf<t.Infer<typeof Verdict>>().toEqualTypeOf<"DROP" | "PASS" | "ACCEPT" | number>();
    expectTypeOf<t.Inside<typeof Verdict>>().toEqualTypeOf<number>();
    const wide = t.enum({ A: 1n, B: 2n }, { base: t.u64 });
    expectTypeOf<t.Infer<typeof wide>>().toEqualTypeOf<"A" | "B" | bigint>();
    const check = (): void => {
      // @ts-expect-error: unknown name
      Verdict.write(new DataView(new ArrayBuffer(4)), 0, "ACEPT");
      // @ts-expect-error: values must be bigints
      wide.write(new DataView(new ArrayBuffer(8)), 0, 1);
      // @ts-expect-error: unknown name
      void Verdict.values.NONE;
    };
    expect(check).toBeFunction();
  });

  test("are read as the first name of the value, or the number", () => {
    expect(decode(Verdict, "02000000")).toBe("PASS");
    expect(decode(Verdict, "01000000")).toBe("DROP");
    expect(decode(Verdict, "4d000000")).toBe(77);
    expect(decode(t.enum({ LOST: -1 }), "ffffffff")).toBe("LOST");
    expect(decode(t.enum({ HIGH: 0xffffffff }), "ffffffff")).toBe("HIGH");
    expect(decode(t.enum({ WEB: 80 }, { base: t.be16 }), "0050")).toBe("WEB");
    expect(decode(t.enum({ A: 1n }, { base: t.u64 }), "ffffffffffffffff")).toBe(2n ** 64n - 1n);
  });

  test("are written by name or number", () => {
    expect(encode(Verdict, "ACCEPT")).toBe("02000000");
    expect(encode(Verdict, 77)).toBe("4d000000");
    expect(encode(t.enum({ ["__proto__"]: 5, constructor: 6 }), "__proto__")).toBe("05000000");
    expect(encode(t.enum({ ["__proto__"]: 5, constructor: 6 }), "constructor")).toBe("06000000");
    expect(encode(t.struct({ a: t.array(Verdict, 2) }), { a: ["DROP", 3] })).toBe(
      "0100000003000000",
    );
  });

  test("reject other names and values", () => {
    expect(refusal(t.struct({ verdict: Verdict }), { verdict: "PAS" })).toBe(
      'RangeError: field "verdict": expected a name or a number of the enum, got "PAS": did you mean "PASS"?',
    );
    expect(refusal(Verdict, "toString")).toStartWith("RangeError: expected a name or a number");
    expect(refusal(Verdict, 2 ** 32)).toContain("from 0 to 4294967295 (u32)");
    expect(refusal(Verdict, undefined)).toStartWith("TypeError: expected an integer from");
    expect(refusal(Verdict, 1n)).toStartWith("TypeError: expected an integer from");
  });

  test("reject invalid names, values and options", () => {
    expect(() => t.enum({})).toThrow("expected at least one name");
    expect(() => t.enum(null as never)).toThrow("expected an object of numbers, got null");
    expect(() => t.enum({ 5: 1 })).toThrow('the name "5" is a number');
    expect(() => t.enum({ A: 256 }, { base: t.u8 })).toThrow(
      new RangeError('field "enum(values).A": expected an integer from 0 to 255 (u8), got 256'),
    );
    expect(() => t.enum({ A: 2 ** 32 })).toThrow(RangeError);
    expect(() => t.enum({ A: "B" } as never)).toThrow(TypeError);
    expect(() => t.enum({ A: 1 }, { base: t.ipv4 } as never)).toThrow("expected an integer type");
    expect(() => t.enum({ A: 1 }, { base: null } as never)).toThrow("integer type, got null");
    expect(() => t.enum({ A: 1 }, { bse: t.u8 } as never)).toThrow('did you mean "base"?');
  });
});
