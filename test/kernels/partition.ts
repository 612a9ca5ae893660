import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { TestResult } from "./results.ts";

/** Seconds that files of tests took in a guest, by path. */
export type Durations = Readonly<Record<string, number>>;

/** What a file is taken to need that never ran. */
const usualDuration = 2;

/** What was measured last time, or nothing yet. */
export function readDurations(path: string): Durations {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Durations) : {};
}

/** Keeps what was measured, beside what is known of files that did not run. */
export function writeDurations(path: string, tests: readonly TestResult[]): void {
  const measured: Record<string, number> = {};
  for (const { file, duration } of tests) measured[file] = (measured[file] ?? 0) + duration;
  writeFileSync(path, JSON.stringify({ ...readDurations(path), ...measured }, undefined, 1));
}

/** Divides files into parts that take about as long as one another: the longest first, each to the part with the least. */
export function partition(
  files: readonly string[],
  count: number,
  durations: Durations,
): readonly (readonly string[])[] {
  const duration = (file: string) => durations[file] ?? usualDuration;
  const parts = Array.from({ length: count }, () => ({ files: [] as string[], total: 0 }));
  for (const file of files.toSorted((one, other) => duration(other) - duration(one))) {
    const part = parts.reduce((least, part) => (part.total < least.total ? part : least));
    part.files.push(file);
    part.total += duration(file);
  }
  return parts.map(({ files }) => files).filter((files) => files.length > 0);
}
