/** @module The output of commands: formats values, tables and JSON, and writes to standard output and standard error. */

import type { Command } from "commander";
import { Table } from "console-table-printer";
import { writeSync } from "node:fs";
import { styleText } from "node:util";

/** A colour or style of text. */
type Format = Parameters<typeof styleText>[0];

/** Text with a colour or style, which is used on a terminal unless NO_COLOR is set. */
export interface Styled {
  readonly format: Format;
  readonly text: string;
}

function style({ format, text }: Styled): string {
  return styleText(format, printable(text), { stream: process.stdout, validateStream: true });
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Formats bytes with at most three digits and a unit: `12.5 KiB`. */
export function humanBytes(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${amount.toFixed(amount < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** Formats bytes with a unit and exactly: `12.5 KiB (12800 bytes)`. */
export function memoryText(bytes: number): string {
  return `${humanBytes(bytes)} (${bytes} bytes)`;
}

/** Formats a duration with a unit: `3.2 ms`. */
export function humanNanoseconds(nanoseconds: number): string {
  if (nanoseconds < 1e3) return `${Math.round(nanoseconds)} ns`;
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(1)} µs`;
  if (nanoseconds < 1e9) return `${(nanoseconds / 1e6).toFixed(1)} ms`;
  return `${(nanoseconds / 1e9).toFixed(1)} s`;
}

/** Formats a date in the local time zone: `2026-01-31 13:05:09`. */
export function humanDate(date: Date): string {
  // The Swedish locale formats dates as in ISO 8601.
  return date.toLocaleString("sv-SE");
}

/** Formats a count with a noun: `2 maps`, `1 map`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Formats a number in hexadecimal: `0x1f`. */
export function hex(number: number | bigint): string {
  return `0x${number.toString(16)}`;
}

/** Formats a value; returns `undefined` for `undefined`. */
export function ifKnown<T>(value: T | undefined, format: (value: T) => string): string | undefined {
  return value === undefined ? undefined : format(value);
}

/** Joins the first `limit` texts, and the number of further ones: `a,b,+3`. */
export function abbreviate(texts: readonly string[], limit: number): string {
  const rest = texts.length - limit;
  return [...texts.slice(0, limit), ...(rest > 0 ? [`+${rest}`] : [])].join(",");
}

/**
 * Matches characters that a terminal interprets or does not show, except the line feed: control characters, characters that
 * change the direction of text, join or separate it, and lone surrogates.
 */
const unprintable = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** Matches the characters of {@link unprintable}, except those in the escape sequences of {@link style}. */
const unprintableAmongStyles = /(?!\n|\u001b\[\d{1,2}m)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) as number;
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** Makes untrusted text printable: in one line, with escapes for the characters that a terminal interprets. */
export function printable(text: string): string {
  return text.replace(unprintable, escapeCharacter).replaceAll("\n", "\\x0a");
}

/** A line about an object: no line if the value is `undefined`, several lines for an array. */
export type Detail = readonly [name: string, value: string | readonly string[] | undefined];

/** Formats lines of `name: value` with aligned values. Values are made {@link printable}. */
export function renderDetails(details: readonly Detail[]): string {
  const shown = details.flatMap(([name, value]) => {
    const lines = value === undefined ? [] : typeof value === "string" ? [value] : value;
    return lines.map((line, index) => [index === 0 ? `${name}:` : "", line] as const);
  });
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown
    .map(
      ([name, line]) =>
        `${style({ format: "dim", text: name.padEnd(width) })}  ${printable(line)}\n`,
    )
    .join("");
}

/** A column of a table. */
export interface Column {
  readonly title: string;
  /** The side to which cells are aligned. @default "left" */
  readonly alignment?: "left" | "right";
}

const nothing = { left: "", right: "", mid: "", other: "" };
/** A table style without lines. */
const borderless = {
  headerTop: nothing,
  headerBottom: nothing,
  tableBottom: nothing,
  rowSeparator: nothing,
  vertical: "",
};

/** Formats a table with aligned columns under a heading. Cells are made {@link printable}; an empty cell is a dash. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly (string | Styled)[])[],
): string {
  const table = new Table({
    style: borderless,
    shouldDisableColors: true,
    columns: columns.map(({ title, alignment = "left" }, index) => ({
      name: `${index}`,
      title,
      alignment,
    })),
  });
  table.addRows(
    rows.map((row) => Object.fromEntries(row.map((cell, index) => [`${index}`, cellText(cell)]))),
  );
  const [heading = "", ...lines] = table
    .render()
    .split("\n")
    // The lines between rows are empty.
    .filter((line) => line !== "")
    .map((line) => line.slice(1).trimEnd());
  const { isTTY, columns: width } = process.stdout;
  const shown = isTTY && width > 0 ? heading.slice(0, width) : heading;
  return `${[style({ format: "bold", text: shown }), ...lines].join("\n")}\n`;
}

function cellText(cell: string | Styled): string {
  return typeof cell === "string" ? printable(cell) || "-" : style(cell);
}

/** The help about the JSON output. */
export const jsonHelp = `With --json a command prints one JSON document. Integers are numbers up to 2^53 - 1 and decimal strings
beyond that, bytes without a known type are strings of hexadecimal digits, dates are in ISO 8601. In names,
bytes that are not UTF-8 are replaced by U+FFFD. The help of each command lists the keys; an unknown property
has no key. The settings of \`features\` have the same keys on every machine: null means unknown, absent or
no limit; only ioUring.reason has no key if io_uring is available.`;

/** The option that every command has. */
export interface JsonOption {
  readonly json?: boolean;
}

/** Adds the option `--json` to a command. */
export function withJson(command: Command): Command {
  return command.option("-j, --json", "print one JSON document");
}

/** Prints a value as a JSON document. */
export function printJson(value: unknown): void {
  writeOut(`${toJson(value, 2)}\n`);
}

/** Formats a value as JSON, without characters that a terminal interprets. */
export function toJson(value: unknown, indentation?: number): string {
  const json = JSON.stringify(value, (_, part: unknown) => toPlain(part), indentation);
  return json.replace(notEscapedByJson, jsonEscape);
}

/**
 * Matches characters that `JSON.stringify` does not escape, but a terminal interprets or does not show. They occur only in
 * strings, so escaping them does not change the document.
 */
const notEscapedByJson = /[\u007f-\u009f\u2060-\u2069\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Escapes a character as in JSON: beyond U+FFFF as two surrogates. */
function jsonEscape(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}

/** Converts a value that JSON cannot represent. */
function toPlain(value: unknown): unknown {
  switch (typeof value) {
    case "bigint":
      return Number.isSafeInteger(Number(value)) ? Number(value) : `${value}`;
    case "number":
      return Number.isFinite(value) ? value : `${value}`;
    default:
      return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
  }
}

/**
 * Prints to standard output. This function and {@link writeError} escape unprintable characters in all output of commands.
 *
 * @throws {ClosedPipe} if the reader has closed the pipe.
 */
export function writeOut(text: string): void {
  write(standardOutput, text.replace(unprintableAmongStyles, escapeCharacter));
}

/** Prints to standard error. Ignores errors. */
export function writeError(text: string): void {
  writeTerminal(text.replace(unprintable, escapeCharacter));
}

/** Writes to standard error, including terminal sequences. */
function writeTerminal(text: string): void {
  try {
    write(standardError, text);
  } catch {
    // If standard error cannot be written, there is no other place to report the error.
  }
}

/** Prints a note about missing output on standard error, even if that is not a terminal: scripts need to know as well. */
export function warn(text: string): void {
  writeError(`${printable(text)}\n`);
}

/** Prints a remark on standard error, if that is a terminal. */
export function note(text: string): void {
  if (process.stderr.isTTY) writeError(`${text}\n`);
}

/** Shows the progress on standard error, if that is a terminal. The next call overwrites the line; an empty text removes it. */
export function progress(text: string): void {
  if (process.stderr.isTTY) writeTerminal(`\r${printable(text)}\u001b[K`);
}

/** Prints bytes as they are to standard output. */
export function writeBytes(bytes: Uint8Array): void {
  write(standardOutput, bytes);
}

/** A terminal that shows one text, which the next one replaces. Disposal brings back what the terminal showed before. */
export class FullScreen implements Disposable {
  constructor() {
    // The alternate screen, without a cursor.
    write(standardOutput, "\u001b[?1049h\u001b[?25l");
  }

  show(text: string): void {
    const lines = text.replace(unprintableAmongStyles, escapeCharacter).split("\n");
    write(standardOutput, `\u001b[H${lines.join("\u001b[K\n")}\u001b[J`);
  }

  [Symbol.dispose](): void {
    write(standardOutput, "\u001b[?25h\u001b[?1049l");
  }
}

/** Prints lines to standard output in large chunks. */
export class LineWriter implements Disposable {
  #gathered = "";

  line(text: string): void {
    this.#gathered += `${text}\n`;
    if (this.#gathered.length >= chunkLength) this.flush();
  }

  flush(): void {
    const text = this.#gathered;
    this.#gathered = "";
    // Lines contain no styles, so all escape sequences in them are untrusted.
    if (text !== "") write(standardOutput, text.replace(unprintable, escapeCharacter));
  }

  /** Prints the remaining lines. */
  [Symbol.dispose](): void {
    this.flush();
  }
}

/**
 * Writes to standard output asynchronously. A writer can wait until the reader has read, and signals are handled meanwhile.
 * The other functions in this file block.
 */
export class OutputStream {
  #last: Promise<void> = Promise.resolve();
  #failure: NodeJS.ErrnoException | undefined;

  /** @param onFailure called when a write has failed; {@link finish} throws the error */
  constructor(onFailure: () => void) {
    // `on` instead of `once`, because several writes can fail.
    process.stdout.on("error", (error) => {
      this.#failure ??= error;
      onFailure();
    });
  }

  /**
   * Writes text without styles. Returns `undefined` if the buffer has room for more, otherwise a promise that resolves when
   * there is room.
   */
  write(text: string): Promise<void> | undefined {
    if (this.#failure !== undefined) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    // The callback is also called if the write fails.
    const hasRoom = process.stdout.write(text.replace(unprintable, escapeCharacter), () =>
      resolve(),
    );
    return hasRoom ? undefined : promise;
  }

  /**
   * Waits until everything is written.
   *
   * @throws {ClosedPipe} if the reader has closed the pipe.
   * @throws {Error} if a write failed for another reason.
   */
  async finish(): Promise<void> {
    await this.#last;
    if (this.#failure?.code === "EPIPE") throw new ClosedPipe();
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** Error of a write to standard output after its reader has closed the pipe. */
export class ClosedPipe extends Error {
  override readonly name: string = "ClosedPipe";
}

const standardOutput = 1;
const standardError = 2;

/** Milliseconds until a write to a full non-blocking pipe is retried. */
const retryDelayMs = 1;

/** Number of characters that are collected before they are written. */
const chunkLength = 64 * 1024;

function write(fd: number, output: string | Uint8Array): void {
  const bytes = typeof output === "string" ? Buffer.from(output) : output;
  let written = 0;
  while (written < bytes.length) {
    try {
      written += writeSync(fd, bytes, written);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EAGAIN") Bun.sleepSync(retryDelayMs);
      else if (code === "EPIPE") throw new ClosedPipe();
      else throw error;
    }
  }
}
