/** Tests of help, of wrong command lines, and of missing privilege. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { version } from "../../package.json" with { type: "json" };
import { asm, BpfFileSystem, HashMap, Program, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot } from "../support/run.ts";
import { cli, cliJson, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const unprivileged = join(packageRoot, "test/support/drop_capabilities.ts");

describe("help", () => {
  test.each([
    [["--help"], ["bun-bpf [options] [command]", "Examples:", "map", "prog", "link", "--json"]],
    [["help"], ["bun-bpf [options] [command]"]],
    [
      ["map", "--help"],
      [
        "bun-bpf map [options] [command]",
        ...["list", "show", "pin", "unpin", "dump", "lookup", "peek", "update", "delete", "events"],
        "Examples:",
      ],
    ],
    [
      ["help", "prog"],
      ["bun-bpf prog [options] [command]", "Examples:"],
    ],
    [
      ["link", "-h"],
      ["bun-bpf link [options] [command]", "Examples:"],
    ],
    [
      ["map", "dump", "--help"],
      ["bun-bpf map dump [options] <map>", "--limit", "Examples:"],
    ],
    [
      ["btf", "--help"],
      ["bun-bpf btf [options] [command]", "list", "dump", "Examples:"],
    ],
    [
      ["map", "list", "--help"],
      ["bun-bpf map list [options]", "--json"],
    ],
  ])("is printed for %p", async (args, parts) => {
    const { stdout, stderr, exitCode } = await cli(args);
    expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
    for (const part of parts) expect(stdout).toContain(part);
  });

  bpfTest("lists the keys of the JSON output", async () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    using program = new Program({
      section: "raw_tp/sched_process_exec",
      license: "GPL",
      maps: { map },
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    using link = program.attach();
    for (const [kind, { id }] of Object.entries({ map, prog: program, link })) {
      for (const command of [["list"], ["show", id]]) {
        const help = (await cli([kind, `${command[0]}`, "--help"])).stdout;
        const document = await cliJson<{ id: number } | { id: number }[]>([kind, ...command]);
        const shown = [document].flat().find((object) => object.id === id) ?? {};
        expect(Object.keys(shown).length).toBeGreaterThan(4);
        for (const key of [...Object.keys(shown), "pid", "comm", "fd"]) {
          expect({ kind, key, help }).toEqual({
            kind,
            key,
            help: expect.stringMatching(new RegExp(`\\b${key}\\b`)) as never,
          });
        }
      }
    }
  });

  test("--version prints the version of the package", async () => {
    expect(await cli(["--version"])).toMatchObject({ stdout: `${version}\n`, exitCode: 0 });
  });

  test("has no line of more than 110 characters", async () => {
    for (const args of [
      [],
      ...["map", "prog", "link", "btf", "features"].map((name) => [name]),
      ...[
        "list",
        "show",
        "dump",
        "lookup",
        "peek",
        "update",
        "delete",
        "events",
        "pin",
        "unpin",
      ].map((name) => ["map", name]),
      ...["list", "show", "load", "attach", "detach", "dump", "profile"].map((name) => [
        "prog",
        name,
      ]),
      ...["list", "show", "detach"].map((name) => ["link", name]),
      ...["list", "dump"].map((name) => ["btf", name]),
    ]) {
      const { stdout } = await cli([...args, "--help"]);
      for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(110);
    }
  });
});

describe("a wrong command line ends with status 2 and a line that names the mistake:", () => {
  test.each([
    [["nothing"], "bun-bpf: unknown command 'nothing': `--help` lists the commands"],
    [["map", "lisp"], "bun-bpf: unknown command 'lisp'\n(Did you mean list?)"],
    [["map", "show"], "bun-bpf: missing required argument 'map'"],
    [
      ["map", "list", "more"],
      "bun-bpf: too many arguments for 'list'. Expected 0 arguments but got 1.",
    ],
    [["map", "list", "--jsn"], "bun-bpf: unknown option '--jsn'\n(Did you mean --json?)"],
    [["map", "show", "0"], "Expected an id from 1 to 4294967295."],
    [["map", "show", "id:"], "Expected an id from 1 to 4294967295."],
    [["map", "show", "id:1x"], "Expected an id from 1 to 4294967295."],
    [["prog", "show", "4294967296"], "Expected an id from 1 to 4294967295."],
    [["map", "show", ""], "Expected an id, a name or the path of a pin."],
    [["map", "show", "name:"], "Expected an id, a name or the path of a pin."],
    [["map", "dump", "1", "--limit", "0"], "Expected an integer of at least 1."],
    [["map", "dump", "1", "--limit", "many"], "Expected an integer of at least 1."],
    [["map", "dump", "1", "--limit"], "bun-bpf: option '-l, --limit <count>' argument missing"],
    [
      ["link", "show", "name"],
      "bun-bpf: links have no names: name the link by its id or the path of a pin",
    ],
  ])("%p", async (args, message) => {
    const { stdout, stderr, exitCode } = await cli(args);
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 2 });
    expect(stderr.trimEnd()).toEndWith(message);
  });

  test.each([[[]], [["map"]], [["prog"]]])("%p shows the help", async (args) => {
    const { stdout, stderr, exitCode } = await cli(args);
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 2 });
    expect(stderr).toContain("Usage: bun-bpf");
  });
});

describe("a missing object ends with status 1 and a line that names it", () => {
  bpfTest("by id, by name and by path", async () => {
    using _map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "test_absent" });
    for (const [args, message] of [
      [["map", "show", 4294967295], "there is no map with the id 4294967295"],
      [["prog", "show", 4294967295], "there is no program with the id 4294967295"],
      [["link", "show", "id:4294967295"], "there is no link with the id 4294967295"],
      [
        ["map", "show", "tset_absent"],
        'there is no map with the name "tset_absent": did you mean "test_absent"?',
      ],
      [
        ["map", "dump", "name:no such\u001b[m"],
        'there is no map with the name "no such\\u001b[m": `bun-bpf map list` lists all',
      ],
      [["map", "dump", "./absent"], "nothing is pinned at ./absent: no such file"],
      [["map", "dump", "path:absent"], "nothing is pinned at absent: no such file"],
    ] as const) {
      expect(await cli(args)).toMatchObject({
        stdout: "",
        stderr: `bun-bpf: ${message}\n`,
        exitCode: 1,
      });
    }
  });

  bpfTest("by the path of another kind of object, or outside of a BPF file system", async () => {
    using bpffs = new BpfFileSystem();
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    map.pin(`${bpffs.path}/map`);
    const path = `/proc/${process.pid}/fd/${/\d+$/.exec(bpffs.path)?.[0]}/map`;
    expect((await cli(["map", "show", path])).stdout).toContain(`${map.id}`);
    expect(await cli(["prog", "show", path])).toMatchObject({
      stdout: "",
      stderr: `bun-bpf: the object pinned at ${path} is not a program but a map (hash, id ${map.id}): \`bun-bpf map show ${path}\` shows it\n`,
      exitCode: 1,
    });
    const { stderr, exitCode } = await cli(["map", "show", import.meta.path]);
    expect(exitCode).toBe(1);
    expect(stderr).toStartWith(`bun-bpf: cannot open the map pinned at ${import.meta.path}: `);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("without privilege", () => {
  test.each([["map"], ["prog"], ["link"]])(
    "%s list prints a line that names the remedy",
    async (kind) => {
      const { stdout, stderr, exitCode } = await cli([kind, "list"], { preload: unprivileged });
      expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
      expect(stderr).toMatch(/^bun-bpf: cannot list the \w+s of the system: .*: EPERM .*\n$/);
      expect(stderr).toMatch(/This process (lacks CAP_SYS_ADMIN: run as root|is in a user)/);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    },
  );

  test.each([
    [["map", "show", "1"]],
    [["map", "dump", "1"]],
    [["map", "dump", "counts"]],
    [["prog", "show", "1", "--json"]],
  ])("%p prints a line with the failed operation and EPERM", async (args) => {
    const { stdout, stderr, exitCode } = await cli(args, { preload: unprivileged });
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
    expect(stderr).toMatch(/^bun-bpf: cannot .* EPERM .*\n$/);
  });

  bpfTest("the help is shown", async () => {
    expect(await cli(["--help"], { preload: unprivileged })).toMatchObject({ exitCode: 0 });
  });
});
