/** @module Writes the types of a BTF as a C header that compiles, like `bpftool btf dump format c`. */

import type { BtfGraph, BtfMember, BtfType } from "./graph.ts";

const indentation = "    ";

/** Most structs and arrays within one another, and longest chain of types. The kernel takes no more (MAX_RESOLVE_DEPTH). */
const maxDepth = 64;

/** Longest chain of definitions that need each other. Linux 6.18 has at most about 300. */
const maxChainLength = 1024;

/**
 * Returns the most characters that some types may yield, those inside others counted again for each: crafted types can repeat one
 * another any number of times. The types of Linux 6.18 yield about 30 each.
 */
function maxCharacters(typeCount: number): number {
  return 4 * 1024 * 1024 + 256 * typeCount;
}

/** Types that are built into compilers and cannot be defined. */
const builtIn: ReadonlySet<string> = new Set(["__builtin_va_list"]);

/** Attributes that give an enum a size other than that of `int`. */
const enumModes: ReadonlyMap<number, string> = new Map([
  [1, " __attribute__((mode(QI)))"],
  [2, " __attribute__((mode(HI)))"],
  [8, " __attribute__((mode(DI)))"],
]);

/**
 * Yields the definitions of types, each after those that it needs. Types that only pointers lead to are declared.
 *
 * @param roots the ids of the types to define
 */
export function cDefinitions(graph: BtfGraph, roots: Iterable<number>): Generator<string> {
  return new DefinitionOrder(graph).definitions(roots);
}

/** Puts definitions in an order in which each follows those that it needs. */
class DefinitionOrder {
  readonly #graph: BtfGraph;
  readonly #names: Names;
  readonly #printer: Printer;
  /** Types that are declared or defined, or are being defined. */
  readonly #declared = new Set<number>();
  readonly #defined = new Set<number>();
  readonly #defining = new Set<number>();
  readonly #ready: string[] = [];
  #depth = 0;

  constructor(graph: BtfGraph) {
    this.#graph = graph;
    this.#names = new Names(graph);
    this.#printer = new Printer(graph, this.#names);
  }

  *definitions(roots: Iterable<number>): Generator<string> {
    for (const id of roots) {
      const type = this.#graph.type(id);
      const isEnum = type.kind === "enum" || type.kind === "enum64";
      // An anonymous enum defines the names of its values.
      if (isEnum && type.name === "") this.#ready.push(`${this.#printer.enumeration(type, 0)};\n`);
      else this.#define(id);
      const ready = this.#ready.splice(0);
      // A struct with pointers to itself needs no declaration before it.
      yield* ready.filter(
        (text, at) => ready[at + 1]?.startsWith(text.replace(";\n", " {")) !== true,
      );
    }
  }

