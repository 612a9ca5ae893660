/** Tests of `bun-bpf map list` and `map show`. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { chmodSync, mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import {
  asm,
  HashMap,
  ArrayMap,
  CpuMap,
  listMaps,
  ProgArray,
  Program,
  Queue,
  t,
} from "../../src/index.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { cpuMapProgram } from "../maps/special_program.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { commandObstacle } from "../support/commands.ts";
import { repetitions } from "../support/effort.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { packageRoot, run } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

/** A map in the JSON output. */
interface ShownMap {
  readonly id: number;
  readonly owners: readonly { readonly pid: number; readonly fd: number }[];
  readonly [name: string]: unknown;
}

const value = t.struct({ pid: t.u32, comm: t.cstring(16) });

describe("map list", () => {
  bpfTest("prints a line for each map, in columns under a heading", async () => {
    using hash = new HashMap({ key: t.u32, value, maxEntries: 100, name: "cli_hash" });
    using nameless = new Queue({ value: t.u16, maxEntries: 3 });
    const lines = (await cliText(["map", "list"])).trimEnd().split("\n");
    expect(lines[0]?.split(/\s+/).filter((word) => word !== "")).toEqual([
      "ID",
      "TYPE",
      "NAME",
      "KEY",
      "VALUE",
      "CAPACITY",
      "MEMORY",
      "OWNERS",
      "PINS",
    ]);
    const owner = `\\w+\\(${process.pid}\\)`;
    const hashLine = lines.find((line) => line.trimStart().startsWith(`${hash.id} `));
    expect(hashLine).toMatch(
      new RegExp(`^ *${hash.id}  hash +cli_hash +4 B +20 B +100 +[\\d.]+ (B|KiB) +${owner} +-$`),
    );
    const queueLine = lines.find((line) => line.trimStart().startsWith(`${nameless.id} `));
    expect(queueLine).toMatch(
      new RegExp(`^ *${nameless.id}  queue +- +0 B +2 B +3 .* ${owner} +-$`),
    );
    // Each column starts at the same place in all lines.
    const place = lines[0]?.indexOf("TYPE") as number;
    for (const line of lines.slice(1)) expect(line.slice(place - 1)).toMatch(/^ [a-z]/);
    expect(lines.join("")).not.toContain("\u001b");
  });

  bpfTest("prints all information as JSON", async () => {
    using map = new HashMap({ key: t.u32, value, maxEntries: 100, name: "cli_hash" });
    const list = await cliJson<ShownMap[]>(["map", "list"]);
    const shown = list.find(({ id }) => id === map.id);
    const { memory: _memory, ...info } = map.info();
    expect(shown).toMatchObject({ ...info, pins: [] });
    expect(shown?.owners).toEqual([
      expect.objectContaining({ pid: process.pid, fd: map.fd }) as never,
    ]);
    const ids = list.map(({ id }) => id);
    expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  });

  bpfTest("is quick with thousands of maps", async () => {
    const maps = Array.from(
      { length: repetitions(2000, 100) },
      () => new ArrayMap({ value: t.u8, length: 1 }),
    );
    try {
      const list = await cliJson<ShownMap[]>(["map", "list"]);
      const seen = new Map(list.map((map) => [map.id, map.owners]));
      for (const { id, fd } of maps) {
        expect(seen.get(id)?.map((owner) => owner.fd)).toEqual([fd]);
      }
    } finally {
      for (const map of maps) map[Symbol.dispose]();
    }
  });

  bpfTest("works while maps are created and removed", async () => {
    const stop = Promise.withResolvers<void>();
    let isRunning = true;
    void stop.promise.then(() => (isRunning = false));
    const churn = (async () => {
      while (isRunning) {
        for (let i = 0; i < 50; i++) new ArrayMap({ value: t.u8, length: 1 })[Symbol.dispose]();
        await Bun.sleep(0);
      }
    })();
    for (let round = 0; round < repetitions(5, 2); round++) {
      expect(await cli(["map", "list"])).toMatchObject({ stderr: "", exitCode: 0 });
    }
    stop.resolve();
    await churn;
  });
});

