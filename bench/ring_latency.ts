/**
 * Wake-up latency: the time from a record to the callback of a sleeping consumer, compared with C and libbpf.
 *
 *   bun bench/ring_latency.ts
 *
 * A program writes 1,000 records per second, so that the consumer sleeps before each. A record has the time at which it was
 * written, and the callback compares the clock with it. C sleeps in `epoll_wait` (`ring_buffer__poll`). Bun's event loop cannot
 * poll the descriptor of a ring: one of three bridges wakes it, see `eventLoop`. Each consumer is a separate process on one CPU. The
 * producer runs on the same CPU, or on another one.
 *
 * On a virtual machine the hypervisor wakes the other CPU, which takes most of the time, in C too. The difference between
 * consumers is visible on the same CPU. All are measured in turn, each round has ratios, and the result is the median of the
 * rounds.
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
  "warm-up": { help: "events that are not counted", standard: 1000, quick: 500 },
};
type Names = keyof typeof numbers;

interface Latency {
  readonly p50: number;
  readonly p99: number;
}

const placements = ["same CPU", "another CPU"] as const;
type Placement = (typeof placements)[number];

/** A consumer in Bun: its bridge and its method. */
interface Consumer {
  readonly bridge: BridgeName;
  readonly method: "subscribe" | "for-await";
}

const methods = ["subscribe", "for-await"] as const;

/** Returns the consumers that are measured in a placement. With a timer, the placement makes no difference. */
function consumersIn(placement: Placement): Consumer[] {
  const bridges: readonly BridgeName[] =
    placement === "same CPU" ? ["io_uring", "aio"] : ["io_uring", "aio", "timer"];
  return bridges.flatMap((bridge) => methods.map((method): Consumer => ({ bridge, method })));
}

/** A consumer in a placement, and its result in each round. */
interface Series {
  readonly placement: Placement;
  /** `undefined` for C. */
  readonly consumer: Consumer | undefined;
  readonly results: Latency[];
}

/** Returns the latency of a consumer; `undefined` for C without a peer. */
async function latencyOf(
  { placement, consumer }: Series,
  { events, "warm-up": warmUp }: Options<Names>,
  peer: Peer | undefined,
): Promise<Latency | undefined> {
  if (consumer === undefined && peer === undefined) return undefined;
  using ring = new SharedRing(ringSize);
  await using child =
    peer !== undefined && consumer === undefined
      ? await startPeer(peer, "latency", [ring.id, warmUp, events])
      : await startConsumer(ring, consumer as Consumer, events, warmUp);
  // Twice the expected duration, as a limit: the producer is ended when the consumer has all events.
  const seconds = (2 * (warmUp + events)) / rate;
  const cpu = placement === "same CPU" ? cpus.consumer : cpus.producer;
  await using _producer = ring.startProducer({ seconds, rate, cpu });
  return await child.json<Latency>();
}

async function startConsumer(
  ring: SharedRing,
  { bridge, method }: Consumer,
  events: number,
  warmUp: number,
): Promise<Child> {
  const child = startBunChild(
    "latency_consumer",
    { ring: ring.id, cpu: cpus.consumer, method, "warm-up": warmUp, events },
    { BUN_BPF_LOOP: bridge },
  );
  await child.line();
  return child;
}

async function measure(options: Options<Names>, peer: Peer | undefined): Promise<Report> {
  const { rounds, events } = options;
  const series = placements.flatMap((placement) =>
    [undefined, ...consumersIn(placement)].map((consumer): Series => ({
      placement,
      consumer,
      results: [],
    })),
  );
  for (let round = 0; round < rounds; round++) {
    for (const each of series) {
      progress(`round ${round + 1} of ${rounds}: ${each.placement}, ${nameOf(each.consumer)}`);
      const latency = await latencyOf(each, options, peer);
      if (latency !== undefined) each.results.push(latency);
    }
  }
  const figures = placements.flatMap((placement) => {
    const here = series.filter((each) => each.placement === placement);
    const inC = here.find(({ consumer }) => consumer === undefined)?.results ?? [];
    return here
      .filter(({ consumer }) => consumer !== undefined)
      .flatMap((each) => [figure(each, "p50", inC, 2.5), figure(each, "p99", inC, 4)]);
  });
  return {
    name: "latency",
    title: `wake-up latency at ${rate} events/s: from the time in the record to the callback, medians of ${rounds} rounds of ${events} events`,
    figures,
  };
}

function nameOf(consumer: Consumer | undefined): string {
  if (consumer === undefined) return "C";
  return `${consumer.bridge}, ${consumer.method === "subscribe" ? "subscribe" : "for await"}`;
}

function figure(
  { placement, consumer, results }: Series,
  of: keyof Latency,
  inC: readonly Latency[],
  atMost: number,
): Figure {
  const ours = results.map((latency) => latency[of]);
  const theirs = inC.map((latency) => latency[of]);
  return {
    what: `${placement}, ${nameOf(consumer)}, ${of}`,
    unit: "µs",
    here: median(ours),
    there: median(theirs),
    ratio: medianRatio(ours, theirs),
    // The other bridges have no targets: they are for systems without the default bridge.
    ...(consumer?.bridge === "io_uring" ? { target: { of: "ratio", atMost } as const } : {}),
  };
}

await run({
  usage: "Wake-up latency, compared with C: bun bench/ring_latency.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
