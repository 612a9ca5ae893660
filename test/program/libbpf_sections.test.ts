/** Compares the table of sections with that of libbpf, where libbpf is installed. */
import { dlopen } from "bun:ffi";
import { expect, test } from "bun:test";
import {
  attachTypeNumbers,
  type AttachTypeName,
  type ProgramTypeName,
  programTypeNumbers,
} from "../../src/ffi/bpf_prog.ts";
import type { SectionPrefix } from "../../src/program/section_types.ts";
import { type SectionRow, sectionRows } from "../../src/program/sections.ts";
import { testUnless } from "../support/skipping.ts";

/** Sections that libbpf 1.1 lacks: the program type and the attach type. */
const newSections: Partial<Record<SectionPrefix, readonly [ProgramTypeName, AttachTypeName?]>> = {
  "kprobe.session": ["kprobe", "trace_kprobe_session"],
  "uprobe.multi": ["kprobe", "trace_uprobe_multi"],
  "uprobe.multi.s": ["kprobe", "trace_uprobe_multi"],
  "uretprobe.multi": ["kprobe", "trace_uprobe_multi"],
  "uretprobe.multi.s": ["kprobe", "trace_uprobe_multi"],
  "uprobe.session": ["kprobe", "trace_uprobe_session"],
  "uprobe.session.s": ["kprobe", "trace_uprobe_session"],
  "usdt.s": ["kprobe"],
  fsession: ["tracing", "trace_fsession"],
  "fsession.s": ["tracing", "trace_fsession"],
  "fentry.multi": ["tracing", "trace_fentry_multi"],
  "fentry.multi.s": ["tracing", "trace_fentry_multi"],
  "fexit.multi": ["tracing", "trace_fexit_multi"],
  "fexit.multi.s": ["tracing", "trace_fexit_multi"],
  "fsession.multi": ["tracing", "trace_fsession_multi"],
  "fsession.multi.s": ["tracing", "trace_fsession_multi"],
  "struct_ops.s": ["struct_ops"],
  "tc/ingress": ["sched_cls", "tcx_ingress"],
  "tcx/ingress": ["sched_cls", "tcx_ingress"],
  "tc/egress": ["sched_cls", "tcx_egress"],
  "tcx/egress": ["sched_cls", "tcx_egress"],
  "netkit/primary": ["sched_cls", "netkit_primary"],
  "netkit/peer": ["sched_cls", "netkit_peer"],
  netfilter: ["netfilter", "netfilter"],
  "sk_skb/verdict": ["sk_skb", "sk_skb_verdict"],
  "cgroup/connect_unix": ["cgroup_sock_addr", "cgroup_unix_connect"],
  "cgroup/sendmsg_unix": ["cgroup_sock_addr", "cgroup_unix_sendmsg"],
  "cgroup/recvmsg_unix": ["cgroup_sock_addr", "cgroup_unix_recvmsg"],
  "cgroup/getpeername_unix": ["cgroup_sock_addr", "cgroup_unix_getpeername"],
  "cgroup/getsockname_unix": ["cgroup_sock_addr", "cgroup_unix_getsockname"],
};

/** The numbers of the program type and of the attach type of a section; `undefined` if libbpf does not know the section. */
type Lookup = (section: string) => readonly [number, number] | undefined;

const library = openLibrary();

/** Returns the look-up of libbpf; `undefined` if it is not installed. */
function openLibrary(): Lookup | undefined {
  let symbols;
  try {
    ({ symbols } = dlopen("libbpf.so.1", {
      libbpf_prog_type_by_name: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
      libbpf_set_print: { args: ["ptr"], returns: "ptr" },
    }));
  } catch {
    return undefined;
  }
  const { libbpf_prog_type_by_name: look, libbpf_set_print: setPrint } = symbols;
  // Without it, libbpf may print a message for each unknown name.
  setPrint(null);
  return (section) => {
    const [programType, attachType] = [new Int32Array(1), new Int32Array(1)];
    const result = look(Buffer.from(`${section}\0`), programType, attachType);
    return result === 0 ? [programType[0] ?? 0, attachType[0] ?? 0] : undefined;
  };
}

function numbersOf(
  programType: ProgramTypeName,
  attachType?: AttachTypeName,
): readonly [number, number] {
  return [programTypeNumbers[programType], attachType ? attachTypeNumbers[attachType] : 0];
}

const rows = Object.entries(sectionRows) as readonly [SectionPrefix, SectionRow][];

/** Returns true if the section of a row can name a target. */
function takesTarget({ method, target }: SectionRow): boolean {
  return (method?.target ?? target) !== undefined;
}

testUnless(library === undefined ? "libbpf.so.1 is not installed" : undefined)(
  "sections have the program type and the attach type of libbpf",
  () => {
    for (const [name, row] of rows) {
      const found = library?.(takesTarget(row) ? `${name}/x` : name);
      const added = newSections[name];
      const theirs = found ?? (added && numbersOf(...added));
      expect({ name, numbers: numbersOf(row.programType, row.attachType) }).toEqual({
        name,
        numbers: theirs as readonly [number, number],
      });
    }
  },
);

testUnless(library === undefined ? "libbpf.so.1 is not installed" : undefined)(
  "sections without a target do not have one in libbpf, either",
  () => {
    for (const [name, row] of rows) {
      if (!takesTarget(row)) expect([name, library?.(`${name}/x`)]).toEqual([name, undefined]);
    }
  },
);

test("sections that libbpf 1.1 lacks have the types of the kernel's headers", () => {
  for (const [name, [programType, attachType]] of Object.entries(newSections)) {
    const row = sectionRows[name as SectionPrefix];
    expect([name, row.programType, row.attachType]).toEqual([name, programType, attachType]);
  }
});
