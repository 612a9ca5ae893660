/** @module Attaches to maps of sockets: programs for the messages and packets of all sockets in the map. */

import { checkChoice } from "../check/arguments.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { createLink, queryPrograms } from "../ffi/bpf_link.ts";
import { objectId } from "../ffi/bpf_object.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import type { AttachKindRow, AttachMethod, AttachRequest } from "./attach_method.ts";
import { attachDirectly } from "./direct_attachment.ts";
import { Link } from "./link.ts";

/** Options of `attach()` for the sections `sk_msg` and `sk_skb/...`. */
export interface SocketMapOptions {
  /**
   * The map of sockets: a {@link SockMap}, a {@link SockHash} or a descriptor of such a map. A socket gets the programs that the
   * map has when it is stored there, and keeps them until it is removed from the map, even if they are detached meanwhile.
   */
  readonly map: FdLike;
  /**
   * The way to attach: by a link (kernel 6.10), or without one. Without a link, the program takes the place of one that is
   * attached without a link, and the end of the process does not detach it.
   *
   * @default "link"; "attach" on kernels without such links
   */
  readonly method?: "link" | "attach";
}

/** Options of `attach()` for the section `sk_skb`, which is not one of the three hooks by itself. */
export interface SkSkbOptions extends SocketMapOptions {
  /**
   * The hook: `"sk_skb_stream_parser"` finds the messages in a stream, `"sk_skb_stream_verdict"` decides about each message,
   * and `"sk_skb_verdict"` (kernel 5.13) decides about packets of any kind of socket.
   *
   * Late releases of Linux 5.10 hang if a verdict passes data that a parser has split into messages.
   */
  readonly attachType: SkSkbAttachType;
}

/** A hook of `sk_skb` programs. */
export type SkSkbAttachType = (typeof skSkbTypes)[number];

const skSkbTypes = ["sk_skb_stream_parser", "sk_skb_stream_verdict", "sk_skb_verdict"] as const;

const needs = ["CAP_BPF", "CAP_NET_ADMIN"] as const;

/** Attaches to a map of sockets (kernel 4.14; by a link 6.10). */
export const socketMap: AttachMethod<SocketMapOptions> = {
  options: ["map", "method"],
  attach: (request) => attach(request, request.attachType),
};

/** Attaches a program of the section `sk_skb` to the hook that an option names. */
export const skSkb: AttachMethod<SkSkbOptions> = {
  options: ["map", "method", "attachType"],
  attach(request) {
    const { attachType } = request.options;
    checkChoice("attach: attachType", attachType, skSkbTypes);
    return attach(request, attachType);
  },
};

function attach(
  { program, options: { map, method } }: AttachRequest<SocketMapOptions>,
  attachType: AttachTypeName | undefined,
): Link {
  if (attachType === undefined) throw new Error("the section of the program has no attach type");
  if (method !== undefined) checkChoice("attach: method", method, ["link", "attach"]);
  const mapFd = fdOf(map, 'a map of sockets as option "map"');
  const where = `map of sockets of descriptor ${mapFd}`;
  const context = contextOf(where, attachType);
  if (method !== "attach") {
    try {
      const fd = createLink({ fd: program.fd, attachType, target: mapFd }, context);
      return new Link(new Descriptor(fd, `${attachType} link to the ${where}`));
    } catch (error) {
      const isOld = error instanceof BpfError && error.code === "EINVAL" && !isKernelSince("6.10");
      if (!isOld || method === "link") throw error;
    }
  }
  const target = new Descriptor(duplicate(mapFd, where), where);
  return attachDirectly({
    program,
    attachType,
    target,
    what: `${attachType} attachment to the ${where}`,
    context,
    // The kernel replaces whatever program the map has. Before Linux 5.18 it does not tell which one that is.
    ...(isKernelSince("5.18") && {
      query: () =>
        queryPrograms(target.fd, attachType, { doing: `list the programs of the ${where}` }),
    }),
    info: () => ({ type: "sockmap", mapId: objectId("map", target), attachType }),
  });
}

function contextOf(where: string, attachType: AttachTypeName): BpfCallContext {
  return {
    doing: `attach to the ${where} (${attachType})`,
    needs,
    hints: {
      EBADF: "No file is open at that descriptor",
      EINVAL: () => explainInvalid(attachType),
      EOPNOTSUPP: () =>
        attachType === "sk_skb_stream_parser"
          ? "The map is not a map of sockets (SockMap, SockHash), or the kernel was built without CONFIG_BPF_STREAM_PARSER"
          : "The map is not a map of sockets (SockMap, SockHash)",
      EBUSY:
        "The map has a program that excludes this one: one that is attached by a link for the same hook, or one of sk_skb_stream_verdict and sk_skb_verdict, which exclude each other",
    },
  };
}

function explainInvalid(attachType: AttachTypeName): string {
  if (attachType === "sk_skb_verdict" && !isKernelSince("5.13")) {
    return "The hook sk_skb_verdict needs Linux 5.13: use sk_skb_stream_verdict";
  }
  const cause = `The descriptor is not a map of sockets (SockMap, SockHash), or the program was loaded for another attach type than ${attachType}`;
  return isKernelSince("6.10")
    ? cause
    : `Links to maps of sockets need Linux 6.10: leave out the option method, or pass method: "attach". ${cause}`;
}

const row = { needs, place: "socket map", options: { method: "attach" } } as const;
const parser = { config: ["CONFIG_BPF_STREAM_PARSER"] } as const;
const inet = { config: ["CONFIG_INET"] } as const;

/** The ways to attach in this file, as `features` lists them. */
export const socketMapKinds = {
  "sk_skb/stream_parser": { since: "4.14", ...row, ...parser, section: "sk_skb/stream_parser" },
  "sk_skb/stream_verdict": { since: "4.14", ...row, ...parser, section: "sk_skb/stream_verdict" },
  "sk_skb/verdict": { since: "5.13", ...row, ...inet, section: "sk_skb/verdict" },
  sk_msg: { since: "4.17", ...row, ...parser, section: "sk_msg" },
  sockmap_link: { since: "6.10", ...row, ...inet, section: "sk_msg", options: { method: "link" } },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
