/**
 * @module Sections by libbpf's names. The table has a row for each name, or for each prefix before a target. Code that is written
 * by hand, object files, probes and the documentation read it.
 */

import { describe } from "../check/describe.ts";
import { suggest, suggestion } from "../check/names.ts";
import type { AttachTypeName, ProgramTypeName } from "../ffi/bpf_prog.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import {
  type AttachMethod,
  checkTarget,
  type CookieOptions,
  type CookiesOptions,
  type TargetForm,
} from "../link/attach_method.ts";
import { iterator, type IteratorOptions } from "../link/iterator.ts";
import type { IterLink } from "../link/iterator_link.ts";
import {
  kprobe,
  type KprobeOptions,
  type KprobeTarget,
  kretprobe,
  kretsyscall,
  ksyscall,
  type KsyscallTarget,
} from "../link/kprobe.ts";
import {
  kprobeMulti,
  type KprobeMultiLink,
  type KprobeMultiTarget,
  kretprobeMulti,
} from "../link/kprobe_multi.ts";
import {
  cgroup,
  type CgroupOptions,
  cgroupSkb,
  type CgroupSkbOptions,
  lsmCgroup,
} from "../link/cgroup.ts";
import type { Link } from "../link/link.ts";
import { perfEvent, type PerfEventOptions } from "../link/perf_event_program.ts";
import type { PerfEventsLink } from "../link/perf_events_link.ts";
import { flowDissector, type FlowDissectorOptions, skLookup } from "../link/netns.ts";
import type { NetnsOptions } from "../link/network_target.ts";
import { netfilter, type NetfilterOptions } from "../link/netfilter.ts";
import { netkit, type NetkitOptions } from "../link/netkit.ts";
import {
  rawTracepoint,
  type RawTracepointTarget,
  tracingTracepoint,
} from "../link/raw_tracepoint.ts";
import { skSkb, type SkSkbOptions, socketMap, type SocketMapOptions } from "../link/socket_map.ts";
import { socketFilter, socketGroup, type SocketOptions } from "../link/sockets.ts";
import { directedTc, type DirectedTcOptions, tc, type TcOptions } from "../link/tc.ts";
import { tracepoint, type TracepointTarget } from "../link/tracepoint.ts";
import {
  replacement,
  type ReplacementOptions,
  securityHook,
  tracedFunction,
} from "../link/trampoline.ts";
import {
  type TracedFunctions,
  tracedFunctions,
  type TracingMultiLink,
} from "../link/trampoline_multi.ts";
import {
  uprobe,
  uprobeMulti,
  type UprobeMultiOptions,
  type UprobeMultiTarget,
  type UprobeOptions,
  type UprobeTarget,
  uretprobe,
  uretprobeMulti,
} from "../link/uprobe.ts";
import { xdp, type XdpOptions } from "../link/xdp.ts";
import { BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS } from "../uapi/bpf.ts";

/** The kernel type that programs of a section are loaded for. */
export interface LoadTarget {
  /** The kind of the type. A target of the kind `"struct"` names one of its functions, too. */
  readonly kind: "typedef" | "func" | "struct";
  /** The noun for targets in messages. */
  readonly noun: "function" | "security hook" | "iterator" | "tracepoint" | "struct";
  /** The prefix of the type's name in the kernel's BTF, before the target. */
  readonly prefix: string;
}

/** A row of {@link sectionRows}: one section, or one prefix before targets. */
export interface SectionRow {
  readonly programType: ProgramTypeName;
  /** The first kernel version that loads the programs, if it is later than that of the program type. */
  readonly since?: KernelVersion;
  /** The attach type that the program is loaded for, and attached with. */
  readonly attachType?: AttachTypeName;
  /** True if kernels that do not know the attach type load the program without it. */
  readonly isAttachTypeOptional?: boolean;
  /** Bits `BPF_F_*` for loading. */
  readonly flags?: number;
  /** The kernel type that the program is loaded for, if it needs one. The target of the section names it. */
  readonly loadTarget?: LoadTarget;
  /** True if the function can be one of another BPF program, which the option `attachTo` names. */
  readonly isForPrograms?: boolean;
  /** The way to attach the programs. Without one, they can be loaded, run with `testRun()`, and attached by other tools. */
  readonly method?: AttachMethod;
  /** The form of targets, for sections without a method. */
  readonly target?: TargetForm;
  /** The way to use programs that this library cannot attach, for messages. */
  readonly otherUse?: string;
}

