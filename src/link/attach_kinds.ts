/**
 * @module Ways to attach programs, one row each: the first kernel version, the dependencies, and a description of the probe,
 * which `features` runs. Each row is in the file of its way. Probes attach where they disturb no other process: to functions that
 * are hardly ever called, to a file that no process executes, and in a network namespace, cgroup or socket that is made for the
 * probe.
 */

import { sinceByArchitecture } from "../ffi/kernel.ts";
import type { AttachKindRow } from "./attach_method.ts";
import { cgroupKinds } from "./cgroup_kinds.ts";
import { netnsKinds } from "./netns.ts";
import { netfilterKinds } from "./netfilter.ts";
import { netkitKinds } from "./netkit.ts";
import { kprobeKinds } from "./kprobe.ts";
import { kprobeMultiKinds } from "./kprobe_multi.ts";
import { iteratorKinds } from "./iterator.ts";
import { perfEventKinds } from "./perf_event_program.ts";
import { rawTracepointKinds } from "./raw_tracepoint.ts";
import { socketMapKinds } from "./socket_map.ts";
import { socketKinds } from "./sockets.ts";
import { tcKinds } from "./tc.ts";
import { tracepointKinds } from "./tracepoint.ts";
import { replacementKinds, tracedFunctionKinds } from "./trampoline.ts";
import { tracedFunctionsKinds } from "./trampoline_multi.ts";
import { uprobeKinds } from "./uprobe.ts";
import { xdpKinds } from "./xdp.ts";

/** A congestion control algorithm that no connection uses. It consists of a map with a program per function. */
const structOps = {
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  config: ["CONFIG_INET", "CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
  section: "struct_ops/tcp_congestion_ops.ssthresh",
  place: "struct_ops map",
} as const;

/** All ways to attach, in the order in which they are listed. */
export const attachKinds = {
  ...kprobeKinds,
  ...kprobeMultiKinds,
  ...uprobeKinds,
  ...tracepointKinds,
  ...perfEventKinds,
  ...rawTracepointKinds,
  ...tracedFunctionKinds,
  ...tracedFunctionsKinds,
  ...replacementKinds,
  ...iteratorKinds,
  ...xdpKinds,
  ...tcKinds,
  ...netkitKinds,
  ...netfilterKinds,
  ...netnsKinds,
  ...cgroupKinds,
  ...socketKinds,
  ...socketMapKinds,
  struct_ops: {
    since: sinceByArchitecture({ x64: "5.6", arm64: "6.0" }),
    ...structOps,
  },
  "struct_ops.link": { since: "6.4", ...structOps, options: { link: true } },
} as const satisfies Readonly<Record<string, AttachKindRow>>;

/**
 * A way to attach programs, by libbpf's section names: `"kprobe.multi"`, `"cgroup/connect4"`. A suffix names a variant:
 * `"flow_dissector_link"` attaches with a link and `"flow_dissector"` without one; `"kprobe.multi_cookie"` passes a cookie.
 * `"link_update"` and `"link_detach"` are operations on links.
 */
export type AttachKind = keyof typeof attachKinds;
