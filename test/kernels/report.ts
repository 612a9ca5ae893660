/** @module What people read of a run: a line for each kernel, and below it what failed and why tests were skipped; what programs read. */

import { styleText } from "node:util";
import { counted } from "../../src/cli/output.ts";
import type { GuestReport } from "./guest.ts";
import type { KernelReport } from "./matrix.ts";
import type { Outcome, TestResult } from "./results.ts";

const outcomes: readonly Outcome[] = ["pass", "skip", "fail"];
/** Lines of a failure's details, and of a guest's last messages, that are shown; the logs have all. */
const shownLines = 30;

/** Whether nothing failed in a guest: no test, and not the guest itself. */
export function isGoodGuest({ end, exitCode }: GuestReport): boolean {
  return end === "off" && exitCode === 0;
}

/** Whether nothing failed on a kernel. */
export function isGood({ guests }: KernelReport): boolean {
  return guests.length > 0 && guests.every(isGoodGuest);
}

/** How many tests ended in which way. */
export function countOutcomes(tests: readonly TestResult[]): Readonly<Record<Outcome, number>> {
  const counts: Record<Outcome, number> = { pass: 0, fail: 0, skip: 0, todo: 0 };
  for (const { outcome } of tests) counts[outcome]++;
  return counts;
}

/** One line about guests of a kernel: how many tests passed, and what else there is to know. */
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

/** What failed, with what was printed before; where a guest did not end by itself; how many tests were skipped for each reason. */
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
    ({ details }) => details || "no reason is given",
  );
  const reasons = [...skips]
    .toSorted(([, some], [, others]) => others.length - some.length)
    .map(([reason, tests]) => `skipped: ${tests.length}: ${reason}`);
  return [...failures, ...errors, ...guests.flatMap(lastMessages), ...reasons];
}

/** What a guest said last that did not end by itself, and the kernel's complaints of one that did. */
function lastMessages({ end, exitCode, tests, errors, console, output }: GuestReport): string[] {
  if (end === "off") {
    const complaints = console.split(/\r?\n/).filter((line) => complaint.test(line));
    const isExplained = errors.length > 0 || tests.some(({ outcome }) => outcome === "fail");
    return [
      ...complaints.map((line) => `the kernel says: ${line}`),
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

const complaint = /\b(?:WARNING|BUG|Oops|general protection fault|Out of memory)\b/;

function lastLines(text: string): string[] {
  const trimmed = text.trim();
  if (trimmed === "") return [];
  return trimmed
    .split(/\r?\n/)
    .slice(-shownLines)
    .map((line) => `    ${line}`);
}

/** What programs read of a kernel's report. */
export function asJson(
  { kernel, guests }: KernelReport,
  logFolders: ReadonlyMap<GuestReport, string>,
) {
  const tests = guests.flatMap(({ tests }) => tests);
  return {
    kernel: kernel.release,
    ends: guests.map(({ end }) => end),
    // One that is not defined would be left out.
    exitCodes: guests.map(({ exitCode }) => exitCode ?? null),
    logs: guests.flatMap((guest) => logFolders.get(guest) ?? []),
    seconds: Math.max(0, ...guests.map(({ duration }) => duration)),
    ...countOutcomes(tests),
    errors: guests.flatMap(({ errors }) => errors),
    notPassed: tests.filter(({ outcome }) => outcome !== "pass"),
  };
}
