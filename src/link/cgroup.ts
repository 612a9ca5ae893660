/** @module Attaches to cgroups of version 2: by links, or without them before kernel 5.7 and where a mode needs it. */

import { checkBoolean, checkChoice } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { createLink, queryPrograms } from "../ffi/bpf_link.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import { type Capability, explainMissing } from "../ffi/capabilities.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import {
  constants,
  existsSync,
  fstatSync,
  openSync,
  readlinkSync,
  similarFile,
} from "../ffi/files.ts";
import { isKernelSince, kernelConfig } from "../ffi/kernel.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import {
  BPF_F_ALLOW_MULTI,
  BPF_F_ALLOW_OVERRIDE,
  BPF_F_PREORDER,
  BPF_F_REPLACE,
} from "../uapi/bpf.ts";
import { EOPNOTSUPP } from "../uapi/errno.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import type { AttachMethod, AttachRequest, TargetForm } from "./attach_method.ts";
import { attachDirectly } from "./direct_attachment.ts";
import { checkProgram, Link, type LinkedProgram } from "./link.ts";
import {
  orderHints,
  orderOptions,
  type OrderOptions,
  type Position,
  positionOf,
} from "./anchor.ts";

/** The programs that a cgroup and its descendants can have for the same event, see {@link CgroupOptions.mode}. */
export type CgroupMode = keyof typeof modeFlags;

/** Options of `attach()` for the sections of cgroups, such as `cgroup/connect4`, `sockops` and `lsm_cgroup/...`. */
export interface CgroupOptions extends OrderOptions {
  /** The directory of the cgroup, below the mount of the cgroup2 file system, or a descriptor of it. */
  readonly cgroup: string | FdLike;
  /**
   * The way to attach: by a link (kernel 5.7), or without one. Without a link, disposal detaches the program, but the end of
   * the process does not.
   *
   * @default "link"; "attach" on kernels without links, and if `mode` or `replace` needs it
   */
  readonly method?: "link" | "attach";
  /**
   * The other programs for the same event. `"multi"`: the programs of the cgroup and of its ancestors all run. `"override"`:
   * the cgroup has one program, and a program of a descendant runs instead of it. `"exclusive"`: the cgroup has one program,
   * and its descendants cannot have any. All programs of a cgroup have the same mode, and links have `"multi"`.
   *
   * With `"override"` and `"exclusive"`, a program takes the place of the one that the cgroup had.
   *
   * @default "multi"
   */
  readonly mode?: CgroupMode;
  /** The program to replace, which is attached without a link (kernel 5.6). @default none */
  readonly replace?: LinkedProgram;
  /**
   * Runs the program before those of descendant cgroups, instead of after them (kernel 6.15; by a link 6.17).
   *
   * @default false
   */
  readonly preorder?: boolean;
}

/** Options of `attach()` for the section `cgroup/skb`. */
export interface CgroupSkbOptions extends CgroupOptions {
  /** The packets for which the program runs: those that sockets of the cgroup receive, or send. */
  readonly direction: "ingress" | "egress";
}

const modeFlags = {
  multi: BPF_F_ALLOW_MULTI,
  override: BPF_F_ALLOW_OVERRIDE,
  exclusive: 0,
} as const;

const modeMask = BPF_F_ALLOW_MULTI | BPF_F_ALLOW_OVERRIDE;
const needs: readonly Capability[] = ["CAP_BPF", "CAP_NET_ADMIN"];
const optionNames = ["cgroup", "method", "mode", "replace", "preorder", ...orderOptions] as const;

/** Attaches to a cgroup (kernel 4.10; by a link 5.7). */
export const cgroup: AttachMethod<CgroupOptions> = {
  options: optionNames,
  attach: (request) => attach(request, request.attachType),
};

/** Attaches a program of the section `cgroup/skb` to the packets of a direction. */
export const cgroupSkb: AttachMethod<CgroupSkbOptions> = {
  options: [...optionNames, "direction"],
  attach(request) {
    const { direction } = request.options;
    checkChoice("attach: direction", direction, ["ingress", "egress"]);
    return attach(request, `cgroup_inet_${direction}`);
  },
};

