import { existsSync, lstatSync, readFileSync, readlinkSync, unlinkSync } from "./files.ts";
import { BpfAttr, type BpfCommand, bpfError } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, lastErrno } from "./error.ts";
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
import { ENOENT } from "../uapi/errno.ts";
import { F_GETFL, O_ACCMODE, O_RDONLY, O_WRONLY } from "../uapi/system.ts";

/** A kind of kernel object that has ids. */
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

const pinHint =
  "A pin must be on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`, and create its folders first; names in it cannot have dots";

/** Returns the noun for a kind in messages. */
function nounOf(kind: ObjectKind): string {
  return kind === "prog" ? "program" : kind;
}

/**
 * Returns the kind of BPF object that a descriptor refers to, or `"other"` for any other file; `undefined` where /proc is not
 * mounted.
 *
 * BPF_OBJ_GET_INFO_BY_FD does not return the kind, only a struct whose layout depends on it.
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

/** Pins an object at a path on a BPF file system (kernel 4.4). */
export function pinObject(fd: number, path: string, what: string): void {
  using attr = new BpfAttr(OBJ.file_flags);
  attr.string(OBJ.pathname, path).u32(OBJ.bpf_fd, fd);
  attr.call(BPF_OBJ_PIN, {
    doing: `pin the ${what} at ${path}`,
    hints: {
      EPERM: pinHint,
      EINVAL: `${pinHint}; some types of objects cannot be pinned`,
      ENOENT: pinHint,
      EEXIST: `${path} exists already: remove it, or open what is pinned there`,
    },
  });
}

/** Matches a path with a dot in a name: a BPF file system rejects the look-up of such a name with EPERM. */
const dottedName = /[^/.]\.|\.[^/.]/;

/** Opens the object that is pinned at a path as {@link getPinned} does. Returns `undefined` if the path does not exist. */
export function openPinned(path: string, what: string, flags = 0): number | undefined {
  try {
    return getPinned(path, what, flags);
  } catch (error) {
    if (error instanceof BpfError && error.errno === ENOENT) return undefined;
    throw error;
  }
}

/**
 * Opens the object that is pinned at a path, and returns its descriptor.
 *
 * @param flags for a map: BPF_F_RDONLY or BPF_F_WRONLY, for a descriptor with that access only (kernel 4.15)
 * @throws {BpfError} ENOENT if the path does not exist.
 */
export function getPinned(path: string, what: string, flags: number): number {
  using attr = new BpfAttr(OBJ.path_fd);
  attr.string(OBJ.pathname, path).u32(OBJ.file_flags, flags);
  return attr.call(BPF_OBJ_GET, {
    doing: `open the ${what} pinned at ${path}`,
    hints: {
      ENOENT: `Nothing is pinned at ${path}`,
      EPERM: () =>
        dottedName.test(path) ? "Names on a BPF file system cannot have dots" : undefined,
      EINVAL: `${path} is not on a BPF file system, or another kind of object is pinned there`,
      EACCES: `${path} is not on a BPF file system, or its file mode denies access to this user (for a map, try the flag rdonly)`,
    },
  });
}

/**
 * Removes a pin of an object. Returns false if the path does not exist.
 *
 * The kernel cannot compare and remove in one step. If another process replaces the pin between the two calls, the new pin is
 * removed.
 *
 * @param closesFirst closes the object's descriptor before the pin is opened for the comparison, in case the process has no
 *   free descriptor
 * @throws {Error} if the path is anything other than a pin of the object; the message says what it is.
 */
export function unpinObject(object: Descriptor, path: string, closesFirst = false): boolean {
  const { what } = object;
  const file = lstatSync(path, { throwIfNoEntry: false });
  let found = "a file that is not a pin, or a pin that this user may not open";
  if (file?.isSymbolicLink()) found = "a symbolic link: pass its target";
  else if (file?.isDirectory()) found = "a directory";
  else {
    try {
      const own = describeObject(object.fd, what);
      if (closesFirst) object[Symbol.dispose]();
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
      // Another process has removed the pin in the meantime.
      if (code === "ENOENT") return false;
      if (code !== "EACCES") throw error;
    }
  }
  throw new Error(`cannot unpin the ${what}: ${path} is ${found}. It was not removed`);
}

