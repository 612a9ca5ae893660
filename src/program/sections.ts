/**
 * @module Sections by libbpf's names: a row for each name, or for each prefix before a target. Code that is written by hand, object
 * files, probes and the documentation read the rows.
 */

import { describe } from "../check/describe.ts";
import { suggest, suggestion } from "../check/names.ts";
import type { AttachTypeName, ProgramTypeName } from "../ffi/bpf_prog.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { type AttachMethod, type TargetForm, checkTarget } from "../link/attach_method.ts";
import { iterator } from "../link/iterator.ts";
import { kprobe, kretprobe, kretsyscall, ksyscall } from "../link/kprobe.ts";
import { kprobeMulti, kretprobeMulti } from "../link/kprobe_multi.ts";
import { cgroup, cgroupSkb, lsmCgroup } from "../link/cgroup.ts";
import { perfEvent } from "../link/perf_event_program.ts";
import { flowDissector, skLookup } from "../link/netns.ts";
import { netfilter } from "../link/netfilter.ts";
import { netkit } from "../link/netkit.ts";
import { rawTracepoint, tracingTracepoint } from "../link/raw_tracepoint.ts";
import { skSkb, socketMap } from "../link/socket_map.ts";
import { socketFilter, socketGroup } from "../link/sockets.ts";
import { directedTc, tc } from "../link/tc.ts";
import { tracepoint } from "../link/tracepoint.ts";
import { replacement, securityHook, tracedFunction } from "../link/trampoline.ts";
import { tracedFunctions } from "../link/trampoline_multi.ts";
import { uprobe, uprobeMulti, uretprobe, uretprobeMulti } from "../link/uprobe.ts";
import { xdp } from "../link/xdp.ts";
import { BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS } from "../uapi/bpf.ts";
import type { SectionPrefix } from "./section_types.ts";

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

const tracepointTarget: LoadTarget = {
  kind: "typedef",
  prefix: "btf_trace_",
  noun: "tracepoint",
};

/** Returns the row of the section for programs that may sleep. */
function sleepable(row: SectionRow): SectionRow {
  return { ...row, flags: BPF_F_SLEEPABLE };
}

/** Returns the row of a section whose attach type older kernels do not know. */
function optional(row: SectionRow): SectionRow {
  return { ...row, isAttachTypeOptional: true };
}

/** Returns the row of a section for functions of the kernel or of BPF programs. */
function traced(attachType: AttachTypeName, since?: KernelVersion): SectionRow {
  const row = { programType: "tracing", attachType, loadTarget: kernelFunction } as const;
  return { ...row, isForPrograms: true, method: tracedFunction, ...(since && { since }) };
}

const changedFunction: SectionRow = {
  programType: "tracing",
  since: "5.7",
  attachType: "modify_return",
  loadTarget: kernelFunction,
  method: tracedFunction,
};

function tracedMany(attachType: AttachTypeName): SectionRow {
  return { programType: "tracing", since: "7.2", attachType, method: tracedFunctions };
}

