import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { detachLink, updateLink } from "../ffi/bpf_link.ts";
import { describeAll, objectId, objectKind } from "../ffi/bpf_object.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { KernelObject, openObject, type Origin } from "../handle/kernel_object.ts";
import type { LinkInfo, LinkTypeName } from "./link_info.ts";
import { linkTarget, readLinkInfo } from "./link_types.ts";
import { explainUnfit } from "./replacement_type.ts";

/** The part of a loaded program that a link needs. */
export interface LinkedProgram {
  /** The file descriptor of the program. */
  readonly fd: number;
}

/** Options of {@link Link.open}, {@link Link.fromId} and {@link Link.fromFd}. There are none: the object must be empty. */
export type OpenLinkOptions = Readonly<Record<string, never>>;

/** Options of {@link Link.update}. */
export interface UpdateLinkOptions {
  /** The program that the link has. If it has another one, the call fails and changes nothing. @default any program */
  readonly expected?: LinkedProgram;
}

/**
 * An attachment of a program. The program runs from the creation of the link until it is detached.
 *
 * A link is closed when it is disposed of (`using`, or `link[Symbol.dispose]()`) or the process ends. That detaches the
 * program, unless the link is pinned or another descriptor refers to it. Garbage collection never detaches a program.
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
 *
 * Requires Linux 4.13; ways to attach came with different versions.
 */
export class Link extends KernelObject {
  /** @internal `program.attach()` makes links. */
  constructor(descriptor: Descriptor, pinnedAt?: string) {
    super(descriptor, () => objectId("link", descriptor), pinnedAt);
  }

  /**
   * Opens a link that is pinned at a path.
   *
   * The result is a plain link of any type. To read the output of an iterator, open it by {@link IterLink.open}. The functions of a
   * link of kprobe.multi or fentry.multi are known only to the process that attached it.
   *
   * @throws {BpfError} `ENOENT` if nothing is pinned there, `EPERM` if a name in the path has a dot.
   * @throws {TypeError} if the pinned object is not a link.
   * @throws {BpfError} if the path is not on a BPF file system, or this user may not open the pin.
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
   *
   * Requires Linux 5.7.
   */
  static open(path: string, options: OpenLinkOptions = {}): Link {
    return openLink({ path }, options);
  }

  /**
   * Opens a link by its id, which needs CAP_SYS_ADMIN.
   *
   * @throws {BpfError} `ENOENT` if there is no link with this id, `EPERM` without CAP_SYS_ADMIN.
   *
   * Requires Linux 5.8.
   */
  static fromId(id: number, options: OpenLinkOptions = {}): Link {
    return openLink({ id }, options);
  }

  /**
   * Opens the link that a file descriptor refers to. The descriptor is duplicated; the caller still has to close its own.
   *
   * @throws {TypeError} if the descriptor does not refer to a link.
   *
   * Requires Linux 5.7.
   */
  static fromFd(fd: number, options: OpenLinkOptions = {}): Link {
    return openLink({ fd }, options);
  }

  protected shown(): readonly [className: string, properties: object] {
    return ["Link", { description: `${this}` }];
  }

  /**
   * Reads the kernel's information about the link.
   *
   * @throws {BpfError} `EINVAL` on kernels that do not report it.
   *
   * Requires Linux 5.8.
   */
  info(): LinkInfo {
    return readLinkInfo(this.fd, `${this}`);
  }

  /**
   * Replaces the program of the link with another one of the same type. Each event runs either the old or the new program.
   *
   * @throws {BpfError} `EINVAL` if links of this type do not support it, or the program has another type.
   * @throws {BpfError} `EPERM` if the link has another program than the option `expected`.
   * @throws {BpfError} `ENOLINK` or `ENOENT` if the program is not attached any more.
   * @throws {TypeError} if an argument is not a program.
   *
   * Requires Linux 5.7.
   */
  update(program: LinkedProgram, options: UpdateLinkOptions = {}): this {
    const { expected } = this.checkUpdate(program, options);
    const hint = () => explainUnfit(program.fd, this.info());
    updateLink(this.fd, program.fd, expected?.fd, `${this}`, hint);
    return this;
  }

  /** @internal Checks the arguments of {@link update}. */
  protected checkUpdate(program: LinkedProgram, options: UpdateLinkOptions): UpdateLinkOptions {
    void this.fd;
    checkOptions("update", options, ["expected"]);
    checkProgram("update", program);
    if (options.expected !== undefined) checkProgram("update: expected", options.expected);
    return options;
  }

  /**
   * Detaches the program, although other descriptors or pins of the link may exist. The link stays open.
   *
   * @throws {BpfError} `EOPNOTSUPP` if links of this type do not support it; dispose of the link instead.
   *
   * Requires Linux 5.9.
   */
  detach(): this {
    detachLink(this.fd, `${this}`);
    return this;
  }
}

/** @throws {TypeError} if an argument is not a program. */
export function checkProgram(argument: string, program: LinkedProgram): void {
  if (typeof program === "object" && program !== null && typeof program.fd === "number") return;
  throw new TypeError(`${argument}: expected a program, got ${describe(program)}`);
}

/** Opens a link as an object of the class {@link Link}. */
function openLink(origin: Origin, options: OpenLinkOptions): Link {
  return openLinkAs(Link, undefined, origin, options);
}

/** A class of links that can be opened. */
type LinkClass<L extends Link> = new (descriptor: Descriptor, pinnedAt?: string) => L;

/**
 * Opens a link as an object of a class.
 *
 * @param type the type that the link must have; any type if it is `undefined`
 * @throws {TypeError} if the link has another type.
 * @throws {TypeError | BpfError} as {@link Link.open}.
 */
export function openLinkAs<L extends Link>(
  Class: LinkClass<L>,
  type: LinkTypeName | undefined,
  origin: Origin,
  options: OpenLinkOptions,
): L {
  for (const name of Object.keys(options)) {
    throw new TypeError(
      `Link: unknown option ${JSON.stringify(name)}: links are opened without options`,
    );
  }
  const descriptor = openObject("link", origin, "link");
  try {
    const info = readLinkInfo(descriptor.fd, descriptor.what);
    if (type !== undefined && info.type !== type) {
      throw new TypeError(
        `cannot open the ${descriptor.what}: it is a link of type ${info.type}, not ${type}`,
      );
    }
    descriptor.what = describeLink(info);
  } catch (error) {
    // Kernels before 5.8 have no information about links. They return EINVAL also for descriptors of other files.
    const isOld = error instanceof BpfError && error.code === "EINVAL";
    if (!isOld || objectKind(descriptor.fd) !== "link") {
      descriptor[Symbol.dispose]();
      throw error;
    }
  }
  return new Class(descriptor, "path" in origin ? origin.path : undefined);
}

function describeLink(info: LinkInfo): string {
  const target = linkTarget(info);
  return target === "" ? `${info.type} link` : `${info.type} link to ${target}`;
}

/**
 * Lists all links on the system in the order of their ids, which needs CAP_SYS_ADMIN.
 *
 * The list is lazy: each link's information is read when it is iterated. Links that are created or removed meanwhile may be
 * missing or included. Attachments without a link are not listed: `tc` filters, and before kernel 5.15 classic tracepoints.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, `EINVAL` before kernel 5.8.
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
 *
 * Requires Linux 5.8.
 */
export function listLinks(): Generator<LinkInfo, undefined, undefined> {
  return describeAll("link", readLinkInfo);
}
