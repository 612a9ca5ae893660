import { join } from "node:path";
import { type GuestReport, type GuestRun, runGuest } from "./guest.ts";
import type { Kernel } from "./kernel.ts";
import { partition, readDurations, writeDurations } from "./partition.ts";

/** The tests and the kernels of a run. */
export interface Matrix extends Omit<GuestRun, "kernel" | "tests" | "onTests"> {
  readonly kernels: readonly Kernel[];
  /** The test files. */
  readonly files: readonly string[];
  /** Maximum number of guests that run at the same time. */
  readonly jobs: number;
}

/** A guest that is running. */
export interface RunningGuest {
  readonly kernel: Kernel;
  /** Number of tests that have ended in the guest. */
  tests: number;
}

/** Callbacks for the progress of guests. */
export interface MatrixObserver {
  onStart(guest: RunningGuest): void;
  onTests(guest: RunningGuest): void;
  onEnd(guest: RunningGuest, report: GuestReport): void;
}

/** The results of the tests on one kernel, from all guests among which they were divided. */
export interface KernelReport {
  readonly kernel: Kernel;
  readonly guests: readonly GuestReport[];
}

/**
 * Runs the tests on all kernels. If there are fewer kernels than guests can run at the same time, the tests of each kernel are
 * divided among several guests.
 */
export async function runMatrix(
  { kernels, files, jobs, ...settings }: Matrix,
  cache: string,
  signal: AbortSignal,
  observer: MatrixObserver,
): Promise<readonly KernelReport[]> {
  const durations = join(cache, `durations-${settings.architecture.name}.json`);
  const count = Math.max(1, Math.floor(jobs / kernels.length));
  // Without tests a guest only prints the features.
  const parts = files.length === 0 ? [[]] : partition(files, count, readDurations(durations));
  const reports = kernels.map((kernel) => ({ kernel, guests: [] as GuestReport[] }));
  // The newest kernels run first: they take longest, because they have the most features.
  const waiting = reports
    .toReversed()
    .flatMap((report) => parts.map((tests) => ({ report, tests })));
  await runJobs(waiting, jobs, signal, async ({ report, tests }, combined) => {
    const { kernel, guests } = report;
    const running: RunningGuest = { kernel, tests: 0 };
    observer.onStart(running);
    const onTests = (ended: number) => {
      running.tests = ended;
      observer.onTests(running);
    };
    const guest = await runGuest({ ...settings, kernel, tests, onTests }, cache, combined);
    guests.push(guest);
    // A part of the tests of a file takes less time than the file.
    if (settings.title === undefined) writeDurations(durations, guest.tests);
    observer.onEnd(running, guest);
  });
  return reports;
}

/**
 * Calls a function for each item, with at most `jobs` calls at the same time. If one fails, the signal of the others is aborted,
 * and they are awaited: they may have to end machines and remove folders.
 */
export async function runJobs<T>(
  items: readonly T[],
  jobs: number,
  signal: AbortSignal,
  run: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const left = [...items];
  const failure = new AbortController();
  const combined = AbortSignal.any([signal, failure.signal]);
  const work = async () => {
    while (!combined.aborted) {
      const next = left.shift();
      if (next === undefined) return;
      try {
        await run(next, combined);
      } catch (error) {
        // Only the first error is kept: later ones may be consequences.
        failure.abort(error);
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, left.length) }, work));
  failure.signal.throwIfAborted();
}
