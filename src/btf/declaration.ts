import type { BtfGraph, BtfType } from "./graph.ts";

/** Greatest nesting of structs that are written with their members. */
const maxDepth = 8;
/** Greatest number of types that are being written at once, each inside the next. */
const maxOpenTypes = 128;
/** Greatest number of qualifiers and arrays in a chain. */
const maxChainLength = 32;
/** Approximate number of characters after which text is omitted. The longest declaration of Linux 6.18 has 16,350. */
const maxCharacters = 1 << 16;
/** Replacement of omitted text. */
const ellipsis = "...";

/**
 * Returns the C declaration of a type, on one line: `struct event { __u32 pid; char comm[16]; }`.
 *
 * The members of the outermost struct and of anonymous types inside it are included; other types appear by name. `...` replaces
 * omitted text: a type inside itself, types that are nested too deep, and everything after about 65,000 characters.
 */
export function declaration(graph: BtfGraph, id: number): string {
  return new Declarer(graph).whole(id);
}

/** Writer of one declaration. */
class Declarer {
  readonly #graph: BtfGraph;
  /** Ids of types that are being written. */
  readonly #open = new Set<number>();
  /** Number of characters that may still be written. */
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
   * Returns the declaration of a declarator with this type.
   *
   * @param name the declarator so far; empty for the type alone
   * @param depth number of structs and parameter lists around the declaration
   * @param isWhole true to write the members of a struct that has a name
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
    // In C, the declarator of a pointer, array or function is written inside the declaration of its target type:
    // `int *name[4]`.
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
    // In C an empty list means unspecified parameters.
    return parameters.join(", ") || "void";
  }

  /** Returns `*name`, in parentheses if an array's length or a parameter list follows. */
  #pointerTo({ typeId }: BtfType, name: string): string {
    const { kind } = this.#unqualified(typeId).type;
    return kind === "array" || kind === "func_proto" ? `(*${name})` : `*${name}`;
  }

  /**
   * Returns the declaration of a qualified type. Qualifiers of a pointer come after its star, others before the type.
   * Qualifiers of an array belong to its elements, as in C. Repeated qualifiers are written once.
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

  /** Returns the type that qualifiers and type tags refer to in the end, and the qualifiers in order. */
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
        // The typedef of a struct is shown with the members of the struct.
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

  /** Returns the type that typedefs and qualifiers refer to in the end. */
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

  /** Writes a list of members, parameters, enumerators or variables, up to the greatest number of characters. */
  #each<Item extends { readonly name: string }>(
    items: readonly Item[],
    write: (item: Item) => string,
  ): string[] {
    const texts: string[] = [];
    for (const item of items) {
      if (this.#left <= 0) return [...texts, ellipsis];
      this.#left -= item.name.length + 2;
      texts.push(write(item));
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

/** Returns the name of a type, with `...` for its members if it has no name. */
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
