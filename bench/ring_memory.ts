/**
 * Growth of the memory of a process that consumes a ring for a long time.
 *
 *   bun bench/ring_memory.ts
 *
 * A program writes to a ring of 256 KiB at full speed, and one process reads 100 million events: raw, in place or as objects.
 * Its resident memory (VmRSS) is measured after the first million, when the code has been compiled, and at the end. Lost events
 * do not matter here.
 *
 * The result does not depend on the load of the machine, but on when the engine collects garbage. Therefore the largest growth
 * of all rounds counts.
 */
import { type Options, run } from "./support/benchmark.ts";
import { progress } from "./support/progress.ts";
import type { Report } from "./support/report.ts";
import { cpus, SharedRing, startBunChild } from "./support/shared_ring.ts";

const ringSize = 256 * 1024;
const mebibyte = 2 ** 20;
/** The limit for the producer, which is ended when the consumer has all events. */
const maxSeconds = 600;

const numbers = {
  rounds: { help: "rounds of each method", standard: 3, quick: 1 },
  first: { help: "million events before the first measurement", standard: 1, quick: 1 },
  events: { help: "million events in total", standard: 100, quick: 10 },
};
type Names = keyof typeof numbers;

interface Memory {
  readonly afterFirst: number;
  readonly afterAll: number;
}

const methods = {
  raw: "subscribeRaw",
  "in-place": "subscribe in place",
  objects: "subscribe, objects",
};
type Method = keyof typeof methods;

async function consume(method: Method, { first, events }: Options<Names>): Promise<Memory> {
  using ring = new SharedRing(ringSize);
  await using consumer = startBunChild("memory_consumer", {
    ring: ring.id,
    cpu: cpus.consumer,
    method,
    first: first * 1e6,
    events: events * 1e6,
  });
  await consumer.line();
  await using _producer = ring.startProducer({ seconds: maxSeconds });
  return await consumer.json<Memory>();
}

async function measure(options: Options<Names>): Promise<Report> {
  const { rounds, first, events } = options;
  const series = (Object.keys(methods) as Method[]).map((method) => ({
    method,
    results: [] as Memory[],
  }));
  for (let round = 0; round < rounds; round++) {
    for (const { method, results } of series) {
      progress(`round ${round + 1} of ${rounds}: ${methods[method]}`);
      results.push(await consume(method, options));
    }
  }
  const largest = (results: readonly Memory[], of: (memory: Memory) => number) =>
    Math.max(...results.map(of)) / mebibyte;
  return {
    name: "memory",
    title: `resident memory of a consumer, maximum of ${rounds} rounds`,
    figures: series.flatMap(({ method, results }) => [
      {
        what: `${methods[method]}, after ${events} million events`,
        unit: "MiB",
        here: largest(results, ({ afterAll }) => afterAll),
      },
      {
        what: `${methods[method]}, growth after the first ${first === 1 ? "" : `${first} `}million`,
        unit: "MiB",
        here: largest(results, ({ afterFirst, afterAll }) => afterAll - afterFirst),
        target: { of: "here", atMost: 8 } as const,
      },
    ]),
  };
}

await run({
  usage: "Memory growth of a consumer in a long run: bun bench/ring_memory.ts [options]",
  numbers,
  measure,
});
