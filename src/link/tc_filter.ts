/** @module Classic filters of traffic control that run programs: clsact qdiscs and cls_bpf, by rtnetlink(7). */

import { BpfError, ignoreErrors } from "../ffi/error.ts";
import { statSync } from "../ffi/files.ts";
import { attributeText, parseAttributes, type RouteMessage, RouteSocket } from "../ffi/netlink.ts";
import { EOPNOTSUPP } from "../uapi/errno.ts";
import {
  ETH_P_ALL,
  NLM_F_CREATE,
  NLM_F_ECHO,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  RTM_DELQDISC,
  RTM_DELTFILTER,
  RTM_GETQDISC,
  RTM_GETTFILTER,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  TC_H_CLSACT,
  TC_H_MIN_EGRESS,
  TC_H_MIN_INGRESS,
  TCA_BPF_FD,
  TCA_BPF_FLAG_ACT_DIRECT,
  TCA_BPF_FLAGS,
  TCA_BPF_ID,
  TCA_BPF_NAME,
  TCA_CHAIN,
  TCA_KIND,
  TCA_OPTIONS,
} from "../uapi/network.ts";
import type { LinkedProgram } from "./link.ts";
import { Attachment } from "./attachment.ts";
import { HeldProgram, notAttached } from "./held_program.ts";
import type { TcDirection, TcLinkInfo } from "./link_info.ts";
import { missingInterface, type NetworkInterface } from "./network_target.ts";
import { describeInterface } from "./route.ts";

/** The place of a filter at an interface. */
interface FilterPlace {
  readonly interfaceIndex: number;
  readonly direction: TcDirection;
  readonly priority: number;
  readonly handle: number;
  readonly chain: number;
  /** The EtherType of the packets that the filter gets, in network byte order. All filters of a priority have the same. */
  readonly protocol: number;
}

/** A classic filter that runs a program. */
export interface TcFilter extends FilterPlace {
  readonly programId: number;
  /** The name that the filter was given: `"bun-bpf"` for those of this library. */
  readonly name: string;
}

/** The arguments of {@link attachFilter}. */
export interface FilterRequest {
  readonly direction: TcDirection;
  readonly priority?: number;
  readonly handle?: number;
  readonly chain?: number;
  readonly replace?: boolean;
}

/**
 * Attaches a program as a filter in direct-action mode (kernel 4.5), and adds a clsact qdisc if the interface has none. The kernel
 * may load modules to do so.
 *
 * @throws {BpfError} if the kernel refuses. A qdisc that was added is removed then.
 */
export function attachFilter(
  program: LinkedProgram,
  device: NetworkInterface,
  { direction, priority, handle = 0, chain = 0, replace = false }: FilterRequest,
): Attachment {
  using stack = new DisposableStack();
  const route = stack.use(new RouteSocket());
  const held = stack.use(new HeldProgram(program));
  const isNew = addQdisc(route, device, direction);
  const qdiscUse = stack.adopt(new QdiscUse(device.index, isNew), (use) => use.end(route));
  const wanted = {
    interfaceIndex: device.index,
    direction,
    priority: priority ?? nextPriority(route, device.index, direction, chain),
    handle,
    chain,
    protocol: networkOrder(ETH_P_ALL),
  };
  const [echo] = route.request({
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_ECHO | (replace ? NLM_F_REPLACE : NLM_F_EXCL),
    ...filterMessage(wanted, program.fd),
    doing: `attach a classifier to the ${direction} of ${device.label}`,
    hints: {
      ENODEV: () => missingInterface(device),
      EEXIST: `A filter with priority ${wanted.priority} and handle ${handle} exists already: choose others, or pass replace: true`,
      ENOENT: "This kernel has no filters for BPF programs (CONFIG_NET_CLS_BPF)",
    },
  });
  // The kernel acknowledges a filter also if it has no memory for the echo.
  const place = echo === undefined ? findFilter(route, wanted, held.id) : placeOf(echo);
  if (place === undefined) throw new Error("the attached filter was removed meanwhile");
  stack.move();
  return new FilterAttachment(route, held, device, { ...wanted, ...place }, qdiscUse).attachment;
}

