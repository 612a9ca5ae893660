/** @module What a run of the tests printed, understood. */

/** How a test ended. */
export type Outcome = "pass" | "fail" | "skip" | "todo";

/** A test's result. */
export interface TestResult {
  readonly file: string;
  /** With the names of the groups that it is in. */
  readonly name: string;
  readonly outcome: Outcome;
  /** Seconds. */
  readonly duration: number;
  /** Why it was skipped, as its name says; what was printed before its failure. */
  readonly details: string;
}

/** What went wrong outside of tests: a file that could not be loaded, or an exception that nobody waited for. */
export interface StrayError {
  readonly file: string;
  /** What was printed of it. */
  readonly details: string;
}

/** What a guest printed. */
export interface Results {
  readonly tests: readonly TestResult[];
  readonly errors: readonly StrayError[];
  /** The features of its kernel, as `bun-bpf features --json` prints them, where it was asked for. */
  readonly features: string | undefined;
  /** The status that the tests ended with. */
  readonly exitCode: number | undefined;
}

const heading = /^(test\/\S+\.test\.ts):$/;
const result = /^\((pass|fail|skip|todo)\) (.*?)(?: \[([\d.]+)ms\])?$/;
const strayError = "# Unhandled error between tests";
/** Around what is printed of one. */
const rule = /^-+$/;
const listedAgain = /^\d+ tests? (?:failed|skipped|todo)?:$/;
const skipped = /^(.*?) \(skipped: (.*)\)$/;

/** Takes the output of a guest apart. */
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
    // Behind the tests Bun lists again what failed and what was skipped.
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

/** How many results of tests a guest has printed so far. */
export function countResults(output: string): number {
  return output.match(/^\((?:pass|fail|skip|todo)\) /gm)?.length ?? 0;
}
