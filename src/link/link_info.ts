/** @module What the kernel says of links, by their kinds. What it does not say, as an older one, is `undefined`. */

import { type Keyword, keywordOf, keywordsByNumber } from "../check/names.ts";
import { type InfoBuffer, type ObjectInfo, objectInfo } from "../ffi/bpf_object.ts";
import { interfaceName } from "../ffi/socket.ts";
import {
  bpfAttachTypes,
  bpfCgroupIterOrders,
  bpfLinkTypes,
  bpfPerfEventTypes,
} from "../uapi/enumerations.ts";
import { LINK_INFO } from "../uapi/layout.ts";
import { netfilterFamilies, netfilterHooks } from "../uapi/network.ts";

/** What a program is attached to, or for: the kernel's `BPF_CGROUP_INET_INGRESS` is `"cgroup_inet_ingress"`. */
export type AttachTypeName = Keyword<keyof typeof bpfAttachTypes>;

const names = keywordsByNumber(bpfAttachTypes);

/** The name of a type of attachment, also for those that are newer than this library. */
export function attachTypeName(number: number): AttachTypeName {
  return keywordOf(names, number);
}

/** A kind of link: the kernel's `BPF_LINK_TYPE_RAW_TRACEPOINT` is `"raw_tracepoint"`. */
export type LinkTypeName = KnownLinkType | `type_${number}`;

type KnownLinkType = Keyword<Exclude<keyof typeof bpfLinkTypes, "UNSPEC">>;

/** What the kernel says of every link. */
export interface CommonLinkInfo {
  readonly id: number;
  /** The id of the program, also after {@link Link.detach}; 0 for links of structs of functions. */
  readonly programId: number;
}

/** A link to a raw tracepoint, untyped or typed by BTF. */
export interface RawTracepointLinkInfo extends CommonLinkInfo {
  readonly type: "raw_tracepoint";
  /** The tracepoint: `"sched_switch"`. */
  readonly name: string;
  /** What the program gets from `get_attach_cookie`; `undefined` for none. */
  readonly cookie: bigint | undefined;
}

/** A link to a function: of the kernel, or of another program. */
export interface TracingLinkInfo extends CommonLinkInfo {
  readonly type: "tracing";
  /** `"ext"` for a program that takes the place of another's function. */
  readonly attachType: AttachTypeName | "ext";
  /**
   * The id of the BTF that describes the function (that of the kernel, or of a module); for a function of another program,
   * that program's id (kernel 5.13).
   */
  readonly targetId: number | undefined;
  /** The function in that BTF, or in the program's (kernel 5.13). */
  readonly targetTypeId: number | undefined;
  readonly cookie: bigint | undefined;
}

/** A link to a cgroup. */
export interface CgroupLinkInfo extends CommonLinkInfo {
  readonly type: "cgroup";
  /** The inode of its folder; `undefined` once it is removed. */
  readonly cgroupId: bigint | undefined;
  readonly attachType: AttachTypeName;
}

/** An iterator: what it goes through is told from kernel 5.10 on. */
export interface IterLinkInfo extends CommonLinkInfo {
  readonly type: "iter";
  /** What it goes through: `"bpf_map"`, `"task"`, ... */
  readonly target: string | undefined;
  /** The map that it goes through. */
  readonly mapId: number | undefined;
  /** The cgroup that it begins at (kernel 6.1). */
  readonly cgroupId: bigint | undefined;
  /** How it goes from there (kernel 6.1). */
  readonly cgroupOrder: Keyword<keyof typeof bpfCgroupIterOrders> | undefined;
  /** The one thread that it looks at (kernel 6.1). */
  readonly tid: number | undefined;
  /** The one process whose threads it goes through (kernel 6.1). */
  readonly pid: number | undefined;
}

/** A link to a network namespace. */
export interface NetnsLinkInfo extends CommonLinkInfo {
  readonly type: "netns";
  /** The namespace, as `/proc/PID/ns/net` names it; `undefined` once it is gone. */
  readonly netnsInode: number | undefined;
  readonly attachType: AttachTypeName;
}

/** What links to network interfaces have in common. */
interface InterfaceLinkInfo extends CommonLinkInfo {
  /** The interface, in the network namespace of whoever attached; `undefined` once it is gone. */
  readonly ifindex: number | undefined;
  /** What the interface of that index is called in this process's network namespace, which may be another one. */
  readonly interfaceName: string | undefined;
}

/** A link of an XDP program (kernel 5.9). */
export interface XdpLinkInfo extends InterfaceLinkInfo {
  readonly type: "xdp";
}

