import { BTF_INFO, GET_INFO_BY_FD, LINK_INFO, MAP_INFO, PROG_INFO } from "../uapi/layout.ts";
import { BpfAttr } from "./bpf.ts";
import type { ObjectKind } from "./bpf_object.ts";
import { allocateScratch, getUint64, type Scratch } from "./scratch.ts";

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
  readonly #buffers: readonly { readonly memory: Scratch; readonly buffer: InfoBuffer }[];
  readonly #known: number;

  /** @internal {@link objectInfo} makes them. */
  constructor(
    struct: Scratch,
    buffers: readonly { readonly memory: Scratch; readonly buffer: InfoBuffer }[],
    known: number,
  ) {
    this.#struct = struct;
    this.#buffers = buffers;
    this.#known = known;
  }

  /** Whether this kernel's struct has the field. */
  has(offset: number): boolean {
    return offset < this.#known;
  }

  u32(offset: number): number {
    return this.#struct.view.getUint32(offset, true);
  }

  i32(offset: number): number {
    return this.#struct.view.getInt32(offset, true);
  }

  u64(offset: number): bigint {
    return this.#struct.view.getBigUint64(offset, true);
  }

  /** 64 bits as a number: exact up to 2^53. */
  u64n(offset: number): number {
    return getUint64(this.#struct.view, offset);
  }

  /** A single bit, counted from the start of the struct. */
  bit(bit: number): boolean {
    return ((this.#struct.view.getUint8(bit >> 3) >> (bit & 7)) & 1) === 1;
  }

  /** Bytes of the struct, from one field to the next, in hexadecimal digits. */
  hex(start: number, end: number): string {
    return Buffer.from(this.#struct.bytes.subarray(start, end)).toString("hex");
  }

  /** A name in the struct itself, up to its NUL. */
  name(offset: number, length: number): string {
    return upToNul(this.#struct.bytes.subarray(offset, offset + length));
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

  #find(pointer: number): { memory: Scratch; buffer: InfoBuffer } {
    const found = this.#buffers.find(({ buffer }) => buffer.pointer === pointer);
    if (found === undefined) throw new Error(`no buffer was given for the field at ${pointer}`);
    return found;
  }

  [Symbol.dispose](): void {
    for (const { memory } of this.#buffers) memory[Symbol.dispose]();
    this.#struct[Symbol.dispose]();
  }
}

/**
 * Asks the kernel about an object (kernel 4.13). The caller disposes of the result.
 *
 * @param size of the kind's struct
 * @param buffers for what is not in the struct; those of no elements are left out
 */
export function objectInfo(
  fd: number,
  size: number,
  what: string,
  buffers: readonly InfoBuffer[] = [],
): ObjectInfo {
  const struct = allocateScratch(size);
  const held = buffers
    .filter(({ elements }) => elements > 0)
    .map((buffer) => ({ buffer, memory: allocateScratch(buffer.elements * buffer.elementSize) }));
  try {
    using attr = new BpfAttr(GET_INFO_BY_FD.sizeof);
    for (const { buffer, memory } of held) {
      struct.view.setBigUint64(buffer.pointer, BigInt(memory.address), true);
      struct.view.setUint32(buffer.count, buffer.elements, true);
    }
    attr
      .u32(GET_INFO_BY_FD.bpf_fd, fd)
      .u32(GET_INFO_BY_FD.info_len, size)
      .pointer(GET_INFO_BY_FD.info, struct);
    attr.call("BPF_OBJ_GET_INFO_BY_FD", {
      doing: `ask the kernel about the ${what}`,
      hints: { EINVAL: "The descriptor is not of a BPF object" },
    });
    return new ObjectInfo(struct, held, attr.readU32(GET_INFO_BY_FD.info_len));
  } catch (error) {
    for (const { memory } of held) memory[Symbol.dispose]();
    struct[Symbol.dispose]();
    throw error;
  }
}

const structs = { map: MAP_INFO, prog: PROG_INFO, link: LINK_INFO, btf: BTF_INFO } as const;

/** The id of an object (kernel 4.13; of a link 5.8). */
export function objectId(kind: ObjectKind, fd: number, what: string): number {
  const { id, sizeof: size } = structs[kind];
  using info = objectInfo(fd, size, what);
  return info.u32(id);
}

function upToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end === -1 ? bytes : bytes.subarray(0, end)).toString("utf8");
}
