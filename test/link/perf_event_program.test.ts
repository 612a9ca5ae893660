import { describe, expect } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { MappedMemory, pageSize } from "../../src/ffi/mapped_memory.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { onlineCpus } from "../../src/ffi/perf_event.ts";
import {
  ArrayMap,
  asm,
  type AttachOptions,
  BpfError,
  DisposedError,
  features,
  Link,
  PerCpuArrayMap,
  type PerfEventOptions,
  PerfEventsLink,
  possibleCpus,
  Program,
  t,
} from "../../src/index.ts";
import { attachToCpus } from "../../src/link/perf_events_link.ts";
import { eventNumbers } from "../../src/link/perf_counters.ts";
import { type CpuSource, thisMachine } from "../../src/loop/online_cpus.ts";
import { onCpu } from "../ring/perf_producer.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources, settledResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import { isGuest, testUnless } from "../support/skipping.ts";
import { wayTest } from "./way.ts";

const { r0, r1, r2, r10 } = asm;
const linkTest = testWith(features.attachKinds.get("perf_event_link"));
const millisecond = 1_000_000;

/** A program that counts its runs on each CPU, and stores its cookie if it has one. */
class Counter implements Disposable {
  readonly #runs = new PerCpuArrayMap({ value: t.u64Number, length: 1 });
  readonly cookies = new ArrayMap({ value: t.u64, length: 1 });
  readonly program: Program<"perf_event">;

