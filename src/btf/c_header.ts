/** @module Printing of BTF as a C header that compiles, like `bpftool btf dump format c`. */

import type { BtfGraph, BtfMember, BtfType } from "./graph.ts";

const indentation = "    ";

/** Greatest nesting of structs and arrays, and greatest length of a chain of types. Programs do not have deeper types. */
const maxDepth = 64;

/** Greatest length of a chain of definitions that need each other. The longest chain of Linux 6.18 has about 300. */
const maxChainLength = 1024;

/**
 * Returns the greatest number of characters for the definitions of this many types. Text of a type counts again where it is nested,
 * because damaged or malicious BTF can nest the same type any number of times. Linux 6.18 has about 30 characters for each type.
 */
function maxCharacters(typeCount: number): number {
  return 4 * 1024 * 1024 + 256 * typeCount;
}

/** Typedefs that are built into compilers and cannot be defined again. */
const builtIn: ReadonlySet<string> = new Set(["__builtin_va_list"]);

/** Attributes of enums, by size in bytes, for sizes other than that of `int`. */
const enumModes: ReadonlyMap<number, string> = new Map([
  [1, " __attribute__((mode(QI)))"],
  [2, " __attribute__((mode(HI)))"],
  [8, " __attribute__((mode(DI)))"],
]);

/**
 * Yields C definitions of types, each after the definitions that it needs. Types that are only used through pointers are declared,
 * not defined.
 *
 * @param roots ids of the types to define
 * @throws {RangeError} if the BTF is damaged or its text would be too long.
 */
export function cDefinitions(graph: BtfGraph, roots: Iterable<number>): Generator<string> {
  return new DefinitionOrder(graph).definitions(roots);
}

/** Traversal of types that collects each definition after those that it needs. */
class DefinitionOrder {
  readonly #graph: BtfGraph;
  readonly #names: Names;
  readonly #printer: Printer;
  /** Ids of types that are declared, defined or being defined. */
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
      // An enum without a name is printed too, because it defines its enumerators.
      if (isEnum && type.name === "") this.#ready.push(`${this.#printer.enumeration(type, 0)};\n`);
      else this.#define(id);
      const ready = this.#ready.splice(0);
      // A declaration immediately before its definition is omitted, as for a struct with pointers to itself.
      yield* ready.filter(
        (text, at) => ready[at + 1]?.startsWith(text.replace(";\n", " {")) !== true,
      );
    }
  }

  /** Adds the definitions that a member of this type needs. */
  #define(id: number): void {
    this.#nested(id, () => {
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
    // In damaged BTF a struct can contain itself.
    if (this.#defined.has(id) || this.#defining.has(id)) return;
    this.#defining.add(id);
    for (const { typeId } of this.#graph.members(id)) this.#define(typeId);
    this.#defining.delete(id);
    this.#defined.add(id);
    this.#declared.add(id);
    if (name !== "") this.#ready.push(`${this.#printer.composite(type, 0)};\n`);
  }

  /** Adds the declarations that a pointer to this type needs. */
  #declare(id: number): void {
    this.#nested(id, () => {
      const type = this.#graph.type(id);
      switch (type.kind) {
        case "array":
          // C requires the definition of an array's element type, even for a pointer to the array.
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
          // Polynomial types are built into compilers for arm64 only.
          this.#ready.push(`typedef ${unsignedOfSize(type.size)} ${identifier(type.name)};\n`);
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
    // The typedef contains the members of an anonymous struct.
    if (target.name === "") this.#define(typeId);
    else this.#declare(typeId);
    this.#ready.push(`typedef ${this.#printer.declaration(typeId, this.#names.of(type), 0)};\n`);
  }

  #declareTagged(type: BtfType): void {
    const { id, kind, name } = type;
    if (this.#declared.has(id)) return;
    if (name === "") {
      // An anonymous struct is printed where it is used, so only the definitions that its members need are added.
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

  /** Runs a step of the traversal. @throws {RangeError} if the chain of steps is too long. */
  #nested(id: number, step: () => void): void {
    if (++this.#depth > maxChainLength) {
      throw new RangeError(
        `BTF type ${id} is at the end of a chain of more than ${maxChainLength} types: the bytes are damaged`,
      );
    }
    try {
      step();
    } finally {
      this.#depth--;
    }
  }
}

/** Returns the unsigned integer type of the same size as a polynomial type. */
function unsignedOfSize(size: number): string {
  return size === 16
    ? "unsigned __int128"
    : `unsigned ${{ 1: "char", 2: "short" }[size] ?? "long"}`;
}

/** Unique C names of types and enumerators. If several share a name, all but the first get a number, as in bpftool's headers. */
class Names {
  readonly #graph: BtfGraph;
  // Number of uses of each name. Tags (of structs, unions and enums) and other names are separate name spaces in C.
  readonly #tags = new Map<string, number>();
  readonly #others = new Map<string, number>();
  readonly #byId = new Map<number, string>();
  readonly #enumerators = new Map<number, readonly string[]>();

  constructor(graph: BtfGraph) {
    this.#graph = graph;
  }

  of(type: BtfType): string {
    // A forward declaration shares the name with its struct.
    if (type.kind === "fwd") return identifier(type.name);
    return this.#byId.getOrInsertComputed(type.id, () =>
      uniqueName(type.kind === "typedef" ? this.#others : this.#tags, type.name),
    );
  }

  enumerators(id: number): readonly string[] {
    return this.#enumerators.getOrInsertComputed(id, () =>
      this.#graph.enumerators(id).map(({ name }) => uniqueName(this.#others, name)),
    );
  }
}

