import { constants, fstatSync, openSync, readdirSync, readFileSync } from "../ffi/files.ts";
import { objectId, objectKind, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, shortages } from "../ffi/error.ts";
import { ByKind, isInspected, type ObjectsByKind } from "./objects.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";

/** The paths at which objects are pinned, by the ids of maps, programs and links. */
export interface ObjectPins extends ObjectsByKind<string> {
  /**
   * The number of folders and pins that were skipped: this process may not open them, their paths are too long for the kernel or
   * not UTF-8, or one user has made very many of them.
   */
  readonly hidden: number;
}

/**
 * Finds where maps, programs and links are pinned, in all BPF file systems that are mounted where this process sees them: each pin
 * is opened, asked for its id, and closed. Symbolic links are not followed. Folders near a mount's root are read first; for each
 * user who owns folders, and for all folders that several users can write to, it reads paths of at most 32 million characters in
 * all. So no user can hide the pins of others.
 *
 * What is pinned or removed meanwhile may be in it or not. Kernel 4.13 for maps and programs, 5.8 for links.
 *
 * @throws {Error} of node:fs, when /proc is not mounted
 *
 * @example
 * ```ts
 * import { objectPins } from "bun-bpf";
 * for (const [id, paths] of objectPins().maps) console.log(`map ${id} is pinned at ${paths.join(" and ")}`);
 * ```
 */
export function objectPins(): ObjectPins {
  const walk = new PinWalk();
  for (const mount of bpfMounts()) walk.visit(mount);
  const { found, hidden } = walk;
  return { maps: found.maps, programs: found.programs, links: found.links, hidden };
}

/** Most characters of paths that are read in the folders of one user: about 600,000 pins with paths of usual length. */
const pathBudget = 32 * 1024 * 1024;

/** Permission bits of group and others to write to a folder. */
const writableByOthers = 0o022;

/** A walk over the folders of mounts, which opens each pin. */
class PinWalk {
  readonly found = new ByKind<string>();
  hidden = 0;
  /** The folders that were read: the same path may be mounted upon more than once. */
  readonly #visited = new Set<string>();
  /** Characters of the paths read so far, by the owner of the folders, or "several" where others can write to them. */
  readonly #spent = new Map<number | "several", number>();

  visit(mount: BpfMount): void {
    // A symbolic link may have replaced the folder.
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    const folders = [mount.path];
    // The array grows meanwhile: folders are read in the order of their depth.
    for (const path of folders) {
      if (this.#visited.has(path)) continue;
      try {
        using folder = new Descriptor(openSync(path, flags), `folder ${path}`);
        const stats = fstatSync(folder.fd);
        // Another file system may be mounted on top of it.
        if (stats.dev !== mount.device) continue;
        this.#visited.add(path);
        const isShared = (stats.mode & writableByOthers) !== 0;
        const user = isShared ? "several" : stats.uid;
        for (const inner of this.#read(folder, path, user)) folders.push(inner);
      } catch (error) {
        this.#note(error, path);
      }
    }
  }

  /** Opens the pins in a folder, and returns the paths of the folders in it. */
  #read({ fd }: Descriptor, path: string, user: number | "several"): string[] {
    const folders: string[] = [];
    // By the descriptor: the path may lead elsewhere by now. The kernel keeps much more for each entry than is read here.
    const opened = `/proc/self/fd/${fd}`;
    const entries = readdirSync(opened, { withFileTypes: true });
    for (const [index, entry] of entries.entries()) {
      const inside = `${path === "/" ? "" : path}/${entry.name}`;
      if (!this.#spend(user, inside.length)) {
        this.hidden += entries.length - index;
        break;
      }
      if (entry.isDirectory()) folders.push(inside);
      else if (entry.isFile()) this.#add(`${opened}/${entry.name}`, inside);
    }
    return folders;
  }

  /** Returns false where a user's budget has no room for a path of this length. */
  #spend(user: number | "several", length: number): boolean {
    const spent = (this.#spent.get(user) ?? 0) + length;
    if (spent > pathBudget) return false;
    this.#spent.set(user, spent);
    return true;
  }

  #add(opened: string, path: string): void {
    try {
      const fd = openAnyhow(opened);
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
   * @throws any other error
   */
  #note(error: unknown, path: string): void {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || shortages.has(code)) throw error;
    if (code === "ENOENT") this.#noteAbsent(path);
    else if (!passing.has(code)) this.hidden++;
  }

  /** Ignores a file that was removed meanwhile. A name that is not UTF-8 cannot be opened by its text, and is counted. */
  #noteAbsent(path: string): void {
    if (path.includes("\ufffd")) this.hidden++;
  }
}

/** Errors where a file of another kind has replaced a pin or folder meanwhile. */
const passing: ReadonlySet<string> = new Set(["ENOTDIR", "ELOOP", "EINVAL", "ENXIO"]);

/** Opens a pin, of a map also where this user may only read it. */
function openAnyhow(path: string): number | undefined {
  try {
    return openPinned(path, "object");
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "EACCES") throw error;
    return openPinned(path, "object", BPF_F_RDONLY);
  }
}

/** A mount of a BPF file system. */
export interface BpfMount {
  readonly path: string;
  /** The number of its file system, as `stat` gives it. */
  readonly device: number;
}

/** Lists the BPF file systems that this process sees, in the order of their mounting. */
function bpfMounts(): BpfMount[] {
  return parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));
}

/** Finds the BPF file systems in the kernel's list of mounts (proc_pid_mountinfo(5)). */
export function parseMounts(text: string): BpfMount[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\d+ \d+ (\d+):(\d+) \S+ (\S+) .*? - bpf /.exec(line);
    if (match === null) return [];
    const [, major, minor, path] = match;
    return [{ path: unescape(path as string), device: deviceNumber(Number(major), Number(minor)) }];
  });
}

/** Decodes a path, in which white space and backslashes are octal. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** Packs a number as `makedev` does: the low 8 bits of the minor number, 12 of the major one, and the rest of the minor one. */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) + major * 0x100 + (minor >>> 8) * 0x10_0000;
}
