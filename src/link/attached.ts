/** @module Lists the programs that are attached to a target, with links and without, in the order in which they run. */

import { checkBoolean, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggestion } from "../check/names.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { queryPrograms } from "../ffi/bpf_link.ts";
import { type AttachTypeName, attachTypeNumbers } from "../ffi/bpf_prog.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { type Netns, openNetns } from "../ffi/namespace.ts";
import { RouteSocket } from "../ffi/netlink.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { BPF_F_QUERY_EFFECTIVE } from "../uapi/bpf.ts";
import { cgroupHints, type CgroupMode, modeOf, openCgroup } from "./cgroup.ts";
import type { TcDirection, XdpMode } from "./link_info.ts";
import {
  atInterface,
  type InterfaceOptions,
  missingInterface,
  type NetworkInterface,
} from "./network_target.ts";
import { describeInterface } from "./route.ts";
import { listFilters } from "./tc_filter.ts";

/** The target of {@link attachedPrograms}: a cgroup. */
export interface AttachedToCgroup {
  /** The directory of the cgroup, or a descriptor of it. */
  readonly cgroup: string | FdLike;
  /** The hook: `"cgroup_inet_ingress"`. @default all hooks of cgroups that the kernel has */
  readonly attachType?: AttachTypeName;
  /**
   * Lists all programs that run for the processes of the cgroup, including those of its ancestors.
   *
   * @default false
   */
  readonly effective?: boolean;
}

/** The target of {@link attachedPrograms}: a network namespace. */
export interface AttachedToNetns {
  /** The path of a file that refers to the namespace, the id of a process, or an object with a descriptor as `fd`. */
  readonly netns: Netns;
  /** The hook. @default both hooks, as far as the kernel has them */
  readonly attachType?: "sk_lookup" | "flow_dissector";
}

/** The target of {@link attachedPrograms}: a map of sockets (kernel 5.18). */
export interface AttachedToSocketMap {
  /** The map: a {@link SockMap}, a {@link SockHash} or a descriptor of such a map. */
  readonly map: FdLike;
  /** The hook: `"sk_msg_verdict"`. @default all hooks of such maps that the kernel has */
  readonly attachType?: AttachTypeName;
}

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
  /** The mode of the programs of a cgroup; `undefined` for other targets, for `effective`, and if there are no programs. */
  readonly cgroupMode: CgroupMode | undefined;
  /** The programs in the order in which they run. For XDP, the programs of the different modes. */
  readonly programs: readonly AttachedProgram[];
}

/** A target with programs: an interface, a cgroup, a network namespace or a map of sockets. */
export type AttachedTarget =
  InterfaceOptions | AttachedToCgroup | AttachedToNetns | AttachedToSocketMap;

/**
 * Lists the hooks of a target with the programs that are attached to them, by any process, with links and without. The list has
 * all hooks that the kernel has, also those without a program.
 *
 * - A network interface has XDP programs, tcx programs, classic filters and, if it is the primary interface of a netkit device,
 *   the programs of that device. Received packets go to XDP programs first, then to those of tcx, then to classic filters. The
 *   kernel reports links only for tcx and netkit.
 * - The programs of a cgroup with the option `preorder` are listed with the others, although they run before those of
 *   descendants. With `effective`, the order is exact.
 *
 * @throws {BpfError} `ENODEV` if there is no such interface, `ENOENT` if there is no such cgroup or namespace.
 * @throws {BpfError} `EINVAL` if the target does not have the hook `attachType`, or the kernel does not list its programs.
 * @throws {BpfError} `EPERM` without CAP_NET_ADMIN.
 * @throws {TypeError | RangeError} if an option is misspelt, missing or of the wrong type.
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
 * Requires Linux 4.15; Linux 5.18 for maps of sockets, Linux 6.6 for tcx.
 */
export function attachedPrograms(target: AttachedTarget): AttachedPrograms[] {
  if (typeof target !== "object" || target === null) {
    throw new TypeError(`attachedPrograms: expected an object, got ${describe(target)}`);
  }
  if ("interface" in target) {
    checkOptions("attachedPrograms", target, ["interface", "netns"]);
    return atInterface(target, interfacePrograms);
  }
  if ("cgroup" in target) return programsOfCgroup(target);
  if ("netns" in target) return programsOfNetns(target);
  if ("map" in target) return programsOfSocketMap(target);
  checkOptions("attachedPrograms", target, ["interface", "cgroup", "netns", "map"]);
  throw new TypeError(
    `attachedPrograms: expected one of the options interface, cgroup, netns and map, got ${describe(target)}`,
  );
}

