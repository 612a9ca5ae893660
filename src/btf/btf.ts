import {
  BTF_KIND_ARRAY,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_STRUCT,
  BTF_KIND_UNION,
} from "../uapi/btf.ts";
import type { BtfEnumerator, BtfField, BtfKind, BtfMember, BtfType } from "./description.ts";
import { kindMask, kindNames, parseRawBtf, type RawBtf, sizedKinds } from "./format.ts";
import { readKernelBtf } from "./kernel.ts";

export type { BtfEnumerator, BtfField, BtfKind, BtfMember, BtfType } from "./description.ts";

const pointerSize = 8;
/** Types that lead to one another: the kernel takes no longer chains either (MAX_RESOLVE_DEPTH). */
const longestChain = 32;

/**
 * Type information in the BPF Type Format: what the kernel says of its own structs, functions and tracepoints.
 *
 * Reading is lazy: parsing finds where each type starts, and a type is decoded when it is asked for.
 * Kernel 4.18 for BTF itself; 5.4 with `CONFIG_DEBUG_INFO_BTF` for the running kernel's.
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

  private constructor({ words, strings, starts }: RawBtf) {
    this.#words = words;
    this.#strings = strings;
    this.#starts = starts;
  }

  /**
   * The running kernel's own BTF, read once and kept.
   *
   * @throws {BpfError} `ENOENT` when the kernel has none (`CONFIG_DEBUG_INFO_BTF` is off, or before 5.4)
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
    return new Btf(parseRawBtf(bytes));
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
    for (let steps = 0; transparentKinds.has(type.kind); steps++) {
      if (steps === longestChain) throw endless(id);
      type = this.type(type.typeId);
    }
    return type;
  }

  /** Bytes that a value of this type takes. */
  sizeOf(id: number): number {
    let type = this.resolve(id);
    let count = 1;
    for (let steps = 0; type.kind === "array"; steps++) {
      if (steps === longestChain) throw endless(id);
      count *= type.length;
      type = this.resolve(type.typeId);
    }
    return count * (type.kind === "ptr" ? pointerSize : type.size);
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
          ? this.#member(type.id, name, 0, new Set())
          : undefined;
      if (member === undefined)
        throw new RangeError(`${structName} has no field ${path} in this BTF`);
      if (member.bitSize !== 0) throw new RangeError(`${structName}.${path} is a bit-field`);
      bitOffset += member.bitOffset;
      typeId = member.typeId;
    }
    return { offset: bitOffset / 8, size: this.sizeOf(typeId), typeId };
  }

  /** @param searched structs that were looked through in vain: one that comes again, or is inside itself, is passed over */
  #member(
    structId: number,
    name: string,
    base: number,
    searched: Set<number>,
  ): BtfMember | undefined {
    if (searched.has(structId)) return undefined;
    searched.add(structId);
    for (const member of this.members(structId)) {
      if (member.name === name) return { ...member, bitOffset: base + member.bitOffset };
      if (member.name !== "") continue;
      const inner = this.resolve(member.typeId);
      if (inner.kind !== "struct" && inner.kind !== "union") continue;
      const found = this.#member(inner.id, name, base + member.bitOffset, searched);
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
    return ((this.#words[at + 1] as number) >>> 24) & kindMask;
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

const transparentKinds = new Set<BtfKind>(["typedef", "volatile", "const", "restrict", "type_tag"]);

function endless(id: number): RangeError {
  return new RangeError(
    `BTF type ${id} leads through more than ${longestChain} others: the bytes are damaged`,
  );
}
