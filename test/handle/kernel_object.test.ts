import { describe, expect, test } from "bun:test";
import { inspect } from "node:util";
import {
  ArrayMap,
  asm,
  BpfError,
  BpfFileSystem,
  BpfObject,
  eventLoop,
  HashMap,
  Link,
  MergedEvents,
  PerCpuHashMap,
  Program,
  RingBuf,
  t,
  UserRingBuf,
} from "../../src/index.ts";
import type { KernelObject } from "../../src/handle/kernel_object.ts";
import { mapTest } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";

const code = [asm.mov(asm.r0, 0), asm.exit()];

/** An object of each family of classes, and the properties that the console must show. */
const objects: [string, () => KernelObject, string[]][] = [
  ["HashMap", () => new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 }), ["maxEntries: 4"]],
  ["ArrayMap", () => new ArrayMap({ value: t.u64, length: 3, name: "a" }), ['name: "a"']],
  ["PerCpuHashMap", () => new PerCpuHashMap({ key: t.u8, value: t.u8, maxEntries: 1 }), []],
  ["RingBuf", () => new RingBuf({ size: 65536, event: t.u32 }), ["maxEntries: 65536"]],
  [
    "Program",
    () => new Program({ section: "socket", license: "GPL", name: "zero", code }),
    ['type: "socket_filter"', 'name: "zero"', 'section: "socket"'],
  ],
  [
    "Link",
    () => {
      using program = new Program({ section: "raw_tp/sched_switch", license: "GPL", code });
      return program.attach();
    },
    ['description: "raw_tp link to sched_switch"'],
  ],
  [
    "ObjectMap",
    () =>
      BpfObject.load({ variables: { ".data": { contents: new Uint8Array(8) } } }).maps.get(
        ".data",
      ) as KernelObject,
    ["description: "],
  ],
];

describe.each(objects)("the console shows the class %s", (name, make, properties) => {
  bpfTest("with its id and properties, without methods", () => {
    using object = make();
    const { id } = object;
    for (const text of [inspect(object), Bun.inspect(object)]) {
      // node:util and Bun quote strings differently.
      const shown = text.replaceAll("'", '"');
      expect(shown).toStartWith(`${name} {`);
      for (const property of [`id: ${id}`, ...properties]) expect(shown).toContain(property);
      expect(shown).not.toMatch(/\[Function|\[Getter|Descriptor|disposed/);
    }
  });

  bpfTest("after disposal", () => {
    const object = make();
    object[Symbol.dispose]();
    for (const text of [inspect(object), Bun.inspect(object)]) {
      expect(text).toStartWith(`${name} {`);
      expect(text).toContain("disposed: true");
    }
  });
});

const mapTypes = { key: t.u32, value: t.u32 };

/** All ways to open a pin, and to create one. */
const uses: Readonly<Record<string, (path: string) => unknown>> = {
  "the option pin": (path) => new HashMap({ ...mapTypes, maxEntries: 1, pin: path }),
  "HashMap.open()": (path) => HashMap.open(path, mapTypes),
  "Program.open()": (path) => Program.open(path),
  "Link.open()": (path) => Link.open(path),
  "map.pin()": (path) => {
    using map = new HashMap({ ...mapTypes, maxEntries: 1 });
    map.pin(path);
  },
  "program.pin()": (path) => {
    using program = new Program({ section: "socket", license: "GPL", code });
    program.pin(path);
  },
};

function errorOf(use: () => unknown): unknown {
  try {
    use();
  } catch (error) {
    return error;
  }
  return expect.unreachable("the call succeeded");
}

describe.each(Object.entries(uses))("%s", (name, use) => {
  bpfTest("names the dot in a path as the cause of EPERM", () => {
    using bpffs = new BpfFileSystem();
    for (const path of ["a.b", ".hidden", "a.", "a.b/c"]) {
      const error = errorOf(() => use(`${bpffs.path}/${path}`)) as BpfError;
      expect(error).toBeInstanceOf(BpfError);
      expect(error.code).toBe("EPERM");
      expect(error.hint).toMatch(/[Nn]ames (in it|on a BPF file system) cannot have dots$/);
    }
  });

  if (!name.endsWith(".open()")) return;

  bpfTest("throws a BpfError with the code ENOENT if nothing is pinned at the path", () => {
    using bpffs = new BpfFileSystem();
    const path = `${bpffs.path}/./absent`;
    const error = errorOf(() => use(path));
    expect(error).toBeInstanceOf(BpfError);
    expect(error).toMatchObject({
      code: "ENOENT",
      errno: 2,
      syscall: "bpf(BPF_OBJ_GET)",
      hint: `Nothing is pinned at ${path}`,
    });
    expect((error as BpfError).message).toMatch(/^cannot open the [ a-z]+ pinned at /);
  });
});

describe("the console shows", () => {
  bpfTest("consumers with their state in few characters, before and after their end", () => {
    const ring = new RingBuf({ size: 65536, event: t.u32, name: "ring" });
    const merged = new MergedEvents({ ring });
    const consumers = [
      ["Subscription", () => ring.subscribe(() => {})],
      ["EventIterator", () => ring.events()],
      ["EventIterator", () => ring.batches()],
      ["Subscription", () => merged.subscribe(() => {})],
    ] as const;
    for (const [name, begin] of consumers) {
      using ended = new DisposableStack();
      const consumer = begin();
      ended.defer(() =>
        "next" in consumer ? void consumer.return?.() : consumer[Symbol.dispose](),
      );
      for (const active of [true, false]) {
        for (const text of [inspect(consumer), Bun.inspect(consumer)]) {
          expect(text).toStartWith(`${name} {`);
          expect(text).toContain(`active: ${active}`);
          expect(text.length).toBeLessThan(600);
        }
        ended.dispose();
      }
    }
    expect(inspect(merged)).toStartWith("MergedEvents {");
    const last = ring.subscribe(() => {});
    ring[Symbol.dispose]();
    expect(inspect(last)).toContain("active: false");
  });

  test("the event loop", () => {
    expect(inspect(eventLoop)).toMatch(/^EventLoop \{\s+bridge: [\s\S]*refusals: \[/);
  });

  mapTest("user_ringbuf")("a record of a user ring buffer", () => {
    using ring = new UserRingBuf({ size: 65536, event: t.u32 });
    const record = ring.reserve(8);
    expect(inspect(record)).toBe("UserRecord { length: 8, isOpen: true }");
    record?.discard();
  });
});
