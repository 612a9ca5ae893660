/** @module Ways to attach to network interfaces, and to a network namespace. They are tried in a namespace made for that. */

import { BpfError } from "../ffi/error.ts";
import { inNewNetworkNamespace, openNetworkNamespace } from "../ffi/namespace.ts";
import { RouteSocket } from "../ffi/socket.ts";
import { addClassifier, addNetkit, attachXdp } from "../link/route.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";
import { type AttachKinds, tryAttachment, tryLink } from "./attach_kind.ts";
import { loadTrial, type TrialProgram } from "./smallest_program.ts";

/** The first interface of every network namespace. */
const loopback = 1;
/** The number for an interface to be made. */
const netkit = 100;

const facts = {
  // Of these, CAP_SYS_ADMIN is for the namespace.
  needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
  config: ["CONFIG_NET", "CONFIG_NET_NS"],
} as const;
const config = facts.config;

export const networkKinds = {
  xdp: {
    since: "5.9",
    ...facts,
    attach: () => tryInterface({ type: "XDP", attachType: "XDP" }, "XDP"),
  },
  xdp_netlink: { since: "4.12", ...facts, attach: tryXdpByNetlink },
  tc: {
    since: "4.5",
    ...facts,
    config: [...config, "CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_BPF"],
    attach: tryClassifier,
  },
  tcx: {
    since: "6.6",
    ...facts,
    config: [...config, "CONFIG_NET_XGRESS"],
    attach: () => tryInterface({ type: "SCHED_CLS", attachType: "TCX_INGRESS" }, "TCX_INGRESS"),
  },
  netkit: { since: "6.7", ...facts, config: [...config, "CONFIG_NETKIT"], attach: tryNetkit },
  netfilter: {
    since: "6.4",
    ...facts,
    config: [...config, "CONFIG_NETFILTER_BPF_LINK"],
    attach: tryNetfilter,
  },
  sk_lookup: {
    since: "5.9",
    ...facts,
    config: [...config, "CONFIG_INET"],
    attach: () => tryNamespace({ type: "SK_LOOKUP", attachType: "SK_LOOKUP" }, "SK_LOOKUP"),
  },
  flow_dissector: { since: "4.20", ...facts, attach: tryFlowDissector },
  flow_dissector_link: {
    since: "5.8",
    ...facts,
    attach: () => unlessOccupied(() => tryNamespace({ type: "FLOW_DISSECTOR" }, "FLOW_DISSECTOR")),
  },
} as const satisfies AttachKinds;

function tryInterface(program: TrialProgram, attachType: keyof typeof bpfAttachTypes): void {
  using loaded = loadTrial(program);
  inNewNetworkNamespace(() => {
    const target = { kind: "interface", index: loopback } as const;
    using _link = tryLink({ fd: loaded.fd, attachType, target });
  });
}

function tryXdpByNetlink(): void {
  using program = loadTrial({ type: "XDP" });
  // The program goes with the interface, and that with the namespace.
  withRoute((route) => attachXdp(route, loopback, program.fd));
}

function tryClassifier(): void {
  using program = loadTrial({ type: "SCHED_CLS" });
  withRoute((route) => addClassifier(route, loopback, program.fd));
}

function tryNetkit(): void {
  const attachType = "NETKIT_PRIMARY";
  using program = loadTrial({ type: "SCHED_CLS", attachType });
  withRoute((route) => {
    addNetkit(route, netkit);
    const target = { kind: "interface", index: netkit } as const;
    using _link = tryLink({ fd: program.fd, attachType, target });
  });
}

function withRoute(body: (route: RouteSocket) => void): void {
  inNewNetworkNamespace(() => {
    using route = new RouteSocket();
    body(route);
  });
}

function tryNetfilter(): void {
  const attachType = "NETFILTER";
  using program = loadTrial({ type: "NETFILTER", attachType });
  inNewNetworkNamespace(() => {
    using _link = tryLink({
      fd: program.fd,
      attachType,
      target: { kind: "netfilter", family: "IPV4", hook: "LOCAL_IN", priority: 0 },
    });
  });
}

function tryNamespace(program: TrialProgram, attachType: keyof typeof bpfAttachTypes): void {
  using loaded = loadTrial(program);
  inNewNetworkNamespace(() => {
    using namespace = openNetworkNamespace();
    const target = { kind: "descriptor", fd: namespace.fd } as const;
    using _link = tryLink({ fd: loaded.fd, attachType, target });
  });
}

function tryFlowDissector(): void {
  using program = loadTrial({ type: "FLOW_DISSECTOR" });
  const attachment = { programFd: program.fd, attachType: "FLOW_DISSECTOR", targetFd: 0 } as const;
  unlessOccupied(() => inNewNetworkNamespace(() => tryAttachment(attachment)));
}

/** One in the initial namespace excludes all others: the kernel has the place then, and it is taken. */
function unlessOccupied(attach: () => void): void {
  try {
    attach();
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "EEXIST") throw error;
  }
}
