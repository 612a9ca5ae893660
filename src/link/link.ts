import { detachLink, updateLink } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { Pin } from "../maps/pin.ts";
import { describe } from "../types/refusal.ts";
import type { LinkInfo } from "./info.ts";
import { readLinkInfo } from "./read_info.ts";

/** What of a program a link needs: a live one. */
export interface LinkedProgram {
  readonly fd: number;
}

/**
 * An attachment of a program: it runs from the link's creation until its disposal.
 *
 * A link lives until it is disposed of (`using`, or `link[Symbol.dispose]()`), or the process ends, or, if pinned, until
 * the pin is removed. Garbage collection never detaches a probe.
 *
 * @example
 * ```ts
 * import { asm, type Link, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "raw_tp/sched_process_exec",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 0), asm.exit()],
 * });
 * using link: Link = program.attach();
 * console.log(link.info().type); // raw-tracepoint
 * ```
 */
export class Link implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #what: string;
  readonly #pin = new Pin();

  /** @internal Programs make links: `program.attach()`. */
  constructor(fd: number, what: string) {
    this.#what = what;
    this.#descriptor = new Descriptor(fd, what);
  }

  /** The descriptor, owned by this object. @throws {DisposedError} after disposal */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Whether it was disposed of. */
  get disposed(): boolean {
    return this.#descriptor.disposed;
  }

  /** The link for messages: `raw_tp link to sched_switch`. */
  toString(): string {
    return this.#what;
  }

  /** What the kernel says of the link now (kernel 5.8). @throws {BpfError} `EINVAL` before that */
  info(): LinkInfo {
    return readLinkInfo(this.fd, this.#what);
  }

  /** Puts another program of the same kind in place, without a gap (kernel 5.7). @throws {BpfError} `EINVAL` where the kind of link cannot; {TypeError} for what is no program */
  update(program: LinkedProgram): this {
    const { fd } = this;
    if (typeof program !== "object" || program === null || typeof program.fd !== "number") {
      throw new TypeError(`update: expected a program, got ${describe(program)}`);
    }
    updateLink(fd, program.fd, this.#what);
    return this;
  }

  /**
   * Detaches for everybody who holds the link; it stays open, defunct (kernel 5.9).
   *
   * @throws {BpfError} `EOPNOTSUPP` where the kind of link cannot: dispose of it instead
   */
  detach(): this {
    detachLink(this.fd, this.#what);
    return this;
  }

  /** Gives the link a path on a BPF file system: the program stays attached after this process (kernel 5.7). @throws {BpfError} */
  pin(path: string): this {
    this.#pin.pin(this.#descriptor, path);
    return this;
  }

  /** Removes the pin. @throws {TypeError} when it was not pinned by this object and no path is given */
  unpin(path?: string): this {
    this.#pin.unpin(this.#descriptor, path);
    return this;
  }

  /** Closes the link, which detaches the program unless it is pinned; a second call does nothing. */
  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
