import { join } from "node:path";
import { type GuestReport, type GuestRun, runGuest } from "./guest.ts";
import type { Kernel } from "./kernel.ts";
import { partition, readDurations, writeDurations } from "./partition.ts";

/** What is run on which kernels. */
export interface Matrix extends Omit<GuestRun, "kernel" | "tests"> {
  readonly kernels: readonly Kernel[];
  /** Files of tests. */
  readonly files: readonly string[];
  /** Guests at the same time. */
  readonly jobs: number;
}

/** What became of the tests on one kernel: of all guests among which they were divided. */
export interface KernelReport {
  readonly kernel: Kernel;
  readonly guests: readonly GuestReport[];
}

/**
 * Runs the tests on all kernels; those of one are divided among guests where there would be fewer guests than may run at the
 * same time.
 *
 * @param onGuest hears of each guest that starts and ends
 */
export async function runMatrix(
  { kernels, files, jobs, ...settings }: Matrix,
  cache: string,
  signal: AbortSignal,
  onGuest: (kernel: Kernel, report: GuestReport | undefined) => void,
): Promise<readonly KernelReport[]> {
  const durations = join(cache, `durations-${settings.architecture.name}.json`);
  const count = Math.max(1, Math.floor(jobs / kernels.length));
  // Without tests there are features to ask for.
  const parts = files.length === 0 ? [[]] : partition(files, count, readDurations(durations));
  const reports = kernels.map((kernel) => ({ kernel, guests: [] as GuestReport[] }));
  const waiting = reports.flatMap((report) => parts.map((tests) => ({ report, tests })));
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { report, tests } = next;
      const { kernel, guests } = report;
      onGuest(kernel, undefined);
      const guest = await runGuest({ ...settings, kernel, tests }, cache, signal);
      guests.push(guest);
      writeDurations(durations, guest.tests);
      onGuest(kernel, guest);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, waiting.length) }, work));
  return reports;
}