/** Describes an object uniquely: `map "counts" with id 7`. */
function describeObject(fd: number, what: string): string {
  const kind = objectKind(fd) as ObjectKind;
  using info = objectInfo(fd, PROG_INFO.sizeof, what);
  const offset = kind === "map" ? MAP_INFO.name : kind === "prog" ? PROG_INFO.name : undefined;
  const name = offset === undefined ? "" : ` "${info.name(offset, BPF_OBJ_NAME_LEN)}"`;
  // The id has the same offset in the structs of all kinds.
  return `${nounOf(kind)}${name} with id ${info.u32(MAP_INFO.id)}`;
}

/** Returns true if the descriptor of a map has exactly the access of this flag: BPF_F_RDONLY or BPF_F_WRONLY. */
export function hasAccess(fd: number, flag: number): boolean {
  const mode = flag === BPF_F_RDONLY ? O_RDONLY : O_WRONLY;
  return (libc.fcntl(fd, F_GETFL, 0) & O_ACCMODE) === mode;
}

/**
 * Opens an object by its id, and returns its descriptor (kernel 4.13 for maps and programs).
 *
 * @param flags for a map: BPF_F_RDONLY or BPF_F_WRONLY, for a descriptor with that access only (kernel 4.15)
 */
export function openById(kind: ObjectKind, id: number, flags = 0): number {
  using attr = new BpfAttr(GET_ID.fd_by_id_token_fd);
  attr.u32(GET_ID.start_id, id).u32(GET_ID.open_flags, flags);
  return attr.call(openCommands[kind], {
    doing: `open the ${nounOf(kind)} with id ${id}`,
    needs: ["CAP_SYS_ADMIN"],
    hints: { ENOENT: `No ${nounOf(kind)} has this id; it may have been freed meanwhile` },
  });
}

/** Returns the next id of an object of a kind after `after`; `undefined` after the last one (kernel 4.13). */
export function nextObjectId(kind: ObjectKind, after: number): number | undefined {
  using attr = new BpfAttr(GET_ID.open_flags);
  attr.u32(GET_ID.start_id, after);
  const command = nextCommands[kind];
  if (attr.tryCall(command) === 0) return attr.readU32(GET_ID.next_id);
  const errno = lastErrno();
  if (errno === ENOENT) return undefined;
  throw bpfError(command, errno, {
    doing: `list the ${nounOf(kind)}s of the system`,
    needs: ["CAP_SYS_ADMIN"],
    hints: { EINVAL: "Ids of maps and programs need Linux 4.13, those of links Linux 5.8" },
  });
}

/** Opens the object with this id and returns the result of `describe`; `undefined` if no object has the id. */
export function describeById<T>(
  kind: ObjectKind,
  id: number,
  describe: (fd: number, what: string) => T,
): T | undefined {
  try {
    using descriptor = new Descriptor(openById(kind, id), `${nounOf(kind)} ${id}`);
    return describe(descriptor.fd, descriptor.what);
  } catch (error) {
    if (error instanceof BpfError && absentCodes.has(error.code)) return undefined;
    throw error;
  }
}

/** Errors for an id whose object was freed (ENOENT), or whose link is still being created (EAGAIN). */
const absentCodes: ReadonlySet<string> = new Set(["ENOENT", "EAGAIN"]);

