/** Tests of `bun-bpf map dump` with maps of all types. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { loadBtf } from "../../src/ffi/bpf_btf.ts";
import { createKernelMap } from "../../src/ffi/bpf_map.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import {
  ArrayMap,
  BpfError,
  createMap,
  formatKernelSymbol,
  HashMap,
  LpmTrie,
  PerCpuArrayMap,
  PerCpuHashMap,
  possibleCpus,
  ProgArray,
  Program,
  Queue,
  Stack,
  StackTraceMap,
  SockMap,
  DevMap,
  HashOfMaps,
  asm,
  t,
} from "../../src/index.ts";
import { BPF_F_USER_STACK } from "../../src/uapi/bpf.ts";
import { BTF_INT_BOOL, BTF_INT_SIGNED } from "../../src/uapi/btf.ts";
import { bpfMapTypes } from "../../src/uapi/enumerations.ts";
import { RawTypes } from "../btf/raw_types.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { bpftoolObstacle, runBpftool } from "../support/bpftool.ts";
import { repetitions } from "../support/effort.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { packageRoot } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { withRandom } from "../types/random.ts";
import { randomType } from "../types/random_type.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

/** An entry in the JSON output. */
interface Dumped {
  readonly key?: unknown;
  readonly value: unknown;
}

/** The JSON output. */
interface Document {
  readonly entries: readonly Dumped[];
  readonly notes: readonly string[];
}

const dumpWithNotes = (map: { readonly id: number }) => cliJson<Document>(["map", "dump", map.id]);

async function dump(map: { readonly id: number }): Promise<Dumped[]> {
  const { entries, notes } = await dumpWithNotes(map);
  expect(notes).toEqual([]);
  return [...entries];
}

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

  bpfTest("are printed with their fields by name, as lines and as JSON", async () => {
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

  bpfTest("of an empty map are an empty list", async () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 8 });
    expect(await cliText(["map", "dump", map.id])).toBe("");
    expect(await cliText(["map", "dump", map.id, "--json"])).toBe(
      '{\n  "entries": [],\n  "notes": []\n}\n',
    );
  });

  bpfTest("of a frozen and of a write-only map are printed", async () => {
    using frozen = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8 });
    frozen.set(1, 2).freeze();
    using written = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8, flags: ["wronly"] });
    written.set(3, 4);
    expect(() => written.get(3)).toThrow(BpfError);
    expect(await dump(frozen)).toEqual([{ key: 1, value: 2 }]);
    expect(await dump(written)).toEqual([{ key: 3, value: 4 }]);
  });

  bpfTest("are printed once each, also if there are many", async () => {
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

  bpfTest("are at most as many as --limit", async () => {
    using map = new ArrayMap({ value: t.u32, length: 5 });
    for (const [limit, count] of [
      [1, 1],
      [5, 5],
      [9, 5],
    ] as const) {
      const args = ["map", "dump", map.id, "--limit", limit];
      const notes = count < 5 ? [`there are more entries than --limit ${limit}`] : [];
      const { stdout, stderr } = await cli(args);
      expect(stdout.split("\n")).toHaveLength(count + 1);
      expect(stderr).toBe(notes.map((note) => `${note}\n`).join(""));
      const document = await cliJson<Document>(args);
      expect(document.entries).toHaveLength(count);
      expect(document.notes).toEqual(notes);
    }
  });

  bpfTest("of a map without types are printed as bytes", async () => {
    using map = bareMap();
    const { id } = map;
    expect(await cliText(["map", "dump", id])).toBe("01 00 00 00 ff => 02 00 00 ff\n");
    expect(await dump({ id })).toEqual([{ key: "01000000ff", value: "020000ff" }]);
  });
});

/** Creates a hash map with the given BTF, which the library's own map classes would derive from `t` types. */
function rawMap(
  keySize: number,
  valueSize: number,
  btf?: Parameters<typeof createKernelMap>[0]["btf"],
): HashMap<t.Type<Uint8Array>, t.Type<Uint8Array>> {
  const fd = createKernelMap(
    {
      type: bpfMapTypes.HASH,
      keySize,
      valueSize,
      maxEntries: 2,
      flags: 0,
      numaNode: 0,
      name: "",
      extra: 0,
      isPerCpu: false,
      needs: ["CAP_BPF"],
      btf,
    },
    "map of a test",
  );
  using descriptor = new Descriptor(fd, "map of a test");
  return HashMap.fromFd(descriptor.fd, { key: t.bytes(keySize), value: t.bytes(valueSize) });
}

