import { readFileSync } from "node:fs";
import {
  BTF_KIND_ARRAY,
  BTF_KIND_CONST,
  BTF_KIND_DATASEC,
  BTF_KIND_DECL_TAG,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_FLOAT,
  BTF_KIND_FUNC,
  BTF_KIND_FUNC_PROTO,
  BTF_KIND_FWD,
  BTF_KIND_INT,
  BTF_KIND_PTR,
  BTF_KIND_RESTRICT,
  BTF_KIND_STRUCT,
  BTF_KIND_TYPEDEF,
  BTF_KIND_TYPE_TAG,
  BTF_KIND_UNION,
  BTF_KIND_UNKN,
  BTF_KIND_VAR,
  BTF_KIND_VOLATILE,
} from "../uapi/btf.ts";

/** What a BTF type is, as the kernel's `BTF_KIND_*` names it. */
export type BtfKind =
  | "void"
  | "int"
  | "ptr"
  | "array"
  | "struct"
  | "union"
  | "enum"
  | "fwd"
  | "typedef"
  | "volatile"
  | "const"
  | "restrict"
  | "func"
  | "func_proto"
  | "var"
  | "datasec"
  | "float"
  | "decl_tag"
  | "type_tag"
  | "enum64";

const kindNames: Readonly<Record<number, BtfKind>> = {
  [BTF_KIND_UNKN]: "void",
  [BTF_KIND_INT]: "int",
  [BTF_KIND_PTR]: "ptr",
  [BTF_KIND_ARRAY]: "array",
  [BTF_KIND_STRUCT]: "struct",
  [BTF_KIND_UNION]: "union",
  [BTF_KIND_ENUM]: "enum",
  [BTF_KIND_FWD]: "fwd",
  [BTF_KIND_TYPEDEF]: "typedef",
  [BTF_KIND_VOLATILE]: "volatile",
  [BTF_KIND_CONST]: "const",
  [BTF_KIND_RESTRICT]: "restrict",
  [BTF_KIND_FUNC]: "func",
  [BTF_KIND_FUNC_PROTO]: "func_proto",
  [BTF_KIND_VAR]: "var",
  [BTF_KIND_DATASEC]: "datasec",
  [BTF_KIND_FLOAT]: "float",
  [BTF_KIND_DECL_TAG]: "decl_tag",
  [BTF_KIND_TYPE_TAG]: "type_tag",
  [BTF_KIND_ENUM64]: "enum64",
};

/** 32-bit words that follow a type's three header words: a fixed part, and a part per `vlen` entry. */
const trailingWords: Readonly<Record<number, readonly [fixed: number, perEntry: number]>> = {
  [BTF_KIND_INT]: [1, 0],
  [BTF_KIND_PTR]: [0, 0],
  [BTF_KIND_ARRAY]: [3, 0],
  [BTF_KIND_STRUCT]: [0, 3],
  [BTF_KIND_UNION]: [0, 3],
  [BTF_KIND_ENUM]: [0, 2],
  [BTF_KIND_FWD]: [0, 0],
  [BTF_KIND_TYPEDEF]: [0, 0],
  [BTF_KIND_VOLATILE]: [0, 0],
  [BTF_KIND_CONST]: [0, 0],
  [BTF_KIND_RESTRICT]: [0, 0],
  [BTF_KIND_FUNC]: [0, 0],
  [BTF_KIND_FUNC_PROTO]: [0, 2],
  [BTF_KIND_VAR]: [1, 0],
  [BTF_KIND_DATASEC]: [0, 3],
  [BTF_KIND_FLOAT]: [0, 0],
  [BTF_KIND_DECL_TAG]: [1, 0],
  [BTF_KIND_TYPE_TAG]: [0, 0],
  [BTF_KIND_ENUM64]: [0, 3],
};

const btfMagic = 0xeb9f;
const pointerSize = 8;

/** One type of a {@link Btf}. `typeId` is the type it refers to where its kind refers to one (0 is void). */
export interface BtfType {
  readonly id: number;
  readonly kind: BtfKind;
  /** The C name; empty for anonymous types. */
  readonly name: string;
  /** Bytes, for kinds that have a size of their own; 0 otherwise. */
  readonly size: number;
  /** The type pointed to, aliased, qualified or returned; 0 for none or void. */
  readonly typeId: number;
  /** `BTF_KIND_ARRAY`: number of elements; 0 otherwise. */
  readonly length: number;
}

