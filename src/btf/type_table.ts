import {
  BTF_INT_BOOL,
  BTF_INT_CHAR,
  BTF_INT_SIGNED,
  BTF_KIND_ARRAY,
  BTF_KIND_DATASEC,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_INT,
  BTF_KIND_STRUCT,
  BTF_KIND_UNION,
} from "../uapi/btf.ts";
import type {
  BtfEnumerator,
  BtfInteger,
  BtfKind,
  BtfMember,
  BtfType,
  BtfVariable,
} from "./description.ts";
import { kindMask, kindNames, type RawBtf, sizedKinds } from "./format.ts";

/** A type in the words of the table that has it. */
interface Place {
  readonly table: TypeTable;
  readonly at: number;
}

/** The types of a BTF by their ids, decoded as they are asked for. The types of a base come first. */
export class TypeTable {
  readonly #words: Uint32Array;
  readonly #strings: Buffer;
  /** Index into #words of each type, by type id less `#before`. */
  readonly #starts: Uint32Array;
  readonly #base: TypeTable | undefined;
  /** Ids below the first one of this table's own, less the one of void. */
  readonly #before: number;
  readonly #stringsBefore: number;

  constructor({ words, strings, starts }: RawBtf, base?: TypeTable) {
    this.#words = words;
    this.#strings = strings;
    this.#starts = starts;
    this.#base = base;
    this.#before = base === undefined ? 0 : base.length - 1;
    this.#stringsBefore = base === undefined ? 0 : base.#stringsEnd;
  }

  /** Number of types, void and those of the base included. */
  get length(): number {
    return this.#before + this.#starts.length;
  }

  /** @throws {RangeError} when there is no such type */
  type(id: number): BtfType {
    if (id === 0) return { id, kind: "void", name: "", size: 0, typeId: 0, length: 0 };
    const { table, at } = this.#place(id);
    const words = table.#words;
    const kind = table.#kindAt(at);
    const sizeOrType = words[at + 2] as number;
    const hasSize = sizedKinds.has(kind);
    const isArray = kind === BTF_KIND_ARRAY;
    return {
      id,
      kind: kindNames[kind] as BtfKind,
      name: table.#string(words[at] as number),
      size: hasSize ? sizeOrType : 0,
      typeId: isArray ? (words[at + 3] as number) : hasSize ? 0 : sizeOrType,
      length: isArray ? (words[at + 5] as number) : 0,
    };
  }

