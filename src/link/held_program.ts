/** @module Programs of attachments for which the kernel has no link. */

import { objectId } from "../ffi/bpf_object.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { EINVAL, ENOENT, EPERM } from "../uapi/errno.ts";
import type { LinkedProgram } from "./link.ts";
import { explainOtherType } from "./replacement_type.ts";

/** An operation and its system call, for errors. */
interface AttachmentCall {
  readonly doing: string;
  readonly syscall: string;
}

/** Returns the error for a program that is not attached. */
export function notAttached(
  call: AttachmentCall,
  hint = "The program is not attached there",
): BpfError {
  return new BpfError({ errno: ENOENT, ...call, hint });
}

/** A program with a descriptor of its own, so that it can be compared and detached after its other descriptors are closed. */
export class HeldProgram implements Disposable {
  readonly #descriptor: Descriptor;

  /** @throws {BpfError} if the descriptor cannot be duplicated. */
  constructor({ fd }: LinkedProgram) {
    const what = "attached program";
    this.#descriptor = new Descriptor(duplicate(fd, what), what);
  }

  /** The descriptor of the program, which this object owns. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** The id of the program. @throws {BpfError} if the kernel does not tell it to this process. */
  get id(): number {
    return objectId("prog", this.#descriptor);
  }

  /** Checks that this is the expected program, if there is one. @throws {BpfError} EPERM as the kernel for links. */
  requireExpected(expected: LinkedProgram | undefined, call: AttachmentCall): void {
    if (expected === undefined) return;
    using other = new HeldProgram(expected);
    if (other.id === this.id) return;
    throw new BpfError({
      errno: EPERM,
      ...call,
      hint: "The attachment has another program than the expected one: read link.info().programId",
    });
  }

  /** Checks that another program has the same type, which a replacement needs. @throws {BpfError} EINVAL as the kernel. */
  requireSameType(next: LinkedProgram, call: AttachmentCall): void {
    const hint = explainOtherType(next.fd, this.fd, "attachment");
    if (hint !== undefined) throw new BpfError({ errno: EINVAL, ...call, hint });
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