describe("map show", () => {
  bpfTest("prints the details of a map, by its id and by its name", async () => {
    using map = new HashMap({
      key: t.u32,
      value,
      maxEntries: 100,
      name: "cli_shown",
      flags: ["no_prealloc"],
    });
    using program = new Program({
      section: "socket",
      license: "GPL",
      name: "cli_user",
      maps: { map },
      code: [asm.ldMap(asm.r1, "map"), asm.mov(asm.r0, 0), asm.exit()],
    });
    const { id } = program.info();
    map.freeze();
    const outputs = await Promise.all(
      [map.id, `id:${map.id}`, "cli_shown", "name:cli_shown"].map((by) =>
        cliText(["map", "show", by]),
      ),
    );
    for (const text of outputs) {
      expect(text).toMatch(new RegExp(`^id: +${map.id}$`, "m"));
      expect(text).toMatch(/^type: +hash$/m);
      expect(text).toMatch(/^name: +cli_shown$/m);
      expect(text).toMatch(/^key size: +4 bytes$/m);
      expect(text).toMatch(/^value size: +20 bytes$/m);
      expect(text).toMatch(/^capacity: +100 entries$/m);
      expect(text).toMatch(/^memory: +.* \(\d+ bytes\)$/m);
      expect(text).toMatch(/^flags: +no_prealloc$/m);
      expect(text).toMatch(/^frozen: +yes$/m);
      expect(text).toMatch(/^key type: +unsigned int$/m);
      expect(text).toMatch(/^value type: +struct \{ unsigned int pid; char comm\[16\]; \}$/m);
      expect(text).toMatch(new RegExp(`^programs: +${id} cli_user \\(socket_filter\\)$`, "m"));
      expect(text).toMatch(
        new RegExp(`^owners: +.*\\(${process.pid}\\) as descriptor ${map.fd}$`, "m"),
      );
    }
    // All values start at the same place, also those of an array, such as several owners.
    const places = (outputs[0] as string)
      .trimEnd()
      .split("\n")
      .map((line) => /^(?:[a-z ]+:)? +/.exec(line)?.[0].length);
    expect(new Set(places).size).toBe(1);
    expect(await cliJson<ShownMap>(["map", "show", map.id])).toMatchObject({
      id: map.id,
      programIds: [id],
      frozen: true,
    });
  });

  bpfTest("lists the maps with the same name", async () => {
    using one = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "cli_twin" });
    using two = new ArrayMap({ value: t.u32, length: 1, name: "cli_twin" });
    for (const command of ["show", "dump"]) {
      const { stdout, stderr, exitCode } = await cli(["map", command, "cli_twin"]);
      expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
      expect(stderr).toBe(
        `bun-bpf: 2 maps have the name "cli_twin": name the map by its id\n  id:${one.id}  hash\n  id:${two.id}  array\n`,
      );
    }
  });

  bpfTest("finds a map by a name that the kernel has truncated", async () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "fifteen_letters" });
    const shown = await cliJson<ShownMap>(["map", "show", "fifteen_letters_and_more"]);
    expect(shown.id).toBe(map.id);
  });

  bpfTest("succeeds if the map's program or owner ends meanwhile", async () => {
    const child = Bun.spawn([process.execPath, "test/inspect/children/odd_owner.ts"], {
      stdin: "pipe",
      stdout: "pipe",
    });
    const { value: text } = await child.stdout.getReader().read();
    const id = Number(new TextDecoder().decode(text));
    const shown = cli(["map", "show", id]);
    child.kill("SIGKILL");
    await child.exited;
    const { exitCode, stderr } = await shown;
    // The map may be gone before the command looks it up.
    if (exitCode !== 0) expect(stderr).toBe(`bun-bpf: there is no map with the id ${id}\n`);
  });
});

const pinTest = testUnless(bpfObstacle ?? mountObstacle);

pinTest("pins are shown, and name the map", async () => {
  using bpffs = new MountedBpffs("bpf fs ");
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  const path = `${bpffs.path}/counts`;
  map.pin(path);
  expect(await cliJson<ShownMap>(["map", "show", path])).toMatchObject({
    id: map.id,
    pins: [path],
  });
  expect(await cliText(["map", "list"])).toMatch(new RegExp(`^ *${map.id} .* ${path}$`, "m"));
  expect(await cliText(["map", "show", `path:${path}`])).toMatch(
    new RegExp(`^pins: +${path}$`, "m"),
  );
  map.unpin();
});

pinTest("a user who may not list objects can show a pin", async () => {
  using bpffs = new MountedBpffs();
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  const path = `${bpffs.path}/counts`;
  map.set(1, 2).pin(path);
  const preload = join(packageRoot, "test/support/drop_capabilities.ts");
  const show = await cli(["map", "show", path, "--json"], { preload });
  const dump = await cli(["map", "dump", path], { preload });
  map.unpin();
  // Some kernels do not let users without capabilities open the pin.
  if (show.stderr.includes("EPERM")) return;
  const shown = JSON.parse(show.stdout) as ShownMap;
  expect(shown).toMatchObject({ id: map.id, pins: [path] });
  // Unknown properties are left out.
  expect(Object.keys(shown)).not.toContain("programIds");
  expect([dump.stderr, dump.stdout]).toEqual(["", "01 00 00 00 => 02 00 00 00\n"]);
});

