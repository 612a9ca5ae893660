import type { ContextReturn } from "../ffi/bpf_prog.ts";
import type { Capability } from "../ffi/capabilities.ts";
import type { Link, LinkedProgram } from "../link/link.ts";
import { attachRawTracepoint, attachTracingProgram } from "../link/raw_tracepoint.ts";
import { attachTracepoint } from "../link/tracepoint.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { bpfAttachTypes, bpfProgTypes } from "../uapi/enumerations.ts";

/** Attaches a loaded program to a target: what follows the `/` in the section's name, or is given to `attach()`. */
export type Attach = (program: LinkedProgram, target: string) => Link;

/** What a section's name says of its program. */
export interface SectionKind {
  /** The kernel's type of program. */
  readonly programType: keyof typeof bpfProgTypes;
  /** The kernel's type of attachment, for types of program that are checked against it at load. */
  readonly attachType?: keyof typeof bpfAttachTypes;
  /** The prefix of the typedef in the kernel's BTF that the program is loaded for; the target is the rest of its name. */
  readonly btfTypedefPrefix?: string;
  /** Whether the program may sleep; some kinds are refused without. */
  readonly isSleepable?: boolean;
  /** How the program is attached; without it, the program can be loaded, run by `testRun()`, and attached by others. */
  readonly attach?: Attach;
  /** An example of a target; without it, the section takes none. */
  readonly targetExample?: string;
  /** What every target looks like. */
  readonly targetForm?: RegExp;
  /** How a test run gives the context back; without it, it does not. */
  readonly contextComesBack?: ContextReturn;
  /** Capabilities that the kernel asks for to load it. */
  readonly needs: readonly Capability[];
}

const tracing = ["CAP_BPF", "CAP_PERFMON"] as const;
const networking = ["CAP_BPF", "CAP_NET_ADMIN"] as const;

/** The name of a tracepoint: an identifier of C. */
const tracepointName = /^\w+$/;
/** Folders below `events` in tracefs: none that leads elsewhere. */
const tracepointPath = /^[^/.\0][^/\0]*\/[^/.\0][^/\0]*$/;

const rawTracepoint: SectionKind = {
  programType: "RAW_TRACEPOINT",
  attach: attachRawTracepoint,
  targetExample: "sched_switch",
  targetForm: tracepointName,
  needs: tracing,
};

const tracepoint: SectionKind = {
  programType: "TRACEPOINT",
  attach: attachTracepoint,
  targetExample: "syscalls/sys_enter_openat",
  targetForm: tracepointPath,
  needs: tracing,
};

const classifier: SectionKind = {
  programType: "SCHED_CLS",
  contextComesBack: "copied",
  needs: networking,
};

/** The names of sections, as libbpf has them: what a program is, by the name's part before the first `/`. */
const sectionKinds: Readonly<Record<string, SectionKind>> = {
  socket: { programType: "SOCKET_FILTER", contextComesBack: "copied", needs: ["CAP_BPF"] },
  raw_tp: rawTracepoint,
  raw_tracepoint: rawTracepoint,
  tp_btf: {
    programType: "TRACING",
    attachType: "TRACE_RAW_TP",
    btfTypedefPrefix: "btf_trace_",
    attach: attachTracingProgram,
    targetExample: "sched_switch",
    targetForm: tracepointName,
    needs: tracing,
  },
  tp: tracepoint,
  tracepoint,
  tc: classifier,
  classifier,
  action: { programType: "SCHED_ACT", contextComesBack: "copied", needs: networking },
  xdp: { programType: "XDP", attachType: "XDP", contextComesBack: "copied", needs: networking },
  syscall: {
    programType: "SYSCALL",
    isSleepable: true,
    contextComesBack: "in place",
    needs: ["CAP_BPF"],
  },
};

/** A section's name, understood. */
export interface Section {
  readonly name: string;
  readonly kind: SectionKind;
  /** What follows the `/`; `undefined` for none. */
  readonly target: string | undefined;
}

/** Understands the name of a section. @throws {TypeError} for an unknown one, or a target where none belongs */
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
    throw new TypeError(
      `section: unknown ${describe(name)}: ${suggest(prefix, Object.keys(sectionKinds))}`,
    );
  }
  if (target !== undefined && kind.targetExample === undefined) {
    throw new TypeError(`section: ${prefix} takes no target, got ${describe(name)}`);
  }
  if (target === "" || (kind.btfTypedefPrefix !== undefined && target === undefined)) {
    throw new TypeError(
      `section: ${prefix} needs a target, as in "${prefix}/${kind.targetExample}", got ${describe(name)}`,
    );
  }
  if (target !== undefined) checkTarget("section", kind, target);
  return { name, kind, target };
}

/** Checks the form of a target. @throws {TypeError} */
export function checkTarget(argument: string, kind: SectionKind, target: string): void {
  if (kind.targetForm?.test(target) ?? true) return;
  throw new TypeError(
    `${argument}: expected a target of the form ${describe(kind.targetExample)}, got ${describe(target)}`,
  );
}
