import type { Assembled } from "../asm/assembler.ts";
import { disassembleInstruction } from "../asm/disassembler.ts";
import type { PlacedInstruction } from "../asm/layout.ts";
import { BpfError, type BpfErrorOptions } from "../ffi/error.ts";
import { E2BIG } from "../uapi/errno.ts";
import { type Cause, causes, tooComplex } from "./verifier_causes.ts";

/** Number of instructions that a message shows before and after the rejected one. */
const neighbours = { before: 3, after: 2 };
/** Number of lines that a message quotes before and after the reason. */
const quotedLines = 6;
/** Number of characters to which quoted lines are cut. */
const maxQuotedLength = 150;
/** Number of characters at the end of a log that are searched: enough for the state of all registers and the stack after the reason. */
const searchedLength = 64 * 1024;

/**
 * Error of a program that the verifier rejected. The message has the verifier's reason, an explanation with the remedy, and the
 * rejected instruction with its neighbours. It fits on one screen; `log` has everything that the verifier wrote.
 *
 * If the program has labels, functions or source positions, the message names the place by them.
 *
 * @example
 * ```ts
 * import { asm, Program, VerifierError } from "bun-bpf";
 * try {
 *   using program = new Program({ section: "socket", license: "GPL", code: [asm.exit()] });
 * } catch (error) {
 *   if (!(error instanceof VerifierError)) throw error;
 *   console.log(error.reason); // R0 !read_ok
 *   console.log(error.instruction?.slot); // 0
 * }
 * ```
 */
export class VerifierError extends BpfError {
  /** The name of the class. */
  override readonly name = "VerifierError";
  /**
   * The verifier's log, at most the last 64 MiB. Kernels before 6.4 cannot keep the end of a log: if it has more than 2^30 - 1
   * bytes, this is its beginning. The property is not enumerable, so `console.log(error)` does not print it.
   */
  declare readonly log: string;
  /** The verifier's reason: a line of the log. `undefined` if the log has none. */
  declare readonly reason: string | undefined;
  /** The instruction that the verifier rejected, or at which it stopped, as passed to `Program`; `undefined` if the log shows none. */
  declare readonly instruction: PlacedInstruction | undefined;

  /** @internal */
  constructor(options: BpfErrorOptions, log: string, program: Assembled) {
    const verdict = findVerdict(log, program);
    const hint = options.hint ?? advise(verdict, options.errno);
    super({ ...options, hint });
    const { reason, instruction, quoted } = verdict;
    this.message = [
      `cannot ${options.doing}: the verifier rejected it: ${cut(reason ?? `${this.code}, without a reason in the log`)}`,
      ...(hint === undefined ? [] : [hint]),
      ...(instruction === undefined ? [] : showPlace(instruction, program)),
      ...(quoted.length === 0 ? [] : ["The end of the verifier's log:", ...indent(quoted)]),
    ].join("\n");
    // The engine prints an error's message, which contains these properties, and then its enumerable properties.
    for (const [name, value] of Object.entries({ log, reason, instruction, hint })) {
      Object.defineProperty(this, name, { value, enumerable: false });
    }
  }
}

/** The reason for a rejection, as found in a log. */
interface Verdict {
  readonly reason: string | undefined;
  readonly cause: Cause | undefined;
  readonly groups: Readonly<Record<string, string | undefined>>;
  readonly instruction: PlacedInstruction | undefined;
  /** The lines before and after the reason. */
  readonly quoted: readonly string[];
}

/** Matches statistics at the end of a log. */
const statistics =
  /^(?:processed \d+ insns|verification time|stack depth|insns processed|mark_read)/;
