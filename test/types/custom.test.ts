import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { encode, refusal, roundTrip } from "./bytes_of.ts";

const Timestamp = t.custom<Date>({
  name: "timestamp",
  size: 8,
  align: 8,
  read: (view, offset) => new Date(t.u64Number.read(view, offset)),
  write: (view, offset, date) => t.u64Number.write(view, offset, date.getTime()),
});

test("a custom type has the properties of its type", () => {
  expect(Timestamp).toMatchObject({ kind: "custom", name: "timestamp", size: 8, align: 8 });
  const plain = t.custom({ size: 3, read: () => 0, write: () => {} });
  expect(plain).toMatchObject({ kind: "custom", name: "custom(3)", align: 1 });
});

test("a custom type calls its functions, alone and inside other types", () => {
  const date = new Date(1_700_000_000_000);
  expect(roundTrip(Timestamp, date)).toEqual(date);
  const Login = t.struct({ uid: t.u32, at: Timestamp, more: t.array(Timestamp, 2) });
  expect(Login.fields.at.offset).toBe(8);
  expect(roundTrip(Login, { uid: 1, at: date, more: [date, date] })).toEqual({
    uid: 1,
    at: date,
    more: [date, date],
  });
});

test("bytes that a custom type does not write are zero", () => {
  const First = t.custom<number>({
    size: 40,
    read: (view, offset) => view.getUint8(offset),
    write: (view, offset, value) => view.setUint8(offset, value),
  });
  expect(encode(First, 5)).toBe("05".padEnd(80, "0"));
  expect(encode(t.struct({ a: t.u8, b: First }), { a: 1, b: 5 })).toBe("0105".padEnd(82, "0"));
});

test("a value of a custom type can be undefined, if the field is present", () => {
  const Nothing = t.custom<undefined>({ size: 1, read: () => undefined, write: () => {} });
  const type = t.struct({ a: t.u8, nothing: Nothing });
  expect(encode(type, { a: 1, nothing: undefined })).toBe("0100");
  expect(refusal(type, { a: 1 })).toBe('TypeError: missing field "nothing": expected custom(1)');
});

test("errors of a custom type's functions are passed on", () => {
  const Never = t.custom<number>({
    size: 1,
    read: () => 0,
    write() {
      throw new RangeError("never");
    },
  });
  expect(refusal(Never, 1)).toBe("RangeError: never");
  expect(refusal(t.struct({ a: Never }), { a: 1 })).toBe("RangeError: never");
});

test("a type from another library works like one of t", () => {
  const foreign: t.Type<string> = {
    kind: "hex",
    name: "hex",
    size: 1,
    align: 1,
    read(view, offset) {
      return `${this.kind}:${view.getUint8(offset)}`;
    },
    write(view, offset, value) {
      view.setUint8(offset, Number(value.slice(4)));
    },
  };
  const type = t.struct({ a: foreign, b: t.array(foreign, 2) });
  const value = { a: "hex:1", b: ["hex:2", "hex:3"] };
  expect(encode(type, value)).toBe("010203");
  expect(roundTrip(type, value)).toEqual(value);
});

test("a size that changes later, or on each access, does not change a layout", () => {
  let accesses = 0;
  const unstable: t.Type<number> = {
    kind: "unstable",
    name: "unstable",
    get size() {
      return [1, 1000, NaN, 2 ** 40][accesses++] ?? 4096;
    },
    align: 1,
    read: (view, offset) => view.getUint8(offset),
    write: (view, offset, value) => view.setUint8(offset, value),
  };
  const array = t.array(unstable, 2);
  expect(array).toMatchObject({ size: 2, align: 1 });
  expect(encode(array, [1, 2])).toBe("0102");
  accesses = 0;
  const struct = t.struct({ a: unstable, b: t.u8 });
  expect(struct).toMatchObject({ size: 2, align: 1 });
  expect(struct.fields.b.offset).toBe(1);
  expect(encode(struct, { a: 1, b: 2 })).toBe("0102");
});

test.each([0, -1, 1.5, NaN, Infinity, 2 ** 31, "4"])("a size of %p is rejected", (size) => {
  const type = { ...t.u32, size: size as number };
  expect(() => t.array(type, 2)).toThrow(/^array\(element\): size: expected an integer from 1/);
  expect(() => t.struct({ a: type })).toThrow(/field "a": size: expected an integer from 1/);
});

describe("t.custom()", () => {
  const working = { size: 8, align: 8, read: () => 0, write: () => {} };

  test.each([
    [{ size: 0 }, "size: expected an integer from 1"],
    [{ size: 1.5 }, "size: expected an integer from 1"],
    [{ align: 0 }, "align: expected an integer from 1"],
    [{ align: 3 }, "align: expected a power of two, got 3"],
    [{ size: 12 }, "size: expected a multiple of align (8), got 12"],
  ])("rejects %p", (change, message) => {
    expect(() => t.custom({ ...working, ...change })).toThrow(RangeError);
    expect(() => t.custom({ ...working, ...change })).toThrow(message);
  });

  test("rejects a missing function", () => {
    expect(() => t.custom({ ...working, read: undefined } as never)).toThrow(
      new TypeError("custom(options): read: expected a function, got undefined"),
    );
  });

  test("rejects a misspelt option, with a hint", () => {
    expect(() => t.custom({ ...working, alignn: 8 } as never)).toThrow(
      new TypeError('custom(options): unknown option "alignn": did you mean "align"?'),
    );
  });
});
