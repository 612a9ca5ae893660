import type { Random } from "../types/random.ts";

export type Bytes = Uint8Array;

export function randomBytes(random: Random, length: number): Bytes {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = random.below(256);
  return bytes;
}

/** Returns `count` different keys, or all possible ones if keys of one byte have fewer. */
export function randomKeys(random: Random, keySize: number, count: number): readonly Bytes[] {
  const limit = keySize === 1 ? Math.min(count, 256) : count;
  const keys = new Map<string, Bytes>();
  while (keys.size < limit) {
    const key = randomBytes(random, keySize);
    keys.set(key.toHex(), key);
  }
  return [...keys.values()];
}
