/** @module Ways to attach to functions whose types the kernel knows, by trampolines: its own, and those of other programs. */

import { openRawTracepoint } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel_release.ts";
import { activeSecurityModules, bpfModuleObstacle } from "../ffi/security_modules.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";
import { type AttachKinds, cookie, tryLink } from "./attach_kind.ts";
import { Missing } from "./attempt.ts";
import { sinceByArchitecture } from "./by_architecture.ts";
import { loadExtension, loadExtensionTarget } from "./extension.ts";
import { kernelTypeId, type ProgramTarget } from "./program_target.ts";
import { loadTrial, type TrialProgram } from "./smallest_program.ts";

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
  "fentry-cookie": { since: since("5.19"), ...trampoline, attach: tryCookie },
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
