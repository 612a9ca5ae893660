/**
 * A program that writes records as fast as it can, and who reads them, beside the same in C with libbpf.
 *
 *   bun bench/ring_flood.ts
 *
 * The producer is a process on one CPU, the consumer one on another: a loop around `ring_buffer__poll`, or `subscribe` with
 * `inPlace`, or `subscribeRaw`. Both read the sequence number of each record and compare it with the one before. The kernel
 * wakes a consumer with each record that finds it caught up, which costs the producer more than the record itself: who lets
 * some records gather gets more of them a second. What finds no room is counted as lost.
 *
 * Meanwhile the consumer in Bun has a timer of 10 ms, and a server that this process asks something every 10 ms, before the
 * flood as well; C's has neither. Each consumer is warmed up by a second of the flood that is not counted.
 *
 * The consumers are measured in turn, each round gives ratios, and the median of the rounds counts: neighbours on the machine
 * cost a third now and then. More than by them C's figure is moved by how soon the CPU wakes that it sleeps on: the sooner, the
 * more often it is woken for one record only.
 *
 * The second part is a pace that a ring of 1 MiB bears for 29 ms without a reader: nothing may be lost there.
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
/** For the consumer to read what is left. */
const settleMilliseconds = 100;
/** Between the warm-up and what is measured. */
const quietMilliseconds = 500;

const numbers = {
  rounds: { help: "alternating rounds of the flood", standard: 5, quick: 2 },
  seconds: { help: "of flood in a round", standard: 3, quick: 1 },
  "warm-up": { help: "seconds of it before, not counted", standard: 1, quick: 1 },
  "paced-seconds": { help: "of 500,000 events/s", standard: 10, quick: 2 },
};
type Names = keyof typeof numbers;

/** What a consumer says at its end. C says the first two. */
interface Counted {
  readonly events: number;
  readonly gaps: number;
  readonly tickShare?: number;
}

/** How a consumer did. */
interface Consumed extends Counted, Produced {
  /** Of one CPU. */
  readonly processorShare: number;
  /** Milliseconds of each request during that, and of those before. */
  readonly requests: readonly number[];
  readonly requestsBefore: readonly number[];
}

type How = "c" | "in-place" | "raw";

/** Starts a consumer; with the port of its server, where it has one. */
async function startConsumer(how: How, ring: SharedRing, peer: Peer | undefined) {
  if (how === "c") {
    if (peer === undefined) return undefined;
    return { child: await startPeer(peer, "consume", [ring.id]), port: undefined };
  }
  const child = startBunChild("flood_consumer", { ring: ring.id, cpu: cpus.consumer, how });
  return { child, port: Number(await child.line()) };
}

/** Produces for a consumer, warm-up first; `undefined` for C where there is no peer. */
async function consume(
  how: How,
  size: number,
  warmUp: Production,
  production: Production,
  peer: Peer | undefined,
): Promise<Consumed | undefined> {
  using ring = new SharedRing(size);
  const started = await startConsumer(how, ring, peer);
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
  checkCounts(how, counted, ring);
  return { ...produced, ...counted, processorShare, requests, requestsBefore };
}

async function stop(child: Child): Promise<Counted> {
  child.signal("SIGTERM");
  return await child.json<Counted>();
}

/** What was written has been read, all of it, once and in order. */
function checkCounts(how: How, { events, gaps }: Counted, ring: SharedRing): void {
  const { written } = ring.state;
  if (events === written && gaps === 0) return;
  throw new Error(`${how}: of ${written} events ${events} were read, ${gaps} out of order`);
}

const perSecond = ({ written, seconds }: Produced) => written / seconds;
const lostShare = ({ written, lost }: Produced) => lost / (written + lost);

async function flood(options: Options<Names>, peer: Peer | undefined): Promise<Figure[]> {
  const { rounds, seconds, "warm-up": warmUp } = options;
  const results: Record<How, Consumed[]> = { c: [], "in-place": [], raw: [] };
  for (let round = 0; round < rounds; round++) {
    for (const how of ["c", "in-place", "raw"] as const) {
      progress(`flood, round ${round + 1} of ${rounds}: ${how}`);
      const result = await consume(how, floodRingSize, { seconds: warmUp }, { seconds }, peer);
      if (result !== undefined) results[how].push(result);
    }
  }
  const there = results.c.map(perSecond);
  const lostThere = 100 * median(results.c.map(lostShare));
  const figures = (["in-place", "raw"] as const).flatMap((how) => {
    const own = results[how];
    const here = own.map(perSecond);
    const name = how === "raw" ? "subscribeRaw" : "subscribe in place";
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
        what: `${name}, processor time an event`,
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
  // Apart from the producer, and together with the consumer that it asks.
  pinProcess(cpus.consumer);
  const figures = [...(await flood(options, peer)), ...(await paced(options, peer))];
  return {
    name: "flood",
    title: `a ring that is written to at full speed for ${options.seconds} s, medians of ${options.rounds} rounds; and at a pace`,
    figures,
    notes: ["Every event that was written was read once and in order."],
  };
}

await run({
  usage: "A ring that is written to at full speed, beside C: bun bench/ring_flood.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
