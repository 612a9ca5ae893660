/** Tests that the ways in docs/permissions.md to give capabilities to one program work, and that none gives them to every user of Bun. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isKernelSince } from "../src/ffi/kernel.ts";
import { withOwnBpffs } from "./sessions.ts";
import { commandObstacle, failureOf } from "./support/commands.ts";
import { blocksOf, pageAt } from "./support/markdown.ts";
import { bpfObstacle } from "./support/privilege.ts";
import { packageRoot, run } from "./support/run.ts";
import { hostObstacle, testUnless } from "./support/skipping.ts";

const page = pageAt("docs/permissions.md");
const permissions = page.text;
const compiled =
  blocksOf(page).find(({ language, code }) => language === "sh" && code.includes("setcap"))?.code ??
  "";

/** A user and group without privileges, and a user who is not in that group. */
const member = 65534;
const stranger = 65533;

/** The reason for which capabilities cannot be given to an unprivileged user here, if any. */
const obstacle =
  hostObstacle ??
  bpfObstacle ??
  commandObstacle("setcap") ??
  commandObstacle("setpriv") ??
  failureOf("setpriv", `--reuid=${member}`, `--regid=${member}`, "--clear-groups", "true");

let folder = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "permissions-"));
  chmodSync(folder, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a line of shell code as a user without privileges. */
function runAs(user: number, line: string): ReturnType<typeof run> {
  const ids = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  return run(["setpriv", ...ids, "sh", "-c", line], { cwd: folder });
}

describe("capabilities for one program", () => {
  test("are never given to the Bun binary, in the documentation and in hints", () => {
    expect(permissions).toContain("**Do not give capabilities to the Bun binary**");
    const files = [
      "README.md",
      ...new Bun.Glob("{src,examples,docs}/**/*.{ts,md}").scanSync(packageRoot),
    ];
    const advice = files.flatMap((file) =>
      readFileSync(join(packageRoot, file), "utf8")
        .split("\n")
        .filter((line) => line.includes("setcap"))
        .map((line) => ({ file, line })),
    );
    expect(advice.length).toBeGreaterThan(3);
    for (const { file, line } of advice) {
      const isAboutBun = /setcap[^`]*\bbun\b|Bun binary.*setcap/.test(line);
      const isWarning = line.startsWith("**Do not give capabilities to the Bun binary**");
      expect({ file, line, isAboutBun: isAboutBun && !isWarning }).toMatchObject({
        isAboutBun: false,
      });
    }
  });

  testUnless(obstacle)("belong to a compiled script, which only one group may run", async () => {
    const target = join(folder, "execsnoop");
    const commands = compiled
      .replaceAll("/usr/local/bin/", `${folder}/`)
      .replaceAll("-g tracers", `-g ${member}`)
      .replaceAll("--outfile execsnoop", `--outfile ${folder}/built`)
      .replaceAll("0750 execsnoop", `0750 ${folder}/built`);
    const shell = `set -e; sudo() { "$@"; }; bun() { "${process.execPath}" "$@"; }; ${commands}`;
    expect(await run(["sh", "-c", shell])).toMatchObject({ exitCode: 0 });

    const shown = await runAs(member, `exec ${target} --duration 0.2`);
    expect(shown).toMatchObject({ exitCode: 0 });
    expect(shown.stderr).toMatch(/^\d+ seen, 0 lost\n$/);
    const refused = await runAs(stranger, `exec ${target} --duration 0.2`);
    expect(refused.exitCode).toBe(126);
    expect(refused.stderr).toContain("Permission denied");
  });

  testUnless(obstacle)(
    "are safe in a compiled script, which runs no code from its working directory",
    async () => {
      const hostile = mkdtempSync(join(folder, "hostile-"));
      chmodSync(hostile, 0o755);
      await Bun.write(join(hostile, "bunfig.toml"), 'preload = ["./evil.ts"]\n');
      await Bun.write(join(hostile, "evil.ts"), 'console.log("evil");');
      await Bun.write(join(hostile, ".env"), "EVIL=1\n");
      await Bun.write(join(folder, "tool.ts"), "console.log(`${process.env.EVIL}`);");
      const options = compiled.match(/--no-compile-autoload-\w+/g) ?? [];
      const build = ["build", "--compile", "tool.ts", "--outfile"];
      const outputs = [];
      for (const [name, more] of [
        ["plain", []],
        ["shown", options],
      ] as const) {
        const built = await run([process.execPath, ...build, name, ...more], { cwd: folder });
        expect(built).toMatchObject({ exitCode: 0 });
        outputs.push((await run([join(folder, name)], { cwd: hostile })).stdout);
      }
      expect(outputs).toEqual(["evil\n1\n", "undefined\n"]);
    },
  );

  testUnless(obstacle)("belong to a service as ambient capabilities", async () => {
    // Runs the command with ambient capabilities, as systemd does for AmbientCapabilities=.
    const capabilities = /AmbientCapabilities=([A-Z_ ]+)/.exec(permissions)?.[1] ?? "";
    const list = capabilities
      .split(" ")
      .map((name) => `+${name.slice(4).toLowerCase()}`)
      .join(",");
    await Bun.build({
      entrypoints: [join(packageRoot, "examples/execsnoop.ts")],
      target: "bun",
      outdir: folder,
    });
    const asService = [
      ...["setpriv", `--reuid=${member}`, `--regid=${member}`, "--clear-groups"],
      ...[`--inh-caps=${list}`, `--ambient-caps=${list}`],
    ];
    const script = [process.execPath, join(folder, "execsnoop.js"), "--duration", "0.2"];
    const started = await run([...asService, ...script], { cwd: folder });
    expect(started.stderr).toMatch(/^\d+ seen, 0 lost\n$/);
  });
});

/** The reason why pins cannot be opened without capabilities here, if any. */
const pinObstacle =
  obstacle ??
  failureOf(...(withOwnBpffs("true") as [string])) ??
  (isKernelSince("5.19") ? undefined : "it needs kernel 5.19");

testUnless(pinObstacle)(
  "a user without capabilities reads a map by a pin with mode 0644",
  async () => {
    // Copies, because the user may not be able to read the directories of the package and of Bun.
    const bun = join(folder, "bun");
    copyFileSync(process.execPath, bun);
    const child = join(import.meta.dir, "support/children/share_map.ts");
    await Bun.build({ entrypoints: [child], target: "bun", outdir: folder });
    const script = join(folder, "share_map.js");
    const line = `chmod 755 /sys/fs/bpf && "${bun}" "${script}" ${member} /sys/fs/bpf/shared`;
    const { stdout, stderr } = await run(withOwnBpffs(line));
    expect({ stdout, stderr }).toEqual({ stdout: "7n EACCES EPERM\n", stderr: "" });
  },
);

test("the command and the examples have the #! line that docs/permissions.md recommends", () => {
  const [, line] = /^ *(#!.*)$/m.exec(permissions) ?? [];
  const files = ["src/cli/main.ts", ...new Bun.Glob("examples/*.ts").scanSync(packageRoot)];
  expect(files.length).toBeGreaterThan(1);
  for (const file of files) {
    const [first] = readFileSync(join(packageRoot, file), "utf8").split("\n");
    expect({ file, first }).toEqual({ file, first: line });
  }
});
