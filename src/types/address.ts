import { refuseRange, refuseType } from "../check/describe.ts";
import { cIn6Address, cInAddress, cU8 } from "./c_type.ts";
import { defineType, scalarRecipe } from "./compile.ts";
import type { Type } from "./type.ts";

/** The value of the hexadecimal digit with this character code, or -1; also for NaN, past the end. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

const DOT = 0x2e;
const ZERO = 0x30;

/** The address that a part of a text spells, from 0 to 2^32 - 1, or -1 when it spells none. */
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
    // A leading zero means octal to some readers and nothing to others: inet_pton refuses it, too.
    if (i === first || (i - first > 1 && text.charCodeAt(first) === ZERO)) return -1;
    address = address * 256 + octet;
    octets++;
    if (octets < 4 && (i === end || text.charCodeAt(i++) !== DOT)) return -1;
  }
  return i === end ? address : -1;
}

/** The address as text: `10.0.0.1`. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/**
 * `__be32` or `struct in_addr`: an IPv4 address as text, `"10.0.0.1"`: 4 bytes in network order, aligned
 * to 4. Writing takes four decimal octets without leading zeros.
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

/** How many groups of 16 bits an address has. */
const GROUPS = 8;

const COLON = 0x3a;

/** The eight groups that a text spells, in any form of RFC 4291, or undefined when it spells none. */
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
  // "::" stands for one group at least.
  if (groups.length >= GROUPS) return undefined;
  groups.splice(gap, 0, ...new Array<number>(GROUPS - groups.length).fill(0));
  return groups;
}

/** The eight groups as text in the canonical form of RFC 5952. */
export function formatIpv6(groups: readonly number[]): string {
  // The longest run of zero groups becomes "::", the first of equals, a lone one never.
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

/** The groups of the address at an offset. */
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

/** Stores the groups of an address. */
export function writeGroups(view: DataView, offset: number, groups: readonly number[]): void {
  for (let i = 0; i < GROUPS; i++) view.setUint16(offset + i * 2, groups[i]!);
}

/** What to say about a text that is not an address, if anything. */
export function ipv6Hint(text: string): string {
  return text.includes("%") ? "the zone id is not part of the address" : "";
}

/**
 * `struct in6_addr`: an IPv6 address as text: 16 bytes in network order, aligned to 4. It reads in the
 * canonical form of RFC 5952, `"2001:db8::1"`, and `"::ffff:10.0.0.1"` for a mapped IPv4 address. Writing
 * takes every textual form of RFC 4291, but no zone id (`%eth0`). Where C declares plain `__u8[16]`,
 * which is aligned to 1, put it at the same offset by a packed struct.
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

/** The text of each octet, from the first time on that one is read. */
const octets: string[] = [];
const TEXT_LENGTH = "02:42:ac:11:00:02".length;

/** The octet that starts at an index of an address, or -1 when there is none. */
function octetAt(text: string, index: number): number {
  const high = hexDigit(text.charCodeAt(index));
  const low = hexDigit(text.charCodeAt(index + 1));
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/**
 * `__u8[6]`: an Ethernet address as text, `"02:42:ac:11:00:02"`. Writing takes either case, and `-` in
 * place of `:`.
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
