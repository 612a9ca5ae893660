/** @module Ways to attach to places in files: to the functions of programs and libraries. */

import { attachToProbe } from "./attach_functions.ts";
import { type AttachKinds, cookie, tryLink } from "./attach_kind.ts";
import { loadTrial, type TrialProgram } from "./smallest_program.ts";
import { openRawTracepoint } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { memoryFile } from "../ffi/memory_file.ts";
import {
  enablePerfEvent,
  openIdleEvent,
  openTracepointEvent,
  setPerfEventProgram,
} from "../ffi/perf_event.ts";
import { tracepointId } from "../link/tracepoint.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";

const fileFacts = { needs: ["CAP_BPF", "CAP_PERFMON"] } as const;
const probes = {
  // The last of these was not asked for before 6.12, nor by every kernel since.
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
  config: ["CONFIG_UPROBE_EVENTS", "CONFIG_BPF_EVENTS"],
} as const;
const manyProbes = { ...fileFacts, config: ["CONFIG_UPROBES", "CONFIG_BPF_EVENTS"] } as const;

export const fileKinds = {
  uprobe: { since: "4.17", ...probes, attach: () => tryProbe(false) },
  uretprobe: { since: "4.17", ...probes, attach: () => tryProbe(true) },
  "uprobe.multi": { since: "6.6", ...manyProbes, attach: () => tryMany("TRACE_UPROBE_MULTI") },
  "uretprobe.multi": {
    since: "6.6",
    ...manyProbes,
    attach: () => tryMany("TRACE_UPROBE_MULTI", { isReturn: true }),
  },
  "uprobe.multi_cookie": {
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

/** A tracepoint that every kernel since 4.11 has, and that is passed for what goes wrong with a packet in XDP alone. */
const tracepoint = "xdp_exception";
const tracepointPath = `xdp/${tracepoint}`;
/** One whose arguments a program may change: passed at the end of each test run of a program (kernel 5.2). */
const writableTracepoint = "bpf_test_finish";

const facts = { needs: ["CAP_BPF", "CAP_PERFMON"], config: ["CONFIG_BPF_EVENTS"] } as const;
const what = "event of a trial";

export const eventKinds = {
  tp: {
    since: "4.7",
    ...facts,
    // Its number is in tracefs, which may have to be mounted for that.
    needs: ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
    attach: tryTracepoint,
  },
  perf_event: { since: "4.9", ...facts, attach: tryPerfEvent },
  perf_event_link: { since: "5.15", ...facts, attach: () => tryPerfEventLink(undefined) },
  perf_event_cookie: { since: "5.15", ...facts, attach: () => tryPerfEventLink(cookie) },
  raw_tp: {
    since: "4.17",
    ...facts,
    attach: () => tryRawTracepoint({ type: "RAW_TRACEPOINT" }, tracepoint),
  },
  raw_tp_cookie: {
    since: "6.10",
    ...facts,
    attach: () => tryRawTracepoint({ type: "RAW_TRACEPOINT" }, tracepoint, cookie),
  },
  "raw_tp.w": {
    since: "5.2",
    ...facts,
    config: ["CONFIG_BPF_EVENTS", "CONFIG_NET"],
    attach: () => tryRawTracepoint({ type: "RAW_TRACEPOINT_WRITABLE" }, writableTracepoint),
  },
  tp_btf: {
    since: "5.5",
    ...facts,
    config: ["CONFIG_BPF_EVENTS", "CONFIG_DEBUG_INFO_BTF"],
    attach: () =>
      tryRawTracepoint(
        {
          type: "TRACING",
          attachType: "TRACE_RAW_TP",
          target: { kind: "typedef", name: `btf_trace_${tracepoint}` },
        },
        null,
      ),
  },
} as const satisfies AttachKinds;

function tryTracepoint(): void {
  using program = loadTrial({ type: "TRACEPOINT" });
  using event = new Descriptor(openTracepointEvent(tracepointId(tracepointPath), what), what);
  setPerfEventProgram(event.fd, program.fd, what);
  enablePerfEvent(event.fd, what);
}

function tryPerfEvent(): void {
  using program = loadTrial({ type: "PERF_EVENT" });
  using event = new Descriptor(openIdleEvent(what), what);
  setPerfEventProgram(event.fd, program.fd, what);
}

function tryPerfEventLink(attachCookie: bigint | undefined): void {
  using program = loadTrial({ type: "PERF_EVENT" });
  using event = new Descriptor(openIdleEvent(what), what);
  using _link = tryLink({
    fd: program.fd,
    attachType: "PERF_EVENT",
    target: {
      kind: "perf event",
      fd: event.fd,
      ...(attachCookie !== undefined && { cookie: attachCookie }),
    },
  });
}

function tryRawTracepoint(program: TrialProgram, name: string | null, attachCookie?: bigint): void {
  using loaded = loadTrial(program);
  const context = { doing: "attach to a tracepoint" };
  using _link = new Descriptor(
    openRawTracepoint(loaded.fd, name, context, attachCookie),
    "link of a trial",
  );
}
