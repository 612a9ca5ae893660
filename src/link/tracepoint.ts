import { readFileSync, statSync } from "../ffi/files.ts";
import { linkPerfEvent } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { enablePerfEvent, openTracepointEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { Link, type LinkedProgram } from "./link.ts";
import type { LinkInfo } from "./link_info.ts";
import { bpfAttachTypes } from "../uapi/enumerations.ts";
import { errnoNumbers } from "../uapi/errno.ts";

/** A link to a perf event, which lives as long as the link. */
export class PerfEventLink extends Link {
  readonly #event: Descriptor;

  constructor(fd: number, what: string, event: Descriptor) {
    super(fd, what);
    this.#event = event;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#event[Symbol.dispose]();
  }
}

/** A perf event with a program, before kernel 5.15: the kernel has no link for it, so that all one can do is to close it. */
export class BarePerfEvent extends Link {
  override info(): LinkInfo {
    return this.#refuse("ask the kernel about");
  }

  override update(): this {
    return this.#refuse("replace the program of");
  }

  override detach(): this {
    return this.#refuse("detach");
  }

  override pin(): this {
    return this.#refuse("pin");
  }

  #refuse(doing: string): never {
    // A disposed one says so first, as everywhere.
    void this.fd;
    throw new BpfError({
      errno: errnoNumbers.EINVAL,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: `${doing} the ${this}`,
      hint: "Links of tracepoints need kernel 5.15: before that this is a perf event, which stays attached until it is disposed of",
    });
  }
}

/** Where distributions mount tracefs. */
const tracefsPaths = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/**
 * Attaches to a tracepoint, given as `category/name` (kernel 4.7; a true link since 5.15).
 *
 * Before 5.15 the link is the perf event itself: it can be disposed of, not pinned nor updated.
 *
 * @throws {BpfError} as {@link tracepointId}, and when the kernel refuses
 */
export function attachTracepoint(program: LinkedProgram, target: string): Link {
  const what = `tracepoint link to ${target}`;
  const event = new Descriptor(openTracepointEvent(tracepointId(target), what), what);
  try {
    const link = linkPerfEvent(program.fd, event.fd, bpfAttachTypes.PERF_EVENT, {
      doing: `attach to the tracepoint ${target}`,
      needs: ["CAP_BPF", "CAP_PERFMON"],
    });
    if (link !== undefined) {
      const perfEventLink = new PerfEventLink(link, what, event);
      try {
        enablePerfEvent(event.fd, what);
      } catch (error) {
        perfEventLink[Symbol.dispose]();
        throw error;
      }
      return perfEventLink;
    }
    setPerfEventProgram(event.fd, program.fd, what);
    enablePerfEvent(event.fd, what);
    return new BarePerfEvent(event.release(), what);
  } catch (error) {
    event[Symbol.dispose]();
    throw error;
  }
}

/**
 * The kernel's number for a tracepoint, from tracefs: where that is mounted, or else through a mount of our own that has
 * no mount point and ends with this call.
 *
 * @throws {BpfError} `ENOENT` when the kernel has no such tracepoint, `EACCES` when this user may not read tracefs
 */
export function tracepointId(
  target: string,
  mountPoints: readonly string[] = tracefsPaths,
): number {
  for (const path of mountPoints) {
    if (isMounted(path, target)) return readId(path, target);
  }
  using mount = new DetachedMount("tracefs");
  return readId(mount.path, target);
}

/** Whether tracefs is mounted there. @throws {BpfError} when this user may not know */
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

function readId(tracefs: string, target: string): number {
  try {
    return Number.parseInt(readFileSync(`${tracefs}/events/${target}/id`, "utf8"), 10);
  } catch (error) {
    throw tracefsError(error, tracefs, target);
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
        ? `This kernel has no tracepoint ${target} (category/name): \`ls ${tracefsPaths[0]}/events/*\` shows those it has`
        : code === "EACCES"
          ? `This user may not read tracefs: run as root (sudo -E), or let everybody in (mount -o remount,mode=755 ${tracefs})`
          : undefined,
  });
}
