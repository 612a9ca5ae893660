/**
 * Attaches in the ways that the arguments name, prints the attachments as JSON, and waits until it is killed.
 *
 * Each way is attached inside the place of the one before, so that all are attached at the same time.
 */
import { writeSync } from "node:fs";
import { loadFor } from "../../../src/features/attach_probes.ts";
import { atPlaceOf, attachFor, type Attached, ways } from "../all_ways.ts";

const attached: Attached[] = [];
attach(process.argv.slice(2));

function attach([kind, ...others]: readonly string[]): void {
  const way = ways.find((each) => each.kind === kind);
  if (way === undefined) {
    writeSync(1, `${JSON.stringify(attached)}\n`);
    // The test kills this process.
    for (;;) Bun.sleepSync(1000);
  }
  const program = loadFor(way.row, "way");
  atPlaceOf(way, (options) => {
    attached.push(attachFor(way, program, options));
    attach(others);
  });
}