const hookForm: TargetForm = { example: "socket_bind", pattern: /^\w+$/ };

/** Attaches to a security hook, for the processes of a cgroup (kernel 6.0). */
export const lsmCgroup: AttachMethod<CgroupOptions> = { ...cgroup, target: hookForm };

/** A program, the cgroup and the checked options. */
interface CgroupRequest {
  readonly program: LinkedProgram;
  readonly attachType: AttachTypeName;
  readonly target: Descriptor;
  /** The target in messages: `cgroup /sys/fs/cgroup/app`. */
  readonly where: string;
  readonly options: CgroupOptions;
  readonly mode: CgroupMode;
  readonly position: Position;
}

function attach(
  { program, options }: AttachRequest<CgroupOptions>,
  attachType: AttachTypeName | undefined,
): Link {
  if (attachType === undefined) throw new Error("the section of the program has no attach type");
  const { method = defaultMethod(options), mode = "multi" } = options;
  checkChoices(options, method, mode);
  const position = positionOf(options);
  checkAnchor(method, position);
  checkRevision(options, position);
  const target = openCgroup(options.cgroup);
  const request = { program, attachType, target, where: target.what, options, mode, position };
  if (method !== "attach") {
    using opened = new DisposableStack();
    opened.use(target);
    const link = attachLink(request);
    if (link !== undefined) return link;
    opened.move();
  }
  return attachWithoutLink(request);
}

function defaultMethod({ mode = "multi", replace }: CgroupOptions): "link" | "attach" | undefined {
  return mode === "multi" && replace === undefined ? undefined : "attach";
}

function checkChoices(
  { replace, preorder = false }: CgroupOptions,
  method: string | undefined,
  mode: string,
): void {
  if (method !== undefined) checkChoice("attach: method", method, ["link", "attach"]);
  if (!Object.hasOwn(modeFlags, mode)) {
    throw new TypeError(
      `attach: mode: unknown ${describe(mode)}: ${suggest(String(mode), Object.keys(modeFlags))}`,
    );
  }
  checkBoolean("attach: preorder", preorder);
  if (method === "link" && (mode !== "multi" || replace !== undefined)) {
    const name = mode === "multi" ? "replace" : "mode";
    throw new TypeError(`attach: the option ${name} needs method: "attach": links do not have it`);
  }
  if (replace === undefined) return;
  checkProgram("attach: replace", replace);
  if (mode !== "multi") {
    throw new TypeError(
      `attach: replace: expected mode "multi": in mode ${describe(mode)} a program replaces the present one anyway`,
    );
  }
}

/** Checks that links are ordered by links, and programs without links by programs. The kernel rejects others with EINVAL. */
function checkAnchor(method: string | undefined, { anchor }: Position): void {
  if (anchor === undefined || (anchor === "program") === (method === "attach")) return;
  throw new TypeError(
    anchor === "program"
      ? "attach: before and after: expected a link: a program that is attached by a link is ordered relative to other links"
      : 'attach: before and after: expected a program: with method: "attach", a program is ordered relative to others without a link',
  );
}

/** Checks that the kernel compares revisions: Linux 6.16 and older ignore the one of a link. */
function checkRevision({ cgroup }: CgroupOptions, { expectedRevision }: Position): void {
  if (expectedRevision === 0n || isKernelSince("6.17")) return;
  throw new BpfError({
    errno: EOPNOTSUPP,
    syscall: "bpf(BPF_LINK_CREATE)",
    doing: `attach to the cgroup ${typeof cgroup === "string" ? cgroup : fdOf(cgroup, "a cgroup")}`,
    hint: "The option expectedRevision needs Linux 6.17 for cgroups",
  });
}

/** Opens the directory of a cgroup, or duplicates its descriptor. */
export function openCgroup(cgroup: string | FdLike): Descriptor {
  if (typeof cgroup !== "string") {
    const fd = fdOf(cgroup, 'a cgroup (path or descriptor) as option "cgroup"');
    const what = `cgroup of descriptor ${fd}`;
    return new Descriptor(duplicate(fd, what), what);
  }
  if (cgroup === "" || cgroup.includes("\0")) {
    throw new TypeError(`attach: cgroup: expected the path of a cgroup, got ${describe(cgroup)}`);
  }
  try {
    const fd = openSync(cgroup, constants.O_RDONLY | constants.O_DIRECTORY);
    return new Descriptor(fd, `cgroup ${cgroup}`);
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException;
    if (error instanceof BpfError || code === undefined) throw error;
    throw new BpfError({
      errno: Math.abs(errno),
      syscall: "open",
      doing: `open the cgroup ${cgroup}`,
      hint: () => explainPath(cgroup, code),
    });
  }
}