  /** Makes a type usable as that of a member. */
  #define(id: number): void {
    this.#within(id, () => {
      const type = this.#graph.type(id);
      switch (type.kind) {
        case "array":
        case "const":
        case "volatile":
        case "restrict":
        case "type_tag":
        case "var":
          return this.#define(type.typeId);
        case "typedef":
          this.#declare(id);
          return this.#define(type.typeId);
        case "struct":
        case "union":
          return this.#defineComposite(type);
        default:
          return this.#declare(id);
      }
    });
  }

  #defineComposite(type: BtfType): void {
    const { id, name } = type;
    // No compiler makes a struct that contains itself.
    if (this.#defined.has(id) || this.#defining.has(id)) return;
    this.#defining.add(id);
    for (const { typeId } of this.#graph.members(id)) this.#define(typeId);
    this.#defining.delete(id);
    this.#defined.add(id);
    this.#declared.add(id);
    if (name !== "") this.#ready.push(`${this.#printer.composite(type, 0)};\n`);
  }

  /** Makes a type usable through a pointer. */
  #declare(id: number): void {
    this.#within(id, () => {
      const type = this.#graph.type(id);
      switch (type.kind) {
        case "array":
          // The elements of an array need a definition, even where only a pointer leads to the array.
          return this.#define(type.typeId);
        case "ptr":
        case "const":
        case "volatile":
        case "restrict":
        case "type_tag":
        case "var":
        case "func":
          return this.#declare(type.typeId);
        case "func_proto":
          if (this.#declared.has(id)) return;
          this.#declare(type.typeId);
          for (const { typeId } of this.#graph.parameters(id)) this.#declare(typeId);
          this.#declared.add(id);
          return;
        case "typedef":
          return this.#declareTypedef(type);
        case "struct":
        case "union":
        case "fwd":
        case "enum":
        case "enum64":
          return this.#declareTagged(type);
        case "int":
          if (this.#declared.has(id) || !type.name.startsWith("__Poly")) return;
          this.#declared.add(id);
          // Types that only compilers for arm64 have.
          this.#ready.push(`typedef ${polynomial(type.size)} ${identifier(type.name)};\n`);
          return;
        default:
      }
    });
  }

  #declareTypedef(type: BtfType): void {
    const { id, name, typeId } = type;
    if (this.#declared.has(id)) return;
    this.#declared.add(id);
    if (builtIn.has(name)) return;
    const target = this.#graph.type(typeId);
    // An anonymous struct is written out here.
    if (target.name === "") this.#define(typeId);
    else this.#declare(typeId);
    this.#ready.push(`typedef ${this.#printer.declaration(typeId, this.#names.of(type), 0)};\n`);
  }

  #declareTagged(type: BtfType): void {
    const { id, kind, name } = type;
    if (this.#declared.has(id)) return;
    if (name === "") {
      // It is written out where it is used, after what its members need.
      if (kind === "struct" || kind === "union") this.#defineComposite(type);
      return;
    }
    this.#declared.add(id);
    if (kind === "enum" || kind === "enum64") {
      this.#ready.push(`${this.#printer.enumeration(type, 0)};\n`);
    } else {
      this.#ready.push(`${this.#printer.tag(type)};\n`);
    }
  }

  #within(id: number, step: () => void): void {
    if (++this.#depth > maxChainLength) {
      throw new RangeError(
        `BTF type ${id} is at the end of too long a chain of types: the bytes are damaged`,
      );
    }
    try {
      step();
    } finally {
      this.#depth--;
    }
  }
}

function polynomial(size: number): string {
  return size === 16
    ? "unsigned __int128"
    : `unsigned ${{ 1: "char", 2: "short" }[size] ?? "long"}`;
}

/** Names of types and enumerators: where several share a name, all but the first get a number, as in bpftool's headers. */
class Names {
  readonly #graph: BtfGraph;
  /** The number of uses of each name so far: tags of structs, unions and enums, and all other names. */
  readonly #tags = new Map<string, number>();
  readonly #others = new Map<string, number>();
  readonly #byId = new Map<number, string>();
  readonly #enumerators = new Map<number, readonly string[]>();

  constructor(graph: BtfGraph) {
    this.#graph = graph;
  }

  of(type: BtfType): string {
    // A forward declaration has the name of its struct.
    if (type.kind === "fwd") return identifier(type.name);
    return this.#byId.getOrInsertComputed(type.id, () =>
      numbered(type.kind === "typedef" ? this.#others : this.#tags, type.name),
    );
  }

  enumerators(id: number): readonly string[] {
    return this.#enumerators.getOrInsertComputed(id, () =>
      this.#graph.enumerators(id).map(({ name }) => numbered(this.#others, name)),
    );
  }
}

/** A name as C takes it. Those of other languages have other characters, and those of integers any that somebody chose. */
function identifier(name: string): string {
  return name.replace(/\W/g, "_");
}

function numbered(given: Map<string, number>, original: string): string {
  const name = identifier(original);
  const count = (given.get(name) ?? 0) + 1;
  given.set(name, count);
  return count === 1 ? name : `${name}___${count}`;
}

/** Writes types in C. */
class Printer {
  readonly #graph: BtfGraph;
  readonly #names: Names;
  readonly #layouts: Layouts;
  /** The number of characters that may still be made. */
  #left: number;
  /** Names of paddings: those of anonymous structs are members of the struct around them. */
  readonly #gaps = new Map<string, number>();

  constructor(graph: BtfGraph, names: Names) {
    this.#graph = graph;
    this.#names = names;
    this.#layouts = new Layouts(graph);
    this.#left = maxCharacters(graph.length);
  }

  /** Counts text that was made. @throws {RangeError} if there is more than types make that no one made for it */
  #counted(id: number, text: string): string {
    this.#left -= text.length;
    if (this.#left < 0) throw new RangeError(`BTF type ${id} is too long to be written out`);
    return text;
  }

  /** Returns the tag of a type: `struct list_head`. */
  tag(type: BtfType): string {
    const word = type.kind === "fwd" ? (type.declares ?? "struct") : type.kind.replace("64", "");
    return `${word} ${this.#names.of(type)}`;
  }

