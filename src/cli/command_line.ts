/** @module The command line: which command it names, and what comes of it. */

import { Command, CommanderError } from "commander";
import { BpfError } from "../ffi/error.ts";
import { ClosedPipe, jsonHelp, printable, writeError, writeOut } from "./output.ts";
import { version } from "../../package.json" with { type: "json" };

/** Adds a command, with its own commands, to the program. */
export type CommandGroup = (program: Command) => void;

/** Runs the command that the arguments name, and returns the exit status. Failures are told on standard error. */
export async function runCommandLine(
  groups: readonly CommandGroup[],
  args: readonly string[],
): Promise<number> {
  const program = createProgram(groups);
  try {
    await program.parseAsync(args, { from: "user" });
    return succeeded;
  } catch (error) {
    return report(error);
  }
}

/** A refusal that is for the user to read: its message is all that is shown. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  /** The command line is to blame, and not what is in the kernel. */
  readonly isMisuse: boolean;

  constructor(message: string, { isMisuse = false } = {}) {
    super(message);
    this.isMisuse = isMisuse;
  }
}

/** Signals that end a command which runs until it is stopped. */
export const endingSignals = ["SIGINT", "SIGTERM"] as const;

/**
 * Runs steps one after another. A signal that ends the process does so between two of them, not in the middle of one, so
 * that each step can remove what it made.
 *
 * @param onEnd called after the last step that ran, in any case
 */
export async function runSteps(steps: Iterable<() => void>, onEnd: () => void): Promise<void> {
  let received: NodeJS.Signals | undefined;
  const remember = (signal: NodeJS.Signals): void => {
    received ??= signal;
  };
  for (const signal of endingSignals) process.on(signal, remember);
  try {
    for (const step of steps) {
      step();
      // Signals are delivered in a turn of the event loop.
      await new Promise(setImmediate);
      if (received !== undefined) break;
    }
  } finally {
    for (const signal of endingSignals) process.off(signal, remember);
    onEnd();
  }
  if (received !== undefined) process.kill(process.pid, received);
}

/** Exit statuses, as they are for most commands. */
const succeeded = 0;
const failed = 1;
const misused = 2;

const examples = `
Examples:
  bun-bpf map list                       all maps, with who holds them open and where they are pinned
  bun-bpf map dump name:counts           the entries of a map, by its types
  bun-bpf map dump 12 --json | jq .      the same for scripts
  bun-bpf map update limits 1000 50      store a value, by the map's types
  bun-bpf map events exec_events         the records of a ring buffer, as they come
  bun-bpf prog show /sys/fs/bpf/filter   all about one program
  bun-bpf btf dump vmlinux >vmlinux.h    the kernel's types, as a C header

Objects are named by id (12, id:12), by name where only one has it (counts, name:counts), or by
the path of a pin (/sys/fs/bpf/counts, ./counts, path:counts).

Listing objects takes root, or CAP_SYS_ADMIN; NO_COLOR=1 turns colours off, which only a terminal gets.`;

function createProgram(groups: readonly CommandGroup[]): Command {
  const program = new Command("bun-bpf")
    .description(
      "Shows the BPF objects in the kernel: maps and their contents, programs, links, types.",
    )
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "show this")
    .helpCommand("help [command]", "show what a command does")
    .addHelpText("after", `${examples}\n\n${jsonHelp}`)
    .exitOverride()
    .configureOutput({
      writeOut,
      writeErr: writeError,
      outputError: (message, print) => print(message.replace(/^error: /, "bun-bpf: ")),
    });
  for (const addTo of groups) addTo(program);
  return program;
}

/** Tells what went wrong, and returns the exit status for it. */
function report(error: unknown): number {
  // Whoever reads has seen enough, as `head` has.
  if (error instanceof ClosedPipe) return succeeded;
  // Commander has said it already. Where it showed help instead of a command, that was no success.
  if (error instanceof CommanderError) return error.exitCode === 0 ? succeeded : misused;
  if (error instanceof CommandError) {
    writeError(`bun-bpf: ${error.message}\n`);
    return error.isMisuse ? misused : failed;
  }
  const { message } = error instanceof Error ? error : new Error(String(error));
  // One line, whatever the names in it contain.
  writeError(`bun-bpf: ${printable(message)}\n`);
  // What is not foreseen is a mistake in here, which its place helps to find.
  if (!isExpected(error)) writeError(`${(error as Error).stack ?? ""}\n`);
  return failed;
}

/** True for errors of the kernel and of the file system, and for refusals of what cannot be done. */
function isExpected(error: unknown): boolean {
  if (error instanceof BpfError || !(error instanceof Error)) return true;
  return "code" in error || error.constructor === Error || error instanceof RangeError;
}
