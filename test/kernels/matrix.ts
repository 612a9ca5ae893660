import { join } from "node:path";
import { type GuestReport, type GuestRun, runGuest } from "./guest.ts";
import type { Kernel } from "./kernel.ts";
import { partition, readDurations, writeDurations } from "./partition.ts";

/** What is run on which kernels. */
export interface Matrix extends Omit<GuestRun, "kernel" | "tests" | "onTests"> {
  readonly kernels: readonly Kernel[];
  /** Files of tests. */
  readonly files: readonly string[];
  /** Guests at the same time. */
  readonly jobs: number;
}

/** A guest that is running. */
export interface RunningGuest {
  readonly kernel: Kernel;
  /** How many tests have ended in it. */
  tests: number;
}

/** Who is told of guests. */
export interface MatrixObserver {
  onStart(guest: RunningGuest): void;
  onTests(guest: RunningGuest): void;
  onEnd(guest: RunningGuest, report: GuestReport): void;
}

/** What became of the tests on one kernel: of all guests among which they were divided. */
export interface KernelReport {
  readonly kernel: Kernel;
  readonly guests: readonly GuestReport[];
}

/**
 * Runs the tests on all kernels; those of one are divided among guests where there would be fewer guests than may run at the
 * same time.
 */
export async function runMatrix(
  { kernels, files, jobs, ...settings }: Matrix,
  cache: string,
  signal: AbortSignal,
  observer: MatrixObserver,
): Promise<readonly KernelReport[]> {
  const durations = join(cache, `durations-${settings.architecture.name}.json`);
  const count = Math.max(1, Math.floor(jobs / kernels.length));
  // Without tests there are features to ask for.
  const parts = files.length === 0 ? [[]] : partition(files, count, readDurations(durations));
  const reports = kernels.map((kernel) => ({ kernel, guests: [] as GuestReport[] }));
  // The newest first: they take longest, as they have most.
  const waiting = reports
    .toReversed()
    .flatMap((report) => parts.map((tests) => ({ report, tests })));
  await workOff(waiting, jobs, signal, async ({ report, tests }, either) => {
    const { kernel, guests } = report;
    const running: RunningGuest = { kernel, tests: 0 };
    observer.onStart(running);
    const onTests = (ended: number) => {
      running.tests = ended;
      observer.onTests(running);
    };
    const guest = await runGuest({ ...settings, kernel, tests, onTests }, cache, either);
    guests.push(guest);
    writeDurations(durations, guest.tests);
    observer.onEnd(running, guest);
  });
  return reports;
}

/**
 * Does something with each of what waits, with some at the same time. When that fails for one, the others are told by their
 * signal, and waited for: they may have machines to end and folders to remove.
 */
export async function workOff<T>(
  waiting: readonly T[],
  jobs: number,
  signal: AbortSignal,
  run: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const left = [...waiting];
  const failure = new AbortController();
  const either = AbortSignal.any([signal, failure.signal]);
  const work = async () => {
    while (!either.aborted) {
      const next = left.shift();
      if (next === undefined) return;
      try {
        await run(next, either);
      } catch (error) {
        // The first reason stays: what fails behind it may fail because of it.
        failure.abort(error);
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, left.length) }, work));
  failure.signal.throwIfAborted();
}
