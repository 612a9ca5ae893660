import { describe, expect, expectTypeOf, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal } from "./bytes_of.ts";
import { withRandom } from "./random.ts";

const Colour = t.enum({ RED: 0, GREEN: 1, BLUE: 5 });

describe("bit-fields", () => {
  const Flags = t.struct({
    version: t.bits(t.u8, 4),
    length: t.bits(t.u8, 4),
    delta: t.bits(t.i32, 20),
    last: t.bits(t.bool, 1),
    colour: t.bits(Colour, 3),
  });

  test("share the bytes of a struct", () => {
    expect(Flags).toMatchObject({ size: 4, align: 4 });
    expect(Flags.fields.delta).toMatchObject({ offset: 1, bitOffset: 8 });
    expect(Flags.fields.delta.type).toMatchObject({ base: t.i32, width: 20 });
    const value = { version: 4, length: 5, delta: -3, last: true, colour: "BLUE" } as const;
    expect(encode(Flags, value)).toBe("54fdffbf");
    expect(decode(Flags, "54fdffbf")).toStrictEqual(value);
    expectTypeOf<t.Infer<typeof Flags>>().toEqualTypeOf<{
      version: number;
      length: number;
      delta: number;
      last: boolean;
      colour: "RED" | "GREEN" | "BLUE" | number;
    }>();
  });

  test("of width 0 move the next one to a boundary, and are not part of the value", () => {
    const type = t.struct({ a: t.bits(t.u32, 3), end: t.bits(t.u32, 0), b: t.bits(t.u32, 3) });
    expect(type).toMatchObject({ size: 8, align: 4 });
    expect(type.fields.b.bitOffset).toBe(32);
    expect(encode(type, { a: 1, b: 2 })).toBe("0100000002000000");
    expect(decode(type, "0100000002000000")).toStrictEqual({ a: 1, b: 2 });
    expectTypeOf<t.Infer<typeof type>>().toEqualTypeOf<{ a: number; b: number }>();
    expect(refusal(type, { a: 1, b: 2, end: 0 })).toContain('unknown field "end"');
    const packed = t.struct(
      { a: t.bits(t.u8, 3), end: t.bits(t.u32, 0), b: t.u8 },
      { packed: true },
    );
    expect(packed).toMatchObject({ size: 5, align: 1 });
    // A struct without other members would have no bytes.
    expect(() => t.struct({ end: t.bits(t.u32, 0) })).toThrow("expected at least one field");
  });

  test("accept values that fit, and do not change the bits of others", () => {
    withRandom((random) => {
      const bases = [
        t.u8,
        t.u16,
        t.u32,
        t.u64,
        t.u64Number,
        t.i8,
        t.i16,
        t.i32,
        t.i64,
        t.i64Number,
      ];
      for (let round = 0; round < 300; round++) {
        const base = random.pick(bases) as t.IntegerType<number>;
        const width = 1 + random.below(base.size * 8);
        const type = t.struct(
          { before: t.bits(t.u8, 3), field: t.bits(base, width), after: t.bits(t.u8, 5) },
          { packed: random.below(2) === 0 },
        );
        const isBig = typeof base.min === "bigint";
        const limit = 2n ** BigInt(base.signed ? width - 1 : width);
        // A number is exact up to 53 bits, and -(2 ** 53) is not a safe integer.
        const safe = isBig || limit <= 2n ** 53n;
        const max = safe ? limit - 1n : 2n ** 53n - 1n;
        const min = !base.signed ? 0n : isBig || limit < 2n ** 53n ? -limit : 1n - 2n ** 53n;
        for (const bits of [min, max, 0n, max / 3n]) {
          const value = { before: 5, field: isBig ? bits : Number(bits), after: 21 } as never;
          expect(decode(type, encode(type, value))).toEqual(value);
        }
        for (const bits of [min - 1n, max + 1n]) {
          const value = { before: 5, field: isBig ? bits : Number(bits), after: 21 };
          expect(refusal(type, value)).toStartWith('RangeError: field "field": expected');
        }
        expect(refusal(type, { before: 5, field: isBig ? 1 : 1n, after: 1 })).toStartWith(
          "TypeError",
        );
        expect(refusal(type, { before: 5, field: "1", after: 1 })).toStartWith("TypeError");
      }
    });
  });

  test("reject values with too many bits, also by name", () => {
    const type = t.struct({ colour: t.bits(Colour, 2), flag: t.bits(t.bool, 1) });
    expect(encode(type, { colour: "GREEN", flag: true })).toBe("05000000");
    expect(refusal(type, { colour: "BLUE", flag: true })).toContain("from 0 to 3");
    expect(refusal(type, { colour: "BLU", flag: true })).toContain('did you mean "BLUE"?');
    expect(refusal(type, { colour: 0, flag: 1 })).toBe(
      'TypeError: field "flag": expected true or false (bool), got 1',
    );
    expect(refusal(type, { colour: 0.5, flag: true })).toStartWith("RangeError");
  });

  test("are read by cursors", () => {
    const cursor = Flags.cursor();
    const view = new DataView(Uint8Array.fromHex("0054fdffbf").buffer);
    cursor.moveTo(view, 1);
    const { event } = cursor;
    expect([event.version, event.delta, event.last, event.colour]).toEqual([4, -3, true, "BLUE"]);
    expect(Flags.copy(event)).toStrictEqual(Flags.read(view, 1));
  });

  test("do not access bytes beyond the struct", () => {
    const type = t.struct({ a: t.bits(t.u32, 17), b: t.u8 }, { packed: true });
    expect(type.size).toBe(4);
    const short = t.struct({ a: t.bits(t.u32, 17) }, { packed: true });
    expect(short.size).toBe(3);
    expect(decode(short, encode(short, { a: 0x1ffff }))).toEqual({ a: 0x1ffff });
  });

  test("outside of a struct are integers of fewer bits", () => {
    const type = t.bits(t.u32, 3);
    expect(type).toMatchObject({ kind: "bits", name: "bits(u32, 3)", size: 4, align: 4, width: 3 });
    expect(encode(type, 7)).toBe("07000000");
    expect(decode(type, "ffffffff")).toBe(7);
    expect(refusal(type, 8)).toBe(
      "RangeError: expected an integer from 0 to 7 (bits(u32, 3)), got 8",
    );
    expect(refusal(t.bits(t.u8, 0), 1)).toContain("has no value");
  });

  test("reject base types and widths that C does not allow", () => {
    expect(() => t.bits(t.u8, 9)).toThrow("bits(width): expected an integer from 0 to 8, got 9");
    expect(() => t.bits(t.bool, 2)).toThrow(RangeError);
    for (const base of [t.be32, t.f32, t.u128, t.ipv4, t.bytes(4), t.bits(t.u8, 3), t.spinLock]) {
      expect(() => t.bits(base as t.Type<unknown>, 3)).toThrow("bits(base): expected an integer");
    }
    const own = { kind: "enum", name: "own", size: 4, align: 4, read: () => 0, write: () => {} };
    expect(() => t.bits(own, 3)).toThrow("bits(base): expected an integer");
    expect(() => t.bits(5 as never, 3)).toThrow("expected a type such as t.u32");
    expect(() => t.array(t.bits(t.u8, 3), 2)).toThrow("C has no arrays of bit-fields");
  });
});
