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

/** Size of `struct btf_header` in bytes. */
const headerSize = 24;

/** Member of a struct or union for the builder. Only bit-fields have a `bitSize`. */
export type NewMember = Omit<BtfMember, "bitSize"> & Partial<BtfMember>;

/** Encoding of an integer for the builder. By default it is unsigned and uses all bits of its bytes. */
export type NewInteger = Partial<BtfInteger>;

/** Variable of a section for the builder. */
export interface NewVariable {
  /** Id of the variable's type (`var`). */
  readonly id: number;
  /** Offset in bytes from the start of the section. */
  readonly offset: number;
  /** Size in bytes. */
  readonly size: number;
}

/**
 * Builder of raw BTF, little-endian, for the data types of keys and values.
 *
 * Its methods take the same descriptions as `BtfGraph` returns, and return the id of the type. An identical type is not added again.
 * Types are added after the types that they refer to, so that the kernel, which checks types in order, finds those checked already.
 */
export class DataBtfBuilder {
  readonly #words: number[] = [];
  readonly #ids = new Map<string, number>();
  readonly #nameOffsets = new Map<string, number>([["", 0]]);
  /** String section, with one character for each byte. */
  #strings = "\0";
  /** True if the types have opaque fields, such as locks, for which the kernel searches the types. */
  readonly hasOpaque: boolean;
  /** True if the encoding is for kernels that lack newer kinds of BTF. */
  readonly isLegacy: boolean;
  /** True if a type was added whose encoding differs for kernels that lack newer kinds of BTF. */
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
    // BTF needs a type for the index, which C does not have. clang uses this name.
    const indexId = this.int("__ARRAY_SIZE_TYPE__", 4);
    return this.add(BTF_KIND_ARRAY, "", 0, { rest: [elementId, indexId, length] });
  }

  /** Adds a struct. @param name name of the struct; empty if it is anonymous */
  struct(name: string, size: number, members: readonly NewMember[]): number {
    return this.#composite(BTF_KIND_STRUCT, name, size, members);
  }

  /** Adds a union. @param name name of the union; empty if it is anonymous */
  union(name: string, size: number, members: readonly NewMember[]): number {
    return this.#composite(BTF_KIND_UNION, name, size, members);
  }

  /** Returns the raw BTF. */
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

  /**
   * Adds a type of any kind, by the kernel's number of the kind (`BTF_KIND_*`).
   *
   * @param kind number of the kind
   * @param name name of the type; empty if it is anonymous
   * @param sizeOrTypeId third word of the type
   * @param options `flag` is `kind_flag`; `rest` are the words after the third; `entries` are the words of each entry; `count` is
   *   `vlen`, by default the number of entries
   */
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

  /** Returns the offset of a name in the string section, after adding it if it is new. */
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

/** Builder of raw BTF with types of every kind. Maps use only the base class, which makes their bundle 1 kB smaller. */
export class BtfBuilder extends DataBtfBuilder {
  float(name: string, size: number): number {
    return this.add(BTF_KIND_FLOAT, name, size);
  }

  /** Adds a type that refers to another one. @param name name, for kinds that have names (`typedef` and `type_tag`) */
  reference(
    kind: "ptr" | "typedef" | "const" | "volatile" | "restrict" | "type_tag",
    typeId: number,
    name = "",
  ): number {
    return this.add(kindNumbers[kind], name, typeId);
  }

  /** Adds an enum. Its values have 64 bits if its size is 8, otherwise 32 bits. */
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

  /** Adds a function prototype. @param parameters for C's `...`, a last parameter with type id 0 and an empty name */
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

  /** Adds a declaration tag. @param componentIndex index of the tagged member or parameter; -1 to tag the type itself */
  declarationTag(name: string, typeId: number, componentIndex = -1): number {
    return this.add(BTF_KIND_DECL_TAG, name, typeId, { rest: [componentIndex >>> 0] });
  }
}
