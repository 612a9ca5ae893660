import type { Hints } from "../ffi/map_hints.ts";
import { u32 } from "../types/integer.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import type { FdLike } from "./fd_like.ts";
import { idLayout } from "./fd_layout.ts";
import type { MapHandle } from "./handle.ts";
import { SparseArrayMap } from "./sparse_array_map.ts";

/** Options of {@link ProgArray}. */
export type ProgArrayOptions = DescriptorArrayOptions;

const progHints: Hints = {
  EINVAL:
    "It is no BPF program, or another kind of program than those that the array is for, which the first one stored and the first one that uses the array settle: type, expected attach type and whether it is compiled must be the same",
  EBADF: "No file is open at that descriptor; an id, as reading gives it, is none",
  EBUSY: "The program has been extended by another one (freplace): such a program cannot be stored",
};

/**
 * Programs that another one goes over to with the helper `tail_call`, by index. What is stored is a program, what is read
 * is its id.
 *
 * Kernel 4.2; reading 4.13. All programs in it are of one kind. The kernel empties the array soon after its last descriptor
 * and its last pin are gone, even while programs use it: pin it, or keep this object. A tail call to an empty place does
 * nothing, and the caller goes on.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { asm, ProgArray, Program } from "bun-bpf";
 * const { r0, r2, r3 } = asm;
 * using steps = new ProgArray({ maxEntries: 4, name: "steps" });
 * using first = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { steps },
 *   code: [
 *     asm.ldMap(r2, "steps"), // r1 is the context
 *     asm.mov(r3, 1),
 *     asm.call("tail_call"),
 *     asm.mov(r0, 0), // the place was empty
 *     asm.exit(),
 *   ],
 * });
 * using second = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   code: [asm.mov(r0, 7), asm.exit()],
 * });
 * const packet = { data: new Uint8Array(14) };
 * console.log(first.testRun(packet).returnValue); // 0
 * steps.set(1, second);
 * console.log(first.testRun(packet).returnValue); // 7
 * console.log(steps.get(1) === second.info().id, steps.get(0)); // true undefined
 * ```
 */
export class ProgArray extends SparseArrayMap<number, FdLike> {
  /** @internal */
  static readonly kind = descriptorArrayKind("prog-array", "ProgArray", u32.size);

  constructor(options: ProgArrayOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = ProgArray.kind.create(options)) {
    super(existing, { key: u32, value: idLayout("a program"), hints: progHints });
  }

  /** Opens the array pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): ProgArray {
    return new ProgArray(noTypes, ProgArray.kind.open(path, noTypes));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): ProgArray {
    return new ProgArray(noTypes, ProgArray.kind.byId(id, noTypes));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): ProgArray {
    return new ProgArray(noTypes, ProgArray.kind.byFd(fd, noTypes));
  }

  override dup(): ProgArray {
    return new ProgArray(noTypes, this.duplicateHandle());
  }
}
