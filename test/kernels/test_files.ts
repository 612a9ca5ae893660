import { packageRoot } from "../support/run.ts";

/**
 * Tests that ask nothing of the kernel that it could answer otherwise: of types, texts, the package, and what the engine does. On an
 * emulated machine with the same processor and engine they would show what they show on this one, in ten times the time.
 */
const ofEngineAlone = [
  "test/types/",
  "test/kernels/",
  "test/package.test.ts",
  "test/readme.test.ts",
  "test/lint.test.ts",
  "test/workflows.test.ts",
  "test/cli/command_line.test.ts",
  "test/cli/format.test.ts",
  "test/cli/output.test.ts",
  "test/ffi/handles.test.ts",
  "test/ffi/hazards.test.ts",
  "test/maps/garbage.test.ts",
  "test/map_table.test.ts",
  "test/pages.test.ts",
  "test/sessions.test.ts",
];

/** Whether a file's tests depend on the engine alone, and not on the kernel. */
export function isOfEngineAlone(file: string): boolean {
  return ofEngineAlone.some((prefix) => file.startsWith(prefix));
}

/** The files of tests at these paths, which are files or folders; all without any. @throws {Error} for a path without tests */
export function findTestFiles(paths: readonly string[]): string[] {
  const all = [...new Bun.Glob("test/**/*.test.ts").scanSync({ cwd: packageRoot })].toSorted();
  if (paths.length === 0) return all;
  return paths.flatMap((path) => {
    const wanted = path.replace(/^\.\//, "").replace(/\/$/, "");
    const found = all.filter((file) => file === wanted || file.startsWith(`${wanted}/`));
    if (found.length === 0) throw new Error(`no tests are at ${path}`);
    return found;
  });
}
