/** @module The types of sections: their names, and the options of `attach()` for each. */

import type { FdLike } from "../handle/fd_like.ts";
import type { CookieOptions, CookiesOptions } from "../link/attach_method.ts";
import type { IteratorOptions } from "../link/iterator.ts";
import type { IterLink } from "../link/iterator_link.ts";
import type { KprobeOptions, KprobeTarget, KsyscallTarget } from "../link/kprobe.ts";
import type { KprobeMultiLink, KprobeMultiTarget } from "../link/kprobe_multi.ts";
import type { CgroupOptions, CgroupSkbOptions } from "../link/cgroup.ts";
import type { Link } from "../link/link.ts";
import type { BreakpointEvent } from "../link/perf_counters.ts";
import type { PerfEventOptions } from "../link/perf_event_program.ts";
import type { PerfEventsLink } from "../link/perf_events_link.ts";
import type { FlowDissectorOptions } from "../link/netns.ts";
import type { NetnsOptions } from "../link/network_target.ts";
import type { NetfilterOptions } from "../link/netfilter.ts";
import type { NetkitOptions } from "../link/netkit.ts";
import type { RawTracepointTarget } from "../link/raw_tracepoint.ts";
import type { SkSkbOptions, SocketMapOptions } from "../link/socket_map.ts";
import type { SocketOptions } from "../link/sockets.ts";
import type { DirectedTcOptions, TcOptions } from "../link/tc.ts";
import type { TracepointTarget } from "../link/tracepoint.ts";
import type { ReplacementOptions } from "../link/trampoline.ts";
import type { TracedFunctions, TracingMultiLink } from "../link/trampoline_multi.ts";
import type {
  UprobeMultiOptions,
  UprobeMultiTarget,
  UprobeOptions,
  UprobeTarget,
} from "../link/uprobe.ts";
import type { XdpOptions } from "../link/xdp.ts";

/** The options of `attach()` for a section, and the link that it returns. */
interface Attaching<Options extends object, Result extends Link = Link> {
  readonly options: Options;
  readonly link: Result;
}

/** Sections that `attach()` cannot attach. */
type NotAttachable = Attaching<never>;

/** The rate of a perf event: one of two options; breakpoints have a default. */
type SampleRate =
  | { readonly frequency: number; readonly period?: never }
  | { readonly period: number | bigint; readonly frequency?: never }
  | { readonly event: BreakpointEvent; readonly frequency?: never; readonly period?: never };

/** The option `replace` of XDP programs, which needs the method `"netlink"`. */
type XdpReplacement = { readonly replace?: false } | { readonly method: "netlink" };

/** The order of classifiers, which classic filters do not have. */
type TcOrder =
  | { readonly method?: "tcx" }
  | {
      readonly method: "netlink";
      readonly before?: never;
      readonly after?: never;
      readonly expectedRevision?: never;
    };

/** Options that limit an iterator to a process or a thread, of which at most one is given. */
type OneProcess =
  | { readonly tid?: never; readonly pidfd?: never }
  | { readonly pid?: never; readonly pidfd?: never }
  | { readonly pid?: never; readonly tid?: never };

/** The options of an iterator. Those over the elements of a map need the map. */
type IteratorOptionsOf<Target extends string> = IteratorOptions &
  (Target extends "task" | "task_file" | "task_vma" ? OneProcess : unknown) &
  (Target extends "bpf_map_elem" | "bpf_sk_storage_map" | "sockmap"
    ? { readonly map: FdLike }
    : unknown);

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
    Readonly<Record<"xdp" | "xdp.frags", Attaching<XdpOptions & XdpReplacement>>>,
    Readonly<Record<"tc" | "classifier", Attaching<DirectedTcOptions & TcOrder>>>,
    Readonly<
      Record<
        "tc/ingress" | "tcx/ingress" | "tc/egress" | "tcx/egress",
        Attaching<TcOptions & TcOrder>
      >
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
  perf_event: Attaching<PerfEventOptions & SampleRate, PerfEventsLink>;
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
    : S extends `${infer Prefix}/${infer Target}`
      ? Prefix extends "iter" | "iter.s"
        ? Attaching<IteratorOptionsOf<Target>, IterLink>
        : Prefix extends keyof TargetableSections
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
