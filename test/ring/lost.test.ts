import { describe, expect } from "bun:test";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  asm,
  type Code,
  DisposedError,
  HashMap,
  type LiveMap,
  PerCpuArrayMap,
  possibleCpus,
  Program,
  RingBuf,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { packageRoot, runBun } from "../support/run.ts";
import { runOneByOne } from "../support/run_program.ts";

const event = t.u64Number;

function newRing(name = ""): RingBuf<t.Type<number>> {
  return new RingBuf({ size: 4096, event, name });
}

/** Returns a program that loses an event in each run: the ring has no room for its size. */
function losing(ring: string | LiveMap, maps: Record<string, LiveMap> = {}): Program {
  const code: Code = [
    asm.reserveOrCount(ring, 5000, "out", { stack: -8 }),
    ...[asm.mov(asm.r1, asm.r0), asm.mov(asm.r2, 0), asm.call("ringbuf_discard")],
    ...[asm.label("out"), asm.mov(asm.r0, 0), asm.exit()],
  ];
  return new Program({ section: "socket", license: "GPL", code, maps });
}

/** Returns the number of BPF maps that this process has open. */
function openMaps(): number {
  const { descriptors } = countResources();
  return Object.entries(descriptors)
    .filter(([kind]) => kind.includes("bpf-map"))
    .reduce((sum, [, count]) => sum + count, 0);
}

describe("the counter of a ring", () => {
  bpfTest("is created when it is first read", () => {
    const before = openMaps();
    using ring = newRing();
    expect([ring.stats.lost, openMaps() - before]).toEqual([0, 1]);
    const { lost } = ring;
    expect([ring.lost, openMaps() - before]).toEqual([lost, 2]);
    expect(ring.stats.lost).toBe(0);
  });

  bpfTest("is created for a program that refers to it", () => {
    const before = openMaps();
    using ring = newRing();
    using program = losing("ring", { ring });
    expect(openMaps() - before).toBe(2);
    runOneByOne(program, 3);
    expect([ring.stats.lost, ring.lost.sum(0)]).toEqual([3, 3]);
  });

  bpfTest("has one entry with a count per CPU, and a name derived from that of the ring", () => {
    using ring = newRing("fifteen_letters");
    expect(ring.lost).toBeInstanceOf(PerCpuArrayMap);
    expect(ring.lost.name).toBe("fifteen_le_lost");
    expect(ring.lost.get(0)).toEqual(possibleCpus().map(() => 0));
    ring.lost.set(
      0,
      possibleCpus().map((_, index) => 2 ** 40 + index),
    );
    const cpus = possibleCpus().length;
    expect(ring.stats.lost).toBe(cpus * 2 ** 40 + (cpus * (cpus - 1)) / 2);
  });

  bpfTest("keeps its count while programs are loaded and closed", () => {
    using ring = newRing();
    for (let round = 1; round <= 3; round++) {
      using program = losing("ring", { ring });
      runOneByOne(program, 10);
      expect(ring.stats.lost).toBe(10 * round);
    }
  });
});

describe("objects for the same ring", () => {
  const others: Readonly<
    Record<string, (ring: RingBuf<t.Type<number>>) => RingBuf<t.Type<number>>>
  > = {
    dup: (ring) => ring.dup(),
    fromFd: (ring) => RingBuf.fromFd(ring.fd, { event }),
    fromId: (ring) => RingBuf.fromId(ring.id, { event }),
  };
  for (const [name, open] of Object.entries(others)) {
    bpfTest(`share the counter, if opened by ${name}`, () => {
      using ring = newRing();
      using other = open(ring);
      using program = losing("other", { other });
      runOneByOne(program, 5);
      expect([ring.stats.lost, other.stats.lost]).toEqual([5, 5]);
      expect(ring.lost).toBe(other.lost);
    });
  }

  bpfTest("share the counter until the last of them is disposed of", () => {
    using bpffs = new DetachedMount("bpf");
    const before = openMaps();
    const ring = new RingBuf({ size: 4096, event, pin: `${bpffs.path}/ring` });
    using program = losing("ring", { ring });
    runOneByOne(program, 1);
    const opened = RingBuf.open(`${bpffs.path}/ring`, { event });
    const { lost } = ring;
    ring[Symbol.dispose]();
    ring[Symbol.dispose]();
    runOneByOne(program, 1);
    expect([opened.stats.lost, opened.lost]).toEqual([2, lost]);
    opened[Symbol.dispose]();
    expect(lost.disposed).toBe(true);
    expect(openMaps()).toBe(before);
    // The program keeps the old counter. The next object creates a new one.
    runOneByOne(program, 1);
    using last = RingBuf.open(`${bpffs.path}/ring`, { event });
    expect(last.stats.lost).toBe(0);
  });

  bpfTest("do not share the counter with objects for another ring", () => {
    using one = newRing();
    using two = newRing();
    using program = losing("one", { one, two });
    runOneByOne(program, 4);
    expect([one.stats.lost, two.stats.lost]).toEqual([4, 0]);
  });
});

