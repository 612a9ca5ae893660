import { suggestion } from "../check/names.ts";
import {
  BTF_INT_BOOL,
  BTF_INT_CHAR,
  BTF_INT_SIGNED,
  BTF_KIND_ARRAY,
  BTF_KIND_DECL_TAG,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_FUNC,
  BTF_KIND_FWD,
  BTF_KIND_INT,
  BTF_KIND_VAR,
} from "../uapi/btf.ts";
import {
  type BtfKind,
  type BtfLinkage,
  entryCountOf,
  flagOf,
  kindNames,
  kindNumbers,
  kindOf,
  linkages,
  parseRawBtf,
  sizedKinds,
} from "./format.ts";

/** One type of a Btf. `typeId` is the type it refers to where its kind refers to one (0 is void). */
export interface BtfType {
  readonly id: number;
  readonly kind: BtfKind;
  /** The C name; empty for anonymous types. */
  readonly name: string;
  /** Bytes, for kinds that have a size of their own; 0 otherwise. */
  readonly size: number;
  /** The type pointed to, aliased, qualified, tagged or returned; 0 for none or void. */
  readonly typeId: number;
  /** `BTF_KIND_ARRAY`: number of elements; 0 otherwise. */
  readonly length: number;
  /** The linkage of a function or variable; no other kind has one. */
  readonly linkage?: BtfLinkage;
  /**
   * True for an enum whose values are signed; no other kind has this. Compilers before clang 15 do not record it: then it is true
   * where an enumerator looks negative ({@link BtfGraph.enumerators}).
   */
  readonly isSigned?: boolean;
  /** The kind of type that a forward declaration declares; no other kind has this. */
  readonly declares?: "struct" | "union";
  /** The index of the member or parameter that a declaration tag marks, or -1 for the type itself; no other kind has this. */
  readonly componentIndex?: number;
}

/** A member of a struct or union. */
export interface BtfMember {
  readonly name: string;
  readonly typeId: number;
  /** From the start of the struct that was asked about, in bits. */
  readonly bitOffset: number;
  /** Width in bits for a bit-field, also where only its integer type has it (compilers before 2019); 0 otherwise. */
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

/** A parameter of a function. A last one without a name and of type 0 stands for C's `...`. */
export interface BtfParameter {
  /** The name; empty where the BTF has none. */
  readonly name: string;
  readonly typeId: number;
}

/** A variable of a section. */
export interface BtfVariable {
  readonly name: string;
  /** The type of its value. */
  readonly typeId: number;
  /** Bytes from the start of the section. */
  readonly offset: number;
  readonly size: number;
}

/** The encoding of an integer. */
export interface BtfInteger {
  readonly isSigned: boolean;
  readonly isBool: boolean;
  /** True for characters. Compilers seldom tell: gcc and clang make `char` an integer like any other. */
  readonly isChar: boolean;
  /** The first bit in the bytes of its type. */
  readonly bitOffset: number;
  /** Its width in bits. Compilers before 2019 gave bit-fields fewer bits than their bytes have. */
  readonly bitSize: number;
}

/** A tag of a type, a variable, a member or a parameter in the source: `__attribute__((btf_decl_tag("...")))`. */
export interface BtfTag {
  readonly name: string;
  /** The index of the member or parameter that has it, or -1 for the type itself. */
  readonly componentIndex: number;
}

const pointerSize = 8;

/** Returns the end of a message, which suggests a similar name. */
function suggestionAmong(name: string, known: Iterable<string>): string {
  const hint = suggestion(name, known);
  return hint === undefined ? "" : `: ${hint}`;
}

/** Longest chain of typedefs, qualifiers and arrays. The kernel takes longer ones, but no program has them. */
const maxChainLength = 32;
/** Most ids that a message lists. */
const maxListedIds = 100;
/** Look-ups that search the strings; after these, an index is built, which costs about 50 of them (bench/btf.ts). */
const searchesBeforeIndex = 32;
/** Strings that may end with a name, as many do with a short one, for a search to be faster than the index. */
const maxMatches = 16;

/** Type ids by a hash of their names: `next[id]` is the next type in the chain that begins at `heads[hash]`. */
interface NameIndex {
  readonly heads: Uint32Array;
  readonly next: Uint32Array;
}

/** Bytes with a name in them. */
interface NamePlace {
  readonly bytes: Uint8Array;
  readonly at: number;
}

/**
 * The types of a BTF and what they refer to, by their ids; each is decoded when it is asked for. The types of a base
 * come first: its ids go on here.
 */
export class BtfGraph {
  readonly #words: Uint32Array;
  readonly #strings: Buffer;
  /** Index into #words of each type, by type id less `#before`. */
  readonly #starts: Uint32Array;
  /** Offset of each type's name, by type id less `#before`. */
  readonly #names: Uint32Array;
  readonly #base: BtfGraph | undefined;
  /** Ids below the first one of this graph's own, less the one of void. */
  readonly #before: number;
  readonly #stringsBefore: number;
  #searches = 0;
  #index: NameIndex | undefined;
  #tags: ReadonlyMap<number, readonly BtfTag[]> | undefined;
  #signsRecorded: boolean | undefined;
  /** True for enums that look signed, by id, where the compiler does not record it. */
  readonly #signs = new Map<number, boolean>();

