import { describe, expect } from "bun:test";
import { ArrayMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { repetitions } from "../support/effort.ts";

type Bytes = Uint8Array;

function bytes(random: Random, length: number): Bytes {
  return Uint8Array.from({ length }, () => random.below(256));
}

function compare(map: ArrayMap<t.Type<Bytes>>, model: readonly Bytes[]): void {
  expect([...map.values()]).toEqual([...model]);
  expect([...map.keys()]).toEqual([...model.keys()]);
}

/** Applies one step to the map and the model, sometimes with an index outside the array. */
function step(random: Random, map: ArrayMap<t.Type<Bytes>>, model: Bytes[]): void {
  const size = map.valueSize;
  const index = random.below(model.length + 2);
  const isInside = index < model.length;
  const value = bytes(random, size);
  switch (random.below(isInside ? 7 : 3)) {
    case 0:
      expect(map.get(index)).toEqual(model[index]);
      expect(map.has(index)).toBe(isInside);
      break;
    case 1:
      expect(map.at(-1 - index)).toEqual(model.at(-1 - index));
      break;
    case 2: {
      const pairs = Array.from(
        { length: random.below(6) },
        () => [random.below(model.length), bytes(random, size)] as const,
      );
      if (isInside) {
        map.setMany(pairs);
        for (const [at, stored] of pairs) model[at] = stored;
      } else {
        expect(() => map.setMany([...pairs, [index, value]])).toThrow(RangeError);
      }
      break;
    }
    case 3:
      for (let i = 0; i < size; i++) map.view.setUint8(index * map.stride + i, value[i] ?? 0);
      model[index] = value;
      break;
    case 4: {
      const { view, stride } = map;
      const start = view.byteOffset + index * stride;
      expect(new Uint8Array(view.buffer, start, size)).toEqual(model[index] ?? value);
      break;
    }
    default:
      map.set(index, value);
      model[index] = value;
  }
  if (random.below(50) === 0) compare(map, model);
}

describe("an array map behaves like an array", () => {
  for (const fixed of [1, 4, 7, 8, 511, undefined, undefined]) {
    bpfTest(fixed === undefined ? "values of random size" : `values of ${fixed} bytes`, () => {
      withRandom((random) => {
        const size = fixed ?? 1 + random.below(512);
        const maxEntries = 1 + random.below(40);
        using map = new ArrayMap({ value: t.bytes(size), length: maxEntries, mmap: true });
        const model = Array.from({ length: maxEntries }, () => new Uint8Array(size));
        for (let i = 0; i < repetitions(1500); i++) step(random, map, model);
        compare(map, model);
      });
    });
  }
});
