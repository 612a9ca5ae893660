import { describe, expect, test } from "bun:test";
import { asm, BpfError, Program, features, type SectionName } from "../../src/index.ts";
import { parseSection, sectionRows } from "../../src/program/sections.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

const code = [asm.mov(asm.r0, 0), asm.exit()];

function load(section: string): Program {
  return new Program({ section: section as SectionName, license: "GPL", code });
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
      ["tc", "classifier"],
    ] as const) {
      expect(parseSection(short).row).toBe(parseSection(long).row);
    }
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
    const all = Object.entries(sectionRows).map(([name, { loadTarget }]) =>
      loadTarget === undefined ? name : `${name}/sched_switch`,
    );
    for (const section of [...all, ...withTargets]) {
      // Skips program types that this kernel does not have.
      if (!features.programTypes.get(parseSection(section).row.programType).available) continue;
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

describe("attaching", () => {
  bpfTest("requires exactly one target, and shows an example", () => {
    using anywhere = load("tp");
    expect(() => anywhere.attach()).toThrow(
      'attach: section "tp" needs a target such as "syscalls/sys_enter_openat", got undefined',
    );
    expect(() => anywhere.attach({ tracepoint: "" })).toThrow("expected a target");
    using bound = load("raw_tp/sched_switch");
    expect(() => bound.attach({ tracepoint: "sched_wakeup" })).toThrow(
      '"raw_tp/sched_switch" names the target already',
    );
    using socket = load("socket");
    expect(() => socket.attach()).toThrow('bun-bpf cannot attach programs of section "socket"');
  });

  bpfTest("of programs that only other tools attach names the tool", () => {
    for (const [section, use] of [
      [
        "tc",
        "pin it, and run `tc qdisc add dev IFACE clsact` and `tc filter add dev IFACE ingress bpf direct-action object-pinned PATH`",
      ],
      ["action", "pin it, and use `action bpf object-pinned PATH` in a filter of tc(8)"],
      ["xdp", "pin it, and run `ip link set dev IFACE xdp pinned PATH`"],
      ["syscall", "run it with testRun()"],
    ] as const) {
      if (!features.programTypes.get(parseSection(section).row.programType).available) continue;
      using program = load(section);
      expect(() => program.attach()).toThrow(
        new TypeError(`attach: bun-bpf cannot attach programs of section "${section}": ${use}`),
      );
    }
  });

  test("is possible, or has another use, for each section", () => {
    for (const { method, otherUse } of Object.values(sectionRows)) {
      expect([method, otherUse].filter((way) => way !== undefined)).toHaveLength(1);
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
