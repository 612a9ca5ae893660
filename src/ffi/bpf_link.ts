import { BpfAttr, type BpfCallContext, bpfError } from "./bpf.ts";
import { errnoName, lastErrno } from "./error.ts";
import { isKernelSince } from "./kernel.ts";
import { BPF_F_KPROBE_MULTI_RETURN, BPF_F_UPROBE_MULTI_RETURN } from "../uapi/bpf.ts";
import { type AttachTypeName, attachTypeNumbers } from "./bpf_prog.ts";
import {
  LINK_CREATE,
  LINK_DETACH,
  LINK_UPDATE,
  PROG_ATTACH,
  RAW_TRACEPOINT_OPEN,
} from "../uapi/layout.ts";
import { netfilterFamilies, netfilterHooks } from "../uapi/network.ts";

/**
 * Attaches to a raw tracepoint by name, or to what the program was loaded for (kernel 4.17; `null`: 5.5).
 *
 * @param cookie what the program gets from `get_attach_cookie` (kernel 6.10)
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
  return attr.call("BPF_RAW_TRACEPOINT_OPEN", context);
}

/** A link of a program with a perf event, or `undefined` before kernel 5.15. */
export function linkPerfEvent(
  programFd: number,
  eventFd: number,
  attachType: number,
  context: BpfCallContext,
): number | undefined {
  using attr = new BpfAttr(LINK_CREATE.perf_event_bpf_cookie + 8);
  attr
    .u32(LINK_CREATE.prog_fd, programFd)
    .u32(LINK_CREATE.target_fd, eventFd)
    .u32(LINK_CREATE.attach_type, attachType);
  const fd = attr.tryCall("BPF_LINK_CREATE");
  if (fd >= 0) return fd;
  const errno = lastErrno();
  // The kernel answers this as well to what is wrong with the call; and a probe would have to be a right one.
  if (errnoName(errno) === "EINVAL" && !isKernelSince("5.15")) return undefined;
  throw bpfError("BPF_LINK_CREATE", errno, context);
}

/** Puts another program in the place of a link's (kernel 5.7, where the kind of link can). */
export function updateLink(linkFd: number, programFd: number, what: string): void {
  using attr = new BpfAttr(LINK_UPDATE.sizeof);
  attr.u32(LINK_UPDATE.link_fd, linkFd).u32(LINK_UPDATE.new_prog_fd, programFd);
  attr.call("BPF_LINK_UPDATE", {
    doing: `replace the program of the ${what}`,
    hints: {
      EINVAL: "This kind of link cannot change its program: attach anew and dispose of this one",
    },
  });
}

/** Detaches a link for good, for all who hold it (kernel 5.9, where the kind of link can). */
export function detachLink(linkFd: number, what: string): void {
  using attr = new BpfAttr(LINK_DETACH.sizeof);
  attr.u32(LINK_DETACH.link_fd, linkFd);
  attr.call("BPF_LINK_DETACH", {
    doing: `detach the ${what}`,
    hints: {
      EOPNOTSUPP:
        "This kind of link is detached only by closing it everywhere: dispose of it and remove its pins",
    },
  });
}

/** The target of a link, which decides the part of BPF_LINK_CREATE that is filled in. */
export type LinkTarget =
  /** A cgroup, a network namespace or a map of sockets, open (kernel 5.7, 5.8, 6.10). */
  | { readonly kind: "descriptor"; readonly fd: number }
  /** A network interface of this thread's namespace (kernel 5.9). */
  | { readonly kind: "interface"; readonly index: number }
  /** A perf event, open (kernel 5.15). */
  | { readonly kind: "perf event"; readonly fd: number; readonly cookie?: bigint }
  /** The target that the program was loaded for: an iterator (kernel 5.8), a function or a tracepoint by BTF (kernel 5.19). */
  | { readonly kind: "loaded for"; readonly cookie?: bigint }
  /** Functions of the kernel by name (kernel 5.18): their starts or, with `isReturn`, their returns. */
  | {
      readonly kind: "kernel functions";
      readonly names: readonly string[];
      readonly isReturn?: boolean;
      /** One for each name. */
      readonly cookies?: readonly bigint[];
    }
  /** Places in a file, in bytes (kernel 6.6). */
  | {
      readonly kind: "file places";
      readonly path: string;
      readonly offsets: readonly number[];
      readonly isReturn?: boolean;
      /** One for each place. */
      readonly cookies?: readonly bigint[];
    }
  /** Functions of the kernel by their ids in its BTF (kernel 7.2). */
  | {
      readonly kind: "typed functions";
      readonly ids: readonly number[];
      /** One for each id. */
      readonly cookies?: readonly bigint[];
    }
  /** A hook of netfilter, in this thread's namespace (kernel 6.4). */
  | {
      readonly kind: "netfilter";
      readonly family: keyof typeof netfilterFamilies;
      readonly hook: keyof typeof netfilterHooks;
      /** Lower ones come first. */
      readonly priority: number;
    };

