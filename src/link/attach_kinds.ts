/**
 * @module Ways to attach programs, one row each: the first kernel version, the dependencies, and a description of the probe,
 * which `features` runs. Probes attach where they disturb no other process: to functions that are hardly ever called, to a
 * file that no process executes, and in a network namespace, cgroup or socket that is made for the probe.
 */

import type { AttachTypeName, ProgramTypeName } from "../ffi/bpf_prog.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { type KernelVersion, sinceByArchitecture } from "../ffi/kernel.ts";
import type { AttachKindRow } from "./attach_method.ts";
import { cgroupKinds } from "./cgroup_kinds.ts";
import { netnsKinds } from "./netns.ts";
import { kprobeKinds } from "./kprobe.ts";
import { kprobeMultiKinds } from "./kprobe_multi.ts";
import { iteratorKinds } from "./iterator.ts";
import { perfEventKinds } from "./perf_event_program.ts";
import { rawTracepointKinds } from "./raw_tracepoint.ts";
import { socketMapKinds } from "./socket_map.ts";
import { socketKinds } from "./sockets.ts";
import { tracepointKinds } from "./tracepoint.ts";
import { replacementKinds, tracedFunctionKinds } from "./trampoline.ts";
import { tracedFunctionsKinds } from "./trampoline_multi.ts";
import { uprobeKinds } from "./uprobe.ts";

/** A type of the kernel's BTF that a program is loaded for. */
export interface BtfTarget {
  readonly kind: "func" | "var" | "typedef" | "struct";
  readonly name: string;
  /** The member of a struct of functions that the program implements. */
  readonly member?: string;
}

/** The smallest program of a type, for probes. */
export interface SmallestProgram {
  readonly type: ProgramTypeName;
  /** The attach type for which the program is loaded. */
  readonly attachType?: AttachTypeName;
  /** The kernel type for which the program is loaded. */
  readonly target?: BtfTarget;
  readonly isSleepable?: boolean;
}

/** A place to which a probe attaches. */
export type AttachPlace =
  /** The loopback interface, a netfilter hook, or a new netkit interface in a new network namespace. */
  | "loopback"
  | "netfilter hook"
  | "netkit"
  /** The target for which the program was loaded. */
  | "loaded for"
  /** A struct_ops map: a congestion control algorithm that no connection uses. */
  | "struct";

/** The system call that attaches a program to a place. */
type AttachCall =
  /** BPF_LINK_CREATE. */
  | "link"
  /** The ioctl PERF_EVENT_IOC_SET_BPF. */
  | "event"
  | "xdp by netlink"
  | "tc by netlink"
  /** BPF_MAP_UPDATE_ELEM, followed by BPF_MAP_DELETE_ELEM. */
  | "map update";

/** A row of {@link attachKinds} that does not use the ways of this folder yet. */
export interface OldAttachKindRow {
  /** The first kernel version that supports this way to attach. */
  readonly since: KernelVersion;
  /** Kernel build options that this way to attach needs. */
  readonly config?: readonly string[];
  /** Capabilities that the probe needs. */
  readonly needs: readonly Capability[];
  /** The program to attach; `undefined` for struct_ops, which has a program per function. */
  readonly program?: SmallestProgram;
  readonly place: AttachPlace;
  readonly by: AttachCall;
  /** The attach type, if the program is loaded without an attach type. */
  readonly attachType?: AttachTypeName;
  /** True if the probe passes a cookie. */
  readonly hasCookie?: boolean;
  /** True if the kernel always attaches the program, but calls it only while the BPF security module is active. */
  readonly needsSecurityModule?: boolean;
}

const network = {
  // CAP_SYS_ADMIN is needed to create the network namespace.
  needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
  config: ["CONFIG_NET", "CONFIG_NET_NS"],
} as const;
const structOps = {
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  config: ["CONFIG_INET", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
  place: "struct",
} as const;

/** All ways to attach, in the order in which they are listed. */
export const attachKinds = {
  ...kprobeKinds,
  ...kprobeMultiKinds,
  ...uprobeKinds,
  ...tracepointKinds,
  ...perfEventKinds,
  ...rawTracepointKinds,
  ...tracedFunctionKinds,
  ...tracedFunctionsKinds,
  ...replacementKinds,
  ...iteratorKinds,
  xdp: {
    since: "5.9",
    ...network,
    program: { type: "xdp", attachType: "xdp" },
    place: "loopback",
    by: "link",
  },
  xdp_netlink: {
    since: "4.12",
    ...network,
    program: { type: "xdp" },
    place: "loopback",
    by: "xdp by netlink",
  },
  tc: {
    since: "4.5",
    ...network,
    config: [...network.config, "CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_BPF"],
    program: { type: "sched_cls" },
    place: "loopback",
    by: "tc by netlink",
  },
  tcx: {
    since: "6.6",
    ...network,
    config: [...network.config, "CONFIG_NET_XGRESS"],
    program: { type: "sched_cls", attachType: "tcx_ingress" },
    place: "loopback",
    by: "link",
  },
  netkit: {
    since: "6.7",
    ...network,
    config: [...network.config, "CONFIG_NETKIT"],
    program: { type: "sched_cls", attachType: "netkit_primary" },
    place: "netkit",
    by: "link",
  },
  netfilter: {
    since: "6.4",
    ...network,
    config: [...network.config, "CONFIG_NETFILTER_BPF_LINK"],
    program: { type: "netfilter", attachType: "netfilter" },
    place: "netfilter hook",
    by: "link",
  },
  ...netnsKinds,
  ...cgroupKinds,
  ...socketKinds,
  ...socketMapKinds,
  struct_ops: {
    since: sinceByArchitecture({ x64: "5.6", arm64: "6.0" }),
    ...structOps,
    by: "map update",
  },
  "struct_ops.link": { since: "6.4", ...structOps, by: "link" },
} as const satisfies Readonly<Record<string, AttachKindRow | OldAttachKindRow>>;

/**
 * A way to attach programs, by libbpf's section names: `"kprobe.multi"`, `"cgroup/connect4"`. A suffix names a variant:
 * `"flow_dissector_link"` attaches with a link and `"flow_dissector"` without one; `"kprobe.multi_cookie"` passes a cookie.
 * `"link_update"` and `"link_detach"` are operations on links.
 */
export type AttachKind = keyof typeof attachKinds;
