import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { TestResult } from "./results.ts";

/** Durations of test files in a guest, in seconds by path. */
export type Durations = Readonly<Record<string, number>>;

/** Assumed seconds of a file that has never run. */
const usualDuration = 2;

/** Reads the durations of earlier runs; empty if there are none. */
export function readDurations(path: string): Durations {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Durations) : {};
}

/** Stores the durations of a run, and keeps those of files that did not run. */
export function writeDurations(path: string, tests: readonly TestResult[]): void {
  const measured: Record<string, number> = {};
  for (const { file, duration } of tests) measured[file] = (measured[file] ?? 0) + duration;
  writeFileSync(path, JSON.stringify({ ...readDurations(path), ...measured }, undefined, 1));
}

/** Divides files into parts of about the same duration: adds each, the longest first, to the shortest part. */
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
