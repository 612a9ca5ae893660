import {
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountCgroups } from "../../src/features/attach_probes.ts";
import { openPidfd } from "../../src/ffi/namespace.ts";
import type { FdLike, TaskOwner } from "../../src/index.ts";

/** Owners of values, each with all of its names. */
export interface Owners<Owner> extends Disposable {
  readonly names: readonly (readonly Owner[])[];
}

const count = 4;
const indices = Array.from({ length: count }, (_, index) => index);

/** Returns the descriptor of one of Bun's sockets, which their types lack. */
export function descriptorOf(socket: object): number {
  return (socket as { readonly fd: number }).fd;
}

export async function socketOwners(): Promise<Owners<FdLike>> {
  const sockets = await Promise.all(indices.map(() => Bun.udpSocket({ hostname: "127.0.0.1" })));
  return {
    names: sockets.map((socket) => [descriptorOf(socket), { fd: descriptorOf(socket) }]),
    [Symbol.dispose]() {
      for (const socket of sockets) socket.close();
    },
  };
}

export async function taskOwners(): Promise<Owners<TaskOwner>> {
  const children = indices.map(() => Bun.spawn(["sleep", "1000"], { stdout: "ignore" }));
  const pidfds = children.map(({ pid }) => openPidfd(pid));
  return {
    names: children.map(({ pid }, index) => [pid, pidfds[index]!]),
    [Symbol.dispose]() {
      for (const pidfd of pidfds) pidfd[Symbol.dispose]();
      for (const child of children) child.kill();
    },
  };
}

export async function inodeOwners(): Promise<Owners<string | FdLike>> {
  const folder = mkdtempSync(join(tmpdir(), "inodes-"));
  const names = indices.map((index): (string | FdLike)[] => {
    const path = join(folder, `file${index}`);
    writeFileSync(path, "");
    linkSync(path, `${path}.hard`);
    symlinkSync(path, `${path}.symbolic`);
    return [path, `${path}.hard`, `${path}.symbolic`, openSync(path, "r")];
  });
  const pipe = join(folder, "pipe");
  Bun.spawnSync(["mkfifo", pipe]);
  return {
    names: [...names, [folder, `${folder}/.`], [pipe]],
    [Symbol.dispose]() {
      for (const fd of names.flat()) if (typeof fd === "number") closeSync(fd);
      rmSync(folder, { recursive: true });
    },
  };
}

/** Creates control groups in a private mount of the cgroup2 hierarchy. */
export async function cgroupOwners(): Promise<Owners<string | FdLike>> {
  const mount = mountCgroups();
  const paths = indices.map((index) => join(mount.path, `bun-bpf-${process.pid}-${index}`));
  const names = paths.map((path): (string | FdLike)[] => {
    mkdirSync(path);
    return [path, openSync(path, "r")];
  });
  return {
    names,
    [Symbol.dispose]() {
      for (const fd of names.flat()) if (typeof fd === "number") closeSync(fd);
      for (const path of paths) rmdirSync(path);
      mount[Symbol.dispose]();
    },
  };
}