/** Replaces characters that C does not allow in identifiers. Names from other languages and from hand-made BTF can have them. */
function identifier(name: string): string {
  return name.replace(/\W/g, "_");
}

/** Returns a unique identifier for a name, with a number if the name was used before. */
function uniqueName(uses: Map<string, number>, original: string): string {
  const name = identifier(original);
  const count = (uses.get(name) ?? 0) + 1;
  uses.set(name, count);
  return count === 1 ? name : `${name}___${count}`;
}

/** Printer of types in C. */
class Printer {
  readonly #graph: BtfGraph;
  readonly #names: Names;
  readonly #layouts: Layouts;
  /** Number of characters that may still be printed. */
  #left: number;
  /** Number of uses of each name of a padding. Padding of an anonymous struct is a member of the outer struct, so names are shared. */
  readonly #gaps = new Map<string, number>();

  constructor(graph: BtfGraph, names: Names) {
    this.#graph = graph;
    this.#names = names;
    this.#layouts = new Layouts(graph);
    this.#left = maxCharacters(graph.length);
  }

  /** Counts the characters of a text, and returns the text. @throws {RangeError} if there are too many characters. */
  #counted(id: number, text: string): string {
    this.#left -= text.length;
    if (this.#left < 0) throw new RangeError(`BTF type ${id} is too long to print`);
    return text;
  }

  /** Returns the tag of a type: `struct list_head`. */
  tag(type: BtfType): string {
    const word = type.kind === "fwd" ? (type.declares ?? "struct") : type.kind.replace("64", "");
    return `${word} ${this.#names.of(type)}`;
  }

