/** @module The kernel's link types, one row each. A row reads and describes the information about links of its type. */

import { type Keyword, keywordOf, keywordsByNumber } from "../check/names.ts";
import { type BufferedInfo, bufferedInfo, type InfoBuffer } from "../ffi/bpf_object.ts";
import { queryPrograms } from "../ffi/bpf_link.ts";
import { type AttachTypeName, attachTypeName } from "../ffi/bpf_prog.ts";
import { BpfError } from "../ffi/error.ts";
import { interfaceName } from "../ffi/socket.ts";
import {
  bpfAttachTypes,
  bpfCgroupIterOrders,
  bpfLinkTypes,
  bpfPerfEventTypes,
} from "../uapi/enumerations.ts";
import { LINK_INFO } from "../uapi/layout.ts";
import { netfilterFamilies, netfilterHooks } from "../uapi/network.ts";
import type { CommonLinkInfo, LinkInfo, LinkTypeName, PerfEventTarget } from "./link_info.ts";

/** The fields that only links of one type have. */
type OwnInfo<Type extends LinkTypeName> = Omit<
  Extract<LinkInfo, { type: Type }>,
  keyof CommonLinkInfo | "type"
>;

/** A row of {@link linkTypes}: one link type. */
interface LinkType<Type extends LinkTypeName> {
  /** Returns buffers for names and lists, after a first call has reported their sizes. */
  readonly buffers?: (info: BufferedInfo) => readonly InfoBuffer[];
  /** Reads the fields that only links of the type have. Absent for attachments, for which the kernel has no link. */
  readonly read?: (info: BufferedInfo) => OwnInfo<Type>;
  /** Describes the target in a few words. */
  readonly target?: (info: OwnInfo<Type>) => Words;
}

/** Words of a description. Empty and undefined words are left out. */
type Words = readonly (string | undefined)[];