/** A member of a struct or union. */
export interface BtfMember {
  readonly name: string;
  readonly typeId: number;
  /** From the start of the struct that was asked about, in bits. */
  readonly bitOffset: number;
  /** Width in bits for a bit-field, 0 otherwise. */
  readonly bitSize: number;
}

/** A place inside a struct, in bytes. */
export interface BtfField {
  /** From the start of the struct. */
  readonly offset: number;
  readonly size: number;
  readonly typeId: number;
}

/** A named number of an enum; a bigint where a number would not hold it. */
export interface BtfEnumerator {
  readonly name: string;
  readonly value: number | bigint;
}

/**
 * Type information in the BPF Type Format: what the kernel says of its own structs, functions and tracepoints.
 *
 * Reading is lazy: parsing finds where each type starts, and a type is decoded when it is asked for.
 * Kernel 4.18 for BTF itself; 5.2 with `CONFIG_DEBUG_INFO_BTF` for the running kernel's.
 * Format: the kernel's Documentation/bpf/btf.rst.
 *
 * @example
 * ```ts
 * import { Btf } from "bun-bpf";
 * const { offset, size } = Btf.kernel().field("task_struct", "tgid");
 * console.log(`task_struct.tgid: ${size} bytes at ${offset}`);
 * ```
 */
export class Btf {
  static #kernel: Btf | undefined;

  readonly #words: Uint32Array;
  readonly #strings: Buffer;
  /** Index into #words of each type, by type id. */
  readonly #starts: Uint32Array;

  private constructor(words: Uint32Array, strings: Buffer, starts: Uint32Array) {
    this.#words = words;
    this.#strings = strings;
    this.#starts = starts;
  }

  /**
   * The running kernel's own BTF, read once and kept.
   *
   * @throws {Error} when the kernel has none (`CONFIG_DEBUG_INFO_BTF` is off, or before 5.4)
   */
  static kernel(): Btf {
    Btf.#kernel ??= Btf.parse(readKernelBtf());
    return Btf.#kernel;
  }