  /** @throws {RangeError} if the bytes are not BTF of this machine's byte order, or are damaged */
  constructor(bytes: Uint8Array, base: BtfGraph | undefined) {
    const { words, strings, starts, names } = parseRawBtf(bytes, base !== undefined);
    this.#words = words;
    this.#strings = Buffer.from(strings.buffer, strings.byteOffset, strings.byteLength);
    this.#starts = starts;
    this.#names = names;
    this.#base = base;
    this.#before = base === undefined ? 0 : base.length - 1;
    this.#stringsBefore = base === undefined ? 0 : base.#stringsBefore + base.#strings.length;
  }

  /** Number of types, void (id 0) and those of the base included. */
  get length(): number {
    return this.#before + this.#starts.length;
  }

  /** The type with this id. @throws {RangeError} if there is none */
  type(id: number): BtfType {
    if (id === 0) return { id, kind: "void", name: "", size: 0, typeId: 0, length: 0 };
    const graph = this.#ownerOf(id);
    const words = graph.#words;
    const at = graph.#startOf(id);
    const info = words[at + 1] as number;
    const kind = kindOf(info);
    const sizeOrType = words[at + 2] as number;
    const hasSize = sizedKinds.has(kind);
    const isArray = kind === BTF_KIND_ARRAY;
    const type = {
      id,
      kind: nameOfKind(kind),
      name: this.#string(words[at] as number),
      size: hasSize ? sizeOrType : 0,
      typeId: isArray ? (words[at + 3] as number) : hasSize ? 0 : sizeOrType,
      length: isArray ? (words[at + 5] as number) : 0,
    };
    switch (kind) {
      case BTF_KIND_FUNC:
        return withLinkage(type, entryCountOf(info));
      case BTF_KIND_VAR:
        return withLinkage(type, words[at + 3] as number);
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64:
        return { ...type, isSigned: graph.#isSigned(id) };
      case BTF_KIND_FWD:
        return { ...type, declares: flagOf(info) ? "union" : "struct" };
      case BTF_KIND_DECL_TAG:
        return { ...type, componentIndex: (words[at + 3] as number) | 0 };
      default:
        return type;
    }
  }

  /**
   * The id of the type with this name and kind, or `undefined`.
   *
   * The first few look-ups search the names, later ones use an index.
   *
   * @throws {RangeError} if several types of this kind have the name, as some structs of each kernel do: the message
   *   lists their ids, and {@link findAll} gives them
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * console.log(Btf.kernel().find("struct", "task_struct"));
   * ```
   */
  find(kind: BtfKind, name: string): number | undefined {
    const ids = this.findAll(kind, name);
    if (ids.length > 1) {
      throw new RangeError(
        `this BTF has ${ids.length} types of the kind ${kind} with the name ${name}: ${listed(ids)}; findAll() gives their ids`,
      );
    }
    return ids[0];
  }

  /**
   * The ids of all types with this name and kind, in order: more than one where files of one program have types of
   * their own with the same name.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * for (const id of btf.findAll("struct", "list_head")) console.log(id, btf.declaration(id));
   * ```
   */
  findAll(kind: BtfKind, name: string): number[] {
    // Anonymous types have no name to be found by, and none has a NUL in it.
    if (name === "" || name.includes("\0")) return [];
    const ids: number[] = [];
    this.#find(kindNumbers[kind], Buffer.from(name), ids);
    return ids;
  }

  /**
   * @internal Returns `: did you mean "task_struct"?` where the name of a type of these kinds is close to a misspelt one; otherwise
   * an empty string. It compares all names, so it is only for errors.
   */
  suggestion(name: string, ...kinds: BtfKind[]): string {
    return suggestionAmong(name, this.#namesOf(kinds));
  }

  *#namesOf(kinds: readonly BtfKind[]): Generator<string, void, undefined> {
    for (const kind of kinds) for (const id of this.ids(kind)) yield this.type(id).name;
  }

  /** All ids of this kind, in order. */
  *ids(kind: BtfKind): Generator<number, void, undefined> {
    if (this.#base !== undefined) yield* this.#base.ids(kind);
    const number = kindNumbers[kind];
    for (let index = 1; index < this.#starts.length; index++) {
      if (this.#kindAt(index) === number) yield this.#before + index;
    }
  }

  /** The members of a struct or union as declared: anonymous ones are not opened. @throws {RangeError} for another kind */
  members(id: number): BtfMember[] {
    const flag = flagOf(
      this.#info(id, ["struct", "union"], "only structs and unions have members"),
    );
    return this.#entries(id, 3, (nameOffset, typeId, offset) => {
      const name = this.#string(nameOffset);
      // With the flag set, the upper 8 bits of the offset are the width of a bit-field.
      const bitOffset = flag ? offset & 0xffffff : offset;
      const bitSize = flag ? offset >>> 24 : 0;
      if (bitSize !== 0) return { name, typeId, bitOffset, bitSize };
      const { firstBit, width } = this.#partOfInteger(typeId, bitOffset % 8);
      return { name, typeId, bitOffset: bitOffset + firstBit, bitSize: width };
    });
  }

  /**
   * The enumerators of an enum.
   *
   * Compilers before clang 15 do not record whether an enum is signed. Where no enum of this BTF is marked as signed, a 32-bit enum
   * counts as signed if one of its values would be negative and is not a mask of upper bits such as `0x80000000` or `0xffffff00`.
   *
   * @throws {RangeError} for another kind
   */
  enumerators(id: number): BtfEnumerator[] {
    const info = this.#info(id, ["enum", "enum64"], "not an enum");
    const isSigned = this.#ownerOf(id).#isSigned(id);
    if (kindOf(info) === BTF_KIND_ENUM) {
      return this.#entries(id, 2, (name, value) => ({
        name: this.#string(name),
        value: isSigned ? value | 0 : value,
      }));
    }
    return this.#entries(id, 3, (name, low, high) => {
      const bits = (BigInt(high) << 32n) | BigInt(low);
      const value = isSigned ? BigInt.asIntN(64, bits) : bits;
      return {
        name: this.#string(name),
        value: Number.isSafeInteger(Number(value)) ? Number(value) : value,
      };
    });
  }

  /**
   * The parameters of a function (`func`), or of the type of functions (`func_proto`); the result is `typeId` of the
   * latter. Linux's BTF names the parameters of functions only. @throws {RangeError} for another kind
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("func", "tcp_connect") ?? btf.find("func", "schedule");
   * if (id === undefined) throw new Error("this kernel has no functions");
   * console.log(btf.type(id).name, btf.parameters(id).map(({ name }) => name));
   * ```
   */
  parameters(id: number): BtfParameter[] {
    const type = this.type(id);
    const prototypeId = type.kind === "func" ? type.typeId : id;
    this.#info(prototypeId, ["func_proto"], "only functions have parameters");
    return this.#entries(prototypeId, 2, (name, typeId) => ({ name: this.#string(name), typeId }));
  }

  /** The variables of a section (`datasec`) of a program's global data. @throws {RangeError} for another kind */
  variables(id: number): BtfVariable[] {
    this.#info(id, ["datasec"], "only sections have variables");
    return this.#entries(id, 3, (variableId, offset, size) => {
      const variable = this.type(variableId);
      const typeId = variable.kind === "var" ? variable.typeId : variable.id;
      return { name: variable.name, typeId, offset, size };
    });
  }

  /** The encoding of an integer (`int`). @throws {RangeError} for another kind */
  integer(id: number): BtfInteger {
    this.#info(id, ["int"], "not an integer");
    const graph = this.#ownerOf(id);
    const word = graph.#words[graph.#startOf(id) + 3] as number;
    const encoding = (word >>> 24) & 0xf;
    return {
      isSigned: (encoding & BTF_INT_SIGNED) !== 0,
      isBool: (encoding & BTF_INT_BOOL) !== 0,
      isChar: (encoding & BTF_INT_CHAR) !== 0,
      bitOffset: (word >>> 16) & 0xff,
      bitSize: word & 0xff,
    };
  }

  /**
   * The tags of a declaration: of a function (the kernel marks its kfuncs by them), a struct and its members, a variable or
   * a typedef. The first call goes through all types.
   */
  tags(id: number): readonly BtfTag[] {
    this.#tags ??= this.#readTags();
    return this.#tags.get(id) ?? [];
  }

  /** Follows typedefs and qualifiers (const, volatile, restrict, type tags) to the type behind them. */
  resolve(id: number): BtfType {
    let type = this.type(id);
    for (let steps = 0; transparentKinds.has(type.kind); steps++) {
      if (steps === maxChainLength) throw endless(id);
      type = this.type(type.typeId);
    }
    return type;
  }

  /** Bytes that a value of this type takes. @throws {RangeError} if they are more than a number can count */
  sizeOf(id: number): number {
    let type = this.resolve(id);
    let count = 1;
    for (let steps = 0; type.kind === "array"; steps++) {
      if (steps === maxChainLength) throw endless(id);
      count *= type.length;
      type = this.resolve(type.typeId);
    }
    const size = count * (type.kind === "ptr" ? pointerSize : type.size);
    if (!Number.isSafeInteger(size)) {
      throw new RangeError(`BTF type ${id} is larger than any value: the bytes are damaged`);
    }
    return size;
  }

  /**
   * The place of a field in a struct or union: `"tgid"`, or a path `"mm.arg_start"` through embedded structs. Members of
   * anonymous structs and unions count as the outer struct's, as in C.
   *
   * @param struct its name, or its id. Several may have the name, as in kernels whose types were not merged whole: the place is
   *   that of all of them, if they agree
   * @throws {RangeError} if there is no such struct or field, several have the name and the field in different places, or the
   *   field is a bit-field
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * console.log(Btf.kernel().field("task_struct", "real_parent").offset);
   * ```
   */
  field(struct: string | number, path: string): BtfField {
    if (typeof struct === "number") return this.#field(struct, `${struct}`, path);
    const structs = this.findAll("struct", struct);
    const ids = structs.length > 0 ? structs : this.findAll("union", struct);
    const [first, ...others] = ids.map((id) => this.#field(id, struct, path));
    if (first === undefined) {
      const near = this.suggestion(struct, "struct", "union");
      throw new RangeError(`this BTF has no struct or union ${struct}${near}`);
    }
    if (others.some(({ offset, size }) => offset !== first.offset || size !== first.size)) {
      throw new RangeError(
        `this BTF has ${ids.length} types with the name ${struct}, and ${path} in different places: give one of their ids, ${listed(ids)}`,
      );
    }
    return first;
  }

  #field(structId: number, struct: string, path: string): BtfField {
    let typeId = structId;
    let bitOffset = 0;
    for (const name of path.split(".")) {
      const type = this.resolve(typeId);
      const isStruct = type.kind === "struct" || type.kind === "union";
      const member = isStruct ? this.#member(type.id, name) : undefined;
      if (member === undefined) {
        const hint = isStruct
          ? suggestionAmong(name, this.#memberNames(type.id))
          : `: the parent of ${JSON.stringify(name)} is ${this.#describe(type)}`;
        throw new RangeError(`${struct} has no field ${path} in this BTF${hint}`);
      }
      if (member.bitSize !== 0 || member.bitOffset % 8 !== 0) {
        throw new RangeError(`${struct}.${path} is a bit-field`);
      }
      bitOffset += member.bitOffset;
      typeId = member.typeId;
    }
    return { offset: bitOffset / 8, size: this.sizeOf(typeId), typeId };
  }

  #describe(type: BtfType): string {
    if (type.kind !== "ptr") return `of the kind ${type.kind}`;
    const { kind, name } = this.resolve(type.typeId);
    const target = kind === "struct" || kind === "union" ? ` to the ${kind} ${name}` : "";
    return `a pointer${target}, whose fields are elsewhere in memory`;
  }

  /** Yields the names that can follow a struct in a path. */
  *#memberNames(structId: number): Generator<string, void, undefined> {
    for (const { name } of this.#flatMembers(structId)) yield name;
  }

  #member(structId: number, wanted: string): BtfMember | undefined {
    for (const member of this.#flatMembers(structId)) if (member.name === wanted) return member;
    return undefined;
  }

  /** Yields the named members of a struct, with those of the anonymous structs and unions in it. */
  *#flatMembers(structId: number): Generator<BtfMember, void, undefined> {
    // Each struct is visited once: one that is repeated, or inside itself, adds no members.
    const places = new Map([[structId, 0]]);
    for (const [id, base] of places) {
      for (const member of this.members(id)) {
        const bitOffset = base + member.bitOffset;
        if (member.name !== "") {
          yield base === 0 ? member : { ...member, bitOffset };
          continue;
        }
        const inner = this.resolve(member.typeId);
        if (inner.kind !== "struct" && inner.kind !== "union") continue;
        if (!places.has(inner.id)) places.set(inner.id, bitOffset);
      }
    }
  }

  /** Adds the types of this name, those of the base first. */
  #find(kind: number, name: Buffer, ids: number[]): void {
    if (this.#base !== undefined) this.#base.#find(kind, name, ids);
    const found =
      this.#index === undefined && this.#searches++ < searchesBeforeIndex
        ? this.#search(name)
        : undefined;
    if (found === undefined) return this.#findInIndex(kind, name, ids);
    for (const index of found) {
      if (this.#kindAt(index) === kind) ids.push(this.#before + index);
    }
  }

  /**
   * Searches for the name in the strings, and then for its offset among those of all types: two loops of the engine's own,
   * which are fast before anything is compiled. Every string that ends with the name counts, as one may be used for
   * both, and the same one may be there twice. `undefined` when those are many.
   */
  #search(name: Buffer): number[] | undefined {
    const terminated = Buffer.concat([name, Buffer.of(0)]);
    const offsets: number[] = [];
    for (let owner: BtfGraph | undefined = this; owner !== undefined; owner = owner.#base) {
      const strings = owner.#strings;
      for (let at = strings.indexOf(terminated); at !== -1;) {
        if (offsets.push(owner.#stringsBefore + at) > maxMatches) return undefined;
        at = strings.indexOf(terminated, at + 1);
      }
    }
    const names = this.#names;
    const found: number[] = [];
    for (const offset of offsets) {
      for (let index = names.indexOf(offset, 1); index !== -1;) {
        found.push(index);
        index = names.indexOf(offset, index + 1);
      }
    }
    return found.sort((a, b) => a - b);
  }

  #findInIndex(kind: number, name: Buffer, ids: number[]): void {
    this.#index ??= this.#buildIndex();
    const { heads, next } = this.#index;
    const head = hashOf({ bytes: name, at: 0 }) & (heads.length - 1);
    for (let index = heads[head] as number; index !== 0; index = next[index] as number) {
      if (this.#kindAt(index) !== kind) continue;
      if (isName(this.#place(this.#names[index] as number), name)) ids.push(this.#before + index);
    }
  }

  #buildIndex(): NameIndex {
    const names = this.#names;
    const strings = this.#strings;
    const before = this.#stringsBefore;
    const heads = new Uint32Array(2 ** Math.ceil(Math.log2(names.length)));
    const next = new Uint32Array(names.length);
    const mask = heads.length - 1;
    // From the last, so that each chain is in the order of the ids.
    for (let index = names.length - 1; index > 0; index--) {
      const offset = names[index] as number;
      if (offset === 0) continue;
      let hash = 0;
      if (offset < before) {
        hash = hashOf(this.#place(offset));
      } else {
        // As hashOf(), without a call for each name: this runs once, mostly before the engine has compiled it.
        for (let at = offset - before, byte = strings[at]; byte; byte = strings[++at]) {
          hash = (Math.imul(hash, 31) + byte) | 0;
        }
        hash = Math.imul(hash, 0x9e3779b1) >>> 8;
      }
      next[index] = heads[hash & mask] as number;
      heads[hash & mask] = index;
    }
    return { heads, next };
  }

  #readTags(): ReadonlyMap<number, readonly BtfTag[]> {
    const tags = new Map<number, BtfTag[]>();
    for (const id of this.ids("decl_tag")) {
      const { name, typeId, componentIndex = -1 } = this.type(id);
      tags.getOrInsertComputed(typeId, () => []).push({ name, componentIndex });
    }
    return tags;
  }

  /**
   * Returns true for an enum of this BTF, not of its base, that is signed, or looks signed where the compiler does not record it.
   */
  #isSigned(id: number): boolean {
    const at = this.#startOf(id);
    const info = this.#words[at + 1] as number;
    if (flagOf(info)) return true;
    if (kindOf(info) === BTF_KIND_ENUM64 || this.#areSignsRecorded()) return false;
    return this.#signs.getOrInsertComputed(id, () => {
      const end = at + 3 + 2 * entryCountOf(info);
      for (let entry = at + 3; entry < end; entry += 2) {
        if (looksNegative(this.#words[entry + 1] as number)) return true;
      }
      return false;
    });
  }

  /** Returns true where the compiler records which enums are signed: one of them is, or has 64 bits. */
  #areSignsRecorded(): boolean {
    this.#signsRecorded ??=
      (this.#base !== undefined && this.#base.#areSignsRecorded()) ||
      this.#starts.some((start, index) => {
        if (index === 0) return false;
        const info = this.#words[start + 1] as number;
        const kind = kindOf(info);
        return kind === BTF_KIND_ENUM64 || (kind === BTF_KIND_ENUM && flagOf(info));
      });
    return this.#signsRecorded;
  }

  /**
   * Returns the bits that the integer type of a member has, where its struct does not record them; width 0 for whole bytes.
   *
   * @param bit the bit of a byte at which the member begins
   */
  #partOfInteger(
    typeId: number,
    bit: number,
  ): { readonly firstBit: number; readonly width: number } {
    // No object is made for each type: this runs for every member.
    let id = typeId;
    for (let steps = 0; id !== 0 && steps <= maxChainLength; steps++) {
      const graph = this.#ownerOf(id);
      const words = graph.#words;
      const at = graph.#startOf(id);
      const kind = kindOf(words[at + 1] as number);
      if (kind === BTF_KIND_INT) {
        const bits = (words[at + 2] as number) * 8;
        const encoding = words[at + 3] as number;
        const firstBit = (encoding >>> 16) & 0xff;
        const width = encoding & 0xff || bits;
        const isWhole = bit === 0 && firstBit === 0 && width >= bits;
        return isWhole ? wholeType : { firstBit, width };
      }
      if (!transparentKinds.has(nameOfKind(kind))) break;
      id = words[at + 2] as number;
    }
    return wholeType;
  }

  /** The word `info` of a type of one of these kinds. @throws {RangeError} with the refusal for another kind */
  #info(id: number, kinds: readonly BtfKind[], refusal: string): number {
    const graph = this.#ownerOf(id);
    const info = graph.#words[graph.#startOf(id) + 1] as number;
    const kind = nameOfKind(kindOf(info));
    if (!kinds.includes(kind)) {
      throw new RangeError(`BTF type ${id} is of the kind ${kind}: ${refusal}`);
    }
    return info;
  }

  /** Decodes the entries of a type, whose words are given to `decode`. @param size words that each takes, 2 or 3 */
  #entries<T>(
    id: number,
    size: number,
    decode: (first: number, second: number, third: number) => T,
  ): T[] {
    const graph = this.#ownerOf(id);
    const words = graph.#words;
    const at = graph.#startOf(id);
    return Array.from({ length: entryCountOf(words[at + 1] as number) }, (_, index) => {
      const entry = at + 3 + index * size;
      return decode(words[entry] as number, words[entry + 1] as number, words[entry + 2] as number);
    });
  }

  /** The graph whose own type this is: itself, or a base. @throws {RangeError} if there is no such type */
  #ownerOf(id: number): BtfGraph {
    if (!Number.isInteger(id) || id <= 0 || id >= this.length) {
      throw new RangeError(`BTF type id ${id} is not in 1..${this.length - 1}`);
    }
    let owner: BtfGraph = this;
    while (owner.#base !== undefined && id <= owner.#before) owner = owner.#base;
    return owner;
  }

  #startOf(id: number): number {
    return this.#starts[id - this.#before] as number;
  }

  #kindAt(index: number): number {
    return kindOf(this.#words[(this.#starts[index] as number) + 1] as number);
  }

  /** Locates a name: in these strings, or in those of a base. */
  #place(offset: number): NamePlace {
    let owner: BtfGraph = this;
    while (owner.#base !== undefined && offset < owner.#stringsBefore) owner = owner.#base;
    return { bytes: owner.#strings, at: offset - owner.#stringsBefore };
  }

  #string(offset: number): string {
    const { bytes, at } = this.#place(offset);
    const end = bytes.indexOf(0, at);
    // Damaged BTF can have names beyond its strings.
    return end === -1 ? "" : utf8Slice.call(bytes, at, end);
  }
}

