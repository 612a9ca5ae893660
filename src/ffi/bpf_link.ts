import { BpfAttr, type BpfCallContext, bpfError } from "./bpf.ts";
import { errnoName, lastErrno } from "./error.ts";
import { isKernelSince } from "./kernel.ts";
import {
  BPF_LINK_CREATE,
  BPF_LINK_DETACH,
  BPF_LINK_UPDATE,
  BPF_PROG_ATTACH,
  BPF_PROG_DETACH,
  BPF_PROG_QUERY,
  BPF_RAW_TRACEPOINT_OPEN,
} from "../uapi/commands.ts";
import { BPF_F_REPLACE } from "../uapi/bpf.ts";
import { type AttachTypeName, attachTypeNumbers } from "./bpf_prog.ts";
import {
  LINK_CREATE,
  LINK_DETACH,
  LINK_UPDATE,
  PROG_ATTACH,
  PROG_QUERY,
  RAW_TRACEPOINT_OPEN,
} from "../uapi/layout.ts";

/**
 * Attaches a program to a raw tracepoint (kernel 4.17) or to the target that it was loaded for (kernel 5.5), and returns the
 * descriptor of the attachment.
 *
 * @param name the raw tracepoint; `null` for the target that the program was loaded for
 * @param cookie the value that the helper `get_attach_cookie` returns to the program (kernel 6.10)
 */
export function openRawTracepoint(
  programFd: number,
  name: string | null,
  context: BpfCallContext,
  cookie?: bigint,
): number {
  using attr = new BpfAttr(
    cookie === undefined ? RAW_TRACEPOINT_OPEN.cookie : RAW_TRACEPOINT_OPEN.sizeof,
  );
  attr.u32(RAW_TRACEPOINT_OPEN.prog_fd, programFd);
  if (cookie !== undefined) attr.u64(RAW_TRACEPOINT_OPEN.cookie, cookie);
  if (name !== null) attr.string(RAW_TRACEPOINT_OPEN.name, name);
  return attr.call(BPF_RAW_TRACEPOINT_OPEN, context);
}

/**
 * Creates a link of a program to a perf event. Returns its descriptor; `undefined` before kernel 5.15, unless there is a
 * cookie, which needs such a link.
 */
export function linkPerfEvent(
  programFd: number,
  eventFd: number,
  cookie: bigint | undefined,
  context: BpfCallContext,
): number | undefined {
  using attr = new BpfAttr(LINK_CREATE.perf_event_bpf_cookie + 8);
  attr
    .u32(LINK_CREATE.prog_fd, programFd)
    .u32(LINK_CREATE.target_fd, eventFd)
    .u32(LINK_CREATE.attach_type, attachTypeNumbers.perf_event)
    .u64(LINK_CREATE.perf_event_bpf_cookie, cookie ?? 0);
  const fd = attr.tryCall(BPF_LINK_CREATE);
  if (fd >= 0) return fd;
  const errno = lastErrno();
  // EINVAL means that the kernel lacks these links, or that an argument is invalid. Only a valid call could distinguish the two,
  // so the version decides.
  if (errnoName(errno) === "EINVAL" && !isKernelSince("5.15")) {
    if (!cookie) return undefined;
    const hints = { EINVAL: "Cookies of perf events need Linux 5.15: leave out the cookie" };
    throw bpfError(BPF_LINK_CREATE, errno, { ...context, hints });
  }
  throw bpfError(BPF_LINK_CREATE, errno, context);
}

const cannotUpdate =
  "Links of this type cannot change their program: attach the new program and dispose of this link";

/**
 * Replaces the program of a link (kernel 5.7, for the link types that support it).
 *
 * @param expectedFd the program that the link must have; otherwise the call fails with EPERM
 * @param unfitHint the hint for EINVAL
 */
export function updateLink(
  linkFd: number,
  programFd: number,
  expectedFd: number | undefined,
  what: string,
  unfitHint: string | (() => string | undefined) = cannotUpdate,
): void {
  using attr = new BpfAttr(LINK_UPDATE.sizeof);
  attr.u32(LINK_UPDATE.link_fd, linkFd).u32(LINK_UPDATE.new_prog_fd, programFd);
  if (expectedFd !== undefined) {
    attr.u32(LINK_UPDATE.flags, BPF_F_REPLACE).u32(LINK_UPDATE.old_prog_fd, expectedFd);
  }
  attr.call(BPF_LINK_UPDATE, {
    doing: `replace the program of the ${what}`,
    hints: {
      EOPNOTSUPP: cannotUpdate,
      ENOLINK:
        "The link is detached, or its target is gone: attach the program again, and dispose of this link",
      EINVAL: () => (typeof unfitHint === "string" ? unfitHint : (unfitHint() ?? cannotUpdate)),
      ...(expectedFd === undefined
        ? {}
        : {
            EPERM: "The link has another program than the expected one: read link.info().programId",
          }),
    },
  });
}

