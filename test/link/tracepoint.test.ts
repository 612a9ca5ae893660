import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { DetachedMount } from "../../src/ffi/mount.ts";
import {
  enablePerfEvent,
  openTracepointEvent,
  setPerfEventProgram,
} from "../../src/ffi/perf_event.ts";
import { BpfError, HashMap, Link, t } from "../../src/index.ts";
import { tracepointId } from "../../src/link/tracepoint.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { execCounter, execsOfATestProcess } from "./exec_counter.ts";

bpfTest("a tracepoint's id is what tracefs says, and asking leaves no mount behind", () => {
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
  for (const target of ["sched/none", "none/sched_switch", "sched_switch", "sched", "", "sched/"]) {
    expect(() => tracepointId(target)).toThrow(
      new RangeError(`this kernel has no tracepoint ${target} (category/name)`),
    );
  }
  expect(mounts()).toBe(before);
});

bpfTest("before kernel 5.15 a tracepoint's link is its perf event", async () => {
  using counts = new HashMap({ key: t.u32, value: t.u64n, maxEntries: 4096 });
  using program = execCounter("tp/sched/sched_process_exec", counts);
  const id = tracepointId("sched/sched_process_exec");
  const event = new Descriptor(openTracepointEvent(id, "event of a test"), "event of a test");
  {
    using _failed = event;
    setPerfEventProgram(event.fd, program.fd, "event of a test");
    enablePerfEvent(event.fd, "event of a test");
    using link = new Link(event.release(), "tracepoint link to sched/sched_process_exec");
    expect(await execsOfATestProcess(counts)).toBe(1);
    expect(() => link.info()).toThrow(BpfError);
    expect(() => link.info()).toThrow("The descriptor is not of a BPF object");
    expect(() => link.update(program)).toThrow(BpfError);
    expect(() => link.pin("/nowhere/link")).toThrow(BpfError);
  }
  expect(await execsOfATestProcess(counts)).toBe(0);
});

bpfTest("a program of another kind is refused", () => {
  using counts = new HashMap({ key: t.u32, value: t.u64n, maxEntries: 16 });
  using program = execCounter("raw_tp", counts);
  const id = tracepointId("sched/sched_process_exec");
  using event = new Descriptor(openTracepointEvent(id, "event of a test"), "event of a test");
  const set = () => setPerfEventProgram(event.fd, program.fd, "event of a test");
  expect(set).toThrow(/cannot attach to the event of a test: ioctl\(PERF_EVENT_IOC_SET_BPF\)/);
  expect(() => openTracepointEvent(0xffff_ffff, "event of a test")).toThrow(
    /cannot open the event of a test: perf_event_open/,
  );
});

const hasTracefs = existsSync("/sys/kernel/tracing/events");
test.skipIf(hasTracefs)(
  "without privilege, and no tracefs mounted, the error says so",
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
