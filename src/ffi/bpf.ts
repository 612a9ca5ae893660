import type { Pointer } from "bun:ffi";
import { BPF_MAP_CREATE, BPF_PROG_LOAD, bpfCommandNames } from "../uapi/commands.ts";
import { EPERM } from "../uapi/errno.ts";
import { SYS_bpf } from "../uapi/system.ts";
import type { Capability } from "./capabilities.ts";
import { countsTowardsLimit, explainPermission, raiseLockedMemoryLimit } from "./permission.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { syscalls } from "./libc.ts";
import { architecture } from "./platform.ts";
import { allocateScratch, type Scratch, setUint64 } from "./mapped_memory.ts";

const bpfNumber = SYS_bpf[architecture] ?? -1;

/** A command of bpf(2): BPF_MAP_CREATE. */
export type BpfCommand = number;

/** bpf(2) itself, for calls so frequent that nothing may stand before them: -1 on failure, and then `lastErrno()`. */
export function bpf(command: number, attrAddress: number, attrSize: number): number {
  return syscalls.bpf(bpfNumber, command, attrAddress as Pointer, attrSize);
}

/** Capabilities that explain a refusal of most commands. */
const usualCapabilities: readonly Capability[] = ["CAP_BPF"];

/** What the kernel takes memory for, which counts towards the limit on locked memory where that counts at all. */
const lockingCommands: ReadonlySet<BpfCommand> = new Set([BPF_MAP_CREATE, BPF_PROG_LOAD]);

/** What a call through {@link BpfAttr} is for, so that its failure can be explained. */
export interface BpfCallContext {
  /** To follow "cannot": `"create the hash map counts"`. */
  readonly doing: string;
  /** What the kernel asks for this; CAP_BPF by default. */
  readonly needs?: readonly Capability[];
  /** Explains errors that mean something particular here, by name; asked for only on failure. */
  readonly hints?: Readonly<Record<string, string | (() => string | undefined)>>;
}

/**
 * A `union bpf_attr` being filled in, with the strings and data that it points to: all in memory that stays in place.
 *
 * Only as many bytes are passed as the caller names: kernels that do not know a later field accept the call as long as
 * they never see it, or see it as zero.
 */
export class BpfAttr implements Disposable {
  readonly #attr: Scratch;
  readonly #parts: Scratch[] = [];
  readonly #size: number;

  /** @param size bytes passed to the kernel, usually the `sizeof` of a layout */
  constructor(size: number) {
    this.#attr = allocateScratch(size);
    this.#size = size;
  }

  u32(offset: number, value: number): this {
    this.#attr.view.setUint32(offset, value, true);
    return this;
  }

  u64(offset: number, value: number | bigint): this {
    if (typeof value === "bigint") this.#attr.view.setBigUint64(offset, value, true);
    else setUint64(this.#attr.view, offset, value);
    return this;
  }

  /** Characters in place, as in a name field: at most `length - 1` bytes of them. */
  text(offset: number, value: string, length: number): this {
    const bytes = Buffer.from(value);
    this.#attr.bytes.set(bytes.subarray(0, length - 1), offset);
    return this;
  }

  /** A pointer to memory that the caller owns. */
  pointer(offset: number, memory: Scratch): this {
    return this.u64(offset, memory.address);
  }

  /** A pointer to a NUL-terminated copy of a string, which lives as long as this. */
  string(offset: number, value: string): this {
    this.memory(offset, Buffer.from(`${value}\0`));
    return this;
  }

  /** A pointer to a copy of `data`, or to `data` zeroed bytes, which lives as long as this. */
  memory(offset: number, data: Uint8Array | number): Scratch {
    const part = allocateScratch(typeof data === "number" ? data : data.byteLength);
    this.#parts.push(part);
    if (typeof data !== "number") part.bytes.set(data);
    this.pointer(offset, part);
    return part;
  }

  /** What the kernel wrote at `offset`. */
  readU32(offset: number): number {
    return this.#attr.view.getUint32(offset, true);
  }

  /** The call's result, or -1 with `lastErrno()`, for callers that go on after a failure. */
  tryCall(command: BpfCommand): number {
    const locksMemory = lockingCommands.has(command) && countsTowardsLimit();
    const result = this.#call(command);
    if (!locksMemory || result >= 0 || lastErrno() !== EPERM) return result;
    raiseLockedMemoryLimit();
    // Also where the limit stayed: the error to report is that of this call.
    return this.#call(command);
  }

  #call(command: BpfCommand): number {
    return bpf(command, this.#attr.address, this.#size);
  }

  /** The call's result. @throws {BpfError} with what `context` says of the failure */
  call(command: BpfCommand, context: BpfCallContext): number {
    const result = this.tryCall(command);
    if (result < 0) throw bpfError(command, lastErrno(), context);
    return result;
  }

  [Symbol.dispose](): void {
    for (const part of this.#parts) part[Symbol.dispose]();
    this.#attr[Symbol.dispose]();
  }
}

/** The error for a failed command of bpf(2). */
export function bpfError(command: BpfCommand, errno: number, context: BpfCallContext): BpfError {
  const code = errnoName(errno);
  return new BpfError({
    errno,
    syscall: `bpf(BPF_${bpfCommandNames.split(" ")[command]})`,
    doing: context.doing,
    hint() {
      const particular = context.hints?.[code];
      const hint = typeof particular === "function" ? particular() : particular;
      if (hint !== undefined || (code !== "EPERM" && code !== "EACCES")) return hint;
      return explainPermission(context.needs ?? usualCapabilities, lockingCommands.has(command));
    },
  });
}
