/** @module Sections by libbpf's names: a row for each prefix, the part of the name before the first `/`. */

import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { AttachTypeName, ProgramTypeName } from "../ffi/bpf_prog.ts";
import type { AttachMethod } from "../link/link.ts";
import { rawTracepoint, tracingTracepoint } from "../link/raw_tracepoint.ts";
import { tracepoint } from "../link/tracepoint.ts";

/** A row of {@link sectionKinds}: one kind of section. Properties of the program type are in {@link programTypes}. */
export interface SectionKind {
  readonly programType: ProgramTypeName;
  /** The attach type, if the kernel checks it when it loads the program. */
  readonly attachType?: AttachTypeName;
  /** Prefix of the typedef in the kernel's BTF that the program is loaded for. The target is the rest of the typedef's name. */
  readonly btfTypedefPrefix?: string;
  /** True if the programs may sleep. */
  readonly isSleepable?: boolean;
  /** The way to attach the programs. Without one, they can be loaded, run with `testRun()`, and attached by other tools. */
  readonly attachment?: AttachMethod;
  /** The way to use programs that this library cannot attach, for messages. */
  readonly otherUse?: string;
}

const rawTp: SectionKind = { programType: "raw_tracepoint", attachment: rawTracepoint };
const tp: SectionKind = { programType: "tracepoint", attachment: tracepoint };
const classifier: SectionKind = {
  programType: "sched_cls",
  otherUse:
    "pin it, and run `tc qdisc add dev IFACE clsact` and `tc filter add dev IFACE ingress bpf direct-action object-pinned PATH`",
};

/** All sections that bun-bpf loads, by the part of the name before the first `/`. */
export const sectionKinds: Readonly<Record<string, SectionKind>> = {
  socket: {
    programType: "socket_filter",
    otherUse: "pass its fd to setsockopt(2) with SO_ATTACH_BPF",
  },
  raw_tp: rawTp,
  raw_tracepoint: rawTp,
  tp_btf: {
    programType: "tracing",
    attachType: "trace_raw_tp",
    btfTypedefPrefix: "btf_trace_",
    attachment: tracingTracepoint,
  },
  tp,
  tracepoint: tp,
  tc: classifier,
  classifier,
  action: {
    programType: "sched_act",
    otherUse: "pin it, and use `action bpf object-pinned PATH` in a filter of tc(8)",
  },
  xdp: {
    programType: "xdp",
    attachType: "xdp",
    otherUse: "pin it, and run `ip link set dev IFACE xdp pinned PATH`",
  },
  syscall: {
    programType: "syscall",
    isSleepable: true,
    otherUse: "run it with testRun()",
  },
};

/**
 * Other sections of libbpf, by the part of the name before the first `/`, without the suffix `.s` of programs that may sleep
 * (https://docs.kernel.org/bpf/libbpf/program_types.html).
 */
const otherSections: ReadonlySet<string> = new Set(
  (
    "cgroup cgroup_skb fentry fexit flow_dissector fmod_ret freplace iter kprobe kprobe.multi kprobe.session kretprobe " +
    "kretprobe.multi kretsyscall ksyscall lirc_mode2 lsm lsm_cgroup lwt_in lwt_out lwt_seg6local lwt_xmit netfilter netkit " +
    "perf_event raw_tp.w raw_tracepoint.w sk_lookup sk_msg sk_reuseport sk_skb sockops struct_ops tcx uprobe uprobe.multi " +
    "uprobe.session uretprobe uretprobe.multi usdt xdp.frags"
  ).split(" "),
);

/** A section, parsed from its name. */
export interface Section {
  /** The whole name: `"tp_btf/sched_switch"`. */
  readonly name: string;
  readonly kind: SectionKind;
  /** The part after the first `/`; `undefined` if the name has no `/`. */
  readonly target: string | undefined;
}

/**
 * Parses the name of a section.
 *
 * @throws {TypeError} if the section is unknown, lacks a required target, or has a target although its kind has none.
 */
export function parseSection(name: string): Section {
  if (typeof name !== "string") {
    throw new TypeError(
      `section: expected a name such as "tp_btf/sched_switch", got ${describe(name)}`,
    );
  }
  const slash = name.indexOf("/");
  const prefix = slash === -1 ? name : name.slice(0, slash);
  const target = slash === -1 ? undefined : name.slice(slash + 1);
  const kind = Object.hasOwn(sectionKinds, prefix) ? sectionKinds[prefix] : undefined;
  if (kind === undefined) {
    const known = Object.keys(sectionKinds);
    const hint = otherSections.has(prefix.replace(/\.s$/, ""))
      ? `libbpf has this section, but bun-bpf does not support it; it supports ${known.join(", ")}`
      : suggest(prefix, known);
    throw new TypeError(`section: unknown ${describe(name)}: ${hint}`);
  }
  const { attachment, btfTypedefPrefix } = kind;
  if (target !== undefined && attachment === undefined) {
    throw new TypeError(`section: ${prefix} takes no target, got ${describe(name)}`);
  }
  if (target === "" || (btfTypedefPrefix !== undefined && target === undefined)) {
    throw new TypeError(
      `section: ${prefix} needs a target, as in "${prefix}/${attachment?.targetExample}", got ${describe(name)}`,
    );
  }
  if (target !== undefined && attachment !== undefined) checkTarget("section", attachment, target);
  return { name, kind, target };
}

/**
 * Checks the form of a target.
 *
 * @param argument the name of the checked argument in errors
 * @throws {TypeError} if the form is wrong.
 */
export function checkTarget(argument: string, attachment: AttachMethod, target: string): void {
  if (attachment.targetForm.test(target)) return;
  throw new TypeError(
    `${argument}: expected a target of the form ${describe(attachment.targetExample)}, got ${describe(target)}`,
  );
}
