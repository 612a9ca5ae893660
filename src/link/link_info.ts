/** @module The kernel's information about links, by their types. Fields that an older kernel does not have are `undefined`. */

import type { Keyword } from "../check/names.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import type { bpfCgroupIterOrders, bpfLinkTypes } from "../uapi/enumerations.ts";
import type { netfilterFamilies, netfilterHooks } from "../uapi/network.ts";

/** A kind of link: the kernel's `BPF_LINK_TYPE_RAW_TRACEPOINT` is `"raw_tracepoint"`. */
export type LinkTypeName = KnownLinkType | `type_${number}`;

type KnownLinkType = Keyword<Exclude<keyof typeof bpfLinkTypes, "UNSPEC">>;

/** The kernel's information about every link. */
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
  /** The number that the program gets from `get_attach_cookie`; `undefined` for none. */
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

/** An iterator. The kernel tells its target since 5.10. */
export interface IterLinkInfo extends CommonLinkInfo {
  readonly type: "iter";
  /** The kind of object that it visits: `"bpf_map"`, `"task"`, ... */
  readonly target: string | undefined;
  /** The map whose elements it visits. */
  readonly mapId: number | undefined;
  /** The cgroup that it begins at (kernel 6.1). */
  readonly cgroupId: bigint | undefined;
  /** The order in which it visits cgroups from there (kernel 6.1). */
  readonly cgroupOrder: Keyword<keyof typeof bpfCgroupIterOrders> | undefined;
  /** The one thread that it visits (kernel 6.1). */
  readonly tid: number | undefined;
  /** The one process whose threads it visits (kernel 6.1). */
  readonly pid: number | undefined;
}

/** A link to a network namespace. */
export interface NetnsLinkInfo extends CommonLinkInfo {
  readonly type: "netns";
  /** The namespace, as `/proc/PID/ns/net` names it; `undefined` once it is gone. */
  readonly netnsInode: number | undefined;
  readonly attachType: AttachTypeName;
}

/** The common information of links to network interfaces. */
interface InterfaceLinkInfo extends CommonLinkInfo {
  /** The interface, in the network namespace of whoever attached; `undefined` once it is gone. */
  readonly ifindex: number | undefined;
  /** The name that belongs to that index in this process's network namespace, which may be a different one. */
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

/** A link to many functions of the kernel. The kernel tells its details since 6.6. */
export interface KprobeMultiLinkInfo extends CommonLinkInfo {
  readonly type: "kprobe_multi";
  /** Number of functions. */
  readonly count: number | undefined;
  /** The kernel's bits, `BPF_F_KPROBE_MULTI_*`: 1 for their returns. */
  readonly flags: number | undefined;
  /**
   * The addresses of the functions; `undefined` where the kernel hides that from this process (see {@link
   * KernelSymbols.read}).
   */
  readonly addresses: readonly bigint[] | undefined;
  /** A cookie for each function; `undefined` for none, and before kernel 6.9. */
  readonly cookies: readonly bigint[] | undefined;
  /** Number of runs that were skipped because the program was already running on that CPU (kernel 6.7). */
  readonly missed: number | undefined;
}

/** A link to many functions of a file. The kernel tells its details since 6.8. */
export interface UprobeMultiLinkInfo extends CommonLinkInfo {
  readonly type: "uprobe_multi";
  /** The file. */
  readonly path: string | undefined;
  readonly count: number | undefined;
  /** The kernel's bits, `BPF_F_UPROBE_MULTI_*`: 1 for their returns. */
  readonly flags: number | undefined;
  /** The one process that it is for; `undefined` for all. */
  readonly pid: number | undefined;
  /** Bytes from the start of the file. */
  readonly offsets: readonly bigint[] | undefined;
  /** The offsets of the probes' reference counters in the file; `undefined` for none. */
  readonly referenceOffsets: readonly bigint[] | undefined;
  /** A cookie for each function; `undefined` for none. */
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

/** The kernel's information about a link. Its `type` decides which other fields it has. */
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

/**
 * The target of a program that is attached by a perf event. `cookie` is the number that it gets from `get_attach_cookie`
 * (kernel 6.9).
 */
export type PerfEventTarget =
  | {
      /** A function of the kernel: its start, or its return. */
      readonly kind: "kprobe" | "kretprobe";
      /** `undefined` where it was given by its address alone. */
      readonly name: string | undefined;
      /** Bytes from the function's start. */
      readonly offset: number;
      /** The address of the probe; `undefined` where the kernel hides it from this process (see {@link KernelSymbols.read}). */
      readonly address: bigint | undefined;
      /** Number of runs that were skipped because the program was already running on that CPU (kernel 6.7). */
      readonly missed: number;
      readonly cookie: bigint | undefined;
    }
  | {
      /** A function of a file: its start, or its return. */
      readonly kind: "uprobe" | "uretprobe";
      readonly path: string | undefined;
      /** Bytes from the start of the file. */
      readonly offset: number;
      readonly cookie: bigint | undefined;
    }
  | {
      readonly kind: "tracepoint";
      /** The name without its category: `"sched_switch"`. */
      readonly name: string | undefined;
      readonly cookie: bigint | undefined;
    }
  | {
      /** A counter of the events that `perf_event_open(2)` lists. */
      readonly kind: "event";
      /** The kernel's number, `PERF_TYPE_*`. */
      readonly eventType: number;
      /** The number of the event within that type. */
      readonly config: bigint;
      readonly cookie: bigint | undefined;
    };
