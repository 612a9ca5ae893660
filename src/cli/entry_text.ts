/** @module Entries of maps as a person reads them: one on a line. */

import type { Entry, EntryValue } from "../inspect/entry_decoder.ts";
import { printable } from "./text.ts";

/** An entry: `{ pid: 12 } => 5`, or the value alone for kinds without keys. */
export function entryText({ key, value }: Entry): string {
  return key === undefined ? valueText(value) : `${valueText(key)} => ${valueText(value)}`;
}

/** A value, much as JavaScript would write it; bytes of no known type as a dump of them: `01 ff 00`. */
export function valueText(value: EntryValue): string {
  if (typeof value === "string") return printable(JSON.stringify(value));
  if (typeof value !== "object") return `${value}`;
  if (value instanceof Uint8Array)
    return Buffer.from(value)
      .toString("hex")
      .replace(/..(?=.)/g, "$& ");
  if (Array.isArray(value)) return `[${value.map(valueText).join(", ")}]`;
  const members = Object.entries(value).map(([name, part]) => `${name}: ${valueText(part)}`);
  return members.length === 0 ? "{}" : `{ ${members.join(", ")} }`;
}
