/** @module The kernel's information about links, by their types. Fields that an older kernel does not have are `undefined`. */

import type { Keyword } from "../check/names.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import type { bpfCgroupIterOrders, bpfLinkTypes } from "../uapi/enumerations.ts";
import type { netfilterFamilies, netfilterHooks } from "../uapi/network.ts";

/** The type of a link: the kernel's `BPF_LINK_TYPE_RAW_TRACEPOINT` is `"raw_tracepoint"`. */
export type LinkTypeName = KnownLinkType | AttachmentType | `type_${number}`;

/** The type of an attachment for which the kernel has no link. */
export type AttachmentType = "tc";

type KnownLinkType = Keyword<Exclude<keyof typeof bpfLinkTypes, "UNSPEC">>;

/** Information that the kernel has about links of all types. */
export interface CommonLinkInfo {
  /** The id of the link, unique among the existing links; 0 for an attachment for which the kernel has no link. */
  readonly id: number;
  /** The id of the program, also after {@link Link.detach}; 0 for `struct_ops` links. */
  readonly programId: number;
}

/** Information about a link to a raw tracepoint, with arguments untyped or typed by BTF. */
export interface RawTracepointLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "raw_tracepoint";
  /** The tracepoint: `"sched_switch"`. */
  readonly name: string;
  /** The cookie, which the helper `get_attach_cookie` returns; `undefined` for none, or if the kernel does not report it. */
  readonly cookie: bigint | undefined;
}

/** Information about a link to a function of the kernel, or of another program. */
export interface TracingLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "tracing";
  /** The attach type; `"ext"` for a program that replaces a function of another program. */
  readonly attachType: AttachTypeName | "ext";
  /**
   * The id of the kernel's or a module's BTF that describes the function. For a function of another program it is the id of
   * that program (kernel 5.13).
   */
  readonly targetId: number | undefined;
  /** The type id of the function in that BTF, or in the BTF of that program (kernel 5.13). */
  readonly targetTypeId: number | undefined;
  /** The cookie, which the helper `get_attach_cookie` returns; `undefined` for none, or if the kernel does not report it. */
  readonly cookie: bigint | undefined;
}

/** Information about a link to a cgroup. */
export interface CgroupLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "cgroup";
  /** The id of the cgroup, the inode number of its directory; `undefined` after the cgroup was removed. */
  readonly cgroupId: bigint | undefined;
  /** The hook: `"cgroup_inet_ingress"`. */
  readonly attachType: AttachTypeName;
}

/** Information about a link of an iterator program. */
export interface IterLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "iter";
  /** The kind of objects that the program iterates: `"bpf_map"`, `"task"`, ... (kernel 5.10). */
  readonly target: string | undefined;
  /** The id of the map whose elements the program iterates. */
  readonly mapId: number | undefined;
  /** The id of the cgroup at which the iteration starts (kernel 6.1). */
  readonly cgroupId: bigint | undefined;
  /** The order in which the program iterates cgroups from `cgroupId` (kernel 6.1). */
  readonly cgroupOrder: Keyword<keyof typeof bpfCgroupIterOrders> | undefined;
  /** The id of the thread, if the program iterates only one (kernel 6.1). */
  readonly tid: number | undefined;
  /** The id of the process, if the program iterates only the threads of one (kernel 6.1). */
  readonly pid: number | undefined;
}

/** Information about a link to a network namespace. */
export interface NetnsLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "netns";
  /** The inode number of the namespace, as in `/proc/PID/ns/net`; `undefined` after the namespace has ended. */
  readonly netnsInode: number | undefined;
  /** The hook: `"sk_lookup"`. */
  readonly attachType: AttachTypeName;
}

/** Information about links to network interfaces. */
interface InterfaceLinkInfo extends CommonLinkInfo {
  /** The index of the interface in its network namespace; `undefined` after the interface was removed. */
  readonly ifindex: number | undefined;
  /**
   * The name of the interface. It is known for links that this object has attached and for attachments without links, and for
   * links of the types tcx and netkit in the network namespace of this thread (CAP_NET_ADMIN). Otherwise it is `undefined`: an
   * index does not identify an interface, because other network namespaces use the same numbers.
   */
  readonly interfaceName: string | undefined;
}

