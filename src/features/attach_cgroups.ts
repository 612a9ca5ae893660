/** @module Ways to attach to cgroups. They are tried on one that is made for that. */

import { constants, mkdirSync, openSync, rmdirSync } from "../ffi/files.ts";
import * as asm from "../asm/asm.ts";
import { requireActiveModule, securityHook } from "./attach_functions.ts";
import {
  type AttachKindFacts,
  type AttachKinds,
  Missing,
  sinceByArchitecture,
  tryAttachment,
  tryLink,
} from "./attach_kind.ts";
import { loadTrial, type TrialProgram } from "./smallest_program.ts";
import { detachLink, updateLink } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { inNewNamespace, type NamespaceKind } from "../ffi/namespace.ts";
import type { bpfAttachTypes } from "../uapi/enumerations.ts";
import { CLONE_NEWCGROUP } from "../uapi/sched.ts";

const namespace: NamespaceKind = {
  name: "cgroup namespace",
  file: "cgroup",
  flag: CLONE_NEWCGROUP,
  config: "CONFIG_CGROUPS",
};

/**
 * Calls back with a cgroup that is made for it, and removed afterwards: no process is in it, and nobody else knows of it.
 *
 * @throws {Missing} in a kernel without cgroups of version 2
 * @throws {Error} when the cgroup cannot be removed
 */
export function withCgroup(body: (fd: number) => void): void {
  using mount = mountCgroups();
  const folder = `${mount.path}/bun-bpf-${crypto.randomUUID()}`;
  mkdirSync(folder);
  try {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    using cgroup = new Descriptor(openSync(folder, flags), "cgroup of a trial");
    body(cgroup.fd);
  } finally {
    remove(folder);
  }
}

/**
 * The cgroups below this process's own, for this process alone (kernel 5.2, CAP_SYS_ADMIN).
 *
 * In the initial cgroup namespace each mount sets the options of all of them, and so takes away what systemd has set: `nsdelegate`
 * and `memory_recursiveprot`. In another one mounts have no say in that (cgroup_get_tree(), kernel/cgroup/cgroup.c).
 *
 * @throws {Missing} in a kernel without cgroups of version 2
 */
export function mountCgroups(): DetachedMount {
  try {
    return inNewNamespace(namespace, () => new DetachedMount("cgroup2"));
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "ENODEV") throw error;
    throw new Missing(
      "this kernel has no cgroups of version 2, the only ones that programs are attached to",
    );
  }
}

function remove(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (cause) {
    throw new Error("the cgroup that was made for a trial cannot be removed", { cause });
  }
}

const facts = {
  // Of these, CAP_SYS_ADMIN is for the cgroup.
  needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
  config: ["CONFIG_CGROUP_BPF"],
} as const;

/** Lets everything pass, which is the one thing that all of these programs may do. */
const code = [asm.mov(asm.r0, 1), asm.exit()];

/** A program that needs nothing but a cgroup, for what is about links. */
const ingress = { type: "CGROUP_SKB", attachType: "CGROUP_INET_INGRESS", code } as const;