/** The options of `attach()` for a section, and the link that it returns. */
interface Attaching<Options extends object, Result extends Link = Link> {
  readonly options: Options;
  readonly link: Result;
}

/** Sections that `attach()` cannot attach. */
type NotAttachable = Attaching<never>;

/** Sections of programs that are attached to a cgroup, except `cgroup/skb`. */
type CgroupSection =
  | `cgroup_skb/${"ingress" | "egress"}`
  | `cgroup/${"sock" | "sock_create" | "sock_release" | "sysctl" | "getsockopt" | "setsockopt" | "dev"}`
  | `cgroup/${"bind" | "post_bind"}${4 | 6}`
  | `cgroup/${"connect" | "sendmsg" | "recvmsg" | "getpeername" | "getsockname"}${4 | 6 | "_unix"}`
  | "sockops";

/** Sections without a target in the name. */
interface PlainSections
  extends
    Readonly<Record<"xdp" | "xdp.frags", Attaching<XdpOptions>>>,
    Readonly<Record<"tc" | "classifier", Attaching<DirectedTcOptions>>>,
    Readonly<
      Record<"tc/ingress" | "tcx/ingress" | "tc/egress" | "tcx/egress", Attaching<TcOptions>>
    >,
    Readonly<Record<"netkit/primary" | "netkit/peer", Attaching<NetkitOptions>>>,
    Readonly<Record<"netfilter", Attaching<NetfilterOptions>>>,
    Readonly<Record<CgroupSection, Attaching<CgroupOptions>>>,
    Readonly<Record<"socket" | "sk_reuseport" | "sk_reuseport/migrate", Attaching<SocketOptions>>>,
    Readonly<
      Record<
        "sk_msg" | `sk_skb/${"stream_parser" | "stream_verdict" | "verdict"}`,
        Attaching<SocketMapOptions>
      >
    > {
  perf_event: Attaching<PerfEventOptions, PerfEventsLink>;
  "xdp/devmap": NotAttachable;
  "xdp.frags/devmap": NotAttachable;
  "xdp/cpumap": NotAttachable;
  "xdp.frags/cpumap": NotAttachable;
  action: NotAttachable;
  lwt_in: NotAttachable;
  lwt_out: NotAttachable;
  lwt_xmit: NotAttachable;
  lwt_seg6local: NotAttachable;
  sk_skb: Attaching<SkSkbOptions>;
  sk_lookup: Attaching<NetnsOptions>;
  flow_dissector: Attaching<FlowDissectorOptions>;
  lirc_mode2: NotAttachable;
  "cgroup/skb": Attaching<CgroupSkbOptions>;
  syscall: NotAttachable;
}

/** Sections of programs that run at calls of many functions. */
type TracedFunctionsSection =
  | "fentry.multi"
  | "fentry.multi.s"
  | "fexit.multi"
  | "fexit.multi.s"
  | "fsession.multi"
  | "fsession.multi.s";

/** Sections whose name can end with a target: `"tp"` and `"tp/sched/sched_switch"`. `Target` has the options that it stands for. */
interface TargetableSections extends Readonly<
  Record<TracedFunctionsSection, Targetable<TracedFunctions, CookiesOptions, TracingMultiLink>>