const linkTypes: { readonly [Type in Exclude<LinkTypeName, `type_${number}`>]: LinkType<Type> } = {
  raw_tracepoint: {
    buffers: () => [
      textBuffer(LINK_INFO.raw_tracepoint_tp_name, LINK_INFO.raw_tracepoint_tp_name_len),
    ],
    read: (info) => ({
      name: info.text(LINK_INFO.raw_tracepoint_tp_name),
      cookie: readPresent64(info, LINK_INFO.raw_tracepoint_cookie),
    }),
    target: ({ name }) => [name],
  },
  tracing: {
    read: (info) => ({
      attachType: tracingType(info.u32(LINK_INFO.tracing_attach_type)),
      targetId: readPresent32(info, LINK_INFO.tracing_target_obj_id),
      targetTypeId: readPresent32(info, LINK_INFO.tracing_target_btf_id),
      cookie: readPresent64(info, LINK_INFO.tracing_cookie),
    }),
    target: ({ targetId, targetTypeId, attachType }) => [
      // The kernel does not report whether the id is that of a BTF or of a program.
      targetTypeId === undefined ? undefined : `type ${targetTypeId} of BTF or program ${targetId}`,
      `(${attachType})`,
    ],
  },
  cgroup: {
    read: (info) => ({
      cgroupId: readPresent64(info, LINK_INFO.cgroup_cgroup_id),
      attachType: attachTypeName(info.u32(LINK_INFO.cgroup_attach_type)),
    }),
    target: ({ cgroupId, attachType }) => ["cgroup", `${cgroupId ?? "gone"}`, `(${attachType})`],
  },
  iter: {
    buffers: () => [textBuffer(LINK_INFO.iter_target_name, LINK_INFO.iter_target_name_len)],
    read: readIterator,
    target: ({ target, mapId }) => [target, mapId === undefined ? undefined : `of map ${mapId}`],
  },
  netns: {
    read: (info) => ({
      netnsInode: readPresent32(info, LINK_INFO.netns_netns_ino),
      attachType: attachTypeName(info.u32(LINK_INFO.netns_attach_type)),
    }),
    target: ({ netnsInode, attachType }) => ["netns", `${netnsInode ?? "gone"}`, `(${attachType})`],
  },
  xdp: {
    // The kernel lists no XDP links, so it is not known whether the interface is in this network namespace.
    read: (info) => ({
      ifindex: readPresent32(info, LINK_INFO.xdp_ifindex),
      interfaceName: undefined,
    }),
    target: (info) => [interfaceText(info)],
  },
  perf_event: {
    buffers: (info) => perfEventRow(info)?.buffers ?? [],
    read: (info) => ({ event: perfEventRow(info)?.read(info) }),
    target: ({ event }) => (event === undefined ? [] : eventText(event)),
  },
  kprobe_multi: {
    buffers: (info) => {
      const list = listOf64(info, LINK_INFO.kprobe_multi_count);
      return [list(LINK_INFO.kprobe_multi_addrs), list(LINK_INFO.kprobe_multi_cookies)];
    },
    read: readKprobes,
    target: ({ count }) => [count === undefined ? undefined : `${count} functions`],
  },
  struct_ops: {
    read: (info) => ({ mapId: readPresent32(info, LINK_INFO.struct_ops_map_id) }),
    target: ({ mapId }) => [mapId === undefined ? undefined : `map ${mapId}`],
  },
  netfilter: {
    read: (info) => ({
      family: keywordOf(families, info.u32(LINK_INFO.netfilter_pf)),
      hook: keywordOf(hooks, info.u32(LINK_INFO.netfilter_hooknum)),
      priority: info.i32(LINK_INFO.netfilter_priority),
      flags: info.u32(LINK_INFO.netfilter_flags),
    }),
    target: ({ family, hook, priority }) => [family, hook, `priority ${priority}`],
  },
  tcx: {
    read: (info) => interfaceAt(info, LINK_INFO.tcx_ifindex, LINK_INFO.tcx_attach_type),
    target: (info) => [interfaceText(info), `(${info.attachType})`],
  },
  tc: {
    target: (info) => [interfaceText(info), `(${info.direction}, priority ${info.priority})`],
  },
  uprobe_multi: {
    buffers: (info) => {
      if (info.u32(LINK_INFO.uprobe_multi_count) === 0) return [];
      const list = listOf64(info, LINK_INFO.uprobe_multi_count);
      return [
        textBuffer(LINK_INFO.uprobe_multi_path, LINK_INFO.uprobe_multi_path_size),
        list(LINK_INFO.uprobe_multi_offsets),
        list(LINK_INFO.uprobe_multi_ref_ctr_offsets),
        list(LINK_INFO.uprobe_multi_cookies),
      ];
    },
    read: readUprobes,
    target: ({ count, path }) =>
      count === undefined ? [] : [`${count} functions of`, path ?? "a file"],
  },
  netkit: {
    read: (info) => interfaceAt(info, LINK_INFO.netkit_ifindex, LINK_INFO.netkit_attach_type),
    target: (info) => [interfaceText(info), `(${info.attachType})`],
  },
  sockmap: {
    read: (info) => ({
      mapId: readPresent32(info, LINK_INFO.sockmap_map_id),
      attachType: attachTypeName(info.u32(LINK_INFO.sockmap_attach_type)),
    }),
    target: ({ mapId, attachType }) => [`map ${mapId ?? "gone"}`, `(${attachType})`],
  },
  tracing_multi: { read: () => ({}) },
};

const names = keywordsByNumber(bpfLinkTypes) as ReadonlyMap<number, LinkTypeName>;
const orders = keywordsByNumber(bpfCgroupIterOrders);
const families = keywordsByNumber(netfilterFamilies);
const hooks = keywordsByNumber(netfilterHooks);

/** Reads the kernel's information about a link (kernel 5.8). */
export function readLinkInfo(fd: number, what: string): LinkInfo {
  // The first call has no buffers, because the type determines which ones are needed.
  using first = bufferedInfo(fd, LINK_INFO.sizeof, what, []);
  const type = keywordOf(names, first.u32(LINK_INFO.type));
  const row = rowOf(type);
  const buffers = row?.buffers?.(first) ?? [];
  using second =
    buffers.length === 0 ? undefined : bufferedInfo(fd, LINK_INFO.sizeof, what, buffers);
  const info = second ?? first;
  const common = { id: info.u32(LINK_INFO.id), type, programId: info.u32(LINK_INFO.prog_id) };
  return { ...common, ...row?.read?.(info) } as LinkInfo;
}

/** Returns the row of a link type; `undefined` for a type that is newer than this library, and for attachments without links. */
function rowOf(type: LinkInfo["type"]): LinkType<LinkTypeName> | undefined {
  // The compiler cannot relate a union of types to the union of their rows.
  return (linkTypes as Readonly<Record<string, LinkType<LinkTypeName> | undefined>>)[type];
}

/** Describes the target of a link in a few words; empty if the kernel does not report it. */
export function linkTarget(info: LinkInfo): string {
  return joinWords(rowOf(info.type)?.target?.(info) ?? []);
}

/** Joins the words that are neither empty nor undefined. */
function joinWords(parts: Words): string {
  return parts.filter((part) => part !== undefined && part !== "").join(" ");
}

