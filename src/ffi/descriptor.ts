import { BpfError, DisposedError, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { libc } from "./libc.ts";
import { F_DUPFD_CLOEXEC } from "../uapi/system.ts";

/**
 * An open file descriptor with one owner, which closes it.
 *
 * It is always above 2: several fields of bpf(2) take 0 for "none", and a descriptor in place of a closed standard
 * stream would be written to by the next console.log.
 */
export class Descriptor implements Disposable {
  #fd: number;
  /** Names its object in errors: `hash map "counts"`. */
  what: string;

  /** Takes ownership of `fd`. */
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

  /** The number. @throws {DisposedError} after disposal */
  get fd(): number {
    if (this.#fd < 0) throw this.refusal();
    return this.#fd;
  }

  /** What every use after disposal throws. */
  refusal(): DisposedError {
    return new DisposedError(this.what);
  }

  /** Whether it is closed. */
  get disposed(): boolean {
    return this.#fd < 0;
  }

  /** Gives up ownership: the caller closes it. @throws {DisposedError} after disposal */
  release(): number {
    const { fd } = this;
    this.#fd = -1;
    tracing.registry?.delete(this);
    return fd;
  }

  /** Closes it; a second call does nothing. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    // The number is given up before the call: on Linux it is free even when close(2) reports an error.
    const fd = this.#fd;
    this.#fd = -1;
    tracing.registry?.delete(this);
    if (libc.close(fd) < 0) {
      throw new BpfError({ errno: lastErrno(), syscall: "close", doing: `close the ${this.what}` });
    }
  }
}

/** A duplicate that is closed on exec, with a number above 2. */
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
