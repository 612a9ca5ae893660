import { refuseRange, refuseType } from "../check/describe.ts";
import { cIn6Address, cInAddress, cU8 } from "./c_type.ts";
import { defineType, scalarRecipe } from "./compile.ts";
import type { Type } from "./type.ts";

/** Returns the value of the hexadecimal digit with a character code, or -1. The code is NaN past the end of a string. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

const DOT = 0x2e;
const ZERO = 0x30;

/** Parses a part of a string as an IPv4 address. Returns a number from 0 to 2^32 - 1, or -1 if it is not an address. */
export function parseIpv4(text: string, start: number, end: number): number {
  let address = 0;
  let octets = 0;
  let i = start;
  while (octets < 4) {
    const first = i;
    let octet = 0;
    for (; i < end; i++) {
      const digit = text.charCodeAt(i) - ZERO;
      if (!(digit >= 0 && digit <= 9)) break;
      octet = octet * 10 + digit;
      if (octet > 255) return -1;
    }
    // A leading zero is rejected, as in inet_pton(3), because some parsers read such a number as octal, others as decimal.
    if (i === first || (i - first > 1 && text.charCodeAt(first) === ZERO)) return -1;
    address = address * 256 + octet;
    octets++;
    if (octets < 4 && (i === end || text.charCodeAt(i++) !== DOT)) return -1;
  }
  return i === end ? address : -1;
}

/** Formats an IPv4 address: `10.0.0.1`. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/**
 * IPv4 address, C's `struct in_addr` or `__be32`: 4 bytes in network byte order, aligned to 4. Values are
 * strings such as `"10.0.0.1"`.
 *
 * Writing takes four decimal octets without leading zeros.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(4));
 * t.ipv4.write(view, 0, "10.0.0.1");
 * console.log(t.ipv4.read(view, 0), view.getUint8(0)); // 10.0.0.1 10
 * ```
 */
export const ipv4: Type<string, string> = /*@__PURE__*/ defineType<string, Type<string, string>>(
  { kind: "ipv4", name: "ipv4", size: 4, align: 4 },
  scalarRecipe({
    read: (view, offset) => formatIpv4(view.getUint32(offset)),
    write(view, offset, value) {
      const address = typeof value === "string" ? parseIpv4(value, 0, value.length) : -1;
      if (address < 0) return false;
      view.setUint32(offset, address);
      return true;
    },
    refuse(value, path) {
      const expected = 'an IPv4 address such as "10.0.0.1" (ipv4)';
      return typeof value === "string"
        ? refuseRange(path, expected, value)
        : refuseType(path, expected, value);
    },
  }),
  { size: 4, encode: cInAddress },
);

/** Number of 16-bit groups of an IPv6 address. */
const GROUPS = 8;

const COLON = 0x3a;

/** Parses an IPv6 address in any form of RFC 4291. Returns its eight groups, or `undefined` if it is not an address. */
export function parseIpv6(text: string): number[] | undefined {
  const groups: number[] = [];
  let gap = -1;
  let i = 0;
  if (text.startsWith("::")) {
    gap = 0;
    i = 2;
  }
  while (i < text.length) {
    const first = i;
    let group = 0;
    for (; i < text.length; i++) {
      const digit = hexDigit(text.charCodeAt(i));
      if (digit < 0) break;
      group = group * 16 + digit;
    }
    if (text.charCodeAt(i) === DOT) {
      const address = parseIpv4(text, first, text.length);
      if (address < 0) return undefined;
      groups.push(address >>> 16, address & 0xffff);
      break;
    }
    if (i === first || i - first > 4) return undefined;
    groups.push(group);
    if (i === text.length) break;
    if (groups.length === GROUPS || text.charCodeAt(i++) !== COLON) return undefined;
    if (text.charCodeAt(i) === COLON) {
      if (gap >= 0) return undefined;
      gap = groups.length;
      i++;
    } else if (i === text.length) {
      return undefined;
    }
  }
  if (gap < 0) return groups.length === GROUPS ? groups : undefined;
  // "::" stands for at least one group.
  if (groups.length >= GROUPS) return undefined;
  groups.splice(gap, 0, ...new Array<number>(GROUPS - groups.length).fill(0));
  return groups;
}

/** Formats the eight groups of an IPv6 address in the canonical form of RFC 5952. */
export function formatIpv6(groups: readonly number[]): string {
  // "::" replaces the longest run of at least two zero groups, the first of several equally long ones.
  let gap = -1;
  let gapLength = 1;
  for (let start = 0; start < GROUPS; start++) {
    let end = start;
    while (end < GROUPS && groups[end] === 0) end++;
    if (end - start > gapLength) {
      gap = start;
      gapLength = end - start;
    }
    start = end;
  }
  if (gap === 0 && gapLength === 5 && groups[5] === 0xffff) {
    return `::ffff:${formatIpv4(groups[6]! * 0x10000 + groups[7]!)}`;
  }
  let text = "";
  for (let i = 0; i < GROUPS; i++) {
    if (i === gap) {
      text += "::";
      i += gapLength - 1;
      continue;
    }
    if (i > 0 && i !== gap + gapLength) text += ":";
    text += groups[i]!.toString(16);
  }
  return text;
}

