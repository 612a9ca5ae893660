/** @module Links of many kinds, for tests: made by the system calls themselves, as the library does not attach to all of it. */
import { copyFileSync, openSync, readFileSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { loadProbeProgram, type ProbeProgram } from "../../src/features/probe_program.ts";
import {
  createLink,
  type LinkParts,
  type LinkTarget,
  openRawTracepoint,
} from "../../src/ffi/bpf_link.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { errnoName, lastErrno } from "../../src/ffi/error.ts";
import { otherSyscalls } from "../../src/ffi/libc_others.ts";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import { asm, Link } from "../../src/index.ts";
import { openProbe, type ProbePlace } from "../../src/link/perf_event.ts";
import { PERF_EVENT_ATTR } from "../../src/uapi/layout.ts";
import { SYS_perf_event_open } from "../../src/uapi/system.ts";

/** A link with the program that it attaches, which need not stay open. */
export interface Attached extends Disposable {
  readonly link: Link;
}

/** Loads a program that returns a number, and attaches it. */
function attach(
  program: Omit<ProbeProgram, "code">,
  returned: number,
  attachType: LinkParts["attachType"],
  target: LinkTarget,
): Attached {
  const code = [asm.mov(asm.r0, returned), asm.exit()];
  using loaded = loadProbeProgram({ ...program, code });
  const context = { doing: `attach ${attachType}` };
  const fd = createLink({ fd: loaded.fd, attachType, target }, context);
  return attached(new Link(new Descriptor(fd, `${attachType} link of a test`)));
}

function attached(link: Link): Attached {
  return { link, [Symbol.dispose]: () => link[Symbol.dispose]() };
}

/** The index of the loopback interface. */
export const loopback = 1;

const next = -1;

/** Kernel 6.6. */
export function attachTcx(): Attached {
  const target = { kind: "interface", index: loopback } as const;
  return attach({ type: "sched_cls" }, next, "tcx_egress", target);
}

/** Kernel 5.9; by the network stack itself, as loopback has no driver that could. */
export function attachXdp(): Attached {
  const pass = 2;
  const target = { kind: "interface", index: loopback } as const;
  return attach({ type: "xdp", attachType: "xdp" }, pass, "xdp", target);
}

/** Kernel 5.7. @param folder of a cgroup of version 2 */
export function attachCgroup(folder: string): Attached {
  using target = new Descriptor(openSync(folder, "r"), "cgroup of a test");
  const attachType = "cgroup_inet_egress";
  return attach({ type: "cgroup_skb", attachType }, 1, attachType, open(target));
}

function open({ fd }: Descriptor): LinkTarget {
  return { kind: "descriptor", fd };
}

/** Kernel 5.9. */
export function attachNetns(): Attached {
  using target = new Descriptor(openSync("/proc/self/ns/net", "r"), "namespace of a test");
  const program = { type: "sk_lookup", attachType: "sk_lookup" } as const;
  return attach(program, 1, "sk_lookup", open(target));
}

/** Kernel 6.4. */
export function attachNetfilter(): Attached {
  return attach({ type: "netfilter", attachType: "netfilter" }, 1, "netfilter", {
    kind: "netfilter",
    family: "IPV4",
    hook: "LOCAL_IN",
    priority: -7,
  });
}

/** Kernel 5.8. */
export function attachIterator(): Attached {
  const target = { kind: "func", name: "bpf_iter_task" } as const;
  const program = { type: "tracing", attachType: "trace_iter", target } as const;
  return attach(program, 0, "trace_iter", { kind: "loaded for" });
}

/** Kernel 6.6. The probes are in a file that nothing runs, so that nothing is changed by them. */
export function attachUprobes(file: string, offsets: readonly bigint[], cookie: bigint): Attached {
  copyFileSync("/bin/true", file);
  const type = "trace_uprobe_multi";
  return attach({ type: "kprobe", attachType: type }, 0, type, {
    kind: "file places",
    path: file,
    offsets: offsets.map(Number),
    cookies: offsets.map((_, index) => cookie + BigInt(index)),
  });
}

/** Kernel 5.15. A uprobe by a perf event. */
export function attachUprobe(file: string, offset: bigint): Attached {
  copyFileSync("/bin/true", file);
  return attachProbe({ source: "uprobe", target: file, offset: Number(offset) });
}

function attachProbe(place: Omit<ProbePlace, "isReturn">): Attached {
  using event = openProbe({ ...place, isReturn: false }, "probe of a test");
  return attach({ type: "kprobe" }, 0, "perf_event", { kind: "perf event", fd: event.fd });
}

/** PERF_COUNT_SW_CONTEXT_SWITCHES */
export const contextSwitches = 3n;

/** Kernel 5.15. A counter of changes of the running thread. */
export function attachCounter(): Attached {
  using event = openCounter();
  const target = { kind: "perf event", fd: event.fd, cookie: 0x1234n } as const;
  return attach({ type: "perf_event" }, 0, "perf_event", target);
}

function openCounter(): Descriptor {
  const size = 64;
  const software = 1;
  using attr = allocateScratch(size);
  attr.view.setUint32(PERF_EVENT_ATTR.type, software, true);
  attr.view.setUint32(PERF_EVENT_ATTR.size, size, true);
  attr.view.setBigUint64(PERF_EVENT_ATTR.config, contextSwitches, true);
  attr.view.setBigUint64(PERF_EVENT_ATTR.sample_period, 2n ** 40n, true);
  const number = SYS_perf_event_open[process.arch as "x64" | "arm64"];
  const closeOnExec = 1n << 3n;
  const fd = otherSyscalls.perf_event_open(number, attr.address as Pointer, -1, 0, -1, closeOnExec);
  if (fd < 0) throw new Error(`perf_event_open: ${errnoName(lastErrno())}`);
  return new Descriptor(fd, "event of a test");
}

/** A function of every kernel that is tested, of the kind that all probes take. */
export const probed = "kernel_clone";

/** Kernel 5.15, with kprobes. */
export function attachKprobe(): Attached {
  return attachProbe({ source: "kprobe", target: probed, offset: 0 });
}

/** Kernel 5.18, with fprobes. */
export function attachKprobes(cookie: bigint): Attached {
  const type = "trace_kprobe_multi";
  return attach({ type: "kprobe", attachType: type }, 0, type, {
    kind: "kernel functions",
    names: [probed],
    cookies: [cookie],
  });
}

/** Kernel 5.5, where it takes functions' entries. */
export function attachFentry(): Attached {
  const target = { kind: "func", name: probed } as const;
  using program = loadProbeProgram({ type: "tracing", attachType: "trace_fentry", target });
  const fd = openRawTracepoint(program.fd, null, { doing: "attach" });
  return attached(new Link(new Descriptor(fd, "fentry link of a test")));
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
