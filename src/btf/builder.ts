import {
  BTF_INT_BOOL,
  BTF_INT_CHAR,
  BTF_INT_SIGNED,
  BTF_KIND_ARRAY,
  BTF_KIND_DATASEC,
  BTF_KIND_DECL_TAG,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_FLOAT,
  BTF_KIND_FUNC,
  BTF_KIND_FUNC_PROTO,
  BTF_KIND_FWD,
  BTF_KIND_INT,
  BTF_KIND_STRUCT,
  BTF_KIND_TYPEDEF,
  BTF_KIND_UNION,
  BTF_KIND_VAR,
  BTF_MAGIC,
  BTF_VERSION,
} from "../uapi/btf.ts";
import { type BtfLinkage, kindNumbers, linkages } from "./format.ts";
import type { BtfEnumerator, BtfInteger, BtfMember, BtfParameter } from "./graph.ts";

/** Bytes of `struct btf_header`. */
const headerSize = 24;

/** A member to be written: `bitSize` only for bit-fields. */
export type NewMember = Omit<BtfMember, "bitSize"> & Partial<BtfMember>;

/** The encoding of an integer to be written; by default it is unsigned and as wide as its bytes. */
export type NewInteger = Partial<BtfInteger>;

/** The place of a variable in its section, in bytes. */
export interface NewVariable {
  /** The id of the variable. */
  readonly id: number;
  readonly offset: number;
  readonly size: number;
}

/**
 * Types of data being written in the raw form of BTF, for the kernel of this machine (little-endian): those of keys and values.
 * It takes what a graph gives of a type of that kind.
 *
 * Each method gives the id of a type, which is a new one only if there is none like it. A type comes after those that
 * it refers to, so that the kernel, which checks them in order, never has to look ahead.
 */
export class DataBtfBuilder {
  readonly #words: number[] = [];
  readonly #ids = new Map<string, number>();
  readonly #nameOffsets = new Map<string, number>([["", 0]]);
  /** A character for each byte. */
  #strings = "\0";
  /** True where the kernel looks for special fields, such as locks, in the types. */
  readonly hasOpaque: boolean;
  /** True where the types are for kernels that lack newer kinds of BTF. */
  readonly isLegacy: boolean;
  /** Set when a type was replaced by another one for old kernels. */
  usesNewKinds = false;

  constructor(hasOpaque = false, isLegacy = false) {
    this.hasOpaque = hasOpaque;
    this.isLegacy = isLegacy;
  }

  int(name: string, size: number, encoding: NewInteger = {}): number {
    const { isSigned = false, isBool = false, isChar = false } = encoding;
    const { bitOffset = 0, bitSize = size * 8 } = encoding;
    const bits =
      (isSigned ? BTF_INT_SIGNED : 0) | (isBool ? BTF_INT_BOOL : 0) | (isChar ? BTF_INT_CHAR : 0);
    return this.add(BTF_KIND_INT, name, size, {
      rest: [(bits << 24) | (bitOffset << 16) | bitSize],
    });
  }

  typedef(name: string, typeId: number): number {
    return this.add(BTF_KIND_TYPEDEF, name, typeId);
  }

  array(elementId: number, length: number): number {
    // The name that clang gives the type of an index, which C does not have.
    const indexId = this.int("__ARRAY_SIZE_TYPE__", 4);
    return this.add(BTF_KIND_ARRAY, "", 0, { rest: [elementId, indexId, length] });
  }

  /** @param name empty for an anonymous one */
  struct(name: string, size: number, members: readonly NewMember[]): number {
    return this.#composite(BTF_KIND_STRUCT, name, size, members);
  }

  /** @param name empty for an anonymous one */
  union(name: string, size: number, members: readonly NewMember[]): number {
    return this.#composite(BTF_KIND_UNION, name, size, members);
  }

