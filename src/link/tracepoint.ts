/** @module Attaches to tracepoints by a perf event, and finds their numbers in tracefs. */

import { suggestion } from "../check/names.ts";
import { readdirSync, readFileSync, statSync } from "../ffi/files.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { openTracepointEvent } from "../ffi/perf_event.ts";
import type { AttachMethod } from "./link.ts";
import { attachPerfEvent } from "./perf_event.ts";

/** The paths at which distributions mount tracefs. */
const tracefsPaths = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/**
 * Attaches to a tracepoint, given as `category/name` (kernel 4.7; a true link since 5.15).
 *
 * Before 5.15 the link is the perf event itself: it can be disposed of, not pinned nor updated.
 */
export const tracepoint: AttachMethod = {
  targetExample: "syscalls/sys_enter_openat",
  // Folders below `events` in tracefs: none that leads elsewhere.
  targetForm: /^[^/.\0][^/\0]*\/[^/.\0][^/\0]*$/,
  attach(program, target) {
    const what = `tracepoint link to ${target}`;
    const event = new Descriptor(openTracepointEvent(tracepointId(target), what), what);
    return attachPerfEvent(program, event, {
      doing: `attach to the tracepoint ${target}`,
      needs: ["CAP_BPF", "CAP_PERFMON"],
    });
  },
};

/**
 * Reads the kernel's number of a tracepoint from tracefs. Where tracefs is not mounted, this call mounts it for itself,
 * without a mount point.
 *
 * @throws {BpfError} `ENOENT` when the kernel has no such tracepoint, `EACCES` when this user may not read tracefs
 */
export function tracepointId(
  target: string,
  mountPoints: readonly string[] = tracefsPaths,
): number {
  return Number.parseInt(readTracepoint(target, "id", mountPoints), 10);
}

/** Reads a file of a tracepoint in tracefs. @throws {BpfError} as {@link tracepointId} */
export function readTracepoint(
  target: string,
  file: "id" | "format",
  mountPoints: readonly string[] = tracefsPaths,
): string {
  for (const path of mountPoints) {
    if (isMounted(path, target)) return read(path, target, file);
  }
  using mount = new DetachedMount("tracefs");
  return read(mount.path, target, file);
}

/** Returns true where tracefs is mounted. @throws {BpfError} when this user may not read the folder */
function isMounted(path: string, target: string): boolean {
  try {
    statSync(`${path}/events`);
    return true;
  } catch (error) {
    // A mount of our own would be of the same file system, with the same mode.
    if ((error as NodeJS.ErrnoException).code === "EACCES") throw tracefsError(error, path, target);
    return false;
  }
}

function read(tracefs: string, target: string, file: string): string {
  try {
    return readFileSync(`${tracefs}/events/${target}/${file}`, "utf8");
  } catch (error) {
    throw tracefsError(error, tracefs, target);
  }
}

/**
 * Explains that there is no such tracepoint: suggests a similar name, or says where they are listed.
 *
 * @param form the form of the target
 * @param tracefs where tracefs is mounted; by default it is mounted for this call
 */
export function unknownTracepoint(
  target: string,
  form: "category/name" | "name",
  tracefs?: string,
): string {
  const hint =
    suggestion(target, tracepointNames(form === "category/name", tracefs)) ??
    `${tracefsPaths[0]}/events lists them, where tracefs is mounted (mount -t tracefs tracefs ${tracefsPaths[0]})`;
  return `This kernel has no tracepoint ${target} (${form}): ${hint}`;
}

/** Returns the names of all tracepoints, or none where this user may not read tracefs. */
function tracepointNames(withCategory: boolean, tracefs: string | undefined): string[] {
  try {
    using mount = tracefs === undefined ? new DetachedMount("tracefs") : undefined;
    const events = `${tracefs ?? mount?.path}/events`;
    const folders = readdirSync(events, { withFileTypes: true }).filter((entry) =>
      entry.isDirectory(),
    );
    return folders.flatMap(({ name: category }) =>
      readdirSync(`${events}/${category}`, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => (withCategory ? `${category}/${name}` : name)),
    );
  } catch {
    // The error that is being explained is more useful.
    return [];
  }
}

function tracefsError(error: unknown, tracefs: string, target: string): BpfError {
  const { code, errno = 0 } = error as NodeJS.ErrnoException;
  return new BpfError({
    errno: Math.abs(errno),
    syscall: "open",
    doing: `find the tracepoint ${target}`,
    hint:
      code === "ENOENT"
        ? unknownTracepoint(target, "category/name", tracefs)
        : code === "EACCES"
          ? `This user may not read tracefs: run as root (sudo -E), or let everybody in (mount -o remount,mode=755 ${tracefs})`
          : undefined,
  });
}