  /** Writes the declaration of a name, or only the type if the name is empty. */
  declaration(id: number, name: string, level: number): string {
    if (level > maxDepth) {
      throw new RangeError(`BTF type ${id} is within more than ${maxDepth} others`);
    }
    let declarator = name;
    let typeId = id;
    let isPointer = false;
    /** Qualifiers of the next type. */
    let qualifiers: string[] = [];
    for (let steps = 0; steps < maxDepth; steps++) {
      const type = this.#graph.type(typeId);
      switch (type.kind) {
        case "const":
        case "volatile":
        case "restrict":
          if (!qualifiers.includes(type.kind)) qualifiers.push(type.kind);
          break;
        case "type_tag":
          break;
        case "ptr":
          declarator = spaced(`*${qualifiers.join(" ")}`, declarator);
          qualifiers = [];
          isPointer = true;
          break;
        case "array":
          // Qualifiers of an array are those of its elements.
          declarator = `${isPointer ? `(${declarator})` : declarator}[${type.length}]`;
          isPointer = false;
          break;
        case "func_proto":
          declarator = `${isPointer ? `(${declarator})` : declarator}(${this.#parameters(typeId, level)})`;
          qualifiers = [];
          isPointer = false;
          break;
        default:
          return this.#counted(
            id,
            spaced([...qualifiers, this.#base(type, level)].join(" "), declarator),
          );
      }
      typeId = type.typeId;
    }
    throw new RangeError(
      `BTF type ${id} leads to more than ${maxDepth} others: the bytes are damaged`,
    );
  }

  #parameters(id: number, level: number): string {
    const parameters = this.#graph.parameters(id);
    if (parameters.length === 0) return "void";
    return parameters
      .map(({ typeId, name }, index) =>
        typeId === 0 && index === parameters.length - 1
          ? "..."
          : this.declaration(typeId, identifier(name), level + 1),
      )
      .join(", ");
  }

