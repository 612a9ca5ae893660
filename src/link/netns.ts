/** @module Attaches to network namespaces: programs that select sockets (sk_lookup) and that parse packet headers (flow_dissector). */

import { checkChoice } from "../check/arguments.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { createLink, queryPrograms } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { fstatSync } from "../ffi/files.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { inNetworkNamespace } from "../ffi/namespace.ts";
import type { AttachKindRow, AttachMethod } from "./attach_method.ts";
import { attachDirectly } from "./direct_attachment.ts";
import { Link, type LinkedProgram } from "./link.ts";
import { type NetnsOptions, openNetnsOption } from "./network_target.ts";

/** Options of `attach()` for the section `flow_dissector`. */
export interface FlowDissectorOptions extends NetnsOptions {
  /**
   * The way to attach: by a link (kernel 5.8), or without one. Without a link, the program takes the place of one that is
   * attached without a link, and the end of the process does not detach it.
   *
   * @default "link"; "attach" on kernels without such links
   */
  readonly method?: "link" | "attach";
}

const needs = ["CAP_BPF", "CAP_NET_ADMIN"] as const;

/**
 * Attaches to the look-up of the socket for incoming packets, in a network namespace (kernel 5.9). A namespace can have several
 * programs, which run in the order in which they were attached.
 */
export const skLookup: AttachMethod<NetnsOptions> = {
  options: ["netns"],
  attach({ program, options: { netns } }) {
    using target = openNetnsOption(netns);
    return link(program, "sk_lookup", target, {
      EINVAL: () =>
        isKernelSince("5.9") ? notNamespace : "Programs of the section sk_lookup need Linux 5.9",
      E2BIG: "A network namespace can have at most 64 programs of this kind",
    });
  },
};

/** Attaches to the parsing of packet headers in a network namespace, which can have one program (kernel 4.20; by a link 5.8). */
export const flowDissector: AttachMethod<FlowDissectorOptions> = {
  options: ["netns", "method"],
  attach({ program, options: { netns, method } }) {
    if (method !== undefined) checkChoice("attach: method", method, ["link", "attach"]);
    const target = openNetnsOption(netns);
    if (method !== "attach") {
      using opened = new DisposableStack();
      opened.use(target);
      try {
        return link(program, "flow_dissector", target, dissectorHints);
      } catch (error) {
        const isOld = error instanceof BpfError && error.code === "EINVAL" && !isKernelSince("5.8");
        if (!isOld || method === "link") throw error;
      }
      opened.move();
    }
    return attachDissector(program, target);
  },
};

const notNamespace =
  "The file or the descriptor is not a network namespace: pass a file such as /run/netns/blue or /proc/1/ns/net";
const oneDissector =
  "The network namespace has a flow dissector already, or the initial namespace has one, which excludes those of other namespaces: `bun-bpf net` lists them";

const dissectorHints = {
  EINVAL: () =>
    isKernelSince("5.8")
      ? notNamespace
      : 'Links to network namespaces need Linux 5.8: leave out the option method, or pass method: "attach"',
  EEXIST: oneDissector,
  E2BIG: oneDissector,
} as const;

function link(
  program: LinkedProgram,
  attachType: "sk_lookup" | "flow_dissector",
  target: Descriptor,
  hints: BpfCallContext["hints"] & object,
): Link {
  const context = { doing: `attach to the ${target.what} (${attachType})`, needs, hints };
  const fd = createLink({ fd: program.fd, attachType, target: target.fd }, context);
  return new Link(new Descriptor(fd, `${attachType} link to the ${target.what}`));
}

/** Attaches without a link: the kernel takes the namespace of the calling thread. */
function attachDissector(program: LinkedProgram, target: Descriptor): Link {
  const attachType = "flow_dissector";
  // The attachment gives the descriptor its own name.
  const where = target.what;
  return attachDirectly({
    program,
    attachType,
    target,
    what: `${attachType} attachment to the ${where}`,
    context: {
      doing: `attach to the ${where} (${attachType})`,
      needs,
      hints: {
        EEXIST: oneDissector,
        EINVAL: "The network namespace has this program already",
      },
    },
    // The kernel replaces whatever program the namespace has.
    query: () =>
      queryPrograms(target.fd, attachType, { doing: `list the programs of the ${where}` }),
    atTarget: (call) => inNetworkNamespace(target.fd, () => call(0)),
    info: () => ({ type: "netns", netnsInode: fstatSync(target.fd).ino, attachType }),
  });
}

const network = {
  // CAP_SYS_ADMIN is needed to create the network namespace.
  needs: [...needs, "CAP_SYS_ADMIN"],
  config: ["CONFIG_NET", "CONFIG_NET_NS"],
} as const;
const dissector = { ...network, section: "flow_dissector", isExclusive: true } as const;

/** The ways to attach in this file, as `features` lists them. */
export const netnsKinds = {
  sk_lookup: {
    since: "5.9",
    ...network,
    config: [...network.config, "CONFIG_INET"],
    section: "sk_lookup",
    place: "netns",
  },
  flow_dissector: {
    since: "4.20",
    ...dissector,
    place: "own netns",
    options: { method: "attach" },
  },
  flow_dissector_link: {
    since: "5.8",
    ...dissector,
    place: "netns",
    options: { method: "link" },
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
