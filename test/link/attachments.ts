/** @module Links of many kinds, for tests: made by the system calls themselves, as the library does not attach to all of it. */
import { copyFileSync, openSync, readFileSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { BpfAttr } from "../../src/ffi/bpf.ts";
import { openRawTracepoint } from "../../src/ffi/bpf_link.ts";
import { tryLoadProgram } from "../../src/ffi/bpf_prog.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { errnoName, lastErrno } from "../../src/ffi/errno.ts";
import { syscalls } from "../../src/ffi/libc.ts";
import { allocateScratch } from "../../src/ffi/scratch.ts";
import { asm, assemble, Btf, Link } from "../../src/index.ts";
import { bpfAttachTypes, bpfProgTypes } from "../../src/uapi/enumerations.ts";
import { LINK_CREATE, PERF_EVENT_ATTR } from "../../src/uapi/layout.ts";
import { syscallNumbers } from "../../src/uapi/syscalls.ts";

/** A link with the program that it attaches, which need not stay open. */
export interface Attached extends Disposable {
  readonly link: Link;
}

/** Fills in what is particular to a kind of link. */
type Fill = (attr: BpfAttr) => void;

/** A program of two instructions, of any type. */
function load(
  type: keyof typeof bpfProgTypes,
  attachType: keyof typeof bpfAttachTypes | undefined,
  returned: number,
  attachBtfId = 0,
): Descriptor {
  const { bytes } = assemble([asm.mov(asm.r0, returned), asm.exit()]);
  const loaded = tryLoadProgram(
    {
      type: bpfProgTypes[type],
      expectedAttachType: attachType === undefined ? 0 : bpfAttachTypes[attachType],
      attachBtfId,
      flags: 0,
      instructions: bytes,
      license: "GPL",
      name: "attached",
    },
    0,
  );
  if ("errno" in loaded) throw new Error(`loading ${type}: ${errnoName(loaded.errno)}`);
  return new Descriptor(loaded.fd, "program of a test");
}

function attach(
  program: Descriptor,
  attachType: keyof typeof bpfAttachTypes,
  target: number,
  fill: Fill = () => {},
): Attached {
  try {
    using attr = new BpfAttr(LINK_CREATE.sizeof);
    attr
      .u32(LINK_CREATE.prog_fd, program.fd)
      .u32(LINK_CREATE.target_fd, target)
      .u32(LINK_CREATE.attach_type, bpfAttachTypes[attachType]);
    fill(attr);
    const fd = attr.tryCall("BPF_LINK_CREATE");
    if (fd < 0) throw new Error(`attaching ${attachType}: ${errnoName(lastErrno())}`);
    const link = new Link(fd, `${attachType} link of a test`);
    return { link, [Symbol.dispose]: () => link[Symbol.dispose]() };
  } finally {
    program[Symbol.dispose]();
  }
}

/** The index of the loopback interface. */
export const loopback = 1;

const next = -1;

/** Kernel 6.6. */
export function attachTcx(): Attached {
  return attach(load("SCHED_CLS", undefined, next), "TCX_EGRESS", loopback);
}

/** Kernel 5.9; by the network stack itself, as loopback has no driver that could. */
export function attachXdp(): Attached {
  const skbMode = 1 << 1;
  const pass = 2;
  return attach(load("XDP", "XDP", pass), "XDP", loopback, (attr) =>
    attr.u32(LINK_CREATE.flags, skbMode),
  );
}

/** Kernel 5.7. @param folder of a cgroup of version 2 */
export function attachCgroup(folder: string): Attached {
  using target = new Descriptor(openSync(folder, "r"), "cgroup of a test");
  return attach(load("CGROUP_SKB", "CGROUP_INET_EGRESS", 1), "CGROUP_INET_EGRESS", target.fd);
}

/** Kernel 5.9. */
export function attachNetns(): Attached {
  using target = new Descriptor(openSync("/proc/self/ns/net", "r"), "namespace of a test");
  return attach(load("SK_LOOKUP", "SK_LOOKUP", 1), "SK_LOOKUP", target.fd);
}

/** Kernel 6.4. */
export function attachNetfilter(): Attached {
  const ipv4 = 2;
  const localIn = 1;
  return attach(load("NETFILTER", "NETFILTER", 1), "NETFILTER", 0, (attr) =>
    attr
      .u32(LINK_CREATE.netfilter_pf, ipv4)
      .u32(LINK_CREATE.netfilter_hooknum, localIn)
      .u32(LINK_CREATE.netfilter_priority, -7 >>> 0),
  );
}

/** Kernel 5.8. */
export function attachIterator(): Attached {
  const btfId = Btf.kernel().find("func", "bpf_iter_task");
  if (btfId === undefined) throw new Error("no iterator over tasks");
  return attach(load("TRACING", "TRACE_ITER", 0, btfId), "TRACE_ITER", 0);
}

/** Kernel 6.6. The probes are in a file that nothing runs, so that nothing is changed by them. */
export function attachUprobes(file: string, offsets: readonly bigint[], cookie: bigint): Attached {
  copyFileSync("/bin/true", file);
  return attach(load("KPROBE", "TRACE_UPROBE_MULTI", 0), "TRACE_UPROBE_MULTI", 0, (attr) => {
    attr
      .string(LINK_CREATE.uprobe_multi_path, file)
      .u32(LINK_CREATE.uprobe_multi_cnt, offsets.length);
    const places = attr.memory(LINK_CREATE.uprobe_multi_offsets, offsets.length * 8);
    const cookies = attr.memory(LINK_CREATE.uprobe_multi_cookies, offsets.length * 8);
    for (const [index, offset] of offsets.entries()) {
      places.view.setBigUint64(index * 8, offset, true);
      cookies.view.setBigUint64(index * 8, cookie + BigInt(index), true);
    }
  });
}

/** Kernel 5.15. A uprobe by a perf event. */
export function attachUprobe(file: string, offset: bigint): Attached {
  copyFileSync("/bin/true", file);
  const type = Number(readFileSync("/sys/bus/event_source/devices/uprobe/type", "utf8"));
  using path = allocateScratch(file.length + 1);
  path.bytes.set(Buffer.from(file));
  using event = openEvent(type, 0n, BigInt(path.address), offset);
  return attach(load("KPROBE", undefined, 0), "PERF_EVENT", event.fd);
}

/** PERF_COUNT_SW_CONTEXT_SWITCHES */
export const contextSwitches = 3n;

/** Kernel 5.15. A counter of changes of the running thread. */
export function attachCounter(): Attached {
  const software = 1;
  using event = openEvent(software, contextSwitches, 0n, 0n);
  return attach(load("PERF_EVENT", undefined, 0), "PERF_EVENT", event.fd, (attr) =>
    attr.u64(LINK_CREATE.perf_event_bpf_cookie, 0x1234n),
  );
}

function openEvent(type: number, config: bigint, config1: bigint, config2: bigint): Descriptor {
  const size = 72;
  using attr = allocateScratch(size);
  attr.view.setUint32(PERF_EVENT_ATTR.type, type, true);
  attr.view.setUint32(PERF_EVENT_ATTR.size, size, true);
  attr.view.setBigUint64(PERF_EVENT_ATTR.config, config, true);
  attr.view.setBigUint64(PERF_EVENT_ATTR.config1, config1, true);
  attr.view.setBigUint64(PERF_EVENT_ATTR.config2, config2, true);
  if (config1 === 0n) attr.view.setBigUint64(PERF_EVENT_ATTR.sample_period, 2n ** 40n, true);
  const number = syscallNumbers[process.arch as "x64" | "arm64"].perf_event_open;
  const closeOnExec = 1n << 3n;
  const fd = syscalls.perf_event_open(number, attr.address as Pointer, -1, 0, -1, closeOnExec);
  if (fd < 0) throw new Error(`perf_event_open: ${errnoName(lastErrno())}`);
  return new Descriptor(fd, "event of a test");
}

/** A function of every kernel that is tested, of the kind that all probes take. */
export const probed = "kernel_clone";

/** Kernel 5.15, with kprobes. */
export function attachKprobe(): Attached {
  const type = Number(readFileSync("/sys/bus/event_source/devices/kprobe/type", "utf8"));
  using name = allocateScratch(probed.length + 1);
  name.bytes.set(Buffer.from(probed));
  using event = openEvent(type, 0n, BigInt(name.address), 0n);
  return attach(load("KPROBE", undefined, 0), "PERF_EVENT", event.fd);
}

/** Kernel 5.18, with fprobes. */
export function attachKprobes(cookie: bigint): Attached {
  return attach(load("KPROBE", "TRACE_KPROBE_MULTI", 0), "TRACE_KPROBE_MULTI", 0, (attr) => {
    // The name is behind the array of pointers that has its address.
    const names = attr.memory(LINK_CREATE.kprobe_multi_syms, 8 + probed.length + 1);
    names.bytes.set(Buffer.from(probed), 8);
    names.view.setBigUint64(0, BigInt(names.address + 8), true);
    const cookies = attr.memory(LINK_CREATE.kprobe_multi_cookies, 8);
    cookies.view.setBigUint64(0, cookie, true);
    attr.u32(LINK_CREATE.kprobe_multi_cnt, 1);
  });
}

/** Kernel 5.5, where it takes functions' entries. */
export function attachFentry(): Attached {
  const btfId = Btf.kernel().find("func", probed);
  if (btfId === undefined) throw new Error(`no function ${probed}`);
  using program = load("TRACING", "TRACE_FENTRY", 0, btfId);
  const fd = openRawTracepoint(program.fd, null, { doing: "attach" });
  const link = new Link(fd, "fentry link of a test");
  return { link, [Symbol.dispose]: () => link[Symbol.dispose]() };
}

/** Why a kind of link cannot be made here, or `undefined` where it can. */
export function obstacleTo(make: () => Attached): string | undefined {
  try {
    make()[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The root of the cgroups of version 2, or `undefined` where none is mounted. */
export function cgroupRoot(): string | undefined {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  return /^\S+ \S+ \S+ \/ (\S+) .* - cgroup2 /m.exec(mounts)?.[1];
}
