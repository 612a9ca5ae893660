import { describe, expect } from "bun:test";
import { MapElement } from "../../src/ffi/bpf_map_element.ts";
import { LpmTrie, t } from "../../src/index.ts";
import { comparePrefixes } from "../../src/maps/walk.ts";
import { bpfTest } from "../support/privilege.ts";
import { withRandom } from "../types/random.ts";
import { KeyByKeyTrie } from "./key_by_key_trie.ts";
import { bitsOf, compareBits, type PrefixKey, prefixType, randomPrefixes } from "./prefixes.ts";
import type { Bytes } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";

describe("the order of prefixes", () => {
  for (const bytes of [1, 2, 3, 4, 16, 256]) {
    bpfTest(`is the kernel's order of keys: addresses of ${bytes} bytes`, () => {
      withRandom((random) => {
        const key = prefixType(bytes);
        using trie = new LpmTrie({ key, value: t.u8, maxEntries: 4096 });
        for (const prefix of randomPrefixes(random, bytes, repetitions(1000, 300), false))
          trie.set(prefix, 0);
        using element = new MapElement(trie.fd, key.size, 1, "trie");
        const kernels: Bytes[] = [];
        for (let first = true; element.nextKey(first); first = false) {
          const found = new Uint8Array(key.size);
          element.useNextKey();
          element.copyKeyTo(found, 0);
          kernels.push(found);
        }
        expect(kernels.length).toBe(trie.count());
        const shuffled = kernels.toSorted(() => random.below(3) - 1);
        expect(shuffled.sort(comparePrefixes)).toEqual(kernels);
      });
    });

    bpfTest(`is total: addresses of ${bytes} bytes`, () => {
      withRandom((random) => {
        const type = prefixType(bytes);
        const encode = (prefix: PrefixKey): Bytes => {
          const key = new Uint8Array(type.size);
          type.write(new DataView(key.buffer), 0, prefix);
          return key;
        };
        const prefixes = randomPrefixes(random, bytes, 500, false);
        for (let round = 0; round < repetitions(2000); round++) {
          const [a, b] = [random.pick(prefixes), random.pick(prefixes)];
          const [keyOfA, keyOfB] = [encode(a), encode(b)];
          const order = Math.sign(comparePrefixes(keyOfA, keyOfB));
          expect(order).toBe(Math.sign(compareBits(bitsOf(a), bitsOf(b))));
          expect(Math.sign(comparePrefixes(keyOfB, keyOfA))).toBe(0 - order);
          // The same prefix with other bits after it.
          expect(order === 0).toBe(bitsOf(a) === bitsOf(b));
        }
      });
    });
  }
});

const kinds: Readonly<
  Record<string, (maxEntries: number) => LpmTrie<t.Type<string>, t.Type<number>>>
> = {
  "in batches": (maxEntries) => new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries }),
  "key by key": (maxEntries) => new KeyByKeyTrie({ key: t.cidr4, value: t.u32, maxEntries }),
};

/** Networks of 8, 16, 24 and 32 bits, which cover one another. The value of each is its number. */
function filled(make: (maxEntries: number) => LpmTrie<t.Type<string>, t.Type<number>>): {
  trie: LpmTrie<t.Type<string>, t.Type<number>>;
  keys: readonly string[];
} {
  const keys: string[] = [];
  for (let a = 0; a < 5; a++) {
    keys.push(`${10 + a}.0.0.0/8`);
    for (let b = 0; b < 10; b++) {
      keys.push(`${10 + a}.${b}.0.0/16`);
      for (let c = 0; c < 10; c++)
        keys.push(`${10 + a}.${b}.${c}.0/24`, `${10 + a}.${b}.${c}.1/32`);
    }
  }
  const trie = make(2 * keys.length);
  trie.setMany(keys.map((key, index) => [key, index] as const));
  // In the kernel's order.
  return { trie, keys: [...trie.keys()] };
}

