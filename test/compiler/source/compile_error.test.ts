import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CallSite } from "../../../src/compiler/source/call_site.ts";
import { CompileError } from "../../../src/compiler/source/compile_error.ts";
import { SourceText } from "../../../src/compiler/source/source_text.ts";
import { Sources } from "../../../src/compiler/source/source.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "bun-bpf-error-"))));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;

/** Writes and imports a TypeScript file that exports `programs`; also returns its path. */
async function load(code: string): Promise<{ path: string; programs: Record<string, Function> }> {
  const path = join(folder, `script${count++}.ts`);
  writeFileSync(path, code);
  const { programs } = (await import(path)) as { programs: Record<string, Function> };
  return { path, programs };
}

/** Returns the call site at the first line of a file that contains a text. */
function siteAt(path: string, code: string, text: string): CallSite {
  const line = code.split("\n").findIndex((each) => each.includes(text)) + 1;
  expect(line).toBeGreaterThan(0);
  return { file: path, line, column: 1 };
}

/** Returns the error for a part of a function's text. */
function errorAt(
  sites: readonly CallSite[],
  fn: Function,
  place: string,
  part: string,
  problem = "it is wrong",
  hint?: string,
): CompileError {
  const sources = new Sources(sites);
  const { id, text } = sources.read(fn, place);
  const start = text.indexOf(part);
  expect(start).toBeGreaterThanOrEqual(0);
  return sources.error({ source: id, start, end: start + part.length }, problem, hint);
}

const code = `const LIMIT = 10;

export const programs: Record<string, Function> = {
  "tp/sched/sched_switch"(ctx: { pid: number }, { counts }: any): undefined {
    // Kernel threads are left out.
    const pid = ctx.pid as number;
    if (pid > LIMIT && true) return undefined;

\tcounts.increment("世界", /* the key */ pid,
      pid / 2);
  },
};
`;

