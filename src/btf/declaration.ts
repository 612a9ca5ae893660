import type { BtfGraph, BtfType } from "./graph.ts";

/** Most structs within one another that are written out: of deeper ones only the kind is written. */
const maxDepth = 8;
/** Most types that are being written at a time, each within the next. */
const maxOpenTypes = 128;
/** Longest chain of qualifiers and arrays. */
const maxChainLength = 32;
/** About the number of characters after which the rest is omitted. The longest declaration of Linux 6.18 has 16,350. */
const maxCharacters = 1 << 16;
/** Stands for an omitted part. */
const ellipsis = "...";

/**
 * A type in the words of C, on one line: `struct event { __u32 pid; char comm[16]; }`.
 *
 * The outermost struct is written out, and with it the anonymous structs and enums inside it; of those with a name there
 * is the name. `...` stands for an omitted part: a type inside itself, which C cannot express, structs that are too deep, and all
 * after {@link maxCharacters}.
 */
export function declaration(graph: BtfGraph, id: number): string {
  return new Declarer(graph).whole(id);
}

/** Writes one declaration. */
class Declarer {
  readonly #graph: BtfGraph;
  /** Types that are being written. */
  readonly #open = new Set<number>();
  /** The number of characters that may still be written. */
  #left = maxCharacters;

  constructor(graph: BtfGraph) {
    this.#graph = graph;
  }

