import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { encode, refusal, roundTrip } from "./bytes_of.ts";

// Generated code has a statement for each of 32 elements, but a loop for 33.
describe.each([1, 4, 32, 33, 1000])("array(u16, %d)", (length) => {
  const type = t.array(t.u16, length);
  const sample = Array.from({ length }, (_, index) => index * 13);

  test("has the properties of its type", () => {
    expect(type).toMatchObject({
      kind: "array",
      name: `array(u16, ${length})`,
      size: length * 2,
      align: 2,
      length,
    });
    expect(type.element).toBe(t.u16);
  });

  test("writes and reads every element", () => {
    expect(encode(type, sample)).toBe(new Uint8Array(Uint16Array.from(sample).buffer).toHex());
    expect(roundTrip(type, sample)).toStrictEqual(sample);
  });

  test("rejects another length", () => {
    expect(refusal(type, [...sample, 0])).toBe(
      `RangeError: expected an array of ${length} (array(u16, ${length})), got an array of ${length + 1}`,
    );
    expect(refusal(type, sample.slice(1))).toStartWith("RangeError: ");
  });

  test.each([
    ["a typed array", new Uint16Array(length)],
    ["an object with a length", { length }],
    ["a string", "x".repeat(length)],
    ["null", null],
    ["undefined", undefined],
  ])("rejects %s", (_what, value) => {
    expect(refusal(type, value)).toStartWith(`TypeError: expected an array of ${length} `);
  });

  test("names the element that is rejected", () => {
    const last = length - 1;
    expect(refusal(type, sample.with(last, 70000))).toBe(
      `RangeError: field "[${last}]": expected an integer from 0 to 65535 (u16), got 70000`,
    );
    const hole = sample.slice();
    delete hole[last];
    expect(refusal(type, hole)).toStartWith(`TypeError: field "[${last}]": expected an integer`);
  });
});

test("arrays can be nested", () => {
  const type = t.array(t.array(t.array(t.u8, 2), 3), 2);
  const sample = [
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ],
    [
      [7, 8],
      [9, 10],
      [11, 12],
    ],
  ];
  expect(encode(type, sample)).toBe("0102030405060708090a0b0c");
  expect(roundTrip(type, sample)).toStrictEqual(sample);
  const bad = structuredClone(sample);
  bad[1]![2]![0] = -1;
  expect(refusal(type, bad)).toStartWith('RangeError: field "[1][2][0]": ');
});

test("arrays that are compiled as loops can be nested", () => {
  const type = t.array(t.array(t.u8, 40), 50);
  const sample = Array.from({ length: 50 }, (_, row) =>
    Array.from({ length: 40 }, (_, column) => (row * column) & 255),
  );
  expect(roundTrip(type, sample)).toStrictEqual(sample);
  sample[49]![39] = 256;
  expect(refusal(type, sample)).toStartWith('RangeError: field "[49][39]": ');
});

test.each([0, -1, 1.5, 2 ** 31, NaN, "4"])("array(u8, %p) is rejected", (length) => {
  expect(() => t.array(t.u8, length as number)).toThrow(RangeError);
  expect(() => t.array(t.u8, length as number)).toThrow(
    "array(length): expected an integer from 1",
  );
});

test("an array larger than 2^31 - 1 bytes is rejected", () => {
  expect(() => t.array(t.u64, 2 ** 28)).toThrow(RangeError);
  expect(() => t.array(t.u64, 2 ** 28)).toThrow(
    "expected at most 2147483647 bytes, got 2147483648",
  );
});

test("an element that is not a type is rejected", () => {
  expect(() => t.array("u8" as never, 4)).toThrow(
    new TypeError('array(element): expected a type such as t.u32, got "u8"'),
  );
  expect(() => t.array(t.bytes as never, 4)).toThrow("was it meant to be called");
});