describe("the message", () => {
  test("shows the TypeScript, with the range", async () => {
    const { path, programs } = await load(code);
    const place = "tp/sched/sched_switch";
    const site = { file: path, line: 1, column: 1 };
    const error = errorAt(
      [site],
      programs[place]!,
      place,
      // Bun replaces the constant by its value.
      "10",
      '"LIMIT" is a variable of the surrounding module',
      "Put it into the scope: bpf.attach({ LIMIT }, ...)",
    );
    expect(error.message)
      .toBe(`cannot compile "tp/sched/sched_switch": "LIMIT" is a variable of the surrounding module
Put it into the scope: bpf.attach({ LIMIT }, ...)
  ${path}:7:15
    5 |     // Kernel threads are left out.
    6 |     const pid = ctx.pid as number;
  > 7 |     if (pid > LIMIT && true) return undefined;
      |               ^^^^^
    8 |
    9 |   counts.increment("世界", /* the key */ pid,`);
    expect(error).toMatchObject({
      name: "CompileError",
      place,
      problem: '"LIMIT" is a variable of the surrounding module',
      hint: "Put it into the scope: bpf.attach({ LIMIT }, ...)",
      file: path,
      line: 7,
      column: 15,
    });
  });

  test("underlines wide characters, tabs, and ranges of several lines", async () => {
    const { path, programs } = await load(code);
    const [place, fn] = Object.entries(programs)[0]!;
    const sites = [{ file: path, line: 1, column: 1 }];
    const first = fn.toString().indexOf("counts.increment");
    const call = fn.toString().slice(first, fn.toString().lastIndexOf(";"));
    expect(errorAt(sites, fn, place, call).message)
      .toBe(`cannot compile "tp/sched/sched_switch": it is wrong
  ${path}:9:2
     7 |     if (pid > LIMIT && true) return undefined;
     8 |
  >  9 |   counts.increment("世界", /* the key */ pid,
       |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    10 |       pid / 2);
    11 |   },`);
    expect(errorAt(sites, fn, place, "pid / 2").message).toContain(`
  > 10 |       pid / 2);
       |       ^^^^^^^`);
    expect(errorAt(sites, fn, place, "increment(").message).toContain(`
  >  9 |   counts.increment("世界", /* the key */ pid,
       |          ^^^^^^^^^^`);
    const string = /(?<=increment\()".*?"/.exec(fn.toString())![0];
    expect(errorAt(sites, fn, place, string).message).toContain(`
  >  9 |   counts.increment("世界", /* the key */ pid,
       |                    ^^^^^^`);
  });

  test("shows the function's text if the file is missing, or is another one", async () => {
    const { path, programs } = await load(code);
    const place = "tp/sched/sched_switch";
    const expected = `cannot compile "tp/sched/sched_switch": it is wrong
  <function "tp/sched/sched_switch">:2:17
    1 | "tp/sched/sched_switch"(ctx, { counts }) {
  > 2 |     const pid = ctx.pid;
      |                 ^^^`;
    const missing = { file: `${path}.missing`, line: 1, column: 1 };
    const other = { file: import.meta.path, line: 1, column: 1 };
    for (const sites of [[], [missing], [other], [{ ...missing, file: folder }]]) {
      const error = errorAt(sites, programs[place]!, place, "ctx.pid".slice(0, 3) + ".");
      expect(error.message).toStartWith(expected);
      expect(error.file).toBe('<function "tp/sched/sched_switch">');
    }
  });

  test("cuts long lines around the range", () => {
    const fn = Function(`return [${"1234567, ".repeat(100)} wrong, ${"1234567, ".repeat(100)}]`);
    const { message, column } = errorAt([], fn, "x", "wrong");
    const lines = message.split("\n");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(140);
    const marked = lines.findIndex((line) => line.startsWith("  > "));
    const at = lines[marked]!.indexOf("wrong");
    expect(lines[marked + 1]).toEndWith(`|${" ".repeat(at - 7)}^^^^^`);
    expect(column).toBe(String(fn).split("\n")[2]!.indexOf("wrong") + 1);
  });

  test("has no characters that change the terminal", () => {
    const fn = Function('return "\u001b[31m \u202e", wrong');
    const { message } = errorAt([], fn, "x", "wrong");
    expect(message).not.toMatch(/[\u001b\u202e]/);
    expect(message).toContain(`
  > 3 | return "\ufffd[31m \ufffd", wrong
      |                   ^^^^^`);
  });

  test("has a range at the end of a text", () => {
    const file = new SourceText("x.ts", "a\n");
    const error = new CompileError({
      place: "x",
      problem: "it is wrong",
      range: { file, start: 2, end: 3 },
    });
    expect(error.message).toBe(`cannot compile "x": it is wrong
  x.ts:2:1
    1 | a
  > 2 |
      | ^`);
  });

  test("is printed once", async () => {
    const problem = ["it", "is", "wrong"].join(" ");
    const error = new CompileError({ place: "x", problem, hint: "Write y" });
    expect(error).toBeInstanceOf(Error);
    // The engine also prints the lines of this test.
    expect(Bun.inspect(error).match(/it is wrong/g)).toHaveLength(1);
    expect(Object.keys(error)).toEqual(["name"]);
    expect({ line: error.line, file: error.file }).toEqual({ line: undefined, file: undefined });
  });
});

describe("functions without text", () => {
  test("the place is that of the key", async () => {
    const script = `export const programs: any = {
  "tp/a": Math.max,
};
export const attach = (): void => {};
attach();
void {
  "tp/a": Math.max,
};`;
    const { path, programs } = await load(script);
    const sources = new Sources([siteAt(path, script, "attach()")]);
    expect(() => sources.read(programs["tp/a"]!, "tp/a"))
      .toThrow(`"tp/a": the function "max" has no source text: it is part of the engine, or a Proxy
Write a function in TypeScript: (ctx, { counts }) => { ... }
  ${path}:7:3
    5 | attach();
    6 | void {
  > 7 |   "tp/a": Math.max,
      |   ^^^^^^
    8 | };`);
  });
});

describe("of several similar functions", () => {
  const line = (sites: readonly CallSite[], fn: Function, place: string): number =>
    errorAt(sites, fn, place, "ctx").line!;

  test("the one after the call is chosen", async () => {
    const script = `export const programs: Record<string, Function> = {};
const attach = (more: Record<string, Function>): void => {
  for (const [key, value] of Object.entries(more)) programs[key + Object.keys(programs).length] = value;
};
attach({
  "tp/x"(ctx: any) { ctx.first(1); },
});
attach({ // second
  "tp/x"(ctx: any) { ctx.first(1); },
});
attach({ // third
  "tp/x": (ctx: any) => { ctx.first(1); },
  "tp/y": (ctx: any) => { ctx.first(1); },
  "tp/z": (ctx: any) => { ctx.first(1); },
});
`;
    const { path, programs } = await load(script);
    const first = siteAt(path, script, "attach({");
    const second = siteAt(path, script, "// second");
    const third = siteAt(path, script, "// third");
    expect(line([first], programs["tp/x0"]!, "tp/x")).toBe(6);
    expect(line([second], programs["tp/x1"]!, "tp/x")).toBe(9);
    expect(line([third], programs["tp/x2"]!, "tp/x")).toBe(12);
    expect(line([third], programs["tp/y3"]!, "tp/y")).toBe(13);
    expect(line([third], programs["tp/z4"]!, "tp/z")).toBe(14);
  });

  test("the most similar one is chosen, and without one after the call the last one before it", async () => {
    const script = `const a = { run(ctx: any, limit: number) { ctx.counts.add(limit, 1); ctx.a(); return ctx.one + ctx.two; } };
const b = { run(ctx: any, limit: number) { ctx.counts.add(limit, 2); ctx.b(); return ctx.one + ctx.two; } };
const c = { run(ctx: any, limit: number) { ctx.counts.add(limit, 3); ctx.c(); return ctx.one + ctx.two; } };
const d = { run(ctx: any, limit: number) { ctx.counts.add(limit, 3); ctx.c(); return ctx.one + ctx.two; } };
export const programs = { a: a.run, b: b.run, c: c.run, d: d.run };
// the call
`;
    const { path, programs } = await load(script);
    const sites = [siteAt(path, script, "// the call")];
    expect(line(sites, programs["a"]!, "tp/a")).toBe(1);
    expect(line(sites, programs["b"]!, "tp/b")).toBe(2);
    expect(line(sites, programs["d"]!, "tp/d")).toBe(4);
  });

  test("it may be in the file of a caller", async () => {
    const { path, programs } = await load(code);
    const wrapper = await load("export const programs = { 'tp/x': (ctx: any) => ctx.pid };");
    const sites = [wrapper.path, path].map((file) => ({ file, line: 1, column: 1 }));
    const error = errorAt(sites, Object.values(programs)[0]!, "tp/sched/sched_switch", "10");
    expect([error.file, error.line]).toEqual([path, 7]);
  });
});
