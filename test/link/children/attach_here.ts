/**
 * Attaches in the way that the argument names, in the network namespace of this process, prints the attachment as JSON, and
 * waits until it is killed.
 */
import { writeSync } from "node:fs";
import { loadFor } from "../../../src/features/attach_probes.ts";
import { attachFor, ways } from "../all_ways.ts";

const way = ways.find(({ kind }) => kind === process.argv[2]);
if (way === undefined) throw new Error(`there is no way to attach ${process.argv[2]}`);
const target = way.row.place === "loopback" ? { interface: "lo" } : {};
const attached = attachFor(way, loadFor(way.row, "way"), { ...target, ...way.row.options });
writeSync(1, `${JSON.stringify(attached)}\n`);
for (;;) Bun.sleepSync(1000);
