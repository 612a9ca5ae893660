import { checkCount } from "../check/arguments.ts";
import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import {
  hasAccess,
  objectKind,
  type ObjectKind,
  openById,
  getPinned,
  openPinned,
  pinObject,
  unpinObject,
} from "../ffi/bpf_object.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { reloadDisposers } from "./reload.ts";

/** A kind of BPF object that has a class in this library. */
export type HandleKind = Exclude<ObjectKind, "btf">;

/** The nouns for one object of each kind, for messages. */
export const nouns: Readonly<Record<HandleKind, string>> = {
  map: "map",
  prog: "program",
  link: "link",
};

/**
 * The base class of maps, programs and links, with their descriptor, id, pins and disposal.
 *
 * An object stays open until it is disposed of or the process ends. Garbage collection does not close it.
 */
export abstract class KernelObject implements Disposable {
  readonly #descriptor: Descriptor;
  readonly #readId: () => number;
  #id: number | undefined;
  /** The paths of the pins that this object has created or was opened by, except those that it has removed. */
  #pins: Set<string> | undefined;

  /**
   * @internal
   * @param readId reads the id from the kernel
   * @param pinnedAt the path of the pin by which it was opened
   */
  protected constructor(descriptor: Descriptor, readId: () => number, pinnedAt?: string) {
    this.#descriptor = descriptor;
    this.#readId = readId;
    if (pinnedAt !== undefined) this.#pins = new Set([pinnedAt]);
    reloadDisposers?.set(this, () => this.#end());
  }

  /**
   * Disposes of this object after `bun --hot` has replaced its code. Later uses throw an error that says so. Does nothing if
   * the constructor has failed, because the object is then disposed of already.
   */
  #end(): void {
    if (this.disposed) return;
    this[Symbol.dispose]();
    this.#descriptor.what += " of code that bun --hot has replaced (see keepAcrossReloads)";
  }

  /** @internal */
  protected get descriptor(): Descriptor {
    return this.#descriptor;
  }

  /** The file descriptor. This object owns and closes it. @throws {DisposedError} after disposal. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /**
   * The kernel's id, as bpftool shows it.
   *
   * @throws {BpfError} EINVAL if the kernel has no ids for objects of this kind.
   *
   * Requires Linux 4.13; Linux 5.8 for links.
   */
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
   * Pins the object at a path on a BPF file system, which keeps it in the kernel after this process has ended.
   *
   * An object can be pinned at several paths. Disposal does not remove pins. A relative path is resolved from the current
   * directory, both here and when the object is unpinned.
   *
   * @throws {BpfError} EEXIST if the path exists.
   * @throws {BpfError} EPERM if the path is not on a BPF file system, or its last part contains a dot.
   * @throws {BpfError} ENOENT if the directory does not exist.
   * @throws {BpfError} EINVAL if the kernel cannot pin objects of this type.
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
   *
   * Requires Linux 4.13; Linux 5.7 for links.
   */
  pin(path: string): this {
    const { fd, what } = this.#descriptor;
    checkPinPath("path", path);
    pinObject(fd, path, what);
    this.#pins = (this.#pins ?? new Set()).add(path);
    return this;
  }

  /**
   * Removes the pin at a path. Without a path, removes every pin that this object has created, and the one by which it was
   * opened.
   *
   * A pin is removed only if it belongs to the same map, program or link. The kernel cannot compare and remove in one step:
   * a file that another process creates at the path within the microseconds between these steps is removed. A pin that was
   * moved is not found.
   *
   * @returns true if a pin was removed, false if none of them existed any more
   * @throws {Error} if a path is anything else: a file, a directory, a symbolic link, or a pin of another object. Then neither
   *   this path nor any later one is removed.
   * @throws {TypeError} if no path is given, and the object was neither pinned nor opened by a path.
   */
  unpin(path?: string): boolean {
    void this.fd;
    const paths = path === undefined ? this.#pins : [path];
    if (paths === undefined) {
      throw new TypeError(`${this} was not pinned by this object: pass the path to unpin()`);
    }
    let isRemoved = false;
    for (const pin of [...paths]) {
      checkPinPath("path", pin);
      if (unpinObject(this.#descriptor, pin)) isRemoved = true;
      this.#pins?.delete(pin);
    }
    return isRemoved;
  }

  /** @internal Returns the name of the class, and the properties that `console.log` shows. */
  protected abstract shown(): readonly [className: string, properties: object];

  /** @internal Returns the text for `console.log`: the properties, without methods. */
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
      // The id was not read before disposal, or the kernel has no ids for such objects.
      return {};
    }
  }

