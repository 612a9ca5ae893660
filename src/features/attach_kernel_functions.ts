/** @module Ways to attach to functions of the kernel that take no knowledge of their types. */

import { enablePerfEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { openProbe, type ProbePlace } from "../link/probe_event.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";
import { type AttachKinds, cookie, tryLink } from "./attach_kind.ts";
import { loadTrial } from "./smallest_program.ts";

/** A function that every kernel since 4.17 has, and that is called by sync(2) alone. */
const target = "ksys_sync";

const facts = { needs: ["CAP_BPF", "CAP_PERFMON"] } as const;
const probes = { ...facts, config: ["CONFIG_KPROBE_EVENTS", "CONFIG_BPF_EVENTS"] } as const;
const manyProbes = { ...facts, config: ["CONFIG_FPROBE", "CONFIG_BPF_EVENTS"] } as const;

export const kernelFunctionKinds = {
  kprobe: { since: "4.17", ...probes, attach: () => tryProbe(false) },
  kretprobe: { since: "4.17", ...probes, attach: () => tryProbe(true) },
  "kprobe.multi": { since: "5.18", ...manyProbes, attach: () => tryMany("TRACE_KPROBE_MULTI") },
  "kretprobe.multi": {
    since: "5.18",
    ...manyProbes,
    attach: () => tryMany("TRACE_KPROBE_MULTI", { isReturn: true }),
  },
  "kprobe.multi-cookie": {
    since: "5.18",
    ...manyProbes,
    attach: () => tryMany("TRACE_KPROBE_MULTI", { cookies: [cookie] }),
  },
  "kprobe.session": {
    since: "6.10",
    ...manyProbes,
    attach: () => tryMany("TRACE_KPROBE_SESSION"),
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

function tryMany(
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
