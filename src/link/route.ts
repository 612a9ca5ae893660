/** @module Requests by netlink about network interfaces: to attach programs without a link, and to create interfaces. */

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

/** Attaches an XDP program to an interface that has none (kernel 4.8; to those without support for it 4.12). @throws {BpfError} */
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

/** Makes a pair of netkit interfaces, the first of which gets the number that is given (kernel 6.7). @throws {BpfError} */
export function addNetkit(route: RouteSocket, interfaceIndex: number): void {
  route.request({
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header: interfaceHeader(interfaceIndex),
    attributes: [{ type: IFLA_LINKINFO, value: [{ type: IFLA_INFO_KIND, value: "netkit" }] }],
    doing: "make a pair of netkit interfaces",
  });
}

/**
 * Attaches a program as the first classifier of the packets that an interface receives (kernel 4.5). The kernel may load
 * modules for that.
 *
 * @throws {BpfError}
 */
export function addClassifier(route: RouteSocket, interfaceIndex: number, programFd: number): void {
  route.request({
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header: trafficHeader(interfaceIndex, major(TC_H_CLSACT), TC_H_CLSACT, 0),
    attributes: [{ type: TCA_KIND, value: "clsact" }],
    doing: `prepare the interface ${interfaceIndex} for classifiers`,
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

/** `struct ifinfomsg`: family, padding, type, index, flags, which of those to change. */
function interfaceHeader(index: number): Uint8Array {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  return header;
}

/**
 * `struct tcmsg`: family, padding, index, handle, parent, info.
 *
 * @param info of a classifier, its priority and the protocol that it is for
 */
function trafficHeader(index: number, handle: number, parent: number, info: number): Uint8Array {
  const header = Buffer.alloc(20);
  header.writeInt32LE(index, 4);
  header.writeInt32LE(handle | 0, 8);
  header.writeInt32LE(parent | 0, 12);
  header.writeInt32LE(info | 0, 16);
  return header;
}

/** The upper half of a handle. */
function major(handle: number): number {
  return handle & 0xffff_0000;
}

/** A number of 16 bits with its bytes swapped. */
function networkOrder(number: number): number {
  return ((number & 0xff) << 8) | (number >> 8);
}
