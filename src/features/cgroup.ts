import { constants, mkdirSync, openSync, rmdirSync } from "node:fs";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { Missing } from "./attempt.ts";

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

function mountCgroups(): DetachedMount {
  try {
    return new DetachedMount("cgroup2");
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
