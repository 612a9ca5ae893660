/** @module Network interfaces and their XDP programs, by rtnetlink(7). */

import {
  type Attributes,
  attributeText,
  parseAttributes,
  type RouteHints,
  type RouteSocket,
} from "../ffi/netlink.ts";
import {
  IFLA_IFNAME,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_XDP,
  IFLA_XDP_ATTACHED,
  IFLA_XDP_DRV_PROG_ID,
  IFLA_XDP_EXPECTED_FD,
  IFLA_XDP_FD,
  IFLA_XDP_FLAGS,
  IFLA_XDP_HW_PROG_ID,
  IFLA_XDP_PROG_ID,
  IFLA_XDP_SKB_PROG_ID,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK,
  XDP_ATTACHED_DRV,
  XDP_ATTACHED_HW,
  XDP_ATTACHED_SKB,
} from "../uapi/network.ts";
import type { XdpMode } from "./link_info.ts";

/** A network interface, as the kernel describes it. */
export interface InterfaceInfo {
  readonly index: number;
  readonly name: string;
  /** The type of a virtual interface: `"veth"`. */
  readonly kind: string | undefined;
  /** The ids of the XDP programs, by their modes. */
  readonly xdp: ReadonlyMap<XdpMode, number>;
}

/** Returns a `struct ifinfomsg`: family, padding, type, index, flags, change mask. */
export function interfaceHeader(index: number, flags = 0): Uint8Array {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(flags, 12);
  return header;
}

/** Lists all interfaces of the socket's network namespace. @throws {BpfError} if the kernel refuses. */
export function listInterfaces(route: RouteSocket): InterfaceInfo[] {
  const doing = "list the network interfaces";
  return route.dump({ type: RTM_GETLINK, header: interfaceHeader(0), doing }).map(readInterface);
}

/** Reads an interface by its index. @throws {BpfError} ENODEV if there is none. */
export function describeInterface(
  route: RouteSocket,
  index: number,
  hints: RouteHints = {},
): InterfaceInfo {
  const doing = `read the network interface ${index}`;
  const header = interfaceHeader(index);
  const [message] = route.request({ type: RTM_GETLINK, header, doing, hints });
  if (message === undefined) throw new Error(`the kernel did not describe interface ${index}`);
  return readInterface(message);
}

function readInterface(message: {
  readonly header: Buffer;
  readonly attributes: Attributes;
}): InterfaceInfo {
  const { header, attributes } = message;
  const name = attributes.get(IFLA_IFNAME);
  const info = attributes.get(IFLA_LINKINFO);
  const kind = info && parseAttributes(info).get(IFLA_INFO_KIND);
  const xdp = attributes.get(IFLA_XDP);
  return {
    index: header.readInt32LE(4),
    name: name === undefined ? "" : attributeText(name),
    kind: kind && attributeText(kind),
    xdp: xdp === undefined ? new Map() : readXdp(parseAttributes(xdp)),
  };
}

/** The attributes with the ids of programs, by mode. */
const programIds = [
  ["driver", IFLA_XDP_DRV_PROG_ID],
  ["generic", IFLA_XDP_SKB_PROG_ID],
  ["offload", IFLA_XDP_HW_PROG_ID],
] as const;

/** The modes, by the numbers that kernels before 4.19 report with one id. */
const attachedModes: ReadonlyMap<number, XdpMode> = new Map([
  [XDP_ATTACHED_DRV, "driver"],
  [XDP_ATTACHED_SKB, "generic"],
  [XDP_ATTACHED_HW, "offload"],
]);

function readXdp(attributes: Attributes): ReadonlyMap<XdpMode, number> {
  const modes = new Map<XdpMode, number>();
  for (const [mode, type] of programIds) {
    const id = attributes.get(type)?.readUInt32LE(0);
    if (id !== undefined && id !== 0) modes.set(mode, id);
  }
  const mode = attachedModes.get(attributes.get(IFLA_XDP_ATTACHED)?.readUInt8(0) ?? 0);
  const id = attributes.get(IFLA_XDP_PROG_ID)?.readUInt32LE(0);
  if (mode !== undefined && id !== undefined && modes.size === 0) modes.set(mode, id);
  return modes;
}

/** The arguments of {@link setXdp}. */
export interface XdpRequest {
  readonly interfaceIndex: number;
  /** The descriptor of the program; -1 to detach. */
  readonly programFd: number;
  /** Bits `XDP_FLAGS_*`. */
  readonly flags: number;
  /** The descriptor of the program that must be attached (kernel 5.7); -1 if none must be. */
  readonly expectedFd?: number | undefined;
  /** The operation, as it follows "cannot" in the message. */
  readonly doing: string;
  /** Hints by errno name. */
  readonly hints?: RouteHints;
}

/**
 * Attaches, replaces or detaches an XDP program without a link (kernel 4.8; 4.12 if the driver does not support XDP).
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function setXdp(route: RouteSocket, request: XdpRequest): void {
  const { interfaceIndex, programFd, flags, expectedFd, doing, hints } = request;
  const program = [
    { type: IFLA_XDP_FD, value: programFd },
    { type: IFLA_XDP_FLAGS, value: flags },
    ...(expectedFd === undefined ? [] : [{ type: IFLA_XDP_EXPECTED_FD, value: expectedFd }]),
  ];
  route.request({
    type: RTM_SETLINK,
    header: interfaceHeader(interfaceIndex),
    attributes: [{ type: IFLA_XDP, value: program }],
    doing,
    ...(hints && { hints }),
  });
}

/**
 * Creates a pair of netkit interfaces, the first of which gets the given index (kernel 6.7).
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function addNetkit(route: RouteSocket, interfaceIndex: number): void {
  route.request({
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header: interfaceHeader(interfaceIndex),
    attributes: [{ type: IFLA_LINKINFO, value: [{ type: IFLA_INFO_KIND, value: "netkit" }] }],
    doing: "create a pair of netkit interfaces",
  });
}
