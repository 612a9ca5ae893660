import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { packageRoot } from "../support/run.ts";
import { enumerations, meanings } from "./enumerations.ts";
import { generate, outputFolder, read, readInput } from "./generate.ts";
import { enumOf, readLayout } from "./reduce.ts";
import { type Constants, constantFiles, layouts } from "./sources.ts";

const input = readInput();
const generated = generate(input);

test("src/uapi has exactly the output of the generator", () => {
  const files = readdirSync(outputFolder, { recursive: true }).filter((name) =>
    /\.ts$/.test(`${name}`),
  );
  expect(files.sort()).toEqual([...generated.keys()].sort());
  for (const [name, text] of generated) {
    expect(readFileSync(join(outputFolder, name), "utf8")).toBe(text);
  }
});

test("the files only declare values, so that bundlers can drop unused ones", () => {
  for (const text of generated.values()) {
    const code = text
      .replace(/\/\*\*[\s\S]*?\*\/|^\/\/.*$/gm, "")
      .replace(/^export const \w+ =(\n  "[-\w ]+"( \+|;))+$/gm, "")
      .trim();
    const statements = code
      .replace(/^(import|export) \{[\s\w,]*\} from "\.\/\w+\.ts";$/gm, "")
      .replace(/^export type (\w+) =\s+\(typeof \1\)\[keyof typeof \1\];$/gm, "");
    for (const line of statements.split("\n")) {
      expect(line).toMatch(
        /^$|^export \* from "\.\/\w+\.ts";$|^export const \w+ = (-?\d+;|\{)$|^export const enum \w+ \{$|^ +\w+(:| =) (-?\d+,|\{)$|^ +\w+,$|^ *\}( as const;|,)?$/,
      );
    }
  }
});

test("no two files declare the same name", () => {
  const names = [...generated.values()].flatMap((text) =>
    Array.from(text.matchAll(/^export const (?:enum )?(\w+)/gm), ([, name]) => name),
  );
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});

test("the output has every number of the input", () => {
  const { constants, enums, layouts, syscalls } = input;
  const texts = [...generated.values()].join("\n");
  const values = texts.match(/[:=] -?\d+[,;]$/gm) ?? [];
  const tables = [constants, enums, layouts, syscalls].flatMap((table) => Object.values(table));
  // Some are used twice: in an object for the library, and as a constant for scripts.
  const objects = Object.values(constantFiles)
    .flatMap(({ groups }) => groups.flatMap(({ from }) => from))
    .filter((source) => source.object !== undefined);
  const keysOf = (source: Constants) => namesOf(source).map((name) => `${enumOf(source)} ${name}`);
  const inObjects = new Set(objects.flatMap((source) => keysOf(source)));
  const twice = Object.values(enumerations)
    .flatMap(({ from }) => from.flatMap((source) => keysOf(source)))
    .filter((key) => inObjects.has(key));
  const names = tables.flatMap((table) => Object.keys(table));
  expect(values).toHaveLength(names.length + twice.length);
});

test("no constant is in two enumerations", () => {
  const names = Object.values(enumerations).flatMap(({ from }) =>
    from.flatMap((source) => namesOf(source)),
  );
  expect(names.length).toBeGreaterThan(500);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});

test("every documented constant exists", () => {
  const text = [...generated.values()].join("\n");
  const undeclared = Object.keys(meanings).filter(
    (name) => !text.includes(`export const ${name} =`),
  );
  expect(undeclared).toEqual([]);
});

test("no constant of the kernel is typed by hand", () => {
  const names = [...generated.values()].join("\n").matchAll(/^export const ([A-Z\d]+)_\w+ = /gm);
  const prefixes = new Set(Array.from(names, ([, prefix]) => prefix));
  const typed = [...new Bun.Glob("src/**/*.ts").scanSync(packageRoot)]
    .filter((path) => !path.startsWith("src/uapi/"))
    .flatMap((path) => {
      const text = readFileSync(join(packageRoot, path), "utf8");
      return Array.from(text.matchAll(/^(?:export )?const (([A-Z\d]+)_\w+) = -?\d/gm))
        .filter(([, , prefix]) => prefixes.has(prefix))
        .map(([, name]) => `${path}: ${name}`);
    });
  expect(typed).toEqual([]);
});

const kernel = readableKernel();

test.skipIf(kernel === undefined)("fields have the offsets of the running kernel's BTF", () => {
  const btf = kernel as Btf;
  for (const [name, layout] of Object.entries(layouts)) {
    // Not every kernel is built with Linux AIO and io_uring.
    if ((btf.find("struct", layout.type) ?? btf.find("union", layout.type)) === undefined) continue;
    const here = input.layouts[name] ?? {};
    const { sizeof: _, ...there } = readLayout(btf, layout);
    const shared = Object.entries(there).filter(([field]) => field in here);
    expect(shared).not.toEqual([]);
    for (const [field, offset] of shared) {
      expect(`${name}.${field}: ${offset}`).toBe(`${name}.${field}: ${here[field]}`);
    }
  }
});

function namesOf(source: Constants): string[] {
  return read(input, source).map(([name]) => name);
}

/** Returns the running kernel's BTF, or `undefined` if it cannot be read. */
function readableKernel(): Btf | undefined {
  try {
    return Btf.kernel();
  } catch {
    return undefined;
  }
}
