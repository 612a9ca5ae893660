/**
 * Throughput of a consumer while a program writes records as fast as it can, compared with C and libbpf.
 *
 *   bun bench/ring_flood.ts
 *
 * The producer is a process on one CPU, the consumer a process on another: a loop around `ring_buffer__poll`, or `subscribe`
 * with `inPlace`, or `subscribeRaw`. All consumers compare the sequence number of each record with the previous one. The kernel
 * wakes a consumer for each record that is committed when the consumer has caught up, which costs the producer more than the
 * record itself. A consumer that lets records accumulate therefore gets more of them per second. Records without room are
 * counted as lost.
 *
 * Meanwhile the consumer in Bun has a timer of 10 ms, and a server to which this process sends a request every 10 ms, before
 * the flood, too. The consumer in C has neither. Each consumer is warmed up by a second of the flood that is not counted.
 *
 * The consumers are measured in turn, each round has ratios, and the result is the median of the rounds: other machines on
 * the host sometimes slow a consumer down by a third. C's figure depends even more on how fast its CPU wakes up. A CPU that
 * wakes up faster is woken more often for a single record.
 *
 * The second part writes at a rate that fills a ring of 1 MiB in 29 ms. Nothing may be lost there.
 */
import type { Peer } from "./peer.ts";
import { type Options, run } from "./support/benchmark.ts";
import type { Child } from "./support/children.ts";
import { pinProcess, processorTime } from "./support/libc.ts";
import { progress } from "./support/progress.ts";
import type { Figure, Report } from "./support/report.ts";
import { askDuring } from "./support/requests.ts";
import {
  cpus,
  type Produced,
  type Production,
  SharedRing,
  startBunChild,
  startPeer,
} from "./support/shared_ring.ts";
import { median, medianRatio, percentile } from "./support/statistics.ts";

const floodRingSize = 8 * 2 ** 20;
const pacedRingSize = 2 ** 20;
const pacedRate = 500_000;
/** Time for the consumer to read the remaining records. */
const settleMilliseconds = 100;
/** The pause between warm-up and measurement. */
const quietMilliseconds = 500;

const numbers = {
  rounds: { help: "alternating rounds of the flood", standard: 5, quick: 2 },
  seconds: { help: "seconds of flood in a round", standard: 3, quick: 1 },
  "warm-up": { help: "seconds of flood that are not counted", standard: 1, quick: 1 },
  "paced-seconds": {
    help: "seconds of the paced part, at 500,000 events/s",
    standard: 10,
    quick: 2,
  },
};
type Names = keyof typeof numbers;

/** The counts that a consumer prints at its end. C prints only `events` and `gaps`. */
interface Counted {
  readonly events: number;
  readonly gaps: number;
  readonly tickShare?: number;
}

/** The result of a consumer. */
interface Consumed extends Counted, Produced {
  /** The fraction of one CPU that the consumer used. */
  readonly processorShare: number;
  /** The duration of each request during the flood, in milliseconds. */
  readonly requests: readonly number[];
  /** The duration of each request before the flood, in milliseconds. */
  readonly requestsBefore: readonly number[];
}

type Method = "c" | "in-place" | "raw";

/** Starts a consumer. Returns its process and the port of its server, if it has one; `undefined` for C without a peer. */
async function startConsumer(method: Method, ring: SharedRing, peer: Peer | undefined) {
  if (method === "c") {
    if (peer === undefined) return undefined;
    return { child: await startPeer(peer, "consume", [ring.id]), port: undefined };
  }
  const child = startBunChild("flood_consumer", { ring: ring.id, cpu: cpus.consumer, method });
  return { child, port: Number(await child.line()) };
}

/** Measures a consumer, after the warm-up. Returns `undefined` for C without a peer. */
async function consume(
  method: Method,
  size: number,
  warmUp: Production,
  production: Production,
  peer: Peer | undefined,
): Promise<Consumed | undefined> {
  using ring = new SharedRing(size);
  const started = await startConsumer(method, ring, peer);
  if (started === undefined) return undefined;
  await using child = started.child;
  await ring.produce(warmUp);
  const { port } = started;
  const { milliseconds: requestsBefore } = await askDuring(port, () =>
    Bun.sleep(quietMilliseconds),
  );
  if (port !== undefined) child.signal("SIGUSR2");
  const before = processorTime(child.pid);
  const { result: produced, milliseconds: requests } = await askDuring(port, () =>
    ring.produce(production),
  );
  const processorShare = (processorTime(child.pid) - before) / 1e9 / produced.seconds;
  await Bun.sleep(settleMilliseconds);
  const counted = await stop(child);
  checkCounts(method, counted, ring);
  return { ...produced, ...counted, processorShare, requests, requestsBefore };
}

async function stop(child: Child): Promise<Counted> {
  child.signal("SIGTERM");
  return await child.json<Counted>();
}