/** Finds the filter of a program that was added last at a place. The handle 0 stands for all: the kernel has chosen it then. */
function findFilter(
  route: RouteSocket,
  { interfaceIndex, direction, priority, handle, chain }: FilterPlace,
  programId: number,
): TcFilter | undefined {
  // The kernel lists the newest filter of a priority first.
  return listFilters(route, interfaceIndex, direction).find(
    (filter) =>
      filter.priority === priority &&
      (handle === 0 || filter.handle === handle) &&
      filter.chain === chain &&
      filter.programId === programId,
  );
}

/** Returns a priority above those of all filters, so that the filter runs last, as a tcx program does by default. */
function nextPriority(
  route: RouteSocket,
  index: number,
  direction: TcDirection,
  chain: number,
): number {
  const priorities = listAll(route, index, direction)
    .filter((message) => chainOf(message) === chain)
    .map((message) => placeOf(message).priority);
  return Math.min(Math.max(0, ...priorities) + 1, 0xffff);
}

/** A classic filter that is attached by this library. */
class FilterAttachment {
  readonly attachment: Attachment;
  readonly #route: RouteSocket;
  readonly #device: NetworkInterface;
  readonly #place: FilterPlace;
  readonly #qdiscUse: QdiscUse;
  #program: HeldProgram;
  readonly #label: string;

  constructor(
    route: RouteSocket,
    program: HeldProgram,
    device: NetworkInterface,
    place: FilterPlace,
    qdiscUse: QdiscUse,
  ) {
    this.#route = route;
    this.#program = program;
    this.#device = device;
    this.#place = place;
    this.#qdiscUse = qdiscUse;
    this.#label = `tc filter of ${device.label} (${place.direction})`;
    route.descriptor.what = this.#label;
    this.attachment = new Attachment(route.descriptor, {
      info: () => this.#info(),
      update: (next, expected) => this.#update(next, expected),
      detach: () => this.#detach(),
      close: () => this.#program[Symbol.dispose](),
    });
  }

  #info(): TcLinkInfo {
    const { direction, priority, handle, chain } = this.#place;
    const isAttached = this.#isAttached();
    return {
      type: "tc",
      id: 0,
      programId: this.#program.id,
      ifindex: isAttached ? this.#device.index : undefined,
      interfaceName: isAttached
        ? describeInterface(this.#route, this.#device.index).name
        : undefined,
      direction,
      priority,
      handle,
      chain,
    };
  }

  /** Returns true if the filter exists and has the program: another process can remove or replace it. */
  #isAttached(): boolean {
    // The list of an interface that was removed is empty.
    return findFilter(this.#route, this.#place, this.#program.id) !== undefined;
  }

  #update(next: LinkedProgram, expected: LinkedProgram | undefined): void {
    const doing = `replace the program of the ${this.#label}`;
    const call = { doing, syscall: "netlink" };
    this.#program.requireExpected(expected, call);
    this.#program.requireSameType(next, call);
    if (!this.#isAttached()) {
      throw notAttached(
        call,
        "The filter does not exist any more, or another process has replaced its program",
      );
    }
    using stack = new DisposableStack();
    const held = stack.use(new HeldProgram(next));
    // Without NLM_F_CREATE, the kernel replaces the program of the filter in one step, and adds no filter if it was removed.
    this.#route.request({
      type: RTM_NEWTFILTER,
      flags: NLM_F_REPLACE,
      ...filterMessage(this.#place, next.fd),
      doing,
    });
    stack.move();
    this.#program[Symbol.dispose]();
    this.#program = held;
  }

  #detach(): void {
    if (this.#isAttached()) removeFilter(this.#route, this.#place, this.#label);
    this.#qdiscUse.end(this.#route);
  }
}

