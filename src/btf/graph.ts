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

/** A BTF type: a type, function, variable or section. Properties that a kind does not have are 0, empty or absent. */
export interface BtfType {
  /** Id of the type in its BTF; 0 for void. */
  readonly id: number;
  /** Kind of the type, such as `"struct"`. */
  readonly kind: BtfKind;
  /** Name in C; empty for anonymous types. */
  readonly name: string;
  /**
   * Size in bytes of an `int`, `float`, `enum`, `enum64`, `struct`, `union` or `datasec`; 0 for other kinds. {@link BtfGraph.sizeOf}
   * returns the size of values of any type.
   */
  readonly size: number;
  /**
   * Id of the type that this type refers to: the target of a pointer, typedef, qualifier or tag, the type of a variable, the
   * element of an array, the prototype of a function, or the result of a prototype. 0 stands for void or for no type.
   */
  readonly typeId: number;
  /** Number of elements of an `array`; 0 for other kinds. */
  readonly length: number;
  /** Linkage of a `func` or `var`. */
  readonly linkage?: BtfLinkage;
  /**
   * True for an `enum` or `enum64` with signed values. Compilers before clang 15 do not record the sign: for them it is
   * derived from the enumerators (see {@link BtfGraph.enumerators}).
   */
  readonly isSigned?: boolean;
  /** Kind of the type that a forward declaration (`fwd`) declares. */
  readonly declares?: "struct" | "union";
  /** Index of the member or parameter that a `decl_tag` marks; -1 if it marks the type itself. */
  readonly componentIndex?: number;
}

/** A member of a struct or union. */
export interface BtfMember {
  /** Name of the member; empty for anonymous structs and unions, and for unnamed bit-fields. */
  readonly name: string;
  /** Id of the member's type. */
  readonly typeId: number;
  /** Offset in bits from the start of the struct. */
  readonly bitOffset: number;
  /** Width of a bit-field in bits, also if only its integer type records the width (compilers before 2019); 0 for other members. */
  readonly bitSize: number;
}

/** Offset, size and type of a field in a struct. */
export interface BtfField {
  /** Offset in bytes from the start of the struct. */
  readonly offset: number;
  /** Size in bytes. */
  readonly size: number;
  /** Id of the field's type. */
  readonly typeId: number;
}

/** An enumerator of an enum. */
export interface BtfEnumerator {
  /** Name of the enumerator. */
  readonly name: string;
  /** Value of the enumerator: a number if it is a safe integer, otherwise a bigint. */
  readonly value: number | bigint;
}

/** A parameter of a function. C's `...` is a last parameter with an empty name and type id 0. */
export interface BtfParameter {
  /** Name of the parameter; empty if the BTF does not record it. */
  readonly name: string;
  /** Id of the parameter's type. */
  readonly typeId: number;
}

/** A variable in a section of global data. */
export interface BtfVariable {
  /** Name of the variable. */
  readonly name: string;
  /** Id of the type of its value. */
  readonly typeId: number;
  /** Offset in bytes from the start of the section. */
  readonly offset: number;
  /** Size in bytes. */
  readonly size: number;
}

/** Encoding of an integer type. */
export interface BtfInteger {
  /** True for a signed integer. */
  readonly isSigned: boolean;
  /** True for `bool`. */
  readonly isBool: boolean;
  /** True for a character. Compilers rarely set this flag: gcc and clang encode `char` like any other integer. */
  readonly isChar: boolean;
  /** Offset of the value's first bit in the bytes of the type. */
  readonly bitOffset: number;
  /** Number of bits of the value. It is smaller than the size for bit-fields from compilers before 2019. */
  readonly bitSize: number;
}

/** A tag of a type, function, variable, member or parameter: `__attribute__((btf_decl_tag("...")))` in C. */
export interface BtfTag {
  /** Text of the tag. */
  readonly name: string;
  /** Index of the tagged member or parameter; -1 if the type itself is tagged. */
  readonly componentIndex: number;
}

const pointerSize = 8;

/** Returns the suffix of a message that suggests a similar name; empty if there is none. */
function suggestionAmong(name: string, known: Iterable<string>): string {
  const hint = suggestion(name, known);
  return hint === undefined ? "" : `: ${hint}`;
}

/** Greatest number of typedefs, qualifiers and arrays in a chain. The kernel accepts more, but programs do not have them. */
const maxChainLength = 32;
/** Greatest number of ids in a message. */
const maxListedIds = 100;
/**
 * Number of look-ups that search the strings. Afterwards an index is built, which takes as long as about 50 searches
 * (bench/btf.ts).
 */
const searchesBeforeIndex = 32;
/**
 * Greatest number of strings ending with a name for which a search is faster than the index. Short names have many such
 * strings.
 */
