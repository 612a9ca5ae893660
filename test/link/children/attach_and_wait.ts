/**
 * Attaches in the ways that the arguments name, prints the attachments as JSON, and waits until it is killed.
 *
 * Each way is attached inside the place of the one before, so that all are attached at the same time.
 */
import { readlinkSync, writeSync } from "node:fs";
import { basename } from "node:path";
import { Attachment } from "../../../src/link/attachment.ts";
import { BarePerfEvent } from "../../../src/link/perf_event.ts";
import { atPlaceOf, type Attached, loadFor, ways } from "../all_ways.ts";

const attached: Attached[] = [];
attach(process.argv.slice(2));

function attach([kind, ...others]: readonly string[]): void {
  const way = ways.find((each) => each.kind === kind);
  if (way === undefined) {
    writeSync(1, `${JSON.stringify(attached)}\n`);
    // The test kills this process.
    for (;;) Bun.sleepSync(1000);
  }
  const program = loadFor(way);
  atPlaceOf(way, (options) => {
    const link = program.attach(options);
    const isLink = !(link instanceof Attachment);
    const { cgroup } = options as { readonly cgroup?: { readonly fd: number } };
    attached.push({
      kind: way.kind,
      programId: program.id,
      isLink,
      // Before kernel 5.15, perf events have no links.
      ...(isLink && !(link instanceof BarePerfEvent) && { linkId: link.id }),
      ...(cgroup !== undefined && { cgroup: basename(readlinkSync(`/proc/self/fd/${cgroup.fd}`)) }),
    });
    attach(others);
  });
}
