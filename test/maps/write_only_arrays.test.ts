import { describe, expect } from "bun:test";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmdirSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { parseCpuList } from "../../src/ffi/kernel.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { otherSyscalls } from "../../src/ffi/libc_others.ts";
import { architecture } from "../../src/ffi/platform.ts";
import {
  allocateScratch,
  getUint64,
  MappedMemory,
  pageSize,
  setUint64,
} from "../../src/ffi/mapped_memory.ts";
import { mountCgroups } from "../../src/features/attach_probes.ts";
import {
  asm,
  CgroupArray,
  PerfEventArray,
  possibleCpus,
  Program,
  XskMap,
  BpfError,
} from "../../src/index.ts";
import { PERF_EVENT_ATTR } from "../../src/uapi/layout.ts";
import {
  PERF_COUNT_SW_BPF_OUTPUT,
  PERF_FLAG_FD_CLOEXEC,
  PERF_SAMPLE_RAW,
  PERF_TYPE_SOFTWARE,
  SYS_perf_event_open,
} from "../../src/uapi/system.ts";
import { bpfTest, bpfObstacle } from "../support/privilege.ts";
import { refusalOf } from "./refusal_of.ts";
import { idleSocket, xdpSocket } from "./sockets.ts";
import { testUnless } from "../support/skipping.ts";

const { r1, r2, r3, r4, r5, fp, add, call, exit, ldMap, lddw, mov, stdw } = asm;

/** Offset of the bit-field in `struct perf_event_attr` whose second bit is `inherit`. */
const flagsOffset = PERF_EVENT_ATTR.read_format + 8;

