/**
 * Checks the imports of src: they must not point upward, or form a cycle.
 *
 *   bun test/architecture.ts            prints the graph of folders as a diagram
 *   bun test/architecture.ts --write    writes the graph to docs/architecture.md
 *   bun test/architecture.ts --check    prints imports that point upward, and cycles; fails if there are any
 */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { packageRoot } from "./support/run.ts";

/**
 * The highest folders that each folder may import. It may also import the folders that those may import, and `check`. A new
 * folder gets a row here.
 */
export const floors: Readonly<Record<string, readonly string[]>> = {
  check: [],
  uapi: ["check"],
  ffi: ["uapi"],
  types: ["ffi"],
  btf: ["types"],
  asm: ["btf"],
  loop: ["ffi"],
  elf: ["ffi"],
  symbols: ["types", "btf", "elf"],
  handle: ["types"],
  maps: ["handle", "symbols", "btf", "asm"],
  link: ["handle", "asm", "btf", "elf", "symbols", "loop"],
  program: ["link"],
  ring: ["maps", "loop"],
  kinds: ["ring"],
  object: ["kinds", "program", "elf"],
  aggregate: ["kinds"],
  features: ["maps", "link", "program"],
  compiler: ["object", "aggregate", "features"],
  inspect: ["compiler"],
  cli: ["inspect", "index"],
  start: ["ffi", "uapi"],
  index: ["inspect"],
};

/** An import of one file by another. Both are paths below src. */
export interface Import {
  readonly from: string;
  readonly to: string;
}

/** Reads the imports between files of src, including type-only imports. */
export function readImports(root = join(packageRoot, "src")): Import[] {
  const files = [...new Bun.Glob("**/*.ts").scanSync(root)].sort();
  return files.flatMap((from) =>
    importsOf(readFileSync(join(root, from), "utf8")).map((path) => ({
      from,
      to: normalize(join(dirname(from), path)),
    })),
  );
}

/** Returns the relative paths of all imports of a source, also of types and of exports from other files. */
export function importsOf(source: string): string[] {
  // Examples in comments have imports as well.
  const code = source.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const pattern = /(?:\bfrom|\bimport|\b(?:import|require)\s*\()\s*"(\.[^"]+\.ts)"/g;
  return [...new Set(Array.from(code.matchAll(pattern), ([, path = ""]) => path))];
}

/** Returns the folder of a file below src; `index` for src/index.ts. */
export function folderOf(file: string): string {
  const folder = dirname(file);
  return folder === "." ? file.replace(/\.ts$/, "") : (folder.split("/")[0] ?? folder);
}

/** Returns all folders that a folder may import. @throws {Error} if the folder has no row. */
function allowed(folder: string): ReadonlySet<string> {
  const row = floors[folder];
  if (row === undefined) throw new Error(`src/${folder} has no row in test/architecture.ts`);
  const all = new Set(["check"]);
  for (const below of row) {
    all.add(below);
    for (const other of allowed(below)) all.add(other);
  }
  return all;
}

/** Returns the imports that point upward, or sideways to a folder that is not below. */
export function upwardImports(imports: readonly Import[]): Import[] {
  return imports.filter(({ from, to }) => {
    const [importer, imported] = [folderOf(from), folderOf(to)];
    return importer !== imported && !allowed(importer).has(imported);
  });
}

/** Returns the groups of files whose imports form a cycle, each in order of their names. */
export function cycles(imports: readonly Import[]): string[][] {
  const next = new Map<string, string[]>();
  for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
  const reach = new Map<string, Set<string>>();
  for (const file of next.keys()) {
    const seen = new Set<string>();
    const waiting = [...(next.get(file) ?? [])];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      waiting.push(...(next.get(at) ?? []));
    }
    reach.set(file, seen);
  }
  const groups = new Map<string, string[]>();
  for (const [file, seen] of reach) {
    if (!seen.has(file)) continue;
    const group = [...seen].filter((other) => reach.get(other)?.has(file) === true).sort();
    groups.set(group.join(" "), group);
  }
  return [...groups.values()];
}

/** The page that describes the folders. */
export const page = join(packageRoot, "docs/architecture.md");

/** Returns the text of the page with the graph replaced. @throws {Error} if the text has no place for the graph. */
export function withGraph(text: string, imports: readonly Import[]): string {
  const place = /(?<=<!-- graph -->\n)[\s\S]*(?=<!-- end of graph -->)/;
  if (!place.test(text)) throw new Error(`${page} has no place for the graph`);
  return text.replace(place, () => `\n${drawGraph(imports)}\n\n`);
}

/**
 * Returns the graph of folders as a Mermaid diagram. Arrows point to the imported folder; those that follow from others are left
 * out.
 */
export function drawGraph(imports: readonly Import[]): string {
  const arrows = new Map<string, Set<string>>();
  for (const { from, to } of imports) {
    const [importer, imported] = [folderOf(from), folderOf(to)];
    if (importer === imported || imported === "check") continue;
    arrows.set(importer, (arrows.get(importer) ?? new Set()).add(imported));
  }
  const isReached = (from: string, to: string, seen: readonly string[] = []): boolean =>
    [...(arrows.get(from) ?? [])].some(
      (via) => via === to || (!seen.includes(via) && isReached(via, to, [...seen, via])),
    );
  const lines = [...arrows].flatMap(([from, all]) =>
    [...all]
      .filter((to) => ![...all].some((via) => via !== to && isReached(via, to)))
      .sort()
      .map((to) => `  ${from} --> ${to}`),
  );
  return ["```mermaid", "graph TD", ...lines, "```"].join("\n");
}

if (import.meta.main) {
  const imports = readImports();
  if (process.argv.includes("--check")) {
    const faults = [
      ...upwardImports(imports).map(({ from, to }) => `${from} imports ${to}`),
      ...cycles(imports).map((group) => `cycle: ${group.join(" ")}`),
    ];
    for (const fault of faults) console.log(fault);
    if (faults.length > 0) process.exitCode = 1;
  } else if (process.argv.includes("--write")) {
    writeFileSync(page, withGraph(readFileSync(page, "utf8"), imports));
  } else {
    console.log(drawGraph(imports));
  }
}
