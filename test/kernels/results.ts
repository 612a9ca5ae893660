/** @module Parses the output of a guest. */

/** The outcome of a test. */
export type Outcome = "pass" | "fail" | "skip" | "todo";

/** The result of a test. */
export interface TestResult {
  readonly file: string;
  /** The title, after the titles of its groups. */
  readonly name: string;
  readonly outcome: Outcome;
  /** Duration in seconds. */
  readonly duration: number;
  /** The reason for skipping, taken from the title; or the output before the failure. */
  readonly details: string;
}

/** An error outside of tests: a file that could not be loaded, or an unhandled exception. */
interface StrayError {
  readonly file: string;
  /** The printed error. */
  readonly details: string;
}

/** The parsed output of a guest. */
export interface Results {
  readonly tests: readonly TestResult[];
  readonly errors: readonly StrayError[];
  /** The features of the kernel, as `bun-bpf features --json` prints them; `undefined` after a run of tests. */
  readonly features: string | undefined;
  /** The exit code of the run; `undefined` if the guest ended before the run did. */
  readonly exitCode: number | undefined;
}

const heading = /^(test\/\S+\.test\.ts):$/;
const result = /^\((pass|fail|skip|todo)\) (.*?)(?: \[([\d.]+)ms\])?$/;
const strayError = "# Unhandled error between tests";
/** Matches the lines before and after {@link strayError}. */
const rule = /^-+$/;
const listedAgain = /^\d+ tests? (?:failed|skipped|todo)?:$/;
const skipped = /^(.*?) \(skipped: (.*)\)$/;

/** Parses the output of a guest. */
export function parseResults(output: string): Results {
  const tests: TestResult[] = [];
  const errors: StrayError[] = [];
  const features: string[] = [];
  let part = "";
  let file = "";
  let exitCode: number | undefined;
  let before: string[] = [];
  let rules = 0;
  for (const line of output.split(/\r?\n/)) {
    // After the tests Bun repeats those that failed or were skipped.
    if (part === "tests" && listedAgain.test(line)) part = "list";
    const mark = /^@@ (\w+) ?(.*)$/.exec(line);
    if (mark !== null) {
      part = mark[1] ?? "";
      if (part === "exit") exitCode = Number(mark[2]);
      continue;
    }
    if (part === "features") features.push(line);
    if (part !== "tests") continue;
    const named = heading.exec(line);
    if (named !== null) {
      file = named[1] ?? "";
      before = [];
      continue;
    }
    const ended = result.exec(line);
    if (ended === null) {
      before.push(line);
      if (line === strayError) rules = 2;
      if (rules === 0 || !rule.test(line) || --rules > 0) continue;
      const start = before.lastIndexOf(strayError);
      const details = before
        .slice(start + 2, -1)
        .join("\n")
        .trim();
      errors.push({ file, details });
      before = before.slice(0, start);
      continue;
    }
    const [, outcome, fullName = "", milliseconds = "0"] = ended;
    const [, name = fullName, reason = ""] = skipped.exec(fullName) ?? [];
    const details =
      outcome === "skip" ? reason : outcome === "fail" ? before.join("\n").trim() : "";
    const duration = Number(milliseconds) / 1000;
    tests.push({ file, name, outcome: outcome as Outcome, duration, details });
    before = [];
  }
  return {
    tests,
    errors,
    features: features.length === 0 ? undefined : features.join("\n"),
    exitCode,
  };
}

/** Counts the test results in the output of a guest. */
export function countResults(output: string): number {
  return output.match(/^\((?:pass|fail|skip|todo)\) /gm)?.length ?? 0;
}