/** Removes a filter. Does nothing if it was removed meanwhile. */
export function removeFilter(route: RouteSocket, place: FilterPlace, label = "tc filter"): void {
  ignoreErrors(["ENOENT", "ENODEV"], () =>
    route.request({
      type: RTM_DELTFILTER,
      ...filterMessage(place),
      doing: `detach the ${label}`,
    }),
  );
}

/** The part of a handle that names the qdisc for both directions. */
const qdisc = TC_H_CLSACT & 0xffff_0000;

/**
 * Adds a clsact qdisc to an interface. Returns false if the interface has one.
 *
 * @throws {BpfError} if the interface has a qdisc in this place that does not run filters in the direction.
 */
function addQdisc(route: RouteSocket, device: NetworkInterface, direction: TcDirection): boolean {
  const doing = `add a clsact qdisc to ${device.label}`;
  const added = ignoreErrors(["EEXIST"], () =>
    route.request({
      type: RTM_NEWQDISC,
      flags: NLM_F_CREATE | NLM_F_EXCL,
      header: trafficHeader(device.index, qdisc, TC_H_CLSACT, 0),
      attributes: [{ type: TCA_KIND, value: "clsact" }],
      doing,
      hints: {
        ENODEV: () => missingInterface(device),
        ENOENT: "This kernel has no clsact qdisc (CONFIG_NET_SCH_INGRESS)",
      },
    }),
  );
  if (added !== undefined) return true;
  // An ingress qdisc has the same place. It would run filters for egress at ingress.
  const kind = qdiscKind(route, device.index);
  if (kind === "ingress" && direction === "egress") {
    throw new BpfError({
      errno: EOPNOTSUPP,
      syscall: "netlink",
      doing: `attach a classifier to the egress of ${device.label}`,
      hint: `The interface has an ingress qdisc, which runs no filters at egress: remove it (tc qdisc del dev ${device.label} ingress)`,
    });
  }
  return false;
}

/** Returns the kind of the qdisc with the filters of an interface: `"clsact"`, `"ingress"`, or `undefined` if there is none. */
export function qdiscKind(route: RouteSocket, index: number): string | undefined {
  const doing = `list the qdiscs of interface ${index}`;
  const header = trafficHeader(index, 0, 0, 0);
  for (const { header: found, attributes } of route.dump({ type: RTM_GETQDISC, header, doing })) {
    const kind = attributes.get(TCA_KIND);
    if (found.readInt32LE(4) !== index || found.readUInt32LE(12) !== TC_H_CLSACT) continue;
    return kind && attributeText(kind);
  }
  return undefined;
}

/** A clsact qdisc that this process has added. */
interface AddedQdisc {
  /** The number of this process's attachments that need it. */
  uses: number;
}

/** The qdiscs that this process has added, by the inode of the network namespace and the index of the interface. */
const addedQdiscs = new Map<string, AddedQdisc>();

/** The use of an interface's qdisc by an attachment. */
class QdiscUse {
  readonly #index: number;
  readonly #key: string;
  readonly #added: AddedQdisc | undefined;