bpfTest("names of other processes and pins cannot change the terminal", async () => {
  const child = Bun.spawn([process.execPath, "test/inspect/children/odd_owner.ts"], {
    stdin: "pipe",
    stdout: "pipe",
  });
  try {
    const { value: text } = await child.stdout.getReader().read();
    const id = Number(new TextDecoder().decode(text));
    const shown = await cliText(["map", "show", id]);
    expect(shown).toContain(`odd) \\x0a(name(${child.pid})`);
  } finally {
    child.kill("SIGKILL");
  }
});

bpfTest("names of other processes and pins cannot change the terminal in JSON", async () => {
  const child = Bun.spawn(
    [process.execPath, "test/inspect/children/odd_owner.ts", "\u009b31m\u202eEVIL"],
    { stdin: "pipe", stdout: "pipe" },
  );
  try {
    const { value: text } = await child.stdout.getReader().read();
    const id = Number(new TextDecoder().decode(text));
    for (const command of [
      ["map", "show", id],
      ["map", "list"],
    ]) {
      const { stdout } = await cli([...command, "--json"]);
      expect(stdout).toContain('"comm": "\\u009b31m\\u202eEVIL"');
      expect(stdout).not.toMatch(/[\u009b\u202e]/);
    }
  } finally {
    child.kill("SIGKILL");
  }
});

bpfTest("entries of a map cannot change the terminal in JSON", async () => {
  using map = new HashMap({ key: t.cstring(8), value: t.cstring(8), maxEntries: 1 });
  map.set("a\u202eb", "\ufeff");
  const { stdout } = await cli(["map", "dump", map.id, "--json"]);
  expect(stdout).toBe(
    '{\n  "entries": [\n    {"key":"a\\u202eb","value":"\\ufeff"}\n  ],\n  "notes": []\n}\n',
  );
});

