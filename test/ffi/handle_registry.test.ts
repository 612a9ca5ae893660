import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HandleRegistry, type OpenHandle } from "../../src/ffi/handle_registry.ts";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot, type Run, runBun } from "../support/run.ts";

const children = join(import.meta.dir, "children");
const leftOpen = join(children, "left_open.ts");
const tracing = { BUN_BPF_TRACE_HANDLES: "1" };

/** Returns the place of the first line of left_open.ts with this text: `left_open.ts:7:`. */
function placeOf(text: string): string {
  const lines = readFileSync(leftOpen, "utf8").split("\n");
  const index = lines.findIndex((line) => line.includes(text));
  expect(index).not.toBe(-1);
  return `${leftOpen}:${index + 1}:`;
}

function runTraced(opening: string, ending = "end"): Promise<Run> {
  return runBun([leftOpen, opening, ending], { env: tracing });
}

/** Runs Bun without the variable, which test/setup.ts deletes from the environment of this process. */
function runUntraced(args: readonly string[], cwd = packageRoot): Promise<Run> {
  return runBun(args, { cwd });
}

function runTracedInWorker(opening: string, ending = "end"): Promise<Run> {
  return runBun([join(children, "left_open_in_worker.ts"), opening, ending], { env: tracing });
}

const mapBlock = /^bun-bpf: hash map "counts" \(descriptor \d+\) is still open; it was opened at$/m;

/** Expects the report of the map that left_open.ts leaves open, and no other. */
function expectMapBlock(stderr: string): void {
  expect(stderr).toMatch(mapBlock);
  expect(stderr.match(/^bun-bpf: /gm)).toHaveLength(1);
  expect(stderr).toContain(placeOf("const map = new HashMap("));
}

describe("an object that is open at exit", () => {
  const exitCodes = { end: 0, exit: 3, throw: 1, "throw later": 1, reject: 1 };
  for (const [ending, exitCode] of Object.entries(exitCodes)) {
    bpfTest(`is reported with the stack of its opening: ${ending}`, async () => {
      const child = await runTraced("map", ending);
      expect(child.exitCode).toBe(exitCode);
      expectMapBlock(child.stderr);
    });
  }

  bpfTest("is reported without the frames of src/ffi", async () => {
    const { stderr } = await runTraced("map");
    const [, first = "", ...others] = stderr.trimEnd().split("\n");
    expect(first).toMatch(/^ {4}at /);
    expect([first, ...others].filter((line) => line.includes("/src/ffi/"))).toEqual([]);
  });

  bpfTest("can be a mapping", async () => {
    const { stderr, exitCode } = await runTraced("mapping");
    expect(exitCode).toBe(0);
    const [map = "", mapping = "", ...others] = stderr.split(/^(?=bun-bpf: )/m);
    expect(map).toMatch(/^bun-bpf: array map "slots" \(descriptor \d+\) is still open; /);
    expect(map).toContain(placeOf("new ArrayMap("));
    expect(mapping).toMatch(
      /^bun-bpf: array map "slots" \(mapping of \d+ bytes\) is still mapped; it was mapped at\n/,
    );
    expect(mapping).toContain(`at mapping (${leftOpen}:`);
    expect(others).toEqual([]);
  });

  test("is reported without the frames of implicit constructors", async () => {
    const { stderr } = await runTraced("derived");
    expect(stderr.split("\n")[1]).toContain("/src/ffi/");
    expect(stderr.split("\n")[2]).toContain(placeOf("new Derived("));
  });

  test("is reported by its last name", async () => {
    const { stderr } = await runTraced("renamed");
    expect(stderr).toStartWith("bun-bpf: device that was named late (descriptor ");
    expect(stderr).toContain(placeOf("return new Descriptor("));
  });

  for (const opening of ["map", "mapping"]) {
    bpfTest(`is not reported without the variable: ${opening}`, async () => {
      const child = await runUntraced([leftOpen, opening, "end"]);
      expect(child).toMatchObject({ exitCode: 0, stderr: "", stdout: "" });
    });
  }

  for (const ending of ["end", "exit", "throw"]) {
    bpfTest(`is reported at the exit of its Worker: ${ending}`, async () => {
      const { stderr } = await runTracedInWorker("map", ending);
      expectMapBlock(stderr);
    });
  }
});