> {
  tp: Targetable<TracepointTarget, CookieOptions>;
  tracepoint: Targetable<TracepointTarget, CookieOptions>;
  raw_tp: Targetable<RawTracepointTarget, CookieOptions>;
  raw_tracepoint: Targetable<RawTracepointTarget, CookieOptions>;
  "raw_tp.w": Targetable<RawTracepointTarget, CookieOptions>;
  "raw_tracepoint.w": Targetable<RawTracepointTarget, CookieOptions>;
  kprobe: Targetable<KprobeTarget, KprobeOptions>;
  kretprobe: Targetable<KprobeTarget, CookieOptions>;
  ksyscall: Targetable<KsyscallTarget, CookieOptions>;
  kretsyscall: Targetable<KsyscallTarget, CookieOptions>;
  "kprobe.multi": Targetable<KprobeMultiTarget, CookiesOptions, KprobeMultiLink>;
  "kretprobe.multi": Targetable<KprobeMultiTarget, CookiesOptions, KprobeMultiLink>;
  "kprobe.session": Targetable<KprobeMultiTarget, CookiesOptions, KprobeMultiLink>;
  uprobe: Targetable<UprobeTarget, UprobeOptions>;
  "uprobe.s": Targetable<UprobeTarget, UprobeOptions>;
  uretprobe: Targetable<UprobeTarget, UprobeOptions>;
  "uretprobe.s": Targetable<UprobeTarget, UprobeOptions>;
  "uprobe.multi": Targetable<UprobeMultiTarget, UprobeMultiOptions>;
  "uprobe.multi.s": Targetable<UprobeMultiTarget, UprobeMultiOptions>;
  "uretprobe.multi": Targetable<UprobeMultiTarget, UprobeMultiOptions>;
  "uretprobe.multi.s": Targetable<UprobeMultiTarget, UprobeMultiOptions>;
  "uprobe.session": Targetable<UprobeMultiTarget, UprobeMultiOptions>;
  "uprobe.session.s": Targetable<UprobeMultiTarget, UprobeMultiOptions>;
  usdt: Targetable<object, never>;
  "usdt.s": Targetable<object, never>;
}

/** The options of a section whose name can end with a target. */
interface Targetable<
  Target extends object,
  Options extends object,
  Result extends Link = Link,
> extends Attaching<Options, Result> {
  readonly target: Target;
}

/** Sections of programs that run at calls of one function. */
type TracedFunctionSection =
  | "fentry"
  | "fentry.s"
  | "fexit"
  | "fexit.s"
  | "fmod_ret"
  | "fmod_ret.s"
  | "fsession"
  | "fsession.s";

/** Sections whose name ends with a target, because programs are loaded for it: `"tp_btf/sched_switch"`. */
interface TargetedSections extends Readonly<
  Record<TracedFunctionSection, Attaching<CookieOptions>>
> {
  tp_btf: Attaching<CookieOptions>;
  freplace: Attaching<ReplacementOptions>;
  lsm: Attaching<CookieOptions>;
  "lsm.s": Attaching<CookieOptions>;
  lsm_cgroup: Attaching<CgroupOptions>;
  iter: Attaching<IteratorOptions, IterLink>;
  "iter.s": Attaching<IteratorOptions, IterLink>;
  struct_ops: NotAttachable;
  "struct_ops.s": NotAttachable;
}

/**
 * The name of a section, as libbpf has it: `"xdp"`, `"tp/sched/sched_switch"`.
 *
 * The parts after the first `/` of `"tp/..."`, `"kprobe/..."` and similar sections are the target. Without it, the options of
 * {@link Program.attach} name the target.
 */
export type SectionName =
  | keyof PlainSections
  | keyof TargetableSections
  | `${keyof TargetableSections | keyof TargetedSections}/${string}`;