/** A place where XDP programs run: in the network driver, in the kernel's network stack, or in the network card. */
export type XdpMode = "driver" | "generic" | "offload";

/** Information about a link of an XDP program (kernel 5.9). */
export interface XdpLinkInfo extends InterfaceLinkInfo {
  /** The type of the link. */
  readonly type: "xdp";
}

/** Information about a link of a traffic classifier, tcx (kernel 6.6). */
export interface TcxLinkInfo extends InterfaceLinkInfo {
  /** The type of the link. */
  readonly type: "tcx";
  /** The direction of the packets: `"tcx_ingress"` or `"tcx_egress"`. */
  readonly attachType: AttachTypeName;
}

/** The direction of packets: those that an interface receives, or those that it sends. */
export type TcDirection = "ingress" | "egress";

/** Information about a classic filter of traffic control, for which the kernel has no link. */
export interface TcLinkInfo extends InterfaceLinkInfo {
  /** The type of the attachment. */
  readonly type: "tc";
  /** The direction of the packets. */
  readonly direction: TcDirection;
  /** The priority: filters with lower numbers run first. */
  readonly priority: number;
  /** The handle, which tells filters with the same priority apart. */
  readonly handle: number;
  /** The chain of the filter, usually 0. */
  readonly chain: number;
}

/** Information about a link of a traffic classifier to a netkit device (kernel 6.7). */
export interface NetkitLinkInfo extends InterfaceLinkInfo {
  /** The type of the link. */
  readonly type: "netkit";
  /** The side of the device pair: `"netkit_primary"` or `"netkit_peer"`. */
  readonly attachType: AttachTypeName;
}

/** Information about a link to a perf event, such as a kprobe, a uprobe or a classic tracepoint. */
export interface PerfEventLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "perf_event";
  /** The event (kernel 6.6). */
  readonly event: PerfEventTarget | undefined;
}

/** Information about a link to several functions of the kernel (details since kernel 6.6). */
export interface KprobeMultiLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "kprobe_multi";
  /** Number of functions. */
  readonly count: number | undefined;
  /** Flags, `BPF_F_KPROBE_MULTI_*`: 1 if the program runs when the functions return. */
  readonly flags: number | undefined;
  /**
   * The addresses of the functions; `undefined` if the kernel hides them from this process (see {@link KernelSymbols.read}).
   */
  readonly addresses: readonly bigint[] | undefined;
  /** The cookies, one per function; `undefined` for none, and before kernel 6.9. */
  readonly cookies: readonly bigint[] | undefined;
  /** Number of runs that were skipped because the program was already running on the same CPU (kernel 6.7). */
  readonly missed: number | undefined;
}

/** Information about a link to several places in a file (details since kernel 6.8). */
export interface UprobeMultiLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "uprobe_multi";
  /** The path of the file. */
  readonly path: string | undefined;
  /** Number of places. */
  readonly count: number | undefined;
  /** Flags, `BPF_F_UPROBE_MULTI_*`: 1 if the program runs when the functions at these places return. */
  readonly flags: number | undefined;
  /** The id of the only process in which the program runs; `undefined` for all processes. */
  readonly pid: number | undefined;
  /** The places, in bytes from the start of the file. */
  readonly offsets: readonly bigint[] | undefined;
  /** The offsets of the places' reference counters (semaphores) in the file; `undefined` for none. */
  readonly referenceOffsets: readonly bigint[] | undefined;
  /** The cookies, one per place; `undefined` for none. */
  readonly cookies: readonly bigint[] | undefined;
}

/** Information about a link of a `struct_ops` map: a struct of functions that the kernel calls. */
export interface StructOpsLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "struct_ops";
  /** The id of the `struct_ops` map (kernel 6.4). */
  readonly mapId: number | undefined;
}

