/** @module The ways to attach to cgroups, as `features` lists them. */

import { type KernelVersion, sinceByArchitecture } from "../ffi/kernel.ts";
import type { AttachKindRow } from "./attach_method.ts";

const cgroups = {
  // CAP_SYS_ADMIN is needed to mount the cgroup file system.
  needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
  config: ["CONFIG_CGROUP_BPF"],
  place: "cgroup",
  // All programs of cgroups may return 1, which allows the operation.
  returns: 1,
} as const;

function row(since: KernelVersion, section: string) {
  return { since, ...cgroups, section, options: { method: "attach" } } as const;
}

/** Common part of the rows about links. The program needs only a cgroup. */
const link = { ...cgroups, section: "cgroup_skb/ingress", options: { method: "link" } } as const;

/** The ways to attach to cgroups: the section without links, and links. */
export const cgroupKinds = {
  "cgroup_skb/ingress": row("4.10", "cgroup_skb/ingress"),
  "cgroup_skb/egress": row("4.10", "cgroup_skb/egress"),
  "cgroup/sock_create": row("4.10", "cgroup/sock_create"),
  "cgroup/sock_release": row("5.9", "cgroup/sock_release"),
  "cgroup/post_bind4": row("4.17", "cgroup/post_bind4"),
  "cgroup/post_bind6": row("4.17", "cgroup/post_bind6"),
  "cgroup/bind4": row("4.17", "cgroup/bind4"),
  "cgroup/bind6": row("4.17", "cgroup/bind6"),
  "cgroup/connect4": row("4.17", "cgroup/connect4"),
  "cgroup/connect6": row("4.17", "cgroup/connect6"),
  "cgroup/connect_unix": row("6.7", "cgroup/connect_unix"),
  "cgroup/sendmsg4": row("4.18", "cgroup/sendmsg4"),
  "cgroup/sendmsg6": row("4.18", "cgroup/sendmsg6"),
  "cgroup/sendmsg_unix": row("6.7", "cgroup/sendmsg_unix"),
  "cgroup/recvmsg4": row("5.2", "cgroup/recvmsg4"),
  "cgroup/recvmsg6": row("5.2", "cgroup/recvmsg6"),
  "cgroup/recvmsg_unix": row("6.7", "cgroup/recvmsg_unix"),
  "cgroup/getpeername4": row("5.8", "cgroup/getpeername4"),
  "cgroup/getpeername6": row("5.8", "cgroup/getpeername6"),
  "cgroup/getpeername_unix": row("6.7", "cgroup/getpeername_unix"),
  "cgroup/getsockname4": row("5.8", "cgroup/getsockname4"),
  "cgroup/getsockname6": row("5.8", "cgroup/getsockname6"),
  "cgroup/getsockname_unix": row("6.7", "cgroup/getsockname_unix"),
  "cgroup/getsockopt": row("5.3", "cgroup/getsockopt"),
  "cgroup/setsockopt": row("5.3", "cgroup/setsockopt"),
  "cgroup/sysctl": row("5.2", "cgroup/sysctl"),
  "cgroup/dev": row("4.15", "cgroup/dev"),
  sockops: row("4.13", "sockops"),
  lsm_cgroup: {
    ...row(sinceByArchitecture({ x64: "6.0", arm64: "6.4" }), "lsm_cgroup/quotactl"),
    needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
    config: [
      "CONFIG_CGROUP_BPF",
      "CONFIG_BPF_LSM",
      "CONFIG_BPF_JIT",
      "CONFIG_DEBUG_INFO_BTF",
      "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    ],
    needsSecurityModule: true,
  },
  cgroup_link: { since: "5.7", ...link },
  link_update: { since: "5.7", ...link, operation: "update" },
  link_detach: { since: "5.9", ...link, operation: "detach" },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
