/** @module Makes links of many types for tests, by system calls: the library cannot attach in all of these ways. */
import { copyFileSync, readFileSync } from "node:fs";
import { loadProbeProgram, type ProbeProgram } from "../../src/features/probe_program.ts";
import {
  createLinkTo,
  type LinkToRequest,
  type LinkTarget,
  openRawTracepoint,
} from "../../src/ffi/bpf_link.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { asm, Link, Program, type SectionName } from "../../src/index.ts";

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
  using program = returning("cgroup_skb/egress", 1);
  return attached(program.attach({ cgroup: folder, method: "link" }));
}

/** Attaches to the network namespace of this process (kernel 5.9). */
export function attachNetns(): Attached {
  using program = returning("sk_lookup", 1);
  return attached(program.attach());
}

/** Loads a program that returns a constant. */
function returning<const S extends SectionName>(section: S, returned: number): Program<S> {
  const code = [asm.mov(asm.r0, returned), asm.exit()];
  return new Program({ section, license: "GPL", code });
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
  const code = [asm.mov(asm.r0, 0), asm.exit()];
  using program = new Program({ section: "iter/task", license: "GPL", code });
  return attached(program.attach());
}

/** Attaches to several offsets of a file (kernel 6.6). No process executes the file, so the probes have no effect. */
export function attachUprobes(file: string, offsets: readonly bigint[], cookie: bigint): Attached {
  copyFileSync("/bin/true", file);
  using program = new Program({ section: "uprobe.multi", ...nothing });
  const link = program.attach({
    path: file,
    offsets: offsets.map(Number),
    cookies: offsets.map((_, index) => cookie + BigInt(index)),
  });
  return attached(link);
}

/** Attaches to the perf event of a uprobe (kernel 5.15). */
export function attachUprobe(file: string, offset: bigint): Attached {
  copyFileSync("/bin/true", file);
  using program = new Program({ section: "uprobe", ...nothing });
  return attached(program.attach({ path: file, offset: Number(offset) }));
}

/** The code of a program that does nothing. */
const nothing = { license: "GPL", code: [asm.mov(asm.r0, 0), asm.exit()] } as const;

/** The event PERF_COUNT_SW_CONTEXT_SWITCHES. */
export const contextSwitches = 3n;

/** Attaches to a counter of context switches on the first CPU (kernel 5.15). */
export function attachCounter(): Attached {
  const code = [asm.mov(asm.r0, 0), asm.exit()];
  using program = new Program({ section: "perf_event", license: "GPL", code });
  const options = { event: "context-switches", period: 2n ** 40n, cpu: 0 } as const;
  return attached(program.attach({ ...options, cookie: 0x1234n, link: true }));
}

/** A function of all tested kernels to which all kinds of probes can be attached. */
export const probed = "kernel_clone";

/** Attaches to the perf event of a kprobe (kernel 5.15). */
export function attachKprobe(): Attached {
  using program = new Program({ section: `kprobe/${probed}`, ...nothing });
  return attached(program.attach());
}

/** Attaches to several kernel functions (kernel 5.18, with fprobes). */
export function attachKprobes(cookie: bigint): Attached {
  using program = new Program({ section: `kprobe.multi/${probed}`, ...nothing });
  return attached(program.attach({ cookies: [cookie] }));
}

/** Attaches to the entry of a function (kernel 5.5). */
export function attachFentry(): Attached {
  const target = { kind: "func", name: probed } as const;
  using program = loadProbeProgram({ type: "tracing", attachType: "trace_fentry", target });
  const fd = openRawTracepoint(program.fd, null, { doing: "attach" });
  return attached(new Link(new Descriptor(fd, "fentry link of a test")));
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
