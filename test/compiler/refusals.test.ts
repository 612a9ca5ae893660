/**
 * Code that is not in the language. `corpus/refusals.txt` has the code, the carets of the message, the problem and the hint of each
 * case; with UPDATE_REFUSALS=1 this test writes what the compiler reports into the file.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bpf } from "../../src/compiler/bpf.ts";
import { ScopeMaps } from "../../src/compiler/language/translate.ts";
import { CompileError } from "../../src/compiler/source/compile_error.ts";
import { compileFunction } from "../../src/compiler/pipeline.ts";
import { Sources } from "../../src/compiler/source/source.ts";
import { targetOf } from "../../src/compiler/machine/target.ts";
import { ArrayMap, HashMap, Queue, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";

/** A case: the body of a function `(ctx, s) => {...}`, after `@` and its section; or a whole function, after `!`. */
interface Case {
  readonly code: string;
  /** Carets under the code. They are under all of it if the range is the whole function. */
  readonly carets: string;
  readonly problem: string;
  readonly hint: string | undefined;
}

const Row = t.struct({
  small: t.u8,
  big: t.i64,
  name: t.cstring(6),
  list: t.array(t.u32, 4),
  flag: t.bool,
  kind: t.u32,
});
const Big = t.struct({ a: t.array(t.u64, 60) });

const constants = {
  Row,
  Big,
  half: bpf.fn({}, ((_scope: object, n: number) => n / 2) as never),
  later: bpf.fn({}, (async (_scope: object, n: number) => n) as never),
  limit: 10,
  table: [3, 1, 4, 1],
  options: { deep: { x: 1 } },
  fraction: 1.5,
  weird: new Map(),
  when: () => 1,
  long: Array.from({ length: 100 }, (_, index) => index),
};

const before = "(ctx, s) => { ";

/** Returns a function from its text, which TypeScript would not accept, and its section. */
function functionOf(code: string): { place: string; start: number; fn: () => unknown } {
  const [, at = "", place = "socket", body = ""] = /^(@(\S+) )?([^]*)$/.exec(code) ?? [];
  const isWhole = body.startsWith("!");
  const text = isWhole ? body.slice(1) : `${before}${body} }`;
  const fn = new Function(`return ${text}`)() as () => unknown;
  // The column of the function's text at the start of the code.
  return { place, start: isWhole ? -1 : before.length - at.length, fn };
}

/** Compiles code, and returns the error as a case. */
function refusalOf(code: string, scope: object): Case {
  const { place, start, fn } = functionOf(code);
  try {
    compileFunction({
      sources: new Sources(),
      fn: fn as () => unknown,
      place,
      section: place,
      scope: scope as Readonly<Record<string, unknown>>,
      maps: new ScopeMaps(),
      target: targetOf("6.18"),
      probe: place,
    });
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    const { problem, hint } = error;
    expect(error.message).toStartWith(`cannot compile "${place}": ${problem}\n${hint ?? ""}`);
    const row = error.message.split("\n").find((each) => /^\s*\|\s*\^+$/.test(each)) ?? "";
    const underline = row.slice(row.indexOf("|") + 2);
    const carets = start < 0 ? " ".repeat(-start) + underline : underline.slice(start);
    return { code, carets: carets.slice(0, code.length), problem, hint };
  }
  throw new Error(`it compiles: ${code}`);
}

/** Returns the cases of the file, by the headings. */
function readCases(text: string): Map<string, Case[]> {
  const groups = new Map<string, Case[]>();
  let group: Case[] = [];
  for (const block of text.trimEnd().split("\n\n")) {
    const [first = "", carets = "", problem = "", hint] = block.split("\n");
    if (first.startsWith("# ")) groups.set(first.slice(2), (group = []));
    else group.push({ code: first, carets, problem, hint: hint?.slice(2) });
  }
  return groups;
}

function writeCases(groups: ReadonlyMap<string, readonly Case[]>): string {
  const blocks = [...groups].flatMap(([heading, list]) => [
    `# ${heading}`,
    ...list.map(({ code, carets, problem, hint }) =>
      [code, carets, problem, ...(hint === undefined ? [] : [`> ${hint}`])].join("\n"),
    ),
  ]);
  return `${blocks.join("\n\n")}\n`;
}

const path = join(import.meta.dir, "corpus/refusals.txt");
const groups = readCases(readFileSync(path, "utf8"));
/** The groups whose code needs maps, or types of the kernel. */
const withObjects = new Set(["the library and memory", "maps, rings and globals", "sections"]);

/** Runs a function with maps in the scope. */
function withScope(run: (scope: object) => void): void {
  using counts = new HashMap({ key: t.u32, value: t.u64, maxEntries: 64 });
  using rows = new HashMap({ key: t.u32, value: Row, maxEntries: 64 });
  using bigs = new HashMap({ key: t.u32, value: Big, maxEntries: 64 });
  using numbers = new ArrayMap({ value: t.i32, length: 8 });
  using queue = new Queue({ value: t.u32, maxEntries: 8 });
  using events = new RingBuf({
    size: 1 << 16,
    event: t.struct({ pid: t.u32, comm: t.cstring(16) }),
  });
  using total = bpf.global(t.u64, 0n);
  using narrow = bpf.global(t.u16, 0);
  run({ ...constants, counts, rows, bigs, numbers, queue, events, total, narrow });
}

if (process.env["UPDATE_REFUSALS"] === "1") {
  withScope((scope) => {
    for (const [heading, list] of groups) {
      const isWith = withObjects.has(heading);
      const now = list.map(({ code }) => refusalOf(code, isWith ? scope : constants));
      groups.set(heading, now);
    }
    writeFileSync(path, writeCases(groups));
  });
}

describe("code that is not in the language is refused", () => {
  for (const [heading, list] of groups) {
    const define = withObjects.has(heading) ? bpfTest : test;
    define(`${heading}: ${list.length} cases`, () => {
      const check = (scope: object) => {
        for (const each of list) expect(refusalOf(each.code, scope)).toEqual(each);
      };
      if (withObjects.has(heading)) withScope(check);
      else check(constants);
    });
  }
});

describe("the error is in the file of the caller, not of the library", () => {
  // Small functions, which parts of any file resemble.
  const run = (ctx: { pid: number }) => {
    const half = ctx.pid;
    return half / 2;
  };
  const calls = {
    attach: () => bpf.attach({}, { xdp: { on: { interface: "lo" }, run: run as never } }),
    load: () => bpf.load({}, { xdp: run as never }),
    compile: () => bpf.compile({}, { xdp: run as never }),
  };
  for (const [name, call] of Object.entries(calls)) {
    test(`bpf.${name}()`, () => {
      let error: unknown;
      try {
        call();
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(CompileError);
      expect((error as CompileError).file).toBe(import.meta.path);
    });
  }
});
