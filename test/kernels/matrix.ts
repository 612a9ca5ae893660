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
  const failure = new AbortController();
  const either = AbortSignal.any([signal, failure.signal]);
  const work = async () => {
    while (!either.aborted) {
      const next = waiting.shift();
      if (next === undefined) return;
      const { report, tests } = next;
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
    }
  };
  const workers = Array.from({ length: Math.min(jobs, waiting.length) }, () =>
    // What went wrong for one is no reason to leave the others' machines running.
    work().catch((error: unknown) => {
      failure.abort();
      throw error;
    }),
  );
  for (const result of await Promise.allSettled(workers)) {
    if (result.status === "rejected") throw result.reason;
  }
  return reports;
}
