import { describe, expect } from "bun:test";
import {
  LruPerCpuHashMap,
  PerCpuArrayMap,
  PerCpuHashMap,
  possibleCpus,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { type Bytes, randomBytes } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";

const cpus = possibleCpus();

/** Applies one step to the map and the model, sometimes with an index outside the array. */
function step(random: Random, map: PerCpuArrayMap<t.Type<Bytes>>, model: Bytes[][]): void {
  const { size } = map.types.value;
  const index = random.below(model.length + 2);
  const isInside = index < model.length;
  const values = () => cpus.map(() => randomBytes(random, size));
  switch (random.below(8)) {
    case 0:
      expect(map.get(index)).toEqual(model[index]);
      expect(map.has(index)).toBe(isInside);
      break;
    case 1:
      expect(map.at(-1 - index)).toEqual(model.at(-1 - index));
      break;
    case 2: {
      const cpu = random.below(cpus.length);
      expect(map.getCpu(index, cpus[cpu] as number)).toEqual(model[index]?.[cpu]);
      break;
    }
    case 3: {
      const list = (all: [number, Bytes][], value: Bytes, cpu: number) =>
        [...all, [cpu, value]] as [number, Bytes][];
      expect(map.reduce(index, list, [])).toEqual(
        model[index]?.map((value, at) => [cpus[at] as number, value]),
      );
      break;
    }
    case 4: {
      const pairs = Array.from(
        { length: random.below(6) },
        () => [random.below(model.length), values()] as const,
      );
      if (isInside) {
        map.setMany(pairs);
        for (const [at, stored] of pairs) model[at] = stored;
      } else {
        expect(() => map.setMany([...pairs, [index, values()]])).toThrow(RangeError);
      }
      break;
    }
    default: {
      const stored = values();
      if (!isInside) {
        expect(() => map.set(index, stored)).toThrow(RangeError);
        break;
      }
      map.set(index, stored);
      model[index] = stored;
    }
  }
  if (random.below(50) === 0) compare(map, model);
}

function compare(map: PerCpuArrayMap<t.Type<Bytes>>, model: readonly Bytes[][]): void {
  expect([...map]).toEqual([...model.entries()]);
  expect([...map.values()]).toEqual([...model]);
  expect([...map.keys()]).toEqual([...model.keys()]);
}

describe("a per-CPU array map behaves like an array of arrays", () => {
  const runThrough = (random: Random, size: number) => {
    const maxEntries = 1 + random.below(40);
    using map = new PerCpuArrayMap({ value: t.bytes(size), length: maxEntries });
    const model = Array.from({ length: maxEntries }, () => cpus.map(() => new Uint8Array(size)));
    for (let i = 0; i < repetitions(2000); i++) step(random, map, model);
    compare(map, model);
  };
  for (const size of [1, 4, 7, 8, 9, 4096]) {
    bpfTest(`values of ${size} bytes`, () => withRandom((random) => runThrough(random, size)));
  }
  bpfTest("values of random sizes", () => {
    withRandom((random) => {
      for (let round = 0; round < 3; round++) runThrough(random, 1 + random.below(4096));
    });
  });
});

describe("the sum over all CPUs", () => {
  const types = {
    u8: [t.u8, (random: Random) => random.below(256)],
    u64Number: [t.u64Number, (random: Random) => random.below(2 ** 40)],
    i32: [t.i32, (random: Random) => random.below(2 ** 32) - 2 ** 31],
    u64: [t.u64, (random: Random) => random.bits64()],
    i64: [t.i64, (random: Random) => BigInt.asIntN(64, random.bits64())],
  } as const;
  for (const [name, [type, make]] of Object.entries(types)) {
    bpfTest(`of ${name} is the sum of the values`, () => {
      withRandom((random) => {
        // The arithmetic below is right for numbers and for bigints.
        const value = type as typeof t.u64;
        const options = { key: t.u32, value, maxEntries: 1000 };
        using hash = new PerCpuHashMap(options);
        using lru = new LruPerCpuHashMap(options);
        using array = new PerCpuArrayMap({ value, length: 64 });
        for (let round = 0; round < repetitions(300); round++) {
          const key = random.below(64);
          const values = cpus.map(() => make(random) as bigint);
          const sum = values.slice(1).reduce((a, b) => a + b, values[0] as bigint);
          for (const map of [hash, lru, array]) expect(map.set(key, values).sum(key)).toBe(sum);
        }
        for (const map of [hash, lru, array]) expect(map.sum(64)).toBeUndefined();
      });
    });
  }
});
