/** @module Lists the programs that are attached to a target, with links and without. */

import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { queryPrograms } from "../ffi/bpf_link.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import { BpfError } from "../ffi/error.ts";
import { RouteSocket } from "../ffi/netlink.ts";
import type { TcDirection, XdpMode } from "./link_info.ts";
import {
  atInterface,
  type InterfaceOptions,
  missingInterface,
  type NetworkInterface,
} from "./network_target.ts";
import { describeInterface } from "./route.ts";
import { listFilters } from "./tc_filter.ts";

/** An attached program. Fields that its hook does not have are `undefined`. */
export interface AttachedProgram {
  /** The id of the program. */
  readonly programId: number;
  /** The id of the link that attaches the program; `undefined` without a link, and for hooks that do not report links. */
  readonly linkId: number | undefined;
  /** The place where an XDP program runs. */
  readonly mode: XdpMode | undefined;
  /** The classic filter that runs the program. */
  readonly filter: AttachedFilter | undefined;
}

/** A classic filter of traffic control. */
export interface AttachedFilter {
  /** The priority: filters with lower numbers run first. */
  readonly priority: number;
  /** The handle, which tells filters with the same priority apart. */
  readonly handle: number;
  /** The chain of the filter, usually 0. */
  readonly chain: number;
  /** The name of the filter: `"bun-bpf"` for those of this library. */
  readonly name: string;
}

/** A hook, and the programs that are attached to it. */
export interface AttachedPrograms {
  /** The hook: an attach type such as `"tcx_ingress"`, or `"tc_ingress"` and `"tc_egress"` for classic filters. */
  readonly hook: AttachTypeName | "tc_ingress" | "tc_egress";
  /**
   * The revision of the list, for the option `expectedRevision` of {@link Program.attach}; `undefined` for hooks without
   * revisions.
   */
  readonly revision: bigint | undefined;
  /** The programs in the order in which they run. For XDP, the programs of the different modes. */
  readonly programs: readonly AttachedProgram[];
}

/** The target whose programs {@link attachedPrograms} lists. */
export type AttachedTarget = InterfaceOptions;

/**
 * Lists the programs that are attached to a target, by any process, with links and without.
 *
 * For a network interface, these are XDP programs, tcx programs, classic filters and, for the primary interface of a netkit
 * device, its programs. Received packets go to XDP programs first, then to those of tcx, then to classic filters. The list has
 * all hooks that the kernel has, also those without a program. XDP and classic filters do not report links.
 *
 * @throws {BpfError} `ENODEV` if there is no such interface, `EPERM` without CAP_NET_ADMIN.
 * @throws {TypeError | RangeError} if an option is missing or wrong.
 *
 * @example
 * ```ts
 * import { attachedPrograms } from "bun-bpf";
 * try {
 *   for (const { hook, programs } of attachedPrograms({ interface: "lo" })) {
 *     console.log(hook, programs.map(({ programId }) => programId));
 *   }
 * } catch (error) {
 *   console.error(String(error)); // without CAP_NET_ADMIN
 * }
 * ```
 *
 * Requires Linux 4.13; Linux 6.6 for tcx.
 */
export function attachedPrograms(target: AttachedTarget): AttachedPrograms[] {
  checkOptions("attachedPrograms", target, ["interface", "netns"]);
  if (target.interface === undefined) {
    throw new TypeError(`attachedPrograms: expected the option interface, got ${describe(target)}`);
  }
  return atInterface(target, interfacePrograms);
}

function interfacePrograms(device: NetworkInterface): AttachedPrograms[] {
  using route = new RouteSocket();
  const { index, label } = device;
  const { kind, xdp } = describeInterface(route, index, {
    ENODEV: () => missingInterface(device),
  });
  const programs = [...xdp].map(([mode, programId]) => attached({ programId, mode }));
  const hooks: (AttachedPrograms | undefined)[] = [
    { hook: "xdp", revision: undefined, programs },
    queryHook(index, label, "tcx_ingress"),
    filterHook(route, index, "ingress"),
    queryHook(index, label, "tcx_egress"),
    filterHook(route, index, "egress"),
  ];
  if (kind === "netkit") {
    hooks.push(queryHook(index, label, "netkit_primary"), queryHook(index, label, "netkit_peer"));
  }
  return hooks.filter((hook) => hook !== undefined);
}

function attached(known: Pick<AttachedProgram, "programId"> & Partial<AttachedProgram>) {
  return { linkId: undefined, mode: undefined, filter: undefined, ...known };
}

function filterHook(route: RouteSocket, index: number, direction: TcDirection): AttachedPrograms {
  const programs = listFilters(route, index, direction).map(
    ({ programId, priority, handle, chain, name }) =>
      attached({ programId, filter: { priority, handle, chain, name } }),
  );
  return { hook: `tc_${direction}`, revision: undefined, programs };
}

/** The revision of a list that has never had a program. */
const firstRevision = 1n;

/** Lists the programs of a hook of an interface; returns `undefined` if the kernel or the interface does not have the hook. */
function queryHook(
  index: number,
  label: string,
  hook: AttachTypeName,
): AttachedPrograms | undefined {
  try {
    const { revision, programs } = queryPrograms(index, hook, {
      doing: `list the ${hook} programs of ${label}`,
      needs: ["CAP_NET_ADMIN"],
    });
    return { hook, revision, programs: programs.map(attached) };
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    // ENOENT: some kernels 6.6 have no list before the first program.
    if (error.code === "ENOENT") return { hook, revision: firstRevision, programs: [] };
    // EINVAL: the kernel lacks the hook. EACCES: the peer of a netkit device, whose programs belong to the primary interface.
    if (error.code === "EINVAL" || error.code === "EACCES") return undefined;
    throw error;
  }
}