function explainPath(path: string, code: string): string | undefined {
  switch (code) {
    case "ENOENT": {
      const similar = similarFile(path, (entry) => entry.isDirectory());
      return `There is no such cgroup: ${similar ?? "`mount -t cgroup2` and `systemd-cgls` show where cgroups are, and mkdir creates one"}`;
    }
    case "ENOTDIR":
      return "A cgroup is a directory of the cgroup2 file system";
    case "EACCES":
      return "This user may not open the directory: run as root (sudo -E)";
    default:
      return undefined;
  }
}

/** Creates a link. Returns `undefined` if the kernel has no links of cgroups and the options do not ask for one. */
function attachLink(request: CgroupRequest): Link | undefined {
  const { program, attachType, target, where, options, position } = request;
  const { preorder = false, method } = options;
  const flags = position.flags | (preorder ? BPF_F_PREORDER : 0);
  const what = `${attachType} link to ${where}`;
  try {
    const fd = createLink(
      { fd: program.fd, attachType, target: target.fd, flags },
      contextOf(request, "link"),
      (attr) =>
        attr
          .u32(LINK_CREATE.cgroup_relative_fd, position.relative)
          .u64(LINK_CREATE.cgroup_expected_revision, position.expectedRevision),
    );
    return new Link(new Descriptor(fd, what));
  } catch (error) {
    const isOld = error instanceof BpfError && error.code === "EINVAL" && !isKernelSince("5.7");
    if (isOld && method === undefined && position.relative === 0) return undefined;
    throw error;
  }
}

/** Attaches without a link. The attachment owns the descriptor of the target; it is closed if attaching fails. */
function attachWithoutLink(request: CgroupRequest): Link {
  const { program, attachType, target, where, options, mode, position } = request;
  const { preorder = false, replace } = options;
  const lasting = modeFlags[mode] | (preorder ? BPF_F_PREORDER : 0);
  return attachDirectly({
    program,
    attachType,
    target,
    what: `${attachType} attachment to ${where}`,
    context: contextOf(request, "attach"),
    flags: lasting | position.flags | (replace === undefined ? 0 : BPF_F_REPLACE),
    lastingFlags: lasting,
    ...(replace !== undefined && { replacedFd: replace.fd }),
    relativeFd: position.relative,
    expectedRevision: position.expectedRevision,
    isList: mode === "multi",
    // In the other modes the kernel detaches whatever program the cgroup has.
    ...(mode !== "multi" && {
      query: () => queryPrograms(target.fd, attachType, { doing: `list the programs of ${where}` }),
      detachesAny: true,
    }),
    info: () => ({
      type: "cgroup",
      cgroupId: fstatSync(target.fd, { bigint: true }).ino,
      attachType,
    }),
  });
}

function contextOf(request: CgroupRequest, method: "link" | "attach"): BpfCallContext {
  return {
    doing: `attach to the ${request.where} (${request.attachType})`,
    needs,
    hints: {
      ...cgroupHints(request.target),
      EINVAL: () => explainInvalid(request, method),
      ENOENT: () => explainAbsent(request),
      EPERM: () => explainMissing(needs) ?? explainConflict(request),
      ESTALE: orderHints.ESTALE,
      E2BIG: "A cgroup can have at most 64 programs for the same event",
    },
  };
}

/** Returns hints for refusals of the target itself, by errno name. */
export function cgroupHints(target: Descriptor) {
  return { EBADF: () => explainNoCgroup(target), ENOENT: "The cgroup was removed" } as const;
}