/**
 * Yields the result of `describe` for each object of a kind, in the order of ids. Each object is opened when the iteration
 * reaches it. Objects that were freed by then are skipped.
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

/** A buffer outside of the info struct, for a name or list of variable length. */
export interface InfoBuffer {
  /** The offset of the field for the buffer's address. */
  readonly pointer: number;
  /** The offset of the field for the number of elements: the capacity before the call, the actual number after it. */
  readonly count: number;
  /** The capacity of the buffer, in elements. */
  readonly elements: number;
  /** The size of an element, in bytes. */
  readonly elementSize: 1 | 4 | 8 | 16;
  /** The offset of the field for the size of an element, for lists whose kernel struct can grow. */
  readonly sizeField?: number;
}

/**
 * The kernel's info struct of an object, as BPF_OBJ_GET_INFO_BY_FD returned it. Fields are read by their offset.
 *
 * The struct of an older kernel is shorter. Fields that it lacks read as 0, and {@link has} returns false for them.
 */
export class ObjectInfo implements Disposable {
  readonly #struct: Scratch;
  readonly #known: number;

  /** @internal Use {@link objectInfo}. */
  constructor(struct: Scratch, known: number) {
    this.#struct = struct;
    this.#known = known;
  }

  /** Returns true if this kernel's struct has the field. */
  has(offset: number): boolean {
    return offset < this.#known;
  }

  /** Reads 32 bits. */
  u32(offset: number): number {
    return this.#struct.view.getUint32(offset, true);
  }