  constructor({ readsCookie = false } = {}) {
    const key = [asm.stw(r10, -4, 0), asm.mov(r2, r10), asm.add(r2, -4)];
    const { r6 } = asm;
    this.program = new Program({
      section: "perf_event",
      license: "GPL",
      maps: { runs: this.#runs, cookies: this.cookies },
      code: [
        asm.mov(r6, r1),
        ...key,
        asm.ldMap(r1, "runs"),
        asm.call("map_lookup_elem"),
        asm.jeq(r0, 0, "out"),
        asm.mov(r1, 1),
        asm.atomicAdd(r0, 0, r1),
        ...(readsCookie
          ? [
              asm.mov(r1, r6),
              asm.call("get_attach_cookie"),
              asm.mov(r6, r0),
              ...key,
              asm.ldMap(r1, "cookies"),
              asm.call("map_lookup_elem"),
              asm.jeq(r0, 0, "out"),
              asm.stxdw(r0, 0, r6),
            ]
          : []),
        asm.label("out"),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
  }

  attach(options: PerfEventOptions): PerfEventsLink {
    return this.program.attach(options as AttachOptions<"perf_event">);
  }

  /** Returns the runs on each possible CPU since the last call. */
  takeByCpu(): number[] {
    const runs = this.#runs.at(0) as number[];
    this.#runs.set(
      0,
      runs.map(() => 0),
    );
    return [...runs];
  }

  /** Returns the runs since the last call. */
  take(): number {
    return this.takeByCpu().reduce((sum, runs) => sum + runs, 0);
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.cookies[Symbol.dispose]();
    this.#runs[Symbol.dispose]();
  }
}

/** Causes page faults of this thread. */
function touchPages(): void {
  using memory = MappedMemory.anonymous(32 * pageSize(), "pages of a test");
  const bytes = new Uint8Array(memory.buffer);
  for (let at = 0; at < bytes.length; at += pageSize()) bytes[at] = 1;
}

const faults = { event: "page-faults", period: 1, tid: process.pid } as const;

/** Uses the CPU until a condition is true. */
function spinUntil(condition: () => boolean): void {
  const end = Date.now() + 20_000;
  while (!condition()) if (Date.now() > end) throw new Error("nothing has happened in 20 s");
}

function proveWay(options: PerfEventOptions): void {
  using counter = new Counter();
  {
    using link = counter.attach(options);
    expect(`${link}`).toBe("perf_event link to event page-faults");
    touchPages();
    expect(counter.take()).toBeGreaterThan(0);
  }
  counter.take();
  touchPages();
  expect(counter.take()).toBe(0);
}

wayTest("perf_event", () => proveWay({ ...faults, link: false }));
wayTest("perf_event_link", () => proveWay({ ...faults, link: true }));
wayTest("perf_event_cookie", () => {
  using counter = new Counter({ readsCookie: true });
  {
    using link = counter.attach({ ...faults, cookie: 0x1234_5678_9abcn });
    touchPages();
    expect(counter.take()).toBeGreaterThan(0);
    expect(counter.cookies.at(0)).toBe(0x1234_5678_9abcn);
    const { event } = link.info();
    // Reported since kernel 6.9.
    if (event?.cookie !== undefined) expect(event.cookie).toBe(0x1234_5678_9abcn);
  }
  counter.take();
  touchPages();
  expect(counter.take()).toBe(0);
});

testWith(features.attachKinds.get("perf_event_cookie"))(
  "a process has a cookie without inheritance",
  () => {
    using counter = new Counter({ readsCookie: true });
    const event = { event: "page-faults", period: 1, pid: process.pid } as const;
    using _link = counter.attach({ ...event, inherit: false, cookie: 7n });
    touchPages();
    expect(counter.cookies.at(0)).toBe(7n);
  },
);

describe("a perf event", () => {
  bpfTest("runs the program on all CPUs, by period or frequency", async () => {
    using counter = new Counter();
    for (const rate of [{ period: millisecond }, { period: 1_000_000n }, { frequency: 1000 }]) {
      using link = counter.attach({ event: "cpu-clock", ...rate });
      expect(link.cpus).toEqual(onlineCpus());
      expect(Bun.inspect(link)).toContain("cpus: [");
      const seen = new Set<number>();
      spinUntil(() => {
        for (const [index, runs] of counter.takeByCpu().entries()) if (runs > 0) seen.add(index);
        return seen.size === onlineCpus().length;
      });
    }
  });

  bpfTest("runs the program on one CPU", () => {
    using counter = new Counter();
    for (const cpu of onlineCpus()) {
      using link = counter.attach({ event: "cpu-clock", period: millisecond, cpu });
      expect(link.cpus).toEqual([cpu]);
      counter.take();
      let runs: number[] = [];
      spinUntil(() => {
        runs = counter.takeByCpu();
        return runs.some((count) => count > 0);
      });
      expect(possibleCpus().filter((_, index) => (runs[index] as number) > 0)).toEqual([cpu]);
    }
  });

  bpfTest("counts one thread, a process, or those that they start", async () => {
    using counter = new Counter();
    const { tid, ...event } = faults;
    const childFaults = async (options: object): Promise<number> => {
      await using child = Bun.spawn(["cat"], { stdin: "pipe", stdout: "ignore" });
      using _link = counter.attach({ ...event, pid: child.pid, ...options });
      counter.take();
      touchPages();
      await child.stdin.write("line\n");
      await child.stdin.end();
      await child.exited;
      return counter.take();
    };
    expect(await childFaults({})).toBeGreaterThan(0);
    {
      using _link = counter.attach({ ...event, tid, inherit: true });
      touchPages();
      const own = counter.take();
      expect(own).toBeGreaterThan(0);
    }
    // A shell that starts a process after it was attached: without inherit only the shell counts.
    const shellFaults = async (inherit: boolean): Promise<number> => {
      await using shell = Bun.spawn(
        ["sh", "-c", "read line; for i in 1 2 3 4 5; do /bin/true; done"],
        { stdin: "pipe", stdout: "ignore" },
      );
      using link = counter.attach({ ...event, pid: shell.pid, inherit });
      expect(link.cpus).toEqual([]);
      counter.take();
      await shell.stdin.write("go\n");
      await shell.stdin.end();
      await shell.exited;
      return counter.take();
    };
    const [alone, all] = [await shellFaults(false), await shellFaults(true)];
    // Each of the five processes has dozens.
    expect(all).toBeGreaterThan(alone + 50);
  });

  bpfTest("counts the kernel or user space only", () => {
    using counter = new Counter();
    const clock = { event: "task-clock", period: millisecond, tid: process.pid } as const;
    {
      using _link = counter.attach({ ...clock, excludeKernel: true });
      spinUntil(() => counter.take() > 0);
    }
    using _link = counter.attach({ ...clock, excludeKernel: true, excludeUser: true });
    counter.take();
    const end = Date.now() + 50;
    spinUntil(() => Date.now() > end);
    expect(counter.take()).toBe(0);
  });

  bpfTest("can be given by its numbers", () => {
    using counter = new Counter();
    const { event: _, ...others } = faults;
    const pageFaults = eventNumbers("page-faults");
    using _link = counter.attach({ ...others, event: { type: 1, config: pageFaults.config } });
    touchPages();
    expect(counter.take()).toBeGreaterThan(0);
  });

  bpfTest("can be a breakpoint in the memory of a process", () => {
    using counter = new Counter();
    using memory = MappedMemory.anonymous(pageSize(), "watched page");
    const bytes = new Uint32Array(memory.buffer);
    let link: PerfEventsLink;
    try {
      link = counter.attach({
        event: { breakpoint: BigInt(memory.address), access: "write" },
        tid: process.pid,
      });
    } catch (error) {
      // Emulated processors may lack debug registers.
      expect(isGuest).toBe(true);
      expect(error).toBeInstanceOf(BpfError);
      return;
    }
    using _link = link;
    bytes[0] = 7;
    expect(counter.take()).toBe(1);
    bytes[1] = 7;
    expect(counter.take()).toBe(0);
    bytes[0] = 8;
    bytes[0] = 9;
    expect(counter.take()).toBe(2);
    link.detach();
    bytes[0] = 10;
    expect(counter.take()).toBe(0);
  });

  bpfTest("keeps the program after its disposal and garbage collection", () => {
    using counter = new Counter();
    using link = counter.attach(faults);
    counter.program[Symbol.dispose]();
    Bun.gc(true);
    counter.take();
    touchPages();
    expect(counter.take()).toBeGreaterThan(0);
    expect(link.disposed).toBe(false);
  });

  bpfTest("leaves nothing open after repeated attaching", async () => {
    using counter = new Counter();
    const before = await settledResources();
    const descriptors = readdirSync("/proc/self/fd").length;
    for (let round = 0; round < 20; round++) {
      using _link = counter.attach({ event: "cpu-clock", frequency: 100 });
      using _other = counter.attach(faults);
      using _linkless = counter.attach({ ...faults, link: false });
    }
    expect(countResources()).toEqual(before);
    expect(readdirSync("/proc/self/fd").length).toBe(descriptors);
  });
});

describe("the link of a perf event", () => {
  linkTest("describes itself", () => {
    using counter = new Counter();
    using link = counter.attach({ event: "context-switches", period: 1000 });
    const info = link.info();
    expect(info).toMatchObject({ type: "perf_event", programId: counter.program.id });
    expect(link.id).toBe(info.id);
    expect(info.id).toBeGreaterThan(0);
    // Reported since kernel 6.6.
    if (info.event !== undefined) {
      expect(info.event).toMatchObject({ kind: "event", eventType: 1, config: 3n });
    }
  });

  bpfTest("does not run the program after detach(), and stays open", () => {
    for (const link of [undefined, false]) {
      using counter = new Counter();
      using attached = counter.attach({ ...faults, ...(link === false && { link }) });
      touchPages();
      expect(counter.take()).toBeGreaterThan(0);
      expect(attached.detach()).toBe(attached);
      counter.take();
      touchPages();
      expect(counter.take()).toBe(0);
      expect(attached.detach().info().programId).toBe(counter.program.id);
      attached[Symbol.dispose]();
      expect(() => attached.detach()).toThrow(DisposedError);
      expect(() => attached.info()).toThrow(DisposedError);
      expect(() => attached.id).toThrow(DisposedError);
    }
  });

  linkTest("keeps the program running while it is pinned", async () => {
    using bpffs = new DetachedMount("bpf");
    const path = `${bpffs.path}/faults`;
    using counter = new Counter();
    const link = counter.attach(faults).pin(path);
    link[Symbol.dispose]();
    touchPages();
    expect(counter.take()).toBeGreaterThan(0);
    using again = Link.open(path);
    expect(again.info().type).toBe("perf_event");
    again.unpin();
    again[Symbol.dispose]();
    await Bun.sleep(50);
    counter.take();
    touchPages();
    expect(counter.take()).toBe(0);
  });

  linkTest("cannot be pinned if it has an event for each CPU", () => {
    using counter = new Counter();
    using link = counter.attach({ event: "cpu-clock", frequency: 1 });
    expect(() => link.pin("/nowhere/link")).toThrow(
      /^cannot pin the perf_event link to event cpu-clock: .*attach with the option cpu or tid, and pin each link$/,
    );
  });

  bpfTest("cannot change its program", () => {
    using counter = new Counter();
    using link = counter.attach(faults);
    expect(() => link.update(counter.program)).toThrow(
      /EINVAL.*attach the new program and dispose of this link/,
    );
    expect(() => link.update({} as never)).toThrow(TypeError);
  });

  bpfTest("without a link of the kernel has neither an id nor pins", () => {
    using counter = new Counter();
    using link = counter.attach({ ...faults, link: false });
    expect(() => link.id).toThrow(/^cannot read the id of the perf_event link.*needs Linux 5.15/);
    expect(() => link.pin("/nowhere/link")).toThrow(/^cannot pin the perf_event link/);
    const programId = counter.program.id;
    // The link reads the id from its own descriptor of the program.
    counter.program[Symbol.dispose]();
    expect(link.info()).toEqual({
      id: 0,
      type: "perf_event",
      programId,
      event: { kind: "event", eventType: 1, config: 2n, cookie: undefined },
    });
  });
});

/** A fake of this machine on which CPUs can be offline. */
class FakeMachine implements CpuSource {
  readonly offline = new Set<number>();
  suspended = 0;
  now = thisMachine.now;
  onlineCpus = () => onlineCpus().filter((cpu) => !this.offline.has(cpu));
  suspendedMilliseconds = () => this.suspended;
}

async function until(condition: () => boolean): Promise<void> {
  for (let left = 1000; left > 0; left--) {
    if (condition()) return;
    await Bun.sleep(20);
  }
  throw new Error("nothing has happened in 20 s");
}

describe("a CPU that comes online", () => {
  const [first = 0, second = 0] = onlineCpus().toReversed();
  const severalTest = testUnless(
    bpfObstacle ?? (onlineCpus().length > 1 ? undefined : "it needs two CPUs"),
  );
  const attachToFake = (counter: Counter, machine: FakeMachine) =>
    attachToCpus(
      {
        program: counter.program,
        event: {
          ...eventNumbers("cpu-clock"),
          rate: { period: 1_000_000n },
          excludeUser: false,
          excludeKernel: false,
        },
        what: "link of a test",
        cookie: undefined,
        link: undefined,
        context: { doing: "attach to a test" },
      },
      machine,
    );
  const runsOn = (counter: Counter, cpu: number): boolean => {
    const index = possibleCpus().indexOf(cpu);
    return (counter.takeByCpu()[index] as number) > 0;
  };

  severalTest(
    "is attached, also if the program was closed, and again after it was offline",
    async () => {
      using counter = new Counter();
      const machine = new FakeMachine();
      machine.offline.add(first);
      using link = attachToFake(counter, machine);
      counter.program[Symbol.dispose]();
      expect(link.cpus).toEqual(machine.onlineCpus());
      onCpu(first, () => spinUntil(() => runsOn(counter, second)));
      expect(runsOn(counter, first)).toBe(false);
      machine.offline.clear();
      await until(() => link.cpus.includes(first));
      await until(() => runsOn(counter, first));
      const before = countResources();
      machine.offline.add(first);
      await until(() => !link.cpus.includes(first));
      expect(countResources()).not.toEqual(before);
      machine.offline.clear();
      await until(() => link.cpus.includes(first));
      await until(() => runsOn(counter, first));
      expect(countResources()).toEqual(before);
    },
  );

  severalTest("after a suspend is attached again", async () => {
    using counter = new Counter();
    const machine = new FakeMachine();
    using link = attachToFake(counter, machine);
    machine.suspended += 60_000;
    await Bun.sleep(1100);
    expect(link.cpus).toEqual(onlineCpus());
    counter.take();
    await until(() => runsOn(counter, first));
  });

  severalTest("is not attached after detach()", async () => {
    using counter = new Counter();
    const machine = new FakeMachine();
    machine.offline.add(first);
    using link = attachToFake(counter, machine);
    link.detach();
    machine.offline.clear();
    await Bun.sleep(1200);
    expect(link.cpus).not.toContain(first);
  });

  const switchOf = (cpu: number): string => `/sys/devices/system/cpu/cpu${cpu}/online`;
  const setOnline = (cpu: number, isOnline: boolean): void =>
    writeFileSync(switchOf(cpu), isOnline ? "1" : "0");
  /** A CPU that these tests may take offline: on a virtual machine for tests only. */
  const switched = isGuest
    ? possibleCpus().findLast((cpu) => cpu > 0 && existsSync(switchOf(cpu)))
    : undefined;

  testUnless(bpfObstacle ?? (switched === undefined ? "it takes a CPU offline" : undefined))(
    "of the running kernel is attached, each time",
    async () => {
      const cpu = switched as number;
      setOnline(cpu, false);
      try {
        using counter = new Counter();
        using link = counter.attach({ event: "cpu-clock", period: 10 * millisecond });
        expect(() => counter.attach({ event: "cpu-clock", frequency: 1, cpu })).toThrow(
          new RegExp(`ENODEV.*CPU ${cpu} is offline; online are `),
        );
        for (let round = 0; round < 2; round++) {
          expect(link.cpus).not.toContain(cpu);
          setOnline(cpu, true);
          await until(() => link.cpus.includes(cpu));
          counter.take();
          await until(() => runsOn(counter, cpu));
          setOnline(cpu, false);
          await until(() => !link.cpus.includes(cpu));
        }
      } finally {
        setOnline(cpu, false);
      }
    },
  );
});

describe("attaching to a perf event rejects", () => {
  const rows: readonly [what: string, options: object, error: RegExp][] = [
    [
      "an unknown name",
      { event: "cpu-clok", period: 1 },
      /^event: unknown "cpu-clok": did you mean "cpu-clock"\?/,
    ],
    ["an unknown cache", { event: { cache: "l1" }, period: 1 }, /^event: cache: unknown "l1": /],
    [
      "an unknown operation",
      { event: { cache: "ll", operation: "red" }, period: 1 },
      /did you mean "read"/,
    ],
    [
      "an unknown result",
      { event: { cache: "ll", result: "hit" }, period: 1 },
      /^event: result: unknown "hit"/,
    ],
    [
      "a misspelt part",
      { event: { cache: "ll", opration: "read" }, period: 1 },
      /unknown option "opration": did you mean "operation"/,
    ],
    ["no event", { period: 1 }, /^event: expected a name such as "cpu-clock"/],
    ["no rate", { event: "cpu-clock" }, /need the option frequency .* or period/],
    [
      "two rates",
      { event: "cpu-clock", period: 1, frequency: 1 },
      /^frequency: cannot be combined with period/,
    ],
    ["a rate of 0", { event: "cpu-clock", frequency: 0 }, /^frequency: expected an integer/],
    ["a period of 0", { event: "cpu-clock", period: 0 }, /^period: expected an integer/],
    ["a long period", { event: "cpu-clock", period: 2n ** 63n }, /^period: expected an integer/],
    [
      "a misspelt option",
      { event: "cpu-clock", perod: 1 },
      /unknown option "perod": did you mean "period"/,
    ],
    [
      "a CPU that does not exist",
      { event: "cpu-clock", period: 1, cpu: 9999 },
      /^cpu: expected the number of a CPU/,
    ],
    [
      "a process and a thread",
      { event: "cpu-clock", period: 1, pid: 1, tid: 1 },
      /^pid: cannot be combined with tid/,
    ],
    [
      "inheritance of all",
      { event: "cpu-clock", period: 1, inherit: true },
      /^inherit: needs the option pid or tid/,
    ],
    [
      "a cookie without a link",
      { event: "cpu-clock", period: 1, link: false, cookie: 1n },
      /^cookie: only links have one/,
    ],
    [
      "a cookie of inherited events",
      { event: "cpu-clock", period: 1, pid: 1, cookie: 1n },
      /^cookie: inherited events have none: pass inherit: false/,
    ],
    [
      "a cookie of events that a thread inherits",
      { event: "cpu-clock", period: 1, tid: 1, inherit: true, cookie: 1n },
      /^cookie: inherited events have none: pass inherit: false/,
    ],
    ["a wrong cookie", { event: "cpu-clock", period: 1, cookie: 1 }, /^cookie: expected a bigint/],
    [
      "a wrong length",
      { event: { breakpoint: 8n, length: 3 } },
      /^event: length: expected 1, 2, 4, 8, got 3/,
    ],
    [
      "a symbol that does not exist",
      { event: { breakpoint: "no_such_symbol" } },
      /ENOENT .*The kernel has no function no_such_symbol, and no such variable/,
    ],
    [
      "a misspelt symbol",
      { event: { breakpoint: "vfs_raed", access: "execute" } },
      /ENOENT .*The kernel has no function vfs_raed, .*: did you mean "vfs_read"\?$/,
    ],
    [
      "a raw number that is negative",
      { event: { raw: -1 }, period: 1 },
      /^event: raw: expected an integer/,
    ],
    [
      "an event that no source has",
      { event: { type: 1, config: 999 }, period: 1 },
      /ENOENT|EINVAL/,
    ],
    [
      "an event source that does not exist",
      { event: { type: 9999, config: 0 }, period: 1 },
      /ENOENT.*no event source with the type 9999/,
    ],
    [
      "a tracepoint",
      { event: { type: 2, config: 1 }, frequency: 10 },
      /EINVAL.*Events of tracepoints \(type 2\) run programs of the section tp/,
    ],
    [
      "a high frequency",
      { event: "cpu-clock", frequency: 2 ** 30 },
      /EINVAL.*kernel.perf_event_max_sample_rate allows at most \d+/,
    ],
    [
      "a process that does not exist",
      { event: "cpu-clock", period: 1, pid: 0x3fffff },
      /ESRCH.*There is no process 4194303/,
    ],
    [
      "a thread that does not exist",
      { event: "cpu-clock", period: 1, tid: 0x3fffff },
      /ESRCH.*There is no thread 4194303/,
    ],
    [
      "an odd address",
      { event: { breakpoint: 0x1001n, access: "write", length: 4 }, tid: process.pid },
      /EINVAL.*multiple of the length|EOPNOTSUPP|ENOSPC/,
    ],
  ];

  for (const [what, options, error] of rows) {
    bpfTest(what, () => {
      using counter = new Counter();
      const before = countResources();
      expect(() => counter.attach(options as PerfEventOptions)).toThrow(error);
      expect(countResources()).toEqual(before);
    });
  }

  bpfTest("a process without CAP_PERFMON", async () => {
    const code = `
      import { asm, Program } from "./src/index.ts";
      const code = [asm.mov(asm.r0, 0), asm.exit()];
      using program = new Program({ section: "perf_event", license: "GPL", code });
      await import("./test/support/drop_capabilities.ts");
      try {
        program.attach({ event: "cpu-clock", frequency: 1 });
      } catch (error) {
        console.log(error.name, error.code, error.hint);
      }`;
    const { stdout } = await runBun(["-e", code]);
    expect(stdout).toMatch(/^BpfError (?:EACCES|EPERM) .*lacks (?:CAP_PERFMON|CAP_SYS_ADMIN)/);
  });

  const hasCounters = existsSync("/sys/bus/event_source/devices/cpu");
  testUnless(bpfObstacle ?? (hasCounters ? "the processor has counters" : undefined))(
    "events of the processor in a machine without its counters",
    () => {
      using counter = new Counter();
      for (const event of ["cycles", { cache: "l1d" }, { raw: 0xc0 }] as const) {
        expect(() => counter.attach({ event, period: 1000 })).toThrow(
          /(ENOENT|EOPNOTSUPP).*no performance counters: use an event of the kernel such as cpu-clock/,
        );
      }
    },
  );

  testUnless(bpfObstacle ?? (isKernelSince("5.15") ? "this kernel has links" : undefined))(
    "links and cookies before Linux 5.15",
    () => {
      using counter = new Counter();
      expect(() => counter.attach({ ...faults, link: true })).toThrow(/EINVAL.*need Linux 5.15/);
      expect(() => counter.attach({ ...faults, cookie: 1n })).toThrow(/EINVAL.*need Linux 5.15/);
    },
  );
});
