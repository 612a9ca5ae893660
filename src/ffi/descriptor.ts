import { BpfError, DisposedError, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { libc } from "./libc.ts";
import { F_DUPFD_CLOEXEC } from "../uapi/system.ts";

/**
 * An open file descriptor, which this object owns and closes on disposal.
 *
 * Its number is above 2, because 0 means "none" in several fields of bpf(2), and because output of `console.log` would go to a
 * descriptor that has replaced a closed standard stream.
 */
export class Descriptor implements Disposable {
  #fd: number;
  /** The name of the object in errors: `hash map "counts"`. */
  what: string;

  /** Takes ownership of `fd`. A number up to 2 is replaced by a duplicate. */
  constructor(fd: number, what: string) {
    this.what = what;
    this.#fd = fd;
    if (fd <= 2) {
      try {
        this.#fd = duplicate(fd, what);
      } finally {
        libc.close(fd);
      }
    }
    tracing.registry?.add(this, {
      kind: "descriptor",
      place: `descriptor ${this.#fd}`,
      what: () => this.what,
    });
  }

  /** The number of the descriptor. @throws {DisposedError} after disposal. */
  get fd(): number {
    if (this.#fd < 0) throw this.refusal();
    return this.#fd;
  }

  /** Returns the error for a use after disposal. */
  refusal(): DisposedError {
    return new DisposedError(this.what);
  }

  /** True after disposal, and after {@link release}. */
  get disposed(): boolean {
    return this.#fd < 0;
  }

  /** Gives up ownership and returns the number, which the caller closes. @throws {DisposedError} after disposal. */
  release(): number {
    const { fd } = this;
    this.#fd = -1;
    tracing.registry?.delete(this);
    return fd;
  }

  /** Closes the descriptor; a second call does nothing. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    // The number is cleared before the call, because close(2) on Linux frees it even when it returns an error.
    const fd = this.#fd;
    this.#fd = -1;
    tracing.registry?.delete(this);
    if (libc.close(fd) < 0) {
      throw new BpfError({ errno: lastErrno(), syscall: "close", doing: `close the ${this.what}` });
    }
  }
}

/** Returns a duplicate of a descriptor, closed on exec and with a number above 2. */
export function duplicate(fd: number, what: string): number {
  const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) {
    throw new BpfError({
      errno: lastErrno(),
      syscall: "fcntl(F_DUPFD_CLOEXEC)",
      doing: `duplicate the descriptor ${fd} of the ${what}`,
    });
  }
  return copy;
}
