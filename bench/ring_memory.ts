/**
 * Whether a process that consumes a ring for a long time grows.
 *
 *   bun bench/ring_memory.ts
 *
 * A ring of 256 KiB is written to at full speed, and one process reads it: in place by offsets, in place by a cursor, or as
 * objects, 100 million each. Its resident memory (VmRSS) is looked at after the first million, when the code has been
 * compiled, and at the end. What found no room in so small a ring does not matter here.
 *
 * Memory is not a matter of the machine's noise, but of when the engine collects garbage: the largest growth of the
 * rounds counts.
 */
import { type Options, run } from "./support/benchmark.ts";
import { progress } from "./support/progress.ts";
import type { Report } from "./support/report.ts";
import { cpus, SharedRing, startBunChild } from "./support/shared_ring.ts";

const ringSize = 256 * 1024;
const mebibyte = 2 ** 20;
/** The producer is ended when the consumer has enough. */
const longEnoughSeconds = 600;

const numbers = {
  rounds: { help: "rounds of each", standard: 3, quick: 1 },
  first: {
    help: "million events before memory is looked at for the first time",
    standard: 1,
    quick: 1,
  },
  events: { help: "million events in all", standard: 100, quick: 10 },
};
type Names = keyof typeof numbers;

interface Memory {
  readonly afterFirst: number;
  readonly afterAll: number;
}

const hows = {
  raw: "subscribeRaw",
  "in-place": "subscribe in place",
  objects: "subscribe, objects",
};
type How = keyof typeof hows;

async function consume(how: How, { first, events }: Options<Names>): Promise<Memory> {
  using ring = new SharedRing(ringSize);
  await using consumer = startBunChild("memory_consumer", {
    ring: ring.id,
    cpu: cpus.consumer,
    how,
    first: first * 1e6,
    events: events * 1e6,
  });
  await consumer.line();
  await using _producer = ring.startProducer({ seconds: longEnoughSeconds });
  return await consumer.json<Memory>();
}

async function measure(options: Options<Names>): Promise<Report> {
  const { rounds, first, events } = options;
  const series = (Object.keys(hows) as How[]).map((how) => ({ how, found: [] as Memory[] }));
  for (let round = 0; round < rounds; round++) {
    for (const { how, found } of series) {
      progress(`round ${round + 1} of ${rounds}: ${hows[how]}`);
      found.push(await consume(how, options));
    }
  }
  const most = (found: readonly Memory[], of: (memory: Memory) => number) =>
    Math.max(...found.map(of)) / mebibyte;
  return {
    name: "memory",
    title: `resident memory of a consumer, the most of ${rounds} rounds`,
    figures: series.flatMap(({ how, found }) => [
      {
        what: `${hows[how]}, after ${events} million events`,
        unit: "MiB",
        here: most(found, ({ afterAll }) => afterAll),
      },
      {
        what: `${hows[how]}, growth since the first ${first === 1 ? "" : `${first} `}million`,
        unit: "MiB",
        here: most(found, ({ afterFirst, afterAll }) => afterAll - afterFirst),
        target: { of: "here", atMost: 8 } as const,
      },
    ]),
  };
}

await run({
  usage: "Memory of a long run: bun bench/ring_memory.ts [options]",
  numbers,
  measure,
});
