// Repeats an operation between two marks on stderr, where the engine logs its collections: heap.ts OPERATION
import { ArrayMap, HashMap, t } from "../../../src/index.ts";

const what = process.argv[2] as string;
const calls = 1_000_000;
const entries = 1_000_000;

using hash = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
using array = new ArrayMap({ value: t.u64Number, length: 1024, mmap: true });
for (let key = 0; key < 1024; key++) hash.set(key, key);

let kept: unknown;

/** Calls with numbers as arguments and results only. */
const operations: Record<string, (i: number) => void> = {
  nothing: () => {},
  "an object each": (i) => {
    kept = { i };
  },
  "HashMap.get": (i) => hash.get(i & 1023),
  "HashMap.get of an absent key": (i) => hash.get(5000 + i),
  "HashMap.set": (i) => hash.set(i & 1023, 2 ** 40 + i),
  "HashMap.has": (i) => hash.has(i & 2047),
  "HashMap.add and delete": (i) => {
    hash.add(2000, i);
    hash.delete(2000);
  },
  "HashMap.take": (i) => hash.set(i & 1023, i).take(i & 1023),
  "ArrayMap.get": (i) => array.get(i & 1023),
  "ArrayMap.load": (i) => array.load(i & 1023),
  "ArrayMap.store": (i) => array.store(i & 1023, i),
};

const walks: Record<string, () => Iterable<unknown>> = {
  entries: () => large().entries(),
  keys: () => large().keys(),
  values: () => large().values(),
  entriesInBatches: () => large().entriesInBatches(),
  takeAllInBatches: () => large().takeAllInBatches(),
};

let made: HashMap<t.Type<number>, t.Type<number>> | undefined;

function large(): HashMap<t.Type<number>, t.Type<number>> {
  if (made !== undefined) return made;
  made = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: entries });
  for (let start = 0; start < entries; start += 10_000) {
    made.setMany(Array.from({ length: 10_000 }, (_, key) => [start + key, key]));
  }
  return made;
}

function walk(iterate: () => Iterable<unknown>): void {
  for (const entry of iterate()) kept = entry;
}

function mark(text: string): void {
  Bun.gc(true);
  Bun.gc(true);
  process.stderr.write(`${text}\n`);
}

const operation = operations[what];
const iterate = walks[what];
if (operation !== undefined) {
  for (let i = 0; i < 50_000; i++) operation(i);
  mark("BEGIN");
  for (let i = 0; i < calls; i++) operation(i);
} else if (iterate !== undefined) {
  large();
  mark("BEGIN");
  walk(iterate);
} else {
  throw new Error(`nothing is called ${what}`);
}
process.stderr.write("END\n");
made?.[Symbol.dispose]();
if (kept === 1) console.log(kept);
