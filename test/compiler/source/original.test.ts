import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { findOriginal, OriginalFile } from "../../../src/compiler/source/original.ts";
import { SourceText } from "../../../src/compiler/source/source_text.ts";

/**
 * The truth is known by marks: each name of the corpus gets its line and column (`ctx__7_12`) before Bun transforms it. The
 * marks are removed before the text is compared with the corpus.
 */
const corpus = readFileSync(join(import.meta.dir, "corpus/functions.ts.txt"), "utf8");
const mark = /([\p{ID_Continue}$]+?)__(\d+)_(\d+)\b/gu;

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "bun-bpf-original-"))));
afterAll(() => rmSync(folder, { recursive: true }));

/** Returns the corpus with marks: of all names, or only of properties, so that locals are still known to be the same. */
function marked(which: "all names" | "properties"): string {
  const file = ts.createSourceFile("corpus.ts", corpus, ts.ScriptTarget.Latest, true);
  const edits: { at: number; place: string }[] = [];
  const visit = (node: ts.Node, isInside: boolean): void => {
    const inside = isInside || ts.isFunctionLike(node);
    if (ts.isIdentifier(node) && isInside && isMarked(node, which)) {
      const { line, character } = file.getLineAndCharacterOfPosition(node.getStart());
      edits.push({ at: node.getEnd(), place: `${line + 1}_${character + 1}` });
    }
    node.forEachChild((child) => visit(child, inside));
  };
  for (const statement of file.statements) {
    // The helper that the module calls keeps its names.
    if (ts.isVariableStatement(statement)) visit(statement, false);
  }
  let result = "";
  let done = 0;
  for (const { at, place } of edits) {
    result += `${corpus.slice(done, at)}__${place}`;
    done = at;
  }
  return result + corpus.slice(done);
}

function isMarked(node: ts.Identifier, which: "all names" | "properties"): boolean {
  const { parent } = node;
  if (/^[A-Z_0-9]+$/.test(node.text) || node.text === "undefined" || node.text === "run")
    return false;
  if (ts.isTypeNode(parent) || ts.isFunctionExpression(parent)) return false;
  if (which === "all names") return true;
  return (
    (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
    (ts.isPropertyAssignment(parent) && parent.name === node)
  );
}

interface MarkedName {
  readonly start: number;
  readonly end: number;
  /** The place in the corpus. */
  readonly line: number;
  readonly column: number;
}

interface Marked {
  readonly place: string;
  /** The text without marks. */
  readonly text: string;
  readonly names: readonly MarkedName[];
}

function withoutMarks(place: string, fn: unknown): Marked {
  const names: MarkedName[] = [];
  let removed = 0;
  const text = String(fn).replace(
    mark,
    (whole, name: string, line: string, column: string, at: number) => {
      const start = at - removed;
      names.push({ start, end: start + name.length, line: Number(line), column: Number(column) });
      removed += whole.length - name.length;
      return name;
    },
  );
  return { place, text, names };
}

async function functionsOf(code: string, name: string): Promise<Marked[]> {
  const path = join(folder, name);
  writeFileSync(path, code);
  const { functions } = (await import(path)) as { functions: Record<string, unknown> };
  return Object.entries(functions).map(([place, value]) =>
    withoutMarks(place, typeof value === "function" ? value : (value as { run: unknown }).run),
  );
}

async function built(code: string, name: string, minify: object | boolean): Promise<string> {
  const path = join(folder, `${name}.input.ts`);
  writeFileSync(path, code);
  const { outputs } = await Bun.build({ entrypoints: [path], target: "bun", minify } as never);
  return await outputs[0]!.text();
}

/** Returns the names with a wrong line and those with a wrong column, as messages, and the number of all names. */
function compare(
  file: OriginalFile,
  functions: readonly Marked[],
): { lines: string[]; columns: string[]; count: number } {
  const lines: string[] = [];
  const columns: string[] = [];
  let count = 0;
  for (const { place, text, names } of functions) {
    const original = findOriginal(file, { text, place, line: 1 });
    if (original === undefined) throw new Error(`the TypeScript of ${place} was not found`);
    for (const { start, end, line, column } of names) {
      count++;
      const { file: source, start: at } = original.rangeOf(start, end);
      const found = source.placeOf(at);
      const message = `${place}: ${text.slice(start, end)} of ${line}:${column} at ${found.line}:${found.column}`;
      if (found.line !== line) lines.push(message);
      else if (found.column !== column) columns.push(message);
    }
  }
  return { lines, columns, count };
}

const variants: Record<string, (code: string, name: string) => Promise<Marked[]>> = {
  "run by Bun": (code, name) => functionsOf(code, `${name}.ts`),
  bundled: async (code, name) => functionsOf(await built(code, name, false), `${name}.js`),
  "bundled with shorter syntax": async (code, name) =>
    functionsOf(await built(code, name, { syntax: true }), `${name}.js`),
  minified: async (code, name) => functionsOf(await built(code, name, true), `${name}.js`),
  "minified, with names kept": async (code, name) =>
    functionsOf(await built(code, name, { syntax: true, whitespace: true }), `${name}.js`),
};

for (const [variant, load] of Object.entries(variants)) {
  for (const which of ["all names", "properties"] as const) {
    for (const lineEnd of ["\n", "\r\n"]) {
      const title = `${variant}: ${which} get their lines${lineEnd === "\n" ? "" : ", with line ends of Windows"}`;
      test(title, async () => {
        const name = title.replaceAll(/\W+/g, "_");
        const functions = await load(marked(which).replaceAll("\n", lineEnd), name);
        expect(functions.length).toBe(14);
        const file = new OriginalFile(
          new SourceText("corpus.ts", corpus.replaceAll("\n", lineEnd)),
        );
        const { lines, columns, count } = compare(file, functions);
        expect(count).toBeGreaterThan(which === "all names" ? 490 : 200);
        expect(lines.length / count, lines.join("\n")).toBeLessThan(0.002);
        expect(columns.length / count, columns.join("\n")).toBeLessThan(0.02);
      });
    }
  }
}
