import type { BtfGraph, BtfType } from "./graph.ts";

/** Structs within one another that are written out: what is deeper is named by its kind alone. */
const greatestDepth = 8;

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
 * @param isWhole whether a struct with a name is written out too
 */
function declare(
  graph: BtfGraph,
  id: number,
  name: string,
  depth: number,
  isWhole: boolean,
): string {
  const type = graph.type(id);
  // What refers to another type is written around the name, and that type around both.
  switch (type.kind) {
    case "array": {
      const length = type.length === 0 ? "" : type.length;
      return declare(graph, type.typeId, `${name}[${length}]`, depth, isWhole);
    }
    case "ptr":
      return declare(graph, type.typeId, pointerTo(graph, type, name), depth, false);
    case "const":
    case "volatile":
    case "restrict":
      return qualified(graph, type, name, depth, isWhole);
    case "type_tag":
    case "var":
      return declare(graph, type.typeId, name, depth, isWhole);
    case "func":
      return declare(graph, type.typeId, type.name, depth, false);
    case "func_proto":
      return declare(graph, type.typeId, `${name}(${parameters(graph, id, depth)})`, depth, false);
    default:
      return join(baseName(graph, type, depth, isWhole), name);
  }
}

function parameters(graph: BtfGraph, id: number, depth: number): string {
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
 * Qualifiers are behind the star of the pointer that they belong to, and before all other types. Those of an array are
 * its elements' and those of its elements its own: C knows no others.
 */
function qualified(
  graph: BtfGraph,
  { id }: BtfType,
  name: string,
  depth: number,
  isWhole: boolean,
): string {
  let { type, qualifiers } = behindQualifiers(graph, id);
  let declared = name;
  for (let steps = 0; type.kind === "array"; steps++) {
    declared += `[${type.length === 0 ? "" : type.length}]`;
    const inner = behindQualifiers(graph, type.typeId);
    qualifiers = [...new Set([...qualifiers, ...inner.qualifiers])];
    type = inner.type;
    if (steps > greatestDepth) break;
  }
  const words = qualifiers.join(" ");
  return type.kind === "ptr"
    ? declare(graph, type.id, join(words, declared), depth, isWhole)
    : `${words} ${declare(graph, type.id, declared, depth, isWhole)}`;
}

/** The type behind qualifiers and type tags, and the qualifiers, each once, in the order in which C has them. */
function behindQualifiers(
  graph: BtfGraph,
  id: number,
): { readonly type: BtfType; readonly qualifiers: readonly string[] } {
  const qualifiers = new Set<string>();
  let type = graph.type(id);
  for (let steps = 0; steps < 32; steps++) {
    if (type.kind === "type_tag") type = graph.type(type.typeId);
    else if (["const", "volatile", "restrict"].includes(type.kind)) {
      qualifiers.add(type.kind);
      type = graph.type(type.typeId);
    } else break;
  }
  return { type, qualifiers: [...qualifiers] };
}

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
