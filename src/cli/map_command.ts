/** @module The commands `bun-bpf map list|show|pin|unpin|dump`: maps and their entries. */

import { type Command, InvalidArgumentError } from "commander";
import {
  addObjectCommands,
  namedProgram,
  noteIncomplete,
  type ObjectCommand,
  originOf,
  parseReference,
  type Reference,
} from "./object_command.ts";
import {
  type Detail,
  hex,
  humanBytes,
  ifKnown,
  type JsonOption,
  LineWriter,
  memoryText,
  note,
  printable,
  toJson,
  withJson,
} from "./output.ts";
import {
  type Entry,
  EntryDecoder,
  type EntryValue,
  mapBtf,
  MapReader,
} from "../inspect/map_reader.ts";
import { type InspectedMapInfo, visibleObjects } from "../inspect/objects.ts";
import type { MapInfo } from "../maps/create.ts";
import { mapFlagNames } from "../ffi/bpf_map.ts";
import { mapTypes } from "../maps/map_types.ts";

/** Adds the commands of `bun-bpf map`. */
export function mapCommand(program: Command): void {
  const group = program
    .command("map")
    .description("maps and their entries")
    .addHelpText(
      "after",
      `
In the output of \`list\`, KEY and VALUE are sizes. CAPACITY is the maximum number of entries, the size of a
ring buffer in bytes, or the size of an arena in pages.

Examples:
  bun-bpf map list
  bun-bpf map show counts
  bun-bpf map dump id:12 --limit 10`,
    );
  addObjectCommands(group, maps);
  addMapDump(group);
}

const maps: ObjectCommand<"map"> = {
  kind: "map",
  jsonKeys: `id, type, name, keySize, valueSize and memory (bytes),
maxEntries (the capacity), flags, frozen, mapExtra; btfId, btfKeyTypeId, btfValueTypeId and kernelValueTypeId
(0 for none); ownerProgramType and ownerJited (maps that hold programs); programIds (only \`show\`)`,
  columns: [
    { title: "ID", alignment: "right" },
    { title: "TYPE" },
    { title: "NAME" },
    { title: "KEY", alignment: "right" },
    { title: "VALUE", alignment: "right" },
    { title: "CAPACITY", alignment: "right" },
    { title: "MEMORY", alignment: "right" },
  ],
  rows: (infos) =>
    infos.map(({ id, type, name, keySize, valueSize, maxEntries, memory }) => [
      `${id}`,
      type,
      name,
      `${keySize} B`,
      `${valueSize} B`,
      capacityCell(type, maxEntries),
      ifKnown(memory, humanBytes) ?? "",
    ]),
  details,
  related: ({ id }) => ({ programIds: programsOf(id)?.map((program) => program.id) }),
};

function details(info: InspectedMapInfo): readonly Detail[] {
  const { memory, frozen, mapExtra, ownerProgramType, ownerJited } = info;
  const flags = mapFlagNames(info.flags);
  return [
    ["id", `${info.id}`],
    ["type", info.type],
    ["name", info.name || undefined],
    ["key size", `${info.keySize} bytes`],
    ["value size", `${info.valueSize} bytes`],
    ["capacity", `${info.maxEntries} ${capacityUnit(info.type)}`],
    ["memory", ifKnown(memory, memoryText)],
    ["flags", flags.length === 0 ? undefined : flags.join(" ")],
    ["extra", mapExtra === 0 ? undefined : hex(mapExtra)],
    ["frozen", ifKnown(frozen, (is) => (is ? "yes" : "no"))],
    [
      "accepts",
      ifKnown(
        ownerProgramType,
        (type) => `${type} programs${ownerJited === false ? ", interpreted" : ""}`,
      ),
    ],
    ...typeDetails(info),
    ["programs", programsOf(info.id)?.map(namedProgram)],
  ];
}

/** Returns the unit in which the kernel counts the maximum number of entries. */
function capacityUnit(type: string): "bytes" | "pages" | "entries" {
  if (type === "ringbuf" || type === "user_ringbuf") return "bytes";
  return type === "arena" ? "pages" : "entries";
}

function capacityCell(type: string, maxEntries: number): string {
  const unit = { bytes: " B", pages: " pages", entries: "" }[capacityUnit(type)];
  return `${maxEntries}${unit}`;
}

/** Makes the lines about the types of keys and values; none if this process may not read the map's BTF. */
function typeDetails(info: MapInfo): Detail[] {
  try {
    const btf = mapBtf(info);
    if (btf === undefined) return [];
    const typed = (id: number) => (id === 0 ? undefined : printable(btf.declaration(id)));
    return [
      ["types", `BTF ${info.btfId}`],
      ["key type", typed(info.btfKeyTypeId)],
      ["value type", typed(info.btfValueTypeId)],
    ];
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [["types", `BTF ${info.btfId}, which cannot be read: ${error.message}`]];
  }
}

