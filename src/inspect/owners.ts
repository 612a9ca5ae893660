import { readdirSync, readFileSync, readlinkSync } from "../ffi/files.ts";
import { fdNumber, readFdInfo } from "../ffi/bpf_object.ts";
import type { HandleKind } from "../handle/kernel_object.ts";
import { ByKind, type ObjectsByKind } from "./objects.ts";

/** A process that has a file descriptor of an object. */
export interface ObjectOwner {
  /** The id of the process. */
  readonly pid: number;
  /** The name of the process in `/proc/PID/comm`, which the process can set to any bytes. */
  readonly comm: string;
  /** The number of the file descriptor in the process. */
  readonly fd: number;
}

/** The processes that have objects open, by kind and id of the objects. */
export interface ObjectOwners extends ObjectsByKind<ObjectOwner> {
  /** Number of processes whose file descriptors this process may not see. */
  readonly hidden: number;
}

/**
 * Finds the processes that have maps, programs and links open, in one pass over /proc.
 *
 * It finds processes in the pid namespace of this process; those of other users only with CAP_SYS_PTRACE. An object that is only
 * pinned, attached, mapped into memory or used by a program has no owner. Descriptors of a thread that does not share the file
 * descriptor table of its process are not found. Processes that end or close objects meanwhile may be missing or included.
 *
 * @throws {Error} if /proc is not mounted: an error of `node:fs`.
 *
 * @example
 * ```ts
 * import { HashMap, objectOwners, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8 });
 * const owners = objectOwners().maps.get(map.id) ?? [];
 * console.log(owners.some(({ pid, fd }) => pid === process.pid && fd === map.fd)); // true
 * ```
 *
 * Requires Linux 4.13 for maps and programs, 5.8 for links.
 */
export function objectOwners(): ObjectOwners {
  const owners = new ByKind<ObjectOwner>();
  let hidden = 0;
  for (const pid of numbersIn("/proc")) {
    if (!addOwner(owners, pid)) hidden++;
  }
  return { maps: owners.maps, programs: owners.programs, links: owners.links, hidden };
}

/** Adds the objects that a process has open. Returns false if this process may not see them. */
function addOwner(owners: ByKind<ObjectOwner>, pid: number): boolean {
  let descriptors: number[];
  try {
    descriptors = numbersIn(`/proc/${pid}/fd`);
  } catch (error) {
    return hasEnded(error);
  }
  let comm: string | undefined;
  for (const fd of descriptors) {
    const object = objectOf(pid, fd);
    if (object === undefined) continue;
    comm ??= readComm(pid);
    owners.add(object.kind, object.id, { pid, comm, fd });
  }
  return true;
}

/** Returns the object that a file descriptor refers to; `undefined` for other files, or if it was closed meanwhile. */
function objectOf(
  pid: number,
  fd: number,
): { readonly kind: HandleKind; readonly id: number } | undefined {
  let target: string;
  try {
    target = readlinkSync(`/proc/${pid}/fd/${fd}`);
  } catch {
    return undefined;
  }
  const kind = /^anon_inode:\[?bpf[-_](map|prog|link)\b/.exec(target)?.[1];
  if (kind === undefined) return undefined;
  // If the descriptor has been reused for another file meanwhile, there is no such line.
  const id = fdNumber(readFdInfo(fd, pid), `${kind}_id`);
  return id === undefined ? undefined : { kind: kind as HandleKind, id };
}

/** Lists the names in a directory that are numbers, in numeric order. */
function numbersIn(directory: string): number[] {
  return readdirSync(directory)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

function readComm(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").replace(/\n$/, "");
  } catch {
    return "";
  }
}

/** Returns true for the error about a process that has ended, false if access was denied. */
function hasEnded(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ESRCH";
}
