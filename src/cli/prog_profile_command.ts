/** @module The command `bun-bpf prog profile`, which counts and times the runs of programs. */

import type { Command } from "commander";
import { EndingSignal, groupOf, parseSeconds } from "./command_line.ts";
import { findObject, parseReference, type Reference } from "./object_command.ts";
import {
  type Column,
  FullScreen,
  humanNanoseconds,
  type JsonOption,
  printJson,
  renderTable,
  toJson,
  writeOut,
} from "./output.ts";
import { listObjects, objectById } from "../inspect/objects.ts";
import { enableStats, type ProgramInfo } from "../program/program_info.ts";

const help = `
Without arguments, the command profiles all programs, and prints those that ran. It makes the kernel count and
time all runs while it runs itself (Linux 5.8), which costs each run some tens of nanoseconds.

On a terminal the table is refreshed every --interval (default: 1 second) and shows the last interval; at the
end it shows the whole time. Elsewhere only the whole time is printed, and with --interval each interval.
RATE is in runs per second, and CPU is the time in the program as a share of one CPU. Runs of other programs
that the program calls, such as by tail calls, belong to it.

With --json the document has the keys seconds (the duration) and programs, each with id, type, name, runs,
runTime (ns), recursionMisses (runs that were skipped because the program was already running on the same CPU)
and cpu (1 for one CPU). With --interval it is one such document per line and interval.

Examples:
  bun-bpf prog profile --duration 10
  bun-bpf prog profile name:execs id:12 --interval 5
  bun-bpf prog profile --duration 5 --json | jq '.programs[] | [.name, .runTime / .runs]'`;

interface ProfileOptions extends JsonOption {
  readonly duration?: number;
  readonly interval?: number;
}

/** Adds the command to `bun-bpf prog`, which has to exist. */
export function progProfileCommand(program: Command): void {
  groupOf(program, "prog")
    .command("profile")
    .description("count and time the runs of programs")
    .argument(
      "[program...]",
      "their ids, names, or paths of pins (default: all)",
      (text: string, others: readonly Reference[] = []) => [...others, parseReference(text)],
    )
    .option(
      "-d, --duration <seconds>",
      "stop after this time (default: run until Ctrl-C)",
      parseSeconds,
    )
    .option(
      "-i, --interval <seconds>",
      "print the runs of each interval of this length",
      parseSeconds,
    )
    .option("-j, --json", "print one JSON document, or one per interval")
    .addHelpText("after", help)
    .action(profile);
}

async function profile(references: readonly Reference[], options: ProfileOptions): Promise<void> {
  const { json = false, duration = Infinity } = options;
  const ids = references.map((reference) => findObject("prog", reference).id);
  const isTerminal = process.stdout.isTTY && !json;
  const interval = options.interval ?? (isTerminal ? defaultIntervalMs : undefined);
  using _stats = enableStats();
  using signal = new EndingSignal();
  const first = takeSnapshot(ids);
  let last = first;
  /** Reports the runs since a snapshot, and takes the last one. */
  const reportSince = (before: Snapshot): Report => {
    last = takeSnapshot(ids);
    return compare(before, last, { isIdleShown: ids.length > 0 });
  };
  if (interval === undefined) {
    await signal.wait(duration);
  } else {
    using screen = isTerminal ? new FullScreen() : undefined;
    screen?.show("counting runs ...\n");
    for (let index = 0, isEnd = false; !isEnd; index++) {
      const left = duration - (performance.now() - first.time);
      isEnd = (await signal.wait(Math.max(0, Math.min(interval, left)))) || left <= interval;
      // An interval begins where the one before it ends, so that their runs add up to the total.
      const report = reportSince(last);
      if (json) writeOut(`${toJson(report)}\n`);
      else if (screen !== undefined) screen.show(table(report, (process.stdout.rows || 24) - 2));
      else writeOut(`${index === 0 ? "" : "\n"}${table(report)}`);
    }
    if (!isTerminal) return;
  }
  const report = reportSince(first);
  if (json) printJson(report);
  else writeOut(table(report));
}

const defaultIntervalMs = 1000;

/** The runs of a program in a period. */
interface Profiled {
  readonly id: number;
  readonly type: string;
  readonly name: string;
  readonly runs: number;
  readonly runTime: number;
  readonly recursionMisses: number | undefined;
  readonly cpu: number;
}

/** The runs of all profiled programs in a period. */
interface Report {
  readonly seconds: number;
  readonly programs: readonly Profiled[];
}

/** The numbers of all profiled programs at a time. */
interface Snapshot {
  /** The time in milliseconds, as `performance.now()` returns it. */
  readonly time: number;
  readonly programs: ReadonlyMap<number, ProgramInfo>;
}

/** @param ids the ids of the programs; empty for all */
function takeSnapshot(ids: readonly number[]): Snapshot {
  const time = performance.now();
  const infos =
    ids.length === 0 ? listObjects("prog") : ids.flatMap((id) => objectById("prog", id) ?? []);
  return { time, programs: new Map(Array.from(infos, (info) => [info.id, info])) };
}

/** Returns the programs by the time that they took between two snapshots. */
function compare(
  before: Snapshot,
  after: Snapshot,
  { isIdleShown }: { readonly isIdleShown: boolean },
): Report {
  const seconds = (after.time - before.time) / 1000;
  // A program that was unloaded meanwhile is missing, because the kernel has its numbers no longer.
  const programs = Array.from(after.programs.values(), (info): Profiled => {
    const earlier = before.programs.get(info.id);
    const { id, type, name } = info;
    const difference = (key: "runCount" | "runTime" | "recursionMisses"): number =>
      (info[key] ?? 0) - (earlier?.[key] ?? 0);
    const runTime = difference("runTime");
    return {
      ...{ id, type, name, runs: difference("runCount"), runTime },
      recursionMisses:
        info.recursionMisses === undefined ? undefined : difference("recursionMisses"),
      cpu: runTime / (seconds * 1e9),
    };
  });
  const shown = isIdleShown ? programs : programs.filter(({ runs }) => runs > 0);
  return { seconds, programs: shown.sort((one, other) => other.runTime - one.runTime) };
}

const columns: readonly Column[] = [
  { title: "ID", alignment: "right" },
  { title: "TYPE" },
  { title: "NAME" },
  { title: "RUNS", alignment: "right" },
  { title: "RATE", alignment: "right" },
  { title: "EACH", alignment: "right" },
  { title: "CPU", alignment: "right" },
];

/** Formats a report, of at most a number of programs. */
function table({ seconds, programs }: Report, limit = Infinity): string {
  return renderTable(
    columns,
    programs
      .slice(0, limit)
      .map(({ id, type, name, runs, runTime, cpu }) => [
        `${id}`,
        type,
        name,
        `${runs}`,
        `${Math.round(runs / seconds)}/s`,
        runs === 0 ? "" : humanNanoseconds(runTime / runs),
        `${(cpu * 100).toFixed(2)} %`,
      ]),
  );
}
