/**
 * Fails the test run if a kernel object is still open or mapped at its end: a leak in the library or in a test.
 *
 * bunfig.toml loads it before all test files. Bun runs the `afterAll` of a preloaded file once, after the last test.
 */
import { afterAll, afterEach } from "bun:test";
import { relative } from "node:path";
import { registry } from "../src/ffi/handle_registry.ts";
import { openKernelObjects } from "./support/leaks.ts";

// The variable is for this process only: in children of tests it would change their output.
delete process.env["BUN_BPF_TRACE_HANDLES"];

const before = openKernelObjects();
/** The objects that are open now, each with the test file after whose test it was first seen. */
let suspects = new Map<string, string>();

afterEach(() => {
  // Not a failure yet: a file can keep an object open from its beforeAll to its afterAll.
  const still = new Map<string, string>();
  for (const id of openKernelObjects().keys()) {
    if (!before.has(id)) still.set(id, suspects.get(id) ?? relative(process.cwd(), Bun.main));
  }
  suspects = still;
});

afterAll(() => {
  const left = [...openKernelObjects()].filter(([id]) => !before.has(id));
  if (left.length === 0) return;
  const lines = left.map(
    ([id, description]) => `  ${description}, opened in ${suspects.get(id) ?? "an afterAll"}`,
  );
  const stacks = registry?.reports() ?? [
    "BUN_BPF_TRACE_HANDLES=1 in the environment names the stack that opened each",
  ];
  throw new Error(`the tests left kernel objects open:\n${[...lines, ...stacks].join("\n")}`);
});