/** A link of a classifier (kernel 6.6). */
export interface TcxLinkInfo extends InterfaceLinkInfo {
  readonly type: "tcx";
  readonly attachType: AttachTypeName;
}

/** A link of a classifier to a netkit device (kernel 6.7). */
export interface NetkitLinkInfo extends InterfaceLinkInfo {
  readonly type: "netkit";
  readonly attachType: AttachTypeName;
}

/** A link to a perf event: what event it is, is told from kernel 6.6 on. */
export interface PerfEventLinkInfo extends CommonLinkInfo {
  readonly type: "perf_event";
  readonly event: PerfEventTarget | undefined;
}

/** A link to many functions of the kernel: all of it is told from kernel 6.6 on. */
export interface KprobeMultiLinkInfo extends CommonLinkInfo {
  readonly type: "kprobe_multi";
  /** How many functions. */
  readonly count: number | undefined;
  /** The kernel's bits, `BPF_F_KPROBE_MULTI_*`: 1 for their returns. */
  readonly flags: number | undefined;
  /** Where the functions are; `undefined` where the kernel hides that from this process (see {@link KernelSymbols.read}). */
  readonly addresses: readonly bigint[] | undefined;
  /** For each function; `undefined` for none, and before kernel 6.9. */
  readonly cookies: readonly bigint[] | undefined;
  /** How often the program was not run because it was running on that CPU already (kernel 6.7). */
  readonly missed: number | undefined;
}

/** A link to many functions of a file: all of it is told from kernel 6.8 on. */
export interface UprobeMultiLinkInfo extends CommonLinkInfo {
  readonly type: "uprobe_multi";
  /** The file. */
  readonly path: string | undefined;
  readonly count: number | undefined;
  /** The kernel's bits, `BPF_F_UPROBE_MULTI_*`: 1 for their returns. */
  readonly flags: number | undefined;
  /** The one process that it is for; `undefined` for all. */
  readonly pid: number | undefined;
  /** Where in the file, in bytes. */
  readonly offsets: readonly bigint[] | undefined;
  /** Where the counters of its references are in the file; `undefined` for none. */
  readonly referenceOffsets: readonly bigint[] | undefined;
  /** For each function; `undefined` for none. */
  readonly cookies: readonly bigint[] | undefined;
}

/** A link of a struct of functions that the kernel calls. */
export interface StructOpsLinkInfo extends CommonLinkInfo {
  readonly type: "struct_ops";
  /** The map that is the struct (kernel 6.4). */
  readonly mapId: number | undefined;
}

/** A link to netfilter (kernel 6.4). */
export interface NetfilterLinkInfo extends CommonLinkInfo {
  readonly type: "netfilter";
  readonly family: Keyword<keyof typeof netfilterFamilies>;
  readonly hook: Keyword<keyof typeof netfilterHooks>;
  /** Lower ones come first. */
  readonly priority: number;
  /** The kernel's bits, `BPF_F_NETFILTER_*`: 1 for whole packets, put together of fragments. */
  readonly flags: number;
}

/** A link to a map of sockets (kernel 6.10). */
export interface SockmapLinkInfo extends CommonLinkInfo {
  readonly type: "sockmap";
  readonly mapId: number | undefined;
  readonly attachType: AttachTypeName;
}

/** A link of which no more is known here: of a kind that is newer than this library. */
export interface OtherLinkInfo extends CommonLinkInfo {
  readonly type: "tracing_multi" | `type_${number}`;
}

/** What the kernel says of a link: `type` tells the kind, and so what else there is. */
export type LinkInfo =
  | RawTracepointLinkInfo
  | TracingLinkInfo
  | CgroupLinkInfo
  | IterLinkInfo
  | NetnsLinkInfo
  | XdpLinkInfo
  | TcxLinkInfo
  | NetkitLinkInfo
  | PerfEventLinkInfo
  | KprobeMultiLinkInfo
  | UprobeMultiLinkInfo
  | StructOpsLinkInfo
  | NetfilterLinkInfo
  | SockmapLinkInfo
  | OtherLinkInfo;

/** Longer than any path or symbol of the kernel's: PATH_MAX. */
const longestText = 4096;

/** Room for a name. */
export function textBuffer(pointer: number, count: number): InfoBuffer {
  return { pointer, count, elements: longestText, elementSize: 1 };
}

/** A number of 32 bits that is 0 where there is none. */
export function present32(info: ObjectInfo, offset: number): number | undefined {
  const number = info.u32(offset);
  return number === 0 ? undefined : number;
}