  /**
   * Reads the raw form, as in `/sys/kernel/btf/vmlinux` or the `.BTF` section of an object file.
   *
   * @throws {RangeError} when the bytes are not BTF of this machine's byte order
   */
  static parse(bytes: Uint8Array): Btf {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.byteLength < 24 || view.getUint16(0, true) !== btfMagic) {
      throw new RangeError("not BTF: the magic number 0xeb9f is missing");
    }
    const headerLength = view.getUint32(4, true);
    const typeStart = headerLength + view.getUint32(8, true);
    const typeLength = view.getUint32(12, true);
    const stringStart = headerLength + view.getUint32(16, true);
    const stringLength = view.getUint32(20, true);
    if (
      typeStart + typeLength > bytes.byteLength ||
      stringStart + stringLength > bytes.byteLength ||
      typeLength % 4 !== 0
    ) {
      throw new RangeError(
        `BTF is cut off: its header speaks of ${Math.max(typeStart + typeLength, stringStart + stringLength)} bytes, there are ${bytes.byteLength}`,
      );
    }
    // A Uint32Array needs an aligned start, which a section of an object file does not promise.
    const words = new Uint32Array(
      (bytes.byteOffset + typeStart) % 4 === 0
        ? bytes.buffer
        : bytes.slice(typeStart, typeStart + typeLength).buffer,
      (bytes.byteOffset + typeStart) % 4 === 0 ? bytes.byteOffset + typeStart : 0,
      typeLength / 4,
    );
    const strings = Buffer.from(bytes.buffer, bytes.byteOffset + stringStart, stringLength);
    return new Btf(words, strings, findStarts(words));
  }

  /** Number of types, void (id 0) included. */
  get length(): number {
    return this.#starts.length;
  }

  /** The type with this id. @throws {RangeError} when there is none */
  type(id: number): BtfType {
    if (id === 0) return { id, kind: "void", name: "", size: 0, typeId: 0, length: 0 };
    const at = this.#start(id);
    const words = this.#words;
    const kind = this.#kind(at);
    const sizeOrType = words[at + 2] as number;
    const hasSize = sizedKinds.has(kind);
    const isArray = kind === BTF_KIND_ARRAY;
    return {
      id,
      kind: kindNames[kind] as BtfKind,
      name: this.#string(words[at] as number),
      size: hasSize ? sizeOrType : 0,
      typeId: isArray ? (words[at + 3] as number) : hasSize ? 0 : sizeOrType,
      length: isArray ? (words[at + 5] as number) : 0,
    };
  }

  /**
   * The id of the type with this name and kind, or `undefined`.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * console.log(Btf.kernel().find("struct", "task_struct"));
   * ```
   */
  find(kind: BtfKind, name: string): number | undefined {
    const nameOffsets = this.#stringOffsets(name);
    if (nameOffsets.length === 0) return undefined;
    const [first] = nameOffsets;
    for (let id = 1; id < this.#starts.length; id++) {
      const at = this.#starts[id] as number;
      const nameOffset = this.#words[at] as number;
      if (nameOffset !== first && !nameOffsets.includes(nameOffset)) continue;
      if (kindNames[this.#kind(at)] === kind) return id;
    }
    return undefined;
  }

  /** All ids of this kind, in order. */
  *ids(kind: BtfKind): Generator<number, void, undefined> {
    for (let id = 1; id < this.#starts.length; id++) {
      if (kindNames[this.#kind(this.#starts[id] as number)] === kind) yield id;
    }
  }

  /** The members of a struct or union as declared: anonymous ones are not opened. @throws {RangeError} for another kind */
  members(id: number): BtfMember[] {
    const at = this.#start(id);
    const kind = this.#kind(at);
    if (kind !== BTF_KIND_STRUCT && kind !== BTF_KIND_UNION) {
      throw new RangeError(
        `BTF type ${id} is a ${kindNames[kind]}: only structs and unions have members`,
      );
    }
    const words = this.#words;
    const info = words[at + 1] as number;
    // With the kind flag set, the upper 8 bits of the offset are the width of a bit-field.
    const hasBitFields = info >>> 31 === 1;
    const count = info & 0xffff;
    const members: BtfMember[] = [];
    for (let i = 0; i < count; i++) {
      const member = at + 3 + i * 3;
      const offset = words[member + 2] as number;
      members.push({
        name: this.#string(words[member] as number),
        typeId: words[member + 1] as number,
        bitOffset: hasBitFields ? offset & 0xffffff : offset,
        bitSize: hasBitFields ? offset >>> 24 : 0,
      });
    }
    return members;
  }

  /** The enumerators of an enum. @throws {RangeError} for another kind */
  enumerators(id: number): BtfEnumerator[] {
    const at = this.#start(id);
    const kind = this.#kind(at);
    const words = this.#words;
    const info = words[at + 1] as number;
    const isSigned = info >>> 31 === 1;
    const count = info & 0xffff;
    const enumerators: BtfEnumerator[] = [];
    if (kind === BTF_KIND_ENUM) {
      for (let i = 0; i < count; i++) {
        const value = words[at + 4 + i * 2] as number;
        enumerators.push({
          name: this.#string(words[at + 3 + i * 2] as number),
          value: isSigned ? value | 0 : value,
        });
      }
    } else if (kind === BTF_KIND_ENUM64) {
      for (let i = 0; i < count; i++) {
        const entry = at + 3 + i * 3;
        const bits =
          (BigInt(words[entry + 2] as number) << 32n) | BigInt(words[entry + 1] as number);
        const value = isSigned ? BigInt.asIntN(64, bits) : bits;
        enumerators.push({
          name: this.#string(words[entry] as number),
          value: Number.isSafeInteger(Number(value)) ? Number(value) : value,
        });
      }
    } else {
      throw new RangeError(`BTF type ${id} is a ${kindNames[kind]}, not an enum`);
    }
    return enumerators;
  }

  /** Follows typedefs and qualifiers (const, volatile, restrict, type tags) to the type behind them. */
  resolve(id: number): BtfType {
    let type = this.type(id);
    while (transparentKinds.has(type.kind)) type = this.type(type.typeId);
    return type;
  }

  /** Bytes that a value of this type takes. */
  sizeOf(id: number): number {
    const type = this.resolve(id);
    if (type.kind === "ptr") return pointerSize;
    if (type.kind === "array") return type.length * this.sizeOf(type.typeId);
    return type.size;
  }

  /**
   * Where a field is in a struct or union, by name: `"tgid"`, or a path `"mm.arg_start"` through embedded structs.
   * Members of anonymous structs and unions count as the outer struct's, as in C.
   *
   * @throws {RangeError} when the kernel has no such struct or field, or the field is a bit-field
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * console.log(Btf.kernel().field("task_struct", "real_parent").offset);
   * ```
   */
  field(structName: string, path: string): BtfField {
    const structId = this.find("struct", structName) ?? this.find("union", structName);
    if (structId === undefined)
      throw new RangeError(`this BTF has no struct or union ${structName}`);
    let typeId = structId;
    let bitOffset = 0;
    for (const name of path.split(".")) {
      const type = this.resolve(typeId);
      const member =
        type.kind === "struct" || type.kind === "union"
          ? this.#member(type.id, name, 0)
          : undefined;
      if (member === undefined)
        throw new RangeError(`${structName} has no field ${path} in this BTF`);
      if (member.bitSize !== 0) throw new RangeError(`${structName}.${path} is a bit-field`);
      bitOffset += member.bitOffset;
      typeId = member.typeId;
    }
    return { offset: bitOffset / 8, size: this.sizeOf(typeId), typeId };
  }

  #member(structId: number, name: string, base: number): BtfMember | undefined {
    for (const member of this.members(structId)) {
      if (member.name === name) return { ...member, bitOffset: base + member.bitOffset };
      if (member.name !== "") continue;
      const inner = this.resolve(member.typeId);
      if (inner.kind !== "struct" && inner.kind !== "union") continue;
      const found = this.#member(inner.id, name, base + member.bitOffset);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #start(id: number): number {
    const at = this.#starts[id];
    if (at === undefined || id === 0) {
      throw new RangeError(`BTF type id ${id} is not in 1..${this.#starts.length - 1}`);
    }
    return at;
  }

  #kind(at: number): number {
    return ((this.#words[at + 1] as number) >>> 24) & 0x1f;
  }

  #string(offset: number): string {
    return this.#strings.toString("utf8", offset, this.#strings.indexOf(0, offset));
  }

  #stringOffsets(name: string): number[] {
    const needle = Buffer.from(`\0${name}\0`);
    const offsets: number[] = [];
    for (
      let at = this.#strings.indexOf(needle);
      at !== -1;
      at = this.#strings.indexOf(needle, at + 1)
    ) {
      offsets.push(at + 1);
    }
    return offsets;
  }
}

const sizedKinds = new Set([
  BTF_KIND_INT,
  BTF_KIND_STRUCT,
  BTF_KIND_UNION,
  BTF_KIND_ENUM,
  BTF_KIND_DATASEC,
  BTF_KIND_FLOAT,
  BTF_KIND_ENUM64,
]);

const transparentKinds = new Set<BtfKind>(["typedef", "volatile", "const", "restrict", "type_tag"]);

function findStarts(words: Uint32Array): Uint32Array {
  // A type takes three words at least, so this bound holds every index.
  const starts = new Uint32Array(Math.floor(words.length / 3) + 1);
  let count = 1;
  for (let at = 0; at < words.length;) {
    starts[count++] = at;
    const info = words[at + 1] as number;
    const trailing = trailingWords[(info >>> 24) & 0x1f];
    if (trailing === undefined) {
      throw new RangeError(
        `BTF type ${count - 1} has the unknown kind ${(info >>> 24) & 0x1f}: it comes from a newer kernel`,
      );
    }
    at += 3 + trailing[0] + trailing[1] * (info & 0xffff);
  }
  return starts.slice(0, count);
}

function readKernelBtf(): Uint8Array {
  const path = "/sys/kernel/btf/vmlinux";
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new Error(
      `cannot read the kernel's type information at ${path}: it needs a kernel with CONFIG_DEBUG_INFO_BTF (5.4 or later) and /sys mounted`,
      { cause },
    );
  }
}
