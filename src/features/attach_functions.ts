/** @module Ways to attach to functions of the kernel that take no knowledge of their types. */

import { Btf } from "../btf/btf.ts";
import {
  type AttachKinds,
  cookie,
  descriptorOf,
  KernelAnswer,
  Missing,
  sinceByArchitecture,
  tryLink,
} from "./attach_kind.ts";
import { mapTypes } from "../maps/map_types.ts";
import { probeMapOf } from "./map_types.ts";
import { loadExtension, loadExtensionTarget } from "./program_type_feature.ts";
import {
  kernelTypeId,
  loadTrial,
  type ProgramTarget,
  type TrialProgram,
} from "./smallest_program.ts";
import { openRawTracepoint } from "../ffi/bpf_link.ts";
import { probeElement } from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { enablePerfEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { activeSecurityModules, bpfModuleObstacle } from "../ffi/security.ts";
import { openProbe, type ProbePlace } from "../link/probe_event.ts";
import { BPF_F_LINK } from "../uapi/bpf.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";

/** A function that every kernel since 4.17 has, and that is called by sync(2) alone. */
const target = "ksys_sync";

const kernelFacts = { needs: ["CAP_BPF", "CAP_PERFMON"] } as const;
const probes = { ...kernelFacts, config: ["CONFIG_KPROBE_EVENTS", "CONFIG_BPF_EVENTS"] } as const;
const manyProbes = { ...kernelFacts, config: ["CONFIG_FPROBE", "CONFIG_BPF_EVENTS"] } as const;

export const kernelFunctionKinds = {
  kprobe: { since: "4.17", ...probes, attach: () => tryProbe(false) },
  kretprobe: { since: "4.17", ...probes, attach: () => tryProbe(true) },
  "kprobe.multi": { since: "5.18", ...manyProbes, attach: () => tryKprobes("TRACE_KPROBE_MULTI") },
  "kretprobe.multi": {
    since: "5.18",
    ...manyProbes,
    attach: () => tryKprobes("TRACE_KPROBE_MULTI", { isReturn: true }),
  },
  "kprobe.multi_cookie": {
    since: "5.18",
    ...manyProbes,
    attach: () => tryKprobes("TRACE_KPROBE_MULTI", { cookies: [cookie] }),
  },
  "kprobe.session": {
    since: "6.10",
    ...manyProbes,
    attach: () => tryKprobes("TRACE_KPROBE_SESSION"),
  },
} as const satisfies AttachKinds;

function tryProbe(isReturn: boolean): void {
  attachToProbe({ source: "kprobe", isReturn, target, offset: 0 });
}

/** Makes a probe and has a program run at it, without a link. */
export function attachToProbe(place: ProbePlace): void {
  const what = `${place.source} of a trial`;
  using program = loadTrial({ type: "KPROBE" });
  using event = openProbe(place, what);
  setPerfEventProgram(event.fd, program.fd, what);
  enablePerfEvent(event.fd, what);
}

function tryKprobes(
  attachType: keyof typeof bpfAttachTypes,
  options: { isReturn?: boolean; cookies?: readonly bigint[] } = {},
): void {
  using program = loadTrial({ type: "KPROBE", attachType });
  const names = [target];
  using _link = tryLink({
    fd: program.fd,
    attachType,
    target: { kind: "kernel functions", names, ...options },
  });
}

/** A function that is there to be traced by tests (kernel 5.5): only test runs of tracing programs call it. */
const traced: ProgramTarget = { kind: "func", name: "bpf_fentry_test1" };
/** A function whose result may be changed, as those of security hooks may: quotactl(2) alone calls it. */
const modifiable: ProgramTarget = { kind: "func", name: "security_quotactl" };
/** The security hook of quotactl(2). */
export const securityHook: ProgramTarget = { kind: "func", name: "bpf_lsm_quotactl" };

const facts = {
  needs: ["CAP_BPF", "CAP_PERFMON"],
  config: ["CONFIG_BPF_EVENTS", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
} as const;
const trampoline = {
  ...facts,
  config: [...facts.config, "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"],
} as const;
const manyTrampolines = {
  ...trampoline,
  config: [...trampoline.config, "CONFIG_HAVE_SINGLE_FTRACE_DIRECT_OPS"],
} as const;
const security = { ...trampoline, config: [...trampoline.config, "CONFIG_BPF_LSM"] } as const;

/** Calls of trampolines came to arm64 later than the trampolines. */
function since(x64: KernelVersion): KernelVersion {
  return sinceByArchitecture({ x64, arm64: "6.4" });
}

export const typedFunctionKinds = {
  fentry: { since: since("5.5"), ...trampoline, attach: () => tryTracing("TRACE_FENTRY", traced) },
  fexit: { since: since("5.5"), ...trampoline, attach: () => tryTracing("TRACE_FEXIT", traced) },
  fmod_ret: {
    since: since("5.7"),
    ...trampoline,
    config: [...trampoline.config, "CONFIG_SECURITY"],
    attach: () => tryTracing("MODIFY_RETURN", modifiable),
  },
  fsession: { since: "7.0", ...trampoline, attach: () => tryTracing("TRACE_FSESSION", traced) },
  fentry_cookie: { since: since("5.19"), ...trampoline, attach: tryCookie },
  "fentry.multi": { since: "7.2", ...manyTrampolines, attach: () => tryMany("TRACE_FENTRY_MULTI") },
  "fexit.multi": { since: "7.2", ...manyTrampolines, attach: () => tryMany("TRACE_FEXIT_MULTI") },
  "fsession.multi": {
    since: "7.2",
    ...manyTrampolines,
    attach: () => tryMany("TRACE_FSESSION_MULTI"),
  },
  lsm: { since: since("5.7"), ...security, attach: trySecurityHook },
  freplace: {
    since: sinceByArchitecture({ x64: "5.6", arm64: "6.0" }),
    ...facts,
    config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
    attach: tryExtension,
  },
  iter: { since: "5.8", ...facts, attach: tryIterator },
} as const satisfies AttachKinds;

/** Attaches a program to what it was loaded for. */
function tryLoadedFor(program: TrialProgram): void {
  using loaded = loadTrial(program);
  using _link = new Descriptor(
    openRawTracepoint(loaded.fd, null, { doing: "attach to a function" }),
    "link of a trial",
  );
}

function tryTracing(attachType: keyof typeof bpfAttachTypes, target: ProgramTarget): void {
  tryLoadedFor({ type: "TRACING", attachType, target });
}

function tryCookie(): void {
  const attachType = "TRACE_FENTRY";
  using program = loadTrial({ type: "TRACING", attachType, target: traced });
  using _link = tryLink({ fd: program.fd, attachType, target: { kind: "loaded for", cookie } });
}

function tryMany(attachType: keyof typeof bpfAttachTypes): void {
  using program = loadTrial({ type: "TRACING", attachType });
  const ids = [kernelTypeId(traced.kind, traced.name)];
  using _link = tryLink({ fd: program.fd, attachType, target: { kind: "typed functions", ids } });
}

function trySecurityHook(): void {
  tryLoadedFor({ type: "LSM", attachType: "LSM_MAC", target: securityHook });
  requireActiveModule();
}

/** The kernel attaches programs to security hooks also where it calls none of them. */
export function requireActiveModule(): void {
  const modules = activeSecurityModules();
  const obstacle = "names" in modules ? bpfModuleObstacle(modules) : undefined;
  if (obstacle !== undefined) throw new Missing(obstacle);
}

function tryExtension(): void {
  using target = loadExtensionTarget();
  using program = loadExtension(target);
  using _link = new Descriptor(
    openRawTracepoint(program.fd, null, { doing: "replace a function" }),
    "link of a trial",
  );
}

function tryIterator(): void {
  const attachType = "TRACE_ITER";
  const target: ProgramTarget = { kind: "func", name: "bpf_iter_bpf_map" };
  using program = loadTrial({ type: "TRACING", attachType, target });
  using _link = tryLink({ fd: program.fd, attachType, target: { kind: "loaded for" } });
}

/** An algorithm of TCP against congestion: connections ask for theirs by name, and for this one no one does. */
const struct = "tcp_congestion_ops";
/** The kernel's value of maps that are such a struct. */
const valueStruct = `bpf_struct_ops_${struct}`;
/** The functions without which the kernel does not take it. */
const functions = ["ssthresh", "undo_cwnd", "cong_avoid"] as const;

const structFacts = {
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  config: ["CONFIG_INET", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
} as const;

export const structKinds = {
  struct_ops: {
    since: sinceByArchitecture({ x64: "5.6", arm64: "6.0" }),
    ...structFacts,
    attach: tryUpdate,
  },
  "struct_ops.link": { since: "6.4", ...structFacts, attach: tryStructLink },
} as const satisfies AttachKinds;

/** With the map's one value the kernel takes the struct, and with its deletion gives it back. */
function tryUpdate(): void {
  using map = makeMap(0);
  fill(map);
  const error = probeElement("BPF_MAP_DELETE_ELEM", map.fd, key, new Uint8Array(0));
  if (error !== undefined) throw new Error(`the struct of a trial cannot be taken back: ${error}`);
}

function tryStructLink(): void {
  using map = makeMap(BPF_F_LINK);
  fill(map);
  using _link = tryLink({ fd: map.fd, attachType: "STRUCT_OPS" });
}

const key = new Uint8Array(4);

function makeMap(flags: number): Descriptor {
  const structFacts = mapTypes.get("struct_ops");
  if (structFacts === undefined)
    throw new Error("there is no kind of map for structs of functions");
  return descriptorOf(probeMapOf({ ...structFacts, flags }));
}

/** Puts the smallest struct of that sort into a map. */
function fill(map: Descriptor): void {
  const btf = Btf.kernel();
  const value = new Uint8Array(btf.sizeOf(kernelTypeId("struct", valueStruct)));
  const view = new DataView(value.buffer);
  const place = (member: string) =>
    btf.field(valueStruct, "data").offset + btf.field(struct, member).offset;
  // Another process may try this at the same time.
  value.set(Buffer.from(`bunbpf${process.pid}`), place("name"));
  using programs = new DisposableStack();
  for (const member of functions) {
    const target = { kind: "struct", name: struct, member } as const;
    const program = programs.use(loadTrial({ type: "STRUCT_OPS", target }));
    view.setBigUint64(place(member), BigInt(program.fd), true);
  }
  const error = probeElement("BPF_MAP_UPDATE_ELEM", map.fd, key, value);
  if (error !== undefined) throw new KernelAnswer(error);
}
