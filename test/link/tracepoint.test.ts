import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { linkPerfEvent } from "../../src/ffi/bpf_link.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import { firstCpu, openTracepointEvent, setPerfEventProgram } from "../../src/ffi/perf_event.ts";
import {
  asm,
  BpfError,
  DisposedError,
  features,
  HashMap,
  type Link,
  Program,
  t,
} from "../../src/index.ts";
import { attachWithoutLink } from "../../src/link/perf_event.ts";
import { tracepointId } from "../../src/link/tracepoint.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { execCounter, countChildExecs } from "./exec_counter.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";

bpfTest("tracepointId() returns the id in tracefs, and leaves no mount", () => {
  const mounts = () => readFileSync("/proc/self/mounts", "utf8");
  const before = mounts();
  using tracefs = new DetachedMount("tracefs");
  for (const target of [
    "sched/sched_process_exec",
    "sched/sched_switch",
    "raw_syscalls/sys_enter",
  ]) {
    const id = Number(readFileSync(`${tracefs.path}/events/${target}/id`, "utf8"));
    expect(id).toBeGreaterThan(0);
    expect(tracepointId(target)).toBe(id);
    expect(mounts()).toBe(before);
  }
  for (const target of ["sched/none", "none/sched_switch", "sched_switch"]) {
    expect(() => tracepointId(target)).toThrow(BpfError);
    expect(() => tracepointId(target)).toThrow(
      `cannot find the tracepoint ${target}: open: ENOENT (no such file or directory). This kernel has no tracepoint ${target} (category/name)`,
    );
  }
  expect(mounts()).toBe(before);
});

bpfTest(
  "on kernels before 5.15 a tracepoint is attached without a link of the kernel",
  async () => {
    using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 4096 });
    using program = execCounter("tp/sched/sched_process_exec", counts);
    const what = "tracepoint link to sched/sched_process_exec";
    const attach = () => {
      const event = openTracepointEvent(tracepointId("sched/sched_process_exec"), what);
      return attachWithoutLink(program, new Descriptor(event, what), { doing: "attach" });
    };
    {
      using link: Link = attach();
      expect(await countChildExecs(counts)).toBe(1);
      expect(link.info()).toEqual({
        id: 0,
        programId: program.id,
        type: "perf_event",
        event: undefined,
      });
      for (const [doing, use] of [
        ["read the id of", () => link.id],
        ["replace the program of", () => link.update(program)],
        ["pin", () => link.pin("/nowhere/link")],
      ] as const) {
        expect(use).toThrow(BpfError);
        expect(use).toThrow(new RegExp(`^cannot ${doing} the tracepoint link to .*without a link`));
      }
      link[Symbol.dispose]();
      expect(() => link.info()).toThrow(DisposedError);
    }
    expect(await countChildExecs(counts)).toBe(0);
    using link = attach();
    expect(link.detach()).toBe(link);
    expect(await countChildExecs(counts)).toBe(0);
    expect(link.detach().info().programId).toBe(program.id);
  },
);

describe("a program that reads beyond the fields of its tracepoint", () => {
  const target = "sched/sched_process_exec";
  const code = [asm.ldxdw(asm.r0, asm.r1, 2000), asm.mov(asm.r0, 0), asm.exit()];
  const cause = /The program reads its context beyond the fields of the tracepoint/;

  bpfTest("is rejected by attach() with this cause", () => {
    using program = new Program({ section: `tp/${target}`, license: "GPL", code });
    expect(() => program.attach()).toThrow(expect.objectContaining({ code: "EACCES" }));
    expect(() => program.attach()).toThrow(
      `take the offsets from tracepointType("${target}").fields`,
    );
    expect(() => program.attach()).toThrow(cause);
  });

  bpfTest(
    "is rejected without a link, as before kernel 5.15, with the cause that attach() passes",
    () => {
      using program = new Program({ section: `tp/${target}`, license: "GPL", code });
      using event = new Descriptor(openTracepointEvent(tracepointId(target), "event"), "event");
      const context = { doing: "attach", hints: { EACCES: "The cause that attach() passes" } };
      expect(() => setPerfEventProgram(event.fd, program.fd, context)).toThrow(
        "cannot attach: ioctl(PERF_EVENT_IOC_SET_BPF): EACCES (permission denied). The cause that attach() passes",
      );
    },
  );
});

test("the first CPU of a list is parsed", () => {
  expect(["0", "0-3", "2-3,8", "1,4\n"].map(firstCpu)).toEqual([0, 0, 2, 1]);
});

testWith(features.attachKinds.get("perf_event_link"))(
  "EINVAL is an error on kernels with links of perf events",
  () => {
    using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 16 });
    using program = execCounter("raw_tp", counts);
    expect(() => linkPerfEvent(program.fd, program.fd, undefined, { doing: "attach" })).toThrow(
      /^cannot attach: bpf\(BPF_LINK_CREATE\): EINVAL/,
    );
  },
);

test("the error about an unreadable tracefs has the remedy", async () => {
  const code = `
    import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
    import { tracepointId } from "./src/link/tracepoint.ts";
    const path = mkdtempSync("/tmp/bun-bpf-tracefs-");
    mkdirSync(path + "/events");
    chmodSync(path, 0o000);
    try {
      tracepointId("sched/sched_switch", [path]);
    } catch (error) {
      console.log(error.message.replaceAll(path, "PATH"));
    }
    chmodSync(path, 0o700);
    rmSync(path, { recursive: true });`;
  const ended = await runBun([
    ...["--preload", "./test/support/drop_capabilities.ts"],
    ...["-e", code],
  ]);
  expect(ended.stdout).toBe(
    "cannot find the tracepoint sched/sched_switch: open: EACCES (permission denied). This user may not read tracefs: run as root (sudo -E), or give all users access to it (mount -o remount,mode=755 PATH)\n",
  );
});

bpfTest("a program of another type is rejected", () => {
  using counts = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 16 });
  using program = execCounter("raw_tp", counts);
  const id = tracepointId("sched/sched_process_exec");
  using event = new Descriptor(openTracepointEvent(id, "event of a test"), "event of a test");
  const set = () => setPerfEventProgram(event.fd, program.fd, { doing: "attach to a test" });
  expect(set).toThrow(/cannot attach to a test: ioctl\(PERF_EVENT_IOC_SET_BPF\)/);
  expect(() => openTracepointEvent(0xffff_ffff, "event of a test")).toThrow(
    /cannot open the event of a test: perf_event_open/,
  );
});

const tracefs = "/sys/kernel/tracing/events";
testUnless(existsSync(tracefs) ? `${tracefs} is there` : undefined)(
  "the error without privilege and without a mounted tracefs has the cause",
  async () => {
    const code = `
    import { tracepointId } from "./src/link/tracepoint.ts";
    try {
      tracepointId("sched/sched_switch");
    } catch (error) {
      console.log(error.name, error.code, error.hint);
    }`;
    const ended = await runBun([
      ...["--preload", "./test/support/drop_capabilities.ts"],
      ...["-e", code],
    ]);
    expect(ended.stdout).toStartWith("BpfError EPERM This process lacks CAP_SYS_ADMIN: ");
  },
);
