/** @module The command `bun-bpf net`: the programs that are attached to network interfaces, with links and without. */

import type { Command } from "commander";
import { BpfError } from "../ffi/error.ts";
import { openNetworkNamespace } from "../ffi/namespace.ts";
import { RouteSocket } from "../ffi/netlink.ts";
import { visibleObjects } from "../inspect/objects.ts";
import { attachedPrograms, type AttachedProgram, type AttachedPrograms } from "../link/attached.ts";
import type { NetfilterLinkInfo } from "../link/link_info.ts";
import { listInterfaces } from "../link/route.ts";
import {
  type Column,
  counted,
  hex,
  ifKnown,
  type JsonOption,
  note,
  printJson,
  renderTable,
  warn,
  withJson,
  writeOut,
} from "./output.ts";

/** Adds the command `bun-bpf net`. */
export function netCommand(program: Command): void {
  withJson(
    program
      .command("net")
      .description("list the programs that are attached to network interfaces and namespaces")
      .addHelpText(
        "after",
        `
The list has the XDP programs, the tcx programs, the classic filters (tc) and the netkit programs of all
interfaces in this network namespace, in the order in which they run, with links or without. Programs of the
namespace (flow_dissector, sk_lookup) and of netfilter follow. The kernel does not report the namespaces of
netfilter links: those of all namespaces are listed. It does not report which link has attached an XDP program
or a program of the namespace either: \`bun-bpf link list\` shows such links.

With --json each program has the keys hook, programId, programName, linkId, ifindex and interface, mode (XDP),
filter (priority, handle, chain, name), and netfilter (family, hook, priority). An unknown property has no key.

Examples:
  bun-bpf net
  nsenter --net=/run/netns/blue bun-bpf net
  bun-bpf net --json | jq '.[] | select(.hook == "xdp")'`,
      ),
  ).action(list);
}

/** An attached program, as the command prints it. */
interface Shown extends Partial<Omit<AttachedProgram, "programId">> {
  readonly hook: AttachedPrograms["hook"];
  readonly programId: number;
  readonly programName?: string | undefined;
  readonly ifindex?: number;
  readonly interface?: string;
  readonly netfilter?: Pick<NetfilterLinkInfo, "family" | "hook" | "priority">;
}

const columns: readonly Column[] = [
  { title: "INTERFACE" },
  { title: "HOOK" },
  { title: "PROGRAM" },
  { title: "LINK", alignment: "right" },
  { title: "DETAILS" },
];

function list({ json = false }: JsonOption): void {
  const programs = withNames([
    ...interfacePrograms(),
    ...namespacePrograms(),
    ...netfilterPrograms(),
  ]);
  if (json) return printJson(programs);
  writeOut(renderTable(columns, programs.map(cells)));
  note(counted(programs.length, "program"));
}

function cells(shown: Shown): string[] {
  const { hook, programId, programName = "", linkId } = shown;
  return [
    shown.interface === undefined ? "" : `${shown.interface} (${shown.ifindex})`,
    hook,
    `${programId} ${programName}`.trimEnd(),
    ifKnown(linkId, String) ?? "",
    details(shown),
  ];
}

function details({ mode, filter, netfilter }: Shown): string {
  if (mode !== undefined) return mode;
  if (filter !== undefined) {
    const { name, priority, handle, chain } = filter;
    const place = `priority ${priority}, handle ${hex(handle)}`;
    return [name, place, chain === 0 ? "" : `chain ${chain}`].filter(Boolean).join(", ");
  }
  return netfilter === undefined
    ? ""
    : `${netfilter.family} ${netfilter.hook}, priority ${netfilter.priority}`;
}

function interfacePrograms(): Shown[] {
  using route = new RouteSocket();
  return listInterfaces(route).flatMap(({ index, name }) =>
    hooksOf(index).flatMap(({ hook, programs }) =>
      programs.map((program) => ({ ...program, hook, ifindex: index, interface: name })),
    ),
  );
}

function hooksOf(index: number): AttachedPrograms[] {
  try {
    return attachedPrograms({ interface: index });
  } catch (error) {
    // The interface was removed meanwhile.
    if (error instanceof BpfError && error.code === "ENODEV") return [];
    throw error;
  }
}

function namespacePrograms(): Shown[] {
  using namespace = openNetworkNamespace();
  try {
    return attachedPrograms({ netns: namespace }).flatMap(({ hook, programs }) =>
      programs.map((program) => ({ ...program, hook })),
    );
  } catch (error) {
    // The kernel lacks both hooks.
    if (error instanceof BpfError && error.code === "EINVAL") return [];
    throw error;
  }
}

function netfilterPrograms(): Shown[] {
  const links = visibleObjects("link");
  if (links === undefined) {
    warn("netfilter programs are not listed: the links of the system are not visible to this user");
    return [];
  }
  return links.flatMap((link) => {
    if (link.type !== "netfilter") return [];
    const { id, programId, family, hook, priority } = link;
    return [{ hook: link.type, programId, linkId: id, netfilter: { family, hook, priority } }];
  });
}

function withNames(programs: readonly Shown[]): Shown[] {
  const names = new Map(visibleObjects("prog")?.map(({ id, name }) => [id, name]));
  return programs.map(({ hook, programId, ...rest }) => ({
    hook,
    programId,
    programName: names.get(programId) || undefined,
    ...rest,
  }));
}