/** Information about a link to a netfilter hook (kernel 6.4). */
export interface NetfilterLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "netfilter";
  /** The protocol family. */
  readonly family: Keyword<keyof typeof netfilterFamilies>;
  /** The hook of that family. */
  readonly hook: Keyword<keyof typeof netfilterHooks>;
  /** The priority: the hook runs programs with lower numbers first. */
  readonly priority: number;
  /** Flags, `BPF_F_NETFILTER_*`: 1 if fragmented packets are reassembled first. */
  readonly flags: number;
}

/** Information about a link to a `sockmap` or `sockhash` map (kernel 6.10). */
export interface SockmapLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "sockmap";
  /** The id of the map; `undefined` after the map was freed. */
  readonly mapId: number | undefined;
  /** The attach type: `"sk_msg_verdict"`. */
  readonly attachType: AttachTypeName;
}

/** Information about the attachment of a program to a socket, for which the kernel has no link. */
export interface SocketAttachmentInfo extends CommonLinkInfo {
  /** The kind of program: a filter of packets, or the program that selects a socket of a group with one port. */
  readonly type: "socket" | "sk_reuseport";
  /** The inode number of the socket, as in `/proc/PID/fd`. */
  readonly inode: number;
}

/** Information about a link of another type: `tracing_multi`, or a type that is newer than this library. */
export interface OtherLinkInfo extends CommonLinkInfo {
  /** The type of the link. */
  readonly type: "tracing_multi" | `type_${number}`;
}

/** The kernel's information about a link. Its `type` determines the other fields. Unreported fields are `undefined`. */
export type LinkInfo =
  | RawTracepointLinkInfo
  | TracingLinkInfo
  | CgroupLinkInfo
  | IterLinkInfo
  | NetnsLinkInfo
  | XdpLinkInfo
  | TcxLinkInfo
  | TcLinkInfo
  | NetkitLinkInfo
  | PerfEventLinkInfo
  | KprobeMultiLinkInfo
  | UprobeMultiLinkInfo
  | StructOpsLinkInfo
  | NetfilterLinkInfo
  | SockmapLinkInfo
  | SocketAttachmentInfo
  | OtherLinkInfo;

/**
 * The perf event to which a program is attached. Its `kind` determines the other fields.
 */
export type PerfEventTarget =
  | {
      /** `"kprobe"` for an instruction of a kernel function, `"kretprobe"` for the return of one. */
      readonly kind: "kprobe" | "kretprobe";
      /** The function; `undefined` if the probe was created by address. */
      readonly name: string | undefined;
      /** Bytes from the function's start. */
      readonly offset: number;
      /** The address of the probe; `undefined` if the kernel hides it from this process (see {@link KernelSymbols.read}). */
      readonly address: bigint | undefined;
      /** Number of runs that were skipped because the program was already running on the same CPU (kernel 6.7). */
      readonly missed: number;
      /** The cookie, which the helper `get_attach_cookie` returns (kernel 6.9); `undefined` for none. */
      readonly cookie: bigint | undefined;
    }
  | {
      /** `"uprobe"` for an instruction in a file, `"uretprobe"` for the return of the function at that place. */
      readonly kind: "uprobe" | "uretprobe";
      /** The path of the file. */
      readonly path: string | undefined;
      /** Bytes from the start of the file. */
      readonly offset: number;
      /** The cookie, which the helper `get_attach_cookie` returns (kernel 6.9); `undefined` for none. */
      readonly cookie: bigint | undefined;
    }
  | {
      /** `"tracepoint"` for a classic tracepoint. */
      readonly kind: "tracepoint";
      /** The name without its category: `"sched_switch"`. */
      readonly name: string | undefined;
      /** The cookie, which the helper `get_attach_cookie` returns (kernel 6.9); `undefined` for none. */
      readonly cookie: bigint | undefined;
    }
  | {
      /** `"event"` for another event that `perf_event_open(2)` describes. */
      readonly kind: "event";
      /** The type of the event, `PERF_TYPE_*`. */
      readonly eventType: number;
      /** The number of the event within that type. */
      readonly config: bigint;
      /** The cookie, which the helper `get_attach_cookie` returns (kernel 6.9); `undefined` for none. */
      readonly cookie: bigint | undefined;
    };
