import { describe, expect, test } from "bun:test";
import { isKernelSince, type KernelVersion } from "../../src/ffi/kernel.ts";
import {
  type AttachKind,
  asm,
  BpfError,
  Program,
  features,
  type SectionName,
} from "../../src/index.ts";
import type { SectionPrefix } from "../../src/program/section_types.ts";
import { parseSection, sectionRows } from "../../src/program/sections.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

function load(section: string): Program {
  // Programs on cgroups must return 0 or 1; some of them, 1.
  const returned = section.startsWith("cgroup") ? 1 : 0;
  const code = [asm.mov(asm.r0, returned), asm.exit()];
  return new Program({ section: section as SectionName, license: "GPL", code });
}

/** Sections that came to the kernel later than their program type, and the first version with a program that this test loads. */
const laterSections: Partial<Record<SectionPrefix, KernelVersion>> = {
  "kprobe.multi": "5.18",
  "kretprobe.multi": "5.18",
  "kprobe.session": "6.10",
  "uprobe.s": "6.0",
  "uretprobe.s": "6.0",
  "uprobe.multi": "6.6",
  "uprobe.multi.s": "6.6",
  "uretprobe.multi": "6.6",
  "uretprobe.multi.s": "6.6",
  "uprobe.session": "6.13",
  "uprobe.session.s": "6.13",
  "usdt.s": "6.0",
  "fentry.s": "6.12",
  "fexit.s": "6.12",
  fmod_ret: "5.7",
  "fmod_ret.s": "6.12",
  fsession: "7.0",
  "fsession.s": "7.0",
  "fentry.multi": "7.2",
  "fentry.multi.s": "7.2",
  "fexit.multi": "7.2",
  "fexit.multi.s": "7.2",
  "fsession.multi": "7.2",
  "fsession.multi.s": "7.2",
  "lsm.s": "6.1",
  lsm_cgroup: "6.0",
  iter: "5.8",
  "iter.s": "6.1",
  "struct_ops.s": "6.12",
  "xdp.frags": "5.18",
  "xdp/devmap": "5.8",
  "xdp.frags/devmap": "5.18",
  "xdp/cpumap": "5.9",
  "xdp.frags/cpumap": "5.18",
  "netkit/primary": "6.7",
  "netkit/peer": "6.7",
  "sk_reuseport/migrate": "5.14",
  "cgroup/sock_release": "5.9",
  "cgroup/connect_unix": "6.7",
  "cgroup/sendmsg_unix": "6.7",
  "cgroup/recvmsg_unix": "6.7",
  "cgroup/getpeername_unix": "6.7",
  "cgroup/getsockname_unix": "6.7",
};

/** Targets for sections whose programs are loaded for one: the section without `.s`, and a target of all kernels with it. */
const loadedFor: Partial<Record<string, string>> = {
  tp_btf: "sched_switch",
  fentry: "bpf_fentry_test1",
  fexit: "bpf_fentry_test1",
  fsession: "bpf_fentry_test1",
  fmod_ret: "security_quotactl",
  // A function that programs which sleep may modify.
  "fmod_ret.s": "bpf_fentry_test1",
  lsm: "file_open",
  lsm_cgroup: "socket_create",
  iter: "task",
  struct_ops: "tcp_congestion_ops.ssthresh",
};

/** Returns the name of a section with a target, if programs are loaded for one. */
function withTarget(section: string): string {
  const target = loadedFor[section] ?? loadedFor[section.replace(/\.s$/, "")];
  return target === undefined ? section : `${section}/${target}`;
}

/** Returns true if this kernel loads programs of a section. */
function isLoadable(section: SectionPrefix): boolean {
  const since = laterSections[section];
  if (since !== undefined && !isKernelSince(since)) return false;
  // A program that replaces a function is loaded for another program.
  if (section === "freplace") return false;
  const { programType, loadTarget } = sectionRows[section];
  if (!features.programTypes.get(programType).available) return false;
  const kind = section.replace(/\.s$/, "") as AttachKind;
  // The verifier looks up these functions as attaching does, which the machine may forbid.
  return loadTarget === undefined || features.attachKinds.get(kind).available;
}

