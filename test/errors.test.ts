/** The rows of docs/errors.md that are quick to provoke: the kernel returns these codes for these operations. */
import { describe, expect } from "bun:test";
import { closeSync, openSync } from "node:fs";
import {
  ArrayMap,
  asm,
  BpfError,
  BpfFileSystem,
  CgroupArray,
  DevMap,
  HashMap,
  HashOfMaps,
  LpmTrie,
  ProgArray,
  Program,
  Queue,
  SkStorage,
  t,
  XskMap,
  type SectionName,
} from "../src/index.ts";
import { pageAt, sectionOf, tableRows } from "./support/markdown.ts";
import { bpfTest } from "./support/privilege.ts";

const page = pageAt("docs/errors.md");
const types = { key: t.u32, value: t.u32 };

/** An operation that fails: as the first cell of its row has it, the code, and the operation itself. */
type Case = readonly [operation: string, code: string, run: (objects: DisposableStack) => unknown];

function load(section: SectionName): Program {
  return new Program({ section, license: "GPL", code: [asm.mov(asm.r0, 0), asm.exit()] });
}

/** Pins a map in a private BPF file system, and returns the path. */
function pinned(objects: DisposableStack): string {
  const path = `${objects.use(new BpfFileSystem()).path}/map`;
  objects.use(new HashMap({ ...types, maxEntries: 1 })).pin(path);
  return path;
}

/** Opens a file that is nothing that a map takes. */
function openFile(objects: DisposableStack): number {
  return objects.adopt(openSync("/dev/null", "r"), closeSync);
}

const cases: readonly Case[] = [
  [
    "update",
    "E2BIG",
    (objects) =>
      objects
        .use(new HashMap({ ...types, maxEntries: 1 }))
        .set(1, 1)
        .set(2, 2),
  ],
  [
    "push",
    "E2BIG",
    (objects) =>
      objects
        .use(new Queue({ value: t.u32, maxEntries: 1 }))
        .push(1)
        .push(2),
  ],
  ["open a pin", "EACCES", () => HashMap.open("/etc/passwd", types)],
  [
    "attach to `tp`",
    "EACCES",
    (objects) => {
      const code = [asm.ldxdw(asm.r0, asm.r1, 2000), asm.mov(asm.r0, 0), asm.exit()];
      const section = "tp/sched/sched_process_exec";
      return objects.use(new Program({ section, license: "GPL", code })).attach();
    },
  ],
  [
    "create or open a mapped",
    "EACCES",
    (objects) =>
      objects.use(new ArrayMap({ value: t.u32, length: 1, mmap: true, flags: ["wronly"] })).view,
  ],
  [
    "update of a `ProgArray`",
    "EBADF",
    (objects) => objects.use(new ProgArray({ length: 1 })).set(0, 9999),
  ],
  [
    "update of a `CgroupArray`",
    "EBADF",
    (objects) => objects.use(new CgroupArray({ length: 1 })).set(0, "/tmp"),
  ],
  [
    "`freeze()`",
    "EBUSY",
    (objects) => {
      const map = objects.use(new ArrayMap({ value: t.u32, length: 1, mmap: true }));
      map.store(0, 1);
      return map.freeze();
    },
  ],
  [
    "`pin()`",
    "EEXIST",
    (objects) => {
      const path = pinned(objects);
      return objects.use(new HashMap({ ...types, maxEntries: 1 })).pin(path);
    },
  ],
  [
    "`testRun()`",
    "EINVAL",
    (objects) => objects.use(load("socket")).testRun({ data: new Uint8Array(13) }),
  ],
  [
    "`link.update()`",
    "EINVAL",
    (objects) => {
      const program = objects.use(load("raw_tp/sched_process_exec"));
      return objects.use(program.attach()).update(program);
    },
  ],
  [
    "update of a `HashOfMaps`",
    "EINVAL",
    (objects) => {
      const inner = { type: "hash", ...types, maxEntries: 4 } as const;
      const outer = objects.use(new HashOfMaps({ key: t.u32, inner, maxEntries: 2 }));
      const other = objects.use(new HashMap({ key: t.u64, value: t.u32, maxEntries: 4 }));
      return outer.set(1, other as never);
    },
  ],
  ["`DevMap`", "ENODEV", (objects) => objects.use(new DevMap({ length: 1 })).set(0, "absent0")],
  ["attach", "ENOENT", (objects) => objects.use(load("raw_tp/no_such_event")).attach()],
  ["`fromId()`", "ENOENT", () => HashMap.fromId(0xffff_fff0, types)],
  [
    "open a pin",
    "ENOENT",
    (objects) => HashMap.open(`${objects.use(new BpfFileSystem()).path}/absent`, types),
  ],
  [
    "update of an `LpmTrie`",
    "ENOSPC",
    (objects) => {
      const trie = objects.use(new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 1 }));
      return trie.set("10.0.0.0/8", 1).set("192.0.2.0/24", 2);
    },
  ],
  [
    "`XskMap`",
    "ENOTSOCK",
    (objects) => objects.use(new XskMap({ length: 1 })).set(0, openFile(objects)),
  ],
  [
    "`SkStorage`",
    "ENOTSOCK",
    (objects) => objects.use(new SkStorage({ value: t.u32 })).get(openFile(objects)),
  ],
  [
    "`link.detach()`",
    "EOPNOTSUPP",
    (objects) => objects.use(objects.use(load("raw_tp/sched_process_exec")).attach()).detach(),
  ],
  [
    "`get()`",
    "EPERM",
    (objects) => objects.use(HashMap.open(pinned(objects), { ...types, flags: ["wronly"] })).get(1),
  ],
  [
    "update",
    "EPERM",
    (objects) =>
      objects.use(HashMap.open(pinned(objects), { ...types, flags: ["rdonly"] })).set(1, 1),
  ],
  [
    "`pin()`",
    "EPERM",
    (objects) => objects.use(new HashMap({ ...types, maxEntries: 1 })).pin("/tmp/not-bpffs"),
  ],
  [
    "`pin()`, open a pin",
    "EPERM",
    (objects) => HashMap.open(`${objects.use(new BpfFileSystem()).path}/a.map`, types),
  ],
];

describe("docs/errors.md is right about", () => {
  for (const [operation, code, run] of cases) {
    bpfTest(`${code} of: ${operation}`, () => {
      const rows = tableRows(sectionOf(page, code)).map(([first = ""]) => first);
      expect(rows.filter((row) => row.includes(operation))).not.toEqual([]);
      using objects = new DisposableStack();
      let error: unknown;
      try {
        run(objects);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(BpfError);
      expect((error as BpfError).code).toBe(code);
    });
  }
});
