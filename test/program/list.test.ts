import { describe, expect } from "bun:test";
import { ArrayMap, asm, HashMap, listPrograms, Program, t } from "../../src/index.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
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