/** Matches lines that trace the verification: instructions, states of registers, source lines, steps of the verifier. */
const trace =
  /^\s*(?:\d+: |;|from \d+ |R\d+[_=(]|frame\d*[:=]|(?:cur|old) state:|mark_precise|force_precise|propagat|last_idx|regs=|parent |caller|callee|[fF]unc#|Validating|returning|to caller|safe|is_state|Live regs|$)/;

/**
 * Finds the reason in a log: the last line that matches a cause or, if none does, the last line that is not part of the
 * trace. The reason has no fixed place, because kernels print different lines after it. Linux 7.3 prints a report of several
 * sections.
 */
function findVerdict(log: string, program: Assembled): Verdict {
  const lines = log
    .slice(-searchedLength)
    .trimEnd()
    // Some of the verifier's messages do not end with a line feed, so statistics can follow in the same line.
    .split(/\n|(?=processed \d+ insns \(limit )/)
    .filter((line) => !statistics.test(line));
  const isTrace = lines.map((line) => trace.test(line));
  let at = findCause(lines, isTrace);
  if (at === -1) at = lines.findLastIndex((line) => line.startsWith("Verification failed: "));
  if (at === -1) at = isTrace.lastIndexOf(false);
  const reason = lines[at]?.trim();
  const cause = causes[causeOf(reason)];
  const groups = cause?.pattern.exec(reason ?? "")?.groups ?? {};
  return {
    reason,
    cause,
    groups,
    instruction: findInstruction(groups, lines, program),
    quoted: [
      ...lines.slice(Math.max(0, (at === -1 ? lines.length : at) - quotedLines), Math.max(0, at)),
      ...(at === -1
        ? []
        : lines
            .slice(at + 1)
            .filter((line) => line !== "")
            .slice(0, quotedLines)),
    ],
  };
}

/** Returns the index of the last line that matches a cause, or -1. Of consecutive matches the most specific one is used. */
function findCause(lines: readonly string[], isTrace: readonly boolean[]): number {
  const end = lines.findLastIndex((line, index) => !isTrace[index] && causeOf(line) !== -1);
  let best = end;
  for (let at = end - 1; at >= 0 && !isTrace[at]; at--) {
    const cause = causeOf(lines[at]);
    if (cause !== -1 && cause < causeOf(lines[best])) best = at;
  }
  return best;
}

/** Returns the index of the first cause that matches a line, or -1. */
function causeOf(line: string | undefined): number {
  return line === undefined ? -1 : causes.findIndex(({ pattern }) => pattern.test(line));
}

/** Finds the instruction that a message names, or else the last one that the log shows. */
function findInstruction(
  { insn, opcode }: Verdict["groups"],
  lines: readonly string[],
  { bySlot }: Assembled,
): PlacedInstruction | undefined {
  if (opcode !== undefined) {
    return bySlot.find(({ instruction }) => instruction.opcode === Number.parseInt(opcode, 16));
  }
  const slot = insn ?? shownSlot(lines);
  return slot === undefined ? undefined : bySlot[Number(slot)];
}

/** Returns the last slot that a log shows, as `5: (61) r0 = ...`, or since Linux 7.3 as `>>> 5 | r0 = ...`. */
function shownSlot(lines: readonly string[]): string | undefined {
  const shown = /^(?:(\d+): \([0-9a-f]{2}\)|.*>>> *(\d+) \|)/;
  const match = shown.exec(lines.findLast((line) => shown.test(line)) ?? "");
  return match?.[1] ?? match?.[2];
}

/** Returns the meaning of a verdict and the remedy; `undefined` if no cause matches. */
function advise(
  { reason, cause, groups, instruction }: Verdict,
  errno: number,
): string | undefined {
  if (cause === undefined) {
    // The end of the log may be missing: kernels before 6.4 keep the beginning of a log that does not fit.
    return reason === undefined && errno === E2BIG ? tooComplex : undefined;
  }
  const { advice } = cause;
  if (typeof advice !== "function") return advice;
  return advice({ groups, instruction: instruction?.instruction });
}

/** Describes the place of an instruction by slot, source line, label and function, and shows it with its neighbours. */
function showPlace(placed: PlacedInstruction, { instructions }: Assembled): string[] {
  const { slot, index, instruction, function: owner } = placed;
  const { source } = instruction;
  const label = instructions
    .slice(0, index + 1)
    .findLast((other) => other.function === owner && other.labels.length > 0)
    ?.labels.at(-1);
  const parts = [
    `At slot ${slot}`,
    ...(source === undefined ? [] : [`from ${source.file}:${source.line}`]),
    ...(label === undefined ? [] : [`after label ${JSON.stringify(label)}`]),
    ...(owner === "" ? [] : [`in function ${JSON.stringify(owner)}`]),
  ];
  const shown = instructions
    .slice(Math.max(0, index - neighbours.before), index + 1 + neighbours.after)
    .filter((other) => other.function === owner);
  const width = Math.max(...shown.map((other) => String(other.slot).length));
  const lines = shown.map((other) => {
    const mark = other === placed ? ">" : " ";
    return `${mark} ${String(other.slot).padStart(width)}: ${disassembleInstruction(other.instruction)}`;
  });
  return [`${parts.join(", ")}:`, ...indent(lines)];
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${cut(line)}`);
}

function cut(line: string): string {
  return line.length <= maxQuotedLength ? line : `${line.slice(0, maxQuotedLength - 1)}…`;
}
