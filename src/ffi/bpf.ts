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

/** The number of a command of bpf(2), such as BPF_MAP_CREATE. */
export type BpfCommand = number;

/** Calls bpf(2) directly, for the most frequent commands. Returns -1 on failure; `lastErrno()` then returns the error. */
export function bpf(command: number, attrAddress: number, attrSize: number): number {
  return syscalls.bpf(bpfNumber, command, attrAddress as Pointer, attrSize);
}

/** Capabilities that most commands need. */
const defaultCapabilities: readonly Capability[] = ["CAP_BPF"];

/** Commands whose memory counts towards the limit on locked memory, before kernel 5.11. */
const lockingCommands: ReadonlySet<BpfCommand> = new Set([BPF_MAP_CREATE, BPF_PROG_LOAD]);

/** The context of a call, for its error message. */
export interface BpfCallContext {
  /** The operation, as it follows "cannot" in the message: `"create the hash map counts"`. */
  readonly doing: string;
  /** The capabilities that the call needs. @default ["CAP_BPF"] */
  readonly needs?: readonly Capability[];
  /** Hints by errno name. A hint that is a function is called only on failure. */
  readonly hints?: Readonly<Record<string, string | (() => string | undefined)>>;
}

/**
 * A `union bpf_attr`, with the strings and data that it points to, in memory whose address does not change.
 *
 * The caller chooses the number of bytes that are passed. A kernel that does not support a later field accepts the call if that
 * field is not passed, or is zero.
 */
export class BpfAttr implements Disposable {
  readonly #attr: Scratch;
  readonly #parts: Scratch[] = [];
  readonly #size: number;

  /** @param size the number of bytes that are passed to the kernel, usually the `sizeof` of a layout */
  constructor(size: number) {
    this.#attr = allocateScratch(size);
    this.#size = size;
  }

  /** Sets a 32-bit field. */
  u32(offset: number, value: number): this {
    this.#attr.view.setUint32(offset, value, true);
    return this;
  }

  /** Sets a 64-bit field. */
  u64(offset: number, value: number | bigint): this {
    if (typeof value === "bigint") this.#attr.view.setBigUint64(offset, value, true);
    else setUint64(this.#attr.view, offset, value);
    return this;
  }

  /** Sets an array of `length` characters, such as a name. A longer string is cut off after `length - 1` bytes. */
  text(offset: number, value: string, length: number): this {
    const bytes = Buffer.from(value);
    this.#attr.bytes.set(bytes.subarray(0, length - 1), offset);
    return this;
  }

  /** Sets a pointer to memory that the caller owns. */
  pointer(offset: number, memory: Scratch): this {
    return this.u64(offset, memory.address);
  }

  /** Sets a pointer to a NUL-terminated copy of a string, which this object owns. */
  string(offset: number, value: string): this {
    this.memory(offset, Buffer.from(`${value}\0`));
    return this;
  }

  /** Sets a pointer to a copy of `data`, or to `data` zeroed bytes, which this object owns. Returns that memory. */
  memory(offset: number, data: Uint8Array | number): Scratch {
    const part = allocateScratch(typeof data === "number" ? data : data.byteLength);
    this.#parts.push(part);
    if (typeof data !== "number") part.bytes.set(data);
    this.pointer(offset, part);
    return part;
  }

  /** Reads a 32-bit field that the kernel wrote. */
  readU32(offset: number): number {
    return this.#attr.view.getUint32(offset, true);
  }

  /** Reads a 64-bit field that the kernel wrote. */
  readU64(offset: number): bigint {
    return this.#attr.view.getBigUint64(offset, true);
  }

  /** Makes the call, and returns its result or -1. The caller handles the error, which `lastErrno()` returns. */
  tryCall(command: BpfCommand): number {
    const locksMemory = lockingCommands.has(command) && countsTowardsLimit();
    const result = this.#call(command);
    if (!locksMemory || result >= 0 || lastErrno() !== EPERM) return result;
    raiseLockedMemoryLimit();
    // The call is repeated even if the limit was not raised, because the caller reads the errno of the last call.
    return this.#call(command);
  }

  #call(command: BpfCommand): number {
    return bpf(command, this.#attr.address, this.#size);
  }

  /** Makes the call, and returns its result. @throws {BpfError} with the texts of `context`. */
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

/** Returns the error for a failed command of bpf(2). */
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
      return explainPermission(context.needs ?? defaultCapabilities, lockingCommands.has(command));
    },
  });
}