/** The parts of a link. */
export interface LinkParts {
  /** A program, or the map that is a struct of functions. */
  readonly fd: number;
  readonly attachType: AttachTypeName;
  /** None for a struct of functions. */
  readonly target?: LinkTarget;
}

/** Makes a link (kernel 5.7; what it can be made to came later, one by one). @returns its descriptor */
export function createLink({ fd, attachType, target }: LinkParts, context: BpfCallContext): number {
  using attr = new BpfAttr(LINK_CREATE.sizeof);
  attr.u32(LINK_CREATE.prog_fd, fd).u32(LINK_CREATE.attach_type, attachTypeNumbers[attachType]);
  if (target !== undefined) fillTarget(attr, target);
  return attr.call("BPF_LINK_CREATE", context);
}

function fillTarget(attr: BpfAttr, target: LinkTarget): void {
  switch (target.kind) {
    case "descriptor":
      attr.u32(LINK_CREATE.target_fd, target.fd);
      break;
    case "interface":
      attr.u32(LINK_CREATE.target_ifindex, target.index);
      break;
    case "perf event":
      attr.u32(LINK_CREATE.target_fd, target.fd);
      attr.u64(LINK_CREATE.perf_event_bpf_cookie, target.cookie ?? 0);
      break;
    case "loaded for":
      attr.u64(LINK_CREATE.tracing_cookie, target.cookie ?? 0);
      break;
    case "kernel functions":
      attr
        .u32(LINK_CREATE.kprobe_multi_flags, target.isReturn ? BPF_F_KPROBE_MULTI_RETURN : 0)
        .u32(LINK_CREATE.kprobe_multi_cnt, target.names.length);
      pointToTexts(attr, LINK_CREATE.kprobe_multi_syms, target.names);
      pointToNumbers(attr, LINK_CREATE.kprobe_multi_cookies, target.cookies);
      break;
    case "file places":
      attr
        .string(LINK_CREATE.uprobe_multi_path, target.path)
        .u32(LINK_CREATE.uprobe_multi_cnt, target.offsets.length)
        .u32(LINK_CREATE.uprobe_multi_flags, target.isReturn ? BPF_F_UPROBE_MULTI_RETURN : 0);
      pointToNumbers(attr, LINK_CREATE.uprobe_multi_offsets, target.offsets.map(BigInt));
      pointToNumbers(attr, LINK_CREATE.uprobe_multi_cookies, target.cookies);
      break;
    case "typed functions":
      attr.u32(LINK_CREATE.tracing_multi_cnt, target.ids.length);
      attr.memory(
        LINK_CREATE.tracing_multi_ids,
        new Uint8Array(Uint32Array.from(target.ids).buffer),
      );
      pointToNumbers(attr, LINK_CREATE.tracing_multi_cookies, target.cookies);
      break;
    case "netfilter":
      attr
        .u32(LINK_CREATE.netfilter_pf, netfilterFamilies[target.family])
        .u32(LINK_CREATE.netfilter_hooknum, netfilterHooks[target.hook])
        .u32(LINK_CREATE.netfilter_priority, target.priority >>> 0);
      break;
  }
}

/** Points to an array of numbers of 64 bits; to nothing where there is none. */
function pointToNumbers(
  attr: BpfAttr,
  offset: number,
  numbers: readonly bigint[] | undefined,
): void {
  if (numbers === undefined) return;
  attr.memory(offset, new Uint8Array(BigUint64Array.from(numbers).buffer));
}

/** Points to an array of pointers to texts, which stand behind it in the same memory. */
function pointToTexts(attr: BpfAttr, offset: number, texts: readonly string[]): void {
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

/** An attachment that is no link: it stays until it is undone, also when the process ends and the program is closed. */
export interface Attachment {
  readonly programFd: number;
  readonly attachType: AttachTypeName;
  /** A cgroup or a map of sockets; 0 for the network namespace of this thread. */
  readonly targetFd: number;
}

/** Attaches a program to what is no file and no function (kernel 4.10). */
export function attachProgram(attachment: Attachment, context: BpfCallContext): void {
  using attr = fill(attachment);
  attr.call("BPF_PROG_ATTACH", context);
}

/** Undoes {@link attachProgram}, for one program where several can be attached (kernel 4.10). */
export function detachProgram(attachment: Attachment, context: BpfCallContext): void {
  using attr = fill(attachment);
  attr.call("BPF_PROG_DETACH", context);
}

function fill({ programFd, attachType, targetFd }: Attachment): BpfAttr {
  return new BpfAttr(PROG_ATTACH.replace_bpf_fd)
    .u32(PROG_ATTACH.target_fd, targetFd)
    .u32(PROG_ATTACH.attach_bpf_fd, programFd)
    .u32(PROG_ATTACH.attach_type, attachTypeNumbers[attachType]);
}
