/** @module Attaches programs to perf events, and opens the perf events of kprobes and uprobes. */

import type { BpfCallContext } from "../ffi/bpf.ts";
import { linkPerfEvent } from "../ffi/bpf_link.ts";
import { objectId } from "../ffi/bpf_object.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { readFileSync } from "../ffi/files.ts";
import { isKernelSince, kernelConfig } from "../ffi/kernel.ts";
import { enablePerfEvent, openProbeEvent, setPerfEventProgram } from "../ffi/perf_event.ts";
import { Attachment } from "./attachment.ts";
import { Link, type LinkedProgram } from "./link.ts";

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
  if (fd === undefined) {
    opened.move();
    return attachWithoutLink(program, event, context);
  }
  const link = opened.use(new Descriptor(fd, what));
  enablePerfEvent(event.fd, what);
  opened.move();
  return new PerfEventLink(link, event);
}

/**
 * Attaches a program to a perf event without a link, as kernels before 5.15 require, and enables the event. The result owns the
 * event, and detaches the program by closing it. If attaching fails, the event is closed.
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function attachWithoutLink(
  program: LinkedProgram,
  event: Descriptor,
  context: BpfCallContext,
): Attachment {
  const { what } = event;
  using opened = new DisposableStack();
  opened.use(event);
  // info() reads the program's id by this copy. The event can be closed before the attachment, which owns the copy.
  const copy = opened.use(new Descriptor(duplicate(program.fd, what), what));
  setPerfEventProgram(event.fd, program.fd, context);
  enablePerfEvent(event.fd, what);
  const attachment = new Attachment(copy, {
    info: () => ({
      id: 0,
      programId: objectId("prog", copy),
      type: "perf_event",
      event: undefined,
    }),
    detach: () => event[Symbol.dispose](),
  });
  opened.move();
  return attachment;
}

/** The kernel's perf event sources for probes: of kernel functions, and of files. */
type ProbeSource = "kprobe" | "uprobe";

/** The place of a probe. */
export interface ProbePlace {
  readonly source: ProbeSource;
  /** True for the return of the function, false for the instruction at the offset. */
  readonly isReturn: boolean;
  /** The name of a kernel function, or the path of a file; `undefined` for an address of the kernel. */
  readonly target: string | undefined;
  /** Bytes from the start of the function or the file, or the address. */
  readonly offset: bigint;
  /** The only process in which the probe fires. @default all processes */
  readonly pid?: number | undefined;
  /** The offset of a reference counter in the file, which the kernel increments while the probe exists (kernel 4.20). */
  readonly referenceOffset?: number | undefined;
}

/**
 * Opens the perf event of a kprobe or uprobe. Closing the event removes the probe (kernel 4.17; earlier kernels create
 * probes by files in tracefs).
 *
 * @param what the name of the event in later errors
 * @throws {BpfError} `ENOENT` if the kernel has no probes of this source, or there is no such function or file.
 */
export function openProbe(
  { source, isReturn, target, offset, pid, referenceOffset = 0 }: ProbePlace,
  context: BpfCallContext,
  what: string,
): Descriptor {
  const { doing } = context;
  const type = Number.parseInt(readSource(source, "type", doing), 10);
  let config = isReturn ? 1n << configBit(readSource(source, "format/retprobe", doing)) : 0n;
  if (referenceOffset !== 0) {
    const format = readSource(source, "format/ref_ctr_offset", doing);
    config |= BigInt(referenceOffset) << configBit(format);
  }
  return new Descriptor(openProbeEvent({ type, config, target, offset, pid }, context), what);
}

/** The contents of files in sysfs by path. They do not change until the next boot. */
const sources = new Map<string, string>();

/** Reads a file of a perf event source in sysfs. */
function readSource(source: ProbeSource, file: string, doing: string): string {
  const path = `/sys/bus/event_source/devices/${source}/${file}`;
  try {
    return sources.getOrInsertComputed(path, () => readFileSync(path, "utf8"));
  } catch (error) {
    const { errno = 0, code } = error as NodeJS.ErrnoException;
    throw new BpfError({
      errno: Math.abs(errno),
      syscall: "open",
      doing,
      hint: code === "ENOENT" ? () => explainMissingSource(source, file) : undefined,
    });
  }
}

function explainMissingSource(source: ProbeSource, file: string): string {
  if (file === "format/ref_ctr_offset" && !isKernelSince("4.20")) {
    return "Reference counters need Linux 4.20";
  }
  const option = `CONFIG_${source.toUpperCase()}_EVENTS`;
  const config = kernelConfig();
  return isKernelSince("4.17") && config !== undefined && config.get(option) !== "y"
    ? `This kernel was built without ${option}, so it has no ${source}s`
    : `Probes need Linux 4.17 with ${option}, and sysfs mounted at /sys`;
}

/** Returns the number of the first bit in a format such as `"config:0"` or `"config:32-63"`. */
function configBit(format: string): bigint {
  return BigInt(/^config:(\d+)/.exec(format.trim())?.[1] ?? 0);
}
