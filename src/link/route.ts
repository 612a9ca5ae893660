/** @module Netlink requests about network interfaces: to attach programs without a link, and to create interfaces. */

import type { RouteSocket } from "../ffi/socket.ts";
import {
  ETH_P_ALL,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_XDP,
  IFLA_XDP_FD,
  IFLA_XDP_FLAGS,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RTM_NEWLINK,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  RTM_SETLINK,
  TC_H_CLSACT,
  TC_H_MIN_INGRESS,
  TCA_BPF_FD,
  TCA_BPF_FLAG_ACT_DIRECT,
  TCA_BPF_FLAGS,
  TCA_BPF_NAME,
  TCA_KIND,
  TCA_OPTIONS,
  XDP_FLAGS_UPDATE_IF_NOEXIST,
} from "../uapi/network.ts";

/**
 * Attaches an XDP program to an interface that has none (kernel 4.8; 4.12 if the driver does not support XDP).
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function attachXdp(route: RouteSocket, interfaceIndex: number, programFd: number): void {
  const program = [
    { type: IFLA_XDP_FD, value: programFd },
    { type: IFLA_XDP_FLAGS, value: XDP_FLAGS_UPDATE_IF_NOEXIST },
  ];
  route.request({
    type: RTM_SETLINK,
    flags: 0,
    header: interfaceHeader(interfaceIndex),
    attributes: [{ type: IFLA_XDP, value: program }],
    doing: `attach an XDP program to the interface ${interfaceIndex}`,
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

/**
 * Attaches a program as the first ingress classifier of an interface (kernel 4.5). The kernel may load modules to do so.
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function addClassifier(route: RouteSocket, interfaceIndex: number, programFd: number): void {
  route.request({
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header: trafficHeader(interfaceIndex, major(TC_H_CLSACT), TC_H_CLSACT, 0),
    attributes: [{ type: TCA_KIND, value: "clsact" }],
    doing: `add a clsact qdisc to the interface ${interfaceIndex}`,
  });
  const options = [
    { type: TCA_BPF_FD, value: programFd },
    { type: TCA_BPF_NAME, value: "bun-bpf" },
    { type: TCA_BPF_FLAGS, value: TCA_BPF_FLAG_ACT_DIRECT },
  ];
  const parent = major(TC_H_CLSACT) | TC_H_MIN_INGRESS;
  route.request({
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header: trafficHeader(interfaceIndex, 0, parent, (1 << 16) | networkOrder(ETH_P_ALL)),
    attributes: [
      { type: TCA_KIND, value: "bpf" },
      { type: TCA_OPTIONS, value: options },
    ],
    doing: `attach a classifier to the interface ${interfaceIndex}`,
  });
}

/** Returns a `struct ifinfomsg`: family, padding, type, index, flags, change mask. */
function interfaceHeader(index: number): Uint8Array {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  return header;
}

/**
 * Returns a `struct tcmsg`: family, padding, index, handle, parent, info.
 *
 * @param info priority and protocol of a classifier
 */
function trafficHeader(index: number, handle: number, parent: number, info: number): Uint8Array {
  const header = Buffer.alloc(20);
  header.writeInt32LE(index, 4);
  header.writeInt32LE(handle | 0, 8);
  header.writeInt32LE(parent | 0, 12);
  header.writeInt32LE(info | 0, 16);
  return header;
}

/** Returns the major number of a handle, its upper half. */
function major(handle: number): number {
  return handle & 0xffff_0000;
}

/** Converts a 16-bit number to network byte order. */
function networkOrder(number: number): number {
  return ((number & 0xff) << 8) | (number >> 8);
}
