import type { SourceText } from "./source_text.ts";

/** Number of lines that a message shows before and after that of the error. */
const context = 2;
/** Number of columns that a message shows of a line. */
const maxWidth = 120;

/** Properties of a {@link CompileError}. */
export interface CompileErrorOptions {
  /** The key under which the function was given, or another name of it. */
  readonly place: string;
  /** The description of what is wrong. */
  readonly problem: string;
  /** The remedy: what to write instead. */
  readonly hint?: string | undefined;
  /** The range of the error, if it has one. */
  readonly range?: ErrorRange | undefined;
}

/** Range of a text that an error is about, in UTF-16 code units. */
export interface ErrorRange {
  readonly file: SourceText;
  readonly start: number;
  readonly end: number;
}

/**
 * Error of a function that cannot be compiled for the kernel. The message has the problem, what to write instead, and the lines
 * of the source. They are those of the TypeScript file, or those of the function's own text if the file is not available, as in
 * a compiled binary.
 *
 * @example
 * ```ts
 * import { bpf, CompileError } from "bun-bpf";
 * try {
 *   bpf.compile({}, { socket: (ctx) => ctx.cpu / 2 });
 * } catch (error) {
 *   if (!(error instanceof CompileError)) throw error;
 *   console.log(error.place); // socket
 *   console.error(error.message);
 * }
 * ```
 */
export class CompileError extends Error {
  /** The name of the class. */
  override readonly name = "CompileError";
  /** The key under which the function was given: `"tp/sched/sched_switch"`. */
  declare readonly place: string;
  /** The description of what is wrong. */
  declare readonly problem: string;
  /** The remedy: what to write instead, if it is known. */
  declare readonly hint: string | undefined;
  /** Path of the source file. Without the file it is a name in angle brackets: `<function "tp/x">`. */
  declare readonly file: string | undefined;

  /** @internal */
  constructor({ place, problem, hint, range }: CompileErrorOptions) {
    super(
      [
        `cannot compile ${JSON.stringify(place)}: ${problem}`,
        ...(hint === undefined ? [] : [hint]),
        ...(range === undefined ? [] : showRange(range)),
      ].join("\n"),
    );
    const position = range?.file.placeOf(range.start);
    // The engine prints an error's message, which contains these properties, and then its enumerable properties. It has own
    // properties `line` and `column` for the place of the throw.
    for (const [key, value] of Object.entries({
      place,
      problem,
      hint,
      file: range?.file.name,
      line: position?.line,
      column: position?.column,
    })) {
      Object.defineProperty(this, key, { value, enumerable: false, configurable: true });
    }
  }
}

/** The place in {@link CompileError.file}. They are merged, because the engine gives all errors writable properties of these names. */
export interface CompileError {
  /** Line number, from 1. */
  readonly line: number | undefined;
  /** Column number, from 1. */
  readonly column: number | undefined;
}

/** Returns the place of a range, and its first line among its neighbours, with the range underlined. */
function showRange({ file, start, end }: ErrorRange): string[] {
  const { line, column } = file.placeOf(start);
  const last = file.placeOf(Math.max(start, end - 1));
  const from = Math.max(1, line - context);
  const to = Math.min(file.lineCount, line + context);
  const text = file.lineText(line);
  // A range of several lines is underlined to the end of its first one.
  const endColumn = last.line === line ? last.column + 1 : text.trimEnd().length + 1;
  const width = String(to).length;
  // Lines that are too long, such as those of minified code, are cut around the range.
  const isLong = text.length > maxWidth;
  const cutAt = isLong ? Math.max(0, column - 1 - maxWidth / 3) : 0;
  const prefix = cutAt > 0 ? "…" : "";
  const rows: string[] = [];
  for (let number = from; number <= to; number++) {
    const mark = number === line ? ">" : " ";
    const whole = file.lineText(number);
    const shown = visible(whole.slice(cutAt, cutAt + maxWidth));
    const suffix = whole.length > cutAt + maxWidth ? "…" : "";
    const row = whole.length > cutAt ? `${prefix}${shown}${suffix}` : "";
    rows.push(`${mark} ${String(number).padStart(width)} | ${row}`.trimEnd());
    if (number !== line) continue;
    const before = Bun.stringWidth(prefix + visible(text.slice(cutAt, column - 1)));
    const marked = visible(text.slice(column - 1, Math.min(endColumn - 1, cutAt + maxWidth)));
    const carets = "^".repeat(Math.max(1, Bun.stringWidth(marked)));
    rows.push(`  ${" ".repeat(width)} | ${" ".repeat(before)}${carets}`);
  }
  return [`  ${file.name}:${line}:${column}`, ...rows.map((row) => `  ${row}`)];
}

/** Replaces tabs by spaces, and characters that would change the terminal's state or the order of what follows. */
function visible(text: string): string {
  return text
    .toWellFormed()
    .replaceAll("\t", "  ")
    .replace(/[\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
}
