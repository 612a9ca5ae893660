/** @module Runs the command that the command line names, reports its errors, and returns the exit status. */

import { readFileSync } from "node:fs";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { AssemblerError } from "../asm/layout.ts";
import { BpfError } from "../ffi/error.ts";
import { VerifierError } from "../program/verifier_error.ts";
import { ClosedPipe, jsonHelp, printable, writeError, writeOut } from "./output.ts";
import { version } from "../../package.json" with { type: "json" };

/** Adds a command with its subcommands to the program. */
export type CommandGroup = (program: Command) => void;

/**
 * Finds a command to which others are added: `map`.
 *
 * @throws {Error} if it has not been added to the program.
 */
export function groupOf(program: Command, name: string): Command {
  const group = program.commands.find((command) => command.name() === name);
  if (group === undefined) throw new Error(`the command "${name}" must be defined first`);
  return group;
}

/** Runs the command that the arguments name, and returns the exit status. Prints errors on standard error. */
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

/** An error for the user, of which only the message is shown. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  /** True if the command line is wrong, false if the state of the kernel is the cause. */
  readonly isMisuse: boolean;

  constructor(message: string, { isMisuse = false } = {}) {
    super(message);
    this.isMisuse = isMisuse;
  }
}

/**
 * Runs a step that checks arguments of the user, and returns its result.
 *
 * @param subject the object or file that the errors are about
 * @throws {CommandError} if the step rejects an argument.
 */
export function forUser<T>(subject: string, { isMisuse }: { isMisuse: boolean }, step: () => T): T {
  try {
    return step();
  } catch (error) {
    const isRefusal =
      error instanceof TypeError ||
      error instanceof RangeError ||
      error instanceof AssemblerError ||
      error instanceof InvalidArgumentError;
    if (!isRefusal) throw error;
    // The message is printed in one line, even if names in it contain line feeds.
    throw new CommandError(`${subject}: ${printable(error.message)}`, { isMisuse });
  }
}

let knownSignals: readonly NodeJS.Signals[] | undefined;

/**
 * Returns the signals that stop a command which otherwise runs forever. A handler for SIGHUP would undo nohup(1), which ignores it.
 */
export function endingSignals(): readonly NodeJS.Signals[] {
  // Kept: after a handler is added, the signal is no longer ignored.
  return (knownSignals ??= ignoresHangup()
    ? ["SIGINT", "SIGTERM"]
    : ["SIGINT", "SIGTERM", "SIGHUP"]);
}

/** Returns true if this process was started with SIGHUP ignored. */
function ignoresHangup(): boolean {
  const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return (BigInt(`0x${ignored ?? "0"}`) & 1n) === 1n;
}

/** Waits for a signal that ends a command. Between the construction and the disposal, such signals do not end the process. */
export class EndingSignal implements Disposable {
  readonly #received = Promise.withResolvers<true>();
  readonly #receive = (): void => this.#received.resolve(true);

