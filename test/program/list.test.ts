import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ArrayMap, asm, enableStats, HashMap, listPrograms, Program, t } from "../../src/index.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";

function newProgram(options: Partial<ConstructorParameters<typeof Program>[0]> = {}): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
    ...options,
  });
}

describe("info()", () => {
  bpfTest("has the time, the user and the maps of the program", () => {
    using first = new HashMap({ key: t.u32, value: t.u64, maxEntries: 3 });
    using second = new ArrayMap({ value: t.u32, length: 2 });
    const before = Date.now();
    using program = newProgram({
      name: "described",
      maps: { first, second },
      code: [
        asm.ldMap(asm.r1, "first"),
        asm.ldMap(asm.r1, "second"),
        asm.mov(asm.r0, 0),
        asm.exit(),
      ],
    });
    const after = Date.now();
    const info = program.info();
    expect(info).toMatchObject({
      type: "socket_filter",
      name: "described",
      gpl: true,
      uid: process.getuid?.() ?? 0,
      btfId: 0,
      runCount: 0,
      runTime: 0,
    });
    expect(info.mapIds?.toSorted()).toEqual([first.id, second.id].toSorted());
    // The kernel reads its clocks one after the other.
    expect(info.loadedAt?.getTime()).toBeGreaterThanOrEqual(before - 5);
    expect(info.loadedAt?.getTime()).toBeLessThanOrEqual(after + 5);
    expect(info.memory).toBeGreaterThanOrEqual(info.translatedSize);
    // Reported since kernel 5.16.
    expect(info.verifiedInstructions ?? 4).toBe(4);
    expect(program.info()).toEqual(info);
  });

  bpfTest("has the type, and if the license is compatible with the GPL", () => {
    using other = newProgram({ license: "Proprietary" });
    using xdp = newProgram({ section: "xdp" });
    using tp = newProgram({ section: "tp_btf/sched_switch" });
    using classifier = newProgram({ section: "tc" });
    expect(other.info().gpl).toBe(false);
    expect([xdp, tp, classifier].map((program) => program.info().type)).toEqual([
      "xdp",
      "tracing",
      "sched_cls",
    ]);
    expect(xdp.info().mapIds).toEqual([]);
    expect(xdp.info().target).toBeUndefined();
    // Reported since kernel 6.0.
    const { target } = tp.info();
    if (target !== undefined) expect(target.typeId).toBeGreaterThan(0);
  });
});

describe("enableStats()", () => {
  const packet = new Uint8Array(14);
  const sysctl = readFileSync("/proc/sys/kernel/bpf_stats_enabled", "utf8").trim();
  const countingTest = testUnless(
    bpfObstacle ?? (sysctl === "0" ? undefined : "run statistics are always enabled here"),
  );

  countingTest("counts runs and their duration until it is disposed of", () => {
    using program = newProgram();
    program.testRun({ data: packet });
    expect(program.info()).toMatchObject({ runCount: 0, runTime: 0 });
    {
      using _stats = enableStats();
      program.testRun({ data: packet, repeat: 100 });
    }
    const { runCount, runTime } = program.info();
    // A signal repeats runs of a call.
    expect(runCount).toBeGreaterThanOrEqual(100);
    expect(runTime).toBeGreaterThan(0);
    program.testRun({ data: packet, repeat: 100 });
    expect(program.info()).toMatchObject({ runCount, runTime });
  });

  countingTest("counts as long as one of several is open", () => {
    using program = newProgram();
    const first = enableStats();
    const second = enableStats();
    first[Symbol.dispose]();
    program.testRun({ data: packet });
    expect(program.info().runCount).toBe(1);
    second[Symbol.dispose]();
    program.testRun({ data: packet });
    expect(program.info().runCount).toBe(1);
  });

  bpfTest("is refused without CAP_SYS_ADMIN, with a hint", async () => {
    const { stdout, stderr } = await runBun([
      "--preload",
      "./test/support/drop_capabilities.ts",
      join(import.meta.dir, "children/refused_stats.ts"),
    ]);
    expect(stderr).toBe("");
    const { code, message } = JSON.parse(stdout);
    expect(code).toBe("EPERM");
    expect(message).toMatch(
      /^cannot enable the run statistics of programs: bpf\(BPF_ENABLE_STATS\): EPERM .*CAP_SYS_ADMIN/,
    );
  });
});

