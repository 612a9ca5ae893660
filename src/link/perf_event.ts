/** @module Attaches programs to perf events, and opens the perf events of kprobes and uprobes. */

import { readFileSync } from "../ffi/files.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { linkPerfEvent } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { enablePerfEvent, openProbeEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { EINVAL } from "../uapi/errno.ts";
import type { LinkedProgram } from "./attach_method.ts";
import { Link } from "./link.ts";
import type { LinkInfo } from "./link_info.ts";

/** A link to a perf event. Disposing of the link closes the event. */
class PerfEventLink extends Link {
  readonly #event: Descriptor;

  constructor(link: Descriptor, event: Descriptor) {
    super(link);
    this.#event = event;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#event[Symbol.dispose]();
  }
}

/** A perf event with a program, for kernels before 5.15, which have no perf event links. Only its disposal is supported. */
export class BarePerfEvent extends Link {
  override get id(): number {
    return this.#refuse("get information about");
  }

  override info(): LinkInfo {
    return this.#refuse("get information about");
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
    // A disposed link throws DisposedError here, before any other error.
    void this.fd;
    throw new BpfError({
      errno: EINVAL,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: `${doing} the ${this}`,
      hint: "Links of classic tracepoints need Linux 5.15. On this kernel the program is attached to a perf event, which can only be disposed of",
    });
  }
}

/**
 * Attaches a program to a perf event and enables the event: by a link, or before kernel 5.15 by an ioctl. The link owns the
 * event. If attaching fails, the event is closed.
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function attachPerfEvent(
  program: LinkedProgram,
  event: Descriptor,
  cookie: bigint | undefined,
  context: BpfCallContext,
): Link {
  const { what } = event;
  using opened = new DisposableStack();
  opened.use(event);
  const fd = linkPerfEvent(program.fd, event.fd, cookie, context);
  const link = fd === undefined ? undefined : opened.use(new Descriptor(fd, what));
  if (link === undefined) setPerfEventProgram(event.fd, program.fd, context);
  enablePerfEvent(event.fd, what);
  opened.move();
  return link === undefined ? new BarePerfEvent(event) : new PerfEventLink(link, event);
}

/** The kernel's perf event sources for probes: of kernel functions, and of files. */
export type ProbeSource = "kprobe" | "uprobe";

/** The place of a probe. */
export interface ProbePlace {
  readonly source: ProbeSource;
  /** True for the return of the function, false for the instruction at the offset. */
  readonly isReturn: boolean;
  /** The name of a kernel function, or the path of a file. */
  readonly target: string;
  /** Bytes from the start of the function or the file. */
  readonly offset: number;
}

/**
 * Opens the perf event of a kprobe or uprobe. Closing the event removes the probe (kernel 4.17; earlier kernels create
 * probes by files in tracefs).
 *
 * @throws {BpfError} `ENOENT` if the kernel has no probes of this source, or there is no such function or file.
 */
export function openProbe(
  { source, isReturn, target, offset }: ProbePlace,
  what: string,
): Descriptor {
  const type = Number.parseInt(readSource(source, "type", what), 10);
  const config = isReturn ? 1n << returnBit(readSource(source, "format/retprobe", what)) : 0n;
  return new Descriptor(openProbeEvent({ type, config, target, offset }, what), what);
}

/** Reads a file of a perf event source in sysfs. */
function readSource(source: ProbeSource, file: string, what: string): string {
  try {
    return readFileSync(`/sys/bus/event_source/devices/${source}/${file}`, "utf8");
  } catch (error) {
    throw new BpfError({
      errno: Math.abs((error as NodeJS.ErrnoException).errno ?? 0),
      syscall: "open",
      doing: `open the ${what}`,
      hint: `Probes need Linux 4.17 with CONFIG_${source.toUpperCase()}_EVENTS, and sysfs mounted at /sys`,
    });
  }
}

/** Returns the bit number in a format such as `"config:0"`. */
function returnBit(format: string): bigint {
  return BigInt(/^config:(\d+)$/.exec(format.trim())?.[1] ?? 0);
}
