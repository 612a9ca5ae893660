/** @module Makes links of many types for tests. */
import { copyFileSync, readFileSync } from "node:fs";
import {
  asm,
  type AttachArguments,
  type Link,
  Program,
  type SectionName,
} from "../../src/index.ts";

/** A link, which keeps its program loaded. */
export interface Attached extends Disposable {
  readonly link: Link;
}

function attached(link: Link): Attached {
  return { link, [Symbol.dispose]: () => link[Symbol.dispose]() };
}

/** Loads a program that returns a constant, and attaches it in the way of its section. */
function attach<const S extends SectionName>(
  section: S,
  returned: number,
  ...options: AttachArguments<S>
): Attached {
  const code = [asm.mov(asm.r0, returned), asm.exit()];
  using program = new Program({ section, license: "GPL", code });
  return attached(program.attach(...options));
}

/** The index of the loopback interface. */
export const loopback = 1;

const next = -1;

/** Attaches to the egress of the loopback interface (kernel 6.6). */
export function attachTcx(): Attached {
  return attach("tcx/egress", next, { interface: loopback, method: "tcx" });
}

/** Attaches to the loopback interface in generic mode, because it has no driver with XDP (kernel 5.9). */
export function attachXdp(): Attached {
  const pass = 2;
  return attach("xdp", pass, { interface: loopback, method: "link" });
}

/** Attaches to a cgroup (kernel 5.7). @param folder the directory of a cgroup of version 2 */
export function attachCgroup(folder: string): Attached {
  return attach("cgroup_skb/egress", 1, { cgroup: folder, method: "link" });
}

/** Attaches to the network namespace of this process (kernel 5.9). */
export function attachNetns(): Attached {
  return attach("sk_lookup", 1);
}

/** Attaches to a netfilter hook (kernel 6.4). */
export function attachNetfilter(): Attached {
  const options = { family: "ipv4", hook: "local_in", priority: -7 } as const;
  return attach("netfilter", 1, options);
}

/** Attaches an iterator over tasks (kernel 5.8). */
export function attachIterator(): Attached {
  return attach("iter/task", 0);
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
  return attach(`fentry/${probed}`, 0);
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