describe("parseSection()", () => {
  test("returns the kind and, after the first slash, the target", () => {
    expect(parseSection("tp/sched/sched_process_exec")).toMatchObject({
      name: "tp/sched/sched_process_exec",
      target: "sched/sched_process_exec",
      row: { programType: "tracepoint" },
    });
    expect(parseSection("raw_tp").target).toBeUndefined();
    expect(parseSection("tp_btf/sched_switch").row).toMatchObject({
      programType: "tracing",
      attachType: "trace_raw_tp",
    });
  });

  test("accepts libbpf's long and short names", () => {
    for (const [short, long] of [
      ["tp", "tracepoint"],
      ["raw_tp", "raw_tracepoint"],
      ["raw_tp.w", "raw_tracepoint.w"],
      ["tc", "classifier"],
      ["tc/ingress", "tcx/ingress"],
      ["tc/egress", "tcx/egress"],
    ] as const) {
      expect(parseSection(short).row).toEqual(parseSection(long).row);
    }
  });

  test("distinguishes a part of the name after a slash from a target", () => {
    for (const name of ["cgroup/connect4", "xdp.frags/devmap", "sk_reuseport/migrate"]) {
      expect(parseSection(name)).toEqual({
        name,
        row: sectionRows[name as SectionPrefix],
        target: undefined,
      });
    }
    expect(parseSection("uprobe/usr/bin/bash:readline").target).toBe("usr/bin/bash:readline");
  });

  test("throws a TypeError with a hint for an unknown section", () => {
    expect(() => parseSection("tp_bft/sched_switch")).toThrow(
      'section: unknown "tp_bft/sched_switch": did you mean "tp_btf"?',
    );
    expect(() => parseSection("")).toThrow("known names:");
    expect(() => parseSection("constructor")).toThrow("unknown");
    // @ts-expect-error: wrong on purpose
    expect(() => parseSection(undefined)).toThrow('expected a name such as "tp_btf/sched_switch"');
  });

  test("requires a target where one belongs, and rejects it elsewhere", () => {
    for (const name of ["raw_tp/", "tp/", "tp_btf/", "tp_btf"]) {
      expect(() => parseSection(name)).toThrow(/needs a target, as in "/);
    }
    for (const name of ["socket/x", "xdp/eth0", "tc/", "syscall/1"]) {
      expect(() => parseSection(name)).toThrow("takes no target");
    }
  });
});

describe("the kernel", () => {
  bpfTest("loads a program of each section", () => {
    const withTargets = ["raw_tracepoint/sched_switch", "tracepoint/sched/sched_switch"];
    const all = (Object.keys(sectionRows) as SectionPrefix[]).filter(isLoadable).map(withTarget);
    expect(all.length).toBeGreaterThan(60);
    for (const section of [...all, ...withTargets]) {
      using program = load(section);
      expect(program.info().id).toBeGreaterThan(0);
      expect(program.section).toBe(section);
    }
  });

  bpfTest("is not called for a tracepoint that it does not have", () => {
    const attempt = () => load("tp_btf/no_such_tracepoint");
    expect(attempt).toThrow(BpfError);
    expect(attempt).toThrow(
      /: ENOENT .*This kernel has no tracepoint no_such_tracepoint, or no type information for it$/,
    );
  });
});

describe("a member of a struct of functions", () => {
  testWith(features.programTypes.get("struct_ops"))("is suggested by a similar one", () => {
    const attempt = (target: string) => () => load(`struct_ops/${target}`);
    expect(attempt("tcp_congestion_ops.ssthres")).toThrow(
      /ENOENT.*The struct tcp_congestion_ops has no function ssthres: did you mean "ssthresh"\?$/,
    );
    expect(attempt("tcp_congestion_op.ssthresh")).toThrow(
      /ENOENT.*This kernel has no struct tcp_congestion_op: did you mean "tcp_congestion_ops"\?$/,
    );
  });

  test("is named with the struct", () => {
    for (const section of ["struct_ops", "struct_ops/ssthresh", "struct_ops.s/a.b.c"]) {
      expect(() => load(section)).toThrow(TypeError);
      expect(() => load(section)).toThrow('tcp_congestion_ops.ssthresh"');
    }
  });
});

describe("attaching", () => {
  bpfTest("requires exactly one target, and shows an example", () => {
    using anywhere = load("tp");
    const expected =
      'attach: tracepoint: expected a target of the form "syscalls/sys_enter_openat"';
    expect(() => anywhere.attach()).toThrow(`${expected}, got undefined`);
    expect(() => anywhere.attach({ tracepoint: "" })).toThrow(`${expected}, got ""`);
    using bound = load("raw_tp/sched_switch");
    expect(() => bound.attach({ tracepoint: "sched_wakeup" })).toThrow(
      'attach: section "raw_tp/sched_switch" names the target already: expected no option "tracepoint"',
    );
  });

  bpfTest("rejects a misspelt option, with a similar one", () => {
    using program = load("raw_tp/sched_switch");
    expect(() => program.attach({ cokie: 1n })).toThrow(TypeError);
    expect(() => program.attach({ cokie: 1n })).toThrow(/"cokie".*did you mean "cookie"\?/);
  });

  bpfTest("of programs that only other tools attach names the tool", () => {
    const tools = Object.entries(sectionRows).filter(
      ([name, { method }]) => method === undefined && isLoadable(name as SectionPrefix),
    );
    for (const [name, { otherUse }] of tools) {
      const section = withTarget(name);
      using program = load(section);
      expect(() => program.attach()).toThrow(
        new TypeError(
          `attach: bun-bpf cannot attach programs of section "${section}": ${otherUse}`,
        ),
      );
    }
    // Not all kernels have the types of these programs.
    expect(sectionRows).toMatchObject({
      action: { otherUse: "pin it, and use `action bpf object-pinned PATH` in a filter of tc(8)" },
      syscall: { otherUse: "run it with testRun()" },
      "xdp/devmap": { otherUse: "store it in an entry of a DevMap or DevMapHash" },
    });
  });

  test("is possible, or has another use, for each section", () => {
    for (const [section, { method, otherUse }] of Object.entries(sectionRows)) {
      const ways = [method, otherUse].filter((way) => way !== undefined);
      expect([section, ways.length]).toEqual([section, 1]);
    }
  });

  bpfTest("to a missing tracepoint throws an error that names it", () => {
    using raw = load("raw_tp/no_such_tracepoint");
    expect(() => raw.attach()).toThrow(BpfError);
    expect(() => raw.attach()).toThrow(/ENOENT.*This kernel has no tracepoint no_such_tracepoint/);
    using classic = load("tp/sched/no_such_tracepoint");
    expect(() => classic.attach()).toThrow(BpfError);
    expect(() => classic.attach()).toThrow(
      /ENOENT.*This kernel has no tracepoint sched\/no_such_tracepoint/,
    );
  });

  bpfTest("with a misspelt tracepoint suggests the right one", () => {
    using raw = load("raw_tp/sched_swich");
    expect(() => raw.attach()).toThrow(/\(name\): did you mean "sched_switch"\?$/);
    for (const target of ["sched/sched_swich", "sced/sched_switch"]) {
      using classic = load(`tp/${target}`);
      expect(() => classic.attach()).toThrow(
        /\(category\/name\): did you mean "sched\/sched_switch"\?$/,
      );
    }
    expect(() => load("tp_btf/sched_swich")).toThrow(/: did you mean "sched_switch"\?$/);
    using far = load("tp/sched/nothing_like_this_at_all");
    expect(() => far.attach()).toThrow(
      "/sys/kernel/tracing/events lists them, where tracefs is mounted (mount -t tracefs tracefs /sys/kernel/tracing)",
    );
  });

  test("is rejected before the load if the target of the section is malformed", () => {
    for (const section of [
      "tp/sched_switch",
      "tp/syscalls/../sched/sched_switch",
      "tp/../sched",
      "tp/a\0/b",
      "raw_tp/sched/sched_switch",
      "raw_tp/sched_switch\0x",
      "tp_btf/sched switch",
    ]) {
      expect(() => load(section)).toThrow(TypeError);
      expect(() => load(section)).toThrow("section: expected a target of the form ");
    }
  });

  bpfTest("to a malformed target is rejected", () => {
    using classic = load("tp");
    for (const target of ["sched_switch", "a/../b", "./a", "a\0/b", "/sched_switch", "sched/"]) {
      expect(() => classic.attach({ tracepoint: target })).toThrow(
        'attach: tracepoint: expected a target of the form "syscalls/sys_enter_openat", got ',
      );
    }
    using raw = load("raw_tp");
    expect(() => raw.attach({ tracepoint: "sched_switch\0x" })).toThrow(TypeError);
  });
});

describe("attachAs()", () => {
  bpfTest("attaches a program that was opened without its section", () => {
    using loaded = load("raw_tp");
    using opened = Program.fromFd(loaded.fd);
    expect(() => opened.attach()).toThrow(/was opened without its section.*or use attachAs\(\)/);
    using link = opened.attachAs("raw_tp/sched_switch", { cookie: 0n });
    expect(link.info()).toMatchObject({ type: "raw_tracepoint", name: "sched_switch" });
    using other = opened.attachAs("raw_tracepoint", { tracepoint: "sched_wakeup" });
    expect(other.info()).toMatchObject({ type: "raw_tracepoint", name: "sched_wakeup" });
  });

  bpfTest("rejects a section of another program type", () => {
    using program = load("raw_tp");
    expect(() => program.attachAs("tp/sched/sched_switch")).toThrow(
      /its type is raw_tracepoint, and programs of section "tp\/sched\/sched_switch" are tracepoint/,
    );
    // @ts-expect-error: not a section
    expect(() => program.attachAs("raw_tpp")).toThrow('did you mean "raw_tp"?');
  });
});

describe("without privilege", () => {
  bpfTest("the error names the missing capabilities", async () => {
    const child = `${import.meta.dir}/children/load_sections.ts`;
    const ended = await runBun(["--preload", "./test/support/drop_capabilities.ts", child]);
    const errors = JSON.parse(ended.stdout) as Record<string, { code: string; hint: string }>;
    for (const [section, missing] of [
      ["raw_tp", "CAP_BPF and CAP_PERFMON"],
      ["tp_btf/sched_switch", "CAP_BPF and CAP_PERFMON"],
      ["tp", "CAP_BPF and CAP_PERFMON"],
      ["xdp", "CAP_BPF and CAP_NET_ADMIN"],
    ] as const) {
      expect(errors[section]).toMatchObject({
        name: "BpfError",
        code: "EPERM",
        syscall: "bpf(BPF_PROG_LOAD)",
        hint: expect.stringContaining(`This process lacks ${missing}: run as root`),
      });
    }
  });
});
