/** `bun-bpf map dump`: what is in maps of all kinds that can be read, and why others cannot. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { createKernelMap } from "../../src/ffi/bpf_map.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import {
  ArrayMap,
  BpfError,
  createMap,
  HashMap,
  LpmTrie,
  PerCpuArrayMap,
  PerCpuHashMap,
  possibleCpus,
  ProgArray,
  Program,
  Queue,
  Stack,
  SockMap,
  DevMap,
  HashOfMaps,
  asm,
  t,
} from "../../src/index.ts";
import { bpfMapTypes } from "../../src/uapi/enumerations.ts";
import { bpftoolObstacle, runBpftool } from "../support/bpftool.ts";
import { repetitions } from "../support/effort.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { withRandom } from "../types/random.ts";
import { randomType } from "../types/random_type.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

/** An entry as the command prints it. */
interface Dumped {
  readonly key?: unknown;
  readonly value: unknown;
}

const dump = (map: { readonly id: number }) => cliJson<Dumped[]>(["map", "dump", map.id]);

describe("entries", () => {
  const value = t.struct({
    byte: t.u8,
    number: t.i32,
    small: t.u64,
    large: t.u64,
    low: t.i64,
    comm: t.cstring(8),
    list: t.array(t.u16, 2),
    inner: t.struct({ ok: t.bool }),
  });
  const stored = {
    byte: 255,
    number: -7,
    small: 5n,
    large: 2n ** 64n - 1n,
    low: -(2n ** 63n),
    comm: 'a"b\\',
    list: [1, 2],
    inner: { ok: true },
  };

  bpfTest("have their fields by name, as lines and as JSON", async () => {
    const key = t.struct({ id: t.u32 });
    using map = new HashMap({ key, value, maxEntries: 8, name: "cli_dumped" });
    map.set({ id: 9 }, stored);
    expect(await cliText(["map", "dump", "cli_dumped"])).toBe(
      `{ id: 9 } => { byte: 255, number: -7, small: 5, large: 18446744073709551615, low: -9223372036854775808, comm: "a\\"b\\\\", list: [1, 2], inner: { ok: true } }\n`,
    );
    expect(await dump(map)).toEqual([
      {
        key: { id: 9 },
        value: {
          ...stored,
          small: 5,
          large: "18446744073709551615",
          low: "-9223372036854775808",
        },
      },
    ]);
  });

  bpfTest("of an empty map are none", async () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 8 });
    expect(await cliText(["map", "dump", map.id])).toBe("");
    expect(await cliText(["map", "dump", map.id, "--json"])).toBe("[]\n");
  });

  bpfTest("of a frozen map, and of one that is only written here, are read as any", async () => {
    using frozen = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8 });
    frozen.set(1, 2).freeze();
    using written = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8, flags: ["wronly"] });
    written.set(3, 4);
    expect(() => written.get(3)).toThrow(BpfError);
    expect(await dump(frozen)).toEqual([{ key: 1, value: 2 }]);
    expect(await dump(written)).toEqual([{ key: 3, value: 4 }]);
  });

  bpfTest("are all there, once, however many", async () => {
    const entryCount = repetitions(20_000, 2000);
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: entryCount });
    map.setMany(
      Array.from({ length: entryCount }, (_, index) => [index, BigInt(index) ** 4n] as const),
    );
    const entries = await dump(map);
    expect(entries).toHaveLength(entryCount);
    const sorted = entries.toSorted((a, b) => (a.key as number) - (b.key as number));
    expect(sorted[1999]).toEqual({ key: 1999, value: 1999 ** 4 });
    const last = entryCount - 1;
    expect(BigInt(sorted[last]?.value as string)).toBe(BigInt(last) ** 4n);
    expect(sorted.map(({ key }) => key)).toEqual(Array.from({ length: entryCount }, (_, i) => i));
  });

  bpfTest("are no more than the limit", async () => {
    using map = new ArrayMap({ value: t.u32, length: 5 });
    for (const [limit, count] of [
      [1, 1],
      [5, 5],
      [9, 5],
    ] as const) {
      const args = ["map", "dump", map.id, "--limit", limit];
      expect((await cliText(args)).split("\n")).toHaveLength(count + 1);
      expect(await cliJson<Dumped[]>(args)).toHaveLength(count);
    }
  });

  bpfTest("of a map without types are bytes", async () => {
    using map = bareMap();
    const { id } = map;
    expect(await cliText(["map", "dump", id])).toBe("01 00 00 00 ff => 02 00 00 ff\n");
    expect(await dump({ id })).toEqual([{ key: "01000000ff", value: "020000ff" }]);
  });
});

