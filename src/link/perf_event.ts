/** @module Attaches to perf events, and opens the perf events of probes. */

import { readFileSync } from "../ffi/files.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { linkPerfEvent } from "../ffi/bpf_link.ts";
import { attachTypeNumbers } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { enablePerfEvent, openProbeEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { EINVAL } from "../uapi/errno.ts";
import { Link, type LinkedProgram } from "./link.ts";
import type { LinkInfo } from "./link_info.ts";

/** A link to a perf event, which is closed with the link. */
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

/** A perf event with a program on a kernel before 5.15, which has no links for perf events: it can only be closed. */
export class BarePerfEvent extends Link {
  override get id(): number {
    return this.#refuse("ask the kernel about");
  }

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
      errno: EINVAL,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: `${doing} the ${this}`,
      hint: "Links of tracepoints need kernel 5.15: before that this is a perf event, which stays attached until it is disposed of",
    });
  }
}

/**
 * Attaches to a perf event, by a link where the kernel has those (kernel 5.15), and starts it. The event belongs to the link
 * afterwards, and is closed when this fails.
 *
 * @throws {BpfError} when the kernel refuses
 */
export function attachPerfEvent(
  program: LinkedProgram,
  event: Descriptor,
  context: BpfCallContext,
): Link {
  const { what } = event;
  using opened = new DisposableStack();
  opened.use(event);
  const fd = linkPerfEvent(program.fd, event.fd, attachTypeNumbers.perf_event, context);
  const link = fd === undefined ? undefined : opened.use(new Descriptor(fd, what));
  if (link === undefined) setPerfEventProgram(event.fd, program.fd, what);
  enablePerfEvent(event.fd, what);
  opened.move();
  return link === undefined ? new BarePerfEvent(event) : new PerfEventLink(link, event);
}

/** The kernel's kinds of probes: of its own functions, and of files. */
export type ProbeSource = "kprobe" | "uprobe";

/** The place of a probe. */
export interface ProbePlace {
  readonly source: ProbeSource;
  /** True for the return of the function, false for its start. */
  readonly isReturn: boolean;
  /** A function of the kernel by name, or a file by path. */
  readonly target: string;
  /** Bytes from the start of the function or the file. */
  readonly offset: number;
}

/**
 * Opens a probe, a perf event at which programs run. Closing the event removes it (kernel 4.17; before that a probe had to
 * be written to tracefs).
 *
 * @throws {BpfError} `ENOENT` where the kernel has no such probes, function or file
 */
export function openProbe(
  { source, isReturn, target, offset }: ProbePlace,
  what: string,
): Descriptor {
  const type = Number.parseInt(readSource(source, "type", what), 10);
  const config = isReturn ? 1n << returnBit(readSource(source, "format/retprobe", what)) : 0n;
  return new Descriptor(openProbeEvent({ type, config, target, offset }, what), what);
}

/** A file of the kernel's description of a sort of perf events. */
function readSource(source: ProbeSource, file: string, what: string): string {
  try {
    return readFileSync(`/sys/bus/event_source/devices/${source}/${file}`, "utf8");
  } catch (error) {
    throw new BpfError({
      errno: Math.abs((error as NodeJS.ErrnoException).errno ?? 0),
      syscall: "open",
      doing: `make the ${what}`,
      hint: `It needs kernel 4.17 with CONFIG_${source.toUpperCase()}_EVENTS and /sys mounted`,
    });
  }
}

/** The number in `"config:0"`. */
function returnBit(format: string): bigint {
  return BigInt(/^config:(\d+)$/.exec(format.trim())?.[1] ?? 0);
}
