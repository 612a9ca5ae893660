import { readFileSync } from "../ffi/files.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { openProbeEvent } from "../ffi/perf_event.ts";

/** The kernel's sorts of probes: of its own functions, and of files. */
export type ProbeSource = "kprobe" | "uprobe";

/** What a probe is of. */
export interface ProbePlace {
  readonly source: ProbeSource;
  /** Of the return instead of the start. */
  readonly isReturn: boolean;
  /** A function of the kernel by name, or a file by path. */
  readonly target: string;
  /** Bytes from the start of the function or the file. */
  readonly offset: number;
}

/**
 * Makes a probe: a perf event, for programs to run at. It goes when the event is closed (kernel 4.17; before that a probe had to
 * be written to tracefs).
 *
 * @throws {BpfError} `ENOENT` where the kernel has no probes of the sort, or no such function or file
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