/** A number of 64 bits that is 0 where there is none. */
export function present64(info: ObjectInfo, offset: number): bigint | undefined {
  const number = info.u64(offset);
  return number === 0n ? undefined : number;
}

/** Numbers that are all 0 where there are none. */
export function presentList(numbers: readonly bigint[]): readonly bigint[] | undefined {
  return numbers.some((number) => number !== 0n) ? numbers : undefined;
}

/** A text that is empty where there is none. */
export function presentText(text: string): string | undefined {
  return text === "" ? undefined : text;
}

/** What a program is attached to by a perf event. `cookie` is what it gets from `get_attach_cookie` (kernel 6.9). */
export type PerfEventTarget =
  | {
      /** A function of the kernel: its start, or its return. */
      readonly kind: "kprobe" | "kretprobe";
      /** `undefined` where it was given by its address alone. */
      readonly name: string | undefined;
      /** Bytes from the function's start. */
      readonly offset: number;
      /** Of the probe; `undefined` where the kernel hides it from this process (see {@link KernelSymbols.read}). */
      readonly address: bigint | undefined;
      /** How often the program was not run because it was running on that CPU already (kernel 6.7). */
      readonly missed: number;
      readonly cookie: bigint | undefined;
    }
  | {
      /** A function of a file: its start, or its return. */
      readonly kind: "uprobe" | "uretprobe";
      readonly path: string | undefined;
      /** Where in the file, in bytes. */
      readonly offset: number;
      readonly cookie: bigint | undefined;
    }
  | {
      readonly kind: "tracepoint";
      /** Without its category: `"sched_switch"`. */
      readonly name: string | undefined;
      readonly cookie: bigint | undefined;
    }
  | {
      /** A counter: what is counted is in `perf_event_open(2)`. */
      readonly kind: "event";
      /** The kernel's number, `PERF_TYPE_*`. */
      readonly eventType: number;
      /** Which one of that type. */
      readonly config: bigint;
      readonly cookie: bigint | undefined;
    };

const { UPROBE, URETPROBE, KPROBE, KRETPROBE, TRACEPOINT, EVENT } = bpfPerfEventTypes;

/** Room for the name of what a perf event is of; the event's type is known by now. */
export function perfEventBuffers(info: ObjectInfo): InfoBuffer[] {
  switch (info.u32(LINK_INFO.perf_event_type)) {
    case KPROBE:
    case KRETPROBE:
      return [
        textBuffer(LINK_INFO.perf_event_kprobe_func_name, LINK_INFO.perf_event_kprobe_name_len),
      ];
    case UPROBE:
    case URETPROBE:
      return [
        textBuffer(LINK_INFO.perf_event_uprobe_file_name, LINK_INFO.perf_event_uprobe_name_len),
      ];
    case TRACEPOINT:
      return [
        textBuffer(
          LINK_INFO.perf_event_tracepoint_tp_name,
          LINK_INFO.perf_event_tracepoint_name_len,
        ),
      ];
    default:
      return [];
  }
}

/** What a perf event is of, or `undefined` where the kernel does not say. */
export function readPerfEventTarget(info: ObjectInfo): PerfEventTarget | undefined {
  const type = info.u32(LINK_INFO.perf_event_type);
  switch (type) {
    case KPROBE:
    case KRETPROBE:
      return {
        kind: type === KPROBE ? "kprobe" : "kretprobe",
        name: presentText(info.text(LINK_INFO.perf_event_kprobe_func_name)),
        offset: info.u32(LINK_INFO.perf_event_kprobe_offset),
        address: present64(info, LINK_INFO.perf_event_kprobe_addr),
        missed: info.u64Number(LINK_INFO.perf_event_kprobe_missed),
        cookie: present64(info, LINK_INFO.perf_event_kprobe_cookie),
      };
    case UPROBE:
    case URETPROBE:
      return {
        kind: type === UPROBE ? "uprobe" : "uretprobe",
        path: presentText(info.text(LINK_INFO.perf_event_uprobe_file_name)),
        offset: info.u32(LINK_INFO.perf_event_uprobe_offset),
        cookie: present64(info, LINK_INFO.perf_event_uprobe_cookie),
      };
    case TRACEPOINT:
      return {
        kind: "tracepoint",
        name: presentText(info.text(LINK_INFO.perf_event_tracepoint_tp_name)),
        cookie: present64(info, LINK_INFO.perf_event_tracepoint_cookie),
      };
    case EVENT:
      return {
        kind: "event",
        eventType: info.u32(LINK_INFO.perf_event_event_type),
        config: info.u64(LINK_INFO.perf_event_event_config),
        cookie: present64(info, LINK_INFO.perf_event_event_cookie),
      };
    default:
      return undefined;
  }
}