  /** Closes the descriptor. Pins stay. A second call does nothing. */
  [Symbol.dispose](): void {
    reloadDisposers?.delete(this);
    this.#descriptor[Symbol.dispose]();
  }
}

/** The way to open an existing object: by its pin, its id or a descriptor. */
export type Origin = { readonly path: string } | { readonly id: number } | { readonly fd: number };

/**
 * Opens an existing object. The caller owns the returned descriptor; for a given descriptor it is a duplicate.
 *
 * @param what a noun for the object in messages: `"hash map"`
 * @param flags for a map: BPF_F_RDONLY or BPF_F_WRONLY (kernel 4.15). A given descriptor must have this access already
 * @throws {TypeError} if it is not an object of the kind, or a given descriptor has other access rights.
 * @throws {BpfError} ENOENT if nothing is pinned at the path or no object has the id, EPERM if CAP_SYS_ADMIN is missing for an id.
 */
export function openObject(kind: HandleKind, origin: Origin, what: string, flags = 0): Descriptor {
  if ("path" in origin) {
    checkPinPath("path", origin.path);
    return adopt(kind, getPinned(origin.path, what, flags), origin);
  }
  if ("id" in origin) {
    checkCount("id", origin.id, 1, 0xffffffff);
    return adopt(kind, openById(kind, origin.id, flags), origin);
  }
  checkCount("fd", origin.fd, 0, 0x7fffffff);
  const descriptor = adopt(kind, duplicate(origin.fd, what), origin);
  if (flags === 0 || hasAccess(descriptor.fd, flags)) return descriptor;
  descriptor[Symbol.dispose]();
  throw new TypeError(
    `flags: the ${descriptor.what} has other access rights: open it by its path or id`,
  );
}

/**
 * Opens the object that is pinned at a path, which the caller has checked with {@link checkPinPath}. Returns `undefined` if
 * nothing is pinned there.
 *
 * @throws as {@link openObject}.
 */
export function openPin(
  kind: HandleKind,
  path: string,
  what: string,
  flags = 0,
): Descriptor | undefined {
  const fd = openPinned(path, what, flags);
  return fd === undefined ? undefined : adopt(kind, fd, { path });
}

/** Takes ownership of a descriptor and checks the kind of its object. */
function adopt(kind: HandleKind, fd: number, origin: Origin): Descriptor {
  const descriptor = new Descriptor(fd, `${nouns[kind]} ${describeOrigin(origin)}`);
  try {
    const found = objectKind(descriptor.fd);
    // "other" is accepted: for a file that is not a BPF object, the first call of bpf(2) fails later.
    if (found !== undefined && found !== "other" && found !== kind) {
      const other = found === "btf" ? found : nouns[found];
      throw new TypeError(
        `cannot open the ${descriptor.what}: it is a BPF ${other}, not a ${nouns[kind]}`,
      );
    }
    return descriptor;
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** Describes for messages how an object was opened: `pinned at /sys/fs/bpf/counts`. */
export function describeOrigin(origin: Origin): string {
  if ("path" in origin) return `pinned at ${origin.path}`;
  return "id" in origin ? `with id ${origin.id}` : `of descriptor ${origin.fd}`;
}

/** Checks the path of a pin. The kernel would read it only up to a NUL. @throws {TypeError} if it is empty or has a NUL. */
export function checkPinPath(what: string, path: string): void {
  if (typeof path !== "string" || path === "" || path.includes("\0")) {
    throw new TypeError(`${what}: expected a path on a BPF file system, got ${describe(path)}`);
  }
}

/** Checks the name of an object. @throws {TypeError | RangeError} if the kernel does not allow it. */
export function checkName(name: string): void {
  if (typeof name !== "string") {
    throw new TypeError(`name: expected a string, got ${describe(name)}`);
  }
  if (!/^[A-Za-z0-9_.]*$/.test(name) || name.length >= BPF_OBJ_NAME_LEN) {
    throw new RangeError(
      `name: expected at most ${BPF_OBJ_NAME_LEN - 1} characters of A-Z a-z 0-9 _ . , got ${describe(name)}`,
    );
  }
}
