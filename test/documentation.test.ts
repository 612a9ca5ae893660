/** Every example in the documentation is type-checked and run. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as library from "../src/index.ts";
import { features, type MapTypeName } from "../src/index.ts";
import { MapKind } from "../src/maps/map_options.ts";
import { sessionsPage } from "./sessions.ts";
import { blocksOf, namedFilesOf, type Page, pageAt, pages } from "./support/markdown.ts";
import { testWith } from "./support/needs.ts";
import { bpfTest } from "./support/privilege.ts";
import { packageRoot, runBun } from "./support/run.ts";
import { type DefineTest, hostTest } from "./support/skipping.ts";

interface Example {
  /** The file, and the number of the example in it. */
  readonly name: string;
  readonly code: string;
  /** The expected output: the comments after its `console.log` lines. */
  readonly output: readonly string[];
}

function exampleOf(name: string, code: string): Example {
  const output = [...code.matchAll(/^.*\bconsole\.log\(.*\);\s*\/\/ (.*)$/gm)].map(
    ([, text]) => text as string,
  );
  return { name, code, output };
}

/** Removes what differs in print: line breaks in objects, and quotes of strings. */
function withoutLayout(text: string): string {
  return text.replace(/[\s,"]+/g, "");
}

function examplesInComments(path: string): Example[] {
  const text = readFileSync(join(packageRoot, path), "utf8");
  return [...text.matchAll(/^( *)\* ```ts\n([\s\S]*?)^ *\* ```$/gm)].map(([, , body], index) =>
    exampleOf(`${path} #${index + 1}`, (body as string).replace(/^ *\* ?/gm, "")),
  );
}

/** Returns the examples of a page, without those that are files of a project or of several processes. */
function examplesInPage(page: Page): Example[] {
  const files = new Set(namedFilesOf(page).values());
  return blocksOf(page)
    .filter(({ language }) => language === "ts")
    .map(({ code }, index) => exampleOf(`${page.path} #${index + 1}`, code))
    .filter(({ code }) => !files.has(code));
}

/** Returns the files of the project that a page shows, by name, if there are tests among them. Else it shows none. */
function projectOf(page: Page): ReadonlyMap<string, string> {
  const files = namedFilesOf(page);
  return [...files.keys()].some((name) => name.endsWith(".test.ts")) ? files : new Map();
}

const sources = [...new Bun.Glob("src/**/*.ts").scanSync(packageRoot)].sort();
const examples = [...sources.flatMap(examplesInComments), ...pages.flatMap(examplesInPage)];
const projects = pages.filter((page) => projectOf(page).size > 0);
/** The page whose files are a server and a reader of its map. */
const pageOfProcesses = pageAt("docs/maps.md");
const pagesWithFiles = [...projects, pageOfProcesses, pageAt(sessionsPage)];
let folder = "";

function folderOf({ path }: Page): string {
  return join(folder, path.replace(/\W+/g, "-"));
}

function fileOf(example: Example): string {
  return join(folder, `${example.name.replace(/\W+/g, "-")}.ts`);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "documentation-"));
  mkdirSync(join(folder, "node_modules/@types"), { recursive: true });
  symlinkSync(packageRoot, join(folder, "node_modules/bun-bpf"));
  symlinkSync(join(packageRoot, "node_modules/bun-types"), join(folder, "node_modules/bun-types"));
  symlinkSync(
    join(packageRoot, "node_modules/@types/node"),
    join(folder, "node_modules/@types/node"),
  );
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  const configuration = {
    extends: join(packageRoot, "tsconfig.json"),
    compilerOptions: {
      noUnusedLocals: false,
      paths: { "bun-bpf": [join(packageRoot, "src/index.ts")] },
    },
    include: ["*.ts", "*/*.ts"],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(configuration));
  for (const example of examples) writeFileSync(fileOf(example), example.code);
  for (const page of pagesWithFiles) {
    mkdirSync(folderOf(page));
    for (const [name, code] of namedFilesOf(page)) writeFileSync(join(folderOf(page), name), code);
  }
});

/** The map types of all public classes, by the name of the class. */
const typesByClass: ReadonlyMap<string, MapTypeName> = new Map(
  Object.entries(library as Readonly<Record<string, { readonly kind?: unknown }>>).flatMap(
    ([name, { kind }]) => (kind instanceof MapKind ? [[name, kind.type] as const] : []),
  ),
);

