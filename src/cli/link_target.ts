import type { FunctionNames } from "../inspect/function_names.ts";
import type { LinkInfo } from "../link/info.ts";
import type { PerfEventTarget } from "../link/perf_event_target.ts";
import { printable } from "./text.ts";

/** What a link is to, in a few words; empty where the kernel does not say. */
export function linkTarget(link: LinkInfo, names: FunctionNames): string {
  switch (link.type) {
    case "raw-tracepoint":
      return link.name;
    case "tracing":
      return words(names.targetOf(link) ?? unnamed(link), `(${link.attachType})`);
    case "cgroup":
      return words("cgroup", `${link.cgroupId ?? "gone"}`, `(${link.attachType})`);
    case "iter":
      return words(link.target, link.mapId === undefined ? undefined : `of map ${link.mapId}`);
    case "netns":
      return words("netns", `${link.netnsInode ?? "gone"}`, `(${link.attachType})`);
    case "xdp":
      return interfaceText(link);
    case "tcx":
    case "netkit":
      return words(interfaceText(link), `(${link.attachType})`);
    case "perf-event":
      return link.event === undefined ? "" : eventText(link.event);
    case "kprobe-multi":
      return link.count === undefined ? "" : `${link.count} functions`;
    case "uprobe-multi":
      return link.count === undefined
        ? ""
        : words(`${link.count} functions of`, printable(link.path ?? "a file"));
    case "struct-ops":
      return link.mapId === undefined ? "" : `map ${link.mapId}`;
    case "netfilter":
      return words(link.family, link.hook, `priority ${link.priority}`);
    case "sockmap":
      return words(`map ${link.mapId ?? "gone"}`, `(${link.attachType})`);
    default:
      return "";
  }
}

function eventText(event: PerfEventTarget): string {
  switch (event.kind) {
    case "kprobe":
    case "kretprobe":
      return words(event.kind, functionText(event.name, event.offset, event.address));
    case "uprobe":
    case "uretprobe":
      return words(event.kind, `${printable(event.path ?? "")}+0x${event.offset.toString(16)}`);
    case "tracepoint":
      return words(event.kind, event.name);
    case "event":
      return words(event.kind, `type ${event.eventType}`, `config ${event.config}`);
  }
}

function functionText(
  name: string | undefined,
  offset: number,
  address: bigint | undefined,
): string {
  if (name === undefined) return address === undefined ? "" : `0x${address.toString(16)}`;
  return offset === 0 ? name : `${name}+0x${offset.toString(16)}`;
}

function interfaceText({
  ifindex,
  interfaceName,
}: Pick<Extract<LinkInfo, { type: "xdp" }>, "ifindex" | "interfaceName">): string {
  if (ifindex === undefined) return "interface gone";
  return interfaceName === undefined ? `interface ${ifindex}` : `${interfaceName} (${ifindex})`;
}

function unnamed({
  targetId,
  targetTypeId,
}: Extract<LinkInfo, { type: "tracing" }>): string | undefined {
  return targetTypeId === undefined ? undefined : `type ${targetTypeId} of ${targetId}`;
}

function words(...parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== "").join(" ");
}
