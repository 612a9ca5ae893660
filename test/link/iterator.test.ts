import { describe, expect } from "bun:test";
import { mkdirSync, readFileSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { mountCgroups } from "../../src/features/attach_probes.ts";
import {
  type AttachOptions,
  ArrayMap,
  asm,
  BpfError,
  Btf,
  DisposedError,
  features,
  HashMap,
  IterLink,
  type IteratorOptions,
  type LiveMap,
  Program,
  RingBuf,
  t,
} from "../../src/index.ts";
import { otherSyscalls } from "../../src/ffi/libc_others.ts";
import { SYS_pidfd_open } from "../../src/uapi/system.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { wayTest } from "./way.ts";

const { r0, r1, r2, r3, r6, r7, r8, r10 } = asm;
const nothing = [asm.mov(r0, 0), asm.exit()];
const iterTest = testWith(features.attachKinds.get("iter"));
/** Tests of parameters that came with Linux 6.1. */
const parameterTest = isKernelSince("6.1")
  ? iterTest
  : testUnless(bpfObstacle ?? "it needs kernel 6.1");

const license = "GPL";

/** Loads a program that returns a constant for each object. */
function constant(target: string, result = 0): Program<`iter/${string}`> {
  const code = [asm.mov(r0, result), asm.exit()];
  return new Program({ section: `iter/${target}`, license, code });
}

/** Returns the obstacle to iterators of a kind. This kernel may refuse to load programs for some. */
function obstacleTo(target: string): string | undefined {
  try {
    using _program = constant(target);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Loads an iterator over maps that writes the value of `source` for each of the maps with these ids, and counts its runs for them.
 */
function valueWriter(
  ids: readonly number[],
  source: LiveMap,
  length: number,
  runs: LiveMap = source,
): Program<"iter/bpf_map"> {
  const stackKey = [asm.stw(r10, -4, 0), asm.mov(r2, r10), asm.add(r2, -4)];
  return new Program({
    section: "iter/bpf_map",
    license,
    maps: { source, runs },
    code: [
      asm.ldxdw(r6, r1, 8),
      asm.ldxdw(r7, r1, 0),
      asm.jeq(r6, 0, "out"),
      asm.ldxw(r8, r6, Btf.kernel().field("bpf_map", "id").offset),
      ...ids.map((id) => asm.jeq(r8, id, "match")),
      asm.ja("out"),
      asm.label("match"),
      ...(runs === source
        ? []
        : [
            ...stackKey,
            asm.ldMap(r1, "runs"),
            asm.call("map_lookup_elem"),
            asm.jeq(r0, 0, "out"),
            asm.mov(r1, 1),
            asm.atomicAdd(r0, 0, r1),
          ]),
      ...stackKey,
      asm.ldMap(r1, "source"),
      asm.call("map_lookup_elem"),
      asm.jeq(r0, 0, "out"),
      asm.ldxdw(r1, r7, 0),
      asm.mov(r2, r0),
      asm.mov(r3, length),
      asm.call("seq_write"),
      asm.label("out"),
      ...nothing,
    ],
  });
}

/** An iterator that writes a text once for each of some maps, which this object owns. */
class Writer implements Disposable {
  readonly #owned = new DisposableStack();
  readonly link: IterLink;
  readonly program: Program<"iter/bpf_map">;

  constructor(bytes: Uint8Array | string, objects = 1) {
    const value = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    const source = this.#own(new ArrayMap({ value: t.bytes(value.length), length: 1 }));
    source.set(0, value);
    const others = Array.from({ length: objects - 1 }, () =>
      this.#own(new ArrayMap({ value: t.u32, length: 1 })),
    );
    const ids = [source, ...others].map(({ id }) => id);
    this.program = this.#own(valueWriter(ids, source, value.length));
    this.link = this.#own(this.program.attach());
  }

  #own<T extends Disposable>(value: T): T {
    return this.#owned.use(value);
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

wayTest("iter", async () => {
  using runs = new ArrayMap({ value: t.u64Number, length: 1 });
  using source = new ArrayMap({ value: t.bytes(4), length: 1 });
  source.set(0, Buffer.from("map\n"));
  using program = valueWriter([source.id], source, 4, runs);
  const link = program.attach();
  expect(link).toBeInstanceOf(IterLink);
  expect(`${link}`).toBe("iter link to bpf_map");
  expect(runs.at(0)).toBe(0);
  expect([...link.lines()]).toEqual(["map"]);
  expect(runs.at(0)).toBe(1);
  expect(await link.text()).toBe("map\n");
  expect(runs.at(0)).toBe(2);
  const lines = link.lines();
  link[Symbol.dispose]();
  expect(() => link.lines()).toThrow(DisposedError);
  expect(() => [...lines]).toThrow(DisposedError);
  expect(runs.at(0)).toBe(2);
});

describe("the output of an iterator", () => {
  iterTest("is iterated again and again, by for and for await", async () => {
    using writer = new Writer("one\ntwo\nthree");
    const { link } = writer;
    const lines = link.lines();
    const expected = ["one", "two", "three"];
    for (let round = 0; round < 3; round++) {
      expect([...lines]).toEqual(expected);
      expect(await Array.fromAsync(lines)).toEqual(expected);
    }
    expect(await link.text()).toBe("one\ntwo\nthree");
    expect([...link.chunks()].map((chunk) => Buffer.from(chunk).toString())).toEqual([
      "one\ntwo\nthree",
    ]);
    expect(link.info()).toMatchObject({ type: "iter", programId: writer.program.id });
  });

  iterTest("has lines and characters that cross reads", async () => {
    // Each object ends in the middle of a line, and of a character.
    const text = Buffer.from(`${"x".repeat(9000)}é\n\n${"é".repeat(10000)}`);
    const objects = 5;
    const part = text.subarray(1, -1);
    using writer = new Writer(part, objects);
    const whole = Buffer.concat(Array.from({ length: objects }, () => part)).toString();
    const lines = [...writer.link.lines()];
    expect(lines).toEqual(whole.split("\n"));
    expect(await Array.fromAsync(writer.link.lines())).toEqual(lines);
    expect(await writer.link.text()).toBe(whole);
    const chunks = [...writer.link.chunks()];
    expect(chunks.length).toBeGreaterThan(1);
    expect(Buffer.concat(chunks).toString()).toBe(whole);
  });

  iterTest("has records that cross reads", async () => {
    const record = t.struct({ low: t.u32, high: t.u16 });
    const count = 3500;
    const bytes = new Uint8Array(count * record.size);
    const view = new DataView(bytes.buffer);
    const values = Array.from({ length: count }, (_, low) => ({ low, high: low & 0xff }));
    for (const [index, value] of values.entries()) record.write(view, index * record.size, value);
    using writer = new Writer(bytes, 3);
    const expected = [...values, ...values, ...values];
    expect([...writer.link.records(record)]).toEqual(expected);
    expect(await Array.fromAsync(writer.link.records(record))).toEqual(expected);
    // 28000 bytes are 2153 records of 13 bytes and 11 bytes, so each object ends within a record.
    const odd = t.bytes(13);
    const all = Buffer.concat([bytes, bytes, bytes]);
    const records: Uint8Array[] = [];
    const readAll = () => {
      for (const one of writer.link.records(odd)) records.push(one);
    };
    expect(readAll).toThrow(
      `the program of the iter link to bpf_map wrote ${all.length % 13} bytes after its last record: each record must have the size of bytes(13), 13 bytes`,
    );
    expect(() => [...writer.link.records(odd)]).toThrow(RangeError);
    expect(Buffer.concat(records)).toEqual(all.subarray(0, all.length - (all.length % 13)));
    expect(() => writer.link.records({} as never)).toThrow(TypeError);
  });

  iterTest("is read in chunks, between which the event loop runs", async () => {
    using writer = new Writer(new Uint8Array(30_000), 4);
    let turns = 0;
    let isCounting = true;
    const count = () => {
      if (!isCounting) return;
      turns++;
      setImmediate(count);
    };
    setImmediate(count);
    const lengths = [];
    for await (const chunk of writer.link.chunks()) lengths.push([chunk.length, turns]);
    isCounting = false;
    expect(lengths.map(([length]) => length)).toEqual(Array.from({ length: 4 }, () => 30_000));
    const seen = lengths.map(([, turn]) => turn);
    expect(new Set(seen).size).toBe(4);
  });

  iterTest("leaves nothing open after the end, break or an error", async () => {
    using writer = new Writer("a\nb\nc\n", 2);
    const before = openDescriptors();
    for (const line of writer.link.lines()) if (line === "b") break;
    for await (const line of writer.link.lines()) if (line === "b") break;
    expect([...writer.link.lines()]).toHaveLength(6);
    expect(() => {
      for (const line of writer.link.lines()) throw new Error(line);
    }).toThrow("a");
    const failing = t.custom<number>({
      size: 1,
      read: () => {
        throw new Error("not today");
      },
      write: () => {},
    });
    expect(() => [...writer.link.records(failing)]).toThrow("not today");
    expect(openDescriptors()).toBe(before);
  });

  iterTest("of two iterations at the same time is separate", async () => {
    using writer = new Writer("a\nb\n");
    const lines = writer.link.lines();
    const [first, second] = [lines[Symbol.iterator](), lines[Symbol.asyncIterator]()];
    expect(first.next()).toEqual({ done: false, value: "a" });
    expect(await second.next()).toEqual({ done: false, value: "a" });
    expect(first.next()).toEqual({ done: false, value: "b" });
    expect(first.next().done).toBe(true);
    expect(await second.next()).toEqual({ done: false, value: "b" });
    await second.return(undefined);
  });

  iterTest("that is too long for one object ends with an error", async () => {
    using writer = new Writer(new Uint8Array(33_000));
    const error = /cannot read the iterator of the iter link to bpf_map: read: E2BIG.*8 pages/;
    expect(() => [...writer.link.chunks()]).toThrow(error);
    await expect(writer.link.text()).rejects.toThrow(error);
  });

  iterTest("of a program that returns 1 forever ends with an error", async () => {
    // The kernel calls the program only if there is a map.
    using _map = new ArrayMap({ value: t.u32, length: 1 });
    using program = constant("bpf_map", 1);
    using link = program.attach();
    const error = /read: EAGAIN.*has returned 1 for the same object 1000 times/;
    expect(() => [...link.lines()]).toThrow(error);
    await expect(link.text()).rejects.toThrow(error);
  });
});

describe("a pinned iterator", () => {
  iterTest("is read as a file, and opened by its path, id and descriptor", async () => {
    using bpffs = new DetachedMount("bpf");
    const path = `${bpffs.path}/words`;
    using writer = new Writer("some words\n");
    writer.link.pin(path);
    expect(readFileSync(path, "utf8")).toBe("some words\n");
    const cat = Bun.spawn(["cat", path.replace("self", `${process.pid}`)]);
    expect(await cat.stdout.text()).toBe("some words\n");
    for (const open of [
      () => IterLink.open(path),
      () => IterLink.fromId(writer.link.id),
      () => IterLink.fromFd(writer.link.fd),
    ]) {
      using link = open();
      expect(link).toBeInstanceOf(IterLink);
      expect(link.id).toBe(writer.link.id);
      expect([...link.lines()]).toEqual(["some words"]);
      expect(Bun.inspect(link)).toContain("IterLink");
    }
    writer.link.unpin();
  });

  iterTest("is not another link or object", () => {
    using program = new Program({
      section: "raw_tp/sched_process_exec",
      license,
      code: nothing,
    });
    using link = program.attach();
    expect(() => IterLink.fromFd(link.fd)).toThrow(
      /^cannot open the link of descriptor \d+: it is a link of type raw_tracepoint, not iter$/,
    );
    expect(() => IterLink.fromFd(program.fd)).toThrow(TypeError);
  });
});

describe("update() of an iterator", () => {
  iterTest("changes the program of later iterations", () => {
    using writer = new Writer("old\n");
    using other = new Writer("new\n");
    const { link } = writer;
    expect([...link.lines()]).toEqual(["old"]);
    link.update(other.program, { expected: writer.program });
    expect([...link.lines()]).toEqual(["new"]);
    expect(() => link.update(writer.program, { expected: writer.program })).toThrow(/EPERM/);
  });

  iterTest("rejects the program of another iterator", () => {
    using writer = new Writer("old\n");
    using task = constant("task");
    expect(() => writer.link.update(task)).toThrow(
      /EINVAL.*was loaded for another iterator, or is none/,
    );
  });
});

/** Loads an iterator over threads that writes their ids. */
function threadWriter(): Program<"iter/task"> {
  return new Program({
    section: "iter/task",
    license,
    code: [
      asm.ldxdw(r6, r1, 8),
      asm.ldxdw(r7, r1, 0),
      asm.jeq(r6, 0, "out"),
      asm.ldxw(r8, r6, Btf.kernel().field("task_struct", "pid").offset),
      asm.stxw(r10, -4, r8),
      asm.ldxdw(r1, r7, 0),
      asm.mov(r2, r10),
      asm.add(r2, -4),
      asm.mov(r3, 4),
      asm.call("seq_write"),
      asm.label("out"),
      ...nothing,
    ],
  });
}

describe("an iterator over threads", () => {
  iterTest("visits all of them", () => {
    using program = threadWriter();
    using link = program.attach();
    const threads = new Set(link.records(t.u32));
    expect(threads.size).toBeGreaterThan(1);
    expect([...link.records(t.u32)]).toContain(process.pid);
  });

  parameterTest("is limited to a process or a thread", async () => {
    using program = threadWriter();
    await using child = Bun.spawn(["sleep", "60"], { stdout: "ignore" });
    const threadsWith = (options: AttachOptions<"iter/task">) => {
      using link = program.attach(options);
      return [...link.records(t.u32)];
    };
    const own = 2;
    expect(threadsWith({ pid: process.pid })).toEqual(expect.arrayContaining([process.pid]));
    expect(threadsWith({ pid: process.pid }).length).toBeGreaterThanOrEqual(own);
    expect(threadsWith({ pid: child.pid })).toEqual([child.pid]);
    expect(threadsWith({ tid: child.pid })).toEqual([child.pid]);
    expect(threadsWith({ tid: 0x3fffff })).toEqual([]);
    const number = SYS_pidfd_open[process.arch as "x64" | "arm64"];
    const pidfd = otherSyscalls.pidfd_open(number, child.pid, 0);
    using descriptor = new Descriptor(pidfd, "pidfd of a test");
    expect(threadsWith({ pidfd })).toEqual([child.pid]);
    expect(threadsWith({ pidfd: descriptor })).toEqual([child.pid]);
    using link = program.attach({ pid: child.pid });
    expect(link.info()).toMatchObject({ type: "iter", target: "task", pid: child.pid });
    expect(() => program.attach({ pidfd: program })).toThrow(
      /EBADF.*pidfd: the descriptor \d+ is not one of a process/,
    );
  });

  testUnless(bpfObstacle ?? (isKernelSince("6.1") ? "this kernel has the parameters" : undefined))(
    "cannot be limited before Linux 6.1",
    () => {
      using program = threadWriter();
      for (const options of [{ pid: process.pid }, { tid: process.pid }, { pidfd: program }]) {
        expect(() => program.attach(options)).toThrow(BpfError);
        expect(() => program.attach(options)).toThrow(
          "limiting an iterator to a process or a thread needs Linux 6.1",
        );
      }
    },
  );
});

describe("an iterator over cgroups", () => {
  /** Loads an iterator over cgroups that writes their ids, which are inode numbers. */
  const cgroupWriter = () =>
    new Program({
      section: "iter/cgroup",
      license,
      code: [
        asm.ldxdw(r6, r1, 8),
        asm.ldxdw(r7, r1, 0),
        asm.jeq(r6, 0, "out"),
        asm.ldxdw(r8, r6, Btf.kernel().field("cgroup", "kn").offset),
        asm.ldxdw(r8, r8, Btf.kernel().field("kernfs_node", "id").offset),
        asm.stxdw(r10, -8, r8),
        asm.ldxdw(r1, r7, 0),
        asm.mov(r2, r10),
        asm.add(r2, -8),
        asm.mov(r3, 8),
        asm.call("seq_write"),
        asm.label("out"),
        ...nothing,
      ],
    });

  parameterTest("visits them in the order of the option", () => {
    using mount = mountCgroups();
    const top = `${mount.path}/bun-bpf-iter-${process.pid}`;
    const folders = [top, `${top}/a`, `${top}/a/b`];
    for (const folder of folders) mkdirSync(folder);
    try {
      const [outer, middle, inner] = folders.map((folder) => BigInt(statSync(folder).ino));
      using program = cgroupWriter();
      const idsWith = (options: IteratorOptions) => {
        using link = program.attach(options);
        return [...link.records(t.u64)];
      };
      expect(idsWith({ cgroup: top })).toEqual([outer!, middle!, inner!]);
      expect(idsWith({ cgroup: top, order: "descendants_post" })).toEqual([
        inner!,
        middle!,
        outer!,
      ]);
      expect(idsWith({ cgroup: `${top}/a`, order: "self_only" })).toEqual([middle!]);
      const up = idsWith({ cgroup: `${top}/a/b`, order: "ancestors_up" });
      expect(up.slice(0, 3)).toEqual([inner!, middle!, outer!]);
      if (isKernelSince("7.0")) {
        expect(idsWith({ cgroup: top, order: "children" })).toEqual([middle!]);
      }
      expect(idsWith({ order: "descendants_pre" })).toContain(inner!);
      using link = program.attach({ cgroup: top, order: "self_only" });
      expect(link.info()).toMatchObject({
        type: "iter",
        target: "cgroup",
        cgroupId: outer!,
        cgroupOrder: "self_only",
      });
    } finally {
      for (const folder of folders.toReversed()) rmdirSync(folder);
    }
  });

  parameterTest("rejects what is not a cgroup, or not an order", () => {
    using program = cgroupWriter();
    expect(() => program.attach({ cgroup: "/" })).toThrow(
      /EBADF.*cgroup: \/ is not the directory of a cgroup/,
    );
    expect(() => program.attach({ cgroup: program })).toThrow(
      /EBADF.*the descriptor is not the directory of a cgroup/,
    );
    expect(() => program.attach({ cgroup: "/no/cgroup" })).toThrow(
      /^cannot open the cgroup \/no\/cgroup: open: ENOENT.*There is no such cgroup/,
    );
    for (const cgroup of ["", "/sys/fs/cgroup\0x"]) {
      expect(() => program.attach({ cgroup })).toThrow(
        /^attach: cgroup: expected the path of a cgroup, got /,
      );
    }
    expect(() => program.attach({ order: "self" as never })).toThrow(
      /^order: unknown "self": known names: "self_only", "descendants_pre"/,
    );
    expect(() => program.attach({ order: "order_unspec" as never })).toThrow(TypeError);
    if (isKernelSince("7.0")) return;
    expect(() => program.attach({ order: "children" })).toThrow(/EINVAL.*needs Linux 7\.0/);
  });
});

describe("an iterator over the elements of a map", () => {
  const elementTest = testUnless(bpfObstacle ?? obstacleTo("bpf_map_elem"));
  const element = t.struct({ key: t.u32, value: t.u32 });

  /** Loads an iterator that writes the keys and values. struct bpf_iter__bpf_map_elem has meta, map, key and value. */
  const elementWriter = () =>
    new Program({
      section: "iter/bpf_map_elem",
      license,
      code: [
        asm.ldxdw(r6, r1, 16),
        asm.ldxdw(r7, r1, 24),
        asm.ldxdw(r8, r1, 0),
        asm.jeq(r6, 0, "out"),
        asm.jeq(r7, 0, "out"),
        asm.ldxw(r0, r6, 0),
        asm.stxw(r10, -8, r0),
        asm.ldxw(r0, r7, 0),
        asm.stxw(r10, -4, r0),
        asm.ldxdw(r1, r8, 0),
        asm.mov(r2, r10),
        asm.add(r2, -8),
        asm.mov(r3, 8),
        asm.call("seq_write"),
        asm.label("out"),
        ...nothing,
      ],
    });

  elementTest("writes them", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 100 });
    const pairs = Array.from({ length: 50 }, (_, key) => [key, key * key] as const);
    map.setMany(pairs);
    using program = elementWriter();
    using link = program.attach({ map });
    const read = () =>
      [...link.records(element)]
        .map(({ key, value }) => [key, value])
        .sort((a, b) => a[0]! - b[0]!);
    expect(read()).toEqual(pairs.map((pair) => [...pair]));
    map.delete(0);
    expect(read()).toEqual(pairs.slice(1).map((pair) => [...pair]));
    expect(link.info()).toMatchObject({ type: "iter", target: "bpf_map_elem", mapId: map.id });
  });

  elementTest("needs a map with such elements", () => {
    using program = elementWriter();
    using ring = new RingBuf({ event: t.u32, size: 4096 });
    using small = new HashMap({ key: t.u16, value: t.u32, maxEntries: 1 });
    // @ts-expect-error: the map is missing
    expect(() => program.attach()).toThrow(
      'attach: the iterator bpf_map_elem needs the option "map", the map whose elements it visits',
    );
    expect(() => program.attach({ map: ring })).toThrow(
      /EINVAL.*map: the iterator bpf_map_elem visits the elements of hash tables and arrays/,
    );
    expect(() => program.attach({ map: program })).toThrow(
      /map: the descriptor \d+ is not one of a map/,
    );
    expect(() => program.attach({ map: 0x7fff_ffff })).toThrow(/EBADF.*is not open/);
    expect(() => program.attach({ map: "counts" as never })).toThrow(TypeError);
    expect(() => program.attach({ map: small })).toThrow(
      /EACCES.*beyond the keys or the values of this map/,
    );
  });
});

describe("an iterator rejects", () => {
  iterTest("options of other iterators", () => {
    using program = constant("bpf_map");
    for (const [options, message] of [
      [{ pid: 1 }, 'takes no option "pid", which is for task, task_file, task_vma'],
      [{ map: 5 }, 'takes no option "map", which is for bpf_map_elem, bpf_sk_storage_map, sockmap'],
      [{ order: "self_only" }, 'takes no option "order", which is for cgroup'],
      [{ oder: "self_only" }, 'unknown option "oder": did you mean "order"?'],
    ] as const) {
      expect(() => program.attach(options as IteratorOptions)).toThrow(message);
    }
  });

  iterTest("several processes, and wrong ids", () => {
    using program = constant("task");
    expect(() => program.attach({ pid: 1, tid: 1 })).toThrow(
      'attach: "pid" and "tid" cannot be combined: pass one of them',
    );
    for (const id of [0, -1, 1.5, 2 ** 31]) {
      expect(() => program.attach({ pid: id })).toThrow(RangeError);
      expect(() => program.attach({ tid: id })).toThrow(/^tid: expected an integer/);
    }
  });

  iterTest("sleepable programs where the kernel runs none", () => {
    using program = new Program({ section: "iter.s/bpf_map", license, code: nothing });
    try {
      using _link = program.attach();
      // Older kernels do not check this.
      expect(isKernelSince("6.1")).toBe(false);
    } catch (error) {
      expect(`${error}`).toMatch(
        /EINVAL.*sleepable programs .* only for some iterators.*section "iter\/bpf_map"/,
      );
    }
  });

  iterTest("unknown names", () => {
    expect(() => constant("tsk")).toThrow(/ENOENT.*tsk.*did you mean "task"\?/);
    expect(() => constant("not a name")).toThrow(TypeError);
  });
});
