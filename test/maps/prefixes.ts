import type { Type } from "../../src/types/type.ts";
import { t } from "../../src/index.ts";
import type { Random } from "../types/random.ts";
import { type Bytes, randomBytes } from "./random_bytes.ts";

/** Key of an LPM trie in the general form: a struct. */
export interface PrefixKey {
  readonly length: number;
  readonly address: Bytes;
}

/** Type of the key, without the tail padding of C: all bytes after the length are the address. */
export function prefixType(bytes: number): Type<PrefixKey> {
  return t.struct({ length: t.u32, address: t.bytes(bytes) }, { packed: true });
}

/** Returns the prefix as a string of 0 and 1. A prefix covers another one if its string is the beginning of the other's. */
export function bitsOf({ length, address }: PrefixKey): string {
  let bits = "";
  for (const byte of address.subarray(0, Math.ceil(length / 8))) {
    bits += byte.toString(2).padStart(8, "0");
  }
  return bits.slice(0, length);
}

/** Compares prefixes in the kernel's order: longer ones before those that cover them, 0 before 1. */
export function compareBits(a: string, b: string): number {
  if (a.startsWith(b)) return b.length - a.length;
  if (b.startsWith(a)) return 1;
  return a < b ? -1 : 1;
}

/** Returns the address with the bits after the prefix cleared. */
function masked({ length, address }: PrefixKey): PrefixKey {
  const copy = address.slice();
  for (let bit = length; bit < 8 * copy.length; bit++) {
    const index = bit >> 3;
    copy[index] = (copy[index] as number) & ~(0x80 >> (bit & 7));
  }
  return { length, address: copy };
}

/**
 * Returns related prefixes: of a few addresses, and of addresses next to them.
 *
 * @param isExact true to clear the bits after each prefix
 */
export function randomPrefixes(
  random: Random,
  bytes: number,
  count: number,
  isExact: boolean,
): readonly PrefixKey[] {
  const bases = Array.from({ length: 4 }, () => randomBytes(random, bytes));
  const ends = [0, 1, 7, 8, 9, 8 * bytes - 1, 8 * bytes].filter((end) => end <= 8 * bytes);
  return Array.from({ length: count }, () => {
    const address = random.pick(bases).slice();
    const length = random.below(3) === 0 ? random.pick(ends) : random.below(8 * bytes + 1);
    const flipped = random.below(8 * bytes);
    if (random.below(2) === 0) {
      const index = flipped >> 3;
      address[index] = (address[index] as number) ^ (0x80 >> (flipped & 7));
    }
    return isExact ? masked({ length, address }) : { length, address };
  });
}
