import type { Hints } from "../ffi/map_hints.ts";
import { u32 } from "../types/integer.ts";
import { cpuArrayKind, type CpuArrayOptions, noTypes } from "./descriptor_array_kind.ts";
import type { FdLike } from "./fd_like.ts";
import { idLayout } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { WriteOnlyArrayMap } from "./write_only_array_map.ts";

/** Options of {@link PerfEventArray}. */
export type PerfEventArrayOptions = CpuArrayOptions;

const perfEventHints: Hints = {
  EBADF: "No perf event is open at that descriptor: perf_event_open(2) opens one",
  EOPNOTSUPP: "Programs cannot read the counter of an event that child processes inherit",
};

/**
 * Perf events for programs, by index: to write records into their buffers (helper `perf_event_output`, usually with the CPU
 * as the index) or to read their counters (`perf_event_read_value`). User space stores and deletes events and cannot look.
 *
 * Kernel 4.3. An event stays in the array when its own descriptor is closed, until the array that it was stored through is
 * closed for good: that object, its `dup()`s and what they were passed on to. With the flag `"preserve-elems"` (kernel
 * 5.10) it stays for as long as the array does.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BpfError, PerfEventArray, possibleCpus } from "bun-bpf";
 * using events = new PerfEventArray({ name: "events" });
 * console.log(events.length === Math.max(...possibleCpus()) + 1); // true
 * try {
 *   events.set(0, 0); // a descriptor of perf_event_open(2) would do, standard input does not
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.code); // EBADF
 * }
 * console.log(events.delete(0)); // false
 * ```
 */
export class PerfEventArray extends WriteOnlyArrayMap<FdLike> {
  /** @internal */
  static readonly kind = cpuArrayKind("perf-event-array", "PerfEventArray", u32.size);

  constructor(options?: PerfEventArrayOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object = {}, existing = PerfEventArray.kind.create(options)) {
    super(existing, { key: u32, value: idLayout("a perf event"), hints: perfEventHints });
  }

  /** Opens the array pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): PerfEventArray {
    return new PerfEventArray(noTypes, PerfEventArray.kind.open(path, noTypes));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): PerfEventArray {
    return new PerfEventArray(noTypes, PerfEventArray.kind.byId(id, noTypes));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): PerfEventArray {
    return new PerfEventArray(noTypes, PerfEventArray.kind.byFd(fd, noTypes));
  }

  /** Empties a place; whether an event was there. @throws {TypeError | RangeError} for an index outside the array */
  delete(index: number): boolean {
    return this.empty(index);
  }

  override dup(): PerfEventArray {
    return new PerfEventArray(noTypes, this.duplicateHandle());
  }
}