  /** Reads 64 bits as a number: exact up to 2^53. */
  u64Number(offset: number): number {
    return getUint64(this.#struct.view, offset);
  }

  /** Reads a NUL-terminated name that is in the struct itself. */
  name(offset: number, length: number): string {
    return upToNul(this.#struct.bytes.subarray(offset, offset + length));
  }

  [Symbol.dispose](): void {
    this.#struct[Symbol.dispose]();
  }
}

/** The memory of a buffer. */
interface HeldBuffer {
  readonly memory: Scratch;
  readonly buffer: InfoBuffer;
}

/** An info struct with buffers, and with methods for types of fields that only programs, links and BTF have. */
export class BufferedInfo extends ObjectInfo {
  readonly #struct: Scratch;
  readonly #buffers: readonly HeldBuffer[];

  /** @internal Use {@link bufferedInfo}. */
  constructor(struct: Scratch, known: number, buffers: readonly HeldBuffer[]) {
    super(struct, known);
    this.#struct = struct;
    this.#buffers = buffers;
  }

  /** Reads 32 bits as a signed number. */
  i32(offset: number): number {
    return this.#struct.view.getInt32(offset, true);
  }

  /** Reads 64 bits. */
  u64(offset: number): bigint {
    return this.#struct.view.getBigUint64(offset, true);
  }

  /** Reads a single bit, counted from the start of the struct. */
  bit(bit: number): boolean {
    return ((this.#struct.view.getUint8(bit >> 3) >> (bit & 7)) & 1) === 1;
  }

  /** Returns the bytes from offset `start` to `end` in hexadecimal digits. */
  hex(start: number, end: number): string {
    return Buffer.from(this.#struct.bytes.subarray(start, end)).toString("hex");
  }

  /** Reads the NUL-terminated string in the buffer whose address is at `pointer`. */
  text(pointer: number): string {
    return upToNul(this.#find(pointer).memory.bytes);
  }

  /** Reads the 32-bit numbers in the buffer whose address is at `pointer`, up to the capacity of the buffer. */
  u32s(pointer: number): number[] {
    const { memory, length } = this.#list(pointer);
    return Array.from({ length }, (_, index) => memory.view.getUint32(index * 4, true));
  }

  /** Reads the 64-bit numbers in the buffer whose address is at `pointer`, up to the capacity of the buffer. */
  u64s(pointer: number): bigint[] {
    const { memory, length } = this.#list(pointer);
    return Array.from({ length }, (_, index) => memory.view.getBigUint64(index * 8, true));
  }

  /** Returns a copy of the bytes in the buffer whose address is at `pointer`. */
  bytes(pointer: number): Uint8Array<ArrayBuffer> {
    const { memory, length } = this.#list(pointer);
    const { elementSize } = this.#find(pointer).buffer;
    return new Uint8Array(memory.bytes.subarray(0, length * elementSize));
  }

  #list(pointer: number): { memory: Scratch; length: number } {
    const { memory, buffer } = this.#find(pointer);
    return { memory, length: Math.min(this.u32(buffer.count), buffer.elements) };
  }

  #find(pointer: number): HeldBuffer {
    const found = this.#buffers.find(({ buffer }) => buffer.pointer === pointer);
    if (found === undefined) throw new Error(`the field at offset ${pointer} has no buffer`);
    return found;
  }

  override [Symbol.dispose](): void {
    for (const { memory } of this.#buffers) memory[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

/**
 * Reads the info struct of an object (kernel 4.13). The caller disposes of the result.
 *
 * @param size size of the struct, which differs by kind, in bytes
 */
export function objectInfo(fd: number, size: number, what: string): ObjectInfo {
  const struct = allocateScratch(size);
  return new ObjectInfo(struct, readInfo(fd, struct, size, what));
}

/**
 * Reads the info struct of an object with the fields that need buffers. The caller disposes of the result.
 *
 * @param buffers buffers for the fields; one with a capacity of 0 is not passed to the kernel
 */
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
    if (buffer.sizeField !== undefined) {
      struct.view.setUint32(buffer.sizeField, buffer.elementSize, true);
    }
  }
  try {
    return new BufferedInfo(struct, readInfo(fd, struct, size, what), held);
  } catch (error) {
    for (const { memory } of held) memory[Symbol.dispose]();
    throw error;
  }
}

/** Lets the kernel fill in a struct, and returns the number of bytes that it filled in. Frees the struct on failure. */
function readInfo(fd: number, struct: Scratch, size: number, what: string): number {
  try {
    using attr = new BpfAttr(GET_INFO_BY_FD.sizeof);
    attr
      .u32(GET_INFO_BY_FD.bpf_fd, fd)
      .u32(GET_INFO_BY_FD.info_len, size)
      .pointer(GET_INFO_BY_FD.info, struct);
    attr.call(BPF_OBJ_GET_INFO_BY_FD, {
      doing: `get information about the ${what}`,
      hints: { EINVAL: "The descriptor is not that of a BPF object" },
    });
    return attr.readU32(GET_INFO_BY_FD.info_len);
  } catch (error) {
    struct[Symbol.dispose]();
    throw error;
  }
}

/** Returns the id of an object (kernel 4.13; of a link 5.8). */
export function objectId(kind: ObjectKind, { fd, what }: Descriptor): number {
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

/** The fields of `/proc/<pid>/fdinfo/<fd>` by name: `map_id`, `memlock` and others. */
export type FdInfo = ReadonlyMap<string, string>;

/**
 * Reads the fields of a descriptor in /proc. Returns an empty map where the file does not exist or may not be read.
 *
 * @param process a process id, or `"self"`
 */
export function readFdInfo(fd: number | string, process: number | string = "self"): FdInfo {
  let text: string;
  try {
    text = readFileSync(`/proc/${process}/fdinfo/${fd}`, "utf8");
  } catch (error) {
    // A BpfError means that the process has no free descriptor. For this process the fields only add details and may be
    // missing, but for another process they identify its objects.
    if (error instanceof BpfError && process !== "self") throw error;
    return new Map();
  }
  const fields = text.split("\n").map((line) => /^(\w+):\s*(.*)$/.exec(line));
  return new Map(
    fields.flatMap((field) => (field === null ? [] : [[field[1] as string, field[2] as string]])),
  );
}

/** Returns a field as a number; `undefined` if this kernel does not write it. */
export function fdNumber(info: FdInfo, name: string): number | undefined {
  const text = info.get(name);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}
