/** @module The output of commands: words, details, tables and JSON, and the writing of them. */

import type { Command } from "commander";
import { Table } from "console-table-printer";
import { writeSync } from "node:fs";
import { styleText } from "node:util";

/** A way to make text stand out. */
export type Format = Parameters<typeof styleText>[0];

/** Text that stands out on a terminal, unless NO_COLOR is set. */
export interface Styled {
  readonly format: Format;
  readonly text: string;
}

function style({ format, text }: Styled): string {
  return styleText(format, printable(text), { stream: process.stdout, validateStream: true });
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes with at most three digits and a unit: `12.5 KiB`. */
export function humanBytes(bytes: number): string {
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${amount.toFixed(amount < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** Memory that the kernel counts: `12.5 KiB (12800 bytes)`. */
export function memoryText(bytes: number): string {
  return `${humanBytes(bytes)} (${bytes} bytes)`;
}

/** A time span with a unit: `3.2 ms`. */
export function humanNanoseconds(nanoseconds: number): string {
  if (nanoseconds < 1e3) return `${Math.round(nanoseconds)} ns`;
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(1)} µs`;
  if (nanoseconds < 1e9) return `${(nanoseconds / 1e6).toFixed(1)} ms`;
  return `${(nanoseconds / 1e9).toFixed(1)} s`;
}

/** A date in the local time zone: `2026-01-31 13:05:09`. */
export function humanDate(date: Date): string {
  // The Swedish way of writing dates is the standard's.
  return date.toLocaleString("sv-SE");
}

/** `2 maps`, `1 map`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** A number as the kernel's own texts have addresses and flags: `0x1f`. */
export function hex(number: number | bigint): string {
  return `0x${number.toString(16)}`;
}

/** Formats a value, where it is known. */
export function ifKnown<T>(value: T | undefined, format: (value: T) => string): string | undefined {
  return value === undefined ? undefined : format(value);
}

/** The first few of a list, and how many more there are. */
export function fewOf(texts: readonly string[], most: number): string {
  const rest = texts.length - most;
  return [...texts.slice(0, most), ...(rest > 0 ? [`+${rest}`] : [])].join(",");
}

/**
 * Characters that a terminal interprets or does not show, except the line feed: controls, characters that change the direction of
 * text, join or separate it, and lone surrogates.
 */
const unprintable = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** The same, except for the sequences of {@link style}. */
const unprintableAmongStyles = /(?!\n|\u001b\[\d{1,2}m)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) as number;
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}

/** Makes a text that others chose printable: one line, with the characters escaped that a terminal interprets. */
export function printable(text: string): string {
  return text.replace(unprintable, escapeCharacter).replaceAll("\n", "\\x0a");
}

/** A line about one object: none where the value is `undefined`, and several for an array. */
export type Detail = readonly [name: string, value: string | readonly string[] | undefined];

/** `name: value` lines with aligned values, as text that ends with a line feed. Values are made {@link printable}. */
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

/** A column: its heading, and where its text is. */
export interface Column {
  readonly title: string;
  /** Numbers are to the right. @default "left" */
  readonly alignment?: "left" | "right";
}

const nothing = { left: "", right: "", mid: "", other: "" };
/** No lines between cells, nor around them. */
const borderless = {
  headerTop: nothing,
  headerBottom: nothing,
  tableBottom: nothing,
  rowSeparator: nothing,
  vertical: "",
};

/** Rows in aligned columns under their headings, as text that ends with a line feed. Cells are made {@link printable}; an empty one is a dash. */
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
    // What would be lines between the cells is empty.
    .filter((line) => line !== "")
    .map((line) => line.slice(1).trimEnd());
  const { isTTY, columns: width } = process.stdout;
  const shown = isTTY && width > 0 ? heading.slice(0, width) : heading;
  return `${[style({ format: "bold", text: shown }), ...lines].join("\n")}\n`;
}

function cellText(cell: string | Styled): string {
  return typeof cell === "string" ? printable(cell) || "-" : style(cell);
}

/** The help about JSON for every command. */
export const jsonHelp = `With --json a command prints one JSON document. Integers are numbers up to 2^53 - 1 and decimal strings
beyond, bytes without a known type are strings of hexadecimal digits, dates are in ISO 8601. Bytes that
are not UTF-8 are U+FFFD in names. The help of each command lists its keys; a property that is not known
has no key. The settings of \`features\` have the same keys on every machine: null means unknown, absent,
or no limit. Only ioUring.reason is absent where io_uring is available.`;

/** The option that every command has. */
export interface JsonOption {
  readonly json?: boolean;
}

/** Adds the option `--json` to a command. */
export function withJson(command: Command): Command {
  return command.option("-j, --json", "print one JSON document instead");
}

/** Prints a whole document. */
export function printJson(value: unknown): void {
  writeOut(`${toJson(value, 2)}\n`);
}

/** A value as JSON, of which nothing changes the terminal that shows it. */
export function toJson(value: unknown, indentation?: number): string {
  const json = JSON.stringify(value, (_, part: unknown) => toPlain(part), indentation);
  return json.replace(leftRaw, escaped);
}

/**
 * Characters that JSON may have as they are, and a terminal obeys or does not show: other controls than those that JSON escapes, and what
 * turns the direction of text, joins or separates it. Only strings have any, so that the document stays the same.
 */
const leftRaw = /[\u007f-\u009f\u2060-\u2069\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A character as JSON escapes it: beyond U+FFFF in two parts. */
function escaped(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}

/** Returns what stands in JSON for a value that it does not know. */
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
 * Prints to standard output. All output of commands passes through here or {@link writeError}, which escape what is not printable
 * yet.
 *
 * @throws {ClosedPipe} if nobody reads it
 */
export function writeOut(text: string): void {
  write(standardOutput, text.replace(unprintableAmongStyles, escapeCharacter));
}

/** Prints to standard error; where nobody reads that, nobody is told. */
export function writeError(text: string): void {
  writeTerminal(text.replace(unprintable, escapeCharacter));
}

/** Writes to standard error, terminal sequences included. */
function writeTerminal(text: string): void {
  try {
    write(standardError, text);
  } catch {
    // There is no other place to say it.
  }
}

/** Prints on standard error what the output lacks, also for scripts: they would take the output for complete. */
export function warn(text: string): void {
  writeError(`${printable(text)}\n`);
}

/** Writes a remark for a person at a terminal, which is not part of the output. */
export function note(text: string): void {
  if (process.stderr.isTTY) writeError(`${text}\n`);
}

/** Shows a person at a terminal what is being done, in a line that the next call overwrites; an empty text removes it. */
export function progress(text: string): void {
  if (process.stderr.isTTY) writeTerminal(`\r${printable(text)}\u001b[K`);
}

/** Prints line after line, many at a time. */
export class LineWriter implements Disposable {
  #gathered = "";

  line(text: string): void {
    this.#gathered += `${text}\n`;
    if (this.#gathered.length >= chunkLength) this.flush();
  }

  flush(): void {
    const text = this.#gathered;
    this.#gathered = "";
    // It contains no styles.
    if (text !== "") write(standardOutput, text.replace(unprintable, escapeCharacter));
  }

  /** Prints the rest. */
  [Symbol.dispose](): void {
    this.flush();
  }
}

/**
 * Standard output that is written asynchronously, no faster than it is read, so that signals are handled. The other functions
 * block.
 */
export class OutputStream {
  #last: Promise<void> = Promise.resolve();
  #failure: NodeJS.ErrnoException | undefined;

  /** @param onFailure called when a write has failed; {@link finish} throws the error */
  constructor(onFailure: () => void) {
    // More than one write may fail.
    process.stdout.on("error", (error) => {
      this.#failure ??= error;
      onFailure();
    });
  }

  /**
   * Writes text without styles. Returns `undefined` where there is room for more, otherwise a promise that resolves when there is.
   */
  write(text: string): Promise<void> | undefined {
    if (this.#failure !== undefined) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    // It is also called when the write has failed.
    const hasRoom = process.stdout.write(text.replace(unprintable, escapeCharacter), () =>
      resolve(),
    );
    return hasRoom ? undefined : promise;
  }

  /**
   * Waits until all is written.
   *
   * @throws {ClosedPipe} if nobody reads it; and the error of a write
   */
  async finish(): Promise<void> {
    await this.#last;
    if (this.#failure?.code === "EPIPE") throw new ClosedPipe();
    if (this.#failure !== undefined) throw this.#failure;
  }
}

/** Nobody reads what is printed any more. */
export class ClosedPipe extends Error {
  override readonly name: string = "ClosedPipe";
}

const standardOutput = 1;
const standardError = 2;

/** Milliseconds until a pipe that is full, and does not wait by itself, is tried again. */
const retryAfter = 1;

/** The number of characters that are gathered before they are written. */
const chunkLength = 64 * 1024;

function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  let written = 0;
  while (written < bytes.length) {
    try {
      written += writeSync(fd, bytes, written);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EAGAIN") Bun.sleepSync(retryAfter);
      else if (code === "EPIPE") throw new ClosedPipe();
      else throw error;
    }
  }
}
