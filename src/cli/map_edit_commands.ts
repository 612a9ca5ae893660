/** @module The commands `bun-bpf map lookup|peek|update|delete`, which read and change single entries. */

import { type Command, Option } from "commander";
import { CommandError, forUser, groupOf } from "./command_line.ts";
import { valueText } from "./map_command.ts";
import {
  argumentFor,
  noteIncomplete,
  openReference,
  originOf,
  parseReference,
  type Reference,
} from "./object_command.ts";
import { counted, type JsonOption, printJson, withJson, writeOut } from "./output.ts";
import { EntryEncoder, MapEditor } from "../inspect/map_editor.ts";
import { EntryDecoder } from "../inspect/map_reader.ts";
import { mapTypes, operationsOf } from "../maps/map_types.ts";

const texts = `
Keys and values are JSON of the map's types (BTF), as \`map dump --json\` prints it: 5, '{"pid": 5, "comm":
"sh"}', "192.0.2.1". Text that is not valid JSON is a string and needs no quotes: eth0, 0xffff, 192.0.2.1. If
the map has no types, they are hexadecimal bytes, as \`map dump\` prints them: "01 00 00 00" or 01000000.
All maps accept hexadecimal bytes with the prefix hex:. Keys of arrays are numbers.`;

const updateHelp = `${texts}

The value of a per-CPU map is an array with one value per possible CPU. The value of a map that holds programs
or maps is the id, the name or the path of a pin of one. Queues, stacks and Bloom filters have no keys: the
value is pushed or added. With --json the document has the keys mapId and updated (true).

Examples:
  bun-bpf map update limits '{"uid": 1000}' 50
  bun-bpf map update id:12 "0a 00 00 00" "01 00 00 00 00 00 00 00" --if-absent
  bun-bpf map update jumps 3 name:handler`;

/** Adds the commands for single entries to `bun-bpf map`, which has to exist. */
export function mapEditCommands(program: Command): void {
  const group = groupOf(program, "map");
  withJson(
    group
      .command("lookup")
      .description("print the value of a key")
      .addArgument(argumentFor("map"))
      .argument("<key>", "the key, see below")
      .addHelpText(
        "after",
        `${texts}\n\nWith --json the document has the keys key and value.\n\nExamples:\n  bun-bpf map lookup counts 5`,
      ),
  ).action(lookup);
  withJson(
    group
      .command("peek")
      .description("print the next value of a queue or stack without removing it")
      .addArgument(argumentFor("map"))
      .addHelpText(
        "after",
        "\nWith --json the document has the key value.\n\nExamples:\n  bun-bpf map peek jobs --json",
      ),
  ).action(peek);
  withJson(
    group
      .command("update")
      .description("store a value for a key, or push one")
      .addArgument(argumentFor("map"))
      .argument("<key-value...>", "the key, if the map has keys, and the value, see below")
      .addOption(
        new Option("--if-absent", "store only if the key is absent").conflicts("ifPresent"),
      )
      .addOption(new Option("--if-present", "store only if the key is present"))
      .addHelpText("after", updateHelp),
  ).action(update);
  withJson(
    group
      .command("delete")
      .description("delete an entry")
      .addArgument(argumentFor("map"))
      .argument("<key>", "the key, see below")
      .addHelpText(
        "after",
        `${texts}\n\nWith --json the document has the keys mapId and deleted (true).\n\nExamples:\n  bun-bpf map delete counts 5`,
      ),
  ).action(remove);
}

/**
 * Encodes an argument.
 *
 * @throws {CommandError} if it is not a key or value of the map.
 */
function encoded<T>(map: MapEditor, encode: () => T): T {
  return forUser(`${map}`, { isMisuse: true }, encode);
}

function keyOf(map: MapEditor, text: string, encoder?: EntryEncoder): Uint8Array {
  const { properties } = map;
  if (properties.keySize === 0) {
    throw new CommandError(`the ${map} has no keys`, { isMisuse: true });
  }
  return encoded(map, () => (encoder ?? new EntryEncoder(properties)).key(text));
}

function lookup(reference: Reference, text: string, { json = false }: JsonOption): void {
  using map = MapEditor.open(originOf("map", reference), "read");
  const key = keyOf(map, text);
  const value = map.lookup(key);
  if (value === undefined) throw absent(map, text);
  print(map, { key, value }, json);
}

function absent(map: MapEditor, text: string): CommandError {
  return new CommandError(`the ${map} has no entry with the key ${JSON.stringify(text)}`);
}

function print(map: MapEditor, raw: { key: Uint8Array; value: Uint8Array }, json: boolean): void {
  const decoder = new EntryDecoder(map.properties);
  const entry = decoder.decode(raw);
  if (json) printJson(entry);
  else writeOut(`${valueText(entry.value)}\n`);
  noteIncomplete(decoder.notes);
}

function peek(reference: Reference, { json = false }: JsonOption): void {
  using map = MapEditor.open(originOf("map", reference), "read");
  if (mapTypes.get(map.properties.type)?.entries !== "next") {
    throw new CommandError(
      `the ${map} is neither a queue nor a stack: use \`bun-bpf map lookup\` or \`bun-bpf map dump\``,
      { isMisuse: true },
    );
  }
  const key = new Uint8Array(0);
  const value = map.lookup(key);
  if (value === undefined) throw new CommandError(`the ${map} is empty`);
  print(map, { key, value }, json);
}

interface UpdateOptions extends JsonOption {
  readonly ifAbsent?: boolean;
  readonly ifPresent?: boolean;
}

function update(reference: Reference, words: readonly string[], options: UpdateOptions): void {
  const { json = false, ifAbsent = false, ifPresent = false } = options;
  using map = MapEditor.open(originOf("map", reference, { isChange: true }), "write");
  const { id, type, keySize, valueSize } = map.properties;
  if (keySize === 0 && valueSize === 0) {
    throw new CommandError(`${type} maps have no entries that this command could store`, {
      isMisuse: true,
    });
  }
  const expected = keySize === 0 ? 1 : 2;
  if (words.length !== expected) {
    const what =
      keySize === 0 ? "has no keys: expected a value" : "has keys: expected a key and a value";
    throw new CommandError(`the ${map} ${what}, got ${counted(words.length, "argument")}`, {
      isMisuse: true,
    });
  }
  const encoder = encoded(map, () => new EntryEncoder(map.properties));
  const key = keySize === 0 ? new Uint8Array(0) : keyOf(map, words[0] as string, encoder);
  using held = new DisposableStack();
  const open = (kind: "prog" | "map", text: string) =>
    held.use(openReference(kind, parseReference(text))).fd;
  const text = words.at(-1) as string;
  const value = encoded(map, () => encoder.value(text, open));
  const condition = ifAbsent ? "absent" : ifPresent ? "present" : "any";
  if (!map.update({ key, value }, condition)) {
    const state = ifAbsent ? "is present" : "is absent";
    throw new CommandError(
      `the key ${JSON.stringify(words[0])} ${state}: the ${map} was not changed`,
    );
  }
  if (json) printJson({ mapId: id, updated: true });
}

function remove(reference: Reference, text: string, { json = false }: JsonOption): void {
  using map = MapEditor.open(originOf("map", reference, { isChange: true }), "write");
  const { id, type } = map.properties;
  const key = keyOf(map, text);
  const row = mapTypes.get(type);
  if (row === undefined || operationsOf(row).delete === undefined) {
    throw new CommandError(
      `the entries of ${type} maps cannot be deleted: use \`bun-bpf map update\` to change them`,
    );
  }
  if (!map.delete(key)) throw absent(map, text);
  if (json) printJson({ mapId: id, deleted: true });
}