function eventText(event: PerfEventTarget): Words {
  switch (event.kind) {
    case "kprobe":
    case "kretprobe":
      return [event.kind, functionText(event.name, event.offset, event.address)];
    case "uprobe":
    case "uretprobe":
      return [event.kind, `${event.path ?? ""}+0x${event.offset.toString(16)}`];
    case "tracepoint":
      return [event.kind, event.name];
    case "event":
      return [event.kind, `type ${event.eventType}`, `config ${event.config}`];
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

function interfaceText({ ifindex, interfaceName: name }: OwnInfo<"xdp">): string {
  // The kernel reports the index 0 after the removal of the interface, and after BPF_LINK_DETACH.
  if (ifindex === undefined) return "detached, or its interface is gone";
  return name === undefined ? `interface ${ifindex}` : `${name} (${ifindex})`;
}

/** Bytes of a buffer for a path or symbol (PATH_MAX): no path or kernel symbol is longer. */
const textBufferSize = 4096;

/** Describes a buffer for a text. */
function textBuffer(pointer: number, count: number): InfoBuffer {
  return { pointer, count, elements: textBufferSize, elementSize: 1 };
}

/** Returns a function that describes buffers for lists of 64-bit numbers with a common count. */
function listOf64(info: BufferedInfo, count: number): (pointer: number) => InfoBuffer {
  const elements = info.u32(count);
  return (pointer) => ({ pointer, count, elements, elementSize: 8 });
}

/** Reads a 32-bit number; returns `undefined` for 0, which means none. */
function readPresent32(info: BufferedInfo, offset: number): number | undefined {
  const number = info.u32(offset);
  return number === 0 ? undefined : number;
}

/** Reads a 64-bit number; returns `undefined` for 0, which means none. */
function readPresent64(info: BufferedInfo, offset: number): bigint | undefined {
  const number = info.u64(offset);
  return number === 0n ? undefined : number;
}

/** Returns the numbers; `undefined` if all are 0, which means none. */
function presentList(numbers: readonly bigint[]): readonly bigint[] | undefined {
  return numbers.some((number) => number !== 0n) ? numbers : undefined;
}

/** Returns the text; `undefined` if it is empty, which means none. */
function presentText(text: string): string | undefined {
  return text === "" ? undefined : text;
}

/** Returns the attach type of a tracing link. Programs of the type `ext` have attach type 0, which no tracing program has. */
function tracingType(number: number): OwnInfo<"tracing">["attachType"] {
  return number === bpfAttachTypes.CGROUP_INET_INGRESS ? "ext" : attachTypeName(number);
}

/** Reads the interface and the hook of a link, and the name of the interface if it is in this network namespace. */
function interfaceAt(info: BufferedInfo, index: number, type: number): OwnInfo<"tcx"> {
  const ifindex = readPresent32(info, index);
  const attachType = attachTypeName(info.u32(type));
  const isHere = ifindex !== undefined && hasLink(ifindex, attachType, info.u32(LINK_INFO.id));
  return { ifindex, interfaceName: isHere ? interfaceName(ifindex) : undefined, attachType };
}

/** Returns true if an interface of this network namespace has a link; false also if the kernel does not list its links. */
function hasLink(ifindex: number, attachType: AttachTypeName, id: number): boolean {
  try {
    const { programs } = queryPrograms(ifindex, attachType, { doing: "list programs" });
    return programs.some(({ linkId }) => linkId === id);
  } catch (error) {
    // No interface has the index, or CAP_NET_ADMIN is missing.
    if (error instanceof BpfError) return false;
    throw error;
  }
}

function readIterator(info: BufferedInfo): OwnInfo<"iter"> {
  const target = presentText(info.text(LINK_INFO.iter_target_name));
  // The fields are members of a union, so only those of the target are valid.
  const isOfMap = target === "bpf_map_elem" || target === "bpf_sk_storage_map";
  const isOfCgroup = target === "cgroup";
  const isOfTask = target?.startsWith("task") === true;
  return {
    target,
    mapId: isOfMap ? readPresent32(info, LINK_INFO.iter_map_map_id) : undefined,
    cgroupId: isOfCgroup ? readPresent64(info, LINK_INFO.iter_cgroup_cgroup_id) : undefined,
    cgroupOrder: isOfCgroup ? orders.get(info.u32(LINK_INFO.iter_cgroup_order)) : undefined,
    tid: isOfTask ? readPresent32(info, LINK_INFO.iter_task_tid) : undefined,
    pid: isOfTask ? readPresent32(info, LINK_INFO.iter_task_pid) : undefined,
  };
}

function readKprobes(info: BufferedInfo): OwnInfo<"kprobe_multi"> {
  const count = readPresent32(info, LINK_INFO.kprobe_multi_count);
  if (count === undefined) {
    const none = undefined;
    return { count, flags: none, addresses: none, cookies: none, missed: none };
  }
  return {
    count,
    flags: info.u32(LINK_INFO.kprobe_multi_flags),
    addresses: presentList(info.u64s(LINK_INFO.kprobe_multi_addrs)),
    cookies: presentList(info.u64s(LINK_INFO.kprobe_multi_cookies)),
    missed: info.u64Number(LINK_INFO.kprobe_multi_missed),
  };
}

function readUprobes(info: BufferedInfo): OwnInfo<"uprobe_multi"> {
  const count = readPresent32(info, LINK_INFO.uprobe_multi_count);
  const isReported = count !== undefined;
  return {
    count,
    path: isReported ? presentText(info.text(LINK_INFO.uprobe_multi_path)) : undefined,
    flags: isReported ? info.u32(LINK_INFO.uprobe_multi_flags) : undefined,
    pid: isReported ? readPresent32(info, LINK_INFO.uprobe_multi_pid) : undefined,
    offsets: isReported ? info.u64s(LINK_INFO.uprobe_multi_offsets) : undefined,
    referenceOffsets: isReported
      ? presentList(info.u64s(LINK_INFO.uprobe_multi_ref_ctr_offsets))
      : undefined,
    cookies: isReported ? presentList(info.u64s(LINK_INFO.uprobe_multi_cookies)) : undefined,
  };
}

/** A row of {@link perfEvents}: one type of perf event links. */
interface PerfEventRow {
  readonly buffers: readonly InfoBuffer[];
  readonly read: (info: BufferedInfo) => PerfEventTarget;
}

function probeRow(kind: "kprobe" | "kretprobe"): PerfEventRow {
  const name = LINK_INFO.perf_event_kprobe_func_name;
  return {
    buffers: [textBuffer(name, LINK_INFO.perf_event_kprobe_name_len)],
    read: (info) => ({
      kind,
      name: presentText(info.text(name)),
      offset: info.u32(LINK_INFO.perf_event_kprobe_offset),
      address: readPresent64(info, LINK_INFO.perf_event_kprobe_addr),
      missed: info.u64Number(LINK_INFO.perf_event_kprobe_missed),
      cookie: readPresent64(info, LINK_INFO.perf_event_kprobe_cookie),
    }),
  };
}

function fileProbeRow(kind: "uprobe" | "uretprobe"): PerfEventRow {
  const path = LINK_INFO.perf_event_uprobe_file_name;
  return {
    buffers: [textBuffer(path, LINK_INFO.perf_event_uprobe_name_len)],
    read: (info) => ({
      kind,
      path: presentText(info.text(path)),
      offset: info.u32(LINK_INFO.perf_event_uprobe_offset),
      cookie: readPresent64(info, LINK_INFO.perf_event_uprobe_cookie),
    }),
  };
}

const tracepointName = LINK_INFO.perf_event_tracepoint_tp_name;

const perfEvents: Readonly<
  Record<Exclude<Keyword<keyof typeof bpfPerfEventTypes>, "unspec">, PerfEventRow>
> = {
  kprobe: probeRow("kprobe"),
  kretprobe: probeRow("kretprobe"),
  uprobe: fileProbeRow("uprobe"),
  uretprobe: fileProbeRow("uretprobe"),
  tracepoint: {
    buffers: [textBuffer(tracepointName, LINK_INFO.perf_event_tracepoint_name_len)],
    read: (info) => ({
      kind: "tracepoint",
      name: presentText(info.text(tracepointName)),
      cookie: readPresent64(info, LINK_INFO.perf_event_tracepoint_cookie),
    }),
  },
  event: {
    buffers: [],
    read: (info) => ({
      kind: "event",
      eventType: info.u32(LINK_INFO.perf_event_event_type),
      config: info.u64(LINK_INFO.perf_event_event_config),
      cookie: readPresent64(info, LINK_INFO.perf_event_event_cookie),
    }),
  },
};

const perfEventNames = keywordsByNumber(bpfPerfEventTypes);

/** Returns the row of a link's perf event; `undefined` if the kernel does not report the event. */
function perfEventRow(info: BufferedInfo): PerfEventRow | undefined {
  const name = perfEventNames.get(info.u32(LINK_INFO.perf_event_type));
  return name === undefined || name === "unspec" ? undefined : perfEvents[name];
}
