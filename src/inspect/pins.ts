import { constants, fstatSync, openSync, readdirSync, readFileSync } from "../ffi/files.ts";
import { objectId, objectKind, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, resourceErrors } from "../ffi/error.ts";
import { ByKind, isInspected, type ObjectsByKind } from "./objects.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";

/** The paths at which objects are pinned, by kind and id of the objects. */
export interface ObjectPins extends ObjectsByKind<string> {
  /**
   * Number of directories and pins that were skipped: this process may not open them, their paths are not UTF-8 or longer than
   * the kernel accepts, or one user has created too many.
   */
  readonly hidden: number;
}

/**
 * Finds the paths at which maps, programs and links are pinned, in all BPF file systems in the mount namespace of this process.
 *
 * Each pin is opened to read its id, and closed. Symbolic links are not followed. Directories near the root of a mount are read
 * first. The total length of the paths is limited to 32 million characters for the directories of one owner, and for all
 * directories that other users can write to, so that no user can hide the pins of others. Objects that are pinned or unpinned
 * meanwhile may be missing or included.
 *
 * @throws {Error} if /proc is not mounted: an error of `node:fs`.
 *
 * @example
 * ```ts
 * import { objectPins } from "bun-bpf";
 * for (const [id, paths] of objectPins().maps) console.log(`map ${id} is pinned at ${paths.join(" and ")}`);
 * ```
 *
 * Requires Linux 4.13 for maps and programs, 5.8 for links.
 */
export function objectPins(): ObjectPins {
  const walk = new PinWalk();
  for (const mount of bpfMounts()) walk.visit(mount);
  const { found, hidden } = walk;
  return { maps: found.maps, programs: found.programs, links: found.links, hidden };
}

/** Maximum characters of the paths in one user's directories: about 600,000 pins with paths of usual length. */
const pathBudget = 32 * 1024 * 1024;

/** Permission bits by which the group and others can write to a directory. */
const writableByOthers = 0o022;

/** A walk over the directories of mounts, which opens each pin. */
class PinWalk {
  readonly found = new ByKind<string>();
  hidden = 0;
  /** The directories that were read: several mounts can be at the same path. */
  readonly #visited = new Set<string>();
  /** Characters of the paths read so far, by owner of the directories; "several" for those that other users can write to. */
  readonly #spent = new Map<number | "several", number>();

  visit(mount: BpfMount): void {
    // O_NOFOLLOW, because a symbolic link may have replaced the directory.
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    const directories = [mount.path];
    // The loop appends to the array, so that directories are read in the order of their depth.
    for (const path of directories) {
      if (this.#visited.has(path)) continue;
      try {
        using directory = new Descriptor(openSync(path, flags), `directory ${path}`);
        const stats = fstatSync(directory.fd);
        // Another file system may be mounted over the directory.
        if (stats.dev !== mount.device) continue;
        this.#visited.add(path);
        const isShared = (stats.mode & writableByOthers) !== 0;
        const user = isShared ? "several" : stats.uid;
        for (const inner of this.#read(directory, path, user)) directories.push(inner);
      } catch (error) {
        this.#note(error, path);
      }
    }
  }

  /** Opens the pins in a directory, and returns the paths of its subdirectories. */
  #read({ fd }: Descriptor, path: string, user: number | "several"): string[] {
    const directories: string[] = [];
    // The directory is read through its descriptor, because the path may lead elsewhere by now. All names are read at once:
    // that is safe, because each entry takes more memory in the kernel than in this process.
    const opened = `/proc/self/fd/${fd}`;
    const entries = readdirSync(opened, { withFileTypes: true });
    for (const [index, entry] of entries.entries()) {
      const inside = `${path === "/" ? "" : path}/${entry.name}`;
      if (!this.#spend(user, inside.length)) {
        this.hidden += entries.length - index;
        break;
      }
      if (entry.isDirectory()) directories.push(inside);
      else if (entry.isFile()) this.#add(`${opened}/${entry.name}`, inside);
    }
    return directories;
  }

  /** Adds the length of a path to a user's total. Returns false if that would exceed the limit. */
  #spend(user: number | "several", length: number): boolean {
    const spent = (this.#spent.get(user) ?? 0) + length;
    if (spent > pathBudget) return false;
    this.#spent.set(user, spent);
    return true;
  }

  #add(opened: string, path: string): void {
    try {
      const fd = openReadOnlyIfNeeded(opened);
      if (fd === undefined) return this.#noteAbsent(path);
      using descriptor = new Descriptor(fd, `object pinned at ${path}`);
      const kind = objectKind(descriptor.fd);
      if (!isInspected(kind)) return;
      this.found.add(kind, objectId(kind, descriptor), path);
    } catch (error) {
      this.#note(error, path);
    }
  }

  /**
   * Ignores or counts an error that other users' files can cause.
   *
   * @throws {Error} if it is another error.
   */
  #note(error: unknown, path: string): void {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || resourceErrors.has(code)) throw error;
    if (code === "ENOENT") this.#noteAbsent(path);
    else if (!replacementErrors.has(code)) this.hidden++;
  }

  /** Ignores a file that was removed meanwhile. Counts a name that is not UTF-8, which cannot be opened by its text. */
  #noteAbsent(path: string): void {
    if (path.includes("\ufffd")) this.hidden++;
  }
}

/** Errors that occur if a file of another kind has replaced a pin or directory meanwhile. */
const replacementErrors: ReadonlySet<string> = new Set(["ENOTDIR", "ELOOP", "EINVAL", "ENXIO"]);

/** Opens a pin; a map that this user may only read is opened read-only. */
function openReadOnlyIfNeeded(path: string): number | undefined {
  try {
    return openPinned(path, "object");
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "EACCES") throw error;
    return openPinned(path, "object", BPF_F_RDONLY);
  }
}

/** A mount of a BPF file system. */
export interface BpfMount {
  /** The path at which it is mounted. */
  readonly path: string;
  /** The device number of the file system, as in `stat`. */
  readonly device: number;
}

/** Lists the BPF file systems in this process's mount namespace, in the order in which they were mounted. */
function bpfMounts(): BpfMount[] {
  return parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));
}

/** Finds the BPF file systems in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export function parseMounts(text: string): BpfMount[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\d+ \d+ (\d+):(\d+) \S+ (\S+) .*? - bpf /.exec(line);
    if (match === null) return [];
    const [, major, minor, path] = match;
    return [{ path: unescape(path as string), device: deviceNumber(Number(major), Number(minor)) }];
  });
}

/** Decodes a path, in which white space and backslashes are octal escapes. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** Encodes a device number as makedev(3) does: the low 8 bits of the minor number, the major number, the rest of the minor number. */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) + major * 0x100 + (minor >>> 8) * 0x10_0000;
}