function bareMap(): HashMap<t.Type<Uint8Array>, t.Type<Uint8Array>> {
  return rawMap(5, 4).set(Uint8Array.of(1, 0, 0, 0, 255), Uint8Array.of(2, 0, 0, 255));
}

/** Creates a map with one entry, whose value has a type that `add` builds of `int` (id 1) and `char` (id 2). */
function mapOf(valueSize: number, make: (types: RawTypes) => number) {
  const types = new RawTypes();
  const keyTypeId = types.int("int", 4, BTF_INT_SIGNED);
  types.int("char", 1, BTF_INT_SIGNED);
  const valueTypeId = make(types);
  using btf = loadBtf(types.encode(), "types of a test");
  const map = rawMap(4, valueSize, { fd: btf.fd, keyTypeId, valueTypeId });
  return map.set(new Uint8Array(4), new Uint8Array(valueSize).fill(0x41));
}

describe("malicious types in the kernel", () => {
  const [int, char] = [1, 2];
  const eight = (type: number, name: string) =>
    Array.from({ length: 8 }, (_, index) => ({ name: name && `${name}${index}`, type, bit: 0 }));
  const within = (types: RawTypes, name: string) => {
    let inner = types.struct("leaf", 64, [{ name: "x", type: int, bit: 0 }]);
    for (let level = 0; level < 8; level++) inner = types.union("", 64, eight(inner, name));
    return inner;
  };
  const wide = (types: RawTypes) =>
    types.array(
      types.union(
        "wide",
        1,
        Array.from({ length: 40_000 }, (_, index) => ({ name: `m${index}`, type: char, bit: 0 })),
      ),
      256,
    );
  const pointerToItself = (types: RawTypes) => {
    const id = types.ptr(types.length + 1);
    types.array(id, 4);
    return id;
  };
  const functionOfItself = (types: RawTypes) => {
    const id = types.ptr(types.length + 1);
    types.functionProto(id, [
      ["a", id],
      ["b", id],
      ["c", id],
    ]);
    return id;
  };
  const paddingWithin = (types: RawTypes) => {
    let inner = types.struct("", 4, [{ name: "", type: int, bit: 0, bits: 3 }]);
    for (let level = 0; level < 20; level++) inner = types.union("", 4, eight(inner, ""));
    return inner;
  };
  const functionsWithin = (types: RawTypes) => {
    let inner = types.ptr(types.functionProto(0));
    for (let level = 0; level < 20; level++) {
      const parameters = eight(inner, "p").map(({ name, type }) => [name, type] as const);
      inner = types.ptr(types.functionProto(0, parameters));
    }
    types.typedef("functions", inner);
    return inner;
  };
  const longChain = (types: RawTypes) => {
    let id = int;
    for (let count = 0; count < 40; count++) id = types.typedef(`t${count}`, id);
    return id;
  };
  const tooMany =
    /^values are shown as bytes: BTF type \d+ has more than \d+ values in \d+ bytes: /;

  testUnless(bpfObstacle).each([
    ["a pointer to an array of itself", 8, pointerToItself, "... (*)[4]", []],
    [
      "a function that takes and returns itself",
      8,
      functionOfItself,
      "... (*)(... a, ... b, ... c)",
      [],
    ],
    [
      "anonymous members within one another",
      64,
      (types: RawTypes) => within(types, ""),
      "union { union { union {",
      [tooMany],
    ],
    [
      "named members within one another",
      64,
      (types: RawTypes) => within(types, "m"),
      "union { union { union {",
      [tooMany],
    ],
    [
      "a union of 40,000 members in an array",
      256,
      wide,
      "union wide { char m0; char m1;",
      [tooMany],
    ],
    ["padding within one another", 4, paddingWithin, "union { union { union {", [tooMany]],
    ["functions that take one another", 8, functionsWithin, "... (*)(... (*p0)(", []],
    [
      "a long chain of names",
      4,
      longChain,
      "t39",
      [/^values are shown as bytes: BTF type 42 leads through a chain of more than 32 types$/],
    ],
  ] as const)(
    "take limited memory and hide no other map: %s",
    async (_, size, make, declared, notes) => {
      using harmless = mapOf(4, () => int);
      using map = mapOf(size, make);
      const usual = await measured(["map", "dump", harmless.id]);
      const shown = await measured(["map", "show", map.id]);
      const dumped = await measured(["map", "dump", map.id, "--json"]);
      const updated = await measured(["map", "update", map.id, 0, "{}"]);
      const listed = await measured(["btf", "dump", `map:${map.id}`]);
      expect(shown.stderr).toBe("");
      const [, valueType = ""] = /^value type: +(.*)$/m.exec(shown.stdout) ?? [];
      expect(valueType).toStartWith(declared);
      expect(shown.stdout.length).toBeLessThan(2 ** 17);
      const { entries, notes: actualNotes } = JSON.parse(dumped.stdout) as Document;
      expect(actualNotes).toEqual(notes.map((note) => expect.stringMatching(note) as never));
      const bytes = "41".repeat(size);
      expect(entries).toEqual([
        { key: 0, value: notes.length === 0 ? "0x4141414141414141" : bytes },
      ]);
      expect(updated.stderr).toMatch(/^bun-bpf: .+\n$/);
      expect(listed.stderr).toMatch(/^((?:bun-bpf: .+|this BTF has no types with names.*)\n)?$/);
      for (const { peak } of [shown, dumped, updated, listed]) {
        expect(peak - usual.peak).toBeLessThan(64 * 1024);
      }
    },
  );

  bpfTest("cannot add lines to errors", async () => {
    using map = mapOf(8, (types) =>
      types.array(types.int("x\nbun-bpf: all is well\u001b[31m", 4, BTF_INT_BOOL), 2),
    );
    const { stderr, exitCode } = await cli(["map", "update", map.id, 0, "[true]"]);
    expect(stderr).toMatch(/^bun-bpf: .*x\\x0abun-bpf: all is well\\x1b\[31m.*\n$/);
    expect(exitCode).toBe(2);
  });

  bpfTest("may have members of any name, also twice", async () => {
    for (const name of ["__proto__", "constructor", "toString", "then", "toJSON"]) {
      using map = mapOf(8, (types) =>
        types.struct("s", 8, [
          { name, type: int, bit: 0 },
          { name, type: char, bit: 32 },
        ]),
      );
      expect(await cliText(["map", "dump", map.id])).toBe(`0 => { ${name}: 65 }\n`);
      const { stdout } = await cli(["map", "dump", map.id, "--json"]);
      expect(stdout).toContain(`{"key":0,"value":{"${name}":65}}`);
    }
  });
});

/** Runs the command, and returns its peak memory in KiB. */
async function measured(args: readonly (string | number)[]) {
  const { stdout, stderr } = await cli(args, { preload: "./test/cli/children/peak_memory.ts" });
  const [, errors = "", peak] = /^([^]*)peak (\d+) kB\n$/.exec(stderr) ?? [];
  return { stdout, stderr: errors, peak: Number(peak) };
}

describe("values in network byte order", () => {
  const type = t.struct({ port: t.be16, mark: t.be32, id: t.be64, from: t.ipv4, to: t.ipv6 });
  const stored = { port: 443, mark: 7, id: 2n ** 60n, from: "10.0.0.1", to: "2001:db8::1" };

  bpfTest("are printed as numbers and addresses in the usual notation", async () => {
    using map = new HashMap({ key: t.ipv6, value: type, maxEntries: 2 });
    map.set("fe80::1", stored);
    expect(await cliText(["map", "dump", map.id])).toBe(
      '"fe80::1" => { port: 443, mark: 7, id: 1152921504606846976, from: "10.0.0.1", to: "2001:db8::1" }\n',
    );
    expect(await dump(map)).toEqual([
      { key: "fe80::1", value: { ...stored, id: "1152921504606846976" } },
    ]);
  });

  bpfTest("are printed in the same way in the keys of tries, and as whole values", async () => {
    using trie = new LpmTrie({ key: t.cidr4, value: t.be16, maxEntries: 8 });
    trie.set("10.1.0.0/16", 8080);
    expect(await dump(trie)).toEqual([{ key: { prefixlen: 16, addr: "10.1.0.0" }, value: 8080 }]);
    using wide = new LpmTrie({ key: t.cidr6, value: t.be64, maxEntries: 8 });
    wide.set("2001:db8::/32", 1n);
    expect(await dump(wide)).toEqual([{ key: { prefixlen: 32, addr: "2001:db8::" }, value: 1 }]);
  });
});

/** Records a stack of the kernel or of user space in a map. */
function recordStack(stacks: StackTraceMap<boolean>, flags: number): number {
  using program = new Program({
    section: "raw_tp/sys_enter",
    license: "GPL",
    name: "cli_recorder",
    maps: { stacks },
    code: [
      asm.ldMap(asm.r2, "stacks"),
      asm.ldxdw(asm.r3, asm.r1, 0),
      asm.call("get_stackid"),
      asm.exit(),
    ],
  });
  return (
    program.testRun({ ctx: new Uint8Array(new BigUint64Array([BigInt(flags)]).buffer) })
      .returnValue | 0
  );
}

describe("stacks", () => {
  bpfTest("of the kernel are printed with names of functions", async () => {
    using stacks = new StackTraceMap({ maxEntries: 16 });
    const id = recordStack(stacks, 0);
    expect(id).toBeGreaterThanOrEqual(0);
    const expected = (stacks.symbolize(id) ?? []).map(({ address, symbol }) => ({
      ip: `0x${address.toString(16)}`,
      ...(symbol === undefined ? {} : { symbol: formatKernelSymbol(symbol) }),
    }));
    expect(expected.some(({ symbol = "" }) => symbol.startsWith("bpf_prog_test_run"))).toBe(true);
    const [{ key, value } = { value: undefined }] = await dump(stacks);
    expect(key).toBe(id);
    // The program has been unloaded.
    expect((value as unknown[]).slice(1)).toEqual(expected.slice(1));
    const text = await cliText(["map", "dump", stacks.id]);
    expect(text).toMatch(
      /\{ ip: "0xf[0-9a-f]{15}", symbol: "bpf_prog_test_run\w*\+0x[0-9a-f]+" \}/,
    );
  });

  bpfTest("of user space are printed as addresses", async () => {
    using stacks = new StackTraceMap({ maxEntries: 16 });
    recordStack(stacks, BPF_F_USER_STACK);
    const [{ value } = { value: undefined }] = await dump(stacks);
    const [frame] = value as { readonly ip: string }[];
    expect(frame).toEqual({ ip: expect.stringMatching(/^0x[0-9a-f]+$/) as never });
  });

  testUnless(bpfObstacle ?? mountObstacle)(
    "are printed as addresses, with a note, if the kernel's symbols are hidden",
    async () => {
      using bpffs = new MountedBpffs();
      using stacks = new StackTraceMap({ maxEntries: 16 });
      recordStack(stacks, 0);
      stacks.pin(`${bpffs.path}/stacks`);
      const preload = join(packageRoot, "test/support/drop_capabilities.ts");
      const args = ["map", "dump", `${bpffs.path}/stacks`];
      const [text, json] = [
        await cli(args, { preload }),
        await cli([...args, "--json"], { preload }),
      ];
      stacks.unpin();
      // Some kernels do not let users without capabilities open the pin.
      if (text.stderr.includes("EPERM")) return;
      const { entries, notes } = JSON.parse(json.stdout) as Document;
      const [frame] = entries[0]?.value as object[];
      expect(frame).toMatchObject({ ip: expect.stringMatching(/^0xf[0-9a-f]{15}$/) as never });
      // If the sysctl kernel.perf_event_paranoid is low, all users may read the symbols.
      if ("symbol" in (frame as object)) return expect(notes).toEqual([]);
      expect(notes).toEqual([
        expect.stringMatching(/^stacks are shown without function names: /) as never,
      ]);
      expect(text.stderr).toBe(`${notes[0]}\n`);
    },
  );
});

describe("maps", () => {
  const cpus = possibleCpus().length;

  bpfTest("per CPU are printed with an array of values", async () => {
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

  bpfTest("that are arrays are printed with indexes", async () => {
    using array = new ArrayMap({ value: t.i64, length: 3 });
    array.set(1, -1n);
    expect(await dump(array)).toEqual([
      { key: 0, value: 0 },
      { key: 1, value: -1 },
      { key: 2, value: 0 },
    ]);
  });

  bpfTest("that are tries are printed in the kernel's order", async () => {
    using trie = new LpmTrie({ key: t.cidr4, value: t.u8, maxEntries: 8 });
    trie.set("10.0.0.0/8", 1).set("10.1.0.0/16", 2);
    expect(
      (await dump(trie)).map(({ key, value }) => [(key as { prefixlen: number }).prefixlen, value]),
    ).toEqual([
      [16, 2],
      [8, 1],
    ]);
  });

  bpfTest(
    "that are queues or stacks are printed with the next value, and keep all values",
    async () => {
      using queue = new Queue({ value: t.u32, maxEntries: 4 });
      using stack = new Stack({ value: t.u32, maxEntries: 4 });
      const note = "only the next value is shown, because reading the others would remove values";
      for (const map of [queue, stack]) {
        expect(await dumpWithNotes(map)).toEqual({ entries: [], notes: [note] });
        map.push(1).push(2);
      }
      expect(await dumpWithNotes(queue)).toEqual({
        entries: [{ value: "01000000" }],
        notes: [note],
      });
      expect(await cli(["map", "dump", stack.id])).toMatchObject({
        stdout: "02 00 00 00\n",
        stderr: `${note}\n`,
        exitCode: 0,
      });
      expect([...queue.takeAll(), ...stack.takeAll()]).toEqual([1, 2, 2, 1]);
    },
  );

  bpfTest("of maps, programs and interfaces are printed with ids", async () => {
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

  bpfTest("of sockets are printed with cookies", async () => {
    using map = new SockMap({ length: 2 });
    expect(await dump(map)).toEqual([]);
  });

  test.each([
    ["ringbuf", { type: "ringbuf", size: 65536, event: t.u32 }, "take them from their consumer"],
    [
      "user_ringbuf",
      { type: "user_ringbuf", size: 65536, event: t.u32 },
      "only programs can read its records",
    ],
    [
      "bloom_filter",
      { type: "bloom_filter", value: t.u32, maxEntries: 4 },
      "does not store its values",
    ],
    ["perf_event_array", { type: "perf_event_array" }, "does not report which perf events"],
    ["cgroup_array", { type: "cgroup_array", length: 2 }, "does not report which cgroups"],
    ["xskmap", { type: "xskmap", length: 2 }, "does not report which sockets"],
    ["arena", { type: "arena", pages: 1 }, "without entries"],
    ["sk_storage", { type: "sk_storage", value: t.u32 }, "takes a descriptor of a socket"],
    ["task_storage", { type: "task_storage", value: t.u32 }, "takes a descriptor of a thread"],
  ] as const)(
    "that cannot be read are an error with the reason: %s",
    async (type, options, reason) => {
      let map: ReturnType<typeof createMap>;
      try {
        map = createMap(options as never);
      } catch (error) {
        // Without privilege, or on a kernel without this map type.
        if (error instanceof BpfError) return;
        throw error;
      }
      using made = map as unknown as Disposable & { readonly id: number };
      const { stdout, stderr, exitCode } = await cli(["map", "dump", made.id]);
      expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
      expect(stderr).toMatch(
        new RegExp(`^bun-bpf: cannot read the entries of the ${type} map \\d+: `),
      );
      expect(stderr).toContain(reason);
    },
  );
});

testUnless(bpfObstacle ?? bpftoolObstacle)("map dump agrees with bpftool", async () => {
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

/** Returns the entries that bpftool decodes, in the form of the command's output. */
async function bpftoolDump(id: number): Promise<Dumped[]> {
  const { stdout } = await runBpftool("map", "dump", "id", `${id}`);
  // bpftool prints integers that JavaScript numbers cannot represent.
  const quoted = stdout.replace(/(?<=[:[,])-?\d{17,}/g, '"$&"');
  const entries = JSON.parse(quoted) as {
    readonly formatted: Dumped & { readonly values?: readonly { readonly value: unknown }[] };
  }[];
  return entries.map(({ formatted: { key, value, values } }) => ({
    key,
    value: values === undefined ? value : values.map((one) => one.value),
  }));
}

bpfTest("map dump decodes random types", async () => {
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
        // Keys cannot contain spin locks.
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
