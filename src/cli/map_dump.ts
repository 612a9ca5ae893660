import { type Command, InvalidArgumentError } from "commander";
import { type Entry, entryDecoder } from "../inspect/entry_decoder.ts";
import { MapReader } from "../inspect/map_reader.ts";
import { entryText } from "./entry_text.ts";
import { toJson, withJson } from "./json.ts";
import type { JsonOption } from "./object_command.ts";
import { LineWriter, note } from "./output.ts";
import { findObject, parseReference, type Reference } from "./reference.ts";

interface DumpOptions extends JsonOption {
  readonly limit?: number;
}

const help = `
Keys and values are shown by the map's types (BTF), or else as hexadecimal bytes. A map with a value for
each CPU has an array of them, one for each CPU that is possible. Maps of maps show ids of maps, arrays of
programs ids of programs, maps of sockets their cookies. Of queues and stacks only the next value is shown:
to read the others would be to take them out. Nothing in a map is ever changed.

The map may change meanwhile: what is there all the time is shown, once.

Examples:
  bun-bpf map dump counts
  bun-bpf map dump id:12 --limit 10
  bun-bpf map dump /sys/fs/bpf/counts --json | jq '.[].value'`;

/** Adds the command `map dump`. */
export function addMapDump(group: Command): void {
  withJson(
    group
      .command("dump")
      .description("show the entries of a map")
      .argument("<map>", "its id, its name, or the path of a pin", parseReference)
      .option("-l, --limit <count>", "stop after so many entries", parseLimit)
      .addHelpText("after", help),
  ).action(dump);
}

function parseLimit(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || !Number.isSafeInteger(count)) {
    throw new InvalidArgumentError("Expected a number from 1 on.");
  }
  return count;
}

function dump(reference: Reference, { json = false, limit }: DumpOptions): void {
  using map = openMap(reference);
  const decode = entryDecoder(map.properties);
  const entries = map.entries().map(decode);
  // One more than is shown, to tell whether there are any.
  const shown = limit === undefined ? entries : entries.take(limit + 1);
  const left = json ? printDocument(shown, limit) : printLines(shown, limit);
  if (left) note(`there are more entries: --limit ${limit} ends here`);
  const { type } = map.properties;
  if (type === "queue" || type === "stack") {
    note("only the next value is shown: to read the others would be to take them out");
  }
}

function openMap(reference: Reference): MapReader {
  if (reference.by === "path") return MapReader.byPath(reference.path);
  return MapReader.byId(reference.by === "id" ? reference.id : findObject("map", reference).id);
}

/** Prints a line for each entry; whether there are more than the limit. */
function printLines(entries: Iterable<Entry>, limit = Infinity): boolean {
  using lines = new LineWriter();
  let count = 0;
  for (const entry of entries) {
    if (count++ === limit) return true;
    lines.line(entryText(entry));
  }
  if (count === 0) note("there are no entries");
  return false;
}

/** Prints an array of the entries, one on each line: whether there are more than the limit. */
function printDocument(entries: Iterable<Entry>, limit = Infinity): boolean {
  using lines = new LineWriter();
  let count = 0;
  let pending: string | undefined;
  let hasMore = false;
  for (const entry of entries) {
    hasMore = count++ === limit;
    if (hasMore) break;
    lines.line(pending === undefined ? "[" : `${pending},`);
    pending = `  ${toJson(entry)}`;
  }
  lines.line(pending === undefined ? "[]" : `${pending}\n]`);
  return hasMore;
}
