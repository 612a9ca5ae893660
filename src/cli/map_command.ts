import type { Command } from "commander";
import { declaration } from "../btf/declaration.ts";
import { mapBtf } from "../inspect/entry_decoder.ts";
import { visibleObjects } from "../inspect/objects.ts";
import type { MapInfo } from "../maps/handle.ts";
import { mapFlagNames } from "../maps/spec.ts";
import type { Detail } from "./details.ts";
import { addMapDump } from "./map_dump.ts";
import { addObjectCommands, type ObjectCommand } from "./object_command.ts";
import { namedProgram } from "./related.ts";
import { humanBytes } from "./text.ts";

const maps: ObjectCommand<"map"> = {
  kind: "map",
  noun: "map",
  argument: "<map>",
  columns: [
    { title: "ID", alignment: "right" },
    { title: "TYPE" },
    { title: "NAME" },
    { title: "KEY", alignment: "right" },
    { title: "VALUE", alignment: "right" },
    { title: "ENTRIES", alignment: "right" },
    { title: "MEMORY", alignment: "right" },
  ],
  rows: (infos) =>
    infos.map(({ id, type, name, keySize, valueSize, maxEntries, memory }) => [
      `${id}`,
      type,
      name,
      `${keySize} B`,
      `${valueSize} B`,
      `${maxEntries}`,
      memory === undefined ? "" : humanBytes(memory),
    ]),
  details,
  related: ({ id }) => ({ programIds: programsOf(id)?.map((program) => program.id) }),
};

/** The commands of `bun-bpf map`. */
export function mapCommand(program: Command): void {
  const group = program
    .command("map")
    .description("maps, and what is in them")
    .addHelpText(
      "after",
      `
Examples:
  bun-bpf map list
  bun-bpf map show counts
  bun-bpf map dump id:12 --limit 10`,
    );
  addObjectCommands(group, maps);
  addMapDump(group);
}

function details(info: MapInfo): readonly Detail[] {
  const { memory, frozen, mapExtra } = info;
  const flags = mapFlagNames(info.flags);
  return [
    ["id", `${info.id}`],
    ["type", info.type],
    ["name", info.name || undefined],
    ["key size", `${info.keySize} bytes`],
    ["value size", `${info.valueSize} bytes`],
    ["entries", `${info.maxEntries} at most`],
    ["memory", memory === undefined ? undefined : `${humanBytes(memory)} (${memory} bytes)`],
    ["flags", flags.length === 0 ? undefined : flags.join(" ")],
    ["extra", mapExtra === 0 ? undefined : `0x${mapExtra.toString(16)}`],
    ["frozen", frozen === undefined ? undefined : frozen ? "yes" : "no"],
    ...typeDetails(info),
    ["programs", programsOf(info.id)?.map(namedProgram)],
  ];
}

/** The types of key and value, where the map has them and this process may read them. */
function typeDetails(info: MapInfo): Detail[] {
  const btf = mapBtf(info);
  if (btf === undefined) return [];
  const typed = (id: number) => (id === 0 ? undefined : declaration(btf, id));
  return [
    ["types", `BTF ${info.btfId}`],
    ["key type", typed(info.btfKeyTypeId)],
    ["value type", typed(info.btfValueTypeId)],
  ];
}

function programsOf(mapId: number) {
  return visibleObjects("prog")?.filter(({ mapIds = [] }) => mapIds.includes(mapId));
}