/** Reads the eight groups of the IPv6 address at an offset. */
export function readGroups(view: DataView, offset: number): number[] {
  return [
    view.getUint16(offset),
    view.getUint16(offset + 2),
    view.getUint16(offset + 4),
    view.getUint16(offset + 6),
    view.getUint16(offset + 8),
    view.getUint16(offset + 10),
    view.getUint16(offset + 12),
    view.getUint16(offset + 14),
  ];
}

/** Writes the eight groups of an IPv6 address. */
export function writeGroups(view: DataView, offset: number, groups: readonly number[]): void {
  for (let i = 0; i < GROUPS; i++) view.setUint16(offset + i * 2, groups[i]!);
}

/** Returns the hint for a string that is not an IPv6 address; empty if there is none. */
export function ipv6Hint(text: string): string {
  return text.includes("%") ? "the zone id is not part of the address" : "";
}

/**
 * IPv6 address, C's `struct in6_addr`: 16 bytes in network byte order, aligned to 4. Values are strings
 * such as `"2001:db8::1"`.
 *
 * Reading returns the canonical form of RFC 5952; an IPv4-mapped address is `"::ffff:10.0.0.1"`. Writing
 * takes every text form of RFC 4291, without a zone id (`%eth0`). If C declares the address as `__u8[16]`,
 * which is aligned to 1, a packed struct puts it at the same offset.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(16));
 * t.ipv6.write(view, 0, "2001:DB8:0:0:0:0:0:1");
 * console.log(t.ipv6.read(view, 0)); // 2001:db8::1
 * ```
 */
export const ipv6: Type<string, string> = /*@__PURE__*/ defineType<string, Type<string, string>>(
  { kind: "ipv6", name: "ipv6", size: 16, align: 4 },
  scalarRecipe({
    read: (view, offset) => formatIpv6(readGroups(view, offset)),
    write(view, offset, value) {
      const groups = typeof value === "string" ? parseIpv6(value) : undefined;
      if (groups === undefined) return false;
      writeGroups(view, offset, groups);
      return true;
    },
    refuse(value, path) {
      const expected = 'an IPv6 address such as "2001:db8::1" (ipv6)';
      return typeof value === "string"
        ? refuseRange(path, expected, value, ipv6Hint(value))
        : refuseType(path, expected, value);
    },
  }),
  { size: 16, encode: cIn6Address },
);

/** Two hexadecimal digits for each octet, filled on first use. */
const octets: string[] = [];
const TEXT_LENGTH = "02:42:ac:11:00:02".length;

/** Parses the two hexadecimal digits at an index. Returns -1 if one of the characters is not a hexadecimal digit. */
function octetAt(text: string, index: number): number {
  const high = hexDigit(text.charCodeAt(index));
  const low = hexDigit(text.charCodeAt(index + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/**
 * Ethernet address, C's `__u8[6]`. Values are strings such as `"02:42:ac:11:00:02"`.
 *
 * Reading returns lower case and `:`. Writing takes either case, and `:` or `-` between the octets.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(6));
 * t.mac.write(view, 0, "02-42-AC-11-00-02");
 * console.log(t.mac.read(view, 0)); // 02:42:ac:11:00:02
 * ```
 */
export const mac: Type<string, string> = /*@__PURE__*/ defineType<string, Type<string, string>>(
  { kind: "mac", name: "mac", size: 6, align: 1 },
  scalarRecipe({
    read(view, offset) {
      if (octets.length === 0) {
        for (let octet = 0; octet < 256; octet++) octets.push(octet.toString(16).padStart(2, "0"));
      }
      let text = octets[view.getUint8(offset)]!;
      for (let i = 1; i < 6; i++) text += `:${octets[view.getUint8(offset + i)]!}`;
      return text;
    },
    write(view, offset, value) {
      if (typeof value !== "string" || value.length !== TEXT_LENGTH) return false;
      const separator = value[2];
      if (separator !== ":" && separator !== "-") return false;
      for (let i = 0; i < 6; i++) {
        const octet = octetAt(value, i * 3);
        if (octet < 0 || (i > 0 && value[i * 3 - 1] !== separator)) return false;
        view.setUint8(offset + i, octet);
      }
      return true;
    },
    refuse(value, path) {
      const expected = 'an Ethernet address such as "02:42:ac:11:00:02" (mac)';
      return typeof value === "string"
        ? refuseRange(path, expected, value)
        : refuseType(path, expected, value);
    },
  }),
  { size: 6, encode: (types) => types.array(cU8(types), 6) },
);
