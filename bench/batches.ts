// Walks and stores of whole maps (u32 to u64), and look-ups of chosen keys, beside the same in C with libbpf on the same
// maps, in turn: bun bench/batches.ts [ENTRIES]
import { HashMap, PerCpuHashMap, possibleCpus, t } from "../src/index.ts";
import { buildPeer } from "./peer.ts";
import { median } from "./support/statistics.ts";

const rounds = 7;
/** In a row, of which the median counts, here as in C. */
const samples = 9;
const entries = Number(process.argv[2] ?? 100_000);
const chosen = 1000;
/** A thousand look-ups alone are too few to time. */
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
/** Apart from one another. */
const some = Array.from({ length: chosen }, (_, index) => Math.floor((index * entries) / chosen));
hash.setMany(pairs);
perCpu.setMany(pairs.map(([key]) => [key, cpus.map(() => key)] as const));

let sum = 0;

interface Work {
  readonly name: string;
  /** Absent for what only C does here. */
  readonly run?: () => void;
  /** What the peer calls it, and the values of a key there. */
  readonly peer?: { readonly name: string; readonly map: { readonly id: number }; values: number };
  readonly count: number;
}

const works = {
  walk: {
    name: "walk",
    run: () => {
      for (const [key, value] of hash) sum += key + value;
    },
    peer: { name: "walk", map: hash, values: 1 },
    count: entries,
  },
  keys: {
    name: "walk from key to key",
    peer: { name: "keys", map: hash, values: 1 },
    count: entries,
  },
  perCpuWalk: {
    name: "walk, per-CPU",
    run: () => {
      for (const [key, values] of perCpu) sum += key + (values[0] as number);
    },
    peer: { name: "walk", map: perCpu, values: cpus.length },
    count: entries,
  },
  perCpuKeys: {
    name: "walk from key to key, per-CPU",
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
    name: `getMany of ${chosen}`,
    run: () => {
      for (let i = 0; i < repeat; i++) hash.getMany(some);
    },
    count: repeat * chosen,
  },
  gets: {
    name: "get, one by one",
    run: () => {
      for (let i = 0; i < repeat; i++) for (const key of some) sum += hash.get(key) as number;
    },
    count: repeat * chosen,
  },
} satisfies Record<string, Work>;

type Figures = { here: number[]; there: number[] };
const names = Object.keys(works) as (keyof typeof works)[];
const figures = Object.fromEntries(
  names.map((name) => [name, { here: [], there: [] }]),
) as unknown as Record<keyof typeof works, Figures>;

const peer = buildPeer("batches");
// In turn, so that both see the same weather on a shared machine. What comes first is for the engine to warm up.
for (let round = -1; round < rounds; round++) {
  for (const name of names) {
    const { run, peer: other, count }: Work = works[name];
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

console.log(`${entries} entries, u32 to u64: medians of ${rounds} rounds, ns for each entry\n`);
console.log(`${"".padEnd(32)}${"bun-bpf".padStart(9)}${"C".padStart(9)}${"ratio".padStart(9)}`);
for (const name of names) {
  const { here, there } = figures[name];
  const figure = (number: number, digits: number) =>
    (Number.isNaN(number) ? "" : number.toFixed(digits)).padStart(9);
  const row = [figure(median(here), 0), figure(median(there), 0), figure(ratio(here, there), 2)];
  console.log(`${works[name].name.padEnd(32)}${row.join("")}`);
}

function ratio(slow: readonly number[], fast: readonly number[]): number {
  return median(slow.map((figure, round) => figure / (fast[round] ?? Number.NaN)));
}

const times = (slow: readonly number[], fast: readonly number[]) =>
  `${ratio(slow, fast).toFixed(1)} times`;
console.log(`
the walk is ${times(figures.keys.there, figures.walk.here)} as fast as C from key to key, where C in batches is ${times(figures.keys.there, figures.walk.there)}
per-CPU, ${times(figures.perCpuKeys.there, figures.perCpuWalk.here)}, C in batches ${times(figures.perCpuKeys.there, figures.perCpuWalk.there)}
setMany is ${times(figures.sets.here, figures.setMany.here)} as fast as set one by one, getMany ${times(figures.gets.here, figures.getMany.here)} as get`);
if (sum < 0) throw new Error("nothing was read");