describe("a process reports nothing", () => {
  const outputs = {
    "disposed map": "",
    "disposed mapping": "",
    "released descriptor": "",
    "descriptor closed by others": "refused\n",
    "map disposed at exit": "",
  };
  for (const [opening, stdout] of Object.entries(outputs)) {
    for (const ending of ["end", "exit"]) {
      bpfTest(`after a ${opening}: ${ending}`, async () => {
        const child = await runTraced(opening, ending);
        const exitCode = ending === "exit" ? 3 : 0;
        expect(child).toMatchObject({ exitCode, stderr: "", stdout });
      });
    }
    bpfTest(`after a ${opening} in a Worker`, async () => {
      const child = await runTracedInWorker(opening);
      expect(child).toMatchObject({ exitCode: 0, stderr: "", stdout });
    });
  }
});

describe("openHandles", () => {
  bpfTest("lists open objects with their stacks", async () => {
    const { stdout, stderr } = await runTraced("list");
    expect(stderr).toBe("");
    const list = JSON.parse(stdout) as OpenHandle[];
    expect(list).toEqual([
      { what: 'hash map "counts"', kind: "descriptor", stack: expect.any(String) },
    ]);
    expect(list[0]?.stack).toContain(placeOf("const map = new HashMap("));
  });

  bpfTest("throws without the variable", async () => {
    const { stderr, exitCode } = await runUntraced([leftOpen, "list", "end"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(
      "error: open handles are not traced: set BUN_BPF_TRACE_HANDLES=1 in the environment before bun-bpf is imported",
    );
  });
});

describe("HandleRegistry", () => {
  const description = { kind: "descriptor", place: "descriptor 7", what: () => "thing" } as const;

  test("lists owners that were added and not deleted, in order of addition, by their current names", () => {
    const registry = new HandleRegistry();
    const owners = [{ what: "first" }, { what: "second" }, { what: "third" }] as const;
    for (const owner of owners) registry.add(owner, { ...description, what: () => owner.what });
    registry.delete(owners[1]);
    registry.delete(owners[1]);
    registry.delete({});
    expect(registry.list().map(({ what }) => what)).toEqual(["first", "third"]);
    expect(registry.reports()).toHaveLength(2);
    expect(registry.list()[0]?.stack).toContain(import.meta.path);
  });

  test("captures a stack regardless of stackTraceLimit and prepareStackTrace, and restores them", () => {
    const { stackTraceLimit } = Error;
    const { prepareStackTrace } = Error;
    const registry = new HandleRegistry();
    const formatter = () => 7;
    try {
      Error.stackTraceLimit = 0;
      Error.prepareStackTrace = formatter;
      registry.add({}, description);
      expect(Error.stackTraceLimit).toBe(0);
      expect(Error.prepareStackTrace).toBe(formatter);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
      Reflect.set(Error, "prepareStackTrace", prepareStackTrace);
    }
    expect(registry.list()[0]?.stack).toContain(import.meta.path);
  });
});

describe("a test run that leaves a map open", () => {
  const fixture = `import { test } from "bun:test";
import { HashMap, t } from ${JSON.stringify(join(packageRoot, "src/index.ts"))};
test("leaks", () => {
  const map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, name: "counts" });
  map.set(1, 1);
});
`;

  async function runFixture(traced: boolean): Promise<Run & { path: string }> {
    const folder = mkdtempSync(join(tmpdir(), "handles-"));
    try {
      const setup = JSON.stringify(join(packageRoot, "test/setup.ts"));
      writeFileSync(join(folder, "bunfig.toml"), `[test]\npreload = [${setup}]\n`);
      const path = join(folder, "leak.test.ts");
      writeFileSync(path, fixture);
      const args = ["test", "./leak.test.ts"];
      const child = traced
        ? await runBun(args, { cwd: folder, env: tracing })
        : await runUntraced(args, folder);
      return { ...child, path };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  bpfTest("fails and reports the stack of the opening, with the variable", async () => {
    const { exitCode, stderr, path } = await runFixture(true);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("the tests left kernel objects open:\n  descriptor ");
    expect(stderr).toMatch(mapBlock);
    expect(stderr).toContain(`${path}:4:`);
  });

  bpfTest("fails and names the variable, without it", async () => {
    const { exitCode, stderr } = await runFixture(false);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("opened in leak.test.ts");
    expect(stderr).toContain("BUN_BPF_TRACE_HANDLES=1 in the environment names the stack");
    expect(stderr).not.toMatch(mapBlock);
  });
});
