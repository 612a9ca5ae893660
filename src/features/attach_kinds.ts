import { cgroupKinds } from "./attach_cgroups.ts";
import { eventKinds, fileKinds } from "./attach_events.ts";
import { kernelFunctionKinds, structKinds, typedFunctionKinds } from "./attach_functions.ts";
import { type AttachKindFacts, attempt } from "./attach_kind.ts";
import { networkKinds } from "./attach_network.ts";
import { socketKinds } from "./attach_sockets.ts";
import type { ProbeAnswer } from "./feature.ts";

const facts = {
  ...kernelFunctionKinds,
  ...fileKinds,
  ...eventKinds,
  ...typedFunctionKinds,
  ...networkKinds,
  ...cgroupKinds,
  ...socketKinds,
  ...structKinds,
} as const satisfies Readonly<Record<string, AttachKindFacts>>;

/**
 * A way to attach programs, in the words of libbpf's names of sections: `"kprobe.multi"`, `"cgroup/connect4"`. Where a program can
 * be attached with a link and without, `"flow_dissector_link"` is the first; what a link can have besides, and what can be done
 * with one, is named alike: `"kprobe.multi_cookie"`, `"link_update"`.
 */
export type AttachKind = keyof typeof facts;

/** What is known of each way to attach programs, in the order in which people read them. */
export const attachKinds: ReadonlyMap<AttachKind, AttachKindFacts> = new Map(
  Object.entries(facts) as [AttachKind, AttachKindFacts][],
);

/**
 * What the kernel answers to a program that is attached in a way, and detached at once.
 *
 * Nobody is disturbed by that: it is attached to what hardly ever happens, to a file that nobody runs, in a network namespace, to
 * a cgroup or a socket of its own. For `tc` the kernel may load its modules, which stay.
 */
export function probeAttachKind({ attach }: AttachKindFacts): ProbeAnswer {
  return attempt(attach);
}
