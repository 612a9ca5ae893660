/** @module Attaches to netfilter hooks, as iptables and nftables do. */

import { checkBoolean, checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { numbersByKeyword, suggest } from "../check/names.ts";
import { createLink } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { BPF_F_NETFILTER_IP_DEFRAG } from "../uapi/bpf.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import { netfilterFamilies, netfilterHooks } from "../uapi/network.ts";
import type { AttachKindRow, AttachMethod } from "./attach_method.ts";
import { Link } from "./link.ts";
import { inNetns, type NetnsOptions } from "./network_target.ts";

const { ipv4, ipv6 } = numbersByKeyword(netfilterFamilies);
const families = { ipv4, ipv6 };
// Programs cannot be attached to the hook "ingress", which belongs to interfaces.
const { ingress: _ingress, ...hooks } = numbersByKeyword(netfilterHooks);

/** Options of `attach()` for the section `netfilter`. */
export interface NetfilterOptions extends NetnsOptions {
  /** The protocol of the packets. */
  readonly family: "ipv4" | "ipv6";
  /** The hook: the place in the network stack at which the program runs. */
  readonly hook: "pre_routing" | "local_in" | "forward" | "local_out" | "post_routing";
  /**
   * The priority among everything that is attached to the hook, from -2147483647 to 2147483646: lower numbers run first. The
   * kernel attaches only one program with each priority.
   *
   * @default 0
   */
  readonly priority?: number;
  /**
   * Enables the reassembly of fragmented packets before the program runs (kernel 6.6). It needs a priority above -400.
   *
   * @default false
   */
  readonly defragment?: boolean;
}

/** The highest priority; the kernel keeps one more for itself on each side of the range. */
const maxPriority = 0x7fff_fffe;

/** Attaches to a netfilter hook of a network namespace (kernel 6.4). A program returns 0 to drop the packet, and 1 to accept it. */
export const netfilter: AttachMethod<NetfilterOptions> = {
  options: ["family", "hook", "priority", "defragment", "netns"],
  attach({ program, options: { family, hook, priority = 0, defragment = false, netns } }) {
    checkKeyword("family", family, families);
    checkKeyword("hook", hook, hooks);
    checkCount("priority", priority, -maxPriority - 1, maxPriority);
    checkBoolean("defragment", defragment);
    const what = `${family} ${hook} hook of netfilter`;
    const context = {
      doing: `attach to the ${what}`,
      needs: ["CAP_BPF", "CAP_NET_ADMIN"],
      hints: {
        EBUSY: `A program with priority ${priority} is attached to this hook already: choose another priority`,
        ERANGE: "Reassembly runs with priority -400: the option defragment needs a higher one",
        ENOENT: `The option defragment needs the module nf_defrag_${family}, which is not loaded, and cannot be`,
        EAFNOSUPPORT: `This kernel has no hooks for ${family}`,
        EOPNOTSUPP: "Reassembly (the option defragment) needs Linux 6.6",
        EINVAL: isKernelSince("6.4")
          ? "This kernel was built without netfilter programs (CONFIG_NETFILTER_BPF_LINK)"
          : "netfilter programs need Linux 6.4",
      },
    } as const;
    return inNetns(netns, () => {
      const fd = createLink({ fd: program.fd, attachType: "netfilter" }, context, (attr) =>
        attr
          .u32(LINK_CREATE.netfilter_pf, families[family])
          .u32(LINK_CREATE.netfilter_hooknum, hooks[hook])
          .u32(LINK_CREATE.netfilter_priority, priority >>> 0)
          .u32(LINK_CREATE.netfilter_flags, defragment ? BPF_F_NETFILTER_IP_DEFRAG : 0),
      );
      return new Link(new Descriptor(fd, `netfilter link to ${family} ${hook}`));
    });
  },
};

function checkKeyword(option: string, value: string, known: object): void {
  if (typeof value === "string" && Object.hasOwn(known, value)) return;
  const hint = suggest(String(value), Object.keys(known));
  throw new TypeError(`${option}: unknown ${describe(value)}: ${hint}`);
}

/** The ways to attach in this file, as `features` lists them. */
export const netfilterKinds = {
  netfilter: {
    since: "6.4",
    // CAP_SYS_ADMIN is needed to create the network namespace.
    needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
    config: ["CONFIG_NET", "CONFIG_NET_NS", "CONFIG_NETFILTER_BPF_LINK"],
    section: "netfilter",
    place: "own netns",
    options: { family: "ipv4", hook: "local_in" },
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
