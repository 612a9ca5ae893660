import { BpfError, type BpfErrorOptions } from "../ffi/error.ts";

/** Lines of the log that a message quotes. */
const quotedLines = 12;

/**
 * The verifier rejected a program: the message ends with what it said last, `log` has all of it.
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
  /** The verifier's whole log. */
  readonly log: string;

  /** @internal */
  constructor(options: BpfErrorOptions, log: string) {
    super(options);
    this.log = log;
    this.message = `${this.message}\n${summarize(log)}`;
  }
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