function onCgroup(programType: ProgramTypeName, attachType: AttachTypeName): SectionRow {
  return { programType, attachType, method: cgroup };
}

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
    loadTarget: tracepointTarget,
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
  "uprobe.s": sleepable({ programType: "kprobe", method: uprobe }),
  uretprobe: { programType: "kprobe", method: uretprobe },
  "uretprobe.s": sleepable({ programType: "kprobe", method: uretprobe }),
  "uprobe.multi": { programType: "kprobe", attachType: "trace_uprobe_multi", method: uprobeMulti },
  "uprobe.multi.s": sleepable({
    programType: "kprobe",
    attachType: "trace_uprobe_multi",
    method: uprobeMulti,
  }),
  "uretprobe.multi": {
    programType: "kprobe",
    attachType: "trace_uprobe_multi",
    method: uretprobeMulti,
  },
  "uretprobe.multi.s": sleepable({
    programType: "kprobe",
    attachType: "trace_uprobe_multi",
    method: uretprobeMulti,
  }),
  "uprobe.session": {
    programType: "kprobe",
    attachType: "trace_uprobe_session",
    method: uprobeMulti,
  },
  "uprobe.session.s": sleepable({
    programType: "kprobe",
    attachType: "trace_uprobe_session",
    method: uprobeMulti,
  }),
  usdt: { programType: "kprobe", target: fileForm, otherUse: atMarker },
  "usdt.s": sleepable({ programType: "kprobe", target: fileForm, otherUse: atMarker }),
  // Functions with typed arguments.
  fentry: traced("trace_fentry"),
  "fentry.s": sleepable(traced("trace_fentry")),
  fexit: traced("trace_fexit"),
  "fexit.s": sleepable(traced("trace_fexit")),
  fmod_ret: changedFunction,
  "fmod_ret.s": sleepable(changedFunction),
  fsession: traced("trace_fsession", "7.0"),
  "fsession.s": sleepable(traced("trace_fsession", "7.0")),
  "fentry.multi": tracedMany("trace_fentry_multi"),
  "fentry.multi.s": sleepable(tracedMany("trace_fentry_multi")),
  "fexit.multi": tracedMany("trace_fexit_multi"),
  "fexit.multi.s": sleepable(tracedMany("trace_fexit_multi")),
  "fsession.multi": tracedMany("trace_fsession_multi"),
  "fsession.multi.s": sleepable(tracedMany("trace_fsession_multi")),
  freplace: {
    programType: "ext",
    loadTarget: kernelFunction,
    isForPrograms: true,
    method: replacement,
  },
  lsm: { programType: "lsm", attachType: "lsm_mac", loadTarget: hook, method: securityHook },
  "lsm.s": sleepable({
    programType: "lsm",
    attachType: "lsm_mac",
    loadTarget: hook,
    method: securityHook,
  }),
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
  "iter.s": sleepable({
    programType: "tracing",
    since: "5.8",
    attachType: "trace_iter",
    loadTarget: iteratorTarget,
    method: iterator,
  }),
  struct_ops: {
    programType: "struct_ops",
    loadTarget: structOfFunctions,
    target: memberForm,
    otherUse: "store it in a struct_ops map",
  },
  "struct_ops.s": sleepable({
    programType: "struct_ops",
    loadTarget: structOfFunctions,
    target: memberForm,
    otherUse: "store it in a struct_ops map",
  }),
  // Events.
  perf_event: { programType: "perf_event", method: perfEvent },
  // Packets.
  xdp: optional({ programType: "xdp", attachType: "xdp", method: xdp }),
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
  "tc/ingress": optional({ programType: "sched_cls", attachType: "tcx_ingress", method: tc }),
  "tcx/ingress": optional({ programType: "sched_cls", attachType: "tcx_ingress", method: tc }),
  "tc/egress": optional({ programType: "sched_cls", attachType: "tcx_egress", method: tc }),
  "tcx/egress": optional({ programType: "sched_cls", attachType: "tcx_egress", method: tc }),
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
  sk_reuseport: optional({
    programType: "sk_reuseport",
    attachType: "sk_reuseport_select",
    method: socketGroup,
  }),
  "sk_reuseport/migrate": {
    programType: "sk_reuseport",
    attachType: "sk_reuseport_select_or_migrate",
    method: socketGroup,
  },
  sk_msg: optional({ programType: "sk_msg", attachType: "sk_msg_verdict", method: socketMap }),
  sk_skb: { programType: "sk_skb", method: skSkb },
  "sk_skb/stream_parser": optional({
    programType: "sk_skb",
    attachType: "sk_skb_stream_parser",
    method: socketMap,
  }),
  "sk_skb/stream_verdict": optional({
    programType: "sk_skb",
    attachType: "sk_skb_stream_verdict",
    method: socketMap,
  }),
  "sk_skb/verdict": optional({
    programType: "sk_skb",
    attachType: "sk_skb_verdict",
    method: socketMap,
  }),
  sk_lookup: { programType: "sk_lookup", attachType: "sk_lookup", method: skLookup },
  flow_dissector: optional({
    programType: "flow_dissector",
    attachType: "flow_dissector",
    method: flowDissector,
  }),
  lirc_mode2: optional({
    programType: "lirc_mode2",
    attachType: "lirc_mode2",
    otherUse: "pin it, and run `ir-keytable --protocol PATH`",
  }),
  // Cgroups.
  "cgroup_skb/ingress": optional(onCgroup("cgroup_skb", "cgroup_inet_ingress")),
  "cgroup_skb/egress": optional(onCgroup("cgroup_skb", "cgroup_inet_egress")),
  "cgroup/skb": { programType: "cgroup_skb", method: cgroupSkb },
  "cgroup/sock_create": onCgroup("cgroup_sock", "cgroup_inet_sock_create"),
  "cgroup/sock_release": onCgroup("cgroup_sock", "cgroup_inet_sock_release"),
  "cgroup/sock": optional(onCgroup("cgroup_sock", "cgroup_inet_sock_create")),
  "cgroup/post_bind4": onCgroup("cgroup_sock", "cgroup_inet4_post_bind"),
  "cgroup/post_bind6": onCgroup("cgroup_sock", "cgroup_inet6_post_bind"),
  "cgroup/bind4": onCgroup("cgroup_sock_addr", "cgroup_inet4_bind"),
  "cgroup/bind6": onCgroup("cgroup_sock_addr", "cgroup_inet6_bind"),
  "cgroup/connect4": onCgroup("cgroup_sock_addr", "cgroup_inet4_connect"),
  "cgroup/connect6": onCgroup("cgroup_sock_addr", "cgroup_inet6_connect"),
  "cgroup/connect_unix": onCgroup("cgroup_sock_addr", "cgroup_unix_connect"),
  "cgroup/sendmsg4": onCgroup("cgroup_sock_addr", "cgroup_udp4_sendmsg"),
  "cgroup/sendmsg6": onCgroup("cgroup_sock_addr", "cgroup_udp6_sendmsg"),
  "cgroup/sendmsg_unix": onCgroup("cgroup_sock_addr", "cgroup_unix_sendmsg"),
  "cgroup/recvmsg4": onCgroup("cgroup_sock_addr", "cgroup_udp4_recvmsg"),
  "cgroup/recvmsg6": onCgroup("cgroup_sock_addr", "cgroup_udp6_recvmsg"),
  "cgroup/recvmsg_unix": onCgroup("cgroup_sock_addr", "cgroup_unix_recvmsg"),
  "cgroup/getpeername4": onCgroup("cgroup_sock_addr", "cgroup_inet4_getpeername"),
  "cgroup/getpeername6": onCgroup("cgroup_sock_addr", "cgroup_inet6_getpeername"),
  "cgroup/getpeername_unix": onCgroup("cgroup_sock_addr", "cgroup_unix_getpeername"),
  "cgroup/getsockname4": onCgroup("cgroup_sock_addr", "cgroup_inet4_getsockname"),
  "cgroup/getsockname6": onCgroup("cgroup_sock_addr", "cgroup_inet6_getsockname"),
  "cgroup/getsockname_unix": onCgroup("cgroup_sock_addr", "cgroup_unix_getsockname"),
  "cgroup/sysctl": onCgroup("cgroup_sysctl", "cgroup_sysctl"),
  "cgroup/getsockopt": onCgroup("cgroup_sockopt", "cgroup_getsockopt"),
  "cgroup/setsockopt": onCgroup("cgroup_sockopt", "cgroup_setsockopt"),
  "cgroup/dev": optional(onCgroup("cgroup_device", "cgroup_device")),
  sockops: optional(onCgroup("sock_ops", "cgroup_sock_ops")),
  // Programs that user space runs.
  syscall: { programType: "syscall", flags: BPF_F_SLEEPABLE, otherUse: "run it with testRun()" },
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