const maxMatches = 16;

/** Hash table of types by name: `next[id]` is the next type in the chain that begins at `heads[hash]`. */
interface NameIndex {
  readonly heads: Uint32Array;
  readonly next: Uint32Array;
}

/** A NUL-terminated name, which begins at `at`. */
interface NamePlace {
  readonly bytes: Uint8Array;
  readonly at: number;
}

/**
 * Graph of the types in BTF, by their ids. Methods decode a type when they need it. If the graph has a base, the base's types come
 * first, and the ids continue after them.
 */
export class BtfGraph {
  readonly #words: Uint32Array;
  readonly #strings: Buffer;
  /** Index of each type in #words, by type id minus `#before`. */
  readonly #starts: Uint32Array;
  /** Offset of each type's name, by type id minus `#before`. */
  readonly #names: Uint32Array;
  readonly #base: BtfGraph | undefined;
  /** Number of types in the base, without void. */
  readonly #before: number;
  readonly #stringsBefore: number;
  #searches = 0;
  #index: NameIndex | undefined;
  #tags: ReadonlyMap<number, readonly BtfTag[]> | undefined;
  #signsRecorded: boolean | undefined;
  /** True for enums that look signed, by id, if the compiler does not record signs. */
  readonly #signs = new Map<number, boolean>();

  /** Parses raw BTF. @throws {RangeError} if the bytes are not little-endian BTF, or are truncated or damaged. */
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

  /** Number of types, including void (id 0) and the types of the base. Ids are from 0 to `length - 1`. */
  get length(): number {
    return this.#before + this.#starts.length;
  }