/** How the description of a kind of link is read. */
interface Reader<Type extends LinkTypeName> {
  /** Room for what is of no fixed length; the rest is known by now. */
  readonly buffers?: (info: ObjectInfo) => readonly InfoBuffer[];
  /** What there is beside what every link has. */
  readonly read: (
    info: ObjectInfo,
  ) => Omit<Extract<LinkInfo, { type: Type }>, keyof CommonLinkInfo | "type">;
}

const orders = keywordsByNumber(bpfCgroupIterOrders);
const families = keywordsByNumber(netfilterFamilies);
const hooks = keywordsByNumber(netfilterHooks);
const linkTypes = keywordsByNumber(bpfLinkTypes) as ReadonlyMap<number, LinkTypeName>;

const readers: { readonly [Type in LinkTypeName]?: Reader<Type> } = {
  raw_tracepoint: {
    buffers: () => [
      textBuffer(LINK_INFO.raw_tracepoint_tp_name, LINK_INFO.raw_tracepoint_tp_name_len),
    ],
    read: (info) => ({
      name: info.text(LINK_INFO.raw_tracepoint_tp_name),
      cookie: present64(info, LINK_INFO.raw_tracepoint_cookie),
    }),
  },
  tracing: {
    read: (info) => ({
      attachType: tracingType(info.u32(LINK_INFO.tracing_attach_type)),
      targetId: present32(info, LINK_INFO.tracing_target_obj_id),
      targetTypeId: present32(info, LINK_INFO.tracing_target_btf_id),
      cookie: present64(info, LINK_INFO.tracing_cookie),
    }),
  },
  cgroup: {
    read: (info) => ({
      cgroupId: present64(info, LINK_INFO.cgroup_cgroup_id),
      attachType: attachTypeName(info.u32(LINK_INFO.cgroup_attach_type)),
    }),
  },
  iter: {
    buffers: () => [textBuffer(LINK_INFO.iter_target_name, LINK_INFO.iter_target_name_len)],
    read: readIterator,
  },
  netns: {
    read: (info) => ({
      netnsInode: present32(info, LINK_INFO.netns_netns_ino),
      attachType: attachTypeName(info.u32(LINK_INFO.netns_attach_type)),
    }),
  },
  xdp: { read: (info) => interfaceAt(info, LINK_INFO.xdp_ifindex) },
  tcx: {
    read: (info) => ({
      ...interfaceAt(info, LINK_INFO.tcx_ifindex),
      attachType: attachTypeName(info.u32(LINK_INFO.tcx_attach_type)),
    }),
  },
  netkit: {
    read: (info) => ({
      ...interfaceAt(info, LINK_INFO.netkit_ifindex),
      attachType: attachTypeName(info.u32(LINK_INFO.netkit_attach_type)),
    }),
  },
  perf_event: {
    buffers: perfEventBuffers,
    read: (info) => ({ event: readPerfEventTarget(info) }),
  },
  kprobe_multi: {
    buffers: (info) => {
      const elements = info.u32(LINK_INFO.kprobe_multi_count);
      const shared = { count: LINK_INFO.kprobe_multi_count, elements, elementSize: 8 } as const;
      return [
        { pointer: LINK_INFO.kprobe_multi_addrs, ...shared },
        { pointer: LINK_INFO.kprobe_multi_cookies, ...shared },
      ];
    },
    read: readKprobes,
  },
  uprobe_multi: {
    buffers: (info) => {
      const elements = info.u32(LINK_INFO.uprobe_multi_count);
      const shared = { count: LINK_INFO.uprobe_multi_count, elements, elementSize: 8 } as const;
      return elements === 0
        ? []
        : [
            textBuffer(LINK_INFO.uprobe_multi_path, LINK_INFO.uprobe_multi_path_size),
            { pointer: LINK_INFO.uprobe_multi_offsets, ...shared },
            { pointer: LINK_INFO.uprobe_multi_ref_ctr_offsets, ...shared },
            { pointer: LINK_INFO.uprobe_multi_cookies, ...shared },
          ];
    },
    read: readUprobes,
  },
  struct_ops: { read: (info) => ({ mapId: present32(info, LINK_INFO.struct_ops_map_id) }) },
  netfilter: {
    read: (info) => ({
      family: keywordOf(families, info.u32(LINK_INFO.netfilter_pf)),
      hook: keywordOf(hooks, info.u32(LINK_INFO.netfilter_hooknum)),
      priority: info.i32(LINK_INFO.netfilter_priority),
      flags: info.u32(LINK_INFO.netfilter_flags),
    }),
  },
  sockmap: {
    read: (info) => ({
      mapId: present32(info, LINK_INFO.sockmap_map_id),
      attachType: attachTypeName(info.u32(LINK_INFO.sockmap_attach_type)),
    }),
  },
};

