/**
 * Cost of idle subscriptions, compared with an idle process of Bun and an epoll loop in C with libbpf.
 *
 *   bun bench/ring_idle.ts
 *
 * Four processes wait at the same time: one with 1 subscription, one with 64, one with a socket and no subscription, and the
 * loop in C. This process measures their processor time, their voluntary context switches and, in separate processes under
 * strace, their system calls. They wait in parallel, because none takes processor time from another.
 *
 * Bun itself is not idle: it checks for garbage once per second, and for timeouts if any socket is open. The process without
 * subscriptions shows that activity. System calls that this process never makes are those of the subscriptions. While calls
 * are counted, the garbage checks are off (BUN_GC_TIMER_DISABLE), because their number of calls varies.
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
/** Seconds until a new process has started and only waits. */
const settleSeconds = 3;

const numbers = {
  rounds: { help: "rounds", standard: 5, quick: 1 },
  seconds: { help: "seconds of waiting in a round", standard: 10, quick: 3 },
};
type Names = keyof typeof numbers;

const kinds = ["none", "one", "many", "c"] as const;
type Kind = (typeof kinds)[number];
const ringCounts = { none: 0, one: 1, many: manyRings };

/** The activity of a process while it waits. */
interface Idle {
  /** Processor time in percent of one CPU. */
  readonly processor: number;
  /** The number of voluntary context switches. */
  readonly switches: number;
}

/** Waiting processes, which disposal ends. */
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

  /** Calls `measure` for all processes in parallel. Returns the results. */
  async each<T>(measure: (pid: number) => Promise<T>): Promise<Map<Kind, T>> {
    const entries = [...this.#children].map(async ([kind, { pid }]): Promise<[Kind, T]> => [
      kind,
      await measure(pid),
    ]);
    return new Map(await Promise.all(entries));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#children.values()].map((child) => child.end()));
    for (const ring of this.#rings) ring[Symbol.dispose]();
  }
}

async function measureIdle(pid: number, seconds: number): Promise<Idle> {
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
    const results = await processes.each((pid) => measureIdle(pid, seconds));
    for (const [kind, result] of results) idle[kind].push(result);
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
        what: `${names[kind]}, voluntary context switches`,
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
    title: `idle subscriptions for ${seconds} s, medians of ${rounds} rounds`,
    figures,
    notes,
  };
}

const names = {
  one: "1 subscription",
  many: `${manyRings} subscriptions`,
  none: "no subscription, a socket",
};

async function systemCalls({ seconds }: Options<Names>, peer: Peer | undefined): Promise<Figure[]> {
  progress("counting system calls");
  await using processes = new IdleProcesses();
  await processes.start(peer, { BUN_GC_TIMER_DISABLE: "1" });
  const calls = await processes.each((pid) => countSystemCalls(pid, seconds));
  const of = (kind: Kind) => calls.get(kind) ?? new Map<string, number>();
  const total = (of: SystemCalls) => [...of.values()].reduce((sum, count) => sum + count, 0);
  const withoutSubscription = of("none");
  return [
    ...(["one", "many"] as const).map((kind): Figure => {
      const own = new Map([...of(kind)].filter(([name]) => !withoutSubscription.has(name)));
      const list = own.size === 0 ? "" : ` (${[...own.keys()].join(", ")})`;
      return {
        what: `${names[kind]}, system calls that Bun alone does not make${list}`,
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
  usage: "Cost of idle subscriptions, compared with C: bun bench/ring_idle.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
