import type { Command } from "commander";
import { writeOut } from "./output.ts";

/** What every command says of its JSON. */
export const jsonHelp = `With --json a command prints one JSON document. Integers are numbers up to 2^53 - 1 and decimal strings
beyond, bytes of no known type strings of hexadecimal digits, dates those of ISO 8601. What is not known
of an object has no key. The settings of \`features\` have the same keys on every machine: null is what is not
known or not there, and no limit; only ioUring.reason is absent where io_uring is available.`;

/** Adds the option `--json` to a command. */
export function withJson(command: Command): Command {
  return command.option("-j, --json", "print one JSON document instead");
}

/** A value as JSON, of which nothing changes the terminal that shows it. */
export function toJson(value: unknown, indentation?: number): string {
  const json = JSON.stringify(value, (_, part: unknown) => toPlain(part), indentation);
  return json.replace(leftRaw, escaped);
}

/**
 * What JSON may have as it is, and a terminal obeys or does not show: other controls than those that JSON escapes, and what
 * turns the direction of text, joins or separates it. Only strings have any, so that the document stays the same.
 */
const leftRaw = /[\u007f-\u009f\u2060-\u2069\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A character as JSON escapes it: beyond U+FFFF in two parts. */
function escaped(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}

/** Prints a whole document. */
export function printJson(value: unknown): void {
  writeOut(`${toJson(value, 2)}\n`);
}

/** What JSON has for a value that it does not know. */
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
