import { cInAddress, cIn6Address, type CTypeWriter, cU32 } from "./c_type.ts";
import { defineType, scalarRecipe } from "./compile.ts";
import {
  formatIpv4,
  formatIpv6,
  ipv6Hint,
  parseIpv4,
  parseIpv6,
  readGroups,
  writeGroups,
} from "./address.ts";
import { LITTLE_ENDIAN } from "./memory.ts";
import { refuseRange, refuseType } from "../check/describe.ts";
import type { Type } from "./type.ts";

/** Functions for one address family; `Address` is the parsed form of an address. */
interface Family<Address> {
  readonly kind: string;
  /** Number of bits of an address. */
  readonly bits: number;
  /** Example of a network for messages. */
  readonly sample: string;
  parse(text: string): Address | undefined;
  format(address: Address): string;
  equal(a: Address, b: Address): boolean;
  /** Returns the id of the C type of an address. */
  readonly encodeAddress: (types: CTypeWriter) => number;
  read(view: DataView, offset: number): Address;
  write(view: DataView, offset: number, address: Address): void;
  /** Clears the bits beyond the prefix. */
  mask(address: Address, prefix: number): Address;
  hint(text: string): string;
}

/** Size of the prefix length in bytes. It comes first, in the machine's byte order. */
const PREFIX_SIZE = 4;

function defineCidr<Address>(family: Family<Address>): Type<string, string> {
  const { kind, bits, sample } = family;
  const size = PREFIX_SIZE + bits / 8;

  function parse(text: string): { address: Address; prefix: number } | undefined {
    const slash = text.indexOf("/");
    if (slash < 0) return undefined;
    const digits = text.slice(slash + 1);
    if (!/^(0|[1-9][0-9]{0,2})$/.test(digits) || Number(digits) > bits) return undefined;
    const address = family.parse(text.slice(0, slash));
    return address === undefined ? undefined : { address, prefix: Number(digits) };
  }

  /** Formats a network, with the bits beyond the prefix cleared. */
  function canonical(address: Address, prefix: number): string {
    return `${family.format(family.mask(address, prefix))}/${prefix}`;
  }

  return defineType<string, Type<string, string>>(
    { kind, name: kind, size, align: 4 },
    scalarRecipe({
      read(view, offset) {
        const prefix = view.getUint32(offset, LITTLE_ENDIAN);
        const address = family.read(view, offset + PREFIX_SIZE);
        // An invalid prefix length is shown as it is.
        if (prefix > bits) return `${family.format(address)}/${prefix}`;
        return canonical(address, prefix);
      },
      write(view, offset, value) {
        const network = typeof value === "string" ? parse(value) : undefined;
        if (network === undefined) return false;
        const { address, prefix } = network;
        if (!family.equal(address, family.mask(address, prefix))) return false;
        view.setUint32(offset, prefix, LITTLE_ENDIAN);
        family.write(view, offset + PREFIX_SIZE, address);
        return true;
      },
      refuse(value, path) {
        const expected = `a network such as ${JSON.stringify(sample)} (${kind})`;
        if (typeof value !== "string") return refuseType(path, expected, value);
        const network = parse(value);
        if (network !== undefined) {
          const { address, prefix } = network;
          const meant = JSON.stringify(canonical(address, prefix));
          return refuseRange(
            path,
            expected,
            value,
            `bits are set beyond the prefix; the network is ${meant}`,
          );
        }
        const single = family.parse(value);
        const hint =
          single === undefined
            ? family.hint(value)
            : `for one address, write ${JSON.stringify(canonical(single, bits))}`;
        return refuseRange(path, expected, value, hint);
      },
    }),
    {
      size,
      // The kernel requires a struct as the key of an LPM trie (trie_check_btf in kernel/bpf/lpm_trie.c).
      encode: (types) =>
        types.struct("", size, [
          { name: "prefixlen", typeId: cU32(types), bitOffset: 0 },
          { name: "addr", typeId: family.encodeAddress(types), bitOffset: PREFIX_SIZE * 8 },
        ]),
    },
  );
}

/**
 * IPv4 network, the key of an LPM trie, C's `struct { __u32 prefixlen; __be32 addr; }`: 8 bytes, aligned
 * to 4. Values are strings such as `"10.0.0.0/8"`.
 *
 * Writing rejects an address with bits beyond the prefix, such as `"10.1.2.3/8"`. To look up one address,
 * write `"10.1.2.3/32"`. Reading clears the bits beyond the prefix, which the trie ignores, so that the
 * result can be written again.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(t.cidr4.size));
 * t.cidr4.write(view, 0, "10.0.0.0/8");
 * console.log(t.u32.read(view, 0), t.ipv4.read(view, 4)); // 8 10.0.0.0
 * ```
 */
export const cidr4: Type<string, string> = /*@__PURE__*/ defineCidr<number>({
  kind: "cidr4",
  bits: 32,
  sample: "10.0.0.0/8",
  parse(text) {
    const address = parseIpv4(text, 0, text.length);
    return address < 0 ? undefined : address;
  },
  format: formatIpv4,
  equal: (a, b) => a === b,
  read: (view, offset) => view.getUint32(offset),
  write: (view, offset, address) => view.setUint32(offset, address),
  // In JavaScript a shift by 32 is a shift by 0.
  mask: (address, prefix) => (prefix === 0 ? 0 : (address & (-1 << (32 - prefix))) >>> 0),
  hint: () => "",
  encodeAddress: cInAddress,
});

/**
 * IPv6 network, the key of an LPM trie, C's `struct { __u32 prefixlen; struct in6_addr addr; }`: 20 bytes,
 * aligned to 4. Values are strings such as `"2001:db8::/32"`.
 *
 * Writing rejects an address with bits beyond the prefix. To look up one address, write
 * `"2001:db8::1/128"`. Reading clears the bits beyond the prefix, which the trie ignores, so that the
 * result can be written again.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(t.cidr6.size));
 * t.cidr6.write(view, 0, "2001:db8::/32");
 * console.log(t.u32.read(view, 0), t.ipv6.read(view, 4)); // 32 2001:db8::
 * ```
 */
export const cidr6: Type<string, string> = /*@__PURE__*/ defineCidr<number[]>({
  kind: "cidr6",
  bits: 128,
  sample: "2001:db8::/32",
  parse: parseIpv6,
  format: formatIpv6,
  equal: (a, b) => a.every((group, index) => group === b[index]),
  read: readGroups,
  write: writeGroups,
  mask: (groups, prefix) =>
    groups.map((group, index) => {
      const kept = Math.min(16, Math.max(0, prefix - index * 16));
      return group & (0xffff << (16 - kept)) & 0xffff;
    }),
  hint: ipv6Hint,
  encodeAddress: cIn6Address,
});
