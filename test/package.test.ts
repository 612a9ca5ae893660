/** What is published works in somebody else's project: installed, imported, type-checked. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HashMap, t } from "../src/index.ts";
import { bpfTest } from "./support/privilege.ts";
import { packageRoot, run, runBun } from "./support/run.ts";
import { hostTest, isGuest } from "./support/skipping.ts";

let folder = "";

const packed = ["src", "examples", "README.md", "LICENSE", "package.json", "tsconfig.json"];

/** A test of the package at work, with the kernel. */
const installedTest = isGuest ? hostTest : bpfTest;

beforeAll(async () => {
  if (isGuest) return;
  folder = mkdtempSync(join(tmpdir(), "package-"));
  // A copy: packing makes declarations on the way, which are not to be left in the working tree.
  const copy = join(folder, "copy");
  for (const name of packed) cpSync(join(packageRoot, name), join(copy, name), { recursive: true });
  symlinkSync(join(packageRoot, "node_modules"), join(copy, "node_modules"));
  const pack = await run(["npm", "pack", "--pack-destination", folder], { cwd: copy });
  if (pack.exitCode !== 0) throw new Error(`npm pack: ${pack.stderr}`);
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"));
  await Bun.write(join(folder, "package.json"), '{ "name": "consumer", "type": "module" }');
  const added = await runBun(["add", `./${archive}`], { cwd: folder });
  if (added.exitCode !== 0) throw new Error(`bun add: ${added.stderr}`);
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The strictest settings that a consumer may have: declarations are checked too, and imports as Node resolves them. */
const strictest = {
  compilerOptions: {
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    target: "ESNext",
    lib: ["ESNext"],
    module: "NodeNext",
    customConditions: ["bun"],
    types: [],
  },
};

describe("the package", () => {
  hostTest(
    "holds the sources, the declarations and the license, and nothing of its development",
    async () => {
      const root = join(folder, "node_modules/bun-bpf");
      const files = [...new Bun.Glob("**/*").scanSync(root)];
      expect(files).toContain("src/index.ts");
      expect(files).toContain("dist/index.d.ts");
      expect(files).toContain("LICENSE");
      expect(files).toContain("README.md");
      expect(files).toContain("examples/execsnoop.ts");
      expect(files).toContain("dist/cli.js");
      const own = /(^test|^bench|generate|tsconfig|^src\/cli|^dist\/cli\/)/;
      expect(files.filter((name) => own.test(name))).toEqual([]);
    },
  );

  hostTest("loads of Bun's own modules those alone that take no time", async () => {
    const { outputs } = await Bun.build({
      entrypoints: [join(packageRoot, "src/index.ts")],
      target: "bun",
    });
    const code = (await outputs[0]?.text()) ?? "";
    const imports = new Bun.Transpiler({ loader: "js" }).scanImports(code);
    // node:crypto and node:util take five milliseconds each, a tenth of the start of a script.
    expect(new Set(imports.map(({ path }) => path.replace("node:", "")))).toEqual(
      new Set(["bun:ffi", "fs", "path"]),
    );
  });

  hostTest("names the packages that the command is built of, with their licenses", async () => {
    const file = join(folder, "node_modules/bun-bpf/dist/cli.licenses.txt");
    const text = await Bun.file(file).text();
    const { devDependencies } = (await Bun.file(join(packageRoot, "package.json")).json()) as {
      devDependencies: Record<string, string>;
    };
    for (const name of ["commander", "console-table-printer"]) {
      expect(text).toContain(`${name} ${devDependencies[name]}\n`);
    }
    expect(text.match(/Permission is hereby granted|Licensed under the/g)?.length).toBeGreaterThan(
      1,
    );
  });

  hostTest("has no dependency at run time", () => {
    const installed = readdirSync(join(folder, "node_modules")).filter((name) => name !== ".bin");
    expect(installed).toEqual(["bun-bpf"]);
  });

  hostTest("has types that are exact under the strictest settings", async () => {
    await Bun.write(
      join(folder, "types.ts"),
      `import { ArrayMap, asm, HashMap, Program, RingBuf, t } from "bun-bpf";
declare const map: HashMap<t.Type<number>, t.Type<{ pid: number; time: bigint }>>;
export const time: bigint | undefined = map.get(1)?.time;
// @ts-expect-error a key is a number
map.get("1");
// @ts-expect-error an array has no deletion
(null as unknown as ArrayMap<t.Type<number>>).delete;
// @ts-expect-error a register that cannot be written
export const code = [asm.mov(asm.fp, 0)];
const Event = t.struct({ pid: t.u32, name: t.cstring(16) });
export type Event = t.Infer<typeof Event>;
export const event: Event = { pid: 1, name: "init" };
export const ring = (): RingBuf<t.Type<Event>> => new RingBuf({ size: 4096, event: Event });
export const load = (): Program => new Program({ section: "xdp", license: "GPL", code: [] });
`,
    );
    await Bun.write(
      join(folder, "tsconfig.json"),
      JSON.stringify({ ...strictest, files: ["types.ts"] }),
    );
    const { stdout, exitCode } = await runBun(["check", "--no-pretty"], { cwd: folder });
    expect({ stdout, exitCode }).toMatchObject({ exitCode: 0 });
  });

  installedTest("works when installed", async () => {
    await Bun.write(
      join(folder, "main.ts"),
      `import { HashMap, t } from "bun-bpf";
using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
console.log(map.set(1, 2n).get(1));
`,
    );
    const { stdout, stderr } = await runBun(["main.ts"], { cwd: folder });
    expect({ stdout, stderr }).toEqual({ stdout: "2n\n", stderr: "" });
  });

  hostTest("has the command, which needs nothing else", async () => {
    const { version } = (await Bun.file(join(packageRoot, "package.json")).json()) as {
      version: string;
    };
    // Nothing is fetched: what is not installed is not there.
    const bunx = (...args: string[]) =>
      runBun(["x", "--no-install", "bun-bpf", ...args], { cwd: folder });
    expect(await bunx("--version")).toMatchObject({ stdout: `${version}\n`, exitCode: 0 });
    expect((await bunx("--help")).stdout).toContain("Usage: bun-bpf [options] [command]");
    expect(await bunx("map", "shw")).toMatchObject({ stdout: "", exitCode: 2 });
  });

  installedTest("has a command that shows what is in the kernel", async () => {
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    map.set(1, 2n);
    const args = ["x", "--no-install", "bun-bpf", "map", "dump", `${map.id}`];
    expect(await runBun(args, { cwd: folder })).toMatchObject({ stdout: "1 => 2\n", exitCode: 0 });
    const list = await runBun(["x", "--no-install", "bun-bpf", "map", "list"], { cwd: folder });
    expect(list.stdout).toMatch(new RegExp(`^ *${map.id}  hash `, "m"));
  });

  installedTest("works when compiled into an executable", async () => {
    const built = await runBun(["build", "--compile", "main.ts", "--outfile", "main"], {
      cwd: folder,
    });
    expect(built.exitCode).toBe(0);
    const { stdout } = await run([join(folder, "main")], { cwd: folder });
    expect(stdout).toBe("2n\n");
  });
});
