import { packageRoot } from "../support/run.ts";

/**
 * Tests whose results do not depend on the kernel, but only on Bun: about types, texts and the package. On an emulated machine
 * they would have the same results, in ten times the time.
 */
const kernelIndependent = [
  "test/types/",
  "test/kernels/",
  "test/package.test.ts",
  "test/lint.test.ts",
  "test/workflows.test.ts",
  "test/btf/decode.test.ts",
  "test/cli/btf.test.ts",
  "test/cli/command_line.test.ts",
  "test/cli/dump.test.ts",
  "test/cli/escaping.test.ts",
  "test/cli/format.test.ts",
  "test/cli/map_edit.test.ts",
  "test/cli/output.test.ts",
  "test/ffi/handle_registry.test.ts",
  "test/ffi/handles.test.ts",
  "test/ffi/hazards.test.ts",
  "test/handle/reload.test.ts",
  "test/maps/garbage.test.ts",
  "test/map_table.test.ts",
  "test/pages.test.ts",
  "test/sessions.test.ts",
];

/**
 * Tests that are not run on other kernels yet. Kernel code is proved on the running kernel: on Linux 5.10, names of arguments of
 * tracepoints and results of atomic operations are missing, and the tests do not tell these cases apart.
 */
const onlyHere = ["test/compiler/"];

/** Returns true if the tests of a file do not depend on the kernel. */
export function isKernelIndependent(file: string): boolean {
  return [...kernelIndependent, ...onlyHere].some((prefix) => file.startsWith(prefix));
}

/** Returns the test files at paths of files and folders; all without paths. @throws {Error} if there are no tests at a path. */
export function findTestFiles(paths: readonly string[]): string[] {
  const all = [...new Bun.Glob("test/**/*.test.ts").scanSync({ cwd: packageRoot })].toSorted();
  if (paths.length === 0) return all;
  return paths.flatMap((path) => {
    const wanted = path.replace(/^\.\//, "").replace(/\/$/, "");
    const found = all.filter((file) => file === wanted || file.startsWith(`${wanted}/`));
    if (found.length === 0) throw new Error(`there are no tests at ${path}`);
    return found;
  });
}
