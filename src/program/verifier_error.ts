import { BpfError, type BpfErrorOptions } from "../ffi/error.ts";
import type { Assembled } from "../asm/assembler.ts";
import type { PlacedInstruction } from "../asm/layout.ts";

/** Lines of the log that a message quotes. */
const quotedLines = 12;

/**
 * The verifier rejected a program: the message ends with what it said last, `log` has all of it.
 *
 * Where the program has labels, functions or source positions, the message says by them where the verifier stopped.
 *
 * @example
 * ```ts
 * import { asm, Program, VerifierError } from "bun-bpf";
 * try {
 *   using program = new Program({ section: "socket", license: "GPL", code: [asm.exit()] });
 * } catch (error) {
 *   if (error instanceof VerifierError) console.log(error.log.includes("R0 !read_ok")); // true
 * }
 * ```
 */
export class VerifierError extends BpfError {
  override readonly name = "VerifierError";
  /** The verifier's whole log. It is not enumerable: an error that is printed shows the log's end alone. */
  readonly log: string;
  /** The last instruction that the log shows, as it was given to the program; `undefined` where it shows none. */
  readonly instruction: PlacedInstruction | undefined;

  /** @internal */
  constructor(options: BpfErrorOptions, log: string, program: Assembled) {
    super(options);
    this.log = log;
    Object.defineProperty(this, "log", { enumerable: false });
    this.instruction = lastInstruction(log, program);
    const place = this.instruction && describePlace(this.instruction, program);
    this.message = [this.message, ...(place ? [`  ${place}`] : []), summarize(log)].join("\n");
  }
}

/** The log shows each instruction that it looks at as `5: (61) r0 = ...`, by its slot. */
function lastInstruction(log: string, { bySlot }: Assembled): PlacedInstruction | undefined {
  const slot = [...log.matchAll(/^(\d+): \([0-9a-f]{2}\)/gm)].at(-1)?.[1];
  return slot === undefined ? undefined : bySlot[Number(slot)];
}

/** Describes the place of an instruction by function and source line; empty for a program without names and positions. */
function describePlace(placed: PlacedInstruction, { instructions }: Assembled): string {
  const { slot, index, instruction } = placed;
  const { source } = instruction;
  const before = instructions.slice(0, index + 1);
  const label = before
    .findLast((other) => other.function === placed.function && other.labels.length > 0)
    ?.labels.at(-1);
  const parts = [
    ...(source === undefined ? [] : [`from ${source.file}:${source.line}`]),
    ...(label === undefined ? [] : [`after label ${JSON.stringify(label)}`]),
    ...(placed.function === "" ? [] : [`in function ${JSON.stringify(placed.function)}`]),
  ];
  return parts.length === 0 ? "" : `at slot ${slot}, ${parts.join(", ")}:`;
}

/** The end of a log, where the reason is, without the statistics that follow it. */
function summarize(log: string): string {
  const lines = log
    .trimEnd()
    .split("\n")
    .filter((line) => !/^(processed \d+ insns|verification time|stack depth)/.test(line));
  const shown = lines.slice(-quotedLines).map((line) => `  ${line}`);
  return lines.length > quotedLines ? ["  ...", ...shown].join("\n") : shown.join("\n");
}
