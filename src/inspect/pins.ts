import { type Dirent, lstatSync, readdirSync, readFileSync } from "../ffi/files.ts";
import { objectId, objectKind, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { ByKind, isInspected, type ObjectsByKind } from "./objects.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";

/** The paths at which objects are pinned, by the ids of maps, programs and links. */
export interface ObjectPins extends ObjectsByKind<string> {
  /** The number of folders and pins that this process may not look into. */
  readonly hidden: number;
}

/**
 * Finds where maps, programs and links are pinned, in all BPF file systems that are mounted where this process sees them: each pin
 * is opened, asked for its id, and closed. Symbolic links are not followed.
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

/** A walk over the folders of mounts, which opens each pin. */
class PinWalk {
  readonly found = new ByKind<string>();
  hidden = 0;
  /** The folders that were read: the same path may be mounted upon more than once. */
  readonly #visited = new Set<string>();

  visit({ path, device }: BpfMount): void {
    const folders = [path];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      // Another file system, mounted on top of it, is none of this one.
      if (this.#visited.has(folder) || !this.#isOn(device, folder)) continue;
      this.#visited.add(folder);
      for (const entry of this.#entries(folder)) {
        const inside = `${folder === "/" ? "" : folder}/${entry.name}`;
        if (entry.isDirectory()) folders.push(inside);
        else if (entry.isFile()) this.#add(inside);
      }
    }
  }

  #isOn(device: number, folder: string): boolean {
    try {
      return lstatSync(folder).dev === device;
    } catch (error) {
      this.#note(error);
      return false;
    }
  }

  #entries(folder: string): Dirent[] {
    try {
      return readdirSync(folder, { withFileTypes: true });
    } catch (error) {
      this.#note(error);
      return [];
    }
  }

  #add(path: string): void {
    try {
      const fd = openAnyhow(path);
      if (fd === undefined) return;
      using descriptor = new Descriptor(fd, `object pinned at ${path}`);
      const kind = objectKind(descriptor.fd);
      if (!isInspected(kind)) return;
      this.found.add(kind, objectId(kind, descriptor), path);
    } catch (error) {
      this.#note(error);
    }
  }

  /** Ignores, or counts, what happens to others' files at any time. @throws all else */
  #note(error: unknown): void {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EACCES" || code === "EPERM") this.hidden++;
    else if (!passing.has(code ?? "")) throw error;
  }
}

/** Errors of what is removed meanwhile, or replaced by what is not an object or a folder. */
const passing: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "ELOOP", "EINVAL", "ENXIO"]);

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
