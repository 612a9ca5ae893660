/** Tests that all commands escape untrusted text in tables, details, errors and JSON. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HashMap, t } from "../../src/index.ts";
import { RawTypes } from "../btf/raw_types.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { commandObstacle, failureOf } from "../support/commands.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { hostTest, testUnless } from "../support/skipping.ts";
import { cli, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

/** Control sequences for red (with C1 and with ESC) and for the title, and a right-to-left override. */
const evil = "a\u009b31m\u001b[31m\u001b]0;x\u0007\u202eb";
const inText = "a\\x9b31m\\x1b[31m\\x1b]0;x\\x07\\u{202e}b";
const inJson = "a\\u009b31m\\u001b[31m\\u001b]0;x\\u0007\\u202eb";

/** Matches characters that must not occur in output that is not written to a terminal. */
const raw = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

describe("arguments in errors", () => {
  // The report of tests is also read on a terminal.
  const titled = (rows: readonly string[][]) =>
    rows.map(
      (args) =>
        [
          args
            .map((text) => text.replaceAll(evil, "EVIL").slice(0, 40))
            .join(" ")
            .replaceAll("\n", " "),
          args,
        ] as const,
    );

  hostTest.each(
    titled([
      [evil],
      ["map", evil],
      ["map", "list", `--${evil}`],
      ["map", "list", evil],
      ["map", "show", `id:${evil}`],
      ["map", "show", "1", evil],
      ["map", "dump", "1", "--limit", evil],
      ["features", evil],
    ]),
  )("are escaped if the command line is wrong: %s", async (_, args) => {
    const { stdout, stderr, exitCode } = await cli(args);
    expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 2 });
    expect(stderr).not.toMatch(raw);
    expect(stderr.includes(inText) || stderr.includes("too many arguments")).toBe(true);
  });

  bpfTest.each(
    titled([
      ["map", "show", evil],
      ["map", "dump", evil],
      ["prog", "show", evil],
      ["map", "show", `./${evil}`],
      ["map", "dump", `./${evil}`],
      ["prog", "show", `./${evil}`],
      ["link", "show", `./${evil}`],
      ["link", "show", `/proc/${evil}`],
      ["link", "show", `/proc/self/comm/${evil}`],
      ["map", "show", `/dev/null/${evil}\nbun-bpf: all is well`],
      ["map", "dump", `/${evil.repeat(400)}`],
    ]),
  )("are escaped if the object does not exist: %s", async (_, args) => {
    for (const more of [[], ["--json"]]) {
      const { stdout, stderr, exitCode } = await cli([...args, ...more]);
      expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
      expect(stderr).not.toMatch(raw);
      expect(stderr).toMatch(/\\x9b|\\u009b/);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
  });
});

testUnless(bpfObstacle ?? mountObstacle)("names of pins", async () => {
  using bpffs = new MountedBpffs();
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  const path = join(bpffs.path, evil);
  map.pin(path);
  try {
    for (const args of [
      ["map", "list"],
      ["map", "show", map.id],
      ["map", "show", path],
    ]) {
      const text = await cli(args);
      expect(text.stdout).not.toMatch(raw);
      expect(text.stdout).toContain(join(bpffs.path, inText));
      const json = await cli([...args, "--json"]);
      expect(json.stdout).not.toMatch(raw);
      expect(json.stdout).toContain(join(bpffs.path, inJson));
    }
    const { stderr } = await cli(["prog", "show", path]);
    expect(stderr).not.toMatch(raw);
    expect(stderr).toContain(inText);
  } finally {
    map.unpin();
  }
});

hostTest("names of types and members in a file", async () => {
  const types = new RawTypes();
  const int = types.int(`int${evil}`, 4, 1);
  types.struct(`struct${evil}`, 4, [{ name: `member${evil}`, type: int, bit: 0 }]);
  const folder = mkdtempSync(join(tmpdir(), "escaping-"));
  try {
    const file = join(folder, "types.btf");
    writeFileSync(file, types.encode());
    const text = await cli(["btf", "dump", file]);
    const json = await cli(["btf", "dump", file, "--json"]);
    for (const { stdout, exitCode } of [text, json]) {
      expect(exitCode).toBe(0);
      expect(stdout).not.toMatch(raw);
    }
    // In C, characters that are not valid in names are replaced.
    const inC = "a_31m__31m__0_x__b";
    expect(text.stdout).toContain(`struct struct${inC} {\n    int${inC} member${inC};\n}`);
    expect(json.stdout).toContain(`"name":"member${inJson}"`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

testUnless(bpfObstacle ?? commandObstacle("ip") ?? failureOf("unshare", "-n", "true"))(
  "names of network interfaces",
  async () => {
    // Names of interfaces have at most 15 bytes.
    const name = "a\u009b31m\u001b[31mb";
    const child = join(import.meta.dir, "children/odd_interface.ts");
    const line = 'ip link set lo name "$1" && shift && exec "$@"';
    const command = ["unshare", "-n", "sh", "-c", line, "sh", name, process.execPath];
    const { stdout, stderr } = await run([...command, child, mainFile]);
    expect(stderr).toBe("");
    const outputs = JSON.parse(stdout) as string[];
    expect(outputs).toHaveLength(6);
    for (const [index, output] of outputs.entries()) {
      expect(output).not.toMatch(raw);
      // The JSON of a program has no interface names of its links.
      if (index < 5) {
        expect(output).toContain(
          index % 2 === 0 ? "a\\x9b31m\\x1b[31mb" : "a\\u009b31m\\u001b[31mb",
        );
      }
    }
  },
);