/** Decodes some of the bytes without making a view of them first. */
const { utf8Slice } = Buffer.prototype;

const transparentKinds = new Set<BtfKind>(["typedef", "volatile", "const", "restrict", "type_tag"]);

function nameOfKind(kind: number): BtfKind {
  return kindNames[kind as keyof typeof kindNames];
}

/** Damaged BTF can have a linkage that is none. */
function withLinkage(type: BtfType, number: number): BtfType {
  const linkage = linkages[number];
  return linkage === undefined ? type : { ...type, linkage };
}

/** Compares bytes with a name, up to its NUL. */
function isName({ bytes, at }: NamePlace, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index++) {
    if (bytes[at + index] !== name[index]) return false;
  }
  return bytes[at + name.length] === 0;
}

/** Hashes the bytes up to a NUL, or up to their end. */
function hashOf({ bytes, at }: NamePlace): number {
  let hash = 0;
  for (let byte = bytes[at]; byte; byte = bytes[++at]) hash = (Math.imul(hash, 31) + byte) | 0;
  // The low bits alone choose a chain.
  return Math.imul(hash, 0x9e3779b1) >>> 8;
}

/** The bits of a member that is not a bit-field. */
const wholeType = { firstBit: 0, width: 0 } as const;

/** Returns true for a value of an enum that would be negative, unless it is a mask of upper bits: `0x80000000`, `0xffffff00`. */
function looksNegative(value: number): boolean {
  const negated = -(value | 0);
  const isMask = (negated & (negated - 1)) === 0 && negated > 0x80;
  return negated > 0 && !isMask;
}

/** The first ids of a list, for a message. */
function listed(ids: readonly number[]): string {
  const rest = ids.length - maxListedIds;
  return rest > 0 ? `${ids.slice(0, maxListedIds).join(", ")} and ${rest} more` : ids.join(", ");
}

function endless(id: number): RangeError {
  return new RangeError(`BTF type ${id} leads through more than ${maxChainLength} others`);
}
