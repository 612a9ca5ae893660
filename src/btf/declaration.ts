import type { BtfGraph, BtfType } from "./graph.ts";

/** Structs within one another that are written out: what is deeper is named by its kind alone. */
const greatestDepth = 8;
/** Types that lead to one another: the kernel takes no longer chains either (MAX_RESOLVE_DEPTH). */
const longestChain = 32;

/**
 * A type in the words of C, on one line: `struct event { __u32 pid; char comm[16]; }`.
 *
 * The outermost struct is written out, and with it the anonymous structs and enums inside it; of those with a name there
 * is the name.
 */
export function declaration(graph: BtfGraph, id: number): string {
  const type = graph.type(id);
  if (type.kind === "datasec") {
    const variables = graph
      .variables(id)
      .map(({ name, typeId }) => `${declare(graph, typeId, name, 1, false)};`);
    return `${type.name} { ${variables.join(" ")} }`;
  }
  return declare(graph, id, "", 0, true);
}

/**
 * @param name what is declared, with what surrounds it already; empty for the type alone
 * @param depth structs and lists of parameters around it
 * @param isWhole true to write out a struct with a name, too
 * @param links types that led to this one
 */
function declare(
  graph: BtfGraph,
  id: number,
  name: string,
  depth: number,
  isWhole: boolean,
  links = 0,
): string {
  if (links > longestChain) {
    throw new RangeError(
      `BTF type ${id} comes after more than ${longestChain} others: the bytes are damaged`,
    );
  }
  const type = graph.type(id);
  // A type that refers to another one is written around the name, and that one around both.
  const around = (inner: string, isWholeToo = false) =>
    declare(graph, type.typeId, inner, depth, isWholeToo, links + 1);
  switch (type.kind) {
    case "array":
      return around(`${name}${suffix(type)}`, isWhole);
    case "ptr":
      return around(pointerTo(graph, type, name));
    case "const":
    case "volatile":
    case "restrict":
      return qualified(graph, type, name, depth, isWhole, links);
    case "type_tag":
    case "var":
      return around(name, isWhole);
    case "func":
      return around(type.name);
    case "func_proto":
      return around(`${name}(${parameters(graph, id, depth)})`);
    default:
      return join(baseName(graph, type, depth, isWhole), name);
  }
}

function suffix({ length }: BtfType): string {
  return length === 0 ? "[]" : `[${length}]`;
}

function parameters(graph: BtfGraph, id: number, depth: number): string {
  if (depth >= greatestDepth) return "...";
  return graph
    .parameters(id)
    .map(({ name, typeId }) =>
      typeId === 0 && name === "" ? "..." : declare(graph, typeId, name, depth + 1, false),
    )
    .join(", ");
}

/** `*name`, in brackets where what binds more tightly follows. */
function pointerTo(graph: BtfGraph, { typeId }: BtfType, name: string): string {
  const { kind } = behindQualifiers(graph, typeId).type;
  return kind === "array" || kind === "func_proto" ? `(*${name})` : `*${name}`;
}

/**
 * Qualifiers are behind the star of the pointer that they belong to, and before all other types. Those of an array are its
 * elements': C knows no others, and each once.
 */
function qualified(
  graph: BtfGraph,
  { id }: BtfType,
  name: string,
  depth: number,
  isWhole: boolean,
  links: number,
): string {
  let { type, qualifiers } = behindQualifiers(graph, id);
  let declared = name;
  for (let steps = 0; type.kind === "array" && steps < longestChain; steps++) {
    declared += suffix(type);
    const inner = behindQualifiers(graph, type.typeId);
    qualifiers = qualifiers.union(inner.qualifiers);
    type = inner.type;
  }
  const words = [...qualifiers].join(" ");
  return type.kind === "ptr"
    ? declare(graph, type.id, join(words, declared), depth, isWhole, links + 1)
    : `${words} ${declare(graph, type.id, declared, depth, isWhole, links + 1)}`;
}

/** The type behind qualifiers and type tags, and the qualifiers, in the order in which they lead there. */
function behindQualifiers(
  graph: BtfGraph,
  id: number,
): { readonly type: BtfType; readonly qualifiers: ReadonlySet<string> } {
  const qualifiers = new Set<string>();
  let type = graph.type(id);
  for (let steps = 0; steps < longestChain && transparent.has(type.kind); steps++) {
    if (type.kind !== "type_tag") qualifiers.add(type.kind);
    type = graph.type(type.typeId);
  }
  return { type, qualifiers };
}

const transparent: ReadonlySet<string> = new Set(["const", "volatile", "restrict", "type_tag"]);

function baseName(graph: BtfGraph, type: BtfType, depth: number, isWhole: boolean): string {
  switch (type.kind) {
    case "struct":
    case "union": {
      const head = type.name === "" ? type.kind : `${type.kind} ${type.name}`;
      if (type.name !== "" && !isWhole) return head;
      return depth >= greatestDepth ? `${head} { ... }` : `${head} ${body(graph, type.id, depth)}`;
    }
    case "typedef": {
      // What a name of C stands for is worth more than the name, where it is a struct.
      const target = graph.resolve(type.id);
      const isComposite = target.kind === "struct" || target.kind === "union";
      return isWhole && isComposite && depth === 0
        ? `${type.name} ${body(graph, target.id, depth)}`
        : type.name;
    }
    case "enum":
    case "enum64":
      return type.name === "" ? `enum ${enumerators(graph, type.id)}` : `enum ${type.name}`;
    case "fwd":
      return `${type.declares} ${type.name}`;
    default:
      return type.name === "" ? type.kind : type.name;
  }
}

function body(graph: BtfGraph, id: number, depth: number): string {
  const members = graph.members(id).map(({ name, typeId, bitSize }) => {
    const width = bitSize === 0 ? "" : ` : ${bitSize}`;
    return `${declare(graph, typeId, name, depth + 1, false)}${width};`;
  });
  return members.length === 0 ? "{}" : `{ ${members.join(" ")} }`;
}

function enumerators(graph: BtfGraph, id: number): string {
  const list = graph.enumerators(id).map(({ name, value }) => `${name} = ${value}`);
  return list.length === 0 ? "{}" : `{ ${list.join(", ")} }`;
}

function join(type: string, name: string): string {
  if (name === "") return type;
  return name.startsWith("[") ? `${type}${name}` : `${type} ${name}`;
}
