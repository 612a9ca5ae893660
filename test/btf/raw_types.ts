/** @module Builder of raw BTF for tests, also of types that the library's own builder does not make. */
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
  BTF_KIND_VAR,
  BTF_KIND_VOLATILE,
  BTF_MAGIC,
} from "../../src/uapi/btf.ts";

/** A member with its offset in bits. Bit-fields also have a width in bits. */
export interface RawMember {
  readonly name: string;
  readonly type: number;
  readonly bit: number;
  readonly bits?: number;
}

const kindFlag = 1 << 31;

/** Builder of raw BTF. Its methods return the id of the new type. */
export class RawTypes {
  readonly #words: number[] = [];
  readonly #nextId: () => number;
  #count = 0;
  #nextName: number | undefined;
  readonly #strings: Buffer[] = [];
  #stringsLength = 0;
  readonly #stringsBefore: number;

  /** @param base number of types in the base, void included, and the size of its strings in bytes */
  constructor(base?: { readonly length: number; readonly stringsLength: number }) {
    const first = base?.length ?? 1;
    this.#nextId = () => first + this.#count;
    this.#stringsBefore = base?.stringsLength ?? 0;
    if (base === undefined) this.#addString("");
  }

  get stringsLength(): number {
    return this.#stringsBefore + this.#stringsLength;
  }

  /** Number of types, void included. */
  get length(): number {
    return this.#nextId();
  }

  int(name: string, size: number, encoding = 0, bits = size * 8, offset = 0): number {
    return this.#add(name, BTF_KIND_INT << 24, size, (encoding << 24) | (offset << 16) | bits);
  }

  float(name: string, size: number): number {
    return this.#add(name, BTF_KIND_FLOAT << 24, size);
  }

  ptr(type: number): number {
    return this.#add("", BTF_KIND_PTR << 24, type);
  }

  array(type: number, length: number): number {
    return this.#add("", BTF_KIND_ARRAY << 24, 0, type, 1, length);
  }

  struct(name: string, size: number, members: readonly RawMember[]): number {
    return this.#composite(BTF_KIND_STRUCT, name, size, members);
  }

  union(name: string, size: number, members: readonly RawMember[]): number {
    return this.#composite(BTF_KIND_UNION, name, size, members);
  }

  enum(
    name: string,
    size: number,
    values: Readonly<Record<string, number>>,
    isSigned = false,
  ): number {
    const entries = Object.entries(values).flatMap(([key, value]) => [this.name(key), value]);
    const info = (BTF_KIND_ENUM << 24) | Object.keys(values).length;
    return this.#add(name, isSigned ? info | kindFlag : info, size, ...entries);
  }

  enum64(name: string, values: Readonly<Record<string, bigint>>, isSigned = false): number {
    const entries = Object.entries(values).flatMap(([key, value]) => [
      this.name(key),
      Number(BigInt.asUintN(32, value)),
      Number(BigInt.asUintN(32, value >> 32n)),
    ]);
    const info = (BTF_KIND_ENUM64 << 24) | Object.keys(values).length;
    return this.#add(name, isSigned ? info | kindFlag : info, 8, ...entries);
  }

  typedef(name: string, type: number): number {
    return this.#add(name, BTF_KIND_TYPEDEF << 24, type);
  }

  qualified(kind: "const" | "volatile" | "restrict", type: number): number {
    const kinds = {
      const: BTF_KIND_CONST,
      volatile: BTF_KIND_VOLATILE,
      restrict: BTF_KIND_RESTRICT,
    };
    return this.#add("", kinds[kind] << 24, type);
  }

  typeTag(name: string, type: number): number {
    return this.#add(name, BTF_KIND_TYPE_TAG << 24, type);
  }

  forward(name: string, declares: "struct" | "union" = "struct"): number {
    const info = BTF_KIND_FWD << 24;
    return this.#add(name, declares === "union" ? info | kindFlag : info, 0);
  }

  functionProto(
    returned: number,
    parameters: readonly (readonly [name: string, type: number])[] = [],
  ): number {
    const entries = parameters.flatMap(([name, type]) => [this.name(name), type]);
    return this.#add("", (BTF_KIND_FUNC_PROTO << 24) | parameters.length, returned, ...entries);
  }

  func(name: string, proto: number, linkage = 0): number {
    return this.#add(name, (BTF_KIND_FUNC << 24) | linkage, proto);
  }

  variable(name: string, type: number, linkage = 1): number {
    return this.#add(name, BTF_KIND_VAR << 24, type, linkage);
  }

  declTag(name: string, type: number, component = -1): number {
    return this.#add(name, BTF_KIND_DECL_TAG << 24, type, component);
  }

  /** Sets the offset of the next type's name in the strings, so that a name can be the end of another. */
  nameAt(offset: number): this {
    this.#nextName = offset;
    return this;
  }

  section(
    name: string,
    size: number,
    variables: readonly (readonly [type: number, offset: number, size: number])[],
  ): number {
    return this.#add(name, (BTF_KIND_DATASEC << 24) | variables.length, size, ...variables.flat());
  }

  encode(): Uint8Array {
    const header = [0x18, 0, this.#words.length * 4, this.#words.length * 4, this.#stringsLength];
    const words = Uint32Array.from([BTF_MAGIC | (1 << 16), ...header, ...this.#words]);
    return new Uint8Array(Buffer.concat([Buffer.from(words.buffer), ...this.#strings]));
  }

  /** Returns the offset of a name in the strings. */
  name(text: string): number {
    if (text === "") return 0;
    const offset = this.stringsLength;
    this.#addString(text);
    return offset;
  }

  #addString(text: string): void {
    const bytes = Buffer.from(`${text}\0`);
    this.#strings.push(bytes);
    this.#stringsLength += bytes.length;
  }

  #composite(kind: number, name: string, size: number, members: readonly RawMember[]): number {
    const hasBitFields = members.some(({ bits }) => bits !== undefined);
    const entries = members.flatMap(({ name: member, type, bit, bits = 0 }) => [
      this.name(member),
      type,
      hasBitFields ? (bits << 24) | bit : bit,
    ]);
    const info = (kind << 24) | members.length;
    return this.#add(name, hasBitFields ? info | kindFlag : info, size, ...entries);
  }

  #add(name: string, ...words: readonly number[]): number {
    const id = this.#nextId();
    this.#count++;
    this.#words.push(this.#nextName ?? this.name(name), ...words);
    this.#nextName = undefined;
    return id;
  }
}
