import { buildPeer, type Peer } from "../peer.ts";
import { cleanUpOnSignals } from "./children.ts";
import { type CommonOptions, type NumberOption, readOptions } from "./options.ts";
import { machine, type Report, textTable } from "./report.ts";

/** Options of a run: the common ones, and the numbers of the benchmark. */
export type Options<Name extends string> = CommonOptions & Readonly<Record<Name, number>>;

/** A benchmark: its options, its measurement and its C program. */
export interface Benchmark<Name extends string> {
  readonly usage: string;
  readonly numbers: Readonly<Record<Name, NumberOption>>;
  measure(options: Options<Name>, peer: Peer | undefined): Promise<Report>;
  /** The name of the C program to compare with, if any: `bench/NAME.c`. */
  readonly peer?: string;
}

/** Runs a benchmark: reads the command line, measures and prints the report. */
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

/** Removes figures that could not be measured, because JSON cannot represent NaN. */
function withoutNaN(_key: string, value: unknown): unknown {
  return Number.isNaN(value) ? undefined : value;
}
