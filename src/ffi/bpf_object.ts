import { existsSync, readlinkSync } from "node:fs";
import { GET_ID, GET_INFO_BY_FD, OBJ } from "../uapi/layout.ts";
import { BpfAttr, type BpfCommand, bpfError } from "./bpf.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { allocateScratch, type Scratch } from "./scratch.ts";

/** Kinds of kernel objects that have ids. */
export type ObjectKind = "map" | "prog" | "link" | "btf";

const fdByIdCommands = {
  map: "BPF_MAP_GET_FD_BY_ID",
  prog: "BPF_PROG_GET_FD_BY_ID",
  link: "BPF_LINK_GET_FD_BY_ID",
  btf: "BPF_BTF_GET_FD_BY_ID",
} as const satisfies Record<ObjectKind, BpfCommand>;

const nextIdCommands = {
  map: "BPF_MAP_GET_NEXT_ID",
  prog: "BPF_PROG_GET_NEXT_ID",
  link: "BPF_LINK_GET_NEXT_ID",
  btf: "BPF_BTF_GET_NEXT_ID",
} as const satisfies Record<ObjectKind, BpfCommand>;

const onlyOnBpffs =
  "A pin must be on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`, and create the folders in it first; names in it have no dots";

/**
 * What kind of BPF object a descriptor is of, or `"other"` for none; `undefined` where /proc is not there to tell.
 *
 * The kernel's information has another layout for each kind but does not say which: read as another's it is nonsense.
 */
export function objectKind(fd: number): ObjectKind | "other" | undefined {
  let target: string;
  try {
    target = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return existsSync("/proc/self/fd") ? "other" : undefined;
  }
  const kind = /^anon_inode:\[?(?:bpf[-_])?(map|prog|link|btf)\b/.exec(target)?.[1];
  return (kind as ObjectKind | undefined) ?? "other";
}

/** Gives an object a name on a BPF file system (kernel 4.4). */
export function pinObject(fd: number, path: string, what: string): void {
  using attr = new BpfAttr(OBJ.file_flags);
  attr.string(OBJ.pathname, path).u32(OBJ.bpf_fd, fd);
  attr.call("BPF_OBJ_PIN", {
    doing: `pin the ${what} at ${path}`,
    hints: {
      EPERM: onlyOnBpffs,
      EINVAL: `${onlyOnBpffs}; some kinds of object cannot be pinned at all`,
      ENOENT: onlyOnBpffs,
      EEXIST: `${path} exists already: remove it, or open what is pinned there`,
    },
  });
}

/**
 * Opens what is pinned at a path, or `undefined` where there is nothing.
 *
 * @param flags of a map: BPF_F_RDONLY or BPF_F_WRONLY, for a descriptor that may do only that (kernel 4.15)
 */
export function openPinned(path: string, what: string, flags = 0): number | undefined {
  using attr = new BpfAttr(OBJ.path_fd);
  attr.string(OBJ.pathname, path).u32(OBJ.file_flags, flags);
  const fd = attr.tryCall("BPF_OBJ_GET");
  if (fd >= 0) return fd;
  const errno = lastErrno();
  if (errnoName(errno) === "ENOENT") return undefined;
  throw bpfError("BPF_OBJ_GET", errno, {
    doing: `open the ${what} pinned at ${path}`,
    hints: {
      EINVAL: `${path} is not on a BPF file system, or another kind of object is pinned there`,
      EACCES: `${path} is not on a BPF file system, or its mode forbids it to this user`,
    },
  });
}

/** Opens an object by its id (kernel 4.13 for maps and programs). */
export function openById(kind: ObjectKind, id: number): number {
  using attr = new BpfAttr(GET_ID.sizeof);
  attr.u32(GET_ID.start_id, id);
  return attr.call(fdByIdCommands[kind], {
    doing: `open the ${kind} with id ${id}`,
    needs: ["CAP_SYS_ADMIN"],
    hints: { ENOENT: `No ${kind} has this id; it may have been freed meanwhile` },
  });
}

/** The id after this one among those of all objects of a kind, or `undefined` behind the last (kernel 4.13). */
export function nextObjectId(kind: ObjectKind, after: number): number | undefined {
  using attr = new BpfAttr(GET_ID.open_flags);
  attr.u32(GET_ID.start_id, after);
  if (attr.tryCall(nextIdCommands[kind]) === 0) return attr.readU32(GET_ID.next_id);
  const errno = lastErrno();
  if (errnoName(errno) === "ENOENT") return undefined;
  throw bpfError(nextIdCommands[kind], errno, {
    doing: `list the ${kind}s of the system`,
    needs: ["CAP_SYS_ADMIN"],
  });
}

/**
 * The kernel's description of an object, in a struct of `size` bytes.
 * What an older kernel does not know stays zero. The caller disposes of the result.
 *
 * @param prepare fills in pointers to buffers before the call, for kinds that take some
 */
export function objectInfo(
  fd: number,
  size: number,
  what: string,
  prepare?: (info: Scratch) => void,
): Scratch {
  const info = allocateScratch(size);
  try {
    prepare?.(info);
    using attr = new BpfAttr(GET_INFO_BY_FD.sizeof);
    attr
      .u32(GET_INFO_BY_FD.bpf_fd, fd)
      .u32(GET_INFO_BY_FD.info_len, size)
      .pointer(GET_INFO_BY_FD.info, info);
    attr.call("BPF_OBJ_GET_INFO_BY_FD", {
      doing: `ask the kernel about the ${what}`,
      hints: { EINVAL: "The descriptor is not of a BPF object" },
    });
    return info;
  } catch (error) {
    info[Symbol.dispose]();
    throw error;
  }
}

/** A fixed-length name field: up to its NUL. */
export function readName(info: Scratch, offset: number, length: number): string {
  const bytes = Buffer.from(info.bytes.buffer, info.bytes.byteOffset + offset, length);
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end === -1 ? length : end);
}
