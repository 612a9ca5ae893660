import { readdirSync, readFileSync, readlinkSync } from "../ffi/files.ts";
import { fdNumber, readFdInfo } from "../ffi/bpf_object.ts";
import type { HandleKind } from "../handle/kernel_object.ts";
import { ByKind, type ObjectsByKind } from "./objects.ts";

/** A process that has an object open. */
export interface ObjectOwner {
  readonly pid: number;
  /** The name of the process, as `/proc/PID/comm` has it: any bytes that it chose. */
  readonly comm: string;
  /** Its descriptor. */
  readonly fd: number;
}

/** The processes that have objects open, by the ids of maps, programs and links. */
export interface ObjectOwners extends ObjectsByKind<ObjectOwner> {
  /** The number of processes whose descriptors this one may not see. */
  readonly hidden: number;
}

/**
 * Finds the processes that have maps, programs and links open: all of them in one pass over /proc.
 *
 * It sees the processes of its own pid namespace, and those of other users with CAP_SYS_PTRACE. What is only mapped, pinned,
 * attached or used by a program has no owner; nor has what a thread alone has open that does not share its process's
 * descriptors. Processes that end or close meanwhile may be in it or not.
 *
 * Kernel 4.13 for maps and programs, 5.8 for links.
 *
 * @throws {Error} of node:fs, when /proc is not mounted
 *
 * @example
 * ```ts
 * import { HashMap, objectOwners, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8 });
 * const owners = objectOwners().maps.get(map.id) ?? [];
 * console.log(owners.some(({ pid, fd }) => pid === process.pid && fd === map.fd)); // true
 * ```
 */
export function objectOwners(): ObjectOwners {
  const owners = new ByKind<ObjectOwner>();
  let hidden = 0;
  for (const pid of numbersIn("/proc")) {
    if (!addOwner(owners, pid)) hidden++;
  }
  return { maps: owners.maps, programs: owners.programs, links: owners.links, hidden };
}

/** Adds what a process has open; false where that may not be seen. */
function addOwner(owners: ByKind<ObjectOwner>, pid: number): boolean {
  let descriptors: number[];
  try {
    descriptors = numbersIn(`/proc/${pid}/fd`);
  } catch (error) {
    return hasEnded(error);
  }
  let comm: string | undefined;
  for (const fd of descriptors) {
    const object = objectBehind(pid, fd);
    if (object === undefined) continue;
    comm ??= readComm(pid);
    owners.add(object.kind, object.id, { pid, comm, fd });
  }
  return true;
}

/** The object that a descriptor is of, or `undefined` for none, and when the descriptor is closed by now. */
function objectBehind(
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
  // The number may be another file's by now: then there is no such line.
  const id = fdNumber(readFdInfo(fd, pid), `${kind}_id`);
  return id === undefined ? undefined : { kind: kind as HandleKind, id };
}

/** Lists the names in a folder that are numbers, in their order. */
function numbersIn(folder: string): number[] {
  return readdirSync(folder)
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

/** True for a process that is gone, rather than out of this one's sight. */
function hasEnded(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ESRCH";
}
