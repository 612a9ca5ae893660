import { describe, expect, expectTypeOf, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal } from "./bytes_of.ts";
import { withRandom } from "./random.ts";
import { randomType } from "./random_type.ts";

const Address = t.union({ v4: t.ipv4, v6: t.ipv6, words: t.array(t.u16, 3) });

describe("unions", () => {
  test("have the properties of their type", () => {
    expect(Address).toMatchObject({ kind: "union", size: 16, align: 4 });
    expect(Address.name).toBe("union { v4: ipv4, v6: ipv6, words: array(u16, 3) }");
    expect(Address.fields.v6).toEqual({ type: t.ipv6, offset: 0 });
    expect(t.union({ a: t.bytes(5), b: t.u16 })).toMatchObject({ size: 6, align: 2 });
  });

  test("have at least one member in their TypeScript type", () => {
    const union = t.union({ number: t.u32, text: t.cstring(4) });
    type Value = t.Infer<typeof union>;
    expectTypeOf<{ number: number }>().toExtend<Value>();
    expectTypeOf<{ text: string }>().toExtend<Value>();
    expectTypeOf<{ number: number; text: string }>().toExtend<Value>();
    expectTypeOf<Value["text"]>().toEqualTypeOf<string | undefined>();
    const check = (value: Value): void => {
      // @ts-expect-error: no member
      const none: Value = {};
      // @ts-expect-error: unknown member
      const other: Value = { numbr: 5 };
      if ("text" in value) void value.text?.length;
      void [none, other];
    };
    expect(check).toBeFunction();
  });

  test("are read as all members", () => {
    expect(decode(Address, "0a000001".padEnd(32, "0"))).toEqual({
      v4: "10.0.0.1",
      v6: "a00:1::",
      words: [10, 256, 0],
    });
  });

  test("are written from one member, with the remaining bytes zero", () => {
    expect(encode(Address, { v4: "10.0.0.1" })).toBe("0a000001".padEnd(32, "0"));
    expect(encode(Address, { words: [1, 2, 3], v4: undefined } as never)).toBe(
      "010002000300".padEnd(32, "0"),
    );
    const type = t.struct({ family: t.u8, address: Address });
    expect(encode(type, { family: 2, address: { v4: "192.0.2.1" } })).toBe(
      "02000000c0000201".padEnd(40, "0"),
    );
  });

  test("reject no members, several, unknown ones, and values that are not objects", () => {
    const type = t.struct({ a: t.u8, address: Address });
    const refused = (address: unknown) => refusal(type, { a: 1, address });
    expect(refused({})).toBe(
      'TypeError: field "address": expected exactly one member of the union (v4, v6, words), got none',
    );
    expect(refused({ v4: "10.0.0.1", v6: "::1" })).toBe(
      'TypeError: field "address": expected exactly one member of the union (v4, v6, words), got v4, v6',
    );
    expect(refused({ v5: 1 })).toBe('TypeError: unknown field "address.v5": did you mean "v4"?');
    expect(refused({ v4: "10.0.0" })).toStartWith(
      'RangeError: field "address.v4": expected an IPv4 address',
    );
    expect(refused(5)).toContain('field "address": expected an object with one member');
    expect(refused(null)).toContain("got null");
    expect(refusal(Address, { toString: 1 })).toContain('unknown field "toString"');
  });

  test("can have any names, bit-fields and structs", () => {
    const odd = t.union({ ["__proto__"]: t.u8, constructor: t.u16, low: t.bits(t.u16, 12) });
    expect(odd.size).toBe(2);
    expect(encode(odd, JSON.parse('{ "__proto__": 7 }'))).toBe("0700");
    expect(encode(odd, { low: 0xabc } as never)).toBe("bc0a");
    expect(Object.entries(decode(odd, "ffff"))).toEqual([
      ["__proto__", 255],
      ["constructor", 65535],
      ["low", 4095],
    ]);
    expect(refusal(odd, { low: 4096 })).toContain(
      'field "low": expected an integer from 0 to 4095',
    );
  });

  test("are read by cursors", () => {
    const type = t.struct({ family: t.u8, address: Address });
    const view = new DataView(new ArrayBuffer(type.size));
    type.write(view, 0, { family: 1, address: { v4: "10.0.0.1" } });
    const cursor = type.cursor();
    cursor.moveTo(view, 0);
    expect(cursor.event.address.v4).toBe("10.0.0.1");
    const copy = type.copy(cursor.event);
    view.setUint8(4, 11);
    expect(cursor.event.address.v4).toBe("11.0.0.1");
    expect(copy.address.v4).toBe("10.0.0.1");
  });

  test("of random types read the member that was written", () => {
    withRandom((random) => {
      for (let round = 0; round < 150; round++) {
        const samples = [0, 1, 2].map(() => randomType(random, 2));
        if (samples.some(({ type }) => /spin_lock/.test(type.name))) continue;
        const [a, b, c] = samples;
        const type = t.union({ a: a!.type, b: b!.type, c: c!.type });
        expect(type.size % type.align).toBe(0);
        const name = random.pick(["a", "b", "c"] as const);
        const value = { a, b, c }[name]!.value();
        const read = decode(type, encode(type, { [name]: value } as never));
        expect(read[name]).toStrictEqual(value);
        expect(Object.keys(read)).toEqual(["a", "b", "c"]);
      }
    });
  });

  test("reject invalid fields", () => {
    expect(() => t.union({})).toThrow("union(fields): expected at least one field");
    expect(() => t.union({ a: 5 } as never)).toThrow('union(fields): field "a": expected a type');
    expect(() => t.union({ 0: t.u8 })).toThrow("is a number");
    expect(() => t.union({ a: t.spinLock, b: t.u8 })).toThrow(
      'field "a": expected no type that only the kernel writes, got "spin_lock"',
    );
    expect(() => t.union({ a: t.struct({ lock: t.spinLock }), b: t.u8 })).toThrow(TypeError);
    expect(() => t.union({ a: t.bits(t.u8, 0), b: t.u8 })).toThrow(
      "a bit-field of width 0 can only be in a struct",
    );
  });
});
