/** @module Reads what iterator programs write: opens an iterator of a link (BPF_ITER_CREATE), and read(2). */

import type { Pointer } from "bun:ffi";
import { BPF_ITER_CREATE } from "../uapi/commands.ts";
import { ITER_CREATE } from "../uapi/layout.ts";
import { BpfAttr } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch, pageSize, type Scratch } from "./mapped_memory.ts";

/**
 * The number of successive reads that may fail with EAGAIN. The kernel returns it after a million objects for which the program
 * wrote nothing, and each time the program returns 1.
 */
const maxRetries = 1000;

const hints: Readonly<Record<string, string>> = {
  EAGAIN: `The program has returned 1 for the same object ${maxRetries} times, which makes the kernel call it again: return 0 for the next object`,
  E2BIG:
    "The program wrote more for one object than the kernel's buffer holds, 8 pages: write less for each object",
  EOPNOTSUPP:
    "The kernel iterates cgroups only as long as the output fits in its buffer of 8 pages: write less for each cgroup, or start at a cgroup with fewer descendants",
};

/** An open iterator: it calls the program for each object, once, while it is read. */
export class OpenIterator implements Disposable {
  readonly #descriptor: Descriptor;
  /**
   * The memory for reads. It is as large as the kernel's buffer (bpf_seq_read(), kernel/bpf/bpf_iter.c), because the kernel ends
   * an iteration over cgroups when a read ends before the last of them.
   */
  readonly #memory: Scratch;
  readonly #length = 8 * pageSize();
  /** The number of successive reads that have failed with EAGAIN. */
  #retries = 0;

  /**
   * Opens an iterator of a link (kernel 5.8).
   *
   * @throws {BpfError} if the kernel refuses.
   */
  constructor(linkFd: number, what: string) {
    using attr = new BpfAttr(ITER_CREATE.sizeof);
    attr.u32(ITER_CREATE.link_fd, linkFd);
    const fd = attr.call(BPF_ITER_CREATE, { doing: `open an iterator of the ${what}` });
    this.#descriptor = new Descriptor(fd, `iterator of the ${what}`);
    try {
      this.#memory = allocateScratch(this.#length);
    } catch (error) {
      this.#descriptor[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Reads the next bytes, at most 8 pages, which the next read overwrites. Returns `undefined` at the end, and no bytes if the
   * kernel has to be asked again: it ends a read after a million objects for which the program wrote nothing.
   *
   * @throws {BpfError} if the kernel refuses.
   */
  read(): Uint8Array | undefined {
    for (;;) {
      const { fd, what } = this.#descriptor;
      const count = otherLibc.read(fd, this.#memory.address as Pointer, this.#length);
      const errno = count < 0 ? lastErrno() : 0;
      const code = errnoName(errno);
      if (code === "EINTR") continue;
      if (code === "EAGAIN" && this.#retries++ < maxRetries) return new Uint8Array(0);
      if (count < 0) {
        throw new BpfError({
          errno,
          syscall: "read",
          doing: `read the ${what}`,
          hint: hints[code],
        });
      }
      this.#retries = 0;
      return count === 0 ? undefined : this.#memory.bytes.subarray(0, count);
    }
  }

  /** Closes the iterator; a second call does nothing. */
  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}
