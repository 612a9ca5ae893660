/** Tests of opening existing programs and links by path, id and descriptor. */
import { describe, expect } from "bun:test";
import { closeSync, openSync } from "node:fs";
import {
  asm,
  BpfError,
  BpfFileSystem,
  DisposedError,
  features,
  HashMap,
  Link,
  Program,
  t,
  type SectionName,
} from "../../src/index.ts";
import { execCounter, countChildExecs } from "../link/exec_counter.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources, settledResources } from "../support/resources.ts";

const { r0, r1, r2, mov, add, exit, ldxw, stxw } = asm;
const packet = new Uint8Array(14);

function seven(section: SectionName = "socket"): Program {
  return new Program({ section, name: "seven", license: "GPL", code: [mov(r0, 7), exit()] });
}

/** The ways to open an existing program. */
const ways = {
  open: (_program: Program, path: string, options?: object) => Program.open(path, options),
  fromId: (program: Program, _path: string, options?: object) =>
    Program.fromId(program.id, options),
  fromFd: (program: Program, _path: string, options?: object) =>
    Program.fromFd(program.fd, options),
} as const;

for (const [name, open] of Object.entries(ways)) {
  describe(`Program.${name}`, () => {
    bpfTest("opens the same program, which stays open when the first object is disposed of", () => {
      using bpffs = new BpfFileSystem();
      const path = `${bpffs.path}/seven`;
      const program = seven().pin(path);
      using again = open(program, path);
      expect(again).toBeInstanceOf(Program);
      expect([again.id, again.type, again.name]).toEqual([program.id, "socket_filter", "seven"]);
      expect([again.section, again.log]).toEqual([undefined, ""]);
      expect(`${again}`).toBe('socket_filter program "seven"');
      expect(again.info()).toEqual(program.info());
      program[Symbol.dispose]();
      expect(again.testRun({ data: packet }).returnValue).toBe(7);
    });

    bpfTest("without a section opens a program that cannot be attached", () => {
      using bpffs = new BpfFileSystem();
      const path = `${bpffs.path}/seven`;
      using program = seven("raw_tp/sched_process_exec").pin(path);
      using again = open(program, path);
      expect(() => again.attach()).toThrow(TypeError);
      expect(() => again.attach()).toThrow(
        /was opened without its section: pass the section that it was loaded with, as in Program.open\(path, \{ section: /,
      );
    });

    bpfTest("with a section opens a program that can be attached", async () => {
      using bpffs = new BpfFileSystem();
      const path = `${bpffs.path}/counter`;
      using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
      for (const section of [
        "tp_btf/sched_process_exec",
        "raw_tp/sched_process_exec",
        "tp/sched/sched_process_exec",
      ] as const) {
        using program = execCounter(section, counts).pin(path);
        using again = open(program, path, { section });
        expect([again.section, `${again}`]).toEqual([section, `${section} program "exec_counter"`]);
        {
          using _link = again.attach();
          expect(await countChildExecs(counts)).toBe(1);
        }
        expect(await countChildExecs(counts)).toBe(0);
        program.unpin();
      }
    });

    bpfTest("rejects the section of another program type, and unknown options", () => {
      using bpffs = new BpfFileSystem();
      const path = `${bpffs.path}/seven`;
      using program = seven().pin(path);
      const before = countResources();
      expect(() => open(program, path, { section: "xdp" })).toThrow(TypeError);
      expect(() => open(program, path, { section: "xdp" })).toThrow(
        /does not fit: its type is socket_filter, and programs of section "xdp" are xdp$/,
      );
      expect(() => open(program, path, { section: "sockt" })).toThrow('did you mean "socket"?');
      expect(() => open(program, path, { sektion: "socket" })).toThrow('did you mean "section"?');
      expect(() => open(program, path, { flags: ["rdonly"] })).toThrow(
        'Program: unknown option "flags": known names: "section"',
      );
      expect(countResources()).toEqual(before);
    });
  });
}

describe("an opened program", () => {
  bpfTest(
    "is rejected with the section of another tracepoint, if the kernel reports the target",
    () => {
      using program = seven("tp_btf/sched_process_exec");
      const open = () => Program.fromFd(program.fd, { section: "tp_btf/sched_switch" });
      if (program.info().target === undefined) open()[Symbol.dispose]();
      else
        expect(open).toThrow(
          /was loaded for another target than that of section "tp_btf\/sched_switch"$/,
        );
    },
  );

  bpfTest("is unpinned without a path, if it was opened by one", () => {
    using bpffs = new BpfFileSystem();
    const path = `${bpffs.path}/seven`;
    using _program = seven().pin(path);
    using again = Program.open(path);
    again.unpin();
    expect(() => Program.open(path)).toThrow(`Nothing is pinned at ${path}`);
    using other = Program.fromFd(again.fd);
    expect(() => other.unpin()).toThrow("was not pinned by this object");
  });

  bpfTest("returns its context from test runs", () => {
    /** The offset of `mark` in `struct __sk_buff`. */
    const mark = 8;
    const code = [ldxw(r2, r1, mark), add(r2, 1), stxw(r1, mark, r2), mov(r0, 1), exit()];
    const ctx = new Uint8Array(new Uint32Array([0, 0, 41]).buffer);
    using loaded = new Program({ section: "cgroup/skb", license: "GPL", code });
    using program = Program.fromFd(loaded.fd);
    const result = program.testRun({ data: packet, ctx });
    expect(result.returnValue).toBe(1);
    expect(new DataView(result.ctx.buffer).getUint32(mark, true)).toBe(42);
  });

  bpfTest("cannot be used after disposal", () => {
    using program = seven();
    const again = Program.fromId(program.id);
    again[Symbol.dispose]();
    again[Symbol.dispose]();
    expect(again.disposed).toBe(true);
    expect(() => again.testRun({ data: packet })).toThrow(DisposedError);
    expect(() => again.attach()).toThrow(DisposedError);
    expect(() => again.fd).toThrow(DisposedError);
    expect(program.testRun({ data: packet }).returnValue).toBe(7);
  });
});

describe("opening something that is not a program", () => {
  bpfTest("fails by path with an error that names the object", () => {
    using bpffs = new BpfFileSystem();
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    map.pin(`${bpffs.path}/map`);
    const before = countResources();
    expect(() => Program.open(`${bpffs.path}/map`)).toThrow(TypeError);
    expect(() => Program.open(`${bpffs.path}/map`)).toThrow("is a BPF map, not a program");
    expect(() => Link.open(`${bpffs.path}/map`)).toThrow("is a BPF map, not a link");
    expect(() => Program.fromFd(map.fd)).toThrow("is a BPF map, not a program");
    expect(() => Link.fromFd(map.fd)).toThrow("is a BPF map, not a link");
    expect(() => Program.open(`${bpffs.path}/none`)).toThrow("Nothing is pinned at");
    expect(() => Link.open(`${bpffs.path}/none`)).toThrow("Nothing is pinned at");
    expect(() => Program.open("/tmp")).toThrow(BpfError);
    expect(() => Program.open("")).toThrow("path: expected a path on a BPF file system");
    expect(countResources()).toEqual(before);
  });

  bpfTest("fails by an unused or invalid id", () => {
    for (const from of [(id: number) => Program.fromId(id), (id: number) => Link.fromId(id)]) {
      expect(() => from(2 ** 31 - 7)).toThrow(/: ENOENT .*has this id/);
      for (const id of [0, -1, 1.5, "1" as unknown as number]) {
        expect(() => from(id)).toThrow(RangeError);
      }
    }
  });

  bpfTest("fails by a descriptor of something else", () => {
    expect(() => Program.fromFd(99_999)).toThrow(BpfError);
    expect(() => Program.fromFd(-1)).toThrow(RangeError);
    expect(() => Link.fromFd(-1)).toThrow(RangeError);
    const file = openSync("/dev/null", "r");
    try {
      const before = countResources();
      for (const from of [(fd: number) => Program.fromFd(fd), (fd: number) => Link.fromFd(fd)]) {
        expect(() => from(file)).toThrow(/EINVAL .*The descriptor is not that of a BPF object/);
      }
      expect(countResources()).toEqual(before);
    } finally {
      closeSync(file);
    }
  });
});

const linkSections = {
  "raw_tp/sched_process_exec": "raw_tracepoint link to sched_process_exec",
  "tp/sched/sched_process_exec": /^perf_event link(?: to tracepoint sched_process_exec)?$/,
} as const;

for (const [section, shown] of Object.entries(linkSections)) {
  const test = section.startsWith("tp/")
    ? testWith(features.attachKinds.get("perf_event_link"))
    : bpfTest;
  test(`a link of ${section} is opened by path, id and descriptor, and keeps the program attached`, async () => {
    using bpffs = new BpfFileSystem();
    const path = `${bpffs.path}/link`;
    using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
    using program = execCounter(section as SectionName, counts);
    const link = program.attach().pin(path);
    const { id } = link;
    const before = countResources();
    for (const open of [() => Link.open(path), () => Link.fromId(id), () => Link.fromFd(link.fd)]) {
      using again = open();
      expect(again).toBeInstanceOf(Link);
      expect([again.id, again.info()]).toEqual([id, link.info()]);
      expect(`${again}`).toMatch(shown);
      using twice = Link.fromFd(again.fd);
      again[Symbol.dispose]();
      expect(() => again.info()).toThrow(DisposedError);
      expect(twice.info().programId).toBe(program.id);
    }
    expect(countResources()).toEqual(before);
    using last = Link.open(path);
    link[Symbol.dispose]();
    last.unpin();
    expect(await countChildExecs(counts)).toBe(1);
    last[Symbol.dispose]();
    // The kernel detaches the program a grace period after the last pin and descriptor are gone.
    await Bun.sleep(100);
    expect(await countChildExecs(counts)).toBe(0);
  });
}

bpfTest("opening a link rejects all options", () => {
  using bpffs = new BpfFileSystem();
  const path = `${bpffs.path}/link`;
  using program = seven("raw_tp/sched_process_exec");
  using link = program.attach().pin(path);
  const before = countResources();
  const options = { flags: ["rdonly"] } as never;
  for (const open of [
    () => Link.open(path, options),
    () => Link.fromId(link.id, options),
    () => Link.fromFd(link.fd, options),
  ]) {
    expect(open).toThrow(TypeError);
    expect(open).toThrow(/^Link: unknown option "flags": links are opened without options$/);
  }
  expect(countResources()).toEqual(before);
  Link.open(path, {})[Symbol.dispose]();
});

bpfTest("opening programs and links repeatedly leaves nothing open", async () => {
  using program = seven();
  using raw = seven("raw_tp/sched_process_exec");
  using link = raw.attach();
  const before = await settledResources();
  for (let round = 0; round < 200; round++) {
    using _program = Program.fromId(program.id);
    using _link = Link.fromId(link.id);
  }
  expect(countResources()).toEqual(before);
});