/** Checks that all written events were read, once and in order. */
function checkCounts(method: Method, { events, gaps }: Counted, ring: SharedRing): void {
  const { written } = ring.state;
  if (events === written && gaps === 0) return;
  throw new Error(`${method}: ${events} of ${written} events were read, ${gaps} out of order`);
}

const perSecond = ({ written, seconds }: Produced) => written / seconds;
const lostShare = ({ written, lost }: Produced) => lost / (written + lost);

async function flood(options: Options<Names>, peer: Peer | undefined): Promise<Figure[]> {
  const { rounds, seconds, "warm-up": warmUp } = options;
  const results: Record<Method, Consumed[]> = { c: [], "in-place": [], raw: [] };
  for (let round = 0; round < rounds; round++) {
    for (const method of ["c", "in-place", "raw"] as const) {
      progress(`flood, round ${round + 1} of ${rounds}: ${method}`);
      const result = await consume(method, floodRingSize, { seconds: warmUp }, { seconds }, peer);
      if (result !== undefined) results[method].push(result);
    }
  }
  const there = results.c.map(perSecond);
  const lostThere = 100 * median(results.c.map(lostShare));
  const figures = (["in-place", "raw"] as const).flatMap((method) => {
    const own = results[method];
    const here = own.map(perSecond);
    const name = method === "raw" ? "subscribeRaw" : "subscribe in place";
    const requests = own.flatMap((each) => each.requests);
    return [
      {
        what: `${name}, events`,
        unit: "M/s",
        here: median(here) / 1e6,
        there: median(there) / 1e6,
        ratio: medianRatio(here, there),
        target: { of: "ratio", atLeast: 2 },
      },
      {
        what: `${name}, lost`,
        unit: "%",
        here: 100 * median(own.map(lostShare)),
        there: lostThere,
        ...(peer === undefined ? {} : { target: { of: "here", atMost: lostThere } }),
      },
      {
        what: `${name}, processor time per event`,
        unit: "ns",
        here: median(own.map(timeOfEvent)),
        there: median(results.c.map(timeOfEvent)),
        ratio: medianRatio(own.map(timeOfEvent), results.c.map(timeOfEvent)),
      },
      {
        what: `${name}, ticks of a 10 ms timer`,
        unit: "%",
        here: 100 * median(own.map(({ tickShare = 0 }) => tickShare)),
        target: { of: "here", atLeast: 90 },
      },
      { what: `${name}, HTTP p50`, unit: "ms", here: median(requests) },
      { what: `${name}, HTTP p99`, unit: "ms", here: percentile(requests, 0.99) },
    ] satisfies Figure[];
  });
  const before = [...results["in-place"], ...results.raw].flatMap((each) => each.requestsBefore);
  return [
    ...figures,
    { what: "no flood, HTTP p50", unit: "ms", here: median(before) },
    { what: "no flood, HTTP p99", unit: "ms", here: percentile(before, 0.99) },
  ];
}

function timeOfEvent({ processorShare, seconds, written }: Consumed): number {
  return (processorShare * seconds * 1e9) / written;
}

async function paced(options: Options<Names>, peer: Peer | undefined): Promise<Figure[]> {
  const production = { seconds: options["paced-seconds"], rate: pacedRate };
  const warmUp = { seconds: 1, rate: pacedRate };
  progress(`500,000 events/s for ${production.seconds} s: in C`);
  const there = await consume("c", pacedRingSize, warmUp, production, peer);
  progress(`500,000 events/s for ${production.seconds} s`);
  const here = await consume("in-place", pacedRingSize, warmUp, production, peer);
  if (here === undefined) throw new Error("the consumer did not start");
  return [
    {
      what: "paced, events",
      unit: "M/s",
      here: perSecond(here) / 1e6,
      there: there && perSecond(there) / 1e6,
      target: { of: "here", atLeast: 0.49 },
    },
    {
      what: `paced, lost of ${(here.written / 1e6).toFixed(1)} million`,
      unit: "",
      here: here.lost,
      there: there?.lost,
      target: { of: "here", atMost: 0 },
    },
    {
      what: "paced, processor time",
      unit: "%",
      here: 100 * here.processorShare,
      there: there && 100 * there.processorShare,
      ratio: there && here.processorShare / there.processorShare,
    },
  ];
}

async function measure(options: Options<Names>, peer: Peer | undefined): Promise<Report> {
  // This process sends requests to the consumer, and must not slow the producer down.
  pinProcess(cpus.consumer);
  const figures = [...(await flood(options, peer)), ...(await paced(options, peer))];
  return {
    name: "flood",
    title: `flood at full speed for ${options.seconds} s, medians of ${options.rounds} rounds; and a paced producer`,
    figures,
    notes: ["Every written event was read once and in order."],
  };
}

await run({
  usage:
    "Throughput while a program writes at full speed, compared with C: bun bench/ring_flood.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
