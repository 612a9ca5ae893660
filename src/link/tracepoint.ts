/** @module Attaches to classic tracepoints by perf events, and reads their descriptions in tracefs. */

import { suggestion } from "../check/names.ts";
import { readdirSync, readFileSync, statSync } from "../ffi/files.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { openTracepointEvent } from "../ffi/perf_event.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  checkCookie,
  checkTarget,
  type CookieOptions,
  type TargetForm,
} from "./attach_method.ts";
import { attachPerfEvent } from "./perf_event.ts";

/** The paths at which distributions mount tracefs. */
export const tracefsPaths = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/** The target of sections with classic tracepoints. */
export interface TracepointTarget {
  /** The category and the name of the tracepoint: `"sched/sched_switch"`. */
  readonly tracepoint: string;
}

/** Options of `attach()` for the section `tp`. */
export type TracepointOptions = TracepointTarget & CookieOptions;

/** The form of a target: two directory names. Neither may start with a dot, because `..` would lead out of tracefs. */
export const tracepointForm: TargetForm = {
  example: "syscalls/sys_enter_openat",
  pattern: /^[^/.\0][^/\0]*\/[^/.\0][^/\0]*$/,
  toOptions: (tracepoint) => ({ tracepoint }),
};

/**
 * Attaches to a classic tracepoint, named as `category/name` (kernel 4.7).
 *
 * Before kernel 5.15, which added perf event links, the returned link can be disposed of, but neither pinned nor updated.
 */
export const tracepoint: AttachMethod<TracepointOptions> = {
  options: ["tracepoint", "cookie"],
  target: tracepointForm,
  attach({ program, options: { tracepoint: name, cookie } }) {
    checkTarget("attach: tracepoint", tracepointForm, name);
    checkCookie(cookie);
    const what = `tracepoint link to ${name}`;
    const event = new Descriptor(openTracepointEvent(tracepointId(name), what), what);
    return attachPerfEvent(program, event, cookie, {
      doing: `attach to the tracepoint ${name}`,
      needs: ["CAP_BPF", "CAP_PERFMON"],
      hints: {
        EACCES: `The program reads its context beyond the fields of the tracepoint: take the offsets from tracepointType("${name}").fields`,
      },
    });
  },
};

/**
 * Reads the id of a tracepoint in tracefs. If tracefs is not mounted, it is mounted for the call, without a mount point.
 *
 * @throws {BpfError} `ENOENT` if the kernel has no such tracepoint.
 * @throws {BpfError} `EACCES` if this user may not read tracefs.
 */
export function tracepointId(
  target: string,
  mountPoints: readonly string[] = tracefsPaths,
): number {
  return Number.parseInt(readTracepoint(target, "id", mountPoints), 10);
}

/**
 * Reads a file of a tracepoint in tracefs, which is mounted for the call if necessary.
 *
 * @throws {BpfError} `ENOENT` if the kernel has no such tracepoint.
 * @throws {BpfError} `EACCES` if this user may not read tracefs.
 */
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

/**
 * Returns true if tracefs is mounted at a path.
 *
 * @throws {BpfError} if this user may not read the directory.
 */
function isMounted(path: string, target: string): boolean {
  try {
    statSync(`${path}/events`);
    return true;
  } catch (error) {
    // Another mount would not help: all mounts of tracefs have the same permissions.
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
 * Returns a hint that the kernel has no such tracepoint, with a similar name or the place where tracepoints are listed.
 *
 * @param form the form of the target
 * @param tracefs the path of tracefs; by default tracefs is mounted for this call
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

/** Returns the names of all tracepoints; none if tracefs cannot be mounted or read. */
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
    // The caller reports another error, for which the names are only a hint.
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
          ? `This user may not read tracefs: run as root (sudo -E), or give all users access to it (mount -o remount,mode=755 ${tracefs})`
          : undefined,
  });
}

/** A tracepoint of all kernels since 4.11 that only fires when an XDP program fails. */
export const rareTracepoint = { category: "xdp", name: "xdp_exception" } as const;

/** The ways to attach in this file, as `features` lists them. */
export const tracepointKinds = {
  tp: {
    since: "4.7",
    config: ["CONFIG_BPF_EVENTS"],
    // CAP_SYS_ADMIN is needed to mount tracefs, which contains the tracepoint's id.
    needs: ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
    section: `tp/${rareTracepoint.category}/${rareTracepoint.name}`,
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
