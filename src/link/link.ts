import { describe } from "../check/describe.ts";
import { detachLink, updateLink } from "../ffi/bpf_link.ts";
import { describeAll } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { type LinkInfo, readLinkInfo } from "./link_info.ts";
import { KernelObject } from "../handle/kernel_object.ts";

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
 * console.log(link.info().type); // raw_tracepoint
 * ```
 */
export class Link extends KernelObject {
  /** @internal Programs make links: `program.attach()`. */
  constructor(fd: number, what: string) {
    super("link", new Descriptor(fd, what));
  }

  /** What the kernel says of the link now (kernel 5.8). @throws {BpfError} `EINVAL` before that */
  info(): LinkInfo {
    return readLinkInfo(this.fd, `${this}`);
  }

  /** Puts another program of the same kind in place, without a gap (kernel 5.7). @throws {BpfError} `EINVAL` where the kind of link cannot; {TypeError} for what is no program */
  update(program: LinkedProgram): this {
    const { fd } = this;
    if (typeof program !== "object" || program === null || typeof program.fd !== "number") {
      throw new TypeError(`update: expected a program, got ${describe(program)}`);
    }
    updateLink(fd, program.fd, `${this}`);
    return this;
  }

  /**
   * Detaches for everybody who holds the link; it stays open, defunct (kernel 5.9).
   *
   * @throws {BpfError} `EOPNOTSUPP` where the kind of link cannot: dispose of it instead
   */
  detach(): this {
    detachLink(this.fd, `${this}`);
    return this;
  }
}

/**
 * All links on the system, whoever made them, in the order of their ids; lazily, one at a time. Links that come or go
 * meanwhile may be in the list or not.
 *
 * Kernel 5.8, CAP_SYS_ADMIN. Attachments that are no links, such as those of `tc` and before kernel 5.15 those of
 * tracepoints, have no ids.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, `EINVAL` before kernel 5.8
 *
 * @example
 * ```ts
 * import { asm, listLinks, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "raw_tp/sched_process_exec",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 0), asm.exit()],
 * });
 * using link = program.attach();
 * const { id } = link.info();
 * for (const info of listLinks()) {
 *   if (info.id === id && info.type === "raw_tracepoint") console.log(info.name); // sched_process_exec
 * }
 * ```
 */
export function listLinks(): Generator<LinkInfo, undefined, undefined> {
  return describeAll("link", readLinkInfo);
}
