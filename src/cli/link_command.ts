/** @module The commands `bun-bpf link`: links, the attachments of programs. */

import type { Command } from "commander";
import { CommandError } from "./command_line.ts";
import {
  addObjectCommands,
  argumentFor,
  holdersOf,
  type ObjectCommand,
  openLink,
  processText,
  programById,
  type Reference,
} from "./object_command.ts";
import {
  type Detail,
  hex,
  ifKnown,
  type JsonOption,
  printable,
  printJson,
  withJson,
} from "./output.ts";
import { BpfError } from "../ffi/error.ts";
import { FunctionNames, visibleObjects } from "../inspect/objects.ts";
import type { Link } from "../link/link.ts";
import type { LinkInfo } from "../link/link_info.ts";
import { linkTarget as targetOfLink } from "../link/link_types.ts";
import { formatKernelSymbol, KernelSymbols } from "../symbols/kernel_symbols.ts";

/** Adds the commands of `bun-bpf link`. */
export function linkCommand(program: Command): void {
  const group = program
    .command("link")
    .description("links: the attachments of programs")
    .addHelpText(
      "after",
      `
Older kernels report fewer details about links: the documentation of LinkInfo has the versions.

Examples:
  bun-bpf link list
  bun-bpf link show id:3
  bun-bpf link show /sys/fs/bpf/exec_link --json
  bun-bpf link detach id:3`,
    );
  addObjectCommands(group, links);
  withJson(
    group
      .command("detach")
      .description("detach the program of a link, also if processes and pins hold the link")
      .addArgument(argumentFor("link"))
      .addHelpText(
        "after",
        `
The link stays in the kernel, without a target, until its holders close it. The kernel detaches links to
cgroups, network namespaces, network interfaces, netfilter hooks, maps of sockets and struct_ops in this way.
Links of other types end only when their last pin is removed (\`link unpin\`) and their processes close them:
for these the command fails, and names the pins and processes.

With --json the document has the keys id and detached (true).

Examples:
  bun-bpf link detach id:3
  bun-bpf link detach /sys/fs/bpf/ingress`,
      ),
  ).action(detach);
}

function detach(reference: Reference, { json = false }: JsonOption): void {
  using link = openLink(reference);
  try {
    link.detach();
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "EOPNOTSUPP") throw error;
    throw new CommandError(
      `cannot detach the ${link}: the kernel detaches links of this type only when nothing holds them${remedy(link)}`,
    );
  }
  if (json) printJson({ id: link.id, detached: true });
}

/** Names the pins and processes that hold a link, and the way to end them. */
function remedy(link: Link): string {
  const { pins, owners } = holdersOf("link", link.id);
  const others = owners.filter(({ pid }) => pid !== process.pid);
  const steps = [
    ...pins.map((path) => `run \`bun-bpf link unpin ${path}\``),
    ...(others.length === 0 ? [] : [`end ${processText(others)}`]),
  ];
  return steps.length === 0 ? "" : `: ${steps.join(", and ")}`;
}

const links: ObjectCommand<"link"> = {
  kind: "link",
  jsonKeys: `id, type, programId (0 for none), and those of its type, as LinkInfo in the
library's documentation describes them: name, ifindex, interfaceName, attachType, cgroupId, ...;
targetName (only \`show\`)`,
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

function details(info: LinkInfo): readonly Detail[] {
  return [
    ["id", `${info.id}`],
    ["type", info.type],
    ["program", info.programId === 0 ? undefined : programById(info.programId)],
    ["target", linkTarget(info, new FunctionNames()) || undefined],
    ...moreDetails(info),
  ];
}

/** Makes the lines with more details about the target. */
function moreDetails(info: LinkInfo): Detail[] {
  switch (info.type) {
    case "raw_tracepoint":
    case "tracing":
      return [["cookie", ifKnown(info.cookie, hex)]];
    case "iter":
      return [
        ["cgroup", ifKnown(info.cgroupId, String)],
        ["order", info.cgroupOrder],
        ["thread", ifKnown(info.tid, String)],
        ["process", ifKnown(info.pid, String)],
      ];
    case "perf_event":
      return [
        ["cookie", ifKnown(info.event?.cookie, hex)],
        [
          "address",
          info.event !== undefined && "address" in info.event
            ? ifKnown(info.event.address, hex)
            : undefined,
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
        ["process", ifKnown(info.pid, String)],
        ["offsets", info.offsets?.map(hex)],
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
    if (symbol === undefined) return hex(address);
    return symbol.offset === 0 ? symbol.name : formatKernelSymbol(symbol);
  });
}

function flagText(flags: number | undefined): string | undefined {
  return flags === undefined || flags === 0 ? undefined : hex(flags);
}

/** Describes the target of a link in a few words; empty if the kernel does not report it. */
export function linkTarget(link: LinkInfo, names: FunctionNames): string {
  const named = link.type === "tracing" ? names.targetOf(link) : undefined;
  if (link.type !== "tracing" || named === undefined) return printable(targetOfLink(link));
  return `${named} (${link.attachType})`;
}
