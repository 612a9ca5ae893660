import type { MapElement } from "../ffi/map_element.ts";
import type { Hints } from "../ffi/map_hints.ts";
import { checkCount, checkOptions } from "../types/argument.ts";
import { u32 } from "../types/integer.ts";
import { cpuArrayKind, type CpuArrayOptions, noTypes } from "./descriptor_array_kind.ts";
import type { FdLike } from "./fd_like.ts";
import type { MapHandle } from "./handle.ts";
import { ProgrammedLayout, programmedSize } from "./programmed_layout.ts";
import { SparseArrayMap } from "./sparse_array_map.ts";

/** Options of {@link CpuMap}. */
export type CpuMapOptions = CpuArrayOptions;

/** What is stored in a {@link CpuMap}. */
export interface CpuMapValue {
  /** How many packets wait for the CPU at the most: 1 to 16384. */
  readonly queueSize: number;
  /**
   * An XDP program that sees each packet on the CPU it was sent to, loaded for the attachment `BPF_XDP_CPUMAP` (libbpf's
   * section `xdp/cpumap`).
   */
  readonly program?: FdLike | undefined;
}

/** What is read from a {@link CpuMap}. */
export interface CpuMapEntry {
  /** How many packets wait for the CPU at the most. */
  readonly queueSize: number;
  /** The id of the program that sees the packets, or `undefined` for none. */
  readonly programId: number | undefined;
}

/** The kernel's own limit (kernel/bpf/cpumap.c). */
const longestQueue = 16384;

const wrongProgram =
  "The program is none of type XDP that was loaded for cpumaps (attachment BPF_XDP_CPUMAP)";
const cpuMapHints: Hints = {
  ENODEV: "This machine cannot have a CPU of that number: possibleCpus() lists those that it can",
  ENOMEM: `${wrongProgram}, or the kernel has no memory for the queue`,
  // What newer kernels say.
  EINVAL: wrongProgram,
  EBADF: `${wrongProgram}, or no file is open at that descriptor`,
};

function cpuMapLayout(size: number): ProgrammedLayout<CpuMapEntry, CpuMapValue> {
  return new ProgrammedLayout(size, {
    take(value) {
      checkOptions("queue", value, ["queueSize", "program"]);
      const { queueSize, program } = value;
      // The kernel would take 0 for a deletion.
      checkCount("queueSize", queueSize, 1, longestQueue);
      return { number: queueSize, program };
    },
    make: (queueSize, programId) => ({ queueSize, programId }),
  });
}

/**
 * Queues to other CPUs, that XDP programs send packets to with the helper `redirect_map`, by the number of the CPU: there
 * the network stack goes on with them. Each may have a program that sees the packets before.
 *
 * Kernel 4.15; made here with room for programs, which takes kernel 5.9: an older kernel's maps are opened as they are.
 * The kernel starts a thread for each CPU that is stored. `delete` looks first, as the kernel does not say whether
 * something was there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.9, `E2BIG` for more entries than the kernel was built
 * for CPUs
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { CpuMap } from "bun-bpf";
 * using cpus = new CpuMap({ name: "cpus" });
 * cpus.set(0, { queueSize: 192 });
 * console.log(cpus.get(0)); // { queueSize: 192, programId: undefined }
 * console.log(cpus.delete(0), cpus.delete(0)); // true false
 * ```
 */
export class CpuMap extends SparseArrayMap<CpuMapEntry, CpuMapValue> {
  /** @internal */
  static readonly kind = cpuArrayKind("cpumap", "CpuMap", programmedSize);

  constructor(options?: CpuMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object = {}, existing = CpuMap.kind.create(options)) {
    super(existing, { key: u32, value: cpuMapLayout(existing.info.valueSize), hints: cpuMapHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): CpuMap {
    return new CpuMap(noTypes, CpuMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): CpuMap {
    return new CpuMap(noTypes, CpuMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): CpuMap {
    return new CpuMap(noTypes, CpuMap.kind.byFd(fd, noTypes));
  }

  override dup(): CpuMap {
    return new CpuMap(noTypes, this.duplicateHandle());
  }

  /** @internal The kernel deletes what is not there, too, and says nothing. */
  protected override deleteElement(element: MapElement): boolean {
    return element.lookup(0) && element.delete();
  }
}
