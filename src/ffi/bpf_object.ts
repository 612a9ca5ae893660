import { existsSync, readlinkSync } from "node:fs";
import { GET_ID, OBJ } from "../uapi/layout.ts";
import { BpfAttr, type BpfCommand, bpfError } from "./bpf.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError } from "./error.ts";

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

/**
 * Opens an object by its id (kernel 4.13 for maps and programs).
 *
 * @param flags of a map: BPF_F_RDONLY or BPF_F_WRONLY, for a descriptor that may do only that (kernel 4.15)
 */
export function openById(kind: ObjectKind, id: number, flags = 0): number {
  using attr = new BpfAttr(GET_ID.fd_by_id_token_fd);
  attr.u32(GET_ID.start_id, id).u32(GET_ID.open_flags, flags);
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
    hints: { EINVAL: "Maps and programs have ids from kernel 4.13 on, links from 5.8" },
  });
}

/** What `describe` makes of an object with this id, or `undefined` when there is none. */
export function describeById<T>(
  kind: ObjectKind,
  id: number,
  describe: (fd: number, what: string) => T,
): T | undefined {
  try {
    using descriptor = new Descriptor(openById(kind, id), `${kind} ${id}`);
    return describe(descriptor.fd, descriptor.what);
  } catch (error) {
    if (error instanceof BpfError && goneCodes.has(error.code)) return undefined;
    throw error;
  }
}

/** Of an id that no object has any more, or that its link does not have yet. */
const goneCodes: ReadonlySet<string> = new Set(["ENOENT", "EAGAIN"]);

/**
 * What `describe` makes of each object of a kind, in the order of ids; lazily, one at a time. Those that go meanwhile are
 * passed over.
 */
export function* describeAll<T>(
  kind: ObjectKind,
  describe: (fd: number, what: string) => T,
): Generator<T, undefined, undefined> {
  for (let id = nextObjectId(kind, 0); id !== undefined; id = nextObjectId(kind, id)) {
    const description = describeById(kind, id, describe);
    if (description !== undefined) yield description;
  }
  return undefined;
}
