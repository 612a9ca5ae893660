import { buildPeer, type Peer } from "../peer.ts";
import { cleanUpOnSignals } from "./children.ts";
import { type CommonOptions, type NumberOption, readOptions } from "./options.ts";
import { machine, type Report, textTable } from "./report.ts";

/** What a benchmark is run with. */
export type Options<Name extends string> = CommonOptions & Readonly<Record<Name, number>>;

/** What a benchmark is. */
export interface Benchmark<Name extends string> {
  readonly usage: string;
  readonly numbers: Readonly<Record<Name, NumberOption>>;
  measure(options: Options<Name>, peer: Peer | undefined): Promise<Report>;
  /** The C program beside it, if any: `bench/NAME.c`. */
  readonly peer?: string;
}

/** Runs a benchmark, from the command line to the table. */
export async function run<Name extends string>({
  usage,
  numbers,
  measure,
  peer,
}: Benchmark<Name>): Promise<void> {
  const options = readOptions(usage, numbers);
  cleanUpOnSignals();
  const report = await measure(options, peer === undefined ? undefined : buildPeer(peer));
  console.log(
    options.json
      ? JSON.stringify({ ...report, machine: machine() }, withoutNaN)
      : `${textTable(report)}\n\n${machine()}`,
  );
}

/** What could not be measured is left out: JSON has no word for it. */
function withoutNaN(_key: string, value: unknown): unknown {
  return Number.isNaN(value) ? undefined : value;
}
