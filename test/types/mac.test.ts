import { expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal } from "./bytes_of.ts";

test("mac is 6 bytes, as text with colons", () => {
  expect(t.mac).toMatchObject({ kind: "mac", name: "mac", size: 6, align: 1 });
  expect(encode(t.mac, "02:42:ac:11:00:ff")).toBe("0242ac1100ff");
  expect(decode(t.mac, "0242ac1100ff")).toBe("02:42:ac:11:00:ff");
});

test.each(["02:42:AC:11:00:FF", "02-42-ac-11-00-ff", "02-42-AC-11-00-FF"])(
  "mac takes %p",
  (text) => {
    expect(encode(t.mac, text)).toBe("0242ac1100ff");
  },
);

test.each([
  "",
  "02:42:ac:11:00",
  "02:42:ac:11:00:ff:01",
  "2:42:ac:11:00:ff",
  "02:42-ac:11:00:ff",
  "0242ac1100ff",
  "02:42:ac:11:00:fg",
  " 02:42:ac:11:00:ff",
  "02:42:ac:11:00:ff\n",
])("mac refuses %j", (text) => {
  expect(refusal(t.mac, text)).toStartWith(
    'RangeError: expected an Ethernet address such as "02:42:ac:11:00:02" (mac), got "',
  );
});

test.each([null, undefined, 1, new Uint8Array(6)])("mac refuses %p", (value) => {
  expect(refusal(t.mac, value)).toStartWith("TypeError: expected an Ethernet address ");
});
