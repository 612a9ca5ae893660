import { describe, expect } from "bun:test";
import {
  HashMap,
  LruHashMap,
  LruPerCpuHashMap,
  PerCpuHashMap,
  possibleCpus,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { MapPair } from "./map_pair.ts";
import { type Bytes, randomBytes, randomKeys } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";

/** Parameters of a map. */
interface Shape {
  readonly random: Random;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

/** More keys than entries, so that the map is sometimes full. */
function keysFor({ random, keySize, maxEntries }: Shape): readonly Bytes[] {
  return randomKeys(random, keySize, 2 * maxEntries);
}

function plainPair(
  shape: Shape,
  map: HashMap<t.Type<Bytes>, t.Type<Bytes>> | LruHashMap<t.Type<Bytes>, t.Type<Bytes>>,
  keys = keysFor(shape),
): MapPair<Bytes> {
  const { random, valueSize } = shape;
  const value = () => randomBytes(random, valueSize);
  return new MapPair({ random, map, keys, value, text: (bytes) => bytes.toHex() });
}

function perCpuPair(
  shape: Shape,
  map: PerCpuHashMap<t.Type<Bytes>, t.Type<Bytes>> | LruPerCpuHashMap<t.Type<Bytes>, t.Type<Bytes>>,
  keys = keysFor(shape),
): MapPair<Bytes[]> {
  const { random, valueSize } = shape;
  const cpus = possibleCpus();
  return new MapPair<Bytes[]>({
    random,
    map,
    keys,
    value: () => cpus.map(() => randomBytes(random, valueSize)),
    text: (values) => values.map((bytes) => bytes.toHex()).join(),
    alsoLook(key, expected) {
      const texts = expected?.split(",");
      for (const [index, cpu] of cpus.entries()) {
        expect(map.getCpu(key, cpu)?.toHex()).toBe(texts?.[index]);
      }
      const list = (all: string[], bytes: Bytes, cpu: number) => [
        ...all,
        `${cpu}:${bytes.toHex()}`,
      ];
      expect(map.reduce(key, list, [])).toEqual(
        texts?.map((text, index) => `${cpus[index]}:${text}`),
      );
    },
  });
}

/**
 * Largest number of entries of a map that evicts. It behaves as the others while it has many free entries: the kernel gives them
 * to the CPUs in groups of more than a hundred.
 */
const evictingMaxEntries = 1024;

const kinds: Readonly<Record<string, (shape: Shape) => MapPair<Bytes> | MapPair<Bytes[]>>> = {
  "a hash map": (shape) => plainPair(shape, new HashMap(optionsOf(shape))),
  "a hash map without preallocation": (shape) =>
    plainPair(shape, new HashMap({ ...optionsOf(shape), flags: ["no_prealloc"] })),
  "a per-CPU hash map": (shape) => perCpuPair(shape, new PerCpuHashMap(optionsOf(shape))),
  "a per-CPU hash map without preallocation": (shape) =>
    perCpuPair(shape, new PerCpuHashMap({ ...optionsOf(shape), flags: ["no_prealloc"] })),
  "an LRU hash map with many free entries": (shape) =>
    plainPair(
      shape,
      new LruHashMap({ ...optionsOf(shape), maxEntries: evictingMaxEntries }),
      keysFor(shape),
    ),
  "an LRU per-CPU hash map with many free entries": (shape) =>
    perCpuPair(
      shape,
      new LruPerCpuHashMap({ ...optionsOf(shape), maxEntries: evictingMaxEntries }),
      keysFor(shape),
    ),
};

function optionsOf({ keySize, valueSize, maxEntries }: Shape) {
  return { key: t.bytes(keySize), value: t.bytes(valueSize), maxEntries };
}

// The smallest, odd ones, those around 8 and the largest; the others are random.
const sizes = [
  [1, 1],
  [3, 5],
  [7, 9],
  [8, 8],
  [511, 17],
  [512, 4096],
] as const;
const stepsEach = repetitions(2000);

for (const [kind, make] of Object.entries(kinds)) {
  const runThrough = (random: Random, keySize: number, valueSize: number) => {
    using pair = make({ random, keySize, valueSize, maxEntries: 1 + random.below(60) });
    for (let step = 0; step < stepsEach; step++) pair.step();
    pair.compare();
  };
  describe(`${kind} behaves like a Map`, () => {
    for (const [keySize, valueSize] of sizes) {
      bpfTest(`keys of ${keySize}, values of ${valueSize} bytes`, () => {
        withRandom((random) => runThrough(random, keySize, valueSize));
      });
    }
    bpfTest("random sizes", () => {
      withRandom((random) => {
        for (let round = 0; round < 3; round++) {
          runThrough(random, 1 + random.below(512), 1 + random.below(4096));
        }
      });
    });
  });
}