/** Detaches a link permanently, for all processes that have it open (kernel 5.9, for the link types that support it). */
export function detachLink(linkFd: number, what: string): void {
  using attr = new BpfAttr(LINK_DETACH.sizeof);
  attr.u32(LINK_DETACH.link_fd, linkFd);
  attr.call(BPF_LINK_DETACH, {
    doing: `detach the ${what}`,
    hints: {
      EOPNOTSUPP:
        "Links of this type are detached only when they are closed everywhere: dispose of the link and remove its pins",
    },
  });
}

/** The arguments of {@link createLink}. */
export interface LinkRequest {
  /** The descriptor of a program, or of a map of type struct_ops. */
  readonly fd: number;
  readonly attachType: AttachTypeName;
  /** The descriptor or the index of the target; absent for a target that the program was loaded for. */
  readonly target?: number;
  /** Bits `BPF_F_*` of the link type. */
  readonly flags?: number;
}

/**
 * Creates a link and returns its descriptor (kernel 5.7; types of links came with different versions).
 *
 * @param fill sets the fields of the link type, at the offsets in `LINK_CREATE`
 */
export function createLink(
  { fd, attachType, target = 0, flags = 0 }: LinkRequest,
  context: BpfCallContext,
  fill?: (attr: BpfAttr) => void,
): number {
  using attr = new BpfAttr(LINK_CREATE.sizeof);
  attr
    .u32(LINK_CREATE.prog_fd, fd)
    .u32(LINK_CREATE.target_fd, target)
    .u32(LINK_CREATE.attach_type, attachTypeNumbers[attachType])
    .u32(LINK_CREATE.flags, flags);
  fill?.(attr);
  return attr.call(BPF_LINK_CREATE, context);
}

/** Sets a pointer to an array of 64-bit numbers. The pointer stays NULL if `numbers` is `undefined`. */
export function setNumberArray(
  attr: BpfAttr,
  offset: number,
  numbers: readonly bigint[] | undefined,
): void {
  if (numbers === undefined) return;
  attr.memory(offset, new Uint8Array(BigUint64Array.from(numbers).buffer));
}

/** Sets a pointer to an array of string pointers. The strings follow the array in the same memory. */
export function setStringArray(attr: BpfAttr, offset: number, texts: readonly string[]): void {
  const encoded = texts.map((text) => Buffer.from(`${text}\0`));
  const pointersSize = texts.length * 8;
  const textsSize = encoded.reduce((size, { length }) => size + length, 0);
  const { address, bytes, view } = attr.memory(offset, pointersSize + textsSize);
  let place = pointersSize;
  for (const [index, text] of encoded.entries()) {
    view.setBigUint64(index * 8, BigInt(address + place), true);
    bytes.set(text, place);
    place += text.length;
  }
}

/** A program that {@link queryPrograms} found. */
interface QueriedProgram {
  readonly programId: number;
  /** The id of the link that attaches the program; `undefined` without a link, and for targets that do not report links. */
  readonly linkId: number | undefined;
}

/** The programs that are attached to a target, in the order in which they run. */
export interface QueriedPrograms {
  /** Changes with every change of the list (kernel 6.6; for cgroups 6.17); 0 on older kernels. */
  readonly revision: bigint;
  /** The flags `BPF_F_*` of the list, for cgroups. For `lsm_cgroup`, those of the first program. */
  readonly flags: number;
  readonly programs: readonly QueriedProgram[];
}

/**
 * Lists the programs that are attached to a target (kernel 4.15 for cgroups, 5.0 for network namespaces, 5.18 for maps of sockets,
 * 6.6 for interfaces).
 *
 * @param target the descriptor or the index of the target
 * @param context needs CAP_NET_ADMIN by default
 * @param flags BPF_F_QUERY_EFFECTIVE for a cgroup, to include the programs of its ancestors
 */