testUnless(bpfObstacle ?? mountObstacle)("pins that cannot be read are reported", async () => {
  using bpffs = new MountedBpffs();
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  const path = `${bpffs.path}/counts`;
  const locked = `${bpffs.path}/locked`;
  map.pin(path);
  mkdirSync(locked, { mode: 0 });
  const preload = "./test/support/drop_capabilities.ts";
  const [text, json] = [
    await cli(["map", "show", path], { preload }),
    await cli(["map", "show", path, "--json"], { preload }),
  ];
  map.unpin();
  rmdirSync(locked);
  // Some kernels do not let users without capabilities open the pin.
  if (text.stderr.includes("EPERM")) return;
  const note =
    /^pins at or below \d+ paths? are not shown: this user may not open them \(this needs CAP_DAC_OVERRIDE/m;
  expect(text.stderr).toMatch(note);
  const { notes } = JSON.parse(json.stdout) as { readonly notes: readonly string[] };
  expect(notes).toContainEqual(expect.stringMatching(note) as never);
  expect(json.stderr).toBe("");
  // There is no note for a user who may see everything.
  expect(await cliJson<ShownMap>(["map", "show", map.id])).toMatchObject({ notes: [] });
});

describe("maps that hold programs", () => {
  const newProgram = (section: "socket" | "raw_tp/sys_enter") =>
    new Program({ section, license: "GPL", code: [asm.mov(asm.r0, 0), asm.exit()] });

  bpfTest("show the type of their programs, once they have one", async () => {
    using programs = new ProgArray({ length: 4 });
    const empty = await cliJson<ShownMap>(["map", "show", programs.id]);
    expect(Object.keys(empty)).not.toContain("ownerProgramType");
    expect(await cliText(["map", "show", programs.id])).not.toMatch(/^accepts:/m);
    using program = newProgram("socket");
    programs.set(2, program);
    expect(await cliText(["map", "show", programs.id])).toMatch(
      /^accepts: +socket_filter programs(, interpreted)?$/m,
    );
    const shown = await cliJson<ShownMap>(["map", "show", programs.id]);
    expect(shown).toMatchObject({ ownerProgramType: "socket_filter" });
    expect(typeof shown["ownerJited"]).toBe("boolean");
    const list = await cliJson<ShownMap[]>(["map", "list"]);
    expect(list.find(({ id }) => id === programs.id)).toMatchObject({
      ownerProgramType: "socket_filter",
      ownerJited: shown["ownerJited"],
    });
    using other = newProgram("raw_tp/sys_enter");
    expect(() => programs.set(1, other)).toThrow("EINVAL");
  });

  bpfTest("show it for maps of CPUs too", async () => {
    using cpus = new CpuMap({ length: 1 });
    using program = cpuMapProgram();
    cpus.set(0, { queueSize: 8, program });
    const shown = await cliJson<ShownMap>(["map", "show", cpus.id]);
    // Kernels before 5.18 do not store it for these maps.
    if ("ownerProgramType" in shown) expect(shown).toMatchObject({ ownerProgramType: "xdp" });
  });
});

pinTest("a tree of directories that is too deep is reported, and hides nothing else", async () => {
  using bpffs = new MountedBpffs();
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  using program = new Program({
    section: "raw_tp/sched_process_exec",
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  });
  using link = program.attach();
  chmodSync(bpffs.path, 0o1777);
  bpffs.makeDeepTree();
  for (const [kind, object] of Object.entries({ map, prog: program, link })) {
    const path = `${bpffs.path}/${kind}`;
    object.pin(path);
    for (const args of [["list"], ["show", path], ["show", object.id]]) {
      const expectedNote = "pins at or below 1 path are not shown: ";
      const text = await cli([kind, ...args]);
      expect(text).toMatchObject({
        exitCode: 0,
        stderr: expect.stringContaining(expectedNote) as never,
      });
      expect(text.stdout).toContain(path);
      const json = await cli([kind, ...args, "--json"]);
      expect(json.exitCode).toBe(0);
      // The elements of the list have no notes.
      expect(args[0] === "list" ? json.stderr : json.stdout).toContain(expectedNote);
      const shown = [JSON.parse(json.stdout) as ShownMap | ShownMap[]].flat();
      expect(shown.find(({ id }) => id === object.id)?.["pins"]).toEqual([path]);
    }
    object.unpin();
  }
});

testUnless(bpfObstacle ?? mountObstacle ?? commandObstacle("script"))(
  "pins that cannot be seen are reported on a terminal",
  async () => {
    using bpffs = new MountedBpffs();
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    const path = `${bpffs.path}/counts`;
    const locked = `${bpffs.path}/locked`;
    map.pin(path);
    mkdirSync(locked, { mode: 0 });
    const preload = "test/support/drop_capabilities.ts";
    const onTerminal = async (option: string) => {
      const line = `"${process.execPath}" --preload ./${preload} "${mainFile}" map show ${path} ${option}`;
      const { stdout } = await run(["script", "-qec", line, "/dev/null"]);
      return stdout;
    };
    const shown = await Promise.all(["", "--json"].map(onTerminal));
    map.unpin();
    rmdirSync(locked);
    for (const text of shown) {
      // Some kernels do not let users without capabilities open the pin.
      if (text.includes("EPERM")) continue;
      expect(text).toMatch(
        /^( *")?pins at or below \d+ paths? are not shown: this user may not open them \(this needs CAP_DAC_OVERRIDE/m,
      );
    }
  },
);

testUnless(bpfObstacle ?? bpftoolObstacle)("map show agrees with bpftool", async () => {
  using map = new HashMap({ key: t.u32, value, maxEntries: 100, name: "cli_compared" });
  using array = new ArrayMap({ value: t.u64, length: 7 });
  const [maps, shown] = await Promise.all([
    bpftoolJson<Record<string, unknown>[]>("map", "show"),
    cliJson<ShownMap[]>(["map", "list"]),
  ]);
  for (const { id } of [map, array]) {
    const theirs = maps.find((candidate) => candidate["id"] === id) as Record<string, unknown>;
    const ours = shown.find((candidate) => candidate.id === id) as ShownMap;
    expect([
      ours["name"] || undefined,
      ours["keySize"],
      ours["valueSize"],
      ours["maxEntries"],
      ours["flags"],
      ours["memory"],
      Number(ours["frozen"]),
      ours["type"],
    ]).toEqual([
      theirs["name"],
      theirs["bytes_key"],
      theirs["bytes_value"],
      theirs["max_entries"],
      theirs["flags"],
      theirs["bytes_memlock"],
      theirs["frozen"],
      theirs["type"],
    ] as never);
  }
  expect([...listMaps()].length).toBeGreaterThan(1);
});
