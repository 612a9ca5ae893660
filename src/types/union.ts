import { describe, memberPath, refuseType } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { encodeMembers } from "./c_members.ts";
import type { CType } from "./c_type.ts";
import { defineType, emitNestedRead, emitNestedWrite, type Recipe, recipeOf } from "./compile.ts";
import { zero } from "./memory.ts";
import { roundUp } from "./struct_layout.ts";
import { hasOpaqueField, isOpaque } from "./opaque.ts";
import { checkFields, nameOf } from "./struct.ts";
import type { Fields, UnionType, UnionValue } from "./type.ts";

/**
 * Makes the type of a C `union`, whose members share the same bytes. It has the size of its largest member, and the greatest
 * alignment of a member. Values are plain objects. The union does not record which member is valid: other data must.
 *
 * Reading returns an object with all members: the bytes decoded as each of them. Members that are not valid have arbitrary values.
 * Writing takes an object with exactly one member, and zeroes the remaining bytes. To write a value that was read, choose the
 * member: `{ v4: value.v4 }`. In TypeScript only one member is certain to be present: check `"v4" in value`, or use `value.v4!`.
 *
 * @param fields type of each member by name
 * @throws {TypeError} if there are no members, a member is not a type, a name is a number, or a member is or contains an opaque
 *   type, such as {@link spinLock}.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Event = t.struct({
 *   family: t.enum({ INET: 2, INET6: 10 }),
 *   address: t.union({ v4: t.ipv4, v6: t.ipv6 }),
 * });
 * const view = new DataView(new ArrayBuffer(Event.size));
 * Event.write(view, 0, { family: "INET", address: { v4: "192.0.2.1" } });
 * const { family, address } = Event.read(view, 0);
 * console.log(family === "INET" ? address.v4 : address.v6); // 192.0.2.1
 * ```
 */
export function union<F extends Fields>(fields: F): UnionType<F> {
  const checked = checkFields("union", fields);
  const name = nameOf("union", checked);
  for (const { name: member, type, width } of checked) {
    const field = `union(fields): field ${JSON.stringify(member)}`;
    if (isOpaque(type) || hasOpaqueField(type)) {
      throw new TypeError(
        `${field}: expected no type that only the kernel writes, got ${describe(type.name)}: make it a field of a struct`,
      );
    }
    if (width === 0)
      throw new TypeError(`${field}: a bit-field of width 0 can only be in a struct`);
  }
  const align = Math.max(...checked.map((member) => member.align));
  const largest = Math.max(
    ...checked.map(({ size, width }) => (width === undefined ? size : Math.ceil(width / 8))),
  );
  const size = roundUp(largest, align);
  const described = Object.create(null) as Record<string, unknown>;
  for (const { name: member, type, width } of checked) {
    const place = { type, offset: 0, ...(width !== undefined && { bitOffset: 0 }) };
    described[member] = Object.freeze(place);
  }
  const members = checked.map(({ name: member, type }): Alternative => {
    const recipe = recipeOf(type);
    return { name: member, recipe: recipe.atBit?.(0, size) ?? recipe };
  });
  return defineType<UnionValue<F>, UnionType<F>>(
    {
      kind: "union",
      name,
      size,
      align,
      fields: Object.freeze(described) as UnionType<F>["fields"],
    },
    unionRecipe(members, size, name) as Recipe<UnionValue<F>>,
    unionCType,
  );
}

/** A member of a union. */
interface Alternative {
  readonly name: string;
  readonly recipe: Recipe<unknown>;
}

type Value = Record<string, unknown>;

function unionRecipe(members: readonly Alternative[], size: number, name: string): Recipe<Value> {
  const recipes = new Map(members.map((member) => [member.name, member.recipe]));
  const names = [...recipes.keys()];

  /** Returns the name of the only member of a value; `undefined` if the value has none, several or unknown ones. */
  function onlyMember(value: unknown): string | undefined {
    if (typeof value !== "object" || value === null) return undefined;
    let given: string | undefined;
    for (const key of Object.keys(value)) {
      // TypeScript allows undefined for an optional member: such a member counts as absent.
      if ((value as Value)[key] === undefined) continue;
      if (given !== undefined || !recipes.has(key)) return undefined;
      given = key;
    }
    return given;
  }

  function refuse(value: unknown, path: string): never {
    if (typeof value !== "object" || value === null) {
      return refuseType(path, `an object with one member (${name})`, value);
    }
    const given = Object.keys(value).filter((key) => (value as Value)[key] !== undefined);
    const unknown = given.find((key) => !recipes.has(key));
    if (unknown !== undefined) {
      const field = JSON.stringify(memberPath(path, unknown));
      throw new TypeError(`unknown field ${field}: ${suggest(unknown, names)}`);
    }
    const place = path === "" ? "" : `field ${JSON.stringify(path)}: `;
    throw new TypeError(
      `${place}expected exactly one member of the union (${names.join(", ")}), got ${given.join(", ") || "none"}`,
    );
  }

  return {
    weight: members.reduce((sum, { recipe }) => sum + recipe.weight, 0),
    emitRead(source, place) {
      const properties = members.map(({ name: member, recipe }) => {
        // In an object literal the key __proto__ would set the prototype, unless it is computed.
        const key = member === "__proto__" ? '["__proto__"]' : JSON.stringify(member);
        return `${key}: ${emitNestedRead(source, recipe, place)}`;
      });
      return `{ ${properties.join(", ")} }`;
    },
    emitWrite(source, place, value, path) {
      const given = source.variable("given");
      const member = source.variable("member");
      source.line(`const ${given} = ${source.capture(onlyMember)}(${value});`);
      source.line(`if (${given} === undefined) ${source.capture(refuse)}(${value}, ${path});`);
      source.line(`${source.capture(zero)}(view, ${place}, ${size});`);
      source.line(`const ${member} = ${value}[${given}];`);
      for (const { name: key, recipe } of members) {
        const text = JSON.stringify(key);
        source.line(`if (${given} === ${text}) {`);
        const memberPathOf = source.capture(memberPath);
        emitNestedWrite(source, recipe, place, member, `${memberPathOf}(${path}, ${text})`);
        source.line("}");
      }
    },
    read: (view, offset) =>
      // Assigning to the key "__proto__" would set the prototype.
      Object.fromEntries(members.map((member) => [member.name, member.recipe.read(view, offset)])),
    write(view, offset, value, path) {
      const given = onlyMember(value) ?? refuse(value, path);
      zero(view, offset, size);
      recipes.get(given)!.write(view, offset, (value as Value)[given], memberPath(path, given));
    },
  };
}

const unionCType: CType = {
  encode(types, type, encodeNested) {
    const members = encodeMembers(types, type, encodeNested, true);
    return members && types.union("", type.size, members);
  },
};
