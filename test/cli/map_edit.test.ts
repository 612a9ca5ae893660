/** Tests of `bun-bpf map lookup`, `update`, `delete` and `peek`. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  ArrayMap,
  asm,
  HashMap,
  HashOfMaps,
  PerCpuArrayMap,
  possibleCpus,
  ProgArray,
  Program,
  Queue,
  RingBuf,
  Stack,
  t,
  TaskStorage,
} from "../../src/index.ts";
import { createKernelMap } from "../../src/ffi/bpf_map.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { MapEditor } from "../../src/inspect/map_editor.ts";
import { type MapType, mapTypes } from "../../src/maps/map_types.ts";
import { bpfMapTypes } from "../../src/uapi/enumerations.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { mapTest } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const done = { stdout: "", stderr: "", exitCode: 0 };

describe("entries of maps with types", () => {
  const key = t.struct({ uid: t.u32, name: t.cstring(8) });
  const value = t.struct({ count: t.u64, ok: t.bool, list: t.array(t.i16, 2) });
  const keyText = '{ "uid": 5, "name": "sh" }';

  bpfTest("are stored, looked up and deleted", async () => {
    using map = new HashMap({ key, value, maxEntries: 4 });
    // A JSON number beyond 2^53 is parsed from its digits.
    const entry = '{ "count": 18446744073709551615, "ok": true, "list": [-1, 2] }';
    expect(await cli(["map", "update", map.id, keyText, entry])).toMatchObject(done);
    const stored = { count: 2n ** 64n - 1n, ok: true, list: [-1, 2] };
    expect([...map]).toEqual([[{ uid: 5, name: "sh" }, stored]]);
    expect(await cliText(["map", "lookup", map.id, keyText])).toBe(
      "{ count: 18446744073709551615, ok: true, list: [-1, 2] }\n",
    );
    expect(await cliJson<unknown>(["map", "lookup", map.id, keyText])).toEqual({
      key: { uid: 5, name: "sh" },
      value: { count: "18446744073709551615", ok: true, list: [-1, 2] },
    });
    expect(await cli(["map", "delete", map.id, keyText])).toMatchObject(done);
    expect([...map]).toEqual([]);
  });

  bpfTest("are accepted as `map dump --json` prints them", async () => {
    using map = new HashMap({ key, value, maxEntries: 4 });
    const entries: [t.Infer<typeof key>, t.Infer<typeof value>][] = [
      [
        { uid: 1, name: "a b" },
        { count: 2n ** 63n, ok: false, list: [0, -32768] },
      ],
      [
        { uid: 2, name: "é" },
        { count: 7n, ok: true, list: [1, 2] },
      ],
    ];
    map.setMany(entries);
    type Dumped = { entries: readonly { key: object; value: object }[] };
    const dumped = await cliJson<Dumped>(["map", "dump", map.id]);
    map.clear();
    for (const entry of dumped.entries) {
      const texts = [entry.key, entry.value].map((part) => JSON.stringify(part));
      expect(await cli(["map", "update", map.id, ...texts])).toMatchObject(done);
    }
    expect([...map].toSorted(([a], [b]) => a.uid - b.uid)).toEqual(entries);
  });

  bpfTest("are accepted as numbers and addresses for types in network byte order", async () => {
    const key = t.struct({ address: t.ipv4, port: t.be16, protocol: t.u16 });
    using map = new HashMap({ key, value: t.ipv6, maxEntries: 4 });
    const text = '{ "address": "192.0.2.1", "port": 443, "protocol": 6 }';
    expect(await cli(["map", "update", map.id, text, "2001:db8::1"])).toMatchObject(done);
    const stored = { address: "192.0.2.1", port: 443, protocol: 6 };
    expect([...map]).toEqual([[stored, "2001:db8::1"]]);
    expect(await cliText(["map", "lookup", map.id, text])).toBe('"2001:db8::1"\n');
  });

  bpfTest("may be text without quotes", async () => {
    using map = new HashMap({ key: t.cstring(16), value: t.u32, maxEntries: 8 });
    for (const [text, name] of [
      ["eth0", "eth0"],
      ["1e3", "1e3"],
      ["007", "007"],
      ['"7"', "7"],
      ["true", "true"],
      ["a b", "a b"],
    ] as const) {
      expect(await cli(["map", "update", map.id, text, "0x10"])).toMatchObject(done);
      expect(map.take(name)).toBe(16);
    }
  });

  bpfTest("may be hexadecimal bytes", async () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
    expect(await cli(["map", "update", map.id, "hex:01000000", "hex: 02 00 00 ff"])).toMatchObject(
      done,
    );
    expect([...map]).toEqual([[1, 0xff000002]]);
    const { stderr } = await cli(["map", "update", map.id, "1", "hex:02"]);
    expect(stderr).toEndWith('value: expected 4 hexadecimal bytes, such as "00 00 00 00"\n');
  });

  bpfTest("are stored with --if-absent and --if-present only under that condition", async () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, name: "cli_edited" });
    const update = (...words: string[]) => cli(["map", "update", map.id, ...words]);
    expect(await update("1", "5", "--if-present")).toEqual(
      expect.objectContaining({
        stderr: 'bun-bpf: the key "1" is absent: the hash map "cli_edited" was not changed\n',
        exitCode: 1,
      }) as never,
    );
    expect([...map]).toEqual([]);
    expect(await update("1", "5", "--if-absent")).toMatchObject(done);
    expect((await update("1", "6", "--if-absent")).stderr).toContain('"1" is present: ');
    expect([...map]).toEqual([[1, 5]]);
    expect(await update("1", "7", "--if-present", "--json")).toMatchObject({
      stdout: `{\n  "mapId": ${map.id},\n  "updated": true\n}\n`,
      exitCode: 0,
    });
    expect([...map]).toEqual([[1, 7]]);
    expect((await update("1", "8", "--if-present", "--if-absent")).exitCode).toBe(2);
    expect([...map]).toEqual([[1, 7]]);
  });
});

describe("entries of maps without types", () => {
  bpfTest("are hexadecimal bytes, as map dump prints them", async () => {
    const sizes = { keySize: 4, valueSize: 2, maxEntries: 4 };
    const more = { flags: 0, numaNode: 0, name: "", extra: 0, isPerCpu: false };
    const creation = { type: bpfMapTypes.HASH, ...sizes, ...more, needs: ["CAP_BPF"] } as const;
    const what = "map of a test";
    using descriptor = new Descriptor(createKernelMap(creation, what), what);
    using map = HashMap.fromFd(descriptor.fd, { key: t.bytes(4), value: t.bytes(2) });
    for (const [text, bytes] of [
      ["01 00 00 ff", [1, 0, 0, 255]],
      // Digits that would also be JSON numbers, one with an exponent.
      ["10000000", [16, 0, 0, 0]],
      ["1e000000", [30, 0, 0, 0]],
    ] as const) {
      expect(await cli(["map", "update", map.id, text, "0102"])).toMatchObject(done);
      expect([...map.keys()].map((one) => [...one])).toEqual([[...bytes]]);
      expect(await cli(["map", "delete", map.id, text])).toMatchObject(done);
    }
    for (const text of ["01", "0x01", "", "5", "zz000000", "010000000"]) {
      expect((await cli(["map", "lookup", map.id, text])).stderr).toContain(
        'key: expected 4 hexadecimal bytes, such as "00 00 00 00"',
      );
    }
  });
});

describe("other maps", () => {
  bpfTest("arrays have numbers as keys, and reject deletion", async () => {
    using map = new ArrayMap({ value: t.u32, length: 3, name: "cli_array" });
    expect(await cli(["map", "update", map.id, 2, 9])).toMatchObject(done);
    expect(map.get(2)).toBe(9);
    const { stderr, exitCode } = await cli(["map", "delete", map.id, 2]);
    expect([stderr, exitCode]).toEqual([
      "bun-bpf: the entries of array maps cannot be deleted: use `bun-bpf map update` to change them\n",
      1,
    ]);
    expect(await cli(["map", "lookup", map.id, 3])).toMatchObject({ exitCode: 1 });
    expect((await cli(["map", "update", map.id, 3, 1])).stderr).toMatch(
      /^bun-bpf: cannot store .*E2BIG/,
    );
  });

  bpfTest("per-CPU maps have arrays of values", async () => {
    using map = new PerCpuArrayMap({ value: t.u64, length: 1 });
    const values = possibleCpus().map((_, index) => index + 5);
    const text = JSON.stringify(values);
    expect(await cli(["map", "update", map.id, 0, text])).toMatchObject(done);
    expect(map.get(0)).toEqual(values.map(BigInt));
    expect(await cliText(["map", "lookup", map.id, 0])).toBe(`[${values.join(", ")}]\n`);
    for (const wrong of ["1", "[]", `[${[...values, 1].join()}]`]) {
      expect((await cli(["map", "update", map.id, 0, wrong])).stderr).toContain(
        `expected a JSON array of ${values.length} values, one for each possible CPU`,
      );
    }
  });

  bpfTest("queues and stacks accept a value, and show the next one", async () => {
    for (const Class of [Queue, Stack]) {
      using map = new Class({ value: t.u32, maxEntries: 4, name: "cli_pushed" });
      expect(await cli(["map", "peek", map.id])).toMatchObject({
        stdout: "",
        stderr: `bun-bpf: the ${map} is empty\n`,
        exitCode: 1,
      });
      const bytes = (text: string) => `hex:${text}000000`;
      for (const text of ["01", "02"]) {
        expect(await cli(["map", "update", map.id, bytes(text)])).toMatchObject(done);
      }
      const next = Class === Queue ? 1 : 2;
      expect(await cliJson<unknown>(["map", "peek", map.id])).toMatchObject({
        value: `0${next}000000`,
      });
      expect(map.peek()).toBe(next);
      expect((await cli(["map", "update", map.id, "1", "2"])).stderr).toContain("has no keys");
      expect((await cli(["map", "lookup", map.id, "1"])).stderr).toContain("has no keys");
    }
    using hash = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
    const { stderr, exitCode } = await cli(["map", "peek", hash.id]);
    expect(stderr).toContain("is neither a queue nor a stack");
    expect(exitCode).toBe(2);
  });

  bpfTest("maps of programs and maps accept ids, names and paths", async () => {
    using program = new Program({
      section: "socket",
      license: "GPL",
      name: "cli_held",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    using jumps = new ProgArray({ length: 2 });
    expect(await cli(["map", "update", jumps.id, 1, "cli_held"])).toMatchObject(done);
    expect(await cliJson<unknown>(["map", "lookup", jumps.id, 1])).toMatchObject({
      value: { programId: program.id },
    });
    expect(await cli(["map", "delete", jumps.id, 1])).toMatchObject(done);
    for (const reference of ["", "id:", "id:handler"]) {
      const { stderr, exitCode } = await cli(["map", "update", jumps.id, 0, reference]);
      expect({ reference, exitCode }).toEqual({ reference, exitCode: 2 });
      expect(stderr).toMatch(/^bun-bpf: prog_array map \d+: Expected an id/);
    }

    using inner = new ArrayMap({ value: t.u32, length: 1, name: "cli_inner" });
    using outer = new HashOfMaps({
      key: t.u32,
      inner: { type: "array", value: t.u32, length: 1 },
      maxEntries: 2,
    });
    expect(await cli(["map", "update", outer.id, "01000000", `id:${inner.id}`])).toMatchObject(
      done,
    );
    expect(outer.has(1)).toBe(true);
    const { stderr } = await cli(["map", "update", outer.id, "02000000", "cli_none"]);
    expect(stderr).toContain('there is no map with the name "cli_none"');
  });
});

mapTest("task_storage")("keys that are file descriptors are rejected", async () => {
  using map = new TaskStorage({ value: t.u32 });
  const { stderr, exitCode } = await cli(["map", "update", map.id, 3, 1]);
  expect(stderr).toContain("the keys of task_storage maps are file descriptors");
  expect(exitCode).toBe(2);
});

describe("a change that fails", () => {
  bpfTest("prints a line with the reason", async () => {
    using map = new HashMap({ key: t.u32, value: t.u8, maxEntries: 1, name: "cli_edited" });
    map.set(1, 1);
    for (const [args, message, status] of [
      [["lookup", map.id, 2], 'the hash map "cli_edited" has no entry with the key "2"', 1],
      [["delete", map.id, 2], 'the hash map "cli_edited" has no entry with the key "2"', 1],
      [
        ["update", map.id, 1],
        'the hash map "cli_edited" has keys: expected a key and a value, got 1 argument',
        2,
      ],
      [
        ["update", map.id, 1, 2, 3],
        'the hash map "cli_edited" has keys: expected a key and a value, got 3 arguments',
        2,
      ],
      [["update", map.id, "x", 1], /^bun-bpf: hash map "cli_edited": key: expected .*got "x"/, 2],
      [["update", map.id, 1, 256], /^bun-bpf: hash map "cli_edited": value: expected .*256/, 2],
      [
        ["update", map.id, 2, 2],
        /^bun-bpf: cannot store a value in hash map "cli_edited": .*E2BIG.* The map is full/,
        1,
      ],
    ] as const) {
      const { stdout, stderr, exitCode } = await cli(["map", ...args]);
      expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: status });
      if (typeof message === "string") expect(stderr).toBe(`bun-bpf: ${message}\n`);
      else expect(stderr).toMatch(message);
      expect([...map]).toEqual([[1, 1]]);
    }
  });

  bpfTest("is rejected for a ring buffer, which has no entries", async () => {
    using ring = new RingBuf({ size: 65536, event: t.u32 });
    const { stderr, exitCode } = await cli(["map", "update", ring.id, 0]);
    expect({ stderr, exitCode }).toEqual({
      stderr: "bun-bpf: ringbuf maps have no entries that this command could store\n",
      exitCode: 2,
    });
  });

  bpfTest("is rejected for a map of a type that is newer than the command", () => {
    using map = new PerCpuArrayMap({ value: t.u32, length: 1 });
    // Simulates a per-CPU map type that this version does not support.
    const known = mapTypes as Map<string, MapType>;
    const row = known.get(map.type) as MapType;
    known.delete(map.type);
    try {
      const open = () => MapEditor.open({ id: map.id }, "read")[Symbol.dispose]();
      expect(open).toThrow("its type is newer than this version of bun-bpf");
    } finally {
      known.set(map.type, row);
    }
  });

  bpfTest(
    "is rejected for a name that several maps have, or that is too long for the kernel",
    async () => {
      using one = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "cli_twins" });
      using two = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "cli_twins" });
      using cut = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "fifteen_letters" });
      for (const map of [one, two, cut]) map.set(1, 1);
      for (const name of ["cli_twins", "name:cli_twins", "fifteen_letters_and_more"]) {
        for (const command of [
          ["update", name, 1, 2],
          ["delete", name, 1],
          ["pin", name, "./no"],
        ]) {
          const { stderr, exitCode } = await cli(["map", ...command]);
          expect(exitCode).not.toBe(0);
          expect(stderr).toMatch(/name the map by its id/);
        }
      }
      for (const map of [one, two, cut]) expect([...map]).toEqual([[1, 1]]);
    },
  );

  bpfTest("is rejected for a frozen map, which can still be read", async () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    map.set(1, 1).freeze();
    expect((await cli(["map", "update", map.id, 1, 2])).stderr).toContain("The map is frozen");
    expect((await cli(["map", "delete", map.id, 1])).stderr).toContain("The map is frozen");
    expect(await cliText(["map", "lookup", map.id, 1])).toBe("1\n");
  });
});

describe("pins", () => {
  testUnless(bpfObstacle ?? mountObstacle)(
    "of maps, programs and links are created and removed",
    async () => {
      using bpffs = new MountedBpffs();
      using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "cli_pinned" });
      using program = new Program({
        section: "raw_tp/sched_process_exec",
        license: "GPL",
        name: "cli_pinned",
        code: [asm.mov(asm.r0, 0), asm.exit()],
      });
      using link = program.attach();
      const path = `${bpffs.path}/pin`;
      for (const [kind, object, reference] of [
        ["map", map, "cli_pinned"],
        ["prog", program, "name:cli_pinned"],
        ["link", link, `id:${link.id}`],
      ] as const) {
        expect(await cli([kind, "pin", reference, path])).toMatchObject(done);
        expect(await cliJson<unknown>([kind, "show", path])).toMatchObject({
          id: object.id,
          pins: [path],
        });
        const again = await cli([kind, "pin", reference, path]);
        expect(again.exitCode).toBe(1);
        expect(again.stderr).toContain("exists already");
        for (const other of ["map", "prog", "link"].filter((name) => name !== kind)) {
          const nouns = { map: "map", prog: "program", link: "link" };
          const noun = nouns[other as "map"];
          const refused = {
            stdout: "",
            stderr: expect.stringMatching(
              new RegExp(
                `^bun-bpf: the object pinned at ${path} is not a ${noun} but a ${nouns[kind]} .*\\n$`,
              ),
            ) as never,
            exitCode: 1,
          };
          expect(await cli([other, "unpin", path])).toMatchObject(refused);
          if (other !== "map") continue;
          expect(await cli(["map", "lookup", path, "1"])).toMatchObject(refused);
          expect(await cli(["map", "update", path, "1", "1"])).toMatchObject(refused);
          expect(await cli(["map", "delete", path, "1"])).toMatchObject(refused);
          expect(await cli(["map", "events", path])).toMatchObject(refused);
        }
        expect(await cliJson<unknown>([kind, "unpin", path])).toEqual({ id: object.id, path });
        expect(await cli([kind, "unpin", path])).toMatchObject({
          stderr: `bun-bpf: nothing is pinned at ${path}: no such file\n`,
          exitCode: 1,
        });
      }
    },
  );

  testUnless(bpfObstacle ?? mountObstacle)("are the only files that unpin removes", async () => {
    using bpffs = new MountedBpffs();
    const file = `${bpffs.path}.txt`;
    await Bun.write(file, "kept");
    try {
      expect((await cli(["map", "unpin", file])).exitCode).toBe(1);
      expect(await Bun.file(file).text()).toBe("kept");
    } finally {
      await Bun.file(file).delete();
    }
  });

  test("are named only by paths", async () => {
    const { stderr, exitCode } = await cli(["map", "unpin", "counts"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("Expected the path of a pin with a slash");
  });
});
