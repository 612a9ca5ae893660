/**
 * How late an event comes that a sleeping consumer is woken for, beside the same in C with libbpf.
 *
 *   bun bench/ring_latency.ts
 *
 * A program writes 1,000 records a second, so that the consumer sleeps before each; a record has the time at which it was
 * written, and the callback compares the clock with that. C sleeps in `epoll_wait` (`ring_buffer__poll`). Bun's event loop
 * polls no descriptors of others: a bridge wakes it, of which there are three, see `eventLoop`. Each consumer is a process of its
 * own on one CPU; the producer is on the same one, as where a program watches what runs beside it, or on another one.
 *
 * To wake another CPU is the work of the hypervisor here and takes most of the time there, for C as well: on the same CPU the
 * difference between the consumers shows. All are measured in turn; each round gives ratios, and the median of the rounds
 * counts.
 */
import type { BridgeName } from "../src/index.ts";
import type { Peer } from "./peer.ts";
import { type Options, run } from "./support/benchmark.ts";
import type { Child } from "./support/children.ts";
import { progress } from "./support/progress.ts";
import type { Figure, Report } from "./support/report.ts";
import { cpus, SharedRing, startBunChild, startPeer } from "./support/shared_ring.ts";
import { median, medianRatio } from "./support/statistics.ts";

const ringSize = 256 * 1024;
const rate = 1000;

const numbers = {
  rounds: { help: "alternating rounds", standard: 5, quick: 2 },
  events: { help: "events in a round", standard: 5000, quick: 500 },
  "warm-up": { help: "events before, not counted", standard: 1000, quick: 500 },
};
type Names = keyof typeof numbers;

interface Latency {
  readonly p50: number;
  readonly p99: number;
}

const placements = ["same CPU", "another CPU"] as const;
type Placement = (typeof placements)[number];

/** How a consumer in Bun waits. */
interface Waiting {
  readonly bridge: BridgeName;
  readonly how: "subscribe" | "for-await";
}

const hows = ["subscribe", "for-await"] as const;

/** Those that are measured in a place. A timer does not care where the producer is. */
function waitingsOf(placement: Placement): Waiting[] {
  const bridges: readonly BridgeName[] =
    placement === "same CPU" ? ["io_uring", "aio"] : ["io_uring", "aio", "timer"];
  return bridges.flatMap((bridge) => hows.map((how): Waiting => ({ bridge, how })));
}

/** One consumer in one place, and what it found in each round. */
interface Series {
  readonly placement: Placement;
  /** `undefined` for C. */
  readonly waiting: Waiting | undefined;
  readonly found: Latency[];
}

/** What a consumer finds while the producer writes. */
async function latencyOf(
  { placement, waiting }: Series,
  { events, "warm-up": warmUp }: Options<Names>,
  peer: Peer | undefined,
): Promise<Latency | undefined> {
  if (waiting === undefined && peer === undefined) return undefined;
  using ring = new SharedRing(ringSize);
  await using consumer =
    peer !== undefined && waiting === undefined
      ? await startPeer(peer, "latency", [ring.id, warmUp, events])
      : await startWaiting(ring, waiting as Waiting, events, warmUp);
  // Twice as long as that takes: it is ended as soon as the consumer has enough.
  const seconds = (2 * (warmUp + events)) / rate;
  const cpu = placement === "same CPU" ? cpus.consumer : cpus.producer;
  await using _producer = ring.startProducer({ seconds, rate, cpu });
  return await consumer.json<Latency>();
}

async function startWaiting(
  ring: SharedRing,
  { bridge, how }: Waiting,
  events: number,
  warmUp: number,
): Promise<Child> {
  const child = startBunChild(
    "latency_consumer",
    { ring: ring.id, cpu: cpus.consumer, how, "warm-up": warmUp, events },
    { BUN_BPF_LOOP: bridge },
  );
  await child.line();
  return child;
}

async function measure(options: Options<Names>, peer: Peer | undefined): Promise<Report> {
  const { rounds, events } = options;
  const series = placements.flatMap((placement) =>
    [undefined, ...waitingsOf(placement)].map((waiting): Series => ({
      placement,
      waiting,
      found: [],
    })),
  );
  for (let round = 0; round < rounds; round++) {
    for (const each of series) {
      progress(`round ${round + 1} of ${rounds}: ${each.placement}, ${nameOf(each.waiting)}`);
      const latency = await latencyOf(each, options, peer);
      if (latency !== undefined) each.found.push(latency);
    }
  }
  const figures = placements.flatMap((placement) => {
    const here = series.filter((each) => each.placement === placement);
    const inC = here.find(({ waiting }) => waiting === undefined)?.found ?? [];
    return here
      .filter(({ waiting }) => waiting !== undefined)
      .flatMap((each) => [figure(each, "p50", inC, 2.5), figure(each, "p99", inC, 4)]);
  });
  return {
    name: "latency",
    title: `wake-up at ${rate} events/s: from the record's time to the callback, medians of ${rounds} rounds of ${events} events`,
    figures,
  };
}

function nameOf(waiting: Waiting | undefined): string {
  if (waiting === undefined) return "C";
  return `${waiting.bridge}, ${waiting.how === "subscribe" ? "subscribe" : "for await"}`;
}

function figure(
  { placement, waiting, found }: Series,
  of: keyof Latency,
  inC: readonly Latency[],
  atMost: number,
): Figure {
  const ours = found.map((latency) => latency[of]);
  const theirs = inC.map((latency) => latency[of]);
  return {
    what: `${placement}, ${nameOf(waiting)}, ${of}`,
    unit: "µs",
    here: median(ours),
    there: median(theirs),
    ratio: medianRatio(ours, theirs),
    // The others are for where the default cannot be had.
    ...(waiting?.bridge === "io_uring" ? { target: { of: "ratio", atMost } as const } : {}),
  };
}

await run({
  usage: "Wake-up latency, beside C: bun bench/ring_latency.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