function interfacePrograms(device: NetworkInterface): AttachedPrograms[] {
  using route = new RouteSocket();
  const { index, label } = device;
  const { kind, xdp } = describeInterface(route, index, {
    ENODEV: () => missingInterface(device),
  });
  const programs = [...xdp].map(([mode, programId]) => attached({ programId, mode }));
  const hooks: (AttachedPrograms | undefined)[] = [
    { hook: "xdp", revision: undefined, cgroupMode: undefined, programs },
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
  return { hook: `tc_${direction}`, revision: undefined, cgroupMode: undefined, programs };
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
    });
    return { hook, revision, cgroupMode: undefined, programs: programs.map(attached) };
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    // ENOENT: some kernels 6.6 have no list before the first program.
    if (error.code === "ENOENT")
      return { hook, revision: firstRevision, cgroupMode: undefined, programs: [] };
    // EINVAL: the kernel lacks the hook. EACCES: the peer of a netkit device, whose programs belong to the primary interface.
    if (error.code === "EINVAL" || error.code === "EACCES") return undefined;
    throw error;
  }
}

const cgroupHooks = attachTypes(/^(cgroup|lsm_cgroup)/);
const netnsHooks = attachTypes(/^(sk_lookup|flow_dissector)$/);
const socketMapHooks = attachTypes(/^(sk_msg_verdict|sk_skb_)/);

function attachTypes(pattern: RegExp): readonly AttachTypeName[] {
  const names = Object.keys(attachTypeNumbers) as AttachTypeName[];
  return names.filter((name) => pattern.test(name));
}

function programsOfCgroup(target: AttachedToCgroup): AttachedPrograms[] {
  checkOptions("attachedPrograms", target, ["cgroup", "attachType", "effective"]);
  const { cgroup, attachType, effective = false } = target;
  checkBoolean("attachedPrograms: effective", effective);
  checkAttachType(attachType);
  using opened = openCgroup(cgroup);
  const flags = effective ? BPF_F_QUERY_EFFECTIVE : 0;
  const hooks = queryHooks(opened.fd, opened.what, attachType, cgroupHooks, flags, (hook) => ({
    ...cgroupHints(opened),
    EINVAL: `Cgroups have no programs of the attach type ${hook} on this kernel`,
  }));
  return effective ? hooks.map((hook) => ({ ...hook, cgroupMode: undefined })) : hooks;
}

function programsOfNetns(target: AttachedToNetns): AttachedPrograms[] {
  checkOptions("attachedPrograms", target, ["netns", "attachType"]);
  checkAttachType(target.attachType);
  using netns: Descriptor = openNetns(target.netns);
  return queryHooks(netns.fd, netns.what, target.attachType, netnsHooks, 0, (hook) => ({
    EINVAL: `The file or the descriptor is not a network namespace, or namespaces have no programs of the attach type ${hook} on this kernel`,
  }));
}

function programsOfSocketMap(target: AttachedToSocketMap): AttachedPrograms[] {
  checkOptions("attachedPrograms", target, ["map", "attachType"]);
  const { map, attachType } = target;
  checkAttachType(attachType);
  const fd = fdOf(map, 'a map of sockets as option "map"');
  const what = `map of sockets of descriptor ${fd}`;
  return queryHooks(fd, what, attachType, socketMapHooks, 0, (hook) => ({
    EBADF: "No map is open at that descriptor",
    EINVAL: () =>
      isKernelSince("5.18")
        ? `The descriptor is not a map of sockets, or such maps have no programs of the attach type ${hook}`
        : "Listing the programs of a map of sockets needs Linux 5.18",
    EOPNOTSUPP: "The map is not a map of sockets (SockMap, SockHash)",
  }));
}

function checkAttachType(attachType: AttachTypeName | undefined): void {
  if (attachType === undefined) return;
  if (typeof attachType === "string" && Object.hasOwn(attachTypeNumbers, attachType)) return;
  const hint = suggestion(String(attachType), Object.keys(attachTypeNumbers));
  throw new TypeError(
    `attachedPrograms: unknown attachType ${describe(attachType)}: ${hint ?? "link.info() has the names, as cgroup_inet_ingress"}`,
  );
}

/**
 * Lists the programs of one hook or of all hooks of a target. If all are listed, hooks that the kernel lacks are left out, unless
 * it lacks all of them.
 */
function queryHooks(
  fd: number,
  what: string,
  wanted: AttachTypeName | undefined,
  all: readonly AttachTypeName[],
  flags: number,
  hints: (hook: AttachTypeName) => BpfCallContext["hints"] & object,
): AttachedPrograms[] {
  const found: AttachedPrograms[] = [];
  let missing: unknown;
  for (const hook of wanted === undefined ? all : [wanted]) {
    try {
      const context = {
        doing: `list the programs of the ${what} (${hook})`,
        hints: hints(hook),
      };
      const { revision, flags: mode, programs } = queryPrograms(fd, hook, context, flags);
      found.push({
        hook,
        revision: revision === 0n ? undefined : revision,
        cgroupMode: hook.includes("cgroup") && programs.length > 0 ? modeOf(mode) : undefined,
        programs: programs.map(attached),
      });
    } catch (error) {
      if (!(error instanceof BpfError) || error.code !== "EINVAL") throw error;
      missing ??= error;
    }
  }
  if (found.length === 0) throw missing;
  return found;
}