  whole(id: number): string {
    const { kind, name } = this.#graph.type(id);
    if (kind !== "datasec") return this.#declare(id, "", 0, true);
    const variables = this.#each(this.#graph.variables(id), (variable) => {
      return `${this.#declare(variable.typeId, variable.name, 1, false)};`;
    });
    return `${name} { ${variables.join(" ")} }`;
  }

  /**
   * @param name the declarator so far; empty for the type alone
   * @param depth the number of structs and parameter lists around it
   * @param isWhole true to write out a struct with a name, too
   */
  #declare(id: number, name: string, depth: number, isWhole: boolean): string {
    const type = this.#graph.type(id);
    const isCut = this.#open.has(id) || this.#open.size === maxOpenTypes || this.#left <= 0;
    this.#left -= type.name.length + type.kind.length + 4;
    if (isCut) return join(shortName(type), name);
    this.#open.add(id);
    const text = this.#write(type, name, depth, isWhole);
    this.#open.delete(id);
    return text;
  }

  #write(type: BtfType, name: string, depth: number, isWhole: boolean): string {
    // A type that refers to another one is written around the name, and that one around both.
    const around = (inner: string, isWholeToo = false) =>
      this.#declare(type.typeId, inner, depth, isWholeToo);
    switch (type.kind) {
      case "array":
        return around(`${name}${suffix(type)}`, isWhole);
      case "ptr":
        return around(this.#pointerTo(type, name));
      case "const":
      case "volatile":
      case "restrict":
        return this.#qualified(type, name, depth, isWhole);
      case "type_tag":
      case "var":
        return around(name, isWhole);
      case "func":
        return around(type.name);
      case "func_proto":
        return around(`${name}(${this.#parameters(type.id, depth)})`);
      default:
        return join(this.#baseName(type, depth, isWhole), name);
    }
  }

  #parameters(id: number, depth: number): string {
    if (depth >= maxDepth) return ellipsis;
    const parameters = this.#each(this.#graph.parameters(id), ({ name, typeId }) =>
      typeId === 0 && name === "" ? ellipsis : this.#declare(typeId, name, depth + 1, false),
    );
    // In C an empty list means unknown parameters.
    return parameters.join(", ") || "void";
  }

  /** Returns `*name`, in parentheses before an array's length or a parameter list. */
  #pointerTo({ typeId }: BtfType, name: string): string {
    const { kind } = this.#unqualified(typeId).type;
    return kind === "array" || kind === "func_proto" ? `(*${name})` : `*${name}`;
  }

  /**
   * Writes qualifiers after the star of their pointer, and before any other type. Qualifiers of an array are those of its elements,
   * as in C. Each is written once.
   */
  #qualified({ id }: BtfType, name: string, depth: number, isWhole: boolean): string {
    let { type, qualifiers } = this.#unqualified(id);
    let declared = name;
    for (let steps = 0; type.kind === "array" && steps < maxChainLength; steps++) {
      declared += suffix(type);
      const inner = this.#unqualified(type.typeId);
      qualifiers = qualifiers.union(inner.qualifiers);
      type = inner.type;
    }
    const words = [...qualifiers].join(" ");
    return type.kind === "ptr"
      ? this.#declare(type.id, join(words, declared), depth, isWhole)
      : `${words} ${this.#declare(type.id, declared, depth, isWhole)}`;
  }

  /** Returns the type after qualifiers and type tags, and the qualifiers in order. */
  #unqualified(id: number): {
    readonly type: BtfType;
    readonly qualifiers: ReadonlySet<string>;
  } {
    const qualifiers = new Set<string>();
    let type = this.#graph.type(id);
    for (let steps = 0; steps < maxChainLength && transparent.has(type.kind); steps++) {
      if (type.kind !== "type_tag") qualifiers.add(type.kind);
      type = this.#graph.type(type.typeId);
    }
    return { type, qualifiers };
  }

  #baseName(type: BtfType, depth: number, isWhole: boolean): string {
    switch (type.kind) {
      case "struct":
      case "union":
        if (type.name !== "" && !isWhole) return shortName(type);
        return `${type.name === "" ? type.kind : shortName(type)} ${this.#body(type.id, depth)}`;
      case "typedef": {
        // The members of a struct say more than the name of its typedef.
        const target = isWhole && depth === 0 ? this.#target(type) : type;
        return isComposite(target) ? `${type.name} ${this.#body(target.id, depth)}` : type.name;
      }
      case "enum":
      case "enum64":
        return type.name === "" ? `enum ${this.#enumerators(type.id)}` : `enum ${type.name}`;
      case "fwd":
        return `${type.declares} ${type.name}`;
      default:
        return type.name === "" ? type.kind : type.name;
    }
  }

  /** The type that a typedef stands for, through others and qualifiers. */
  #target(typedef: BtfType): BtfType {
    let type = typedef;
    for (let steps = 0; steps < maxChainLength && isAlias(type); steps++) {
      type = this.#graph.type(type.typeId);
    }
    return type;
  }

  #body(id: number, depth: number): string {
    if (depth >= maxDepth) return `{ ${ellipsis} }`;
    const members = this.#each(this.#graph.members(id), ({ name, typeId, bitSize }) => {
      const width = bitSize === 0 ? "" : ` : ${bitSize}`;
      return `${this.#declare(typeId, name, depth + 1, false)}${width};`;
    });
    return members.length === 0 ? "{}" : `{ ${members.join(" ")} }`;
  }

  #enumerators(id: number): string {
    const list = this.#each(this.#graph.enumerators(id), ({ name, value }) => `${name} = ${value}`);
    return list.length === 0 ? "{}" : `{ ${list.join(", ")} }`;
  }

  /** Writes the parts of a type, until there are enough characters. */
  #each<Part extends { readonly name: string }>(
    parts: readonly Part[],
    write: (part: Part) => string,
  ): string[] {
    const texts: string[] = [];
    for (const part of parts) {
      if (this.#left <= 0) return [...texts, ellipsis];
      this.#left -= part.name.length + 2;
      texts.push(write(part));
    }
    return texts;
  }
}

const transparent: ReadonlySet<string> = new Set(["const", "volatile", "restrict", "type_tag"]);

function isAlias({ kind }: BtfType): boolean {
  return kind === "typedef" || transparent.has(kind);
}

function isComposite({ kind }: BtfType): boolean {
  return kind === "struct" || kind === "union";
}

/** Returns the name of a type, or `...` in place of its body if it has no name. */
function shortName({ kind, name }: BtfType): string {
  switch (kind) {
    case "struct":
    case "union":
      return name === "" ? `${kind} { ${ellipsis} }` : `${kind} ${name}`;
    case "typedef":
    case "int":
    case "float":
      return name;
    default:
      return ellipsis;
  }
}

function suffix({ length }: BtfType): string {
  return length === 0 ? "[]" : `[${length}]`;
}

function join(type: string, name: string): string {
  if (name === "") return type;
  return name.startsWith("[") ? `${type}${name}` : `${type} ${name}`;
}
