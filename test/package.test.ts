/** Tests of the published package in another project: installed, imported and type-checked. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as library from "../src/index.ts";
import { HotScript } from "./support/hot_script.ts";
import { bunWithDescriptors } from "./support/last_descriptors.ts";
import { bpfTest } from "./support/privilege.ts";
import { packageRoot, run, runBun } from "./support/run.ts";
import { hostTest, isGuest } from "./support/skipping.ts";

let folder = "";

const packed = [".ci", "src", "examples", "README.md", "LICENSE", "package.json", "tsconfig.json"];

/** Defines a test in which the package uses the kernel. */
const installedTest = isGuest ? hostTest : bpfTest;

beforeAll(async () => {
  if (isGuest) return;
  folder = mkdtempSync(join(tmpdir(), "package-"));
  // A copy, because packing generates declarations, which should not stay in the working tree.
  const copy = join(folder, "copy");
  for (const name of packed) cpSync(join(packageRoot, name), join(copy, name), { recursive: true });
  symlinkSync(join(packageRoot, "node_modules"), join(copy, "node_modules"));
  const pack = await run(["npm", "pack", "--pack-destination", folder], { cwd: copy });
  if (pack.exitCode !== 0) throw new Error(`npm pack: ${pack.stderr}`);
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"));
  await Bun.write(join(folder, "package.json"), '{ "name": "consumer", "type": "module" }');
  const added = await runBun(["add", `./${archive}`], { cwd: folder });
  if (added.exitCode !== 0) throw new Error(`bun add: ${added.stderr}`);
}, 66_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The strictest settings of a project that uses the package. Declarations are checked as well. */
const strictest = {
  strict: true,
  noEmit: true,
  skipLibCheck: false,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  target: "ESNext",
  types: [],
};

/** The ways in which such projects resolve imports, with and without the types of the web. */
const dom = ["ESNext", "DOM", "DOM.AsyncIterable"];
const bundler = { module: "Preserve", moduleResolution: "bundler" };
const projects: [name: string, settings: object][] = [
  ["as Node resolves", { lib: ["ESNext"], module: "NodeNext" }],
  ["as Node resolves, with the DOM", { lib: dom, module: "NodeNext" }],
  ["as bundlers resolve", { lib: ["ESNext"], ...bundler }],
  ["as bundlers resolve, with the DOM", { lib: dom, ...bundler }],
];

/** A script that creates and uses a map. */
const script = `import { HashMap, t } from "bun-bpf";
using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
console.log(map.set(1, 2n).get(1));
`;

/** The folders of the sources that this script uses. */
const usedFolders = ["check", "uapi", "ffi", "types", "btf", "handle", "maps"];

/** Writes a file of the project that uses the package. */
const write = (name: string, text: string) => Bun.write(join(folder, name), text);

describe("the package", () => {
  hostTest(
    "has the sources, the declarations and the license, but no files for development",
    async () => {
      const root = join(folder, "node_modules/bun-bpf");
      const files = [...new Bun.Glob("**/*").scanSync(root)];
      for (const name of ["core", "rest", "numbers", "compiler"]) {
        expect(files).toContain(`dist/${name}.cjs`);
        expect(files).toContain(`dist/${name}.cjs.jsc`);
        expect(files).toContain(`dist/${name}.cjs.map`);
      }
      expect(files).toContain("src/index.ts");
      expect(files).toContain("dist/index.cjs");
      expect(files).toContain("dist/index.d.ts");
      expect(files).toContain("LICENSE");
      expect(files).toContain("README.md");
      expect(files).toContain("examples/execsnoop.ts");
      expect(files).toContain("dist/cli.js");
      const own = /(^test|^bench|generate|tsconfig|^src\/cli|^dist\/cli\/)/;
      expect(files.filter((name) => own.test(name))).toEqual([]);
      for (const name of files.filter((name) => name.startsWith("dist/"))) {
        const text = await Bun.file(join(root, name)).text();
        expect({ name, isPortable: !text.includes(folder) }).toEqual({ name, isPortable: true });
      }
    },
  );

  hostTest("lists in sideEffects the modules that are imported for their effects", async () => {
    const src = join(packageRoot, "src");
    const files = [...new Bun.Glob("**/*.ts").scanSync(src)].filter((file) => !/^cli\//.test(file));
    const imported = await Promise.all(
      files.map(async (file) => {
        const text = await Bun.file(join(src, file)).text();
        return [...text.matchAll(/^import "(.+)";$/gm)].map(([, path]) =>
          join("src", dirname(file), `${path}`),
        );
      }),
    );
    const { sideEffects } = (await Bun.file(join(packageRoot, "package.json")).json()) as {
      sideEffects: string[];
    };
    // types/web.ts has only declarations, of types of the web.
    const expected = ["src/types/web.ts", ...sideEffects.map((path) => join(path))];
    expect([...new Set(imported.flat())].sort()).toEqual(expected.sort());
  });

  hostTest("imports only bun:ffi of the modules of Bun and Node", async () => {
    const { outputs } = await Bun.build({
      entrypoints: [join(packageRoot, "src/index.ts")],
      target: "bun",
    });
    const code = (await outputs[0]?.text()) ?? "";
    const imports = new Bun.Transpiler({ loader: "js" }).scanImports(code);
    // Most modules of Node take longer to load than this library, so they are loaded on first use.
    expect(new Set(imports.map(({ path }) => path.replace("node:", "")))).toEqual(
      new Set(["bun:ffi"]),
    );
  });

  hostTest("adds to the bundle of a script only what it uses, in less than 60 kB", async () => {
    await write("main.ts", script);
    const { outputs, metafile } = await Bun.build({
      entrypoints: [join(folder, "main.ts")],
      target: "bun",
      minify: true,
      metafile: true,
    });
    // The bytes of each folder, to find the cause of a failure.
    const bytes: Record<string, number> = {};
    for (const output of Object.values(metafile?.outputs ?? {})) {
      for (const [path, { bytesInOutput }] of Object.entries(output.inputs)) {
        const name = /bun-bpf\/src\/(\w+)\//.exec(path)?.[1];
        if (name !== undefined && bytesInOutput > 0) {
          bytes[name] = (bytes[name] ?? 0) + bytesInOutput;
        }
      }
    }
    const unused = Object.keys(bytes).filter((name) => !usedFolders.includes(name));
    expect({ unused, bytes }).toEqual({ unused: [], bytes });
    const size = outputs[0]?.size ?? 0;
    expect({ isSmall: size < 60_000, size, bytes }).toEqual({ isSmall: true, size, bytes });
  });

  hostTest("loads at import only the code that HashMap and the types need", async () => {
    const map = join(folder, "node_modules/bun-bpf/dist/core.cjs.map");
    const { sources } = (await Bun.file(map).json()) as { sources: string[] };
    const folders = new Set(sources.flatMap((path) => /^\.\.\/src\/(\w+)\//.exec(path)?.[1] ?? []));
    const own = [...usedFolders, "start"];
    expect([...folders].filter((name) => !own.includes(name))).toEqual([]);
  });

  hostTest("names the packages in the command's bundle, with their licenses", async () => {
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

  hostTest("has the compiler's parser as its only dependency at run time", () => {
    const installed = readdirSync(join(folder, "node_modules")).filter((name) => name !== ".bin");
    expect(installed).toEqual(["acorn", "bun-bpf"]);
  });

  hostTest("loads the compiler and its parser when a function is compiled", async () => {
    await write(
      "compile.ts",
      `import { bpf, Program } from "bun-bpf";
const loaded = () => Object.keys(require.cache).flatMap((path) => /(compiler|rest|acorn)\\.c?js$/.exec(path)?.[1] ?? []);
const steps = [loaded()];
Program.prototype;
steps.push(loaded());
bpf.compile({}, { socket: () => 1 });
steps.push(loaded());
console.log(JSON.stringify(steps));
`,
    );
    const { stdout } = await runBun(["compile.ts"], { cwd: folder });
    const [atImport, withProgram, withFunction] = JSON.parse(stdout) as string[][];
    expect(atImport).toEqual([]);
    expect(withProgram).toEqual(["rest"]);
    expect(withFunction).toContain("compiler");
    expect(withFunction).toContain("acorn");
  });

  describe.each([
    ["typescript-7", projects],
    // TypeScript 5, which is slower, checks each setting once.
    ["typescript", projects.slice(1, 3)],
  ] as const)("with %s", (compiler, settings) => {
    hostTest.each([...settings])("has exact types, %s", async (title, project) => {
      const name = `${compiler} ${title}`;
      await write(
        `${name}.ts`,
        `import { ArrayMap, asm, HashMap, MergedEvents, Program, RingBuf, t, uapi } from "bun-bpf";
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
export const merged = (): MergedEvents<{ ring: RingBuf<t.Type<Event>> }> => new MergedEvents({ ring: ring() });
export const verdict: uapi.xdp_action = uapi.XDP_PASS;
// @ts-expect-error no state of TCP
export const state: uapi.tcp_state = 99;
export const load = (): Program => new Program({ section: "xdp", license: "GPL", code: [] });
`,
      );
      const tsconfig = { compilerOptions: { ...strictest, ...project }, files: [`${name}.ts`] };
      await write(`${name}.json`, JSON.stringify(tsconfig));
      const tsc = join(packageRoot, "node_modules", compiler, "bin/tsc");
      const { stdout, exitCode } = await runBun([tsc, "-p", `${name}.json`], { cwd: folder });
      expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 0 });
    });
  });

  installedTest("works when installed", async () => {
    await write("main.ts", script);
    const { stdout, stderr } = await runBun(["main.ts"], { cwd: folder });
    expect({ stdout, stderr }).toEqual({ stdout: "2n\n", stderr: "" });
  });

  installedTest("works when required", async () => {
    await write(
      "required.cjs",
      script.replace(/import (.*) from (.*);/, "const $1 = require($2);"),
    );
    const { stdout, stderr } = await runBun(["required.cjs"], { cwd: folder });
    expect({ stdout, stderr }).toEqual({ stdout: "2n\n", stderr: "" });
  });

  installedTest("names classes in a minified bundle", async () => {
    await write(
      "named.ts",
      `import { asm, BpfObject, Btf, features, HashMap, Program, RingBuf, t } from "bun-bpf";
const code = [asm.mov(asm.r0, 0), asm.exit()];
using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
using ring = new RingBuf({ size: 65536, event: t.u32 });
using program = new Program({ section: "raw_tp/sched_switch", license: "GPL", code });
using link = program.attach();
using object = BpfObject.load({});
const errors = [
  () => HashMap.fromFd(ring.fd, map.types),
  () => { const gone = ring.dup(); gone[Symbol.dispose](); gone.fd; },
  () => new Program({ section: "socket", license: "GPL", code: [asm.exit()] }),
].map((fails) => { try { fails(); } catch (error) { return error; } });
for (const each of [map, ring, program, link, object, Btf.kernel(), features, features.mapTypes]) {
  console.log(Bun.inspect(each).split(" ")[0]);
}
for (const error of errors) console.log(String(error).split(":")[0]);
`,
    );
    const [built] = (
      await Bun.build({ entrypoints: [join(folder, "named.ts")], target: "bun", minify: true })
    ).outputs;
    await write("named.js", (await built?.text()) ?? "");
    const { stdout, stderr } = await runBun(["named.js"], { cwd: folder });
    const classes = "HashMap RingBuf Program Link BpfObject Btf Features FeatureGroup";
    const names = `${classes} TypeError DisposedError VerifierError`.split(" ");
    expect({ stdout, stderr }).toEqual({ stdout: `${names.join("\n")}\n`, stderr: "" });
  });

  installedTest("works in a test", async () => {
    const body = script.split("\n").slice(1).join("\n");
    await write(
      "used.test.ts",
      `import { test } from "bun:test";
import { HashMap, t } from "bun-bpf";
test("a map", () => {
${body}});`,
    );
    expect(await runBun(["test", "used.test.ts"], { cwd: folder })).toMatchObject({ exitCode: 0 });
  });

  installedTest("names the remedy if no descriptor is left to load a part", async () => {
    await write(
      "no_descriptor.ts",
      `import { closeSync, openSync } from "node:fs";
import { RingBuf, t } from "bun-bpf";
const taken: number[] = [];
try { for (;;) taken.push(openSync("/dev/null")); } catch {}
const use = () => {
  try { using ring = new RingBuf({ size: 4096, event: t.u32 }); console.log(ring.byteLength); }
  catch (error) { console.log((error as Error).message); }
};
use();
for (const fd of taken) closeSync(fd);
use();
`,
    );
    const { stdout, stderr } = await run(bunWithDescriptors(100, ["no_descriptor.ts"]), {
      cwd: folder,
    });
    expect({ stdout, stderr }).toEqual({
      stdout:
        "cannot load bun-bpf: open: EMFILE (too many open files). Close open files, or raise the limit of this process (ulimit -n)\n4096\n",
      stderr: "",
    });
  });

  hostTest("exports the same names and kinds of values as the sources", async () => {
    await write(
      "exports.ts",
      `import * as library from "bun-bpf";
console.log(JSON.stringify((${describeExports.toString()})(library)));`,
    );
    const { stdout, stderr } = await runBun(["exports.ts"], { cwd: folder });
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual(JSON.parse(JSON.stringify(describeExports(library))));
  });

  installedTest(
    "has classes that work with extends and instanceof, and objects with methods",
    async () => {
      await write(
        "classes.ts",
        `import { asm, BpfMap, Btf, constantName, disassemble, features, HashMap, MergedEvents, Program, RingBuf, t, uapi } from "bun-bpf";
class Mine extends RingBuf<number> {
  get twice() { return 2 * this.id; }
}
using ring = new RingBuf({ size: 4096, event: t.u32 });
using mine = new Mine({ size: 4096, event: t.u32 });
using code = new Program({ section: "xdp", license: "GPL", code: [asm.mov(asm.r0, 2), asm.exit()] });
using again = Mine.fromId(ring.id, { event: t.u32 });
console.log(JSON.stringify([
  ring instanceof RingBuf, ring instanceof BpfMap, ring.constructor === RingBuf,
  mine instanceof RingBuf, mine instanceof Mine, mine.twice === 2 * mine.id, !(ring instanceof Mine),
  again instanceof RingBuf, again.id === ring.id,
  !(ring instanceof HashMap), code instanceof Program, !(code instanceof RingBuf),
  Object.getPrototypeOf(Mine) === RingBuf, Object.getPrototypeOf(Mine.prototype) === RingBuf.prototype,
  Bun.inspect(ring).startsWith("RingBuf {"), Btf.kernel() === Btf.kernel(),
  Bun.inspect(code).startsWith("Program {"), Bun.inspect(Program).startsWith("[class Program"),
  Bun.inspect(asm).includes("mov: "),
  uapi.XDP_PASS === 2, uapi.tcp_state.TCP_LISTEN === 10, constantName(uapi.errno, 13) === "EACCES",
  new MergedEvents({ ring, mine }).drain(() => {}) === 0,
  disassemble([asm.exit()]).includes("exit"), features.mapTypes.get("hash").status === "available",
]));`,
      );
      const { stdout, stderr } = await runBun(["classes.ts"], { cwd: folder });
      expect(stderr).toBe("");
      expect(new Set(JSON.parse(stdout) as boolean[])).toEqual(new Set([true]));
    },
  );

  hostTest(
    "has classes whose static members can be changed, separately from those of a subclass",
    async () => {
      await write(
        "statics.ts",
        `import { Program } from "bun-bpf";
class Mine extends Program {
  static count: number;
}
Mine.count = 1;
const isApart = Object.hasOwn(Mine, "count") && !("count" in Program);
Object.defineProperty(Program, "mark", { value: 2, configurable: true });
const isDefined = Reflect.get(Program, "mark") === 2;
Reflect.deleteProperty(Program, "mark");
console.log(JSON.stringify([isApart, isDefined, !("mark" in Program)]));`,
      );
      const { stdout, stderr } = await runBun(["statics.ts"], { cwd: folder });
      expect(stderr).toBe("");
      expect(JSON.parse(stdout)).toEqual([true, true, true]);
    },
  );

  installedTest("explains a rejected helper by a probe, which it loads for that", async () => {
    await write(
      "refused.ts",
      `import { asm, Program } from "bun-bpf";
try {
  new Program({ section: "xdp", license: "GPL", code: [asm.call("get_func_ip"), asm.exit()] });
} catch (error) {
  console.log((error as Error).message);
}`,
    );
    const { stdout } = await runBun(["refused.ts"], { cwd: folder });
    expect(stdout).toContain(
      "Programs of the type xdp cannot call bpf_get_func_ip() on this kernel",
    );
  });

  hostTest("has stacks that name the lines of the sources", async () => {
    await write(
      "stack.ts",
      `import { HashMap, LpmTrie, Program, t } from "bun-bpf";
for (const make of [
  () => new HashMap({ key: t.u32, value: t.u32, maxEntries: -1 }),
  () => new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: -1 }),
  () => new Program({ section: "xdp", license: "GPL", code: [] }),
]) {
  try {
    make();
  } catch (error) {
    console.log((error as Error).stack);
  }
}`,
    );
    const { stdout } = await runBun(["stack.ts"], { cwd: folder });
    const places = [...stdout.matchAll(/node_modules\/bun-bpf\/(\S+?):(\d+):\d+/g)];
    expect(stdout).toMatch(/HashMap .*bun-bpf\/src\/maps\/hash_map\.ts:\d+:\d+/);
    expect(stdout).toMatch(/LpmTrie .*bun-bpf\/src\/maps\/lpm_trie\.ts:\d+:\d+/);
    expect(stdout).toMatch(/Program .*bun-bpf\/src\/program\/program\.ts:\d+:\d+/);
    for (const [, file, line] of places) {
      const text = await Bun.file(join(folder, "node_modules/bun-bpf", `${file}`)).text();
      expect(text.split("\n").length).toBeGreaterThanOrEqual(Number(line));
    }
  });

  installedTest(
    "reports an object that is left open with the line of the script that opened it",
    async () => {
      await write(
        "open.ts",
        `import { LpmTrie, t } from "bun-bpf";
new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 1 });`,
      );
      const env = { BUN_BPF_TRACE_HANDLES: "1" };
      const { stderr } = await runBun(["open.ts"], { cwd: folder, env });
      const [, made, user] = stderr.split("\n");
      expect(made).toMatch(/at new LpmTrie \(.*bun-bpf\/src\/maps\/lpm_trie\.ts:\d+:\d+\)$/);
      expect(user).toMatch(/\/open\.ts:2:\d+$/);
    },
  );

  hostTest.each(['import("bun-bpf")', 'require("bun-bpf")'])(
    "says in one line that it needs Bun: %s in Node",
    async (code) => {
      if (Bun.which("node") === null) return;
      const { stderr, exitCode } = await run(["node", "-e", code], { cwd: folder });
      expect(exitCode).not.toBe(0);
      const sentence =
        "Error: bun-bpf runs on Bun: start the program with `bun FILE` (https://bun.com)";
      expect(stderr.split("\n").filter((line) => line.includes(sentence))).toHaveLength(1);
      expect(stderr).not.toMatch(/^ +at .*bun-bpf/m);
    },
  );

  hostTest("has the command, without dependencies", async () => {
    const { version } = (await Bun.file(join(packageRoot, "package.json")).json()) as {
      version: string;
    };
    // --no-install: bunx must not download anything.
    const bunx = (...args: string[]) =>
      runBun(["x", "--no-install", "bun-bpf", ...args], { cwd: folder });
    expect(await bunx("--version")).toMatchObject({ stdout: `${version}\n`, exitCode: 0 });
    expect((await bunx("--help")).stdout).toContain("Usage: bun-bpf [options] [command]");
    expect(await bunx("map", "shw")).toMatchObject({ stdout: "", exitCode: 2 });
  });

  describe("in a hostile folder, whose files make Bun run code", () => {
    const hostile = () => join(folder, "hostile");
    const ran = () => join(folder, "ran");

    beforeAll(async () => {
      if (isGuest) return;
      const files = {
        "evil.ts": `import { appendFileSync } from "node:fs";
appendFileSync(${JSON.stringify(ran())}, process.argv.join(" ") + "\\n");`,
        "bunfig.toml": 'preload = ["./evil.ts"]\n[run]\npreload = ["./evil.ts"]\n',
        // Each of these replaces the script itself.
        "tsconfig.json": '{ "compilerOptions": { "paths": { "*": ["./evil.ts"] } } }',
        "jsconfig.json": '{ "compilerOptions": { "paths": { "*": ["./evil.ts"] } } }',
        "package.json": '{ "imports": { "#*": "./evil.ts" }, "browser": { "fs": "./evil.ts" } }',
      };
      const variables =
        "FORCE_COLOR=3\nBUN_OPTIONS=--preload=./evil.ts\nNODE_OPTIONS=--require=./evil.ts\n";
      for (const name of [".env", ".env.local", ".env.development", ".env.production"]) {
        await Bun.write(join(hostile(), name), variables);
      }
      for (const [name, text] of Object.entries(files))
        await Bun.write(join(hostile(), name), text);
      symlinkSync(join(folder, "node_modules"), join(hostile(), "node_modules"));
    });

    /** Runs a command in that folder, and returns its output and the code of the folder that ran. */
    const runThere = async (command: readonly string[]) => {
      rmSync(ran(), { force: true });
      // Without the variables of this process that the .env files there set.
      const { stdout, stderr, exitCode } = await run(
        ["env", "-u", "FORCE_COLOR", "-u", "NO_COLOR", ...command],
        { cwd: hostile() },
      );
      return { stdout, stderr, exitCode, ran: existsSync(ran()) && readFileSync(ran(), "utf8") };
    };

    hostTest("Bun itself runs that code", async () => {
      const file = join(folder, "node_modules/bun-bpf/dist/cli.js");
      expect((await runThere([process.execPath, file, "--version"])).ran).toContain("cli.js");
    });

    hostTest.each([
      ["its path", () => [join(folder, "node_modules/.bin/bun-bpf")]],
      ["bunx", () => [process.execPath, "x", "--no-install", "bun-bpf"]],
      ["npx", () => ["npx", "--no-install", "bun-bpf"]],
    ])("the command does not run that code: by %s", async (_, command) => {
      const file = join(packageRoot, "package.json");
      const { version } = (await Bun.file(file).json()) as { version: string };
      expect(await runThere([...command(), "--version"])).toEqual({
        stdout: `${version}\n`,
        stderr: "",
        exitCode: 0,
        ran: false,
      });
      const { stdout, ...rest } = await runThere([...command(), "--help"]);
      expect(rest).toEqual({ stderr: "", exitCode: 0, ran: false });
      expect(stdout).toStartWith("Usage: bun-bpf [options] [command]");
    });

    installedTest("the command does not read the .env files", async () => {
      const command = [join(folder, "node_modules/.bin/bun-bpf"), "map", "list"];
      const { stdout, ...rest } = await runThere(command);
      expect(rest).toEqual({ stderr: "", exitCode: 0, ran: false });
      expect(stdout).toMatch(/^ *ID  TYPE/);
      expect(stdout).not.toContain("\u001b");
    });

    hostTest("the examples do not run that code", async () => {
      const examples = join(folder, "node_modules/bun-bpf/examples");
      for (const name of readdirSync(examples)) {
        const file = join(examples, name);
        chmodSync(file, 0o755);
        const { stdout, ...rest } = await runThere([file, "--help"]);
        expect({ name, ...rest }).toEqual({ name, stderr: "", exitCode: 0, ran: false });
        expect(stdout).toContain("usage: ");
      }
    });
  });

  installedTest("has a command that shows what is in the kernel", async () => {
    const { HashMap, t } = library;
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    map.set(1, 2n);
    const args = ["x", "--no-install", "bun-bpf", "map", "dump", `${map.id}`];
    expect(await runBun(args, { cwd: folder })).toMatchObject({ stdout: "1 => 2\n", exitCode: 0 });
    const list = await runBun(["x", "--no-install", "bun-bpf", "map", "list"], { cwd: folder });
    expect(list.stdout).toMatch(new RegExp(`^ *${map.id}  hash `, "m"));
  });

  installedTest(
    "disposes of the objects of the old code when bun --hot reloads a script",
    async () => {
      await using script = new HotScript(
        `import { HashMap, keepAcrossReloads, RingBuf, t } from "bun-bpf";
// begin
const kept = globalThis as any;
const ring = new RingBuf({ size: 65_536, event: t.u32 });
void (async () => {
  for await (const _event of ring);
  report({ over: true });
})();
const map = (kept.map ??= keepAcrossReloads(new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 })));
const before = kept.ring;
kept.ring = ring;
report({ ready: true, rings: [before?.disposed, ring.disposed], map: map.set(1, 2n).count() });`,
        folder,
      );
      await script.waitFor(({ ready }) => ready === true);
      expect(await script.save()).toMatchObject({ rings: [true, false], map: 1 });
      await script.waitFor(({ evaluation, over }) => evaluation === 1 && over === true);
    },
  );

  installedTest.each([
    [["--target=bun"], "bundle.js"],
    [["--target=bun", "--minify"], "bundle.js"],
    [["--compile"], "main"],
    [["--compile", "--minify", "--bytecode"], "main"],
  ])("works when built with %j", async (options, outfile) => {
    for (const input of ["main.ts", "required.cjs"]) {
      const args = ["build", ...options, input, "--outfile", outfile];
      const built = await runBun(args, { cwd: folder });
      expect(built).toMatchObject({ exitCode: 0 });
      const command = outfile === "main" ? [join(folder, "main")] : [process.execPath, outfile];
      expect(await run(command, { cwd: folder })).toMatchObject({ stdout: "2n\n", stderr: "" });
    }
  });
});

/** Returns the kind of each export, its name, and the names of the members of classes and objects. */
function describeExports(exports: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(exports)
      .filter(([name]) => name !== "default")
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]: [string, { name: string }]) => {
        const isFunction = typeof value === "function" && /^[a-z]/.test(name);
        const members = isFunction
          ? []
          : Object.keys(Object.getOwnPropertyDescriptors(value)).toSorted();
        return [name, [typeof value, typeof value === "function" && value.name, members]];
      }),
  );
}
