/**
 * Fails the test run when it ends with a kernel object still open or mapped: a leak of the library or of a test.
 *
 * Loaded before all test files by bunfig.toml; Bun runs the `afterAll` of a preloaded file once, behind the last test.
 */
import { afterAll, afterEach } from "bun:test";
import { relative } from "node:path";
import { registry } from "../src/ffi/handle_registry.ts";
import { openKernelObjects } from "./support/leaks.ts";

// For this process alone: what tests start as a child says only what they expect of it.
delete process.env["BUN_BPF_TRACE_HANDLES"];

const before = openKernelObjects();
/** What is open now, with the file after one of whose tests it was first seen. */
let suspects = new Map<string, string>();

afterEach(() => {
  // Not a failure yet: a file may hold an object from its beforeAll to its afterAll.
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