  /** All of it, as the kernel takes it. */
  encode(): Uint8Array {
    const typeSize = this.#words.length * 4;
    const bytes = new Uint8Array(headerSize + typeSize + this.#strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, BTF_MAGIC, true);
    view.setUint8(2, BTF_VERSION);
    const header = [headerSize, 0, typeSize, typeSize, this.#strings.length];
    for (const [index, word] of [...header, ...this.#words].entries()) {
      view.setUint32(4 + index * 4, word, true);
    }
    bytes.set(Buffer.from(this.#strings, "latin1"), headerSize + typeSize);
    return bytes;
  }

  #composite(kind: number, name: string, size: number, members: readonly NewMember[]): number {
    const flag = members.some(({ bitSize = 0 }) => bitSize !== 0);
    const entries = members.map((member) => [
      this.nameOffset(member.name),
      member.typeId,
      flag ? (((member.bitSize ?? 0) << 24) | member.bitOffset) >>> 0 : member.bitOffset,
    ]);
    return this.add(kind, name, size, { flag, entries });
  }

  /** @param rest the words after the first three; `count` is the number of entries where it is not that of `entries` */
  add(
    kind: number,
    name: string,
    sizeOrTypeId: number,
    {
      flag = false,
      rest = [],
      entries = [],
      count = entries.length,
    }: {
      readonly flag?: boolean;
      readonly rest?: readonly number[];
      readonly entries?: readonly (readonly number[])[];
      readonly count?: number;
    } = {},
  ): number {
    const info = ((flag ? 0x8000_0000 : 0) | (kind << 24) | count) >>> 0;
    const words = [this.nameOffset(name), info, sizeOrTypeId, ...rest, ...entries.flat()];
    const key = words.join();
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#ids.size + 1;
      this.#ids.set(key, id);
      for (const word of words) this.#words.push(word);
    }
    return id;
  }

  /** Returns the offset of a name in the string section, and adds the name if it is new. */
  nameOffset(name: string): number {
    let offset = this.#nameOffsets.get(name);
    if (offset === undefined) {
      offset = this.#strings.length;
      this.#nameOffsets.set(name, offset);
      this.#strings += `${Buffer.from(name).toString("latin1")}\0`;
    }
    return offset;
  }
}

/** Types of every kind being written. Apart, as a map needs those of data only: its bundle is 1 kB smaller. */
export class BtfBuilder extends DataBtfBuilder {
  float(name: string, size: number): number {
    return this.add(BTF_KIND_FLOAT, name, size);
  }

  /** A type that refers to another one, and has a name where its kind has names. */
  reference(
    kind: "ptr" | "typedef" | "const" | "volatile" | "restrict" | "type_tag",
    typeId: number,
    name = "",
  ): number {
    return this.add(kindNumbers[kind], name, typeId);
  }

  /** An enum whose values have 32 bits, or 64 where its size is 8. */
  enum(
    name: string,
    size: number,
    enumerators: readonly BtfEnumerator[],
    isSigned: boolean,
  ): number {
    const isWide = size === 8;
    const entries = enumerators.map((enumerator) => {
      const value = BigInt.asUintN(64, BigInt(enumerator.value));
      const words = [Number(value & 0xffffffffn), Number(value >> 32n)];
      return [this.nameOffset(enumerator.name), ...words.slice(0, isWide ? 2 : 1)];
    });
    return this.add(isWide ? BTF_KIND_ENUM64 : BTF_KIND_ENUM, name, size, {
      flag: isSigned,
      entries,
    });
  }

  forward(name: string, declares: "struct" | "union"): number {
    return this.add(BTF_KIND_FWD, name, 0, { flag: declares === "union" });
  }

  /** The type of functions. @param parameters a last one of type 0 without a name for C's `...` */
  functionPrototype(resultId: number, parameters: readonly BtfParameter[] = []): number {
    const entries = parameters.map(({ name, typeId }) => [this.nameOffset(name), typeId]);
    return this.add(BTF_KIND_FUNC_PROTO, "", resultId, { entries });
  }

  func(name: string, prototypeId: number, linkage: BtfLinkage): number {
    return this.add(BTF_KIND_FUNC, name, prototypeId, { count: linkages.indexOf(linkage) });
  }

  variable(name: string, typeId: number, linkage: BtfLinkage): number {
    return this.add(BTF_KIND_VAR, name, typeId, { rest: [linkages.indexOf(linkage)] });
  }

  section(name: string, size: number, variables: readonly NewVariable[]): number {
    const entries = variables.map((variable) => [variable.id, variable.offset, variable.size]);
    return this.add(BTF_KIND_DATASEC, name, size, { entries });
  }

  /** @param componentIndex of a member or parameter; -1 for the type itself */
  declarationTag(name: string, typeId: number, componentIndex = -1): number {
    return this.add(BTF_KIND_DECL_TAG, name, typeId, { rest: [componentIndex >>> 0] });
  }
}
