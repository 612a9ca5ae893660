import { expect, test } from "bun:test";
import { isIPv4 } from "node:net";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";
import { withRandom } from "./random.ts";
import { repetitions } from "../support/effort.ts";

test("ipv4 is 4 bytes in network order", () => {
  expect(t.ipv4).toMatchObject({ kind: "ipv4", name: "ipv4", size: 4, align: 4 });
  expect(encode(t.ipv4, "10.1.2.254")).toBe("0a0102fe");
  expect(decode(t.ipv4, "0a0102fe")).toBe("10.1.2.254");
});

test.each(["0.0.0.0", "255.255.255.255", "127.0.0.1", "1.0.0.255"])("ipv4 keeps %p", (text) => {
  expect(roundTrip(t.ipv4, text)).toBe(text);
});

test.each([
  "",
  "1",
  "1.2.3",
  "1.2.3.",
  ".1.2.3",
  "1..2.3",
  "1.2.3.4.",
  "1.2.3.4.5",
  "256.0.0.1",
  "1.2.3.1000",
  "01.2.3.4",
  "1.2.3.00",
  "0x1.2.3.4",
  "1.2.3.4 ",
  " 1.2.3.4",
  "-1.2.3.4",
  "1.2.3.4/32",
  "1.2.3.\u0664",
  "::1",
])("ipv4 refuses %j", (text) => {
  expect(refusal(t.ipv4, text)).toStartWith(
    'RangeError: expected an IPv4 address such as "10.0.0.1" (ipv4), got "',
  );
});

test.each([null, undefined, 0x0a000001, 1n, new Uint8Array(4)])("ipv4 refuses %p", (value) => {
  expect(refusal(t.ipv4, value)).toStartWith("TypeError: expected an IPv4 address ");
});

test("ipv4 takes exactly what node:net does", () => {
  withRandom((random) => {
    for (let i = 0; i < repetitions(5000); i++) {
      const part = () => random.pick(["0", "1", "00", "9", "10", "099", "255", "256", "a", ""]);
      const text = Array.from({ length: random.pick([4, 4, 4, 3, 5]) }, part).join(".");
      expect([text, refusal(t.ipv4, text) === "written"]).toEqual([text, isIPv4(text)]);
    }
  });
});
