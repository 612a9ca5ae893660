import type { Btf } from "./btf.ts";
import type { BtfType } from "./description.ts";

/** Structs within one another that are written out: what is deeper is named by its kind alone. */
const greatestDepth = 8;

/**
 * A type in the words of C, on one line: `struct event { __u32 pid; char comm[16]; }`.
 *
 * The outermost struct is written out, and with it the anonymous ones inside it; of those with a name there is the name.
 */
export function declaration(btf: Btf, id: number): string {
  const type = btf.type(id);
  if (type.kind === "datasec") {
    const variables = btf
      .variables(id)
      .map(({ name, typeId }) => `${declare(btf, typeId, name, 1, false)};`);
    return `${type.name} { ${variables.join(" ")} }`;
  }
  return declare(btf, id, "", 0, true);
}

/**
 * @param name what is declared, with what surrounds it already; empty for the type alone
 * @param isWhole whether a struct with a name is written out too
 */
function declare(btf: Btf, id: number, name: string, depth: number, isWhole: boolean): string {
  const type = btf.type(id);
  // What refers to another type is written around the name, and that type around both.
  switch (type.kind) {
    case "array": {
      const length = type.length === 0 ? "" : type.length;
      return declare(btf, type.typeId, `${name}[${length}]`, depth, isWhole);
    }
    case "ptr":
      return declare(btf, type.typeId, pointerTo(btf, type, name), depth, false);
    case "const":
    case "volatile":
    case "restrict":
      return qualified(btf, type, name, depth, isWhole);
    case "type_tag":
    case "var":
      return declare(btf, type.typeId, name, depth, isWhole);
    case "func_proto":
      // Its parameters say little of a value.
      return declare(btf, type.typeId, `${name}()`, depth, false);
    default:
      return join(baseName(btf, type, depth, isWhole), name);
  }
}

/** `*name`, in brackets where what binds more tightly follows. */
function pointerTo(btf: Btf, { typeId }: BtfType, name: string): string {
  const { kind } = btf.type(typeId);
  return kind === "array" || kind === "func_proto" ? `(*${name})` : `*${name}`;
}

/** A qualifier is behind the star of the pointer that it belongs to, and before all other types. */
function qualified(
  btf: Btf,
  { kind, typeId }: BtfType,
  name: string,
  depth: number,
  isWhole: boolean,
): string {
  if (btf.type(typeId).kind === "ptr") {
    return declare(btf, typeId, join(kind, name), depth, isWhole);
  }
  return `${kind} ${declare(btf, typeId, name, depth, isWhole)}`;
}

function baseName(btf: Btf, type: BtfType, depth: number, isWhole: boolean): string {
  switch (type.kind) {
    case "struct":
    case "union": {
      const head = type.name === "" ? type.kind : `${type.kind} ${type.name}`;
      if (type.name !== "" && !isWhole) return head;
      return depth >= greatestDepth ? `${head} { ... }` : `${head} ${body(btf, type.id, depth)}`;
    }
    case "typedef": {
      // What a name of C stands for is worth more than the name, where it is a struct.
      const target = btf.resolve(type.id);
      const isComposite = target.kind === "struct" || target.kind === "union";
      return isWhole && isComposite && depth === 0
        ? `${type.name} ${body(btf, target.id, depth)}`
        : type.name;
    }
    case "enum":
    case "enum64":
      return type.name === "" ? "enum" : `enum ${type.name}`;
    case "fwd":
      return `struct ${type.name}`;
    default:
      return type.name === "" ? type.kind : type.name;
  }
}

function body(btf: Btf, id: number, depth: number): string {
  const members = btf.members(id).map(({ name, typeId, bitSize }) => {
    const width = bitSize === 0 ? "" : ` : ${bitSize}`;
    return `${declare(btf, typeId, name, depth + 1, false)}${width};`;
  });
  return members.length === 0 ? "{}" : `{ ${members.join(" ")} }`;
}

function join(type: string, name: string): string {
  if (name === "") return type;
  return name.startsWith("[") ? `${type}${name}` : `${type} ${name}`;
}
