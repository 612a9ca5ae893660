/** Imports point down: the order of the folders of src is in architecture.ts. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "./support/run.ts";
import {
  cycles,
  drawGraph,
  floors,
  folderOf,
  importsOf,
  page,
  readImports,
  upwardImports,
  withGraph,
} from "./architecture.ts";

const imports = readImports();

/** Imports that may point upward. */
const exceptions: readonly string[] = [];

test("no import points upward", () => {
  const upward = upwardImports(imports).map(({ from, to }) => `${from} imports ${to}`);
  expect(upward).toEqual([...exceptions]);
});

test("no imports form a cycle", () => {
  expect(cycles(imports)).toEqual([]);
});

test("look-ups of many keys need neither the assembler nor the loader of programs", () => {
  const needed = imports.filter(({ from }) => from === "maps/get_many.ts").map(({ to }) => to);
  expect(needed.filter((file) => /^asm\/|^ffi\/bpf_prog\.ts$/.test(file))).toEqual([]);
});

test("importsOf finds all forms of imports, except in comments", () => {
  const source = `import a from "./a.ts";
import type { B } from "./b.ts";
export * from "./c.ts";
import "./d.ts";
type E = import("./e.ts").E;
const f = () => import("./f.ts");
/** import { g } from "./g.ts"; */
// import "./h.ts";
import { i } from "package";`;
  expect(importsOf(source)).toEqual(["./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.ts", "./f.ts"]);
});

test("imports that point upward or sideways, and cycles, are found", () => {
  expect(upwardImports([{ from: "ffi/a.ts", to: "types/b.ts" }])).toHaveLength(1);
  expect(upwardImports([{ from: "loop/a.ts", to: "maps/b.ts" }])).toHaveLength(1);
  expect(upwardImports([{ from: "types/b.ts", to: "check/a.ts" }])).toEqual([]);
  const circle = [
    { from: "a/1.ts", to: "a/2.ts" },
    { from: "a/2.ts", to: "a/3.ts" },
    { from: "a/3.ts", to: "a/2.ts" },
  ];
  expect(cycles(circle)).toEqual([["a/2.ts", "a/3.ts"]]);
});

test("the graph has no arrows that follow from others", () => {
  const drawn = drawGraph([
    { from: "maps/a.ts", to: "ffi/b.ts" },
    { from: "maps/a.ts", to: "handle/c.ts" },
    { from: "handle/c.ts", to: "ffi/b.ts" },
  ]);
  expect(drawn).toContain("handle --> ffi");
  expect(drawn).not.toContain("maps --> ffi");
});

test("docs/architecture.md has the current graph", () => {
  const text = readFileSync(page, "utf8");
  // After a change of imports: bun test/architecture.ts --write
  expect(text).toBe(withGraph(text, imports));
});

test("docs/architecture.md has a row for each folder, in their order", () => {
  const described = Array.from(
    readFileSync(page, "utf8").matchAll(/^\| `src\/(\w+)(?:\.ts)?` /gm),
    ([, folder]) => folder,
  );
  const files = [...new Bun.Glob("**/*.ts").scanSync(join(packageRoot, "src"))];
  const folders = new Set(files.map(folderOf));
  expect(described).toEqual(Object.keys(floors).filter((folder) => folders.has(folder)));
});