type AttachingOf<S extends SectionName> = S extends keyof PlainSections
  ? PlainSections[S]
  : S extends keyof TargetableSections
    ? Attaching<
        TargetableSections[S]["target"] & TargetableSections[S]["options"],
        TargetableSections[S]["link"]
      >
    : S extends `${infer Prefix}/${string}`
      ? Prefix extends keyof TargetableSections
        ? TargetableSections[Prefix]
        : Prefix extends keyof TargetedSections
          ? TargetedSections[Prefix]
          : never
      : never;

/** The options of {@link Program.attach} for programs of a section. `never` if it cannot attach them. */
export type AttachOptions<S extends SectionName> = AttachingOf<S>["options"];

/**
 * The arguments of {@link Program.attach} for programs of a section: the options, which can be left out if all have defaults. For a
 * program whose section is not known when the types are checked, any object.
 */
export type AttachArguments<S extends SectionName> = SectionName extends S
  ? [options?: object]
  : {} extends AttachOptions<S>
    ? [options?: AttachOptions<S>]
    : [options: AttachOptions<S>];

/** The link that {@link Program.attach} returns for programs of a section. */
export type AttachedLink<S extends SectionName> = AttachingOf<S>["link"];

/** The part of a section's name that selects its row: the whole name, or the part before a target. */
export type SectionPrefix = keyof PlainSections | keyof TargetableSections | keyof TargetedSections;

/** The name of a function, or a pattern of names. */
/** The path of a file, and the provider and the name of a marker. */
const fileForm: TargetForm = { example: "/usr/lib/libc.so.6:libc:setjmp", pattern: /^[^\0]+$/ };
const kernelFunction: LoadTarget = { kind: "func", prefix: "", noun: "function" };
const hook: LoadTarget = { kind: "func", prefix: "bpf_lsm_", noun: "security hook" };
const iteratorTarget: LoadTarget = { kind: "func", prefix: "bpf_iter_", noun: "iterator" };
const structOfFunctions: LoadTarget = { kind: "struct", prefix: "", noun: "struct" };
const memberForm: TargetForm = {
  example: "tcp_congestion_ops.ssthresh",
  pattern: /^(?:\w+:)?\w+\.\w+$/,
};
const atMarker =
  'load it with the section "uprobe", and attach it to the offset of the marker (`readelf --notes FILE` lists markers), with that of the semaphore as referenceOffset';
const inDevMap = "store it in an entry of a DevMap or DevMapHash";
const inCpuMap = "store it in an entry of a CpuMap";
const inRoute = "pin it, and run `ip route add PREFIX encap bpf ... pinned PATH`";