export function queryPrograms(
  target: number,
  attachType: AttachTypeName,
  context: BpfCallContext,
  flags = 0,
): QueriedPrograms {
  // The first call only returns the number of programs. More can be attached before the second one, which fails with ENOSPC then.
  for (let capacity = 0; ;) {
    using attr = new BpfAttr(PROG_QUERY.sizeof);
    attr
      .u32(PROG_QUERY.target_fd, target)
      .u32(PROG_QUERY.attach_type, attachTypeNumbers[attachType])
      .u32(PROG_QUERY.query_flags, flags)
      .u32(PROG_QUERY.count, capacity);
    const programs = capacity === 0 ? undefined : attr.memory(PROG_QUERY.prog_ids, capacity * 4);
    const links =
      capacity === 0 || !reportsLinks(attachType)
        ? undefined
        : attr.memory(PROG_QUERY.link_ids, capacity * 4);
    // The programs of an lsm_cgroup query can belong to several hooks. The kernel returns flags for each program instead, and
    // rejects a query without memory for them, or with it for effective programs (__cgroup_bpf_query(), kernel/bpf/cgroup.c).
    const programFlags =
      capacity === 0 || attachType !== "lsm_cgroup" || flags !== 0
        ? undefined
        : attr.memory(PROG_QUERY.prog_attach_flags, capacity * 4);
    const result = attr.tryCall(BPF_PROG_QUERY);
    const errno = result < 0 ? lastErrno() : 0;
    const count = attr.readU32(PROG_QUERY.count);
    if (result < 0 && errnoName(errno) !== "ENOSPC") {
      throw bpfError(BPF_PROG_QUERY, errno, { needs: ["CAP_NET_ADMIN"], ...context });
    }
    if (count > capacity) {
      capacity = count;
      continue;
    }
    return {
      revision: attr.readU64(PROG_QUERY.revision),
      flags: programFlags?.view.getUint32(0, true) ?? attr.readU32(PROG_QUERY.attach_flags),
      programs: Array.from({ length: count }, (_, index) => ({
        programId: programs?.view.getUint32(index * 4, true) ?? 0,
        linkId: links?.view.getUint32(index * 4, true) || undefined,
      })),
    };
  }
}

/** Returns true if the kernel reports the links of programs with this attach type. For others it rejects the buffer. */
function reportsLinks(attachType: AttachTypeName): boolean {
  return attachType.startsWith("tcx_") || attachType.startsWith("netkit_");
}

/** An attachment without a link. It stays until it is detached, even after the program is closed and the process ends. */
export interface DirectAttachment {
  readonly programFd: number;
  readonly attachType: AttachTypeName;
  /** The descriptor of a cgroup or a map of sockets; 0 for the network namespace of this thread. */
  readonly targetFd: number;
}

/** Options of {@link attachProgram}. */
export interface DirectAttachmentOptions {
  /** Bits `BPF_F_*` of the attachment. */
  readonly flags?: number;
  /** The descriptor of the program to replace, with the flag BPF_F_REPLACE (kernel 5.6). */
  readonly replacedFd?: number;
  /** The descriptor of the program to attach before or after, with one of the flags BPF_F_BEFORE and BPF_F_AFTER (kernel 6.17). */
  readonly relativeFd?: number;
  /** The revision that the list of programs must have; otherwise the call fails with ESTALE (kernel 6.17). */
  readonly expectedRevision?: bigint;
}

/** Attaches a program to a cgroup, a map of sockets or a network namespace, without a link (kernel 4.10). */
export function attachProgram(
  attachment: DirectAttachment,
  context: BpfCallContext,
  {
    flags = 0,
    replacedFd = 0,
    relativeFd = 0,
    expectedRevision = 0n,
  }: DirectAttachmentOptions = {},
): void {
  const isOrdered = relativeFd !== 0 || expectedRevision !== 0n;
  const size = isOrdered ? PROG_ATTACH.sizeof : PROG_ATTACH.relative_fd;
  using attr = attachmentAttr(attachment, size);
  attr.u32(PROG_ATTACH.attach_flags, flags).u32(PROG_ATTACH.replace_bpf_fd, replacedFd);
  if (isOrdered) {
    attr
      .u32(PROG_ATTACH.relative_fd, relativeFd)
      .u64(PROG_ATTACH.expected_revision, expectedRevision);
  }
  attr.call(BPF_PROG_ATTACH, context);
}

/** Detaches a program that {@link attachProgram} attached; other programs on the target stay attached (kernel 4.10). */
export function detachProgram(attachment: DirectAttachment, context: BpfCallContext): void {
  using attr = attachmentAttr(attachment, PROG_ATTACH.replace_bpf_fd);
  attr.call(BPF_PROG_DETACH, context);
}

function attachmentAttr(attachment: DirectAttachment, size: number): BpfAttr {
  return new BpfAttr(size)
    .u32(PROG_ATTACH.target_fd, attachment.targetFd)
    .u32(PROG_ATTACH.attach_bpf_fd, attachment.programFd)
    .u32(PROG_ATTACH.attach_type, attachTypeNumbers[attachment.attachType]);
}
