import { existsSync, lstatSync, readFileSync, readlinkSync, unlinkSync } from "./files.ts";
import { BpfAttr, type BpfCommand, bpfError } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { allocateScratch, getUint64, type Scratch } from "./mapped_memory.ts";
import { libc } from "./libc.ts";
import {
  BPF_BTF_GET_FD_BY_ID,
  BPF_BTF_GET_NEXT_ID,
  BPF_LINK_GET_FD_BY_ID,
  BPF_LINK_GET_NEXT_ID,
  BPF_MAP_GET_FD_BY_ID,
  BPF_MAP_GET_NEXT_ID,
  BPF_PROG_GET_FD_BY_ID,
  BPF_PROG_GET_NEXT_ID,
  BPF_OBJ_GET,
  BPF_OBJ_GET_INFO_BY_FD,
  BPF_OBJ_PIN,
} from "../uapi/commands.ts";
import { BPF_F_RDONLY, BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import {
  BTF_INFO,
  GET_ID,
  GET_INFO_BY_FD,
  LINK_INFO,
  MAP_INFO,
  OBJ,
  PROG_INFO,
} from "../uapi/layout.ts";
import { F_GETFL, O_ACCMODE, O_RDONLY, O_WRONLY } from "../uapi/system.ts";

/** Kinds of kernel objects that have ids. */
export type ObjectKind = "map" | "prog" | "link" | "btf";

const openCommands: Readonly<Record<ObjectKind, BpfCommand>> = {
  map: BPF_MAP_GET_FD_BY_ID,
  prog: BPF_PROG_GET_FD_BY_ID,
  link: BPF_LINK_GET_FD_BY_ID,
  btf: BPF_BTF_GET_FD_BY_ID,
};

const nextCommands: Readonly<Record<ObjectKind, BpfCommand>> = {
  map: BPF_MAP_GET_NEXT_ID,
  prog: BPF_PROG_GET_NEXT_ID,
  link: BPF_LINK_GET_NEXT_ID,
  btf: BPF_BTF_GET_NEXT_ID,
};

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
  attr.call(BPF_OBJ_PIN, {
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
  const fd = attr.tryCall(BPF_OBJ_GET);
  if (fd >= 0) return fd;
  const errno = lastErrno();
  if (errnoName(errno) === "ENOENT") return undefined;
  throw bpfError(BPF_OBJ_GET, errno, {
    doing: `open the ${what} pinned at ${path}`,
    hints: {
      EINVAL: `${path} is not on a BPF file system, or another kind of object is pinned there`,
      EACCES: `${path} is not on a BPF file system, or its mode forbids it to this user (for a map, try the flag rdonly)`,
    },
  });
}

/**
 * Removes a pin of an object. Returns false where nothing is at the path.
 *
 * The kernel cannot compare and remove in one step: a pin that another process puts there between these calls is removed instead.
 *
 * @param isGivenUp closes the object's descriptor first: it may be the last one that there was, and comparing the pin takes one
 * @throws {Error} where something other than a pin of the object is there; it says what
 */
export function unpinObject(object: Descriptor, path: string, isGivenUp = false): boolean {
  const { what } = object;
  const file = lstatSync(path, { throwIfNoEntry: false });
  let found = "a file that is not a pin, or not one for this user";
  if (file?.isSymbolicLink()) found = "a symbolic link: give its target";
  else if (file?.isDirectory()) found = "a directory";
  else {
    try {
      const own = describeObject(object.fd, what);
      if (isGivenUp) object[Symbol.dispose]();
      const opened = file && openPinned(path, what);
      if (opened === undefined) return false;
      using pinned = new Descriptor(opened, what);
      found = describeObject(pinned.fd, what);
      if (found === own) {
        unlinkSync(path);
        return true;
      }
      found = `a pin of ${found}`;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Another process has just removed it.
      if (code === "ENOENT") return false;
      if (code !== "EACCES") throw error;
    }
  }
  throw new Error(`cannot unpin the ${what}: ${path} is ${found}. It was not removed`);
}

/** Describes an object uniquely: `map "counts" with id 7`. */
function describeObject(fd: number, what: string): string {
  const kind = objectKind(fd);
  using info = objectInfo(fd, PROG_INFO.sizeof, what);
  const place = kind === "map" ? MAP_INFO.name : kind === "prog" ? PROG_INFO.name : undefined;
  const name = place === undefined ? "" : ` "${info.name(place, BPF_OBJ_NAME_LEN)}"`;
  // The id is at the same place in the description of each kind.
  return `${kind === "prog" ? "program" : kind}${name} with id ${info.u32(MAP_INFO.id)}`;
}

/** Returns true where the descriptor of a map has the rights that this flag gives, BPF_F_RDONLY or BPF_F_WRONLY. */
export function hasAccess(fd: number, flag: number): boolean {
  const mode = flag === BPF_F_RDONLY ? O_RDONLY : O_WRONLY;
  return (libc.fcntl(fd, F_GETFL, 0) & O_ACCMODE) === mode;
}

/**
 * Opens an object by its id (kernel 4.13 for maps and programs).
 *
 * @param flags of a map: BPF_F_RDONLY or BPF_F_WRONLY, for a descriptor that may do only that (kernel 4.15)
 */
export function openById(kind: ObjectKind, id: number, flags = 0): number {
  using attr = new BpfAttr(GET_ID.fd_by_id_token_fd);
  attr.u32(GET_ID.start_id, id).u32(GET_ID.open_flags, flags);
  return attr.call(openCommands[kind], {
    doing: `open the ${kind} with id ${id}`,
    needs: ["CAP_SYS_ADMIN"],
    hints: { ENOENT: `No ${kind} has this id; it may have been freed meanwhile` },
  });
}

/** The id after this one among those of all objects of a kind, or `undefined` behind the last (kernel 4.13). */
export function nextObjectId(kind: ObjectKind, after: number): number | undefined {
  using attr = new BpfAttr(GET_ID.open_flags);
  attr.u32(GET_ID.start_id, after);
  const command = nextCommands[kind];
  if (attr.tryCall(command) === 0) return attr.readU32(GET_ID.next_id);
  const errno = lastErrno();
  if (errnoName(errno) === "ENOENT") return undefined;
  throw bpfError(command, errno, {
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

/** Room outside of the description, for what is of no fixed length: names, and lists of numbers. */
export interface InfoBuffer {
  /** Where in the description the kernel finds its address. */
  readonly pointer: number;
  /** Where its number of elements is: how many there is room for, and then how many there are. */
  readonly count: number;
  readonly elements: number;
  /** Bytes. */
  readonly elementSize: 1 | 4 | 8;
}

/**
 * The kernel's description of an object, as of its making. Numbers are by their offset in the kind's struct.
 *
 * An older kernel's struct is shorter: what it does not have is 0, and {@link has} tells.
 */
export class ObjectInfo implements Disposable {
  readonly #struct: Scratch;
  readonly #known: number;

  /** @internal {@link objectInfo} makes them. */
  constructor(struct: Scratch, known: number) {
    this.#struct = struct;
    this.#known = known;
  }

  /** Returns true where this kernel's struct has the field. */
  has(offset: number): boolean {
    return offset < this.#known;
  }

  u32(offset: number): number {
    return this.#struct.view.getUint32(offset, true);
  }

  /** 64 bits as a number: exact up to 2^53. */
  u64Number(offset: number): number {
    return getUint64(this.#struct.view, offset);
  }

  /** A name in the struct itself, up to its NUL. */
  name(offset: number, length: number): string {
    return upToNul(this.#struct.bytes.subarray(offset, offset + length));
  }

  [Symbol.dispose](): void {
    this.#struct[Symbol.dispose]();
  }
}

/** Memory for a part of a description that has no fixed length. */
interface HeldBuffer {
  readonly memory: Scratch;
  readonly buffer: InfoBuffer;
}

/** A description with parts of no fixed length, and fields that maps have none of: {@link bufferedInfo} makes them. */
export class BufferedInfo extends ObjectInfo {
  readonly #struct: Scratch;
  readonly #buffers: readonly HeldBuffer[];

  /** @internal */
  constructor(struct: Scratch, known: number, buffers: readonly HeldBuffer[]) {
    super(struct, known);
    this.#struct = struct;
    this.#buffers = buffers;
  }

  i32(offset: number): number {
    return this.#struct.view.getInt32(offset, true);
  }

  u64(offset: number): bigint {
    return this.#struct.view.getBigUint64(offset, true);
  }

  /** A single bit, counted from the start of the struct. */
  bit(bit: number): boolean {
    return ((this.#struct.view.getUint8(bit >> 3) >> (bit & 7)) & 1) === 1;
  }

  /** Bytes of the struct, from one field to the next, in hexadecimal digits. */
  hex(start: number, end: number): string {
    return Buffer.from(this.#struct.bytes.subarray(start, end)).toString("hex");
  }

  /** The text in the buffer whose address is at `pointer`, up to its NUL. */
  text(pointer: number): string {
    return upToNul(this.#find(pointer).memory.bytes);
  }

  /** The numbers in the buffer whose address is at `pointer`: as many as there are, and there was room for. */
  u32s(pointer: number): number[] {
    const { memory, length } = this.#list(pointer);
    return Array.from({ length }, (_, index) => memory.view.getUint32(index * 4, true));
  }

  /** The same with numbers of 64 bits. */
  u64s(pointer: number): bigint[] {
    const { memory, length } = this.#list(pointer);
    return Array.from({ length }, (_, index) => memory.view.getBigUint64(index * 8, true));
  }

  /** A copy of the bytes in the buffer whose address is at `pointer`. */
  bytes(pointer: number): Uint8Array<ArrayBuffer> {
    const { memory, length } = this.#list(pointer);
    return new Uint8Array(memory.bytes.subarray(0, length));
  }

  #list(pointer: number): { memory: Scratch; length: number } {
    const { memory, buffer } = this.#find(pointer);
    return { memory, length: Math.min(this.u32(buffer.count), buffer.elements) };
  }

  #find(pointer: number): HeldBuffer {
    const found = this.#buffers.find(({ buffer }) => buffer.pointer === pointer);
    if (found === undefined) throw new Error(`no buffer was given for the field at ${pointer}`);
    return found;
  }

  override [Symbol.dispose](): void {
    for (const { memory } of this.#buffers) memory[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

/**
 * Asks the kernel about an object (kernel 4.13). The caller disposes of the result.
 *
 * @param size of the kind's struct
 */
export function objectInfo(fd: number, size: number, what: string): ObjectInfo {
  const struct = allocateScratch(size);
  return new ObjectInfo(struct, readInfo(fd, struct, size, what));
}

/** Asks for parts that have no fixed length, too. @param buffers those of no elements are left out */
export function bufferedInfo(
  fd: number,
  size: number,
  what: string,
  buffers: readonly InfoBuffer[],
): BufferedInfo {
  const struct = allocateScratch(size);
  const held = buffers
    .filter(({ elements }) => elements > 0)
    .map((buffer) => ({ buffer, memory: allocateScratch(buffer.elements * buffer.elementSize) }));
  for (const { buffer, memory } of held) {
    struct.view.setBigUint64(buffer.pointer, BigInt(memory.address), true);
    struct.view.setUint32(buffer.count, buffer.elements, true);
  }
  try {
    return new BufferedInfo(struct, readInfo(fd, struct, size, what), held);
  } catch (error) {
    for (const { memory } of held) memory[Symbol.dispose]();
    throw error;
  }
}

/** Has the kernel fill a struct in, which is given back where it refuses; returns how many bytes it knows. */
function readInfo(fd: number, struct: Scratch, size: number, what: string): number {
  try {
    using attr = new BpfAttr(GET_INFO_BY_FD.sizeof);
    attr
      .u32(GET_INFO_BY_FD.bpf_fd, fd)
      .u32(GET_INFO_BY_FD.info_len, size)
      .pointer(GET_INFO_BY_FD.info, struct);
    attr.call(BPF_OBJ_GET_INFO_BY_FD, {
      doing: `ask the kernel about the ${what}`,
      hints: { EINVAL: "The descriptor is not of a BPF object" },
    });
    return attr.readU32(GET_INFO_BY_FD.info_len);
  } catch (error) {
    struct[Symbol.dispose]();
    throw error;
  }
}

/** The id of an object (kernel 4.13; of a link 5.8). */
export function objectId(kind: ObjectKind, { fd, what }: Descriptor): number {
  // Where the struct of each kind has the id, and its size.
  const [offset, size] = (
    {
      map: [MAP_INFO.id, MAP_INFO.sizeof],
      prog: [PROG_INFO.id, PROG_INFO.sizeof],
      link: [LINK_INFO.id, LINK_INFO.sizeof],
      btf: [BTF_INFO.id, BTF_INFO.sizeof],
    } as const
  )[kind];
  using info = objectInfo(fd, size, what);
  return info.u32(offset);
}

function upToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end === -1 ? bytes : bytes.subarray(0, end)).toString("utf8");
}

/** What the kernel writes of a descriptor in /proc: `map_id`, `memlock`, ... and their values. */
export type FdInfo = ReadonlyMap<string, string>;

/**
 * Reads what /proc says of a descriptor; nothing where it is not mounted, or does not let this process see.
 *
 * @param process an id, or this process
 */
export function readFdInfo(fd: number | string, process: number | string = "self"): FdInfo {
  let text: string;
  try {
    text = readFileSync(`/proc/${process}/fdinfo/${fd}`, "utf8");
  } catch (error) {
    // No descriptor is left to read it. Of this process's own objects it adds details; of others it says what they are.
    if (error instanceof BpfError && process !== "self") throw error;
    return new Map();
  }
  const fields = text.split("\n").map((line) => /^(\w+):\s*(.*)$/.exec(line));
  return new Map(
    fields.flatMap((field) => (field === null ? [] : [[field[1] as string, field[2] as string]])),
  );
}

/** A number of it, or `undefined` where this kernel does not write it. */
export function fdNumber(info: FdInfo, name: string): number | undefined {
  const text = info.get(name);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}