/** All sections of libbpf, by the whole name or the part before a target. */
export const sectionRows: Readonly<Record<SectionPrefix, SectionRow>> = {
  // Tracepoints.
  tp: { programType: "tracepoint", method: tracepoint },
  tracepoint: { programType: "tracepoint", method: tracepoint },
  raw_tp: { programType: "raw_tracepoint", method: rawTracepoint },
  raw_tracepoint: { programType: "raw_tracepoint", method: rawTracepoint },
  "raw_tp.w": { programType: "raw_tracepoint_writable", method: rawTracepoint },
  "raw_tracepoint.w": { programType: "raw_tracepoint_writable", method: rawTracepoint },
  tp_btf: {
    programType: "tracing",
    attachType: "trace_raw_tp",
    loadTarget: { kind: "typedef", prefix: "btf_trace_", noun: "tracepoint" },
    method: tracingTracepoint,
  },
  // Functions of the kernel, and system calls.
  kprobe: { programType: "kprobe", method: kprobe },
  kretprobe: { programType: "kprobe", method: kretprobe },
  ksyscall: { programType: "kprobe", method: ksyscall },
  kretsyscall: { programType: "kprobe", method: kretsyscall },
  "kprobe.multi": { programType: "kprobe", attachType: "trace_kprobe_multi", method: kprobeMulti },
  "kretprobe.multi": {
    programType: "kprobe",
    attachType: "trace_kprobe_multi",
    method: kretprobeMulti,
  },
  "kprobe.session": {
    programType: "kprobe",
    attachType: "trace_kprobe_session",
    method: kprobeMulti,
  },
  // Functions and instructions in files.
  uprobe: { programType: "kprobe", method: uprobe },
  "uprobe.s": { programType: "kprobe", method: uprobe, flags: BPF_F_SLEEPABLE },
  uretprobe: { programType: "kprobe", method: uretprobe },
  "uretprobe.s": { programType: "kprobe", method: uretprobe, flags: BPF_F_SLEEPABLE },
  "uprobe.multi": { programType: "kprobe", attachType: "trace_uprobe_multi", method: uprobeMulti },
  "uprobe.multi.s": {
    programType: "kprobe",
    attachType: "trace_uprobe_multi",
    method: uprobeMulti,
    flags: BPF_F_SLEEPABLE,
  },
  "uretprobe.multi": {
    programType: "kprobe",
    attachType: "trace_uprobe_multi",
    method: uretprobeMulti,
  },
  "uretprobe.multi.s": {
    programType: "kprobe",
    attachType: "trace_uprobe_multi",
    method: uretprobeMulti,
    flags: BPF_F_SLEEPABLE,
  },
  "uprobe.session": {
    programType: "kprobe",
    attachType: "trace_uprobe_session",
    method: uprobeMulti,
  },
  "uprobe.session.s": {
    programType: "kprobe",
    attachType: "trace_uprobe_session",
    method: uprobeMulti,
    flags: BPF_F_SLEEPABLE,
  },
  usdt: { programType: "kprobe", target: fileForm, otherUse: atMarker },
  "usdt.s": {
    programType: "kprobe",
    target: fileForm,
    flags: BPF_F_SLEEPABLE,
    otherUse: atMarker,
  },
  // Functions with typed arguments.
  fentry: {
    programType: "tracing",
    attachType: "trace_fentry",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: tracedFunction,
  },
  "fentry.s": {
    programType: "tracing",
    attachType: "trace_fentry",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: tracedFunction,
    flags: BPF_F_SLEEPABLE,
  },
  fexit: {
    programType: "tracing",
    attachType: "trace_fexit",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: tracedFunction,
  },
  "fexit.s": {
    programType: "tracing",
    attachType: "trace_fexit",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: tracedFunction,
    flags: BPF_F_SLEEPABLE,
  },
  fmod_ret: {
    programType: "tracing",
    since: "5.7",
    attachType: "modify_return",
    loadTarget: kernelFunction,
    method: tracedFunction,
  },
  "fmod_ret.s": {
    programType: "tracing",
    since: "5.7",
    attachType: "modify_return",
    loadTarget: kernelFunction,
    method: tracedFunction,
    flags: BPF_F_SLEEPABLE,
  },
  fsession: {
    programType: "tracing",
    since: "7.0",
    attachType: "trace_fsession",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: tracedFunction,
  },
  "fsession.s": {
    programType: "tracing",
    since: "7.0",
    attachType: "trace_fsession",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: tracedFunction,
    flags: BPF_F_SLEEPABLE,
  },
  "fentry.multi": {
    programType: "tracing",
    since: "7.2",
    attachType: "trace_fentry_multi",
    method: tracedFunctions,
  },
  "fentry.multi.s": {
    programType: "tracing",
    since: "7.2",
    attachType: "trace_fentry_multi",
    method: tracedFunctions,
    flags: BPF_F_SLEEPABLE,
  },
  "fexit.multi": {
    programType: "tracing",
    since: "7.2",
    attachType: "trace_fexit_multi",
    method: tracedFunctions,
  },
  "fexit.multi.s": {
    programType: "tracing",
    since: "7.2",
    attachType: "trace_fexit_multi",
    method: tracedFunctions,
    flags: BPF_F_SLEEPABLE,
  },
  "fsession.multi": {
    programType: "tracing",
    since: "7.2",
    attachType: "trace_fsession_multi",
    method: tracedFunctions,
  },
  "fsession.multi.s": {
    programType: "tracing",
    since: "7.2",
    attachType: "trace_fsession_multi",
    method: tracedFunctions,
    flags: BPF_F_SLEEPABLE,
  },
  freplace: {
    programType: "ext",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: replacement,
  },
  lsm: {
    programType: "lsm",
    attachType: "lsm_mac",
    loadTarget: hook,
    method: securityHook,
  },
  "lsm.s": {
    programType: "lsm",
    attachType: "lsm_mac",
    loadTarget: hook,
    method: securityHook,
    flags: BPF_F_SLEEPABLE,
  },
  lsm_cgroup: {
    programType: "lsm",
    since: "6.0",
    attachType: "lsm_cgroup",
    loadTarget: hook,
    method: lsmCgroup,
  },
  iter: {
    programType: "tracing",
    since: "5.8",
    attachType: "trace_iter",
    loadTarget: iteratorTarget,
    method: iterator,
  },
  "iter.s": {
    programType: "tracing",
    since: "5.8",
    attachType: "trace_iter",
    loadTarget: iteratorTarget,
    method: iterator,
    flags: BPF_F_SLEEPABLE,
  },
  struct_ops: {
    programType: "struct_ops",
    loadTarget: structOfFunctions,
    target: memberForm,
    otherUse: "store it in a struct_ops map",
  },
  "struct_ops.s": {
    programType: "struct_ops",
    flags: BPF_F_SLEEPABLE,
    loadTarget: structOfFunctions,
    target: memberForm,
    otherUse: "store it in a struct_ops map",
  },
  // Events.
  perf_event: { programType: "perf_event", method: perfEvent },
  // Packets.
  xdp: { programType: "xdp", attachType: "xdp", isAttachTypeOptional: true, method: xdp },
  "xdp.frags": { programType: "xdp", attachType: "xdp", flags: BPF_F_XDP_HAS_FRAGS, method: xdp },
  "xdp/devmap": { programType: "xdp", attachType: "xdp_devmap", otherUse: inDevMap },
  "xdp.frags/devmap": {
    programType: "xdp",
    attachType: "xdp_devmap",
    flags: BPF_F_XDP_HAS_FRAGS,
    otherUse: inDevMap,
  },
  "xdp/cpumap": { programType: "xdp", attachType: "xdp_cpumap", otherUse: inCpuMap },
  "xdp.frags/cpumap": {
    programType: "xdp",
    attachType: "xdp_cpumap",
    flags: BPF_F_XDP_HAS_FRAGS,
    otherUse: inCpuMap,
  },
  "tc/ingress": {
    programType: "sched_cls",
    attachType: "tcx_ingress",
    isAttachTypeOptional: true,
    method: tc,
  },
  "tcx/ingress": {
    programType: "sched_cls",
    attachType: "tcx_ingress",
    isAttachTypeOptional: true,
    method: tc,
  },
  "tc/egress": {
    programType: "sched_cls",
    attachType: "tcx_egress",
    isAttachTypeOptional: true,
    method: tc,
  },
  "tcx/egress": {
    programType: "sched_cls",
    attachType: "tcx_egress",
    isAttachTypeOptional: true,
    method: tc,
  },
  tc: { programType: "sched_cls", method: directedTc },
  classifier: { programType: "sched_cls", method: directedTc },
  action: {
    programType: "sched_act",
    otherUse: "pin it, and use `action bpf object-pinned PATH` in a filter of tc(8)",
  },
  "netkit/primary": { programType: "sched_cls", attachType: "netkit_primary", method: netkit },
  "netkit/peer": { programType: "sched_cls", attachType: "netkit_peer", method: netkit },
  netfilter: { programType: "netfilter", attachType: "netfilter", method: netfilter },
  lwt_in: { programType: "lwt_in", otherUse: inRoute },
  lwt_out: { programType: "lwt_out", otherUse: inRoute },
  lwt_xmit: { programType: "lwt_xmit", otherUse: inRoute },
  lwt_seg6local: { programType: "lwt_seg6local", otherUse: inRoute },
  // Sockets and network namespaces.
  socket: { programType: "socket_filter", method: socketFilter },
  sk_reuseport: {
    programType: "sk_reuseport",
    attachType: "sk_reuseport_select",
    isAttachTypeOptional: true,
    method: socketGroup,
  },
  "sk_reuseport/migrate": {
    programType: "sk_reuseport",
    attachType: "sk_reuseport_select_or_migrate",
    method: socketGroup,
  },
  sk_msg: {
    programType: "sk_msg",
    attachType: "sk_msg_verdict",
    isAttachTypeOptional: true,
    method: socketMap,
  },
  sk_skb: { programType: "sk_skb", method: skSkb },
  "sk_skb/stream_parser": {
    programType: "sk_skb",
    attachType: "sk_skb_stream_parser",
    isAttachTypeOptional: true,
    method: socketMap,
  },
  "sk_skb/stream_verdict": {
    programType: "sk_skb",
    attachType: "sk_skb_stream_verdict",
    isAttachTypeOptional: true,
    method: socketMap,
  },
  "sk_skb/verdict": {
    programType: "sk_skb",
    attachType: "sk_skb_verdict",
    isAttachTypeOptional: true,
    method: socketMap,
  },
  sk_lookup: { programType: "sk_lookup", attachType: "sk_lookup", method: skLookup },
  flow_dissector: {
    programType: "flow_dissector",
    attachType: "flow_dissector",
    isAttachTypeOptional: true,
    method: flowDissector,
  },
  lirc_mode2: {
    programType: "lirc_mode2",
    attachType: "lirc_mode2",
    isAttachTypeOptional: true,
    otherUse: "pin it, and run `ir-keytable --protocol PATH`",
  },
  // Cgroups.
  "cgroup_skb/ingress": {
    programType: "cgroup_skb",
    attachType: "cgroup_inet_ingress",
    isAttachTypeOptional: true,
    method: cgroup,
  },
  "cgroup_skb/egress": {
    programType: "cgroup_skb",
    attachType: "cgroup_inet_egress",
    isAttachTypeOptional: true,
    method: cgroup,
  },
  "cgroup/skb": { programType: "cgroup_skb", method: cgroupSkb },
  "cgroup/sock_create": {
    programType: "cgroup_sock",
    attachType: "cgroup_inet_sock_create",
    method: cgroup,
  },
  "cgroup/sock_release": {
    programType: "cgroup_sock",
    attachType: "cgroup_inet_sock_release",
    method: cgroup,
  },
  "cgroup/sock": {
    programType: "cgroup_sock",
    attachType: "cgroup_inet_sock_create",
    isAttachTypeOptional: true,
    method: cgroup,
  },
  "cgroup/post_bind4": {
    programType: "cgroup_sock",
    attachType: "cgroup_inet4_post_bind",
    method: cgroup,
  },
  "cgroup/post_bind6": {
    programType: "cgroup_sock",
    attachType: "cgroup_inet6_post_bind",
    method: cgroup,
  },
  "cgroup/bind4": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet4_bind",
    method: cgroup,
  },
  "cgroup/bind6": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet6_bind",
    method: cgroup,
  },
  "cgroup/connect4": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet4_connect",
    method: cgroup,
  },
  "cgroup/connect6": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet6_connect",
    method: cgroup,
  },
  "cgroup/connect_unix": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_unix_connect",
    method: cgroup,
  },
  "cgroup/sendmsg4": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_udp4_sendmsg",
    method: cgroup,
  },
  "cgroup/sendmsg6": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_udp6_sendmsg",
    method: cgroup,
  },
  "cgroup/sendmsg_unix": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_unix_sendmsg",
    method: cgroup,
  },
  "cgroup/recvmsg4": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_udp4_recvmsg",
    method: cgroup,
  },
  "cgroup/recvmsg6": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_udp6_recvmsg",
    method: cgroup,
  },
  "cgroup/recvmsg_unix": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_unix_recvmsg",
    method: cgroup,
  },
  "cgroup/getpeername4": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet4_getpeername",
    method: cgroup,
  },
  "cgroup/getpeername6": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet6_getpeername",
    method: cgroup,
  },
  "cgroup/getpeername_unix": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_unix_getpeername",
    method: cgroup,
  },
  "cgroup/getsockname4": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet4_getsockname",
    method: cgroup,
  },
  "cgroup/getsockname6": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_inet6_getsockname",
    method: cgroup,
  },
  "cgroup/getsockname_unix": {
    programType: "cgroup_sock_addr",
    attachType: "cgroup_unix_getsockname",
    method: cgroup,
  },
  "cgroup/sysctl": { programType: "cgroup_sysctl", attachType: "cgroup_sysctl", method: cgroup },
  "cgroup/getsockopt": {
    programType: "cgroup_sockopt",
    attachType: "cgroup_getsockopt",
    method: cgroup,
  },
  "cgroup/setsockopt": {
    programType: "cgroup_sockopt",
    attachType: "cgroup_setsockopt",
    method: cgroup,
  },
  "cgroup/dev": {
    programType: "cgroup_device",
    attachType: "cgroup_device",
    isAttachTypeOptional: true,
    method: cgroup,
  },
  sockops: {
    programType: "sock_ops",
    attachType: "cgroup_sock_ops",
    isAttachTypeOptional: true,
    method: cgroup,
  },
  // Programs that user space runs.
  syscall: {
    programType: "syscall",
    flags: BPF_F_SLEEPABLE,
    otherUse: "run it with testRun()",
  },
};

