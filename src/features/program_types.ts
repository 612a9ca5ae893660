import { assemble } from "../asm/assembler.ts";
import type { Code } from "../asm/instruction.ts";
import { keyword, type Keyword } from "../check/names.ts";
import type { ProbeAnswer } from "./feature.ts";
import {
  findTarget,
  type FoundTarget,
  type ProgramTarget,
  returnZero,
} from "./smallest_program.ts";
import { tryLoadProgram } from "../ffi/bpf_prog.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, errnoName } from "../ffi/error.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { BPF_F_SLEEPABLE } from "../uapi/bpf.ts";
import { bpfAttachTypes, bpfProgTypes } from "../uapi/enumerations.ts";

type KernelName = Exclude<keyof typeof bpfProgTypes, "UNSPEC">;

/** A type of program that {@link Features.programType} knows: the kernel's `BPF_PROG_TYPE_SCHED_CLS` is `"sched_cls"`. */
export type ProgramTypeKeyword = Keyword<KernelName>;

/** A type of program: since when, on what it depends, and what the smallest one is loaded with. */
export interface ProgramTypeFacts {
  readonly name: KernelName;
  readonly since: KernelVersion;
  readonly config?: readonly string[];
  readonly attachType?: keyof typeof bpfAttachTypes;
  readonly target?: ProgramTarget;
  readonly isSleepable?: boolean;
  readonly needs: readonly Capability[];
}

const basic = { needs: ["CAP_BPF"] } as const;
const tracing = { needs: ["CAP_BPF", "CAP_PERFMON"] } as const;
const networking = { needs: ["CAP_BPF", "CAP_NET_ADMIN"], config: ["CONFIG_NET"] } as const;
const internet = { ...networking, config: ["CONFIG_INET"] };
const events = { ...tracing, config: ["CONFIG_BPF_EVENTS"] };
const cgroup = { ...networking, config: ["CONFIG_CGROUP_BPF"] };
const lightweightTunnel = { ...networking, config: ["CONFIG_LWTUNNEL_BPF"] };
/** Of types whose place is found in the kernel's own types. */
const typed = ["CONFIG_DEBUG_INFO_BTF"];

