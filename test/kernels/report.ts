/** @module Formats the results of a run: as JSON, or as a line for each kernel with failures and skipped tests. */

import { styleText } from "node:util";
import { counted } from "../../src/cli/output.ts";
import type { GuestReport } from "./guest.ts";
import type { KernelReport } from "./matrix.ts";
import type { Outcome, TestResult } from "./results.ts";

const outcomes: readonly Outcome[] = ["pass", "skip", "fail"];
/** Number of lines that are shown of a failure's details and of a guest's last messages. The logs have all lines. */
const maxShownLines = 30;

/** Returns true if all tests of a guest passed and it powered off. */
export function isGoodGuest({ end, exitCode }: GuestReport): boolean {
  return end === "off" && exitCode === 0;
}

/** Returns true if nothing failed on a kernel. */
export function isGood({ guests }: KernelReport): boolean {
  return guests.length > 0 && guests.every(isGoodGuest);
}

/** Counts tests by outcome. */
function countOutcomes(tests: readonly TestResult[]): Readonly<Record<Outcome, number>> {
  const counts: Record<Outcome, number> = { pass: 0, fail: 0, skip: 0, todo: 0 };
  for (const { outcome } of tests) counts[outcome]++;
  return counts;
}

/** Formats a line about the guests of a kernel: counts of outcomes, duration, and unusual ends. */
export function summaryLine({ kernel, guests }: KernelReport): string {
  if (guests.length === 0) return `${kernel.release}: not run`;
  const counts = countOutcomes(guests.flatMap(({ tests }) => tests));
  const numbers = outcomes.map((outcome) => `${counts[outcome]} ${outcome}`).join(", ");
  const errors = guests.reduce((sum, guest) => sum + guest.errors.length, 0);
  const stray = errors === 0 ? "" : `, ${counted(errors, "error")} outside of tests`;
  const seconds = Math.round(Math.max(...guests.map(({ duration }) => duration)));
  const ends = guests.filter(({ end }) => end !== "off").map(({ end }) => `, ended: ${end}`);
  const text = `${kernel.release}: ${numbers}${stray} in ${seconds} s${ends.join("")}`;
  return styleText(isGood({ kernel, guests }) ? "green" : "red", text, { stream: process.stdout });
}

/** Formats the failures with their output, the last messages of guests that failed, and the number of skipped tests by reason. */
export function details({ guests }: KernelReport): string[] {
  const tests = guests.flatMap(({ tests }) => tests);
  const failures = tests
    .filter(({ outcome }) => outcome === "fail")
    .flatMap(({ file, name, details }) => [`failed: ${file}: ${name}`, ...lastLines(details)]);
  const errors = guests.flatMap((guest) =>
    guest.errors.flatMap(({ file, details }) => [
      `error outside of tests: ${file}`,
      ...lastLines(details),
    ]),
  );
  const skips = Map.groupBy(
    tests.filter(({ outcome }) => outcome === "skip"),
    ({ details }) => details || "without a reason",
  );
  const reasons = [...skips]
    .toSorted(([, some], [, others]) => others.length - some.length)
    .map(([reason, tests]) => `${tests.length} skipped: ${reason}`);
  return [...failures, ...errors, ...guests.flatMap(lastMessages), ...reasons];
}

/** Returns the last output of a guest that did not power off, or the kernel's warnings of one that did. */
function lastMessages({ end, exitCode, tests, errors, console, output }: GuestReport): string[] {
  if (end === "off") {
    const warnings = console.split(/\r?\n/).filter((line) => warning.test(line));
    const isExplained = errors.length > 0 || tests.some(({ outcome }) => outcome === "fail");
    return [
      ...warnings.map((line) => `kernel: ${line}`),
      ...(exitCode === 0 || isExplained
        ? []
        : [
            `the tests ended with status ${exitCode}. The last of their output:`,
            ...lastLines(output),
          ]),
    ];
  }
  return [
    `the guest ended: ${end}. The last of the tests' output:`,
    ...lastLines(output),
    "and of the kernel's messages:",
    ...lastLines(console),
  ];
}

const warning = /\b(?:WARNING|BUG|Oops|general protection fault|Out of memory)\b/;

function lastLines(text: string): string[] {
  const trimmed = text.trim();
  if (trimmed === "") return [];
  return trimmed
    .split(/\r?\n/)
    .slice(-maxShownLines)
    .map((line) => `    ${line}`);
}

/** Converts the report of a kernel to JSON. */
export function asJson(
  { kernel, guests }: KernelReport,
  logFolders: ReadonlyMap<GuestReport, string>,
) {
  const tests = guests.flatMap(({ tests }) => tests);
  return {
    kernel: kernel.release,
    ends: guests.map(({ end }) => end),
    // JSON has no undefined.
    exitCodes: guests.map(({ exitCode }) => exitCode ?? null),
    logs: guests.flatMap((guest) => logFolders.get(guest) ?? []),
    seconds: Math.max(0, ...guests.map(({ duration }) => duration)),
    ...countOutcomes(tests),
    errors: guests.flatMap(({ errors }) => errors),
    notPassed: tests.filter(({ outcome }) => outcome !== "pass"),
  };
}
