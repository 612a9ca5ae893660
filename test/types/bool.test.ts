import { expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal } from "./bytes_of.ts";

test("bool is one byte: 0 or 1", () => {
  expect(t.bool).toMatchObject({ kind: "bool", name: "bool", size: 1, align: 1 });
  expect(encode(t.bool, false)).toBe("00");
  expect(encode(t.bool, true)).toBe("01");
});

test("any byte but zero reads as true", () => {
  expect(decode(t.bool, "00")).toBe(false);
  expect(decode(t.bool, "01")).toBe(true);
  expect(decode(t.bool, "80")).toBe(true);
});

test.each([0, 1, "true", null, undefined, 1n])("bool refuses %p", (value) => {
  expect(refusal(t.bool, value)).toStartWith("TypeError: expected true or false (bool), got ");
});
