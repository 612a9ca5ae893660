// Iterations and updates of whole maps (u32 to u64), and look-ups of given keys, compared with C and libbpf on the same maps:
// bun bench/batches.ts [ENTRIES]
import { HashMap, PerCpuHashMap, possibleCpus, t } from "../src/index.ts";
import { buildPeer } from "./peer.ts";
import { median } from "./support/statistics.ts";

const rounds = 7;
/** The number of consecutive samples in a round, in Bun and in C. Their median counts. */
const samples = 9;
const entries = Number(process.argv[2] ?? 100_000);
const lookUps = 1000;
/** The number of times that the look-ups are repeated: a thousand take too little time to measure. */
const repeat = 10;

const cpus = possibleCpus();
using hash = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: entries, name: "bench" });
using perCpu = new PerCpuHashMap({
  key: t.u32,
  value: t.u64Number,
  maxEntries: entries,
  name: "bench",
});
const pairs = Array.from({ length: entries }, (_, key) => [key, key] as const);
/** Keys that are spread over the map. */
const spreadKeys = Array.from({ length: lookUps }, (_, index) =>
  Math.floor((index * entries) / lookUps),
);
hash.setMany(pairs);
perCpu.setMany(pairs.map(([key]) => [key, cpus.map(() => key)] as const));

let sum = 0;

interface Operation {
  readonly name: string;
  /** The operation in this library; absent if it is measured only in C. */
  readonly run?: () => void;
  /** The name of the operation in the C program, its map, and the number of values per key. */
  readonly peer?: { readonly name: string; readonly map: { readonly id: number }; values: number };
  /** The number of entries or look-ups in a run. */
  readonly count: number;
}

const operations = {
  walk: {
    name: "iterate",
    run: () => {
      for (const [key, value] of hash) sum += key + value;
    },
    peer: { name: "walk", map: hash, values: 1 },
    count: entries,
  },
  keys: {
    name: "iterate from key to key",
    peer: { name: "keys", map: hash, values: 1 },
    count: entries,
  },
  perCpuWalk: {
    name: "iterate, per-CPU",
    run: () => {
      for (const [key, values] of perCpu) sum += key + (values[0] as number);
    },
    peer: { name: "walk", map: perCpu, values: cpus.length },
    count: entries,
  },
  perCpuKeys: {
    name: "iterate from key to key, per-CPU",
    peer: { name: "keys", map: perCpu, values: cpus.length },
    count: entries,
  },
  setMany: {
    name: "setMany",
    run: () => hash.setMany(pairs),
    peer: { name: "store", map: hash, values: 1 },
    count: entries,
  },
  sets: {
    name: "set, one by one",
    run: () => {
      for (let key = 0; key < entries; key++) hash.set(key, key);
    },
    peer: { name: "set", map: hash, values: 1 },
    count: entries,
  },
  getMany: {
    name: `getMany of ${lookUps}`,
    run: () => {
      for (let i = 0; i < repeat; i++) hash.getMany(spreadKeys);
    },
    count: repeat * lookUps,
  },
  gets: {
    name: "get, one by one",
    run: () => {
      for (let i = 0; i < repeat; i++) for (const key of spreadKeys) sum += hash.get(key) as number;
    },
    count: repeat * lookUps,
  },
} satisfies Record<string, Operation>;

type Figures = { here: number[]; there: number[] };
const names = Object.keys(operations) as (keyof typeof operations)[];
const figures = Object.fromEntries(
  names.map((name) => [name, { here: [], there: [] }]),
) as unknown as Record<keyof typeof operations, Figures>;

const peer = buildPeer("batches");
// Both sides run in turn, so that the load of other machines affects them alike. The first round warms up the engine.
for (let round = -1; round < rounds; round++) {
  for (const name of names) {
    const { run, peer: other, count }: Operation = operations[name];
    let here = Number.NaN;
    if (run !== undefined) {
      const times = Array.from({ length: samples }, () => {
        const start = Bun.nanoseconds();
        run();
        return (Bun.nanoseconds() - start) / count;
      });
      here = median(times);
    }
    if (round < 0) continue;
    figures[name].here.push(here);
    if (peer === undefined || other === undefined) continue;
    const there = peer.run(`${other.map.id}`, other.name, `${entries}`, `${other.values}`);
    figures[name].there.push(Number(there));
  }
}

console.log(`${entries} entries, u32 to u64: medians of ${rounds} rounds, ns per entry\n`);
console.log(
  `${"".padEnd(32)}${"bun-bpf".padStart(9)}${"C".padStart(9)}${"relative to C".padStart(16)}`,
);
for (const name of names) {
  const { here, there } = figures[name];
  const figure = (number: number, digits: number, width: number) =>
    (Number.isNaN(number) ? "" : number.toFixed(digits)).padStart(width);
  const row = [
    figure(median(here), 0, 9),
    figure(median(there), 0, 9),
    figure(ratio(here, there), 2, 16),
  ];
  console.log(`${operations[name].name.padEnd(32)}${row.join("")}`);
}

function ratio(slow: readonly number[], fast: readonly number[]): number {
  return median(slow.map((figure, round) => figure / (fast[round] ?? Number.NaN)));
}

const times = (slow: readonly number[], fast: readonly number[]) =>
  `${ratio(slow, fast).toFixed(1)} times`;
console.log(`
iteration is ${times(figures.keys.there, figures.walk.here)} as fast as C from key to key; C in batches is ${times(figures.keys.there, figures.walk.there)} as fast
per-CPU iteration is ${times(figures.perCpuKeys.there, figures.perCpuWalk.here)} as fast; C in batches is ${times(figures.perCpuKeys.there, figures.perCpuWalk.there)} as fast
setMany is ${times(figures.sets.here, figures.setMany.here)} as fast as set one by one, getMany is ${times(figures.gets.here, figures.getMany.here)} as fast as get`);
if (sum < 0) throw new Error("nothing was read");
