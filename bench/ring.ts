/**
 * All benchmarks of ring buffers, one after another: one table, and the chart docs/ring.svg.
 *
 *   bun bench/ring.ts [--quick] [--json]
 *
 * The comment at the head of each file describes what it compares, and how. Each benchmark runs in a separate process, so that
 * it does not run code that was compiled for another one. All together take a quarter of an hour. Run nothing else on the
 * machine meanwhile.
 */
import { join } from "node:path";
import { plot } from "./plot.ts";
import { Child, cleanUpOnSignals } from "./support/children.ts";
import { readOptions } from "./support/options.ts";
import { progress } from "./support/progress.ts";
import { isMet, machine, markdownTable, type Report } from "./support/report.ts";

/** The benchmarks, with their options unless `--quick` is set. */
const benchmarks: Readonly<Record<string, readonly string[]>> = {
  ring_drain: [],
  ring_flood: ["--paced-seconds", "60"],
  ring_latency: [],
  ring_idle: [],
  ring_memory: [],
};
const chart = join(import.meta.dir, "../docs/ring.svg");

const { quick, json } = readOptions(
  "All benchmarks of ring buffers, and their chart: bun bench/ring.ts [options]",
  {},
);
cleanUpOnSignals();

const reports: Report[] = [];
for (const [name, options] of Object.entries(benchmarks)) {
  progress(name);
  const flags = ["--json", ...(quick ? ["--quick"] : options)];
  await using child = new Child([process.execPath, join(import.meta.dir, `${name}.ts`), ...flags]);
  try {
    reports.push(await child.json<Report>());
  } catch (error) {
    // The other benchmarks still run.
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}

const rounds = quick ? "short rounds, " : "";
await Bun.write(chart, plot(reports, `${rounds}${machine()}`));
if (json) {
  console.log(JSON.stringify({ machine: machine(), reports }));
} else {
  const figures = reports.flatMap((report) => report.figures);
  const missed = figures.filter((figure) => isMet(figure) === false);
  console.log(`${markdownTable(reports)}\n`);
  console.log(`${rounds}${machine()}`);
  console.log(
    missed.length === 0
      ? "All targets are met."
      : `Targets missed: ${missed.map(({ what }) => what).join("; ")}.`,
  );
}
