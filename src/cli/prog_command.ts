/** @module The commands `bun-bpf prog`: programs. */

import type { Command } from "commander";
import { FunctionNames, visibleObjects } from "../inspect/objects.ts";
import type { ProgramInfo } from "../program/program_info.ts";
import {
  abbreviate,
  type Column,
  type Detail,
  humanBytes,
  humanDate,
  humanNanoseconds,
  ifKnown,
  memoryText,
} from "./output.ts";
import { linkTarget } from "./link_command.ts";
import { addObjectCommands, mapById, type ObjectCommand } from "./object_command.ts";

/** Adds the commands of `bun-bpf prog`. */
export function progCommand(program: Command): void {
  const group = program
    .command("prog")
    .description("programs")
    .addHelpText(
      "after",
      `
In the output of \`list\`, CODE is the size of the instructions, and MEMORY is the memory of the program
without its machine code. The kernel counts RUNS only while the sysctl kernel.bpf_stats_enabled is 1, or
\`prog profile\` runs.

Examples:
  bun-bpf prog list
  bun-bpf prog show id:7
  bun-bpf prog list --json | jq '.[] | select(.type == "xdp") | .id'
  bun-bpf prog load execs.ts /sys/fs/bpf/execs
  bun-bpf prog attach /sys/fs/bpf/execs raw_tp/sched_process_exec --duration 10
  bun-bpf prog dump xlated id:7
  bun-bpf prog profile --duration 5`,
    );
  addObjectCommands(group, programs);
}

/** Maximum number of map ids in a cell of the table. */
const maxMaps = 4;

const columns: readonly Column[] = [
  { title: "ID", alignment: "right" },
  { title: "TYPE" },
  { title: "NAME" },
  { title: "TAG" },
  { title: "CODE", alignment: "right" },
  { title: "MEMORY", alignment: "right" },
  { title: "RUNS", alignment: "right" },
  { title: "LOADED" },
  { title: "UID", alignment: "right" },
  { title: "MAPS" },
];

const programs: ObjectCommand<"prog"> = {
  kind: "prog",
  jsonKeys: `id, type, name, tag, gpl, loadedAt, uid, mapIds, btfId (0 for none);
translatedSize and jitedSize (bytes; 0 without CAP_BPF), memory (bytes), verifiedInstructions, runCount,
runTime (ns), recursionMisses, target (btfId and typeId); linkIds (only \`show\`)`,
  columns,
  rows: (infos) =>
    infos.map((info) => [
      `${info.id}`,
      info.type,
      info.name,
      info.tag,
      humanBytes(info.translatedSize),
      ifKnown(info.memory, humanBytes) ?? "",
      info.runCount === undefined || info.runCount === 0 ? "" : `${info.runCount}`,
      ifKnown(info.loadedAt, humanDate) ?? "",
      ifKnown(info.uid, String) ?? "",
      abbreviate((info.mapIds ?? []).map(String), maxMaps),
    ]),
  details,
  related: ({ id }) => ({ linkIds: linksOf(id)?.map((link) => link.id) }),
};

function details(info: ProgramInfo): readonly Detail[] {
  const { gpl, uid, loadedAt, memory, verifiedInstructions } = info;
  const names = new FunctionNames();
  return [
    ["id", `${info.id}`],
    ["type", info.type],
    ["name", info.name || undefined],
    ["tag", info.tag],
    [
      "license",
      ifKnown(gpl, (is) => (is ? "compatible with the GPL" : "not compatible with the GPL")),
    ],
    ["loaded", loadedAt && `${humanDate(loadedAt)}${uid === undefined ? "" : ` by user ${uid}`}`],
    ["code", codeText(info)],
    ["memory", ifKnown(memory, memoryText)],
    ["verified", ifKnown(verifiedInstructions, (count) => `${count} instructions`)],
    ["runs", runs(info)],
    [
      "missed",
      info.recursionMisses
        ? `${info.recursionMisses} runs, because it was already running`
        : undefined,
    ],
    ["target", info.target && names.nameOf(info.target.btfId, info.target.typeId)],
    ["types", info.btfId === 0 ? undefined : `BTF ${info.btfId}`],
    ["maps", info.mapIds?.map(mapById)],
    [
      "links",
      linksOf(info.id)?.map((link) => `${link.id} ${link.type} ${linkTarget(link, names)}`),
    ],
  ];
}

/** Formats the sizes of the instructions and of the machine code. Without CAP_BPF the kernel reports 0 for both. */
function codeText({ translatedSize, jitedSize }: ProgramInfo): string {
  if (translatedSize === 0) return "unknown (this needs CAP_BPF, before kernel 5.8 CAP_SYS_ADMIN)";
  const machineCode = jitedSize === 0 ? "interpreted" : `${jitedSize} bytes of machine code`;
  return `${translatedSize} bytes of instructions, ${machineCode}`;
}

/** Formats the number and duration of the counted runs. */
function runs({ runCount, runTime }: ProgramInfo): string | undefined {
  if (runCount === undefined || runTime === undefined || runCount === 0) return undefined;
  return `${runCount}, in ${humanNanoseconds(runTime)}: ${humanNanoseconds(runTime / runCount)} each`;
}

function linksOf(programId: number) {
  return visibleObjects("link")?.filter((link) => link.programId === programId);
}
