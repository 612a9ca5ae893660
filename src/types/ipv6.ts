import { defineType } from "./define.ts";
import { hexDigit } from "./hex.ts";
import { formatIpv4, parseIpv4 } from "./ipv4.ts";
import { scalarRecipe } from "./recipe.ts";
import { refuseRange, refuseType } from "./refusal.ts";
import type { Type } from "./type.ts";

/** How many groups of 16 bits an address has. */
export const GROUPS = 8;

const COLON = 0x3a;
const DOT = 0x2e;

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
export const ipv6: Type<string> = defineType<string, Type<string>>(
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
);
