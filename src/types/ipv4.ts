import { defineType } from "./define.ts";
import { scalarRecipe } from "./recipe.ts";
import { refuseRange, refuseType } from "./refusal.ts";
import type { Type } from "./type.ts";

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
export const ipv4: Type<string> = defineType<string, Type<string>>(
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
);