  /** Returns the declaration of a name, or only the type if the name is empty. */
  declaration(id: number, name: string, level: number): string {
    if (level > maxDepth) {
      throw new RangeError(`BTF type ${id} is nested in more than ${maxDepth} types`);
    }
    let declarator = name;
    let typeId = id;
    let isPointer = false;
    /** Qualifiers of the next type in the chain. */
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
          declarator = joinWords(`*${qualifiers.join(" ")}`, declarator);
          qualifiers = [];
          isPointer = true;
          break;
        case "array":
          // In C the qualifiers of an array belong to its elements.
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
            joinWords([...qualifiers, this.#base(type, level)].join(" "), declarator),
          );
      }
      typeId = type.typeId;
    }
    throw new RangeError(
      `BTF type ${id} leads through a chain of more than ${maxDepth} types: the bytes are damaged`,
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
        // A name such as "unsigned int" consists of several identifiers.
        return name === ""
          ? `unsigned char /* ${kind} */`
          : name.split(" ").map(identifier).join(" ");
    }
  }

  /** Returns the definition of a struct or union. */
  composite(type: BtfType, level: number): string {
    const { id, kind, name, size } = type;
    if (level === 0) this.#gaps.clear();
    if (level > maxDepth)
      throw new RangeError(`BTF type ${id} is nested in more than ${maxDepth} types`);
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
      // A union is padded by a member that has the size of the union.
      lines.push(
        ...this.#padding(kind === "union" ? 0 : end, size * 8).map((text) => inner + text),
      );
    }
    const body =
      lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${indentation.repeat(level)}}`;
    return `${head} ${body}${isPacked ? " __attribute__((packed))" : ""}`;
  }

  /** Returns members that fill the bits from one offset to another. */
  #padding(from: number, to: number): string[] {
    const members: string[] = [];
    let at = from;
    const toByte = Math.min(to, Math.ceil(at / 8) * 8);
    if (toByte > at) members.push(`unsigned char : ${toByte - at};`);
    at = toByte;
    const bytes = Math.floor((to - at) / 8);
    if (bytes > 0) {
      members.push(`unsigned char ${uniqueName(this.#gaps, `__gap${at / 8}`)}[${bytes}];`);
    }
    at += bytes * 8;
    if (to > at) members.push(`unsigned char : ${to - at};`);
    return members;
  }

  #member({ name, typeId, bitSize }: BtfMember, level: number): string {
    const type = this.#graph.type(typeId);
    // Members of an unnamed struct are members of the outer struct, also if the type has a name (-fms-extensions).
    if (name === "" && (type.kind === "struct" || type.kind === "union")) {
      return this.composite({ ...type, name: "" }, level);
    }
    const width = bitSize === 0 ? "" : `: ${bitSize}`;
    return `${this.declaration(typeId, identifier(name), level)}${name === "" ? width.replace(":", " :") : width}`;
  }

  /** Returns the definition of an enum. */
  enumeration(type: BtfType, level: number): string {
    const { id, size, name, isSigned = false } = type;
    const enumerators = this.#graph.enumerators(id);
    const names = this.#names.enumerators(id);
    const head = name === "" ? "enum" : this.tag(type);
    // The enum is declared but never defined.
    if (enumerators.length === 0) return head;
    const suffix = size === 8 ? (isSigned ? "LL" : "ULL") : "";
    const lines = enumerators.map(
      ({ value }, index) =>
        `${indentation.repeat(level + 1)}${names[index]} = ${value}${suffix},\n`,
    );
    return `${head} {\n${lines.join("")}${indentation.repeat(level)}}${enumModes.get(size) ?? ""}`;
  }
}

/** Joins two texts with a space. The star of a pointer has no space after it. */
function joinWords(left: string, right: string): string {
  if (right === "") return left;
  return left.endsWith("*") && !left.endsWith(" *") && left.startsWith("*")
    ? `${left}${right}`
    : `${left} ${right}`;
}

/** Layouts that compilers compute for structs without attributes. */
class Layouts {
  readonly #graph: BtfGraph;
  readonly #aligns = new Map<number, number>();
  readonly #packed = new Map<number, boolean>();

  constructor(graph: BtfGraph) {
    this.#graph = graph;
  }

  /** Returns the offset of a member in bits, if the previous member ended at `end`. */
  startOf({ typeId, bitSize }: BtfMember, end: number, isPacked: boolean): number {
    const unit = this.#graph.sizeOf(typeId) * 8;
    if (bitSize !== 0) {
      // A bit-field does not cross a boundary of its declared type.
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

  /** Returns true if members are closer together, or the struct is shorter, than they would be without attributes. */
  isPacked(type: BtfType): boolean {
    return this.#packed.getOrInsertComputed(type.id, () => {
      // In damaged BTF a struct can contain itself.
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