function programsOf(mapId: number) {
  return visibleObjects("prog")?.filter(({ mapIds = [] }) => mapIds.includes(mapId));
}

interface DumpOptions extends JsonOption {
  readonly limit?: number;
}

const help = `
Keys and values are decoded by the map's types (BTF), or shown as hexadecimal bytes if it has none. Values of
per-CPU maps are arrays with one value per possible CPU. Maps that hold maps or programs show their ids, maps
of sockets the cookies of the sockets, stack traces the addresses with the names of kernel functions. Of
queues and stacks only the next value is shown, because reading the others would remove values. This command
does not change the map.

Integers of the types __be16, __be32 and __be64 are converted from network byte order: port 443 is 443.
Values of struct in_addr and struct in6_addr are shown as addresses: "10.0.0.1", "2001:db8::1".

The map may change meanwhile; an entry that is present all the time is shown once. With --json the document
has the keys entries (an array of objects with key and value) and notes (texts about missing output, which are
printed on standard error without --json).

Examples:
  bun-bpf map dump counts
  bun-bpf map dump id:12 --limit 10
  bun-bpf map dump /sys/fs/bpf/counts --json | jq '.entries[].value'`;

function addMapDump(group: Command): void {
  withJson(
    group
      .command("dump")
      .description("print the entries of a map")
      .argument("<map>", "its id, its name, or the path of a pin", parseReference)
      .option("-l, --limit <count>", "stop after this number of entries", parseLimit)
      .addHelpText("after", help),
  ).action(dump);
}

/**
 * Parses the argument of `--limit`.
 *
 * @throws {InvalidArgumentError} if it is not an integer of at least 1.
 */
export function parseLimit(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || !Number.isSafeInteger(count)) {
    throw new InvalidArgumentError("Expected an integer of at least 1.");
  }
  return count;
}

function dump(reference: Reference, { json = false, limit }: DumpOptions): void {
  using map = MapReader.open(originOf("map", reference));
  const decoder = new EntryDecoder(map.properties);
  const entries = map.entries().map((entry) => decoder.decode(entry));
  // Takes one entry more than it shows, to find out if there are more.
  const shown = limit === undefined ? entries : entries.take(limit + 1);
  const notes = (hasMore: boolean): string[] => [
    ...(hasMore ? [`there are more entries than --limit ${limit}`] : []),
    ...(mapTypes.get(map.properties.type)?.entries === "next"
      ? ["only the next value is shown, because reading the others would remove values"]
      : []),
    ...decoder.notes,
  ];
  if (json) printDocument(shown, limit, notes);
  else noteIncomplete(notes(printLines(shown, limit)));
}

/** Prints a line for each entry, and returns whether there are more than the limit. */
function printLines(entries: Iterable<Entry>, limit = Infinity): boolean {
  using lines = new LineWriter();
  let count = 0;
  for (const entry of entries) {
    if (count++ === limit) return true;
    lines.line(entryText(entry));
  }
  if (count === 0) note("the map is empty");
  return false;
}

/** Prints a document with the entries, one on each line, and notes about entries that are missing. */
function printDocument(
  entries: Iterable<Entry>,
  limit = Infinity,
  notes: (hasMore: boolean) => readonly string[],
): void {
  using lines = new LineWriter();
  let count = 0;
  // The beginning is printed with the first entry, so that only the error is printed if the map cannot be read.
  let pending = '{\n  "entries": [';
  let hasMore = false;
  for (const entry of entries) {
    hasMore = count === limit;
    if (hasMore) break;
    lines.line(count++ === 0 ? pending : `${pending},`);
    pending = `    ${toJson(entry)}`;
  }
  lines.line(count === 0 ? `${pending}],` : `${pending}\n  ],`);
  lines.line(`  "notes": ${toJson(notes(hasMore))}\n}`);
}

/** Formats an entry: `{ pid: 12 } => 5`, or only the value for map types without keys. */
export function entryText({ key, value }: Entry): string {
  return key === undefined ? valueText(value) : `${valueText(key)} => ${valueText(value)}`;
}

/** Formats a value, similar to JavaScript; bytes without a known type are hexadecimal: `01 ff 00`. */
export function valueText(value: EntryValue): string {
  if (typeof value === "string") return printable(JSON.stringify(value));
  if (typeof value !== "object") return `${value}`;
  if (value instanceof Uint8Array)
    return Buffer.from(value)
      .toString("hex")
      .replace(/..(?=.)/g, "$& ");
  if (Array.isArray(value)) return `[${value.map(valueText).join(", ")}]`;
  const members = Object.entries(value).map(
    ([name, part]) => `${printable(name)}: ${valueText(part)}`,
  );
  return members.length === 0 ? "{}" : `{ ${members.join(", ")} }`;
}
