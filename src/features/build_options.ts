import { kernelConfig } from "../ffi/kernel.ts";
import { attachKinds } from "../link/attach_kinds.ts";
import { mapTypes } from "../maps/map_types.ts";
import { programTypes } from "../program/program_types.ts";
import { instructionSets } from "./instruction_sets.ts";

/** Options that concern BPF in general: its availability, speed and restrictions. */
const generalOptions = [
  "CONFIG_BPF",
  "CONFIG_BPF_SYSCALL",
  "CONFIG_HAVE_EBPF_JIT",
  "CONFIG_BPF_JIT",
  "CONFIG_BPF_JIT_ALWAYS_ON",
  "CONFIG_BPF_JIT_DEFAULT_ON",
  "CONFIG_BPF_UNPRIV_DEFAULT_OFF",
  "CONFIG_DEBUG_INFO_BTF",
  "CONFIG_DEBUG_INFO_BTF_MODULES",
  "CONFIG_KALLSYMS_ALL",
  "CONFIG_SECURITY_LOCKDOWN_LSM",
  "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
  "CONFIG_FTRACE_SYSCALLS",
  "CONFIG_FUNCTION_ERROR_INJECTION",
  "CONFIG_BPF_KPROBE_OVERRIDE",
  "CONFIG_IP_ROUTE_CLASSID",
  "CONFIG_NETFILTER_XT_MATCH_BPF",
  "CONFIG_NET_ACT_BPF",
  "CONFIG_NET_CLS_ACT",
  "CONFIG_NET_CLS_BPF",
  "CONFIG_NET_SCH_INGRESS",
  "CONFIG_SCHED_CLASS_EXT",
  "CONFIG_HZ",
] as const;

/**
 * Returns the options of the running kernel's build that concern BPF: `"y"`, `"m"` or another value by name, `undefined` for
 * options that are not set.
 *
 * @returns `undefined` if the configuration is neither in the kernel nor in a file of the distribution
 */
export function bpfBuildOptions(): ReadonlyMap<string, string | undefined> | undefined {
  const config = kernelConfig();
  if (config === undefined) return undefined;
  const rows: readonly { readonly config?: readonly string[] }[] = [
    ...mapTypes.values(),
    ...Object.values(programTypes),
    ...Object.values(attachKinds),
    ...instructionSets.values(),
  ];
  const ofRows = rows.flatMap((row) => row.config ?? []).toSorted();
  return new Map([...generalOptions, ...ofRows].map((name) => [name, config.get(name)]));
}