/** A section, parsed from its name. */
export interface Section {
  /** The whole name: `"tp_btf/sched_switch"`. */
  readonly name: string;
  readonly row: SectionRow;
  /** The part after the prefix; `undefined` if the name has no target. */
  readonly target: string | undefined;
}

/**
 * Parses the name of a section.
 *
 * @throws {TypeError} if the section is unknown, lacks a required target, or has a target although its row has none.
 */
export function parseSection(name: string): Section {
  if (typeof name !== "string") {
    throw new TypeError(
      `section: expected a name such as "tp_btf/sched_switch", got ${describe(name)}`,
    );
  }
  const slash = Object.hasOwn(sectionRows, name) ? -1 : name.indexOf("/");
  const prefix = slash === -1 ? name : name.slice(0, slash);
  const target = slash === -1 ? undefined : name.slice(slash + 1);
  const row = Object.hasOwn(sectionRows, prefix) ? sectionRows[prefix as SectionPrefix] : undefined;
  if (row === undefined) throw unknownSection(name);
  const form = targetForm(row);
  if (target !== undefined && form === undefined) {
    throw new TypeError(`section: ${prefix} takes no target, got ${describe(name)}`);
  }
  if (target === "" || (row.loadTarget !== undefined && target === undefined)) {
    throw new TypeError(
      `section: ${prefix} needs a target, as in "${prefix}/${form?.example}", got ${describe(name)}`,
    );
  }
  if (target !== undefined && form !== undefined) checkTarget("section", form, target);
  return { name, row, target };
}

/** Returns the form of the targets of a section; `undefined` if it takes none. */
function targetForm({ method, target }: SectionRow): TargetForm | undefined {
  return method?.target ?? target;
}

/** Makes the error for an unknown section, with a similar one. */
function unknownSection(name: string): TypeError {
  const known = Object.keys(sectionRows);
  const whole = suggestion(name, known);
  const slash = name.indexOf("/");
  const hint = whole ?? suggest(slash === -1 ? name : name.slice(0, slash), known);
  return new TypeError(`section: unknown ${describe(name)}: ${hint}`);
}