/** Explains EBADF: the directory is not one of cgroup2. */
function explainNoCgroup({ fd }: Descriptor): string {
  const directory = `/proc/self/fd/${fd}`;
  const remedy =
    "pass a directory of the cgroup2 file system (mount -t cgroup2 none /sys/fs/cgroup)";
  return existsSync(`${directory}/cgroup.clone_children`)
    ? `The cgroup is one of version 1, which cannot have programs: ${remedy}`
    : `This is not a cgroup: ${remedy}`;
}

function explainInvalid(
  { options: { preorder, replace }, position, program, attachType }: CgroupRequest,
  method: "link" | "attach",
): string {
  if (kernelConfig()?.has("CONFIG_CGROUP_BPF") === false) {
    return "The kernel was built without programs of cgroups (CONFIG_CGROUP_BPF)";
  }
  if (method === "link" && !isKernelSince("5.7")) {
    return 'Links to cgroups need Linux 5.7: leave out the option method, or pass method: "attach"';
  }
  if (position.flags !== 0 && !isKernelSince("6.17")) {
    return "The order of programs of a cgroup (before, after) needs Linux 6.17";
  }
  if (preorder && !isKernelSince(method === "link" ? "6.17" : "6.15")) {
    return 'The option preorder needs Linux 6.17, or 6.15 with method: "attach"';
  }
  if (replace !== undefined && !isKernelSince("5.6")) {
    return "Replacing a program of a cgroup needs Linux 5.6";
  }
  if (position.relative === program.fd) return "A program cannot be ordered relative to itself";
  const otherType = `it was loaded for another attach type than ${attachType}: load it with the section that it is attached as`;
  if (method === "attach") {
    // For programs of packets, a missing capability is EINVAL, too (bpf_prog_attach(), kernel/bpf/syscall.c).
    const missing = attachType.startsWith("cgroup_inet_") ? explainMissing(needs) : undefined;
    if (missing !== undefined) return missing;
    return `The program is attached to this cgroup already, or ${otherType}`;
  }
  return position.relative === 0
    ? `The kernel does not take the program: ${otherType}`
    : `The programs before or after this one must have the same preorder option; or ${otherType}`;
}

/** Explains ENOENT: the cgroup was removed, or it does not have the program to which an option refers. */
function explainAbsent({ target, options, position }: CgroupRequest): string {
  if (!existsSync(`/proc/self/fd/${target.fd}/cgroup.procs`)) return "The cgroup was removed";
  if (options.replace !== undefined) {
    return "The program of the option replace is not attached to this cgroup without a link";
  }
  return position.relative === 0
    ? "The cgroup was removed"
    : `The ${position.anchor} of the option before or after is not attached to this cgroup with the same attach type`;
}

/** Explains EPERM for a process with all capabilities: the modes of other programs, in this cgroup or above, exclude this one. */
function explainConflict({ target, attachType, mode }: CgroupRequest): string | undefined {
  const context = { doing: "list the programs of the cgroup" };
  const own = queryPrograms(target.fd, attachType, context);
  const ownMode = modeOf(own.flags);
  if (own.programs.length > 0 && ownMode !== mode) {
    return `The cgroup has a program in mode "${ownMode}", and all its programs for an event must have the same mode: pass mode: "${ownMode}", or detach the other program`;
  }
  let path = `/proc/self/fd/${target.fd}/..`;
  for (; existsSync(`${path}/cgroup.controllers`); path += "/..") {
    using ancestor = new Descriptor(openSync(path, "r"), "ancestor of the cgroup");
    const { programs, flags } = queryPrograms(ancestor.fd, attachType, context);
    if (programs.length === 0) continue;
    const ancestorMode = modeOf(flags);
    if (ancestorMode !== "exclusive") return undefined;
    const name = readlinkSync(`/proc/self/fd/${ancestor.fd}`);
    return `The program of the ancestor ${name} has the mode "exclusive", so that cgroups below cannot have programs for the event: attach it with mode: "override" or "multi", or detach it`;
  }
  return undefined;
}

/** Returns the mode of a cgroup's programs by their flags. */
export function modeOf(flags: number): CgroupMode {
  const name = Object.entries(modeFlags).find(([, bits]) => bits === (flags & modeMask))?.[0];
  return (name ?? "exclusive") as CgroupMode;
}
