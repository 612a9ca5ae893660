/** @module Makes links of many types for tests, by system calls: the library cannot attach in all of these ways. */
import { copyFileSync, openSync, readFileSync } from "node:fs";
import type { Pointer } from "bun:ffi";
import { loadProbeProgram, type ProbeProgram } from "../../src/features/probe_program.ts";
import { createLinkTo, type LinkToRequest, type LinkTarget } from "../../src/ffi/bpf_link.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { errnoName, lastErrno } from "../../src/ffi/error.ts";
import { otherSyscalls } from "../../src/ffi/libc_others.ts";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import { asm, Link, Program } from "../../src/index.ts";
import { openProbe, type ProbePlace } from "../../src/link/perf_event.ts";
import { PERF_EVENT_ATTR } from "../../src/uapi/layout.ts";
import { SYS_perf_event_open } from "../../src/uapi/system.ts";

/** A link, which keeps its program loaded. */
export interface Attached extends Disposable {
  readonly link: Link;
}

/** Loads a program that returns a constant, and attaches it. */
function attach(
  program: Omit<ProbeProgram, "code">,
  returned: number,
  attachType: LinkToRequest["attachType"],
  target: LinkTarget,
): Attached {
  const code = [asm.mov(asm.r0, returned), asm.exit()];
  using loaded = loadProbeProgram({ ...program, code });
  const context = { doing: `attach ${attachType}` };
  const fd = createLinkTo({ fd: loaded.fd, attachType, target }, context);
  return attached(new Link(new Descriptor(fd, `${attachType} link of a test`)));
}

function attached(link: Link): Attached {
  return { link, [Symbol.dispose]: () => link[Symbol.dispose]() };
}

/** The index of the loopback interface. */
export const loopback = 1;

const next = -1;

/** Attaches to the egress of the loopback interface (kernel 6.6). */
export function attachTcx(): Attached {
  const target = { kind: "interface", index: loopback } as const;
  return attach({ type: "sched_cls" }, next, "tcx_egress", target);
}

/** Attaches to the loopback interface in generic mode, because it has no driver with XDP (kernel 5.9). */
export function attachXdp(): Attached {
  const pass = 2;
  const target = { kind: "interface", index: loopback } as const;
  return attach({ type: "xdp", attachType: "xdp" }, pass, "xdp", target);
}

/** Attaches to a cgroup (kernel 5.7). @param folder the directory of a cgroup of version 2 */
export function attachCgroup(folder: string): Attached {
  using target = new Descriptor(openSync(folder, "r"), "cgroup of a test");
  const attachType = "cgroup_inet_egress";
  return attach({ type: "cgroup_skb", attachType }, 1, attachType, open(target));
}

function open({ fd }: Descriptor): LinkTarget {
  return { kind: "descriptor", fd };
}

/** Attaches to the network namespace of this process (kernel 5.9). */
export function attachNetns(): Attached {
  using target = new Descriptor(openSync("/proc/self/ns/net", "r"), "namespace of a test");
  const program = { type: "sk_lookup", attachType: "sk_lookup" } as const;
  return attach(program, 1, "sk_lookup", open(target));
}

/** Attaches to a netfilter hook (kernel 6.4). */
export function attachNetfilter(): Attached {
  return attach({ type: "netfilter", attachType: "netfilter" }, 1, "netfilter", {
    kind: "netfilter",
    family: "IPV4",
    hook: "LOCAL_IN",
    priority: -7,
  });
}

/** Attaches an iterator over tasks (kernel 5.8). */
export function attachIterator(): Attached {
  const target = { kind: "func", name: "bpf_iter_task" } as const;
  const program = { type: "tracing", attachType: "trace_iter", target } as const;
  return attach(program, 0, "trace_iter", { kind: "loaded for" });
}

/** Attaches to several offsets of a file (kernel 6.6). No process executes the file, so the probes have no effect. */
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

/** Attaches to the perf event of a uprobe (kernel 5.15). */
export function attachUprobe(file: string, offset: bigint): Attached {
  copyFileSync("/bin/true", file);
  return attachProbe({ source: "uprobe", target: file, offset: Number(offset) });
}

function attachProbe(place: Omit<ProbePlace, "isReturn">): Attached {
  using event = openProbe({ ...place, isReturn: false }, "probe of a test");
  return attach({ type: "kprobe" }, 0, "perf_event", { kind: "perf event", fd: event.fd });
}

/** The event PERF_COUNT_SW_CONTEXT_SWITCHES. */
export const contextSwitches = 3n;

/** Attaches to a counter of context switches (kernel 5.15). */
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

/** A function of all tested kernels to which all kinds of probes can be attached. */
export const probed = "kernel_clone";

/** Attaches to the perf event of a kprobe (kernel 5.15). */
export function attachKprobe(): Attached {
  return attachProbe({ source: "kprobe", target: probed, offset: 0 });
}

/** Attaches to several kernel functions (kernel 5.18, with fprobes). */
export function attachKprobes(cookie: bigint): Attached {
  const type = "trace_kprobe_multi";
  return attach({ type: "kprobe", attachType: type }, 0, type, {
    kind: "kernel functions",
    names: [probed],
    cookies: [cookie],
  });
}

/** Attaches to the entry of a function (kernel 5.5). */
export function attachFentry(): Attached {
  using program = new Program({
    section: `fentry/${probed}`,
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  });
  return attached(program.attach());
}

/** Returns the reason why a link cannot be made; `undefined` if it can. */
export function obstacleTo(make: () => Attached): string | undefined {
  try {
    make()[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Returns the path where the cgroup2 file system is mounted; `undefined` if it is not. */
export function cgroupRoot(): string | undefined {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8");
  return /^\S+ \S+ \S+ \/ (\S+) .* - cgroup2 /m.exec(mounts)?.[1];
}