  /** The id of the first type with this name and kind, or `undefined`. */
  find(kind: BtfKind, name: string): number | undefined {
    const nameOffsets = this.#stringOffsets(name);
    if (nameOffsets.length === 0) return undefined;
    const inBase = this.#base?.find(kind, name);
    if (inBase !== undefined) return inBase;
    const [first] = nameOffsets;
    for (let index = 1; index < this.#starts.length; index++) {
      const at = this.#starts[index] as number;
      const nameOffset = this.#words[at] as number;
      if (nameOffset !== first && !nameOffsets.includes(nameOffset)) continue;
      if (kindNames[this.#kindAt(at)] === kind) return this.#before + index;
    }
    return undefined;
  }

  /** All ids of this kind, in order. */
  *ids(kind: BtfKind): Generator<number, void, undefined> {
    if (this.#base !== undefined) yield* this.#base.ids(kind);
    for (let index = 1; index < this.#starts.length; index++) {
      if (kindNames[this.#kindAt(this.#starts[index] as number)] === kind) {
        yield this.#before + index;
      }
    }
  }

  /** The members of a struct or union. @throws {RangeError} for another kind */
  members(id: number): BtfMember[] {
    const { table, at, count, flag } = this.#entries(
      id,
      [BTF_KIND_STRUCT, BTF_KIND_UNION],
      "only structs and unions have members",
    );
    const words = table.#words;
    return Array.from({ length: count }, (_, index) => {
      const member = at + 3 + index * 3;
      const offset = words[member + 2] as number;
      return {
        name: table.#string(words[member] as number),
        typeId: words[member + 1] as number,
        // With the flag set, the upper 8 bits of the offset are the width of a bit-field.
        bitOffset: flag ? offset & 0xffffff : offset,
        bitSize: flag ? offset >>> 24 : 0,
      };
    });
  }

  /** The enumerators of an enum. @throws {RangeError} for another kind */
  enumerators(id: number): BtfEnumerator[] {
    const { table, at, count, flag } = this.#entries(
      id,
      [BTF_KIND_ENUM, BTF_KIND_ENUM64],
      "not an enum",
    );
    const words = table.#words;
    if (table.#kindAt(at) === BTF_KIND_ENUM) {
      return Array.from({ length: count }, (_, index) => {
        const value = words[at + 4 + index * 2] as number;
        const name = table.#string(words[at + 3 + index * 2] as number);
        return { name, value: flag ? value | 0 : value };
      });
    }
    return Array.from({ length: count }, (_, index) => {
      const entry = at + 3 + index * 3;
      const bits = (BigInt(words[entry + 2] as number) << 32n) | BigInt(words[entry + 1] as number);
      const value = flag ? BigInt.asIntN(64, bits) : bits;
      return {
        name: table.#string(words[entry] as number),
        value: Number.isSafeInteger(Number(value)) ? Number(value) : value,
      };
    });
  }

  /** Whether the values of an enum have a sign. */
  isSignedEnum(id: number): boolean {
    return this.#entries(id, [BTF_KIND_ENUM, BTF_KIND_ENUM64], "not an enum").flag;
  }

  /** The variables of a section. @throws {RangeError} for another kind */
  variables(id: number): BtfVariable[] {
    const { table, at, count } = this.#entries(
      id,
      [BTF_KIND_DATASEC],
      "only sections have variables",
    );
    const words = table.#words;
    return Array.from({ length: count }, (_, index) => {
      const entry = at + 3 + index * 3;
      const variable = this.type(words[entry] as number);
      return {
        name: variable.name,
        typeId: variable.kind === "var" ? variable.typeId : variable.id,
        offset: words[entry + 1] as number,
        size: words[entry + 2] as number,
      };
    });
  }

  /** How an integer is to be understood. @throws {RangeError} for another kind */
  integer(id: number): BtfInteger {
    const { table, at } = this.#entries(id, [BTF_KIND_INT], "not an integer");
    const word = table.#words[at + 3] as number;
    const encoding = (word >>> 24) & 0xf;
    return {
      isSigned: (encoding & BTF_INT_SIGNED) !== 0,
      isBool: (encoding & BTF_INT_BOOL) !== 0,
      isChar: (encoding & BTF_INT_CHAR) !== 0,
      bitOffset: (word >>> 16) & 0xff,
      bitSize: word & 0xff,
    };
  }

  /** @param refusal why another kind has none */
  #entries(
    id: number,
    kinds: readonly number[],
    refusal: string,
  ): Place & { readonly count: number; readonly flag: boolean } {
    const { table, at } = this.#place(id);
    const kind = table.#kindAt(at);
    if (!kinds.includes(kind)) {
      throw new RangeError(`BTF type ${id} is of the kind ${kindNames[kind]}: ${refusal}`);
    }
    const info = table.#words[at + 1] as number;
    return { table, at, count: info & 0xffff, flag: info >>> 31 === 1 };
  }

  #place(id: number): Place {
    if (this.#base !== undefined && id <= this.#before) return this.#base.#place(id);
    const at = this.#starts[id - this.#before];
    if (at === undefined || id === 0) {
      throw new RangeError(`BTF type id ${id} is not in 1..${this.length - 1}`);
    }
    return { table: this, at };
  }

  #kindAt(at: number): number {
    return ((this.#words[at + 1] as number) >>> 24) & kindMask;
  }

  get #stringsEnd(): number {
    return this.#stringsBefore + this.#strings.length;
  }

  #string(offset: number): string {
    if (this.#base !== undefined && offset < this.#stringsBefore) return this.#base.#string(offset);
    const start = offset - this.#stringsBefore;
    return this.#strings.toString("utf8", start, this.#strings.indexOf(0, start));
  }

  /** Where a name is among the strings, the base's included. */
  #stringOffsets(name: string): number[] {
    const offsets = this.#base === undefined ? [] : this.#base.#stringOffsets(name);
    // What begins here without a NUL before it is a name too, behind those of a base.
    if (this.#base !== undefined && this.#strings.indexOf(`${name}\0`) === 0) {
      offsets.push(this.#stringsBefore);
    }
    const needle = Buffer.from(`\0${name}\0`);
    for (
      let at = this.#strings.indexOf(needle);
      at !== -1;
      at = this.#strings.indexOf(needle, at + 1)
    ) {
      offsets.push(this.#stringsBefore + at + 1);
    }
    return offsets;
  }
}
