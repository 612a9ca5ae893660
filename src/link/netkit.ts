/** @module Attaches to netkit devices, pairs of virtual network interfaces whose packets programs forward. */

import { createLink } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import { orderHints, orderOptions, type OrderOptions, positionOf } from "./anchor.ts";
import type { AttachKindRow, AttachMethod } from "./attach_method.ts";
import { InterfaceLink } from "./interface_link.ts";
import { atInterface, type InterfaceOptions, missingInterface } from "./network_target.ts";

/**
 * Options of `attach()` for the sections `netkit/primary` and `netkit/peer`. The interface is the primary one of the pair, for
 * both sections.
 */
export interface NetkitOptions extends InterfaceOptions, OrderOptions {}

/**
 * Attaches to the packets that one of the two interfaces of a netkit device sends (kernel 6.7).
 *
 * A program returns -1 (`NETKIT_NEXT`) to let the next program decide, 0 to pass the packet to the other interface, and 2 to drop
 * it.
 */
export const netkit: AttachMethod<NetkitOptions> = {
  options: ["interface", "netns", ...orderOptions],
  attach({ program, attachType = "netkit_primary", options }) {
    const { flags, relative, expectedRevision } = positionOf(options);
    return atInterface(options, (device) => {
      const request = { fd: program.fd, attachType, target: device.index, flags };
      const context = {
        doing: `attach to the netkit device ${device.label}`,
        needs: ["CAP_BPF", "CAP_NET_ADMIN"],
        hints: {
          ...orderHints,
          ENODEV: () => missingInterface(device),
          ENXIO: `${device.label} is not a netkit device: \`ip link add type netkit\` makes one`,
          EACCES: `${device.label} is the peer of its netkit device: programs for both sides are attached to the primary interface`,
          EINVAL: isKernelSince("6.7")
            ? `${device.label} is not a netkit device and this kernel was built without them (CONFIG_NETKIT), or the program or link of the option before or after is not a classifier`
            : "netkit devices need Linux 6.7",
        },
      } as const;
      const fd = createLink(request, context, (attr) =>
        attr
          .u32(LINK_CREATE.netkit_relative_fd, relative)
          .u64(LINK_CREATE.netkit_expected_revision, expectedRevision),
      );
      return new InterfaceLink(
        new Descriptor(fd, `netkit link to ${device.label} (${attachType})`),
        device,
      );
    });
  },
};

/** The ways to attach in this file, as `features` lists them. */
export const netkitKinds = {
  netkit: {
    since: "6.7",
    // CAP_SYS_ADMIN is needed to create the network namespace.
    needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
    config: ["CONFIG_NET", "CONFIG_NET_NS", "CONFIG_NETKIT"],
    section: "netkit/primary",
    place: "netkit",
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