export const cgroupKinds = {
  "cgroup_skb/ingress": kind("4.10", ingress),
  "cgroup_skb/egress": kind("4.10", { type: "CGROUP_SKB", attachType: "CGROUP_INET_EGRESS" }),
  "cgroup/sock_create": socket("4.10", "CGROUP_INET_SOCK_CREATE"),
  "cgroup/sock_release": socket("5.9", "CGROUP_INET_SOCK_RELEASE"),
  "cgroup/post_bind4": socket("4.17", "CGROUP_INET4_POST_BIND"),
  "cgroup/post_bind6": socket("4.17", "CGROUP_INET6_POST_BIND"),
  "cgroup/bind4": address("4.17", "CGROUP_INET4_BIND"),
  "cgroup/bind6": address("4.17", "CGROUP_INET6_BIND"),
  "cgroup/connect4": address("4.17", "CGROUP_INET4_CONNECT"),
  "cgroup/connect6": address("4.17", "CGROUP_INET6_CONNECT"),
  "cgroup/connect_unix": address("6.7", "CGROUP_UNIX_CONNECT"),
  "cgroup/sendmsg4": address("4.18", "CGROUP_UDP4_SENDMSG"),
  "cgroup/sendmsg6": address("4.18", "CGROUP_UDP6_SENDMSG"),
  "cgroup/sendmsg_unix": address("6.7", "CGROUP_UNIX_SENDMSG"),
  "cgroup/recvmsg4": address("5.2", "CGROUP_UDP4_RECVMSG"),
  "cgroup/recvmsg6": address("5.2", "CGROUP_UDP6_RECVMSG"),
  "cgroup/recvmsg_unix": address("6.7", "CGROUP_UNIX_RECVMSG"),
  "cgroup/getpeername4": address("5.8", "CGROUP_INET4_GETPEERNAME"),
  "cgroup/getpeername6": address("5.8", "CGROUP_INET6_GETPEERNAME"),
  "cgroup/getpeername_unix": address("6.7", "CGROUP_UNIX_GETPEERNAME"),
  "cgroup/getsockname4": address("5.8", "CGROUP_INET4_GETSOCKNAME"),
  "cgroup/getsockname6": address("5.8", "CGROUP_INET6_GETSOCKNAME"),
  "cgroup/getsockname_unix": address("6.7", "CGROUP_UNIX_GETSOCKNAME"),
  "cgroup/getsockopt": option("CGROUP_GETSOCKOPT"),
  "cgroup/setsockopt": option("CGROUP_SETSOCKOPT"),
  "cgroup/sysctl": kind("5.2", { type: "CGROUP_SYSCTL", attachType: "CGROUP_SYSCTL" }),
  "cgroup/dev": kind("4.15", { type: "CGROUP_DEVICE", attachType: "CGROUP_DEVICE" }),
  sockops: kind("4.13", { type: "SOCK_OPS", attachType: "CGROUP_SOCK_OPS" }),
  lsm_cgroup: {
    since: sinceByArchitecture({ x64: "6.0", arm64: "6.4" }),
    needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
    config: [
      "CONFIG_CGROUP_BPF",
      "CONFIG_BPF_LSM",
      "CONFIG_BPF_JIT",
      "CONFIG_DEBUG_INFO_BTF",
      "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    ],
    attach: trySecurityHook,
  },
  cgroup_link: { since: "5.7", ...facts, attach: () => withCgroupLink(() => {}) },
  link_update: { since: "5.7", ...facts, attach: tryUpdate },
  link_detach: {
    since: "5.9",
    ...facts,
    attach: () => withCgroupLink((link) => detachLink(link, "link of a trial")),
  },
} as const satisfies AttachKinds;

/** A program whose type of attachment is also the one that it is loaded for, where it is loaded for one. */
interface CgroupProgram extends TrialProgram {
  readonly attachType: keyof typeof bpfAttachTypes;
}

function kind(since: KernelVersion, program: CgroupProgram): AttachKindFacts {
  return { since, ...facts, attach: () => tryProgram(program) };
}

function socket(since: KernelVersion, attachType: CgroupProgram["attachType"]): AttachKindFacts {
  return kind(since, { type: "CGROUP_SOCK", attachType });
}

function address(since: KernelVersion, attachType: CgroupProgram["attachType"]): AttachKindFacts {
  return kind(since, { type: "CGROUP_SOCK_ADDR", attachType });
}

function option(attachType: CgroupProgram["attachType"]): AttachKindFacts {
  return kind("5.3", { type: "CGROUP_SOCKOPT", attachType });
}

function tryProgram(program: CgroupProgram): void {
  using loaded = loadTrial({ ...program, code });
  withCgroup((targetFd) => {
    const { attachType } = program;
    tryAttachment({ programFd: loaded.fd, attachType, targetFd });
  });
}

function trySecurityHook(): void {
  tryProgram({ type: "LSM", attachType: "LSM_CGROUP", target: securityHook });
  requireActiveModule();
}

function withCgroupLink(body: (link: number) => void): void {
  using program = loadTrial(ingress);
  withCgroup((fd) => {
    const target = { kind: "descriptor", fd } as const;
    using link = tryLink({ fd: program.fd, attachType: ingress.attachType, target });
    body(link.fd);
  });
}

function tryUpdate(): void {
  using other = loadTrial(ingress);
  withCgroupLink((link) => updateLink(link, other.fd, "link of a trial"));
}
