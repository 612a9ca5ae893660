import { constants, mkdirSync, openSync, rmdirSync } from "node:fs";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { inNewNamespace, type NamespaceKind } from "../ffi/namespace.ts";
import { CLONE_NEWCGROUP } from "../uapi/sched.ts";
import { Missing } from "./attempt.ts";

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
