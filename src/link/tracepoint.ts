import { existsSync, readFileSync } from "node:fs";
import { linkPerfEvent } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { enablePerfEvent, openTracepointEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { bpfAttachTypes } from "../uapi/enumerations.ts";
import { Link, type LinkedProgram } from "./link.ts";

/** Where distributions mount tracefs. */
const tracefsPaths = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/** A link to a perf event, which lives as long as the link. */
class PerfEventLink extends Link {
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

/**
 * Attaches to a tracepoint, given as `category/name` (kernel 4.7; a true link since 5.15).
 *
 * Before 5.15 the link is the perf event itself: it can be disposed of, not pinned nor updated.
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
    return new Link(event.release(), what);
  } catch (error) {
    event[Symbol.dispose]();
    throw error;
  }
}

/**
 * The kernel's number for a tracepoint, from tracefs: where that is mounted, or else through a mount of our own that has
 * no mount point and ends with this call.
 *
 * @throws {RangeError} when the kernel has no such tracepoint
 */
export function tracepointId(target: string): number {
  const mounted = tracefsPaths.find((path) => existsSync(`${path}/events`));
  if (mounted !== undefined) return readId(mounted, target);
  using mount = new DetachedMount("tracefs");
  return readId(mount.path, target);
}

function readId(tracefs: string, target: string): number {
  const path = `${tracefs}/events/${target}/id`;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
    throw new RangeError(`this kernel has no tracepoint ${target} (category/name)`, { cause });
  }
  return Number.parseInt(text, 10);
}
