import { describe } from "../check/describe.ts";
import { detachLink, updateLink } from "../ffi/bpf_link.ts";
import { describeAll, objectId, objectKind } from "../ffi/bpf_object.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { KernelObject, openObject, type Origin } from "../handle/kernel_object.ts";
import type { LinkInfo } from "./link_info.ts";
import { linkTarget, readLinkInfo } from "./link_types.ts";

/** The part of a loaded program that a link needs. */
export interface LinkedProgram {
  readonly fd: number;
}

/**
 * A way to attach programs to a target, which is named by the part of the section after the `/`, or by the argument of
 * `attach()`.
 */
export interface AttachMethod {
  /** An example of a target. */
  readonly targetExample: string;
  /** The form of every target. */
  readonly targetForm: RegExp;
  /** Attaches a loaded program. @throws {BpfError} when the kernel refuses */
  attach(program: LinkedProgram, target: string): Link;
}

/**
 * An attachment of a program. The program runs from the creation of the link until its disposal.
 *
 * A link lives until it is disposed of (`using`, or `link[Symbol.dispose]()`) or the process ends. A pinned link lives on
 * until its pin is removed. Garbage collection never detaches a program.
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
    super(descriptor, () => objectId("link", descriptor), pinnedAt);
  }

  /**
   * Opens a link that is pinned at a path (kernel 5.7).
   *
   * @throws {Error} when nothing is pinned there
   * @throws {TypeError} when the pinned object is not a link
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

  /**
   * Opens the link of a descriptor, by a duplicate: the descriptor itself stays the caller's. @throws {TypeError} for
   * another object's
   */
  static fromFd(fd: number): Link {
    return openLink({ fd });
  }

  protected shown(): readonly [className: string, properties: object] {
    return ["Link", { description: `${this}` }];
  }

  /** Asks the kernel about the link (kernel 5.8). @throws {BpfError} `EINVAL` before that */
  info(): LinkInfo {
    return readLinkInfo(this.fd, `${this}`);
  }

  /**
   * Replaces the program with another one of the same type, without a gap (kernel 5.7).
   *
   * @throws {BpfError} `EINVAL` for a type of link that does not support it
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
   * Detaches the program for all holders of the link, which stays open without a program (kernel 5.9).
   *
   * @throws {BpfError} `EOPNOTSUPP` for a type of link that does not support it: dispose of the link instead
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
 * Lists all links on the system, in the order of their ids. The list is lazy: each link is asked for when its turn comes.
 * Links that are created or removed meanwhile may be in it or not.
 *
 * Kernel 5.8, CAP_SYS_ADMIN. Attachments that are not links are not listed: those of `tc` filters, and before kernel 5.15
 * those of tracepoints.
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