/** Asks the kernel about a link (kernel 5.8). */
export function readLinkInfo(fd: number, what: string): LinkInfo {
  // First without room for names and lists: which there are depends on the kind.
  using first = objectInfo(fd, LINK_INFO.sizeof, what);
  const type = keywordOf(linkTypes, first.u32(LINK_INFO.type));
  const reader = readers[type] as Reader<LinkTypeName> | undefined;
  const buffers = reader?.buffers?.(first) ?? [];
  using second = buffers.length === 0 ? undefined : objectInfo(fd, LINK_INFO.sizeof, what, buffers);
  const info = second ?? first;
  const common = { id: info.u32(LINK_INFO.id), type, programId: info.u32(LINK_INFO.prog_id) };
  // The table says which reader is for which type, but not in a way that the compiler follows.
  return { ...common, ...reader?.read(info) } as LinkInfo;
}

/** No tracing program is for type 0: it is what the kernel gives programs that replace functions of others. */
function tracingType(number: number): TracingLinkInfo["attachType"] {
  return number === bpfAttachTypes.CGROUP_INET_INGRESS ? "ext" : attachTypeName(number);
}

function interfaceAt(info: ObjectInfo, offset: number) {
  const ifindex = present32(info, offset);
  return { ifindex, interfaceName: ifindex === undefined ? undefined : interfaceName(ifindex) };
}

function readIterator(info: ObjectInfo): ReturnType<Reader<"iter">["read"]> {
  const target = presentText(info.text(LINK_INFO.iter_target_name));
  // The same bytes mean other things for other targets.
  const isOfMap = target === "bpf_map_elem" || target === "bpf_sk_storage_map";
  const isOfCgroup = target === "cgroup";
  const isOfTask = target?.startsWith("task") === true;
  return {
    target,
    mapId: isOfMap ? present32(info, LINK_INFO.iter_map_map_id) : undefined,
    cgroupId: isOfCgroup ? present64(info, LINK_INFO.iter_cgroup_cgroup_id) : undefined,
    cgroupOrder: isOfCgroup ? orders.get(info.u32(LINK_INFO.iter_cgroup_order)) : undefined,
    tid: isOfTask ? present32(info, LINK_INFO.iter_task_tid) : undefined,
    pid: isOfTask ? present32(info, LINK_INFO.iter_task_pid) : undefined,
  };
}

function readKprobes(info: ObjectInfo): ReturnType<Reader<"kprobe_multi">["read"]> {
  const count = present32(info, LINK_INFO.kprobe_multi_count);
  if (count === undefined) {
    const unknown = undefined;
    return { count, flags: unknown, addresses: unknown, cookies: unknown, missed: unknown };
  }
  return {
    count,
    flags: info.u32(LINK_INFO.kprobe_multi_flags),
    addresses: presentList(info.u64s(LINK_INFO.kprobe_multi_addrs)),
    cookies: presentList(info.u64s(LINK_INFO.kprobe_multi_cookies)),
    missed: info.u64Number(LINK_INFO.kprobe_multi_missed),
  };
}

function readUprobes(info: ObjectInfo): ReturnType<Reader<"uprobe_multi">["read"]> {
  const count = present32(info, LINK_INFO.uprobe_multi_count);
  const isTold = count !== undefined;
  return {
    count,
    path: isTold ? presentText(info.text(LINK_INFO.uprobe_multi_path)) : undefined,
    flags: isTold ? info.u32(LINK_INFO.uprobe_multi_flags) : undefined,
    pid: isTold ? present32(info, LINK_INFO.uprobe_multi_pid) : undefined,
    offsets: isTold ? info.u64s(LINK_INFO.uprobe_multi_offsets) : undefined,
    referenceOffsets: isTold
      ? presentList(info.u64s(LINK_INFO.uprobe_multi_ref_ctr_offsets))
      : undefined,
    cookies: isTold ? presentList(info.u64s(LINK_INFO.uprobe_multi_cookies)) : undefined,
  };
}
