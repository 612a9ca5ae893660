/** @module Attaches traffic classifiers to network interfaces: by a tcx link, or as a classic filter by netlink. */

import { checkBoolean, checkChoice, checkCount } from "../check/arguments.ts";
import { createLink } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import { hasOrder, orderHints, orderOptions, type OrderOptions, positionOf } from "./anchor.ts";
import type { AttachKindRow, AttachMethod, AttachRequest } from "./attach_method.ts";
import { InterfaceLink } from "./interface_link.ts";
import type { Link } from "./link.ts";
import type { TcDirection } from "./link_info.ts";
import {
  atInterface,
  type InterfaceOptions,
  missingInterface,
  type NetworkInterface,
} from "./network_target.ts";
import { attachFilter } from "./tc_filter.ts";

/**
 * Options of `attach()` for the sections `tc/ingress`, `tcx/ingress`, `tc/egress` and `tcx/egress`.
 *
 * A program returns `TC_ACT_UNSPEC` (-1, the same number as `TCX_NEXT`) to let the next program decide, and `TC_ACT_OK` (0) to
 * accept the packet: the remaining programs do not run then, neither those of tcx nor classic filters.
 */
export interface TcOptions extends InterfaceOptions, OrderOptions {
  /**
   * The way to attach: by a link, or as a classic filter in direct-action mode, which runs after all tcx programs.
   *
   * For classic filters the library adds a clsact qdisc if the interface has none, and removes it again when the last filter is
   * detached; a filter that another process adds at that moment is lost with it. If the process is killed, filter and qdisc stay: `tc qdisc del dev eth0 clsact` removes them.
   *
   * @default "tcx" on Linux 6.6 and newer, otherwise "netlink"
   */
  readonly method?: "tcx" | "netlink";
  /**
   * The priority of a classic filter, from 1 to 65535: filters with lower numbers run first.
   *
   * @default a number above those of the present filters
   */
  readonly priority?: number;
  /** The handle of a classic filter, which tells filters with the same priority apart. @default a free number */
  readonly handle?: number;
  /** The chain of a classic filter. Filters in chains other than 0 run only if another filter jumps to the chain. @default 0 */
  readonly chain?: number;
  /** Replaces the classic filter with this priority and handle, if there is one. @default false */
  readonly replace?: boolean;
}

/** Options of `attach()` for the sections `tc` and `classifier`. */
export interface DirectedTcOptions extends TcOptions {
  /** The packets that the program gets: those that the interface receives, or those that it sends. */
  readonly direction: TcDirection;
}

const filterOptions = ["priority", "handle", "chain", "replace"] as const;

const options = ["interface", "netns", "method", ...orderOptions, ...filterOptions];

/** Attaches a classifier whose section does not have the direction (kernel 4.5; tcx since 6.6). */
export const directedTc: AttachMethod<DirectedTcOptions> = {
  options: [...options, "direction"],
  attach: (request) => {
    const { direction } = request.options;
    checkChoice("direction", direction, ["ingress", "egress"]);
    return attachClassifier(request, direction);
  },
};

/** Attaches a classifier in the direction of its section (kernel 4.5; tcx since 6.6). */
export const tc: AttachMethod<TcOptions> = {
  options,
  attach: (request) =>
    attachClassifier(request, request.attachType === "tcx_egress" ? "egress" : "ingress"),
};

function attachClassifier(request: AttachRequest<TcOptions>, direction: TcDirection): Link {
  const given = request.options;
  checkTcOptions(given);
  // Positions exist only for tcx, whose error on older kernels says that it needs Linux 6.6.
  const method = given.method ?? (isKernelSince("6.6") || hasOrder(given) ? "tcx" : "netlink");
  if (method === "tcx") refuseOptions(given, filterOptions, "netlink");
  else refuseOptions(given, orderOptions, "tcx");
  return atInterface(given, (device) =>
    method === "tcx"
      ? attachTcx(request, device, direction)
      : attachFilter(request.program, device, { ...given, direction }),
  );
}

function checkTcOptions({ method, priority, handle, chain, replace }: TcOptions): void {
  if (method !== undefined) checkChoice("method", method, ["tcx", "netlink"]);
  if (priority !== undefined) checkCount("priority", priority, 1, 0xffff);
  if (handle !== undefined) checkCount("handle", handle, 1, 0xffff_ffff);
  if (chain !== undefined) checkCount("chain", chain, 0, 0x0fff_ffff);
  if (replace !== undefined) checkBoolean("replace", replace);
  if (replace && (priority === undefined || handle === undefined)) {
    throw new TypeError("replace: expected the options priority and handle of the filter, too");
  }
}

function refuseOptions(
  given: TcOptions,
  names: readonly (keyof TcOptions)[],
  needed: string,
): void {
  for (const name of names) {
    if (given[name] === undefined) continue;
    throw new TypeError(`attach: the option ${name} needs method: ${JSON.stringify(needed)}`);
  }
}

function attachTcx(
  { program, options: given }: AttachRequest<TcOptions>,
  device: NetworkInterface,
  direction: TcDirection,
): Link {
  const { flags, relative, expectedRevision } = positionOf(given);
  const request = {
    fd: program.fd,
    attachType: `tcx_${direction}`,
    target: device.index,
    flags,
  } as const;
  const context = {
    doing: `attach a classifier to the ${direction} of ${device.label}`,
    needs: ["CAP_BPF", "CAP_NET_ADMIN"],
    hints: {
      ...orderHints,
      ENODEV: () => missingInterface(device),
      EINVAL: isKernelSince("6.6")
        ? "The program or link of the option before or after is not a classifier, or this kernel was built without tcx (CONFIG_NET_XGRESS)"
        : 'tcx needs Linux 6.6: method: "netlink" attaches a classic filter, without before, after and expectedRevision',
    },
  } as const;
  const fd = createLink(request, context, (attr) =>
    attr
      .u32(LINK_CREATE.tcx_relative_fd, relative)
      .u64(LINK_CREATE.tcx_expected_revision, expectedRevision),
  );
  return new InterfaceLink(
    new Descriptor(fd, `tcx link to ${device.label} (tcx_${direction})`),
    device,
  );
}

/** Common part of the rows about classifiers. */
const classifiers = {
  // CAP_SYS_ADMIN is needed to create the network namespace.
  needs: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
  place: "loopback",
} as const;

/** The ways to attach in this file, as `features` lists them. */
export const tcKinds = {
  tc: {
    since: "4.5",
    ...classifiers,
    config: ["CONFIG_NET", "CONFIG_NET_NS", "CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_BPF"],
    section: "tc",
    options: { method: "netlink", direction: "ingress" },
  },
  tcx: {
    since: "6.6",
    ...classifiers,
    config: ["CONFIG_NET", "CONFIG_NET_NS", "CONFIG_NET_XGRESS"],
    section: "tcx/ingress",
    options: { method: "tcx" },
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
