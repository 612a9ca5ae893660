/** @module The kernel's program types, one row each. Sections, probes, test runs and the documentation read the rows. */

import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import type { ContextReturn } from "../ffi/bpf_test_run.ts";
import type { Capability } from "../ffi/capabilities.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import type { SectionName } from "./section_types.ts";

/** The input of test runs of a program type. */
export interface TestInput {
  /** The packet (data) and the context (ctx). */
  readonly form: "packet" | "arguments" | "context" | "nothing";
  /** The struct of the context, in the kernel's BTF. */
  readonly context?: "__sk_buff" | "xdp_md" | "bpf_sk_lookup" | "bpf_flow_keys" | "nf_hook_state";
  /** Options beside data, ctx and repeat. */
  readonly options?: readonly ("cpu" | "live" | "batchSize" | "checksumComplete")[];
}

/** A row of {@link programTypes}: one program type. */
export interface ProgramType {
  /** The first kernel version whose headers name the type. */
  readonly since: KernelVersion;
  /** Options of the kernel's build that the type needs. */
  readonly config?: readonly string[];
  /** Capabilities that loading a program needs. */
  readonly needs: readonly Capability[];
  /** A section whose smallest program of two instructions probes load. */
  readonly section: SectionName;
  /** Input that test runs take; `undefined` for types without test runs. */
  readonly testInput?: TestInput;
  /** The place where BPF_PROG_TEST_RUN writes the modified context, if anywhere. */
  readonly contextReturn?: ContextReturn;
}

const basic = { needs: ["CAP_BPF"] } as const;
const tracing = { needs: ["CAP_BPF", "CAP_PERFMON"] } as const;
const networking = { needs: ["CAP_BPF", "CAP_NET_ADMIN"], config: ["CONFIG_NET"] } as const;
const events = { ...tracing, config: ["CONFIG_BPF_EVENTS"] } as const;
const cgroup = { ...networking, config: ["CONFIG_CGROUP_BPF"] } as const;
const internet = { ...networking, config: ["CONFIG_INET"] } as const;
const skb: TestInput = { form: "packet", context: "__sk_buff", options: ["checksumComplete"] };
const argumentsOfTracepoint: TestInput = { form: "arguments", options: ["cpu"] };
/** Types whose programs get a packet. */
const packets = { ...networking, testInput: skb, contextReturn: "copied" } as const;
const lightweightTunnel = { ...packets, config: ["CONFIG_LWTUNNEL_BPF"] } as const;
/** Options of types whose target is a type of the kernel's BTF. */
const typed = ["CONFIG_DEBUG_INFO_BTF"] as const;

/** All program types, in the kernel's order. */
export const programTypes: Readonly<Record<ProgramTypeName, ProgramType>> = {
  socket_filter: {
    since: "3.19",
    section: "socket",
    ...basic,
    testInput: skb,
    contextReturn: "copied",
  },
  kprobe: { since: "4.1", section: "kprobe", ...events },
  sched_cls: { since: "4.1", section: "tc", ...packets },
  sched_act: { since: "4.1", section: "action", ...packets },
  tracepoint: { since: "4.7", section: "tp", ...events },
  xdp: {
    since: "4.8",
    section: "xdp",
    ...packets,
    testInput: { form: "packet", context: "xdp_md", options: ["live", "batchSize"] },
  },
  perf_event: { since: "4.9", section: "perf_event", ...events },
  cgroup_skb: {
    since: "4.10",
    section: "cgroup/skb",
    ...cgroup,
    testInput: skb,
    contextReturn: "copied",
  },
  cgroup_sock: { since: "4.10", section: "cgroup/sock", ...cgroup },
  lwt_in: { since: "4.10", section: "lwt_in", ...lightweightTunnel },
  lwt_out: { since: "4.10", section: "lwt_out", ...lightweightTunnel },
  lwt_xmit: { since: "4.10", section: "lwt_xmit", ...lightweightTunnel },
  sock_ops: { since: "4.13", section: "sockops", ...networking },
  sk_skb: { since: "4.14", section: "sk_skb", ...networking },
  cgroup_device: { since: "4.15", section: "cgroup/dev", ...cgroup },
  sk_msg: { since: "4.17", section: "sk_msg", ...networking },
  raw_tracepoint: { since: "4.17", section: "raw_tp", ...events, testInput: argumentsOfTracepoint },
  cgroup_sock_addr: { since: "4.17", section: "cgroup/connect4", ...cgroup },
  lwt_seg6local: {
    since: "4.18",
    section: "lwt_seg6local",
    ...packets,
    config: ["CONFIG_LWTUNNEL_BPF", "CONFIG_IPV6_SEG6_BPF"],
  },
  lirc_mode2: {
    since: "4.18",
    section: "lirc_mode2",
    ...networking,
    config: ["CONFIG_BPF_LIRC_MODE2"],
  },
  sk_reuseport: { since: "4.19", section: "sk_reuseport", ...internet },
  flow_dissector: {
    since: "4.20",
    section: "flow_dissector",
    ...networking,
    testInput: { form: "packet", context: "bpf_flow_keys" },
    contextReturn: "copied",
  },
  cgroup_sysctl: { since: "5.2", section: "cgroup/sysctl", ...cgroup },
  raw_tracepoint_writable: {
    since: "5.2",
    section: "raw_tp.w",
    ...events,
    testInput: argumentsOfTracepoint,
  },
  cgroup_sockopt: { since: "5.3", section: "cgroup/setsockopt", ...cgroup },
  tracing: {
    since: "5.5",
    section: "tp_btf/sched_switch",
    ...tracing,
    config: [...typed, "CONFIG_BPF_EVENTS"],
    testInput: { form: "nothing" },
  },
  struct_ops: {
    since: "5.6",
    section: "struct_ops/tcp_congestion_ops.ssthresh",
    config: [...typed, "CONFIG_BPF_JIT", "CONFIG_INET"],
    needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  },
  ext: {
    since: "5.6",
    section: "freplace/replaceable",
    config: ["CONFIG_BPF_JIT"],
    // CAP_SYS_ADMIN is needed to read the types of the program whose function it replaces.
    needs: [...tracing.needs, "CAP_SYS_ADMIN"],
  },
  lsm: {
    since: "5.7",
    section: "lsm/file_open",
    ...tracing,
    config: [...typed, "CONFIG_BPF_JIT", "CONFIG_BPF_LSM"],
  },
  sk_lookup: {
    since: "5.9",
    section: "sk_lookup",
    ...internet,
    testInput: { form: "context", context: "bpf_sk_lookup" },
    contextReturn: "copied",
  },
  syscall: {
    since: "5.14",
    section: "syscall",
    ...basic,
    testInput: { form: "context" },
    contextReturn: "in place",
  },
  netfilter: {
    since: "6.4",
    section: "netfilter",
    ...networking,
    config: ["CONFIG_NETFILTER_BPF_LINK"],
    testInput: { form: "packet", context: "nf_hook_state" },
  },
};
