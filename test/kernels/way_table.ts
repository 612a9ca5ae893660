/** @module Makes the table of ways to attach by kernel in docs/kernels.md from the results of tests on these kernels. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { attachKinds } from "../../src/link/attach_kinds.ts";
import { wayOf, wayTitle } from "../link/way.ts";
import { packageRoot, run } from "../support/run.ts";
import { parseResults, type TestResult } from "./results.ts";
import { formatTable, versionOf, writeBetween } from "./table.ts";
import { findTestFiles } from "./test_files.ts";

/** The results of tests on a kernel. */
export interface KernelTests {
  /** The release, as `uname -r` prints it. */
  readonly release: string;
  readonly tests: readonly TestResult[];
}

/** Comment before the table. */
export const begin = "<!-- Written by `bun run test:kernels --ways --here`. -->\n";
const end = "<!-- End of the table of ways. -->\n";

/** The page that has the table, relative to the package. */
export const wayPage = "docs/kernels.md";

/**
 * The result of the test of a way: `"refused"` if the kernel forbids it to this process, `"absent"` if the kernel lacks it, and
 * `"untested"` without a test.
 */
export type WayResult = "proved" | "absent" | "refused" | "failed" | "untested";

/** Returns the test files that prove ways to attach. */
export function wayFiles(): string[] {
  return findTestFiles(["test/link"]).filter((file) =>
    readFileSync(join(packageRoot, file), "utf8").includes("wayTest("),
  );
}

/** Runs the tests of ways on the running kernel. @throws {Error} if a test fails. */
export async function runHere(files: readonly string[]): Promise<readonly TestResult[]> {
  const options = ["--timeout", "60000", "-t", wayTitle];
  const command = [process.execPath, "test", ...options, ...files.map((file) => `./${file}`)];
  const { stdout, stderr, exitCode } = await run(command, { timeout: 600_000 });
  if (exitCode !== 0) throw new Error(`the tests failed here:\n${stdout}${stderr}`);
  return parseResults(`@@ tests\n${stdout}${stderr}`).tests;
}

/** Returns the results of the tests of ways, by the way's name. */
export function wayResults(tests: readonly TestResult[]): ReadonlyMap<string, WayResult> {
  const results = new Map<string, WayResult>();
  for (const { name, outcome, details } of tests) {
    const way = wayOf(name);
    if (way === undefined) continue;
    if (outcome === "pass") results.set(way, "proved");
    else if (outcome === "fail") results.set(way, "failed");
    else results.set(way, details.startsWith("refused: ") ? "refused" : "absent");
  }
  return results;
}

/** Writes the table to its page. */
export function writeWayTable(kernels: readonly KernelTests[]): void {
  const columns = kernels.map(({ tests }) => wayResults(tests));
  const rows = Object.entries(attachKinds).map(([way, { since }]) => [
    `\`${way}\``,
    since,
    ...columns.map((results) => results.get(way) ?? "untested"),
  ]);
  const header = ["way to attach", "since", ...kernels.map(({ release }) => versionOf(release))];
  writeBetween(wayPage, begin, end, formatTable(header, rows));
}