  constructor() {
    for (const signal of endingSignals()) process.on(signal, this.#receive);
  }

  /** Waits for a signal, for at most a number of milliseconds. Returns true after a signal. */
  async wait(milliseconds: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<false>();
    // The timer also keeps the process alive: a handler of signals does not.
    const timer = setTimeout(() => resolve(false), Math.min(milliseconds, maxDelayMs));
    const hasArrived = await Promise.race([this.#received.promise, promise]);
    clearTimeout(timer);
    return hasArrived;
  }

  [Symbol.dispose](): void {
    for (const signal of endingSignals()) process.off(signal, this.#receive);
  }
}

/** The longest delay of `setTimeout`, about 24 days. */
const maxDelayMs = 2 ** 31 - 1;

/**
 * Parses a duration in seconds, and returns it in milliseconds.
 *
 * @throws {InvalidArgumentError} if it is not a number from 0.01 to 2,000,000.
 */
export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || seconds < 0.01 || seconds > 2e6) {
    throw new InvalidArgumentError("Expected a number of seconds from 0.01 to 2000000.");
  }
  return seconds * 1000;
}

/**
 * Runs steps one after another. A signal ends the process between two steps, so that each step can remove what it created.
 *
 * @param onEnd called after the last step, also if a step fails or a signal arrives
 */
export async function runSteps(steps: Iterable<() => void>, onEnd: () => void): Promise<void> {
  let received: NodeJS.Signals | undefined;
  const remember = (signal: NodeJS.Signals): void => {
    received ??= signal;
  };
  for (const signal of endingSignals()) process.on(signal, remember);
  try {
    for (const step of steps) {
      step();
      // Signals are delivered by the event loop, which runs during this wait.
      await new Promise(setImmediate);
      if (received !== undefined) break;
    }
  } finally {
    for (const signal of endingSignals()) process.off(signal, remember);
    onEnd();
  }
  if (received !== undefined) process.kill(process.pid, received);
}

/** Exit statuses: 2 for a wrong command line, 1 for other errors. */
const succeeded = 0;
const failed = 1;
const misused = 2;

const examples = `
Examples:
  bun-bpf map list                       list all maps, with their owners and pins
  bun-bpf map dump name:counts           print the entries of a map, decoded by its types
  bun-bpf map dump 12 --json | jq .      print the same as JSON
  bun-bpf map update limits 1000 50      store a value, encoded by the map's types
  bun-bpf map events exec_events         print the records of a ring buffer as they arrive
  bun-bpf prog show /sys/fs/bpf/filter   show the details of a program
  bun-bpf prog load x.ts /sys/fs/bpf/x   load a program from a script, and pin it
  bun-bpf prog profile                   count and time the runs of all programs
  bun-bpf btf dump vmlinux >vmlinux.h    print the kernel's types as a C header

Maps and programs are named by id (12, id:12), by name if it is unique (counts, name:counts), or by the
path of a pin (/sys/fs/bpf/counts, ./counts, path:counts); links by id or path.

Listing objects requires root or CAP_SYS_ADMIN. Output to a terminal is coloured unless NO_COLOR=1 is set. The
exit status is 0 for success, 1 if the command failed, and 2 if the command line is wrong.`;

function createProgram(groups: readonly CommandGroup[]): Command {
  const program = new Command("bun-bpf")
    .description(
      "Shows and changes the BPF objects in the kernel: maps and their entries, programs, links and types.",
    )
    .version(version, "-V, --version", "show the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .addHelpText("after", `${examples}\n\n${jsonHelp}`)
    .exitOverride()
    .configureOutput({
      writeOut,
      writeErr: writeError,
      outputError: (message, print) => print(withRemedy(message.replace(/^error: /, "bun-bpf: "))),
    });
  for (const addTo of groups) addTo(program);
  return program;
}

/** Adds a remedy to the error about an unknown command, unless the message already suggests a similar command. */
function withRemedy(message: string): string {
  return message.replace(/(unknown command '.*')\n$/, "$1: `--help` lists the commands\n");
}

/** Prints an error, and returns the exit status for it. */
function report(error: unknown): number {
  // The reader, such as `head`, needs no more output: this is not an error.
  if (error instanceof ClosedPipe) return succeeded;
  // Commander has printed the message. If the command is missing, it has printed help, which is an error, too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? succeeded : misused;
  if (error instanceof CommandError) {
    writeError(`bun-bpf: ${error.message}\n`);
    return error.isMisuse ? misused : failed;
  }
  const { message } = error instanceof Error ? error : new Error(String(error));
  // The message is printed in one line, even if names in it contain line feeds. Only that of the verifier has several.
  const lines = error instanceof VerifierError ? message.split("\n") : [message];
  writeError(`bun-bpf: ${lines.map(printable).join("\n")}\n`);
  // An unexpected error is a defect of this program. The stack helps to find it.
  if (!isExpected(error)) writeError(`${(error as Error).stack ?? ""}\n`);
  return failed;
}

/** Returns true for errors of the kernel and the file system, and for errors that explain why a command cannot be run. */
function isExpected(error: unknown): boolean {
  if (error instanceof BpfError || !(error instanceof Error)) return true;
  return "code" in error || error.constructor === Error || error instanceof RangeError;
}
