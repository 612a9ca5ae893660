import { checkCount } from "../check/arguments.ts";
import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import {
  hasAccess,
  objectKind,
  type ObjectKind,
  openById,
  openPinned,
  pinObject,
  unpinObject,
} from "../ffi/bpf_object.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { endings } from "./reload.ts";

/** The objects of bpf(2) that have a class here. */
export type HandleKind = Exclude<ObjectKind, "btf">;

/** The words for one object of each kind. */
export const nouns: Readonly<Record<HandleKind, string>> = {
  map: "map",
  prog: "program",
  link: "link",
};

/**
 * The common base of maps, programs and links: an owned descriptor, the kernel's id, a pin, and disposal.
 *
 * Garbage collection closes none of them: each lives until it is disposed of or the process ends.
 */
export abstract class KernelObject implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #readId: () => number;
  #id: number | undefined;
  /** The paths where this object was pinned or opened, without those that it was unpinned from. */
  #pins: Set<string> | undefined;

  /**
   * @internal
   * @param readId returns the kernel's id
   * @param pinnedAt where it is pinned already
   */
  protected constructor(descriptor: Descriptor, readId: () => number, pinnedAt?: string) {
    this.#descriptor = descriptor;
    this.#readId = readId;
    if (pinnedAt !== undefined) this.#pins = new Set([pinnedAt]);
    endings?.set(this, () => this.#end());
  }

  /** Disposes of an object of replaced code, unless its construction failed. Later uses get an error that says why. */
  #end(): void {
    if (this.disposed) return;
    this[Symbol.dispose]();
    this.#descriptor.what += " of code that bun --hot has replaced (see keepAcrossReloads)";
  }

  /** @internal */
  protected get descriptor(): Descriptor {
    return this.#descriptor;
  }

  /** The descriptor, owned by this object: duplicate it to keep it. @throws {DisposedError} after disposal */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** The kernel's id, as bpftool shows it (kernel 4.13; links 5.8). @throws {BpfError} before that */
  get id(): number {
    this.#id ??= this.#readId();
    return this.#id;
  }

  /** True after {@link Symbol.dispose}. */
  get disposed(): boolean {
    return this.#descriptor.disposed;
  }

  /** Describes the object for messages: `hash map "counts"`. */
  toString(): string {
    return this.#descriptor.what;
  }

  /**
   * Pins the object at a path on a BPF file system, which keeps it alive after this process has ended (kernel 4.4; links
   * 5.7). It can be pinned at several paths; disposal leaves all pins. A relative path is one of the current folder, here and when it
   * is unpinned.
   *
   * @throws {BpfError} `EEXIST` where the path exists, `EPERM` or `EINVAL` where it is not on a BPF file system
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 16 });
   * try {
   *   map.pin("/sys/fs/bpf/counts");
   *   map.unpin();
   * } catch (error) {
   *   console.error(String(error)); // where no BPF file system is mounted
   * }
   * ```
   */
  pin(path: string): this {
    const { fd, what } = this.#descriptor;
    checkPinPath("path", path);
    pinObject(fd, path, what);
    this.#pins = (this.#pins ?? new Set()).add(path);
    return this;
  }

  /**
   * Removes the pin at a path; without one, every pin that this object has made, and the one by which it was opened. Returns true
   * where a pin was removed, false where all of them were gone already.
   *
   * A pin is removed only if it is one of the same map, program or link. The kernel cannot compare and remove in one step: a file
   * that another process puts there in the microseconds in between is removed. A pin that was moved is not found.
   *
   * @throws {Error} where something else is at a path: a file, a folder, a symbolic link, or a pin of another object. Neither that
   *   nor any later pin of this object is removed
   * @throws {TypeError} without a path, for an object that was neither pinned nor opened by a path
   */
  unpin(path?: string): boolean {
    void this.fd;
    const paths = path === undefined ? this.#pins : [path];
    if (paths === undefined) {
      throw new TypeError(`${this} was not pinned here: give unpin() the path`);
    }
    let isRemoved = false;
    for (const pin of [...paths]) {
      checkPinPath("path", pin);
      if (unpinObject(this.#descriptor, pin)) isRemoved = true;
      this.#pins?.delete(pin);
    }
    return isRemoved;
  }

  /** @internal The name of the class, and the properties that the console shows. */
  protected abstract shown(): readonly [className: string, properties: object];

  /** @internal Shows the object in `console.log`: its properties, not its methods. */
  [inspectCustom](...inspection: InspectArguments): string {
    const [className, properties] = this.shown();
    const { disposed } = this;
    const state = disposed ? { disposed } : {};
    return show(className, { ...this.#shownId(), ...properties, ...state }, inspection);
  }

  #shownId(): { id?: number } {
    try {
      return { id: this.id };
    } catch {
      // It was not read before disposal, or the kernel has none for such objects.
      return {};
    }
  }

  /** Closes the descriptor. A second call does nothing; what is pinned stays pinned. */
  [Symbol.dispose](): void {
    endings?.delete(this);
    this.#descriptor[Symbol.dispose]();
  }
}

/** The origin of an object that exists already. */
export type Origin = { readonly path: string } | { readonly id: number } | { readonly fd: number };

/**
 * Opens an existing object. The caller owns the returned descriptor, which is a new one also where a descriptor was given.
 *
 * @param what the object for messages, as far as it is known: `"hash map"`
 * @param flags for a map: BPF_F_RDONLY or BPF_F_WRONLY (kernel 4.15). A given descriptor must have these rights already
 * @throws {Error} when nothing is pinned at the path
 * @throws {TypeError} when it is not an object of the kind, or a given descriptor has other rights
 * @throws {BpfError} `ENOENT` for an id that no object has, `EPERM` without CAP_SYS_ADMIN for an id
 */
export function openObject(kind: HandleKind, origin: Origin, what: string, flags = 0): Descriptor {
  if ("path" in origin) {
    checkPinPath("path", origin.path);
    const pinned = openPin(kind, origin.path, what, flags);
    if (pinned === undefined) throw new Error(`nothing is pinned at ${origin.path}: no such file`);
    return pinned;
  }
  if ("id" in origin) {
    checkCount("id", origin.id, 1, 0xffffffff);
    return adopt(kind, openById(kind, origin.id, flags), origin);
  }
  checkCount("fd", origin.fd, 0, 0x7fffffff);
  const descriptor = adopt(kind, duplicate(origin.fd, what), origin);
  if (flags === 0 || hasAccess(descriptor.fd, flags)) return descriptor;
  descriptor[Symbol.dispose]();
  throw new TypeError(`flags: the ${descriptor.what} has other rights: open it by its path or id`);
}

/** Opens the object pinned at a path, which was checked; `undefined` where nothing is pinned. @throws as {@link openObject} */
export function openPin(
  kind: HandleKind,
  path: string,
  what: string,
  flags = 0,
): Descriptor | undefined {
  const fd = openPinned(path, what, flags);
  return fd === undefined ? undefined : adopt(kind, fd, { path });
}

function adopt(kind: HandleKind, fd: number, origin: Origin): Descriptor {
  const descriptor = new Descriptor(fd, `${nouns[kind]} ${describeOrigin(origin)}`);
  try {
    const found = objectKind(descriptor.fd);
    // The kernel itself refuses what is no BPF object at all.
    if (found !== undefined && found !== "other" && found !== kind) {
      const other = found === "btf" ? found : nouns[found];
      throw new TypeError(
        `the ${descriptor.what} does not fit: it is no ${nouns[kind]} but a BPF ${other}`,
      );
    }
    return descriptor;
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** Describes the origin of an object for messages: `pinned at /sys/fs/bpf/counts`. */
export function describeOrigin(origin: Origin): string {
  if ("path" in origin) return `pinned at ${origin.path}`;
  return "id" in origin ? `with id ${origin.id}` : `of descriptor ${origin.fd}`;
}

/** Checks a path, which the kernel would read only up to a NUL. @throws {TypeError} */
export function checkPinPath(what: string, path: string): void {
  if (typeof path !== "string" || path === "" || path.includes("\0")) {
    throw new TypeError(`${what}: expected a path on a BPF file system, got ${describe(path)}`);
  }
}

/** Checks the name of an object for the kernel. @throws {TypeError | RangeError} */
export function checkName(name: string): void {
  if (typeof name !== "string") {
    throw new TypeError(`name: expected a string, got ${describe(name)}`);
  }
  if (!/^[A-Za-z0-9_.]*$/.test(name) || name.length >= BPF_OBJ_NAME_LEN) {
    throw new RangeError(
      `name: the kernel takes at most ${BPF_OBJ_NAME_LEN - 1} characters of A-Z a-z 0-9 _ . , got ${describe(name)}`,
    );
  }
}
