import { describe } from "../check/describe.ts";
import { detachLink, updateLink } from "../ffi/bpf_link.ts";
import { describeAll, objectKind } from "../ffi/bpf_object.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { KernelObject, openObject, type Origin } from "../handle/kernel_object.ts";
import type { LinkInfo } from "./link_info.ts";
import { linkTarget, readLinkInfo } from "./link_types.ts";

/** The part of a loaded program that a link needs. */
export interface LinkedProgram {
  readonly fd: number;
}

/** A way to attach programs to a target that has a name: the part of a section's name after the `/`, or given to `attach()`. */
export interface AttachMethod {
  /** An example of a target. */
  readonly targetExample: string;
  /** The form of every target. */
  readonly targetForm: RegExp;
  /** Attaches a loaded program. @throws {BpfError} when the kernel refuses */
  attach(program: LinkedProgram, target: string): Link;
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
  constructor(descriptor: Descriptor, pinnedAt?: string) {
    super("link", descriptor, pinnedAt);
  }

  /**
   * Opens a link that is pinned at a path (kernel 5.7).
   *
   * @throws {Error} when nothing is pinned there
   * @throws {TypeError} when something else than a link is pinned there
   * @throws {BpfError} when the path is not on a BPF file system, or this user may not open it
   *
   * @example
   * ```ts
   * import { asm, BpfFileSystem, Link, Program } from "bun-bpf";
   * using bpffs = new BpfFileSystem();
   * using program = new Program({
   *   section: "raw_tp/sched_process_exec",
   *   license: "GPL",
   *   code: [asm.mov(asm.r0, 0), asm.exit()],
   * });
   * using link = program.attach().pin(`${bpffs.path}/execs`);
   * using again = Link.open(`${bpffs.path}/execs`);
   * console.log(`${again}`, again.id === link.id); // raw_tracepoint link to sched_process_exec true
   * ```
   */
  static open(path: string): Link {
    return openLink({ path });
  }

  /** Opens a link by its id (kernel 5.8, CAP_SYS_ADMIN). @throws {BpfError} `ENOENT` where there is none */
  static fromId(id: number): Link {
    return openLink({ id });
  }

  /** Opens the link of a descriptor, which stays the caller's: this is a duplicate. @throws {TypeError} where it is not a link's */
  static fromFd(fd: number): Link {
    return openLink({ fd });
  }

  /** Asks the kernel about the link (kernel 5.8). @throws {BpfError} `EINVAL` before that */
  info(): LinkInfo {
    return readLinkInfo(this.fd, `${this}`);
  }

  /**
   * Puts another program of the same kind in place, without a gap (kernel 5.7).
   *
   * @throws {BpfError} `EINVAL` where the kind of link cannot
   * @throws {TypeError} for an argument that is not a program
   */
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

function openLink(origin: Origin): Link {
  const descriptor = openObject("link", origin, "link");
  try {
    descriptor.what = describeLink(readLinkInfo(descriptor.fd, descriptor.what));
  } catch (error) {
    // Before kernel 5.8 there is no information about links; a descriptor that is not a BPF object's is refused alike.
    const isOld = error instanceof BpfError && error.code === "EINVAL";
    if (!isOld || objectKind(descriptor.fd) !== "link") {
      descriptor[Symbol.dispose]();
      throw error;
    }
  }
  return new Link(descriptor, "path" in origin ? origin.path : undefined);
}

function describeLink(info: LinkInfo): string {
  const target = linkTarget(info);
  return target === "" ? `${info.type} link` : `${info.type} link to ${target}`;
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