for (const [name, make] of Object.entries(kinds)) {
  describe(`iteration over a trie ${name}`, () => {
    bpfTest("returns every prefix once with its value, before those that cover it", () => {
      const { trie, keys } = filled(make);
      using _trie = trie;
      expect(keys.length).toBe(5 * (1 + 10 * (1 + 2 * 10)));
      expect(keys.slice(0, 4)).toEqual([
        "10.0.0.1/32",
        "10.0.0.0/24",
        "10.0.1.1/32",
        "10.0.1.0/24",
      ]);
      expect(keys.at(-1)).toBe("14.0.0.0/8");
      expect(new Set(keys).size).toBe(keys.length);
      for (const [key, value] of trie) expect(trie.get(key)).toBe(value);
    });

    for (const every of [1, 2, 3, 64]) {
      bpfTest(
        `returns every prefix once while one of every ${every} is deleted when it is returned`,
        () => {
          const { trie, keys } = filled(make);
          using _trie = trie;
          const seen: string[] = [];
          for (const key of trie.keys()) {
            if (seen.push(key) % every === 0) expect(trie.delete(key)).toBe(true);
          }
          expect(seen).toEqual([...keys]);
          expect([...trie.keys()]).toEqual(keys.filter((_, index) => (index + 1) % every !== 0));
        },
      );
    }

    for (const every of [7, 64, 65, 300]) {
      bpfTest(`continues if all returned prefixes are deleted, every ${every} prefixes`, () => {
        const { trie, keys } = filled(make);
        using _trie = trie;
        const seen: string[] = [];
        for (const key of trie.keys()) {
          if (seen.push(key) % every === 0) trie.deleteMany(seen);
        }
        expect(seen).toEqual([...keys]);
      });
    }

    bpfTest("continues if the current prefix is deleted and earlier ones stay", () => {
      const { trie, keys } = filled(make);
      using _trie = trie;
      const seen: string[] = [];
      // At the end of a chunk and elsewhere: the kernel starts again from the first.
      const victims = new Set([63, 64, 200, 319, 320, 500].map((index) => keys[index]));
      for (const key of trie.keys()) {
        seen.push(key);
        if (victims.has(key)) trie.delete(key);
      }
      expect(seen).toEqual([...keys]);
    });

    bpfTest("returns all prefixes that stay, in order, while others are added and deleted", () => {
      withRandom((random) => {
        const { trie, keys } = filled(make);
        using _trie = trie;
        const others = Array.from({ length: 200 }, (_, c) => `${9 + (c % 8)}.77.${c}.0/24`);
        for (let round = 0; round < repetitions(20, 2); round++) {
          const seen: string[] = [];
          for (const key of trie.keys()) {
            seen.push(key);
            const other = random.pick(others);
            if (random.below(2) === 0) trie.set(other, 1);
            else trie.delete(other);
            if (others.includes(key)) trie.delete(key);
          }
          expect(new Set(seen).size).toBe(seen.length);
          expect(seen.filter((key) => !others.includes(key))).toEqual([...keys]);
        }
      });
    });

    bpfTest(
      "ends if all prefixes are deleted, after at most those that were fetched before",
      () => {
        const { trie } = filled(make);
        using _trie = trie;
        let seen = 0;
        for (const _key of trie.keys()) if (++seen === 10) trie.clear();
        expect(seen).toBeWithin(10, 65);
        expect([...trie.keys()]).toEqual([]);
      },
    );

    bpfTest("ends if each prefix is replaced by a later one", () => {
      using trie = make(200);
      for (let i = 0; i < 100; i++) trie.set(`10.0.${i}.0/24`, i);
      let steps = 0;
      for (const key of trie.keys()) {
        if (++steps > 10_000) throw new Error("it does not end");
        trie.delete(key);
        const next = 100 + steps;
        trie.set(`10.${next >> 8}.${next & 255}.0/24`, 0);
      }
      expect(trie.count()).toBe(100);
    });
  });
}
