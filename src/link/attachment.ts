import { BpfError } from "../ffi/error.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { ENOLINK, EOPNOTSUPP } from "../uapi/errno.ts";
import { Link, type LinkedProgram } from "./link.ts";
import type { LinkInfo } from "./link_info.ts";

/** The operations of an {@link Attachment}. */
export interface AttachmentOperations {
  /** Describes the attachment. Its `id` is 0. */
  info(): LinkInfo;
  /** Replaces the program. @throws {BpfError} if the kernel refuses, or has another program than the expected one. */
  update?(program: LinkedProgram, expected: LinkedProgram | undefined): void;
  /** Detaches the program. Does nothing if it is not attached any more. @throws {BpfError} if the kernel refuses. */
  detach(): void;
  /** Closes descriptors that the operations hold, after the last operation. */
  close?(): void;
}

/**
 * An attachment for which the kernel has no link. It is used as a link, but has neither an id nor pins.
 *
 * Disposal detaches the program. If the process is killed, the program stays attached, unless the kernel removes it with the
 * descriptor of the target.
 */
export class Attachment extends Link {
  readonly #operations: AttachmentOperations;
  #isDetached = false;

  /** @param descriptor a descriptor that the operations need, which this object closes */
  constructor(descriptor: Descriptor, operations: AttachmentOperations) {
    super(descriptor);
    this.#operations = operations;
  }

  override get id(): number {
    return this.#refuse("read the id of");
  }

  override info(): LinkInfo {
    void this.fd;
    return this.#operations.info();
  }

  override update(program: LinkedProgram, options = {}): this {
    const { expected } = this.checkUpdate(program, options);
    if (this.#operations.update === undefined) return this.#refuse("replace the program of");
    if (this.#isDetached) {
      throw new BpfError({
        errno: ENOLINK,
        syscall: "bpf(BPF_LINK_UPDATE)",
        doing: `replace the program of the ${this}`,
        hint: "The program was detached: attach it again",
      });
    }
    this.#operations.update(program, expected);
    return this;
  }

  override detach(): this {
    void this.fd;
    if (!this.#isDetached) this.#operations.detach();
    this.#isDetached = true;
    return this;
  }

  override pin(): this {
    return this.#refuse("pin");
  }

  #refuse(doing: string): never {
    // A disposed attachment throws DisposedError here, before any other error.
    void this.fd;
    throw new BpfError({
      errno: EOPNOTSUPP,
      syscall: "bpf(BPF_LINK_CREATE)",
      doing: `${doing} the ${this}`,
      hint: "The program is attached without a link of the kernel, so it has neither an id nor pins",
    });
  }

  override [Symbol.dispose](): void {
    if (this.disposed) return;
    try {
      this.detach();
    } finally {
      this.#operations.close?.();
      super[Symbol.dispose]();
    }
  }
}