  #base(type: BtfType, level: number): string {
    const { kind, name } = type;
    switch (kind) {
      case "void":
        return "void";
      case "struct":
      case "union":
        return name === "" ? this.composite(type, level) : this.tag(type);
      case "enum":
      case "enum64":
        return name === "" ? this.enumeration(type, level) : this.tag(type);
      case "fwd":
        return this.tag(type);
      case "typedef":
        return builtIn.has(name) ? name : this.#names.of(type);
      default:
        // Several words: unsigned int.
        return name === ""
          ? `unsigned char /* ${kind} */`
          : name.split(" ").map(identifier).join(" ");
    }
  }

  /** A struct or union with its members. */
  composite(type: BtfType, level: number): string {
    const { id, kind, name, size } = type;
    if (level === 0) this.#gaps.clear();
    if (level > maxDepth)
      throw new RangeError(`BTF type ${id} is within more than ${maxDepth} others`);
    const inner = indentation.repeat(level + 1);
    const head = name === "" ? kind : this.tag(type);
    const isPacked = this.#layouts.isPacked(type);
    const lines: string[] = [];
    let end = 0;
    for (const member of this.#graph.members(id)) {
      const start =
        kind === "union" ? member.bitOffset : this.#layouts.startOf(member, end, isPacked);
      if (start < member.bitOffset)
        lines.push(...this.#padding(start, member.bitOffset).map((text) => inner + text));
      lines.push(this.#counted(id, `${inner}${this.#member(member, level + 1)};`));
      end = Math.max(end, this.#layouts.endOf(member));
    }
    const natural =
      Math.ceil(end / 8 / this.#layouts.alignOf(type)) * this.#layouts.alignOf(type) * 8;
    if (natural < size * 8) {
      // In a union it is beside the other members, not after them.
      lines.push(
        ...this.#padding(kind === "union" ? 0 : end, size * 8).map((text) => inner + text),
      );
    }
    const body =
      lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${indentation.repeat(level)}}`;
    return `${head} ${body}${isPacked ? " __attribute__((packed))" : ""}`;
  }

  /** Members that take the bits from one place to another. */
  #padding(from: number, to: number): string[] {
    const members: string[] = [];
    let at = from;
    const toByte = Math.min(to, Math.ceil(at / 8) * 8);
    if (toByte > at) members.push(`unsigned char : ${toByte - at};`);
    at = toByte;
    const bytes = Math.floor((to - at) / 8);
    if (bytes > 0) {
      members.push(`unsigned char ${numbered(this.#gaps, `__gap${at / 8}`)}[${bytes}];`);
    }
    at += bytes * 8;
    if (to > at) members.push(`unsigned char : ${to - at};`);
    return members;
  }

  #member({ name, typeId, bitSize }: BtfMember, level: number): string {
    const type = this.#graph.type(typeId);
    // An unnamed member: its members are those of the struct around it, also where its type has a name (-fms-extensions).
    if (name === "" && (type.kind === "struct" || type.kind === "union")) {
      return this.composite({ ...type, name: "" }, level);
    }
    const width = bitSize === 0 ? "" : `: ${bitSize}`;
    return `${this.declaration(typeId, identifier(name), level)}${name === "" ? width.replace(":", " :") : width}`;
  }

  /** An enum with its names. */
  enumeration(type: BtfType, level: number): string {
    const { id, size, name, isSigned = false } = type;
    const enumerators = this.#graph.enumerators(id);
    const names = this.#names.enumerators(id);
    const head = name === "" ? "enum" : this.tag(type);
    // Declared but never defined.
    if (enumerators.length === 0) return head;
    const suffix = size === 8 ? (isSigned ? "LL" : "ULL") : "";
    const lines = enumerators.map(
      ({ value }, index) =>
        `${indentation.repeat(level + 1)}${names[index]} = ${value}${suffix},\n`,
    );
    return `${head} {\n${lines.join("")}${indentation.repeat(level)}}${enumModes.get(size) ?? ""}`;
  }
}

/** Joins two parts with a space where both are there. The star of a pointer is next to the name. */
function spaced(left: string, right: string): string {
  if (right === "") return left;
  return left.endsWith("*") && !left.endsWith(" *") && left.startsWith("*")
    ? `${left}${right}`
    : `${left} ${right}`;
}

/** The layout that compilers give structs without attributes. */
class Layouts {
  readonly #graph: BtfGraph;
  readonly #aligns = new Map<number, number>();
  readonly #packed = new Map<number, boolean>();

  constructor(graph: BtfGraph) {
    this.#graph = graph;
  }

  /** The bit at which a member starts after one that ended at `end`. */
  startOf({ typeId, bitSize }: BtfMember, end: number, isPacked: boolean): number {
    const unit = this.#graph.sizeOf(typeId) * 8;
    if (bitSize !== 0) {
      // A bit-field does not cross a boundary of its integer type.
      const isBeyond = !isPacked && (end % unit) + bitSize > unit;
      return isBeyond ? Math.ceil(end / unit) * unit : end;
    }
    const align = (isPacked ? 1 : this.#align(typeId)) * 8;
    return Math.ceil(end / align) * align;
  }

  endOf({ typeId, bitOffset, bitSize }: BtfMember): number {
    return bitOffset + (bitSize || this.#graph.sizeOf(typeId) * 8);
  }

  alignOf(type: BtfType): number {
    return this.#align(type.id);
  }

  /** Returns true where members are closer together, or the struct is shorter, than without attributes. */
  isPacked(type: BtfType): boolean {
    return this.#packed.getOrInsertComputed(type.id, () => {
      // No compiler makes a struct that contains itself.
      this.#packed.set(type.id, false);
      const members = this.#graph.members(type.id);
      const aligns = members.map(({ typeId }) => this.#align(typeId));
      if (type.size % Math.max(1, ...aligns) !== 0) return true;
      let end = 0;
      for (const member of members) {
        const start = type.kind === "union" ? 0 : this.startOf(member, end, false);
        if (member.bitSize === 0 && member.bitOffset % (8 * this.#align(member.typeId)) !== 0)
          return true;
        if (start > member.bitOffset) return true;
        end = Math.max(end, this.endOf(member));
      }
      return false;
    });
  }

  #align(id: number): number {
    return this.#aligns.getOrInsertComputed(id, () => {
      this.#aligns.set(id, 1);
      const type = this.#graph.resolve(id);
      switch (type.kind) {
        case "array":
          return this.#align(type.typeId);
        case "ptr":
          return 8;
        case "struct":
        case "union":
          return this.isPacked(type)
            ? 1
            : Math.max(1, ...this.#graph.members(type.id).map(({ typeId }) => this.#align(typeId)));
        default: {
          const { size } = type;
          return size > 0 && (size & (size - 1)) === 0 ? Math.min(size, 16) : 1;
        }
      }
    });
  }
}
