import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";

const prefixHex = (bits: number): string => encode(t.u32, bits);

describe("cidr4", () => {
  test("has the prefix length in the machine's byte order and the address in network byte order", () => {
    expect(t.cidr4).toMatchObject({ kind: "cidr4", name: "cidr4", size: 8, align: 4 });
    expect(encode(t.cidr4, "10.0.0.0/8")).toBe(`${prefixHex(8)}0a000000`);
  });

  test("writes and reads every prefix length", () => {
    for (let prefix = 0; prefix <= 32; prefix++) {
      const ones = "1".repeat(prefix).padEnd(32, "0");
      const octets = ones.match(/.{8}/g)!.map((octet) => Number.parseInt(octet, 2));
      const text = `${octets.join(".")}/${prefix}`;
      expect(roundTrip(t.cidr4, text)).toBe(text);
    }
  });

  test("rejects bits beyond the prefix, with the network as a hint", () => {
    expect(refusal(t.cidr4, "10.1.2.3/8")).toBe(
      'RangeError: expected a network such as "10.0.0.0/8" (cidr4), got "10.1.2.3/8": bits are set beyond the prefix; the network is "10.0.0.0/8"',
    );
    expect(refusal(t.cidr4, "0.0.0.1/0")).toEndWith('the network is "0.0.0.0/0"');
    expect(refusal(t.cidr4, "255.255.255.255/31")).toEndWith('the network is "255.255.255.254/31"');
  });

  test("rejects an address without a prefix, with a hint", () => {
    expect(refusal(t.cidr4, "10.1.2.3")).toEndWith(': for one address, write "10.1.2.3/32"');
  });

  test.each([
    "0.0.0.0/33",
    "10.0.0.0/08",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0.0/8/8",
    "/8",
    "",
    "::/8",
  ])("rejects %j", (text) => {
    expect(refusal(t.cidr4, text)).toStartWith("RangeError: expected a network such as ");
  });

  test.each([null, undefined, 8, [["10.0.0.0", 8]]])("rejects %p", (value) => {
    expect(refusal(t.cidr4, value)).toStartWith("TypeError: expected a network such as ");
  });

  test("clears bits beyond the prefix when reading", () => {
    expect(decode(t.cidr4, `${prefixHex(8)}0a010203`)).toBe("10.0.0.0/8");
    expect(decode(t.cidr4, `${prefixHex(0)}ffffffff`)).toBe("0.0.0.0/0");
    expect(decode(t.cidr4, `${prefixHex(32)}ffffffff`)).toBe("255.255.255.255/32");
  });

  test("reads an invalid prefix length as it is", () => {
    expect(decode(t.cidr4, `${prefixHex(77)}0a010203`)).toBe("10.1.2.3/77");
  });
});

describe("cidr6", () => {
  test("has the prefix length in the machine's byte order and the address in network byte order", () => {
    expect(t.cidr6).toMatchObject({ kind: "cidr6", name: "cidr6", size: 20, align: 4 });
    expect(encode(t.cidr6, "2001:db8::/32")).toBe(`${prefixHex(32)}20010db8${"0".repeat(24)}`);
  });

  test("writes and reads every prefix length", () => {
    for (let prefix = 0; prefix <= 128; prefix++) {
      const ones = "1".repeat(prefix).padEnd(128, "0");
      const hex = BigInt(`0b${ones}`).toString(16).padStart(32, "0");
      const text = `${decode(t.ipv6, hex)}/${prefix}`;
      expect(encode(t.cidr6, text)).toBe(prefixHex(prefix) + hex);
      expect(roundTrip(t.cidr6, text)).toBe(text);
    }
  });

  test("accepts every text form of the address", () => {
    expect(roundTrip(t.cidr6, "2001:DB8:0:0::/33")).toBe("2001:db8::/33");
    expect(roundTrip(t.cidr6, "::ffff:10.0.0.0/104")).toBe("::ffff:10.0.0.0/104");
  });

  test("rejects bits beyond the prefix, with the network as a hint", () => {
    expect(refusal(t.cidr6, "2001:db8::1/32")).toEndWith('the network is "2001:db8::/32"');
    expect(refusal(t.cidr6, "2001:db8:8000::/32")).toEndWith('the network is "2001:db8::/32"');
    expect(refusal(t.cidr6, "::1/127")).toEndWith('the network is "::/127"');
  });

  test("rejects an address without a prefix, and one with a zone id", () => {
    expect(refusal(t.cidr6, "::1")).toEndWith(': for one address, write "::1/128"');
    expect(refusal(t.cidr6, "fe80::1%eth0")).toEndWith(": the zone id is not part of the address");
  });

  test.each(["::/129", "::/", "::/1000", "10.0.0.0/8", "", "/"])("rejects %j", (text) => {
    expect(refusal(t.cidr6, text)).toStartWith("RangeError: expected a network such as ");
  });

  test("clears bits beyond the prefix when reading", () => {
    expect(decode(t.cidr6, `${prefixHex(20)}${"f".repeat(32)}`)).toBe("ffff:f000::/20");
  });
});
