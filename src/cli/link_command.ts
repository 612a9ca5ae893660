import type { Command } from "commander";
import { addObjectCommands, type ObjectCommand, programById } from "./object_command.ts";
import { type Detail, printable } from "./output.ts";
import { FunctionNames, visibleObjects } from "../inspect/objects.ts";
import type { LinkInfo } from "../link/link_info.ts";
import { linkTarget as targetOfLink } from "../link/link_types.ts";
import { formatKernelSymbol, KernelSymbols } from "../symbols/kernel_symbols.ts";

/** Describes the target of a link in a few words; empty where the kernel does not say. */
export function linkTarget(link: LinkInfo, names: FunctionNames): string {
  const named = link.type === "tracing" ? names.targetOf(link) : undefined;
  if (link.type !== "tracing" || named === undefined) return printable(targetOfLink(link));
  return `${named} (${link.attachType})`;
}

const links: ObjectCommand<"link"> = {
  kind: "link",
  noun: "link",
  argument: "<link>",
  columns: [
    { title: "ID", alignment: "right" },
    { title: "TYPE" },
    { title: "PROGRAM" },
    { title: "TARGET" },
  ],
  rows(infos) {
    const names = new FunctionNames();
    const programNames = new Map(visibleObjects("prog")?.map(({ id, name }) => [id, name]));
    return infos.map((info) => [
      `${info.id}`,
      info.type,
      info.programId === 0
        ? ""
        : `${info.programId} ${programNames.get(info.programId) ?? ""}`.trimEnd(),
      linkTarget(info, names),
    ]);
  },
  details,
  related: (info) => {
    const target = info.type === "tracing" ? new FunctionNames().targetOf(info) : undefined;
    return target === undefined ? {} : { targetName: target };
  },
};

/** The commands of `bun-bpf link`. */
export function linkCommand(program: Command): void {
  const group = program
    .command("link")
    .description("links: what programs are attached to")
    .addHelpText(
      "after",
      `
What a kernel older than the kind of link tells of it is less: see the documentation of LinkInfo.

Examples:
  bun-bpf link list
  bun-bpf link show id:3
  bun-bpf link show /sys/fs/bpf/exec_link --json`,
    );
  addObjectCommands(group, links);
}

function details(info: LinkInfo): readonly Detail[] {
  return [
    ["id", `${info.id}`],
    ["type", info.type],
    ["program", info.programId === 0 ? undefined : programById(info.programId)],
    ["target", linkTarget(info, new FunctionNames()) || undefined],
    ...moreDetails(info),
  ];
}

/** What a line about the target has no room for. */
function moreDetails(info: LinkInfo): Detail[] {
  switch (info.type) {
    case "raw_tracepoint":
    case "tracing":
      return [["cookie", hex(info.cookie)]];
    case "iter":
      return [
        ["cgroup", info.cgroupId === undefined ? undefined : `${info.cgroupId}`],
        ["order", info.cgroupOrder],
        ["thread", info.tid === undefined ? undefined : `${info.tid}`],
        ["process", info.pid === undefined ? undefined : `${info.pid}`],
      ];
    case "perf_event":
      return [
        ["cookie", hex(info.event?.cookie)],
        [
          "address",
          info.event !== undefined && "address" in info.event ? hex(info.event.address) : undefined,
        ],
        [
          "missed",
          info.event !== undefined && "missed" in info.event && info.event.missed > 0
            ? `${info.event.missed} runs`
            : undefined,
        ],
      ];
    case "kprobe_multi":
      return [
        ["flags", flagText(info.flags)],
        ["missed", info.missed ? `${info.missed} runs` : undefined],
        ["functions", info.addresses && kernelFunctions(info.addresses)],
      ];
    case "uprobe_multi":
      return [
        ["flags", flagText(info.flags)],
        ["file", info.path && printable(info.path)],
        ["process", info.pid === undefined ? undefined : `${info.pid}`],
        ["offsets", info.offsets?.map((offset) => hex(offset) as string)],
      ];
    case "netfilter":
      return [["flags", flagText(info.flags)]];
    default:
      return [];
  }
}

function kernelFunctions(addresses: readonly bigint[]): string[] {
  const symbols = KernelSymbols.read();
  return addresses.map((address) => {
    const symbol = symbols.lookup(address);
    if (symbol === undefined) return hex(address) as string;
    return symbol.offset === 0 ? symbol.name : formatKernelSymbol(symbol);
  });
}

function flagText(flags: number | undefined): string | undefined {
  return flags === undefined || flags === 0 ? undefined : `0x${flags.toString(16)}`;
}

function hex(number: bigint | undefined): string | undefined {
  return number === undefined ? undefined : `0x${number.toString(16)}`;
}
