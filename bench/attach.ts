/**
 * Time to attach and detach a program, compared with C and libbpf.
 *
 *   bun bench/attach.ts
 *
 * The programs do nothing, and are loaded before. Each side attaches and detaches many times in a round; the median counts. The
 * rounds of both sides alternate, each round has a ratio, and the result is the median of the rounds.
 *
 * Both sides run on CPU 0, which has the perf event: on another CPU, the kernel interrupts CPU 0 for each call, which takes five
 * times as long as the calls.
 *
 * The benchmark runs in new network and mount namespaces: programs are attached to the loopback interface there, and libbpf
 * needs a mounted tracefs to attach to tracepoints.
 */
import { mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { asm, type Link, Program, type SectionName } from "../src/index.ts";
import { buildProgram, type Peer } from "./peer.ts";
import { type Options, run } from "./support/benchmark.ts";
import { pinThread } from "./support/libc.ts";
import type { Figure, Report } from "./support/report.ts";
import { median, medianRatio } from "./support/statistics.ts";

const numbers = {
  rounds: { help: "alternating rounds", standard: 9, quick: 3 },
};

/** A way to attach. */
interface Way {
  /** The name of the program and of the way in C. */
  readonly name: string;
  readonly section: SectionName;
  readonly returns: number;
  /** The number of repetitions in a round. The kernel waits for grace periods: up to 80 ms for tracepoints, 25 ms for interfaces. */
  readonly count: number;
  readonly options: (cgroup: string) => object;
}

/** The CPU of the perf event, as in attach.c. */
const eventCpu = 0;

const ways: readonly Way[] = [
  {
    name: "tracepoint",
    section: "tp",
    returns: 0,
    count: 20,
    options: () => ({ tracepoint: "sched/sched_process_exec" }),
  },
  {
    name: "perf_event",
    section: "perf_event",
    returns: 0,
    count: 1000,
    options: () => ({ event: "cpu-clock", period: 1_000_000_000, cpu: eventCpu }),
  },
  { name: "xdp", section: "xdp", returns: 2, count: 20, options: () => ({ interface: "lo" }) },
  {
    name: "tcx",
    section: "tcx/ingress",
    returns: -1,
    count: 20,
    options: () => ({ interface: "lo" }),
  },
  {
    name: "cgroup",
    section: "cgroup_skb/egress",
    returns: 1,
    count: 1000,
    options: (cgroup) => ({ cgroup }),
  },
];

/** Returns the median time in nanoseconds of attaching and detaching. */
function measureHere(attach: () => Link, count: number): number {
  const samples: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = Bun.nanoseconds();
    attach()[Symbol.dispose]();
    samples.push(Bun.nanoseconds() - start);
  }
  return median(samples);
}

function measureWay(way: Way, rounds: number, cgroup: string, peer: Peer | undefined): Figure {
  const { name, section, returns, count } = way;
  const code = [asm.mov(asm.r0, returns), asm.exit()];
  using program: Program = new Program({ section, license: "GPL", code });
  const options = way.options(cgroup);
  const attach = () => program.attach(options);
  // These are not counted: the engine compiles the code.
  measureHere(attach, count);
  const here: number[] = [];
  const there: number[] = [];
  for (let round = 0; round < rounds; round++) {
    here.push(measureHere(attach, count) / 1000);
    if (peer !== undefined) {
      there.push(Number(peer.run(bpfObject ?? "", name, `${count}`, cgroup)) / 1000);
    }
  }
  return {
    what: name,
    unit: "µs",
    here: median(here),
    there: median(there),
    ratio: medianRatio(here, there),
    target: { of: "ratio", atMost: 1.5 },
  };
}

function measure({ rounds }: Options<"rounds">, peer: Peer | undefined): Promise<Report> {
  const cgroup = `${cgroupRoot()}/bun-bpf-bench-${process.pid}`;
  mkdirSync(cgroup);
  try {
    return Promise.resolve({
      name: "attach",
      title: "attaching and detaching a program, medians",
      figures: ways.map((way) => measureWay(way, rounds, cgroup, peer)),
      notes: [
        "For tracepoints and interfaces, almost all of the time is that of the kernel, which waits for grace periods.",
      ],
    });
  } finally {
    rmdirSync(cgroup);
  }
}

/** Runs this script again in new network and mount namespaces, in which tracefs is mounted. Returns its exit status. */
function runInNamespaces(): number {
  const script = `mount -t tracefs tracefs /sys/kernel/tracing && ${isolated}=1 exec "$@"`;
  const command = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", ...process.argv];
  return Bun.spawnSync(command, { stdio: ["inherit", "inherit", "inherit"] }).exitCode ?? 1;
}

const isolated = "BUN_BPF_BENCH_ISOLATED";
if (process.env[isolated] === undefined) process.exit(runInNamespaces());

// The C program inherits this.
pinThread(eventCpu);
const bpfObject = buildProgram("attach");
await run({
  usage: "Attaching and detaching, compared with C: bun bench/attach.ts [options]",
  numbers,
  measure,
  ...(bpfObject !== undefined && { peer: "attach" }),
});

/** Returns the path where the cgroup2 file system is mounted. */
function cgroupRoot(): string {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  const path = /^\S+ \S+ \S+ \/ (\S+) .* - cgroup2 /m.exec(mounts)?.[1];
  if (path === undefined) throw new Error("the cgroup2 file system is not mounted");
  return path;
}