/** Opens a perf event of one CPU that programs write to; optionally one that child processes inherit. */
function outputEvent(cpu: number, isInherited = false): Descriptor {
  using attr = allocateScratch(64);
  attr.view.setUint32(PERF_EVENT_ATTR.type, PERF_TYPE_SOFTWARE, true);
  attr.view.setUint32(PERF_EVENT_ATTR.size, 64, true);
  setUint64(attr.view, PERF_EVENT_ATTR.config, PERF_COUNT_SW_BPF_OUTPUT);
  setUint64(attr.view, PERF_EVENT_ATTR.sample_type, PERF_SAMPLE_RAW);
  attr.view.setUint32(flagsOffset, isInherited ? 2 : 0, true);
  const number = SYS_perf_event_open[architecture];
  const address = attr.address as Pointer;
  const fd = otherSyscalls.perf_event_open(number, address, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  return new Descriptor(fd, "perf event");
}

/** CPUs that can have events. */
const onlineCpus = parseCpuList(readFileSync("/sys/devices/system/cpu/online", "utf8"));

/** Returns a negative number as the kernel returns errors: an unsigned 32-bit integer. */
const signed = (returnValue: number): number => returnValue | 0;
const ENOENT = -2;

describe("an array of perf events", () => {
  bpfTest("is used by programs that write records", () => {
    using events = new PerfEventArray();
    expect(events.length).toBe(Math.max(...possibleCpus()) + 1);
    using program = new Program({
      section: "raw_tp/sched_switch",
      license: "GPL",
      maps: { events },
      code: [
        stdw(fp, -8, 0x1234),
        ldMap(r2, "events"),
        lddw(r3, 0xffffffffn), // the CPU that runs it
        mov(r4, fp),
        add(r4, -8),
        mov(r5, 8),
        call("perf_event_output"),
        exit(),
      ],
    });
    const write = () => signed(program.testRun().returnValue);
    expect(write()).toBe(ENOENT);
    using open = new DisposableStack();
    const buffers = onlineCpus.map((cpu) => {
      const event = open.use(outputEvent(cpu));
      const mapping = { fd: event.fd, offset: 0, length: 2 * pageSize() };
      events.set(cpu, event);
      return open.use(MappedMemory.ofFile({ ...mapping, writable: true, what: "perf buffer" }));
    });
    // Position of the newest record, in the page before the records (struct perf_event_mmap_page).
    const written = () =>
      buffers.reduce((sum, { buffer }) => sum + getUint64(new DataView(buffer), 1024), 0);
    expect(written()).toBe(0);
    expect(write()).toBe(0);
    expect(written()).toBeGreaterThan(8);
    for (const cpu of onlineCpus) {
      expect(events.delete(cpu)).toBe(true);
      expect(events.delete(cpu)).toBe(false);
    }
    expect(write()).toBe(ENOENT);
  });

  bpfTest("loses its events with the object that stored them", () => {
    const [cpu = 0] = onlineCpus;
    for (const isPreserved of [false, true]) {
      const flags = isPreserved ? (["preserve_elems"] as const) : [];
      using events = new PerfEventArray({ flags });
      {
        using event = outputEvent(cpu);
        // Opening by id makes another open file; a duplicate shares the first one's.
        using other = PerfEventArray.fromId(events.id);
        other.set(cpu, event);
      }
      expect(events.delete(cpu)).toBe(isPreserved);
    }
  });

  bpfTest("rejects descriptors that are not perf events, with the cause", () => {
    using events = new PerfEventArray({ length: 2, name: "events" });
    const refusal = refusalOf(() => events.set(1, events));
    expect(refusal.code).toBe("EBADF");
    expect(refusal.hint).toStartWith("No perf event is open");
    using inherited = outputEvent(onlineCpus[0] ?? 0, true);
    expect(refusalOf(() => events.set(1, inherited)).hint).toContain("inherit");
    expect(() => events.set(2, events)).toThrow(RangeError);
    expect(() => events.delete(2)).toThrow(RangeError);
    expect(events.delete(1)).toBe(false);
  });
});

describe("an array of cgroups", () => {
  bpfTest("is used by programs that test the cgroup of a task", () => {
    using fileSystem = mountCgroups();
    const empty = `${fileSystem.path}/bun-bpf-test-${process.pid}`;
    mkdirSync(empty);
    using _removal = { [Symbol.dispose]: () => existsSync(empty) && rmdirSync(empty) };
    using cgroups = new CgroupArray({ length: 2 });
    using program = new Program({
      section: "raw_tp/sched_switch",
      license: "GPL",
      maps: { cgroups },
      code: [ldMap(r1, "cgroups"), mov(r2, 1), call("current_task_under_cgroup"), exit()],
    });
    const ask = () => signed(program.testRun().returnValue);
    const EAGAIN = -11;
    expect(ask()).toBe(EAGAIN);
    expect(cgroups.set(1, fileSystem.path)).toBe(cgroups);
    expect(ask()).toBe(1);
    cgroups.set(1, empty);
    expect(ask()).toBe(0);
    // The array refers to the cgroup, not to its path.
    rmdirSync(empty);
    expect(ask()).toBe(0);
    const root = openSync(fileSystem.path, "r");
    try {
      cgroups.set(1, { fd: root });
    } finally {
      closeSync(root);
    }
    expect(ask()).toBe(1);
    expect(cgroups.delete(1)).toBe(true);
    expect(cgroups.delete(1)).toBe(false);
    expect(ask()).toBe(EAGAIN);
  });

  bpfTest(
    "rejects paths and descriptors that are not cgroups, with the cause, and leaves nothing open",
    () => {
      using cgroups = new CgroupArray({ length: 1, name: "cgroups" });
      const refusal = refusalOf(() => cgroups.set(0, "/"));
      expect(refusal.code).toBe("EBADF");
      expect(refusal.hint).toContain("cgroup2");
      expect(() => cgroups.set(0, "/no/such/directory")).toThrow("ENOENT");
      expect(() => cgroups.set(0, import.meta.path)).toThrow("ENOTDIR");
      expect(() => cgroups.set(0, "")).toThrow(TypeError);
      expect(() => cgroups.set(0, "/sys\0")).toThrow(TypeError);
      expect(() => cgroups.set(1, "/")).toThrow(RangeError);
      expect(() => cgroups.set(0, -1)).toThrow(
        new RangeError(
          'value of cgroup_array map "cgroups": expected the path of a cgroup or its open directory: a descriptor from 0 to 2147483647, got -1',
        ),
      );
    },
  );
});

/** Reason why sockets cannot be tested here, or `undefined`. */
function findSocketObstacle(): string | undefined {
  using sockets = new XskMap({ length: 1 });
  using socket = xdpSocket();
  try {
    sockets.set(0, socket);
    return undefined;
  } catch (error) {
    // Linux 7.0 and later; two sockets would need an interface with two queues.
    if (error instanceof BpfError && error.code === "ENOBUFS") {
      return "this kernel accepts only sockets that are bound to a queue of an interface";
    }
    throw error;
  }
}

describe("a map of AF_XDP sockets", () => {
  testUnless(bpfObstacle ?? findSocketObstacle())(
    "stores sockets, and programs redirect to them",
    () => {
      using sockets = new XskMap({ length: 4 });
      const XDP_PASS = 2;
      const XDP_REDIRECT = 4;
      using program = new Program({
        section: "xdp",
        license: "GPL",
        maps: { sockets },
        code: [ldMap(r1, "sockets"), mov(r2, 3), mov(r3, XDP_PASS), call("redirect_map"), exit()],
      });
      const run = () => program.testRun({ data: new Uint8Array(64) }).returnValue;
      using socket = xdpSocket();
      using another = xdpSocket();
      expect(run()).toBe(XDP_PASS);
      expect(sockets.replace(3, socket)).toBe(false);
      expect(sockets.set(3, socket)).toBe(sockets);
      expect(run()).toBe(XDP_REDIRECT);
      expect(sockets.add(3, socket)).toBe(true);
      expect(sockets.add(3, another)).toBe(false);
      expect(sockets.replace(3, another)).toBe(true);
      expect(sockets.unset(3)).toBe(sockets);
      expect(run()).toBe(XDP_PASS);
      expect(sockets.unset(3)).toBe(sockets);
      expect(sockets.add(3, socket)).toBe(true);
      expect(run()).toBe(XDP_REDIRECT);
      socket[Symbol.dispose]();
      expect(run()).toBe(XDP_PASS);
    },
  );

  bpfTest("rejects other sockets and descriptors, with the cause", () => {
    using sockets = new XskMap({ length: 1 });
    using tcp = idleSocket();
    expect(refusalOf(() => sockets.set(0, tcp)).hint).toStartWith(
      "The socket is not of the family AF_XDP",
    );
    expect(refusalOf(() => sockets.set(0, sockets)).hint).toStartWith(
      "The descriptor is not a socket",
    );
    expect(refusalOf(() => sockets.add(0, 999_999)).code).toBe("EBADF");
    expect(() => sockets.set(1, tcp)).toThrow(RangeError);
    expect(() => sockets.add(1, tcp)).toThrow(RangeError);
    expect(() => sockets.replace(1, tcp)).toThrow(RangeError);
    expect(() => sockets.unset(1)).toThrow(RangeError);
  });
});