/** Returns the map types that an example creates. */
function mapTypesOf({ code }: Example): MapTypeName[] {
  const created = [...code.matchAll(/\bnew (\w+)\(/g)].map(([, name]) => typesByClass.get(name!));
  return created.filter((type) => type !== undefined);
}

/** Defines a test of an example, which is skipped where the kernel lacks a map type that the example creates. */
function exampleTest(example: Example): DefineTest {
  return testWith(...mapTypesOf(example).map((type) => features.mapTypes.get(type)));
}

/** Result of an example: its output, and the error that it threw. */
interface Printed {
  readonly stdout: string;
  readonly thrown: string;
}

/** Number of examples that run in one process: most of the time is spent on loading the library. */
const examplesAtOnce = 16;
const printed = new Map<number, Promise<readonly Printed[]>>();

/**
 * Runs an example together with its neighbours, and alone if that fails: it may need its own process, or another example may have
 * ended the common one.
 */
async function runExample(example: Example): Promise<Printed> {
  if (example.code.includes('from "bun:test"')) return await runTestExample(example);
  const index = examples.indexOf(example);
  const first = index - (index % examplesAtOnce);
  let together = printed.get(first);
  if (together === undefined) {
    together = runTogether(examples.slice(first, first + examplesAtOnce));
    printed.set(first, together);
  }
  const inCompany = (await together)[index - first];
  if (inCompany?.thrown === "") return inCompany;
  const [alone] = await runTogether([example]);
  return alone ?? { stdout: "", thrown: "the process ended before the example did" };
}

/** Runs an example that defines tests. */
async function runTestExample(example: Example): Promise<Printed> {
  const { stdout, stderr, exitCode } = await runBun(["test", fileOf(example)], { cwd: folder });
  return { stdout, thrown: exitCode === 0 ? "" : stderr };
}

async function runTogether(some: readonly Example[]): Promise<readonly Printed[]> {
  const mark = `-- ${crypto.randomUUID()} --`;
  const script = join(import.meta.dir, "support/children/run_examples.ts");
  const run = await runBun([script, mark, ...some.map(fileOf)], { cwd: folder, timeout: 120_000 });
  const stdout = run.stdout.split(`${mark}\n`);
  const ends = run.stderr.split("\n").filter((line) => line.endsWith(mark));
  return stdout.slice(0, -1).map((text, index) => ({
    stdout: text,
    thrown: JSON.parse((ends[index] as string).slice(0, -mark.length)) as string,
  }));
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the README", () => {
  const readme = readFileSync(join(packageRoot, "README.md"), "utf8");

  test("names the commands that the checks run", () => {
    const checks = readFileSync(join(packageRoot, ".ci/run"), "utf8");
    for (const command of ["npm install", "npm test"]) {
      expect(readme).toContain(command);
      expect(checks).toContain(command);
    }
  });

  bpfTest("shows the columns that execsnoop has", async () => {
    const script = join(packageRoot, "examples/execsnoop.ts");
    const { stdout } = await runBun([script, "--duration", "0.1"]);
    expect(readme).toContain(stdout.split("\n", 1)[0] as string);
  });
});

describe("the documentation", () => {
  test("has named files only on pages whose files are run", () => {
    const scripts = (page: Page) =>
      [...namedFilesOf(page).keys()].some((name) => name.endsWith(".ts"));
    expect(pages.filter(scripts)).toEqual(pages.filter((page) => pagesWithFiles.includes(page)));
  });

  testWith(features.mapTypes.get("array"))(
    "shares a map between the processes in docs/maps.md",
    async () => {
      using files = new library.BpfFileSystem();
      const pins = files.path.replace("self", `${process.pid}`);
      const pathOf = (name: string): string => {
        const code = namedFilesOf(pageOfProcesses).get(name) ?? "";
        expect(code).toContain("/sys/fs/bpf/");
        const path = join(folder, `private_${name}`);
        writeFileSync(path, code.replaceAll("/sys/fs/bpf", pins));
        return path;
      };
      const server = Bun.spawn([process.execPath, pathOf("server.ts")], {
        cwd: folder,
        env: { ...process.env, PORT: "0" },
        stdio: ["ignore", "pipe", "inherit"],
      });
      try {
        const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
        let output = "";
        while (!output.includes("\n")) {
          const { done, value = "" } = await reader.read();
          if (done) throw new Error(`the server has ended after it printed ${output}`);
          output += value;
        }
        const url = /listening on (\S+)/.exec(output)?.[1] ?? "";
        for (let request = 0; request < 3; request++) {
          expect(await (await fetch(url)).text()).toBe("hello");
        }
        const { stdout, stderr } = await runBun([pathOf("reader.ts")], { cwd: folder });
        expect({ stdout, stderr }).toEqual({ stdout: "3 requests, 0 errors\n", stderr: "" });
      } finally {
        server.kill();
        await server.exited;
      }
      // The pin keeps the counts.
      const { stdout } = await runBun([pathOf("reader.ts")], { cwd: folder });
      expect(stdout).toBe("3 requests, 0 errors\n");
    },
  );

  test("has examples for all that is public", () => {
    const names = Object.keys(library);
    const files = pagesWithFiles.flatMap((page) => [...namedFilesOf(page).values()]);
    const text = [...examples.map(({ code }) => code), ...files].join("\n");
    const lacking = names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text));
    // What only other classes build upon is shown by those.
    expect(lacking.filter((name) => name !== "BpfMap")).toEqual([]);
  });

  hostTest("type-checks in all its examples", async () => {
    const { stdout, stderr, exitCode } = await runBun(["check", "--no-pretty"], { cwd: folder });
    expect(`${stdout}${exitCode === 0 ? "" : stderr}`).toBe("");
  });

  for (const page of projects) {
    const types = [...projectOf(page).values()].flatMap((code) => exampleOf("", code));
    const needed = types.flatMap(mapTypesOf).map((type) => features.mapTypes.get(type));
    testWith(...needed)(`runs the tests of the project in ${page.path}`, async () => {
      const { stderr, exitCode } = await runBun(["test"], { cwd: folderOf(page), env: { CI: "" } });
      expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
      const files = [...projectOf(page).keys()].filter((name) => name.endsWith(".test.ts"));
      for (const name of files) expect(stderr).toContain(`${name}:\n(pass)`);
      expect(stderr).toContain("\n 0 fail\n");
    });
  }

  for (const example of examples) {
    exampleTest(example)(`runs the example ${example.name}`, async () => {
      const { stdout, thrown } = await runExample(example);
      expect(thrown).toBe("");
      let rest = withoutLayout(stdout);
      for (const expected of example.output) {
        const place = rest.indexOf(withoutLayout(expected));
        expect(place, `"${expected}" printed, in:\n${stdout}`).not.toBe(-1);
        rest = rest.slice(place + withoutLayout(expected).length);
      }
    });
  }
});
