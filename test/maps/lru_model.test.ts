import { describe, expect } from "bun:test";
import {
  type AssociativeMap,
  LruHashMap,
  LruPerCpuHashMap,
  type MapFlag,
  possibleCpus,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { type Bytes, randomBytes, randomKeys } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";

const hex = (bytes: Bytes): string => bytes.toHex();

/**
 * Map that evicts, and a model of its largest possible contents: the last stored value of each key that was not found absent
 * since.
 */
class EvictingPair<V> implements Disposable {
  readonly #random: Random;
  readonly #map: AssociativeMap<Bytes, V>;
  readonly #keys: readonly Bytes[];
  readonly #value: () => V;
  readonly #text: (value: V) => string;
  readonly #stored = new Map<string, string>();
  #evicted = 0;

  constructor(
    random: Random,
    map: AssociativeMap<Bytes, V>,
    keys: readonly Bytes[],
    value: () => V,
    text: (value: V) => string,
  ) {
    this.#random = random;
    this.#map = map;
    this.#keys = keys;
    this.#value = value;
    this.#text = text;
  }

  /** Number of keys that were found absent without a deletion. */
  get evicted(): number {
    return this.#evicted;
  }

  readonly #operations: readonly (() => void)[] = [
    () => this.#set(this.#key()),
    () => this.#set(this.#key()),
    () => this.#add(this.#key()),
    () => this.#replace(this.#key()),
    () => this.#setMany(),
    () => this.#look(this.#key()),
    () => this.#delete(this.#key()),
    () => this.#take(this.#key()),
    () => this.#deleteMany(),
    () => this.#takeAll(),
    () => {
      if (this.#random.below(20) === 0) this.compare();
    },
  ];

  /** Stores more entries than the map has room for. */
  fill(): void {
    for (const key of this.#keys) this.#set(key);
  }

  step(): void {
    this.#random.pick(this.#operations)();
  }

  #key(): Bytes {
    return this.#random.pick(this.#keys);
  }

  #some(): Bytes[] {
    return Array.from({ length: 1 + this.#random.below(12) }, () => this.#key());
  }

  #store(key: Bytes, value: V): void {
    this.#stored.set(hex(key), this.#text(value));
  }

  /** Checks that a present key has the last stored value, and that an absent one stays absent until it is stored again. */
  #expectStored(key: Bytes, value: V | undefined): void {
    if (value !== undefined) expect(this.#text(value)).toBe(this.#stored.get(hex(key)) ?? "never");
    else if (this.#stored.delete(hex(key))) this.#evicted++;
  }

  /** Checks that the entry that was just stored is present: eviction makes room before storing. */
  #expectThere(key: Bytes): void {
    const value = this.#map.get(key);
    expect(value === undefined ? "gone" : this.#text(value)).toBe(this.#stored.get(hex(key)) ?? "");
  }

  #set(key: Bytes): void {
    const value = this.#value();
    this.#map.set(key, value);
    this.#store(key, value);
    this.#expectThere(key);
  }

  #add(key: Bytes): void {
    const value = this.#value();
    if (this.#map.add(key, value)) this.#store(key, value);
    // If add() returned false, the key was present, and its value is unchanged.
    this.#expectThere(key);
  }

  #replace(key: Bytes): void {
    const value = this.#value();
    if (this.#map.replace(key, value)) {
      expect(this.#stored.has(hex(key))).toBe(true);
      this.#store(key, value);
      this.#expectThere(key);
    } else {
      expect(this.#map.has(key)).toBe(false);
      this.#expectStored(key, undefined);
    }
  }

  #setMany(): void {
    const pairs = this.#some().map((key) => [key, this.#value()] as const);
    this.#map.setMany(pairs);
    for (const [key, value] of pairs) this.#store(key, value);
    this.#expectThere((pairs.at(-1) as (typeof pairs)[number])[0]);
  }

  #look(key: Bytes): void {
    const isPresent = this.#map.has(key);
    const value = this.#map.get(key);
    expect(value !== undefined).toBe(isPresent);
    this.#expectStored(key, value);
  }

  #delete(key: Bytes): void {
    const isPresent = this.#map.has(key);
    expect(this.#map.delete(key)).toBe(isPresent);
    expect(this.#map.has(key)).toBe(false);
    this.#stored.delete(hex(key));
  }

  #take(key: Bytes): void {
    this.#expectStored(key, this.#map.take(key));
    expect(this.#map.has(key)).toBe(false);
    this.#stored.delete(hex(key));
  }

  #deleteMany(): void {
    const keys = this.#some();
    const there = new Set(keys.filter((key) => this.#map.has(key)).map(hex));
    expect(this.#map.deleteMany(keys)).toBe(there.size);
    for (const key of keys) {
      expect(this.#map.has(key)).toBe(false);
      this.#stored.delete(hex(key));
    }
  }

  #takeAll(): void {
    let left = this.#random.below(4);
    for (const [key, value] of this.#map.takeAll()) {
      this.#expectStored(key, value);
      expect(this.#map.has(key)).toBe(false);
      this.#stored.delete(hex(key));
      if (--left <= 0) break;
    }
  }

  compare(): void {
    const entries = [...this.#map];
    for (const [key, value] of entries) this.#expectStored(key, value);
    const seen = new Set(entries.map(([key]) => hex(key)));
    expect(seen.size).toBe(entries.length);
    // Conversely, the iteration returned every key that a look-up finds.
    for (const key of this.#keys) expect(this.#map.has(key)).toBe(seen.has(hex(key)));
    expect(entries.length).toBeLessThanOrEqual(this.#map.maxEntries);
    expect(this.#map.count()).toBe(entries.length);
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}

type Make = (
  random: Random,
  sizes: { keySize: number; valueSize: number },
  flags: readonly MapFlag[],
) => EvictingPair<Bytes> | EvictingPair<Bytes[]>;

/** Few entries, so that the map is always full; with `no_common_lru` each CPU has a share. */
function roomFor(random: Random): number {
  return possibleCpus().length * (1 + random.below(30));
}

const makers: Readonly<Record<string, Make>> = {
  "an LRU hash map": (random, { keySize, valueSize }, flags) => {
    const maxEntries = roomFor(random);
    const types = { key: t.bytes(keySize), value: t.bytes(valueSize) };
    return new EvictingPair<Bytes>(
      random,
      new LruHashMap({ ...types, maxEntries, flags }),
      randomKeys(random, keySize, 3 * maxEntries),
      () => randomBytes(random, valueSize),
      hex,
    );
  },
  "an LRU per-CPU hash map": (random, { keySize, valueSize }, flags) => {
    const maxEntries = roomFor(random);
    const types = { key: t.bytes(keySize), value: t.bytes(valueSize) };
    return new EvictingPair<Bytes[]>(
      random,
      new LruPerCpuHashMap({ ...types, maxEntries, flags }),
      randomKeys(random, keySize, 3 * maxEntries),
      () => possibleCpus().map(() => randomBytes(random, valueSize)),
      (values) => values.map(hex).join(),
    );
  },
};

const stepsEach = repetitions(2000, 100);

for (const [name, make] of Object.entries(makers)) {
  describe(`${name} has no other entries than the last stored ones`, () => {
    const runThrough = (
      random: Random,
      keySize: number,
      valueSize: number,
      flags: readonly MapFlag[],
    ) => {
      using pair = make(random, { keySize, valueSize }, flags);
      pair.fill();
      for (let step = 0; step < stepsEach; step++) pair.step();
      pair.compare();
      // Three times as many keys as entries.
      expect(pair.evicted).toBeGreaterThan(0);
    };
    for (const flags of [[], ["no_common_lru"]] as const) {
      for (const [keySize, valueSize] of [
        [2, 1],
        [9, 7],
        [512, 4096],
      ] as const) {
        bpfTest(`keys of ${keySize}, values of ${valueSize} bytes ${flags.join()}`, () => {
          withRandom((random) => runThrough(random, keySize, valueSize, flags));
        });
      }
      bpfTest(`random sizes ${flags.join()}`, () => {
        withRandom((random) =>
          runThrough(random, 2 + random.below(511), 1 + random.below(4096), flags),
        );
      });
    }
  });
}
