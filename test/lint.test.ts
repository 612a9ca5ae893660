/** `bun run lint` and `bun run docs` find the defects that they are for. `.ci/run` runs them on this project. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot, runBun } from "./support/run.ts";
import { hostTest, isGuest } from "./support/skipping.ts";

let folder = "";

const files = {
  "package.json": '{ "name": "bad", "type": "module", "main": "src/index.ts" }',
  "tsconfig.json": JSON.stringify({
    extends: join(packageRoot, "tsconfig.json"),
    include: ["**/*.ts"],
  }),
  "README.md": "[gone](docs/gone.md)",
  "src/index.ts": `export { documented, undocumented } from "./maps/bad.ts";
export { first } from "./maps/module.ts";
`,
  "src/maps/module.ts": `/** @module Functions without doc comments. */
export function first(): void {}
`,
  "src/maps/bad.ts": `/** What is badly begun. */
export interface Hidden {
  /** Number of something. */
  readonly size: number;
}
export function undocumented(): void {}
/** Returns a {@link Nothing}. */
export function documented(): Hidden {
  Promise.resolve(1);
  return { size: 1 };
}
/** Is used by nothing. */
export const unused = 1;
`,
  "test/bad.test.ts": `import { expect, test } from "bun:test";
test("an expectation that nothing awaits", () => {
  expect(Promise.reject(new Error())).rejects.toThrow();
});
`,
};

beforeAll(async () => {
  if (isGuest) return;
  folder = mkdtempSync(join(tmpdir(), "lint-"));
  for (const [name, text] of Object.entries(files)) await Bun.write(join(folder, name), text);
  symlinkSync(join(packageRoot, "node_modules"), join(folder, "node_modules"));
  for (const name of [".oxlintrc.json", "knip.json", "typedoc.json"]) {
    copyFileSync(join(packageRoot, name), join(folder, name));
  }
  symlinkSync(join(packageRoot, ".ci"), join(folder, ".ci"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a tool of the project in the folder, and returns what it found. */
async function run(tool: string, ...args: readonly string[]): Promise<string> {
  const path = join(packageRoot, "node_modules", tool);
  const { stdout, stderr, exitCode } = await runBun([path, ...args], { cwd: folder });
  expect(exitCode).toBeGreaterThan(0);
  return stdout + stderr;
}

describe("the lint", () => {
  hostTest(
    "finds promises and expectations that nothing awaits, and bad doc comments",
    async () => {
      const found = await run(
        "oxlint/bin/oxlint",
        "--type-aware",
        "--format",
        "unix",
        "src",
        "test",
      );
      const lines = found.split("\n").filter((line) => line.includes("[Error/"));
      expect(lines.map((line) => line.replace(/:\d+: .*\//, " ").replace("]", "")).sort()).toEqual([
        "src/maps/bad.ts:1 bun-bpf(doc-beginning)",
        "src/maps/bad.ts:6 bun-bpf(doc-missing)",
        "src/maps/bad.ts:9 typescript(no-floating-promises)",
        "src/maps/module.ts:2 bun-bpf(doc-missing)",
        "test/bad.test.ts:3 bun-bpf(awaited-expectation)",
      ]);
    },
  );

  hostTest("finds exports that nothing imports", async () => {
    expect(await run("knip/bin/knip.js", "--reporter", "compact")).toBe(
      "Unused exports (1)\nsrc/maps/bad.ts: unused\nUnused exported types (1)\nsrc/maps/bad.ts: Hidden\n",
    );
  });
});

describe("the reference", () => {
  hostTest("needs comments, exports and links that lead somewhere", async () => {
    // Findings of one sort do not end the run before the others are looked for.
    const flags = ["--treatWarningsAsErrors", "false", "--treatValidationWarningsAsErrors", "true"];
    const found = await run("typedoc/bin/typedoc", ...flags);
    for (const problem of [
      "Hidden, defined in bad/src/maps/bad.ts, is referenced by documented but not included",
      "undocumented (CallSignature), defined in bad/src/maps/bad.ts, does not have any documentation",
      'Failed to resolve link to "Nothing"',
      "The relative path docs/gone.md is not a file",
    ]) {
      expect(found).toContain(problem);
    }
  });
});