describe("disposal", () => {
  bpfTest("of a ring closes its counter", () => {
    const before = countResources();
    for (let round = 0; round < 100; round++) {
      using ring = newRing();
      void ring.lost;
    }
    expect(countResources()).toEqual(before);
    const ring = newRing();
    const { lost } = ring;
    ring[Symbol.dispose]();
    expect(lost.disposed).toBe(true);
    for (const use of [() => ring.lost, () => ring.stats, () => losing(ring)]) {
      expect(use).toThrow(DisposedError);
    }
    expect(() => losing("ring", { ring })).toThrow(DisposedError);
  });

  bpfTest("that throws keeps the counter open", async () => {
    const ring = newRing();
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { ring },
      code: [
        ...[asm.stdw(asm.fp, -8, 1), asm.mov(asm.r2, asm.fp), asm.add(asm.r2, -8)],
        asm.outputOrCount("ring", 8, { stack: -8 }),
        ...[asm.mov(asm.r0, 0), asm.exit()],
      ],
    });
    runOneByOne(program, 256);
    let memory: Uint8Array | undefined;
    ring.drainRaw((view) => {
      memory = new Uint8Array(view.buffer, view.byteOffset, 4096);
    });
    const path = join(tmpdir(), `bun-bpf-lost-${process.pid}`);
    const writing = writeFile(path, memory as Uint8Array);
    expect(() => ring[Symbol.dispose]()).toThrow("an asynchronous operation uses its memory");
    expect(ring.stats.lost).toBe(1);
    await writing;
    await rm(path);
    const { lost } = ring;
    ring[Symbol.dispose]();
    expect(lost.disposed).toBe(true);
  });

  bpfTest("of a ring does not stop programs from counting", () => {
    const ring = newRing();
    using program = losing("ring", { ring });
    using counter = ring.lost.dup();
    ring[Symbol.dispose]();
    runOneByOne(program, 2);
    expect(counter.sum(0)).toBe(2);
  });
});

describe("the name of the counter in a program", () => {
  bpfTest("is derived from the name of the ring, with any characters", () => {
    using ring = newRing();
    for (const name of ["a.b", "lost", "a.lost", "with spaces"]) {
      const before = ring.stats.lost;
      using program = losing(name, { [name]: ring });
      runOneByOne(program, 1);
      expect(ring.stats.lost).toBe(before + 1);
    }
  });

  bpfTest("is not needed for an open ring", () => {
    using ring = newRing();
    using program = losing(ring);
    runOneByOne(program, 6);
    expect(ring.stats.lost).toBe(6);
    // Another thread has only the descriptors of the ring and its counter.
    using other = losing({ fd: ring.fd, lost: { fd: ring.lost.fd } });
    runOneByOne(other, 6);
    expect(ring.stats.lost).toBe(12);
  });

  bpfTest("can be that of a map in the options of the program", () => {
    using ring = newRing();
    using own = new PerCpuArrayMap({ value: t.u64Number, length: 1 });
    const before = openMaps();
    using program = losing("ring", { ring, "ring.lost": own });
    runOneByOne(program, 7);
    expect([own.sum(0), ring.stats.lost]).toEqual([7, 0]);
    expect(openMaps()).toBe(before);
  });

  bpfTest("is rejected if the map cannot be a counter", () => {
    using events = new HashMap({ key: t.u32, value: t.u64, maxEntries: 1, name: "counts" });
    using ring = newRing();
    for (const map of [events, { fd: ring.fd }]) {
      expect(() => losing("events", { events: map })).toThrow(TypeError);
      expect(() => losing("events", { events: map })).toThrow(
        /^maps: the code counts lost events of "events", but that is an object.* does not count them: pass a RingBuf, or pass a PerCpuArrayMap of one t\.u64Number as "events\.lost"$/,
      );
      expect(() => losing(map)).toThrow(
        "reserveOrCount: ring: expected the name of a ring buffer or an open RingBuf, which counts its lost events, got an object",
      );
    }
  });

  bpfTest("is rejected if the ring is missing, or the counter is not a map", () => {
    using ring = newRing();
    expect(() => losing("rings", { ring })).toThrow('a map "rings" that was not passed: did you');
    const code = [asm.countLost("rings", { stack: -8 }), asm.exit()];
    const load = () => new Program({ section: "socket", license: "GPL", code, maps: { ring } });
    expect(load).toThrow('refers to a map "rings.lost" that was not passed');
    const wrong = { fd: ring.fd, lost: { fd: 99_999 } };
    expect(() => losing("ring", { ring: wrong })).toThrow(
      'maps: "ring.lost": expected a map, but its fd 99999 is not the file descriptor of a map',
    );
  });
});

bpfTest(
  "processes that share a pinned ring can share a counter that is pinned next to it",
  async () => {
    using bpffs = new DetachedMount("bpf");
    const folder = bpffs.path.replace("self", `${process.pid}`);
    using events = new RingBuf({ size: 4096, event, pin: `${folder}/events` });
    events.lost.pin(`${folder}/events_lost`);
    using program = losing("events", { events });
    runOneByOne(program, 2);
    const script = `
    import { asm, PerCpuArrayMap, Program, RingBuf, t } from "${packageRoot}/src/index.ts";
    using events = RingBuf.open("${folder}/events", { event: t.u64Number });
    using lost = PerCpuArrayMap.open("${folder}/events_lost", { value: t.u64Number });
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { events, "events.lost": lost },
      code: [asm.countLost("events", { stack: -8 }), asm.exit()],
    });
    program.testRun({ data: new Uint8Array(14), repeat: 40 });
    console.log(events.stats.lost, lost.sum(0));
  `;
    expect(await runBun(["-e", script])).toMatchObject({ exitCode: 0, stdout: "0 42\n" });
    expect(events.stats.lost).toBe(42);
  },
);