  /** @param isNew true if this process has added the qdisc for this use */
  constructor(index: number, isNew: boolean) {
    this.#index = index;
    this.#key = `${statSync("/proc/thread-self/ns/net").ino} ${index}`;
    if (isNew) addedQdiscs.set(this.#key, { uses: 0 });
    this.#added = addedQdiscs.get(this.#key);
    if (this.#added !== undefined) this.#added.uses++;
  }

  /**
   * Ends the use. After the last one, a qdisc that this process has added is removed, unless it has filters of others, who keep it
   * then: this process forgets it, because later the interface can have another qdisc.
   */
  end(route: RouteSocket): void {
    if (this.#added === undefined || --this.#added.uses > 0) return;
    // The qdisc was removed meanwhile, and this process has added another one.
    if (addedQdiscs.get(this.#key) !== this.#added) return;
    addedQdiscs.delete(this.#key);
    removeQdisc(route, this.#index);
  }
}

/**
 * Removes the clsact qdisc of an interface, if it has no filters. The kernel has no call that does both in one step: a filter
 * that another process adds in between is removed with the qdisc.
 */
function removeQdisc(route: RouteSocket, index: number): void {
  // The errors mean that the interface or the qdisc was removed meanwhile.
  ignoreErrors(["ENODEV", "ENOENT", "EINVAL"], () => {
    for (const direction of ["ingress", "egress"] as const) {
      if (listAll(route, index, direction).length > 0) return;
    }
    route.request({
      type: RTM_DELQDISC,
      header: trafficHeader(index, qdisc, TC_H_CLSACT, 0),
      attributes: [{ type: TCA_KIND, value: "clsact" }],
      doing: `remove the clsact qdisc of interface ${index}`,
    });
  });
}

/** Lists the filters of an interface that run programs, in the order in which they run (kernel 4.13: with ids). */
export function listFilters(route: RouteSocket, index: number, direction: TcDirection): TcFilter[] {
  return listAll(route, index, direction).flatMap((message) => {
    const options = message.attributes.get(TCA_OPTIONS);
    if (options === undefined || kindOf(message) !== "bpf") return [];
    const own = parseAttributes(options);
    // A message about all filters of a priority has no program.
    const id = own.get(TCA_BPF_ID)?.readUInt32LE(0);
    const name = own.get(TCA_BPF_NAME);
    if (id === undefined) return [];
    return [
      {
        interfaceIndex: index,
        direction,
        ...placeOf(message),
        chain: chainOf(message),
        programId: id,
        name: name === undefined ? "" : attributeText(name),
      },
    ];
  });
}

/** Lists the filters of all kinds of an interface. */
function listAll(route: RouteSocket, index: number, direction: TcDirection): RouteMessage[] {
  return route.dump({
    type: RTM_GETTFILTER,
    header: trafficHeader(index, 0, parentOf(direction), 0),
    doing: `list the classifiers of interface ${index}`,
  });
}

function kindOf({ attributes }: RouteMessage): string | undefined {
  const kind = attributes.get(TCA_KIND);
  return kind && attributeText(kind);
}

function chainOf({ attributes }: RouteMessage): number {
  return attributes.get(TCA_CHAIN)?.readUInt32LE(0) ?? 0;
}

function placeOf({ header }: RouteMessage): Pick<FilterPlace, "handle" | "priority" | "protocol"> {
  return {
    handle: header.readUInt32LE(8),
    protocol: header.readUInt16LE(16),
    priority: header.readUInt16LE(18),
  };
}

/** Returns the header and the attributes of a message about a filter, with the program to run. */
function filterMessage(place: FilterPlace, programFd?: number) {
  const { interfaceIndex, direction, priority, handle, chain, protocol } = place;
  const info = (priority << 16) | protocol;
  const options = [
    { type: TCA_BPF_FD, value: programFd ?? 0 },
    { type: TCA_BPF_NAME, value: "bun-bpf" },
    { type: TCA_BPF_FLAGS, value: TCA_BPF_FLAG_ACT_DIRECT },
  ];
  return {
    header: trafficHeader(interfaceIndex, handle, parentOf(direction), info),
    attributes: [
      { type: TCA_KIND, value: "bpf" },
      ...(chain === 0 ? [] : [{ type: TCA_CHAIN, value: chain }]),
      ...(programFd === undefined ? [] : [{ type: TCA_OPTIONS, value: options }]),
    ],
  };
}

function parentOf(direction: TcDirection): number {
  return qdisc | (direction === "ingress" ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
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

/** Converts a 16-bit number to network byte order. */
function networkOrder(number: number): number {
  return ((number & 0xff) << 8) | (number >> 8);
}
