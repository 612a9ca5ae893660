import type { Command } from "commander";
import { writeOut } from "./output.ts";

/** What every command says of its JSON. */
export const jsonHelp = `With --json a command prints one JSON document. Integers are numbers up to 2^53 - 1 and decimal strings
beyond, bytes of no known type strings of hexadecimal digits, dates those of ISO 8601.`;

/** Adds the option `--json` to a command. */
export function withJson(command: Command): Command {
  return command.option("-j, --json", "print one JSON document instead");
}

/** A value as JSON. */
export function toJson(value: unknown, indentation?: number): string {
  return JSON.stringify(value, (_, part: unknown) => toPlain(part), indentation);
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
