import { describe, expect } from "bun:test";
import { BloomFilter, t } from "../../src/index.ts";
import { type Random, withRandom } from "../types/random.ts";
import { randomKeys } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";
import { mapTest } from "../support/needs.ts";

/** Fills a filter, and tests it with the added values and with as many others. */
function runThrough(random: Random, valueSize: number, hashes: number | undefined): void {
  const maxEntries = repetitions(2000, 500);
  const chosen = hashes === undefined ? {} : { hashes };
  using filter = new BloomFilter({ value: t.bytes(valueSize), maxEntries, ...chosen });
  const values = randomKeys(random, valueSize, 2 * maxEntries);
  const added = values.slice(0, maxEntries);
  const others = values.slice(maxEntries);
  expect(others.length).toBe(maxEntries);
  expect(others.filter((value) => filter.has(value))).toEqual([]);
  for (const [index, value] of added.entries()) {
    expect(filter.add(value).has(value)).toBe(true);
    expect(filter.has(added[random.below(index + 1)] ?? value)).toBe(true);
  }
  expect(added.filter((value) => !filter.has(value))).toEqual([]);
  // At most about 2^-n false positives with n hashes, by the kernel's choice of its size: one half for a single hash.
  const falsePositives = others.filter((value) => filter.has(value)).length;
  expect(falsePositives).toBeLessThan(maxEntries * 2 ** -(hashes ?? 5) * 1.5 + 20);
}

describe("a Bloom filter finds all added values and has few false positives", () => {
  for (const [valueSize, hashes] of [
    [2, undefined],
    [3, 1],
    [4, 3],
    [7, 15],
    [512, 5],
    [4096, undefined],
  ] as const) {
    mapTest("bloom_filter")(`values of ${valueSize} bytes, ${hashes ?? "default"} hashes`, () => {
      withRandom((random) => runThrough(random, valueSize, hashes));
    });
  }
});
