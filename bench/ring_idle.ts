/**
 * What subscriptions cost to which nothing comes, beside an idle process of Bun and an epoll loop in C with libbpf.
 *
 *   bun bench/ring_idle.ts
 *
 * Four processes wait at the same time: one with 1 and one with 64 subscriptions, one that has a socket open and no
 * subscription, and the loop in C. From outside it is looked at how long each has run, how often it went to sleep, and (with
 * strace, in processes of their own) which system calls it made. They wait side by side, as none takes time from another.
 *
 * Bun itself is not idle: it looks for garbage once a second, and with any socket open for timeouts, too. That is what the
 * process without subscriptions shows; calls of a kind that it makes none of are the subscriptions'. For the counting of calls
 * alone the search for garbage is off (BUN_GC_TIMER_DISABLE): how many calls that makes differs from time to time.
 */
import { RingBuf, t } from "../src/index.ts";
import type { Peer } from "./peer.ts";
import { type Options, run } from "./support/benchmark.ts";
import type { Child } from "./support/children.ts";
import { processorTime } from "./support/libc.ts";
import { switchesBetween, voluntarySwitches } from "./support/process_status.ts";
import { progress } from "./support/progress.ts";
import type { Figure, Report } from "./support/report.ts";
import { startBunChild, startPeer } from "./support/shared_ring.ts";
import { median } from "./support/statistics.ts";
import { canCountSystemCalls, countSystemCalls, type SystemCalls } from "./support/system_calls.ts";

const manyRings = 64;
const cRingSize = 64 * 1024;
/** For what a process does at its start to be over. */
const settleSeconds = 3;

const numbers = {
  rounds: { help: "rounds", standard: 5, quick: 1 },
  seconds: { help: "of waiting in a round", standard: 10, quick: 3 },
};
type Names = keyof typeof numbers;

const kinds = ["none", "one", "many", "c"] as const;
type Kind = (typeof kinds)[number];
const ringCounts = { none: 0, one: 1, many: manyRings };

/** What a process did while it waited. */
interface Idle {
  /** Percent of one CPU. */
  readonly processor: number;
  readonly switches: number;
}

/** Processes that wait; disposed of, they end. */
class IdleProcesses implements AsyncDisposable {
  readonly #children = new Map<Kind, Child>();
  readonly #rings: RingBuf<t.Type<number>>[] = [];

  async start(
    peer: Peer | undefined,
    environment: Readonly<Record<string, string>>,
  ): Promise<void> {
    for (const kind of kinds) {
      if (kind !== "c") {
        const child = startBunChild("idle_consumer", { rings: ringCounts[kind] }, environment);
        this.#children.set(kind, child);
        await child.line();
      } else if (peer !== undefined) {
        for (let ring = 0; ring < manyRings; ring++) {
          this.#rings.push(new RingBuf({ size: cRingSize, event: t.u64Number }));
        }
        const ids = this.#rings.map(({ id }) => id);
        this.#children.set(kind, await startPeer(peer, "consume", ids));
      }
    }
    await Bun.sleep(settleSeconds * 1000);
  }

  /** What `look` says of each process, all asked at once. */
  async each<T>(look: (pid: number) => Promise<T>): Promise<Map<Kind, T>> {
    const entries = [...this.#children].map(async ([kind, { pid }]): Promise<[Kind, T]> => [
      kind,
      await look(pid),
    ]);
    return new Map(await Promise.all(entries));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#children.values()].map((child) => child.end()));
    for (const ring of this.#rings) ring[Symbol.dispose]();
  }
}

async function watch(pid: number, seconds: number): Promise<Idle> {
  const time = processorTime(pid);
  const switches = voluntarySwitches(pid);
  const start = performance.now();
  await Bun.sleep(seconds * 1000);
  const nanoseconds = (performance.now() - start) * 1e6;
  return {
    processor: (100 * (processorTime(pid) - time)) / nanoseconds,
    switches: switchesBetween(switches, voluntarySwitches(pid)),
  };
}

async function measure(options: Options<Names>, peer: Peer | undefined): Promise<Report> {
  const { rounds, seconds } = options;
  const idle: Record<Kind, Idle[]> = { none: [], one: [], many: [], c: [] };
  for (let round = 0; round < rounds; round++) {
    progress(`round ${round + 1} of ${rounds}`);
    await using processes = new IdleProcesses();
    await processes.start(peer, {});
    const found = await processes.each((pid) => watch(pid, seconds));
    for (const [kind, one] of found) idle[kind].push(one);
  }
  const figures = (["one", "many", "none"] as const).flatMap((kind): Figure[] => {
    const own = (of: keyof Idle) => median(idle[kind].map((each) => each[of]));
    const inC = (of: keyof Idle) => median(idle.c.map((each) => each[of]));
    const target = kind === "none" ? {} : { target: { of: "here", atMost: 0.2 } as const };
    return [
      {
        what: `${names[kind]}, processor time`,
        unit: "%",
        here: own("processor"),
        there: inC("processor"),
        ...target,
      },
      {
        what: `${names[kind]}, went to sleep`,
        unit: "",
        here: own("switches"),
        there: inC("switches"),
      },
    ];
  });
  const notes = [`C waits for ${manyRings} rings.`];
  if (canCountSystemCalls()) {
    figures.push(...(await systemCalls(options, peer)));
  } else {
    notes.push("System calls were not counted: strace is not installed.");
  }
  return {
    name: "idle",
    title: `waiting for ${seconds} s for what never comes, medians of ${rounds} rounds`,
    figures,
    notes,
  };
}

const names = {
  one: "1 subscription",
  many: `${manyRings} subscriptions`,
  none: "none, but a socket",
};

async function systemCalls({ seconds }: Options<Names>, peer: Peer | undefined): Promise<Figure[]> {
  progress("counting system calls");
  await using processes = new IdleProcesses();
  await processes.start(peer, { BUN_GC_TIMER_DISABLE: "1" });
  const calls = await processes.each((pid) => countSystemCalls(pid, seconds));
  const of = (kind: Kind) => calls.get(kind) ?? new Map<string, number>();
  const total = (of: SystemCalls) => [...of.values()].reduce((sum, count) => sum + count, 0);
  const theirs = of("none");
  return [
    ...(["one", "many"] as const).map((kind): Figure => {
      const own = new Map([...of(kind)].filter(([name]) => !theirs.has(name)));
      const which = own.size === 0 ? "" : ` (${[...own.keys()].join(", ")})`;
      return {
        what: `${names[kind]}, system calls that Bun would not make${which}`,
        unit: "",
        here: total(own),
        there: peer && total(of("c")),
        target: { of: "here", atMost: 0 },
      };
    }),
    ...(["one", "many", "none"] as const).map((kind): Figure => ({
      what: `${names[kind]}, system calls`,
      unit: "",
      here: total(of(kind)),
    })),
  ];
}

await run({
  usage: "Subscriptions that wait, beside C: bun bench/ring_idle.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