/** A map that the kernel was told no types of, which the library does for all that it makes. */
function bareMap(): HashMap<t.Type<Uint8Array>, t.Type<Uint8Array>> {
  const fd = createKernelMap(
    {
      type: bpfMapTypes.HASH,
      keySize: 5,
      valueSize: 4,
      maxEntries: 2,
      flags: 0,
      numaNode: 0,
      name: "",
      extra: 0,
      isPerCpu: false,
      needs: ["CAP_BPF"],
    },
    "map of a test",
  );
  using descriptor = new Descriptor(fd, "map of a test");
  const map = HashMap.fromFd(descriptor.fd, { key: t.bytes(5), value: t.bytes(4) });
  return map.set(Uint8Array.of(1, 0, 0, 0, 255), Uint8Array.of(2, 0, 0, 255));
}

describe("kinds of maps", () => {
  const cpus = possibleCpus().length;

  bpfTest("with a value for each CPU have an array of them", async () => {
    using hash = new PerCpuHashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
    const values = Array.from({ length: cpus }, (_, index) => index + 10);
    hash.set(7, values);
    expect(await dump(hash)).toEqual([{ key: 7, value: values }]);
    using array = new PerCpuArrayMap({ value: t.struct({ n: t.u16 }), length: 2 });
    array.set(
      1,
      values.map((n) => ({ n })),
    );
    expect(await dump(array)).toEqual([
      { key: 0, value: values.map(() => ({ n: 0 })) },
      { key: 1, value: values.map((n) => ({ n })) },
    ]);
  });

  bpfTest("that are arrays have indexes for keys", async () => {
    using array = new ArrayMap({ value: t.i64, length: 3 });
    array.set(1, -1n);
    expect(await dump(array)).toEqual([
      { key: 0, value: 0 },
      { key: 1, value: -1 },
      { key: 2, value: 0 },
    ]);
  });

  bpfTest("of networks have them in the kernel's order", async () => {
    using trie = new LpmTrie({ key: t.cidr4, value: t.u8, maxEntries: 8 });
    trie.set("10.0.0.0/8", 1).set("10.1.0.0/16", 2);
    expect(
      (await dump(trie)).map(({ key, value }) => [(key as { prefixlen: number }).prefixlen, value]),
    ).toEqual([
      [16, 2],
      [8, 1],
    ]);
  });

  bpfTest("that are queues and stacks show the next value, and keep all", async () => {
    using queue = new Queue({ value: t.u32, maxEntries: 4 });
    using stack = new Stack({ value: t.u32, maxEntries: 4 });
    for (const map of [queue, stack]) {
      expect(await dump(map)).toEqual([]);
      map.push(1).push(2);
    }
    expect((await dump(queue))[0]).toEqual({ value: "01000000" });
    expect(await cliText(["map", "dump", stack.id])).toBe("02 00 00 00\n");
    expect([...queue.takeAll(), ...stack.takeAll()]).toEqual([1, 2, 2, 1]);
  });

  bpfTest("of maps, programs and interfaces have ids", async () => {
    using inner = new HashMap({ key: t.u32, value: t.u32, maxEntries: 2 });
    using maps = new HashOfMaps({
      key: t.u32,
      inner: { type: "hash", key: t.u32, value: t.u32, maxEntries: 2 },
      maxEntries: 2,
    });
    maps.set(5, inner);
    const [{ key, value } = { value: 0 }] = await dump(maps);
    expect([key, value]).toEqual(["05000000", { mapId: inner.id }]);
    using program = new Program({
      section: "socket",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    using programs = new ProgArray({ length: 4 });
    programs.set(2, program);
    expect(await dump(programs)).toEqual([{ key: 2, value: { programId: program.info().id } }]);
    using devices = new DevMap({ length: 4 });
    devices.set(3, "lo");
    expect(await dump(devices)).toEqual([{ key: 3, value: { ifindex: 1 } }]);
  });

  bpfTest("of sockets have their cookies", async () => {
    using map = new SockMap({ length: 2 });
    expect(await dump(map)).toEqual([]);
  });

  test.each([
    ["ringbuf", { type: "ringbuf", size: 65536, event: t.u32 }, "take them from their consumer"],
    [
      "user_ringbuf",
      { type: "user_ringbuf", size: 65536, event: t.u32 },
      "are for programs to read",
    ],
    ["bloom_filter", { type: "bloom_filter", value: t.u32, maxEntries: 4 }, "not which ones were"],
    ["perf_event_array", { type: "perf_event_array" }, "does not say which perf events"],
    ["cgroup_array", { type: "cgroup_array", length: 2 }, "does not say which cgroups"],
    ["xskmap", { type: "xskmap", length: 2 }, "does not say which sockets"],
    ["arena", { type: "arena", pages: 1 }, "without entries"],
    ["sk_storage", { type: "sk_storage", value: t.u32 }, "only by a descriptor of a socket"],
    ["task_storage", { type: "task_storage", value: t.u32 }, "only by a descriptor of a thread"],
  ] as const)("that cannot be read say why: %s", async (type, options, reason) => {
    let map: ReturnType<typeof createMap>;
    try {
      map = createMap(options as never);
    } catch (error) {
      // Without privilege, or on a kernel without this kind.
      if (error instanceof BpfError) return;
      throw error;
    }
    using made = map as unknown as Disposable & { readonly id: number };
    const { stdout, stderr, exitCode } = await cli(["map", "dump", made.id]);
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
    expect(stderr).toMatch(
      new RegExp(`^bun-bpf: the entries of the ${type} map \\d+ cannot be read: `),
    );
    expect(stderr).toContain(reason);
  });
});

testUnless(bpfObstacle ?? bpftoolObstacle)("bpftool decodes the same", async () => {
  const value = t.struct({
    a: t.u8,
    b: t.i16,
    c: t.u32,
    d: t.i64,
    e: t.u64,
    f: t.array(t.u16, 3),
    g: t.cstring(8),
    ok: t.bool,
    n: t.struct({ x: t.i32, list: t.array(t.struct({ y: t.i8 }), 2) }),
  });
  using map = new HashMap({ key: t.struct({ id: t.u32, z: t.u16 }), value, maxEntries: 10 });
  map.set(
    { id: 1, z: 2 },
    {
      a: 255,
      b: -5,
      c: 4e9,
      d: -(2n ** 62n),
      e: 2n ** 64n - 1n,
      f: [1, 2, 3],
      g: "hey",
      ok: true,
      n: { x: -1, list: [{ y: -128 }, { y: 127 }] },
    },
  );
  using perCpu = new PerCpuArrayMap({ value: t.i64, length: 2 });
  perCpu.set(
    1,
    possibleCpus().map((cpu) => -1n - BigInt(cpu)),
  );
  expect(await dump(map)).toEqual(await bpftoolDump(map.id));
  expect(await dump(perCpu)).toEqual(await bpftoolDump(perCpu.id));
});

/** What bpftool prints of the entries by their types, in the form that the command has. */
async function bpftoolDump(id: number): Promise<Dumped[]> {
  const { stdout } = await runBpftool("map", "dump", "id", `${id}`);
  // Its numbers are longer than JavaScript's.
  const quoted = stdout.replace(/(?<=[:[,])-?\d{17,}/g, '"$&"');
  const entries = JSON.parse(quoted) as {
    readonly formatted: Dumped & { readonly values?: readonly { readonly value: unknown }[] };
  }[];
  return entries.map(({ formatted: { key, value, values } }) => ({
    key,
    value: values === undefined ? value : values.map((one) => one.value),
  }));
}

bpfTest("random types are dumped without an error", async () => {
  const maps: Disposable[] = [];
  try {
    await withRandomMaps(maps);
  } finally {
    for (const map of maps) map[Symbol.dispose]();
  }
});

async function withRandomMaps(maps: Disposable[]): Promise<void> {
  const expected: { readonly id: number }[] = [];
  withRandom((random) => {
    for (let i = 0; i < 10; i++) {
      const [key, value] = [randomType(random, 1), randomType(random, 3)];
      if (key.type.size > 512 || value.type.size > 4096) continue;
      let map: HashMap<t.Type<unknown>, t.Type<unknown>>;
      try {
        map = new HashMap({ key: key.type, value: value.type, maxEntries: 4 });
      } catch (error) {
        // Spin locks cannot be in keys.
        if (error instanceof TypeError || error instanceof BpfError) continue;
        throw error;
      }
      maps.push(map);
      map.set(key.value(), value.value());
      expected.push(map);
    }
  });
  expect(expected.length).toBeGreaterThan(0);
  for (const map of expected) expect(await dump(map)).toHaveLength(1);
}
