import { LINK_CREATE, LINK_DETACH, LINK_UPDATE, RAW_TRACEPOINT_OPEN } from "../uapi/layout.ts";
import { BpfAttr, type BpfCallContext, bpfError } from "./bpf.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { isKernelSince } from "./kernel_release.ts";

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
  const { cookie: cookieOffset, sizeof } = RAW_TRACEPOINT_OPEN;
  using attr = new BpfAttr(cookie === undefined ? cookieOffset : sizeof);
  attr.u32(RAW_TRACEPOINT_OPEN.prog_fd, programFd);
  if (cookie !== undefined) attr.u64(cookieOffset, cookie);
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
