// Operations on single entries of a hash map (u32 to u64), compared with the same loops in C with libbpf on the same map:
// bun bench/maps.ts
import { do_not_optimize, measure } from "mitata";
import { HashMap, t } from "../src/index.ts";
import { buildPeer } from "./peer.ts";
import { median } from "./support/statistics.ts";

const rounds = 9;
const keys = 512;
/** The number of operations that are timed together. Reading the clock takes a tenth of the time of one operation. */
const perSample = 2048;

using map = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096, name: "bench" });
for (let key = 0; key < keys; key++) map.set(key, key);

interface Operation {
  readonly name: string;
  readonly run: (key: number) => unknown;
  /** The number of keys. An operation that works only once per key needs a key for each operation in a sample. */
  readonly keys: number;
  /** Prepares the map for a sample; is not timed. */
  readonly prepare?: () => void;
}

const sampleKeys = Array.from({ length: perSample }, (_, key) => keys + key);

const operations: readonly Operation[] = [
  { name: "get", run: (key) => map.get(key), keys },
  { name: "miss", run: (key) => map.get(keys + key), keys },
  { name: "set", run: (key) => map.set(key, key), keys },
  {
    name: "add",
    run: (key) => map.add(keys + key, key),
    keys: perSample,
    prepare: () => map.deleteMany(sampleKeys),
  },
  {
    name: "delete",
    run: (key) => map.delete(keys + key),
    keys: perSample,
    prepare: () => map.setMany(sampleKeys.map((key) => [key, key])),
  },
];

/** A separate loop for each operation, as in a real program: the engine compiles it for that operation. */
const loops = operations.map(({ name, run, keys: used, prepare }) => {
  const loop = new Function(
    "operation, sink",
    `return () => { for (let i = 0; i < ${perSample}; i++) sink(operation(i % ${used})); } // ${name}`,
  )(run, do_not_optimize) as () => void;
  return { name, loop, prepare };
});

const peer = buildPeer("maps");
const figures = new Map<string, { here: number[]; there: number[] }>(
  operations.map(({ name }) => [name, { here: [], there: [] }]),
);
// Both sides run in turn, so that the load of other machines affects them alike.
for (let round = 0; round < rounds; round++) {
  for (const { name, loop, prepare } of loops) {
    const samples = function* () {
      // mitata does not time the functions that compute the parameters of `bench`.
      yield { 0: () => prepare?.(), bench: () => loop() };
    };
    const stats = await measure(samples, { min_cpu_time: 150e6, inner_gc: false });
    figures.get(name)?.here.push(stats.p50 / perSample);
    map.deleteMany(sampleKeys);
    if (peer !== undefined) figures.get(name)?.there.push(Number(peer.run(`${map.id}`, name)));
  }
}

console.log(`hash map, u32 to u64: medians of ${rounds} rounds, ns per operation\n`);
console.log(
  `${"".padEnd(14)}${"bun-bpf".padStart(9)}${"C".padStart(9)}${"relative to C".padStart(16)}`,
);
for (const [name, { here, there }] of figures) {
  const ratios = here.map((own, round) => own / (there[round] ?? Number.NaN));
  const row = [median(here).toFixed(0), median(there).toFixed(0), median(ratios).toFixed(2)];
  console.log(
    `${name.padEnd(14)}${row.map((text, column) => text.padStart(column === 2 ? 16 : 9)).join("")}`,
  );
}
