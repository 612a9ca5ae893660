import { describe, expect, test } from "bun:test";
import { isIPv6 } from "node:net";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";
import { type Random, withRandom } from "./random.ts";
import { repetitions } from "../support/effort.ts";

test("ipv6 is 16 bytes in network order", () => {
  expect(t.ipv6).toMatchObject({ kind: "ipv6", name: "ipv6", size: 16, align: 4 });
  expect(encode(t.ipv6, "2001:db8::1")).toBe("20010db8000000000000000000000001");
});

describe("the canonical form of RFC 5952", () => {
  test.each([
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"], // 4.2.3: the first of equal runs
    ["2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"], // 4.1: no leading zeros
    ["2001:db8::0:1", "2001:db8::1"], // 4.2.1: as short as possible
    ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"], // 4.2.2: not for a single group
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"], // 4.2.3: the longest run
    ["2001:DB8::ABCD", "2001:db8::abcd"], // 4.3: lower case
    ["::ffff:c0a8:1fe", "::ffff:192.168.1.254"], // 5: mapped IPv4
    ["::ffff:0:0", "::ffff:0.0.0.0"],
    ["::c0a8:1fe", "::c0a8:1fe"],
    ["::fffe:1:2", "::fffe:1:2"],
    ["1::ffff:1:2", "1::ffff:1:2"],
    ["0:0:0:0:0:0:0:0", "::"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["1:0:0:0:0:0:0:0", "1::"],
    ["0:1:0:0:0:0:0:0", "0:1::"],
    ["0:0:1:2:3:4:5:6", "::1:2:3:4:5:6"],
    ["1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"],
    ["0:1:2:3:4:5:6:0", "0:1:2:3:4:5:6:0"],
  ])("of %s is %s", (text, canonical) => {
    expect(roundTrip(t.ipv6, text)).toBe(canonical);
    expect(encode(t.ipv6, canonical)).toBe(encode(t.ipv6, text));
  });
});

describe("every textual form is taken", () => {
  test.each([
    ["::", "00000000000000000000000000000000"],
    ["::1.2.3.4", "00000000000000000000000001020304"],
    ["::ffff:1.2.3.4", "00000000000000000000ffff01020304"],
    ["64:ff9b::192.0.2.33", "0064ff9b0000000000000000c0000221"],
    ["1:2:3:4:5:6:1.2.3.4", "00010002000300040005000601020304"],
    ["1::5:6:1.2.3.4", "00010000000000000005000601020304"],
    ["1:2:3:4:5:6:7::", "00010002000300040005000600070000"],
    ["::2:3:4:5:6:7:8", "00000002000300040005000600070008"],
    ["FE80::00aB", "fe8000000000000000000000000000ab"],
  ])("%s", (text, hex) => {
    expect(encode(t.ipv6, text)).toBe(hex);
  });
});

describe("ipv6 refuses", () => {
  test.each([
    "",
    ":",
    ":::",
    "1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "::1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7:8::",
    "1::2::3",
    "1:::2",
    ":1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:",
    "12345::",
    "::00001",
    "g::",
    "1:2:3:4:5:6:7:1.2.3.4",
    "1:2:3:4:5:1.2.3.4",
    "::1.2.3",
    "::1.2.3.4:5",
    "::01.2.3.4",
    "::1.2.3.256",
    "1.2.3.4",
    "1.2.3.4::",
    "[::1]",
    " ::1",
    "::1 ",
    "::1/64",
    "::-1",
  ])("%j", (text) => {
    expect(refusal(t.ipv6, text)).toStartWith(
      'RangeError: expected an IPv6 address such as "2001:db8::1" (ipv6), got "',
    );
  });

  test("a zone id, and says so", () => {
    expect(refusal(t.ipv6, "fe80::1%eth0")).toEndWith(": the zone id is not part of the address");
  });

  test.each([null, undefined, 1n, new Uint8Array(16)])("%p", (value) => {
    expect(refusal(t.ipv6, value)).toStartWith("TypeError: expected an IPv6 address ");
  });
});

/** Sixteen random bytes with many zeros. */
function randomAddress(random: Random): string {
  return Array.from({ length: 8 }, () =>
    random.pick([
      "0000",
      "0000",
      "0001",
      "ffff",
      random.below(65536).toString(16).padStart(4, "0"),
    ]),
  ).join("");
}

test("ipv6 prints as URL does, but for mapped addresses", () => {
  withRandom((random) => {
    for (let i = 0; i < repetitions(5000); i++) {
      const hex = randomAddress(random);
      if (hex.startsWith("00000000000000000000ffff")) continue;
      const { hostname } = new URL(`http://[${hex.replace(/(....)(?=.)/g, "$1:")}]`);
      expect(decode(t.ipv6, hex)).toBe(hostname.slice(1, -1));
    }
  });
});

test("ipv6 reads what it writes", () => {
  withRandom((random) => {
    for (let i = 0; i < repetitions(5000); i++) {
      const hex = randomAddress(random);
      expect(encode(t.ipv6, decode(t.ipv6, hex))).toBe(hex);
    }
  });
});

test("ipv6 takes exactly what node:net does, and as URL does", () => {
  withRandom((random) => {
    let valid = 0;
    for (let i = 0; i < repetitions(20000); i++) {
      const part = () =>
        random.pick(["0", "1", "ab", "FFFF", "0db8", "12345", "1.2.3.4", ":", ":", "", "g"]);
      const length = 1 + random.below(9);
      let text = Array.from({ length }, part).join(":");
      if (random.below(2) === 0) text = text.replace(/:{3,}/, "::").replace(/12345|g/, "1");
      const taken = refusal(t.ipv6, text) === "written";
      expect([text, taken]).toEqual([text, isIPv6(text)]);
      if (!taken) continue;
      valid++;
      // Bun's URL refuses some valid texts that embed IPv4, such as "1::2:1.2.3.4".
      const { hostname } = new URL(`http://[${text.replace("1.2.3.4", "102:304")}]`);
      expect(encode(t.ipv6, text)).toBe(encode(t.ipv6, hostname.slice(1, -1)));
    }
    expect(valid).toBeGreaterThan(repetitions(100));
  });
});