describe("bind()", () => {
  bpfTest("lists a map that the code does not refer to, and keeps it in the kernel", () => {
    using program = newProgram();
    const map = new ArrayMap({ value: t.u32, length: 1 });
    const { id } = map;
    expect(program.bind(map)).toBe(program);
    // The second time changes nothing.
    program.bind(map.fd);
    expect(program.info().mapIds).toEqual([id]);
    map[Symbol.dispose]();
    using again = ArrayMap.fromId(id, { value: t.u32 });
    expect(again.get(0)).toBe(0);
  });

  bpfTest("refuses what is not a map", () => {
    using program = newProgram();
    using other = newProgram();
    expect(() => program.bind(other)).toThrow(
      "cannot bind a map to the socket program: bpf(BPF_PROG_BIND_MAP): EINVAL (invalid argument). The descriptor is not that of a map",
    );
    expect(() => program.bind(999)).toThrow(/EBADF .*\. The descriptor is not open$/);
    expect(() => program.bind("map" as never)).toThrow(
      'expected a map: its descriptor, or an object with that as fd, got "map"',
    );
    expect(() => program.bind(-1)).toThrow(RangeError);
    expect(program.info().mapIds).toEqual([]);
  });
});

describe("listPrograms()", () => {
  bpfTest("yields each loaded program once, in the order of ids", () => {
    using first = newProgram({ name: "listed" });
    const second = newProgram();
    const { id } = second.info();
    const list = [...listPrograms()];
    const ids = list.map((info) => info.id);
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
    expect(list.find((info) => info.id === first.info().id)).toEqual(first.info());
    expect(ids).toContain(id);
    second[Symbol.dispose]();
    expect([...listPrograms()].some((info) => info.id === id)).toBe(false);
  });

  bpfTest("continues when programs are unloaded meanwhile, and leaves no descriptor open", () => {
    const before = countResources();
    const programs = Array.from({ length: 30 }, () => newProgram());
    const ids = programs.map((program) => program.info().id);
    const seen = new Set<number>();
    for (const { id } of listPrograms()) {
      seen.add(id);
      programs[ids.indexOf(id) + 1]?.[Symbol.dispose]();
    }
    expect(ids.filter((id) => seen.has(id)).length).toBeGreaterThan(0);
    for (const program of programs) program[Symbol.dispose]();
    for (const _info of listPrograms()) break;
    expect(countResources()).toEqual(before);
  });
});

testUnless(bpfObstacle ?? bpftoolObstacle)("info() agrees with bpftool", async () => {
  using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 3 });
  using program = newProgram({
    name: "described",
    maps: { map },
    code: [asm.ldMap(asm.r1, "map"), asm.mov(asm.r0, 0), asm.exit()],
  });
  const info = program.info();
  const shown = await bpftoolJson<Record<string, unknown>>("prog", "show", "id", `${info.id}`);
  expect(shown).toMatchObject({
    id: info.id,
    type: "socket_filter",
    name: "described",
    tag: info.tag,
    gpl_compatible: true,
    uid: info.uid,
    bytes_xlated: info.translatedSize,
    bytes_memlock: info.memory,
    map_ids: [map.id],
  });
  // bpftool prints whole seconds.
  const loadedAt = (info.loadedAt as Date).getTime() / 1000;
  expect(Math.abs((shown["loaded_at"] as number) - loadedAt)).toBeLessThanOrEqual(2);
});
