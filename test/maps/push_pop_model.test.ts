import { describe, expect } from "bun:test";
import { BpfError, Queue, Stack, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";
import { type Bytes, randomBytes } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";

interface Kind {
  readonly create: (
    valueSize: number,
    maxEntries: number,
  ) => Queue<t.Type<Bytes>> | Stack<t.Type<Bytes>>;
  /** Position of the next value in an array of the values in their order of arrival. */
  readonly next: 0 | -1;
}

const kinds: Readonly<Record<string, Kind>> = {
  "a queue": {
    create: (valueSize, maxEntries) => new Queue({ value: t.bytes(valueSize), maxEntries }),
    next: 0,
  },
  "a stack": {
    create: (valueSize, maxEntries) => new Stack({ value: t.bytes(valueSize), maxEntries }),
    next: -1,
  },
};

/** Returns the code of the error that a call throws, or "". */
function codeOf(call: () => unknown): string {
  try {
    call();
    return "";
  } catch (error) {
    if (error instanceof BpfError) return error.code;
    throw error;
  }
}

function step(
  random: Random,
  map: Queue<t.Type<Bytes>> | Stack<t.Type<Bytes>>,
  model: Bytes[],
  next: Kind["next"],
): void {
  const takeNext = () => (next === 0 ? model.shift() : model.pop());
  const value = randomBytes(random, map.types.value.size);
  const isFull = model.length === map.maxEntries;
  switch (random.below(12)) {
    case 0:
    case 1:
    case 2:
      expect(map.pop()).toEqual(takeNext());
      break;
    case 3:
    case 4:
      expect(map.peek()).toEqual(model.at(next));
      break;
    case 5:
    case 6:
      map.push(value, { evict: true });
      // The oldest is evicted, from a stack too.
      if (isFull) model.shift();
      model.push(value);
      break;
    case 7: {
      let left = random.below(3);
      for (const taken of map.takeAll()) {
        expect(taken).toEqual(takeNext() as Bytes);
        if (left-- === 0) break;
      }
      break;
    }
    case 8:
      if (random.below(30) > 0) break;
      map.clear();
      model.length = 0;
      expect(map.peek()).toBeUndefined();
      break;
    default:
      expect(codeOf(() => map.push(value))).toBe(isFull ? "E2BIG" : "");
      if (!isFull) model.push(value);
  }
}

for (const [name, { create, next }] of Object.entries(kinds)) {
  describe(`${name} behaves like an array`, () => {
    const runThrough = (random: Random, valueSize: number) => {
      using map = create(valueSize, 1 + random.below(40));
      const model: Bytes[] = [];
      for (let i = 0; i < repetitions(3000); i++) step(random, map, model, next);
      expect([...map.takeAll()]).toEqual(next === 0 ? model : model.toReversed());
      expect(map.pop()).toBeUndefined();
    };
    for (const size of [1, 3, 8, 4096]) {
      bpfTest(`values of ${size} bytes`, () => withRandom((random) => runThrough(random, size)));
    }
    bpfTest("values of random sizes", () => {
      withRandom((random) => {
        for (let round = 0; round < 3; round++) runThrough(random, 1 + random.below(4096));
      });
    });
  });
}
