/** @module Ways to attach to places in files: to the functions of programs and libraries. */

import { memoryFile } from "../ffi/memory_file.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";
import { type AttachKinds, cookie, tryLink } from "./attach_kind.ts";
import { attachToProbe } from "./attach_kernel_functions.ts";
import { loadTrial } from "./smallest_program.ts";

const facts = { needs: ["CAP_BPF", "CAP_PERFMON"] } as const;
const probes = {
  // The last of these was not asked for before 6.12, nor by every kernel since.
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
  config: ["CONFIG_UPROBE_EVENTS", "CONFIG_BPF_EVENTS"],
} as const;
const manyProbes = { ...facts, config: ["CONFIG_UPROBES", "CONFIG_BPF_EVENTS"] } as const;

export const fileKinds = {
  uprobe: { since: "4.17", ...probes, attach: () => tryProbe(false) },
  uretprobe: { since: "4.17", ...probes, attach: () => tryProbe(true) },
  "uprobe.multi": { since: "6.6", ...manyProbes, attach: () => tryMany("TRACE_UPROBE_MULTI") },
  "uretprobe.multi": {
    since: "6.6",
    ...manyProbes,
    attach: () => tryMany("TRACE_UPROBE_MULTI", { isReturn: true }),
  },
  "uprobe.multi-cookie": {
    since: "6.6",
    ...manyProbes,
    attach: () => tryMany("TRACE_UPROBE_MULTI", { cookies: [cookie] }),
  },
  "uprobe.session": { since: "6.13", ...manyProbes, attach: () => tryMany("TRACE_UPROBE_SESSION") },
} as const satisfies AttachKinds;

/** Calls back with the path of a file that nobody runs, so that not an instruction of any process is changed. */
function withFile(attach: (path: string) => void): void {
  using file = memoryFile(new Uint8Array(16), "file of a trial");
  attach(`/proc/self/fd/${file.fd}`);
}

function tryProbe(isReturn: boolean): void {
  withFile((target) => attachToProbe({ source: "uprobe", isReturn, target, offset: 0 }));
}

function tryMany(
  attachType: keyof typeof bpfAttachTypes,
  options: { isReturn?: boolean; cookies?: readonly bigint[] } = {},
): void {
  using program = loadTrial({ type: "KPROBE", attachType });
  withFile((path) => {
    using _link = tryLink({
      fd: program.fd,
      attachType,
      target: { kind: "file places", path, offsets: [0], ...options },
    });
  });
}