/** The kernel's types of programs, by number. Versions: the tags that the enumeration's members first appear in. */
const facts: readonly ProgramTypeFacts[] = [
  { name: "SOCKET_FILTER", since: "3.19", ...basic },
  { name: "KPROBE", since: "4.1", ...events },
  { name: "SCHED_CLS", since: "4.1", ...networking },
  { name: "SCHED_ACT", since: "4.1", ...networking },
  { name: "TRACEPOINT", since: "4.7", ...events },
  { name: "XDP", since: "4.8", ...networking },
  { name: "PERF_EVENT", since: "4.9", ...events },
  { name: "CGROUP_SKB", since: "4.10", ...cgroup },
  { name: "CGROUP_SOCK", since: "4.10", ...cgroup, attachType: "CGROUP_INET_SOCK_CREATE" },
  { name: "LWT_IN", since: "4.10", ...lightweightTunnel },
  { name: "LWT_OUT", since: "4.10", ...lightweightTunnel },
  { name: "LWT_XMIT", since: "4.10", ...lightweightTunnel },
  { name: "SOCK_OPS", since: "4.13", ...networking, attachType: "CGROUP_SOCK_OPS" },
  { name: "SK_SKB", since: "4.14", ...networking },
  { name: "CGROUP_DEVICE", since: "4.15", ...cgroup, attachType: "CGROUP_DEVICE" },
  { name: "SK_MSG", since: "4.17", ...networking },
  { name: "RAW_TRACEPOINT", since: "4.17", ...events },
  { name: "CGROUP_SOCK_ADDR", since: "4.17", ...cgroup, attachType: "CGROUP_INET4_CONNECT" },
  {
    name: "LWT_SEG6LOCAL",
    since: "4.18",
    ...networking,
    config: ["CONFIG_LWTUNNEL_BPF", "CONFIG_IPV6_SEG6_BPF"],
  },
  { name: "LIRC_MODE2", since: "4.18", ...networking, config: ["CONFIG_BPF_LIRC_MODE2"] },
  { name: "SK_REUSEPORT", since: "4.19", ...internet },
  { name: "FLOW_DISSECTOR", since: "4.20", ...networking },
  { name: "CGROUP_SYSCTL", since: "5.2", ...cgroup, attachType: "CGROUP_SYSCTL" },
  { name: "RAW_TRACEPOINT_WRITABLE", since: "5.2", ...events },
  { name: "CGROUP_SOCKOPT", since: "5.3", ...cgroup, attachType: "CGROUP_SETSOCKOPT" },
  {
    name: "TRACING",
    since: "5.5",
    ...tracing,
    config: [...typed, "CONFIG_BPF_EVENTS"],
    attachType: "TRACE_RAW_TP",
    target: { kind: "typedef", name: "btf_trace_sched_switch" },
  },
  {
    name: "STRUCT_OPS",
    since: "5.6",
    config: [...typed, "CONFIG_BPF_JIT", "CONFIG_INET"],
    needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
    target: { kind: "struct", name: "tcp_congestion_ops", member: "ssthresh" },
  },
  { name: "EXT", since: "5.6", ...tracing, config: ["CONFIG_BPF_JIT"] },
  {
    name: "LSM",
    since: "5.7",
    ...tracing,
    config: [...typed, "CONFIG_BPF_JIT", "CONFIG_BPF_LSM"],
    attachType: "LSM_MAC",
    target: { kind: "func", name: "bpf_lsm_file_open" },
  },
  { name: "SK_LOOKUP", since: "5.9", ...internet, attachType: "SK_LOOKUP" },
  { name: "SYSCALL", since: "5.14", ...basic, isSleepable: true },
  {
    name: "NETFILTER",
    since: "6.4",
    ...networking,
    config: ["CONFIG_NETFILTER_BPF_LINK"],
    attachType: "NETFILTER",
  },
];

/** What is known of each type of program, by its keyword, in the kernel's order. */
export const programTypes: ReadonlyMap<ProgramTypeKeyword, ProgramTypeFacts> = new Map(
  facts.map((type) => [keyword(type.name), type]),
);

/** What the verifier said of a program that was loaded to find something out. */
export interface ProbedLoad {
  /** The name of the error, or `undefined` for none. */
  readonly error: string | undefined;
  /** What the verifier wrote; nothing where it was not asked. */
  readonly log: string;
}

/** Loads a program of a type, and lets it go. */
export function probeLoad(type: ProgramTypeFacts, code: Code): ProbedLoad {
  const { attachType, target, isSleepable = false } = type;
  let place: FoundTarget | undefined;
  try {
    place = target && findTarget(target);
  } catch (error) {
    if (error instanceof BpfError) return { error: error.code, log: "" };
    throw error;
  }
  const result = tryLoadProgram(
    {
      type: bpfProgTypes[type.name],
      expectedAttachType:
        attachType === undefined ? (place?.memberIndex ?? 0) : bpfAttachTypes[attachType],
      attachBtfId: place?.id ?? 0,
      flags: isSleepable ? BPF_F_SLEEPABLE : 0,
      instructions: assemble(code).bytes,
      license: "GPL",
      name: "probe",
    },
    1,
  );
  if ("errno" in result) return { error: errnoName(result.errno), log: result.log };
  new Descriptor(result.fd, "probed program")[Symbol.dispose]();
  return { error: undefined, log: result.log };
}

/** What the kernel answers to the smallest program of a type: what it does not know, it refuses without a word. */
export function probeProgramType(type: ProgramTypeFacts): ProbeAnswer {
  const { error, log } = probeLoad(type, returnZero);
  return error === undefined || log.trim() !== "" ? "available" : error;
}