  /**
   * Returns the type with this id.
   *
   * @throws {RangeError} if no type has this id.
   */
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
   * Returns the id of the type with this kind and name; `undefined` if there is none.
   *
   * The first look-ups search all names; after about 32 of them an index is built.
   *
   * @throws {RangeError} if several types have the kind and name, as some structs of every kernel do. The message lists their ids,
   *   and {@link findAll} returns them.
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
        `this BTF has ${ids.length} types of the kind ${kind} with the name ${name}: ${formatIds(ids)}; findAll() returns their ids`,
      );
    }
    return ids[0];
  }

  /**
   * Returns the ids of all types with this kind and name, in ascending order. There are several if source files of one program
   * define different types with the same name.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * for (const id of btf.findAll("struct", "list_head")) console.log(id, btf.declaration(id));
   * ```
   */
  findAll(kind: BtfKind, name: string): number[] {
    // Anonymous types cannot be found by name, and names have no NUL.
    if (name === "" || name.includes("\0")) return [];
    const ids: number[] = [];
    this.#find(kindNumbers[kind], Buffer.from(name), ids);
    return ids;
  }

  /**
   * @internal Returns `: did you mean "task_struct"?` if a type of these kinds has a similar name; otherwise an empty string. It
   * compares all names, so it is only for errors.
   */
  suggestion(name: string, ...kinds: BtfKind[]): string {
    return suggestionAmong(name, this.#namesOf(kinds));
  }

  *#namesOf(kinds: readonly BtfKind[]): Generator<string, void, undefined> {
    for (const kind of kinds) for (const id of this.ids(kind)) yield this.type(id).name;
  }

  /** Yields the ids of all types of this kind, in ascending order. */
  *ids(kind: BtfKind): Generator<number, void, undefined> {
    if (this.#base !== undefined) yield* this.#base.ids(kind);
    const number = kindNumbers[kind];
    for (let index = 1; index < this.#starts.length; index++) {
      if (this.#kindAt(index) === number) yield this.#before + index;
    }
  }

  /**
   * Returns the members of a struct or union, in order. Anonymous structs and unions are members with an empty name.
   *
   * @throws {RangeError} if the type is of another kind, or no type has this id.
   */
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
   * Returns the enumerators of an enum, in order.
   *
   * Compilers before clang 15 do not record whether an enum is signed. If no enum of this BTF is marked as signed, a 32-bit enum
   * counts as signed if one of its values would be negative and is not a mask of upper bits such as `0x80000000` or `0xffffff00`.
   *
   * @throws {RangeError} if the type is of another kind, or no type has this id.
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
   * Returns the parameters of a function (`func`) or a function prototype (`func_proto`), in order. The result type is the
   * prototype's `typeId`. Compilers record the parameter names of functions, but not of function pointers.
   *
   * @throws {RangeError} if the type is of another kind, or no type has this id.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("func", "tcp_connect") ?? btf.find("func", "schedule");
   * if (id === undefined) throw new Error("this kernel has no function schedule()");
   * console.log(btf.type(id).name, btf.parameters(id).map(({ name }) => name));
   * ```
   */
  parameters(id: number): BtfParameter[] {
    const type = this.type(id);
    const prototypeId = type.kind === "func" ? type.typeId : id;
    this.#info(prototypeId, ["func_proto"], "only functions have parameters");
    return this.#entries(prototypeId, 2, (name, typeId) => ({ name: this.#string(name), typeId }));
  }

  /**
   * Returns the variables of a section (`datasec`) such as `.data` or `.bss`, in order.
   *
   * @throws {RangeError} if the type is of another kind, or no type has this id.
   */
  variables(id: number): BtfVariable[] {
    this.#info(id, ["datasec"], "only sections have variables");
    return this.#entries(id, 3, (variableId, offset, size) => {
      const variable = this.type(variableId);
      const typeId = variable.kind === "var" ? variable.typeId : variable.id;
      return { name: variable.name, typeId, offset, size };
    });
  }

  /**
   * Returns the encoding of an integer (`int`).
   *
   * @throws {RangeError} if the type is of another kind, or no type has this id.
   */
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
   * Returns the declaration tags (`decl_tag`) of a function, struct, union, variable or typedef, and of its members or parameters.
   * Newer kernels tag their kfuncs with `"bpf_kfunc"`. The first call reads all types.
   */
  tags(id: number): readonly BtfTag[] {
    this.#tags ??= this.#readTags();
    return this.#tags.get(id) ?? [];
  }

  /**
   * Returns the type that typedefs and qualifiers (const, volatile, restrict and type tags) refer to in the end; the type
   * itself if it is neither a typedef nor a qualifier.
   *
   * @throws {RangeError} if the chain has more than 32 types, or no type has this id.
   */
  resolve(id: number): BtfType {
    let type = this.type(id);
    for (let steps = 0; transparentKinds.has(type.kind); steps++) {
      if (steps === maxChainLength) throw chainError(id);
      type = this.type(type.typeId);
    }
    return type;
  }

  /**
   * Returns the size of a value of this type in bytes. Pointers take 8 bytes; flexible arrays, functions and void take 0.
   *
   * @throws {RangeError} if the size is over 2^53 - 1, or no type has this id.
   */
  sizeOf(id: number): number {
    let type = this.resolve(id);
    let count = 1;
    for (let steps = 0; type.kind === "array"; steps++) {
      if (steps === maxChainLength) throw chainError(id);
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
   * Returns the offset, size and type of a field in a struct or union. Members of anonymous structs and unions count as members of
   * the outer struct, as in C.
   *
   * @param struct name of the struct or union, or its id. If several have the name, all must have the field at the same offset.
   * @param path name of the field, such as `"tgid"`, or a path through nested structs, such as `"se.vruntime"`
   * @throws {RangeError} if no struct has the name, it has no such field, several structs with the name have the field at different
   *   offsets, or the field is a bit-field.
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
        `this BTF has ${ids.length} types with the name ${struct}, with ${path} at different offsets: pass one of their ids, ${formatIds(ids)}`,
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
      const member = isStruct ? this.member(type.id, name) : undefined;
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

  /** Yields the names of the members that a path can continue with. */
  *#memberNames(structId: number): Generator<string, void, undefined> {
    for (const { name } of this.#flatMembers(structId)) yield name;
  }

  /** @internal Returns the member of a struct or union, or of an anonymous struct or union in it, with a name. */
  member(structId: number, wanted: string): BtfMember | undefined {
    for (const member of this.#flatMembers(structId)) if (member.name === wanted) return member;
    return undefined;
  }

  /** Yields the named members of a struct, including those of its anonymous structs and unions. */
  *#flatMembers(structId: number): Generator<BtfMember, void, undefined> {
    // Each struct is visited once, so that damaged BTF with a struct inside itself ends.
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

  /** Adds the ids of the types with a kind and name, those of the base first. */
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
   * Searches for the name in the strings, and then for its offset among the name offsets of all types. Both use the engine's own
   * `indexOf`, which is fast before any code is compiled. Every string that ends with the name is a match, because a name can share
   * the end of a longer string, and strings can be repeated. Returns `undefined` if there are too many matches.
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
      if (equalsName(this.#place(this.#names[index] as number), name))
        ids.push(this.#before + index);
    }
  }

  #buildIndex(): NameIndex {
    const names = this.#names;
    const strings = this.#strings;
    const before = this.#stringsBefore;
    const heads = new Uint32Array(2 ** Math.ceil(Math.log2(names.length)));
    const next = new Uint32Array(names.length);
    const mask = heads.length - 1;
    // The loop runs from last to first, so that each chain is in ascending order of ids.
    for (let index = names.length - 1; index > 0; index--) {
      const offset = names[index] as number;
      if (offset === 0) continue;
      let hash = 0;
      if (offset < before) {
        hash = hashOf(this.#place(offset));
      } else {
        // This is hashOf() without a call for each name: the loop runs once, mostly before the engine has compiled it.
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

  /** Returns true for an enum of this BTF (not of its base) that is marked as signed, or looks signed if signs are not recorded. */
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

  /** Returns true if the compiler recorded which enums are signed: some enum is marked as signed, or has 64 bits. */
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
   * Returns the first bit and the width of a member whose bit-field is recorded in its integer type; width 0 if it is not a
   * bit-field.
   *
   * @param bit first bit of the member in its first byte
   */
  #partOfInteger(
    typeId: number,
    bit: number,
  ): { readonly firstBit: number; readonly width: number } {
    // This runs for every member, so it reads the words instead of making an object for each type.
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

  /** Returns the word `info` of a type. @throws {RangeError} with `reason` if the type is of another kind. */
  #info(id: number, kinds: readonly BtfKind[], reason: string): number {
    const graph = this.#ownerOf(id);
    const info = graph.#words[graph.#startOf(id) + 1] as number;
    const kind = nameOfKind(kindOf(info));
    if (!kinds.includes(kind)) {
      throw new RangeError(`BTF type ${id} is of the kind ${kind}: ${reason}`);
    }
    return info;
  }

  /** Decodes the entries of a type. @param size number of words of each entry, 2 or 3 */
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

  /** Returns the graph that contains the type: this one or a base. @throws {RangeError} if no type has this id. */
  #ownerOf(id: number): BtfGraph {
    if (!Number.isInteger(id) || id <= 0 || id >= this.length) {
      throw new RangeError(
        `BTF type id: expected an integer from 1 to ${this.length - 1}, got ${id}`,
      );
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

  /** Locates the name at a string offset, in this graph or a base. */
  #place(offset: number): NamePlace {
    let owner: BtfGraph = this;
    while (owner.#base !== undefined && offset < owner.#stringsBefore) owner = owner.#base;
    return { bytes: owner.#strings, at: offset - owner.#stringsBefore };
  }

  /** @internal Returns a string by its offset, as line information refers to it. */
  stringAt(offset: number): string {
    return this.#string(offset);
  }

  #string(offset: number): string {
    const { bytes, at } = this.#place(offset);
    const end = bytes.indexOf(0, at);
    // In damaged BTF an offset can be beyond the strings.
    return end === -1 ? "" : utf8Slice.call(bytes, at, end);
  }
}

// Bun's method decodes a range of bytes without a view of the range.
const { utf8Slice } = Buffer.prototype;

const transparentKinds = new Set<BtfKind>(["typedef", "volatile", "const", "restrict", "type_tag"]);

function nameOfKind(kind: number): BtfKind {
  return kindNames[kind as keyof typeof kindNames];
}

/** Adds the linkage to a type, unless the number is unknown, as in damaged BTF. */
function withLinkage(type: BtfType, number: number): BtfType {
  const linkage = linkages[number];
  return linkage === undefined ? type : { ...type, linkage };
}

/** Compares a NUL-terminated name with another one. */
function equalsName({ bytes, at }: NamePlace, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index++) {
    if (bytes[at + index] !== name[index]) return false;
  }
  return bytes[at + name.length] === 0;
}

/** Hashes the bytes of a name up to its NUL, or to the end of the bytes. */
function hashOf({ bytes, at }: NamePlace): number {
  let hash = 0;
  for (let byte = bytes[at]; byte; byte = bytes[++at]) hash = (Math.imul(hash, 31) + byte) | 0;
  // The multiplication mixes all bits into the low bits of the result, which choose the chain.
  return Math.imul(hash, 0x9e3779b1) >>> 8;
}

/** Result of `#partOfInteger` for a member that is not a bit-field. */
const wholeType = { firstBit: 0, width: 0 } as const;

/** Returns true for an enum value that would be negative if signed, unless it is a mask of upper bits: `0x80000000`, `0xffffff00`. */
function looksNegative(value: number): boolean {
  const negated = -(value | 0);
  const isMask = (negated & (negated - 1)) === 0 && negated > 0x80;
  return negated > 0 && !isMask;
}

/** Formats a list of ids for a message, at most the first 100. */
function formatIds(ids: readonly number[]): string {
  const rest = ids.length - maxListedIds;
  return rest > 0 ? `${ids.slice(0, maxListedIds).join(", ")} and ${rest} more` : ids.join(", ");
}

function chainError(id: number): RangeError {
  return new RangeError(
    `BTF type ${id} leads through a chain of more than ${maxChainLength} types`,
  );
}
