/** @module Lists the programs that are attached to a target, in the order in which they run. */

import { checkBoolean, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggestion } from "../check/names.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { queryPrograms } from "../ffi/bpf_link.ts";
import { type AttachTypeName, attachTypeNumbers } from "../ffi/bpf_prog.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { type Netns, openNetns } from "../ffi/namespace.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { BPF_F_QUERY_EFFECTIVE } from "../uapi/bpf.ts";
import { type CgroupMode, modeOf, openCgroup } from "./cgroup.ts";

/** The target of {@link attachedPrograms}: a cgroup. */
export interface AttachedToCgroup {
  /** The directory of the cgroup, or a descriptor of it. */
  readonly cgroup: string | FdLike;
  /** The hook: `"cgroup_inet_ingress"`. */
  readonly attachType: AttachTypeName;
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
  /** The hook. */
  readonly attachType: "sk_lookup" | "flow_dissector";
}

/** The target of {@link attachedPrograms}: a map of sockets (kernel 5.18). */
export interface AttachedToSocketMap {
  /** The map: a {@link SockMap}, a {@link SockHash} or a descriptor of such a map. */
  readonly map: FdLike;
  /** The hook: `"sk_msg_verdict"`. */
  readonly attachType: AttachTypeName;
}

/** A target with programs. */
export type AttachedTarget = AttachedToCgroup | AttachedToNetns | AttachedToSocketMap;

/** A program that is attached to a target. */
export interface AttachedProgram {
  /** The id of the program. */
  readonly programId: number;
  /** The id of the link that attaches it; `undefined` without a link, and for targets whose links the kernel does not report. */
  readonly linkId: number | undefined;
}

/** The programs of a target. */
export interface AttachedPrograms {
  /** A number that changes with every change of the list (kernel 6.17 for cgroups); `undefined` if the kernel has none. */
  readonly revision: bigint | undefined;
  /** The mode of the programs of a cgroup; `undefined` for other targets, for `effective`, and if there are no programs. */
  readonly mode: CgroupMode | undefined;
  /** The programs, in the order in which they run. */
  readonly programs: readonly AttachedProgram[];
}

const needs = ["CAP_NET_ADMIN"] as const;

/**
 * Lists the programs that are attached to a cgroup, a network namespace or a map of sockets, in the order in which they run. The
 * list has programs with and without links.
 *
 * The programs of a cgroup with the option `preorder` are listed with the others, although they run before those of descendants.
 * With `effective`, the order is exact.
 *
 * @throws {BpfError} `EINVAL` if the target has no such hook, or the kernel does not list its programs.
 * @throws {BpfError} `EPERM` without CAP_NET_ADMIN, and other errors for a target that does not exist.
 * @throws {TypeError | RangeError} if an option is misspelt, missing or of the wrong type.
 *
 * @example
 * ```ts
 * import { attachedPrograms } from "bun-bpf";
 * try {
 *   const { programs } = attachedPrograms({ netns: process.pid, attachType: "sk_lookup" });
 *   console.log(`${programs.length} programs select sockets`);
 * } catch (error) {
 *   console.error((error as Error).message);
 * }
 * ```
 *
 * Requires Linux 4.15 for cgroups, 5.0 for network namespaces, 5.18 for maps of sockets.
 */
export function attachedPrograms(target: AttachedTarget): AttachedPrograms {
  if (typeof target !== "object" || target === null) {
    throw new TypeError(`attachedPrograms: expected an object, got ${describe(target)}`);
  }
  checkAttachType(target.attachType);
  if ("cgroup" in target) return programsOfCgroup(target);
  if ("netns" in target) return programsOfNetns(target);
  if ("map" in target) return programsOfSocketMap(target);
  throw new TypeError(
    `attachedPrograms: expected one of the options cgroup, netns and map, got ${describe(target)}`,
  );
}

function checkAttachType(attachType: AttachTypeName): void {
  if (typeof attachType === "string" && Object.hasOwn(attachTypeNumbers, attachType)) return;
  const hint = suggestion(String(attachType), Object.keys(attachTypeNumbers));
  throw new TypeError(
    `attachedPrograms: unknown attachType ${describe(attachType)}: ${hint ?? "link.info() has the names, as cgroup_inet_ingress"}`,
  );
}

function programsOfCgroup(target: AttachedToCgroup): AttachedPrograms {
  checkOptions("attachedPrograms", target, ["cgroup", "attachType", "effective"]);
  const { cgroup, attachType, effective = false } = target;
  checkBoolean("attachedPrograms: effective", effective);
  using opened = openCgroup(cgroup);
  const context = contextOf(opened.what, attachType, {
    EBADF: "This is not a cgroup of version 2: pass a directory of the cgroup2 file system",
    ENOENT: "The cgroup was removed",
    EINVAL: `Cgroups have no programs of the attach type ${attachType} on this kernel`,
  });
  const flags = effective ? BPF_F_QUERY_EFFECTIVE : 0;
  const queried = queryPrograms(opened.fd, attachType, context, flags);
  const hasMode = !effective && queried.programs.length > 0;
  return listOf(queried, hasMode ? modeOf(queried.flags) : undefined);
}

function programsOfNetns(target: AttachedToNetns): AttachedPrograms {
  checkOptions("attachedPrograms", target, ["netns", "attachType"]);
  using netns = openNetns(target.netns);
  const context = contextOf(netns.what, target.attachType, {
    EINVAL: `The file or the descriptor is not a network namespace, or namespaces have no programs of the attach type ${target.attachType} on this kernel`,
  });
  return listOf(queryPrograms(netns.fd, target.attachType, context), undefined);
}

function programsOfSocketMap(target: AttachedToSocketMap): AttachedPrograms {
  checkOptions("attachedPrograms", target, ["map", "attachType"]);
  const { map, attachType } = target;
  const fd = fdOf(map, 'a map of sockets as option "map"');
  const context = contextOf(`map of sockets of descriptor ${fd}`, attachType, {
    EBADF: "No map is open at that descriptor",
    EINVAL: () =>
      isKernelSince("5.18")
        ? `The descriptor is not a map of sockets, or such maps have no programs of the attach type ${attachType}`
        : "Listing the programs of a map of sockets needs Linux 5.18",
    EOPNOTSUPP: "The map is not a map of sockets (SockMap, SockHash)",
  });
  return listOf(queryPrograms(fd, attachType, context), undefined);
}

function contextOf(
  where: string,
  attachType: string,
  hints: BpfCallContext["hints"] & object,
): BpfCallContext {
  return { doing: `list the programs of the ${where} (${attachType})`, needs, hints };
}

function listOf(
  { revision, programs }: ReturnType<typeof queryPrograms>,
  mode: CgroupMode | undefined,
): AttachedPrograms {
  return { revision: revision === 0n ? undefined : revision, mode, programs };
}
