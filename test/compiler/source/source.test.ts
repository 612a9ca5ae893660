import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as Acorn from "acorn";
import { callSites } from "../../../src/compiler/source/call_site.ts";
import { CompileError } from "../../../src/compiler/source/compile_error.ts";
import { readFunction, Sources } from "../../../src/compiler/source/source.ts";
import { packageRoot, run, runBun } from "../../support/run.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "bun-bpf-source-"))));
afterAll(() => rmSync(folder, { recursive: true }));

/** Returns what a call throws. */
function thrownBy(call: () => unknown): CompileError {
  try {
    call();
  } catch (error) {
    if (error instanceof CompileError) return error;
    throw error;
  }
  throw new Error("the call threw nothing");
}

/** Returns the nodes of a tree, each with its place in the tree. */
function nodesOf(node: unknown): Acorn.Node[] {
  if (typeof node !== "object" || node === null || node instanceof RegExp) return [];
  const inside = Object.values(node).flatMap(nodesOf);
  return "type" in node && typeof node.type === "string" ? [node as Acorn.Node, ...inside] : inside;
}

describe("forms of functions", () => {
  interface Read {
    readonly type: string;
    readonly isAsync: boolean;
    readonly parameters: number;
    readonly wrongNames: number;
    readonly place: { file: string; line: number; column: number; text: string };
  }

  const child = join(import.meta.dir, "children/read_functions.ts");
  const lines = readFileSync(child, "utf8").split("\n");
  const forms: Record<string, [type: string, isAsync: boolean, parameters: number, start: string]> =
    {
      declared: ["FunctionExpression", false, 1, "function declared("],
      expression: ["FunctionExpression", false, 1, "  expression: function ("],
      named: ["FunctionExpression", true, 1, "  named: async function inner("],
      arrow: ["ArrowFunctionExpression", false, 1, "  arrow: ("],
      "async arrow": ["ArrowFunctionExpression", true, 2, '  "async arrow": async ('],
      "tp/sched/sched_switch": ["FunctionExpression", false, 2, '  "tp/sched/sched_switch"('],
      "ksyscall/{open,openat}": [
        "FunctionExpression",
        true,
        1,
        '  async "ksyscall/{open,openat}"(',
      ],
      method: ["FunctionExpression", false, 1, "  method("],
      "computed name": ["FunctionExpression", false, 1, "  [computed]("],
      async: ["FunctionExpression", false, 1, "  async("],
      get: ["FunctionExpression", false, 1, "  get("],
      function: ["FunctionExpression", false, 1, "  function("],
      class: ["FunctionExpression", false, 1, "  class("],
      17: ["FunctionExpression", false, 1, "  17("],
      ofClass: ["FunctionExpression", false, 1, "  static ofClass("],
      hidden: ["FunctionExpression", false, 1, "  static #hidden("],
    };

  /** Checks a child's output: all functions, and their places, either in the TypeScript or in their own text. */
  function check(output: string, where: "TypeScript" | "text"): void {
    const read = JSON.parse(output) as Record<string, Read>;
    expect(Object.keys(read).sort()).toEqual(Object.keys(forms).sort());
    for (const [name, [type, isAsync, parameters, start]] of Object.entries(forms)) {
      const { place, ...rest } = read[name]!;
      expect({ name, ...rest }).toEqual({ name, type, isAsync, parameters, wrongNames: 0 });
      expect(place.text.slice(place.column - 1)).toStartWith("mark");
      if (where === "text") {
        // The names of files are cut at the last slash.
        expect(place.file).toBe(`<function ${JSON.stringify(name)}>`.replace(/^.*\//, ""));
        continue;
      }
      expect(place.file).toBe("read_functions.ts");
      expect(place.text).toBe(lines[place.line - 1]!);
      // The first line with the mark after the beginning of the function.
      const first = lines.findIndex((line) => line.startsWith(start));
      const marked = lines.findIndex((line, index) => index >= first && line.includes("ctx.mark"));
      expect({ name, line: place.line }).toEqual({ name, line: marked + 1 });
    }
  }

  /** Runs Bun, and returns what it prints. */
  async function print(args: readonly string[], cwd = packageRoot): Promise<string> {
    const { exitCode, stdout, stderr } = await runBun(args, { cwd });
    expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
    return stdout;
  }

  test("all are read, and have their places in the TypeScript", async () => {
    check(await print([child]), "TypeScript");
  });

  test("a bundle", async () => {
    const outfile = join(folder, "bundle.js");
    await print(["build", "--target=bun", child, `--outfile=${outfile}`]);
    const read = JSON.parse(await print([outfile])) as Record<string, Read>;
    for (const { place } of Object.values(read)) {
      expect(place.file).toBe("bundle.js");
      expect(place.text.slice(place.column - 1)).toStartWith("mark");
    }
  });

  test("a minified bundle", async () => {
    const outfile = join(folder, "minified.js");
    await print(["build", "--minify", "--target=bun", child, `--outfile=${outfile}`]);
    check(await print([outfile]), "text");
  });

  test("a minified bundle with a source map", async () => {
    const out = join(folder, "mapped");
    const flags = ["--minify", "--target=bun", "--sourcemap=linked", `--outdir=${out}`];
    await print(["build", ...flags, child]);
    check(await print([join(out, "read_functions.js")]), "TypeScript");
  });

  test("a compiled binary with bytecode", async () => {
    const outfile = join(folder, "compiled");
    await print(["build", "--compile", "--bytecode", "--minify", child, `--outfile=${outfile}`]);
    const { exitCode, stdout } = await run([outfile]);
    expect(exitCode).toBe(0);
    check(stdout, "text");
  });

  test("`bun test --coverage`", async () => {
    const path = join(folder, "covered.test.ts");
    writeFileSync(
      path,
      `import { expect, test } from "bun:test";
       import { output } from ${JSON.stringify(child)};
       test("prints", () => { expect(output).not.toBe(""); console.log("output:" + output); });`,
    );
    const flags = ["--coverage", `--coverage-dir=${folder}`];
    const stdout = await print(["test", ...flags, path], folder);
    check(/^output:(.*)$/m.exec(stdout)![1]!, "TypeScript");
  });

  test("a file with line ends of Windows", async () => {
    const path = join(folder, "read_functions.ts");
    const code = readFileSync(child, "utf8").replaceAll(
      "../../../../src",
      join(packageRoot, "src"),
    );
    writeFileSync(path, code.replaceAll("\n", "\r\n"));
    check(await print([path]), "TypeScript");
  });
});

describe("positions", () => {
  test("those of all nodes are offsets in the text", () => {
    const holder = {
      async "tp/x"(ctx: Record<string, any>, { y, z = 1 }: { y: number; z?: number }) {
        const { a, ...rest } = ctx;
        for (const each of [1, , "two", `three ${y} ${/four/g.source}`, 5n, ...rest.list]) {
          if (each === z) a?.b[y]?.(each ?? (await ctx.returned), -(z ** 2));
          else
            label: do continue label;
            while (y > 1);
        }
        return {
          a,
          y,
          [z]: () => y,
          get w() {
            return z;
          },
        };
      },
    };
    const { text, node } = readFunction(holder["tp/x"], 0, "tp/x");
    expect(text.slice(node.start, node.end)).toStartWith("(ctx, { y, z = 1 }) {");
    expect(node.end).toBe(text.length);
    const nodes = nodesOf(node);
    expect(nodes.length).toBeGreaterThan(80);
    for (const each of nodes) {
      const slice = text.slice(each.start, each.end);
      expect(each.start).toBeGreaterThanOrEqual(node.start);
      const { type } = each;
      if (type === "Identifier") expect(slice).toBe((each as Acorn.Identifier).name);
      if (type === "Literal") expect(slice).toBe((each as Acorn.Literal).raw!);
      if (type === "TemplateElement") expect(slice).toBe((each as Acorn.TemplateElement).value.raw);
      if (type === "ForOfStatement") expect(slice).toMatch(/^for \([^]*;$/);
      if (type === "ReturnStatement") expect(slice).toMatch(/^return [^]*;$/);
    }
  });

  test("declarations with using are read", () => {
    const { node } = readFunction(
      (lock: { lock(): Disposable }) => {
        using _held = lock.lock();
      },
      0,
      "x",
    );
    expect(nodesOf(node).some((each) => (each as { kind?: string }).kind === "using")).toBe(true);
  });

  test("each function has its number and names", () => {
    const sources = new Sources();
    const first = sources.read(function count() {}, "tp/a");
    const second = sources.read(() => 1, "tp/b");
    expect([first.id, first.name, first.place]).toEqual([0, "count", "tp/a"]);
    expect([second.id, second.name, second.place]).toEqual([1, "tp/b", "tp/b"]);
    expect(sources.sourceOf({ source: 1, start: 6, end: 7 })).toEqual({
      file: '<function "tp/b">',
      line: 1,
      column: 7,
      text: "() => 1",
    });
  });
});

describe("functions with overrides", () => {
  test("an own toString is not used", () => {
    const fn = Object.assign((ctx: { pid: number }) => ctx.pid, { toString: () => "() => 7" });
    expect(readFunction(fn, 0, "x").text).toBe("(ctx) => ctx.pid");
  });

  test("a name that is not a string is not used, and getters of it do not run", () => {
    const fn = (): number => 1;
    Object.defineProperty(fn, "name", {
      get: () => {
        throw new Error("the getter ran");
      },
    });
    expect(readFunction(fn, 0, "x").name).toBe("x");
  });
});

describe("refusals", () => {
  const read = (fn: unknown): string =>
    thrownBy(() => readFunction(fn as Function, 0, "tp/x")).message;

  test("a bound function", () => {
    expect(read(((ctx: object) => ctx).bind(null))).toBe(
      `cannot compile "tp/x": a bound function has no source text
Pass the function itself, and its values through the scope: bpf.attach({ limit }, ...)`,
    );
  });

  test("a native function", () => {
    expect(read(Math.max)).toBe(
      `cannot compile "tp/x": the function "max" has no source text: it is part of the engine, or a Proxy
Write a function in TypeScript: (ctx, { counts }) => { ... }`,
    );
    expect(read(Map)).toContain('the function "Map" has no source text');
    expect(read(new Proxy(() => 1, {}))).toContain("has no source text");
  });

  test("a class", () => {
    class Counter {
      count = 1;
    }
    expect(read(Counter)).toBe(
      `cannot compile "tp/x": a class cannot run in the kernel
Write a function: (ctx, { counts }) => { ... }
  <function "tp/x">:1:1
  > 1 | class Counter {
      | ^^^^^^^^^^^^^^^
    2 |       count = 1;
    3 |     }`,
    );
    expect(read(class {})).toContain("a class cannot run in the kernel");
  });

  test("generators", () => {
    const message = `cannot compile "tp/x": a generator cannot run in the kernel
Write a function without \`*\` and \`yield\`, and give results through a ring buffer or a map`;
    expect(read(function* () {})).toStartWith(message);
    expect(read(async function* () {})).toStartWith(message);
    expect(read({ *"tp/x"() {} }["tp/x"])).toStartWith(message);
    expect(read({ async *"tp/x"() {} }["tp/x"])).toStartWith(message);
  });

  test("accessors", () => {
    const descriptor = Object.getOwnPropertyDescriptor(
      {
        get "tp/x"() {
          return 1;
        },
        set "tp/x"(_value) {},
      },
      "tp/x",
    )!;
    expect(read(descriptor.get)).toStartWith(
      `cannot compile "tp/x": a getter cannot run in the kernel
Write a method, without "get"`,
    );
    expect(read(descriptor.set)).toStartWith(
      `cannot compile "tp/x": a setter cannot run in the kernel
Write a method, without "set"`,
    );
  });

  test.each([
    [12, "12"],
    [undefined, "undefined"],
    [null, "null"],
    ["tp/y", '"tp/y"'],
    [{ run: 1 }, "an object"],
  ])("the value %p", (value, shown) => {
    expect(read(value)).toStartWith(`cannot compile "tp/x": expected a function, got ${shown}`);
  });

  test("a long function", () => {
    const length = 256 * 1024;
    const make = (size: number): Function => Function(`return "${"x".repeat(size)}"`);
    const around = String(make(0)).length;
    expect(readFunction(make(length - around), 0, "x").text.length).toBe(length);
    expect(read(make(length - around + 1))).toStartWith(
      `cannot compile "tp/x": the function has 262145 characters, more than 262144
Divide it into several functions, or move tables of constants into the scope`,
    );
  });

  const tooDeep = `cannot compile "tp/x": the function is nested too deeply
Use variables for parts of long expressions, and functions for inner blocks: at most 500 levels are possible`;

  test.each([
    ["terms", (depth: number) => `return 1${"+1".repeat(depth)}`],
    ["unary operators", (depth: number) => `return ${"!".repeat(depth)}1`],
    ["arrays", (depth: number) => `return ${"[".repeat(depth)}${"]".repeat(depth)}`],
    ["calls", (depth: number) => `return f${"()".repeat(depth)}`],
    ["blocks", (depth: number) => "{".repeat(depth) + "}".repeat(depth)],
    ["else if", (depth: number) => `${"if (a) b(); else ".repeat(depth)}c()`],
  ])("deep nesting of %s", (_, make) => {
    expect(readFunction(Function(make(300)), 0, "x").node.params).toEqual([]);
    expect(read(Function(make(1000)))).toStartWith(tooDeep);
  });

  test("nesting for which the parser has no room on the stack", () => {
    // Parentheses are not nodes, so only the parser sees them.
    const depth = 5000;
    const fn = Function(`return ${"(".repeat(depth)}1${")".repeat(depth)}`);
    let message = "";
    try {
      readFunction(fn, 0, "tp/x");
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message === "" || message.startsWith(tooDeep)).toBe(true);
  });
});

test("acorn is loaded when the first function is read", async () => {
  const path = join(folder, "lazy.ts");
  writeFileSync(
    path,
    `import { readFunction } from ${JSON.stringify(join(packageRoot, "src/compiler/source/source.ts"))};
     const isLoaded = () => Object.keys(require.cache).some((path) => path.includes("/acorn/"));
     console.log(isLoaded());
     readFunction(() => 1, 0, "x");
     console.log(isLoaded());`,
  );
  const { stdout } = await runBun([path]);
  expect(stdout).toBe("false\ntrue\n");
});

describe("call sites", () => {
  function site(): ReturnType<typeof callSites> {
    const found = callSites(site);
    return [...found];
  }

  test("the innermost is the call of the function", () => {
    const { stack = "" } = new Error();
    const [first] = site(); // prettier-ignore
    const [, line] = /source\.test\.ts:(\d+)/.exec(stack)!;
    expect(first!.file).toBe(import.meta.path);
    expect(first!.line).toBeWithin(Number(line), Number(line) + 2);
  });

  test("settings of stacks of the program are neither used nor changed", () => {
    const { prepareStackTrace, stackTraceLimit } = Error;
    const own = (): string => "own";
    try {
      Error.prepareStackTrace = own;
      Error.stackTraceLimit = 0;
      expect(site()[0]!.file).toBe(import.meta.path);
      expect(Error.prepareStackTrace).toBe(own);
      expect(Error.stackTraceLimit).toBe(0);
    } finally {
      Object.assign(Error, { prepareStackTrace, stackTraceLimit });
    }
  });
});
