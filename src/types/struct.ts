import { checkBoolean, checkOptions, checkSize } from "../check/arguments.ts";
import {
  defineType,
  emitNestedRead,
  emitNestedWrite,
  type Place,
  type Recipe,
  recipeOf,
  type Source,
} from "./compile.ts";
import type { CType } from "./c_type.ts";
import { encodeMembers } from "./c_members.ts";
import { copyStruct, makeCursor, type Part, setParts } from "./cursor.ts";
import { type Field, type Layout, layOut, type Member } from "./struct_layout.ts";
import { zero } from "./memory.ts";
import { isOpaque, opaqueFields } from "./opaque.ts";
import { describe, memberPath, refuseType } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import {
  type BitsType,
  type Fields,
  type StructType,
  type StructValue,
  checkType,
} from "./type.ts";

/** How a struct is laid out. */
export interface StructOptions {
  /**
   * Whether members follow each other without padding, as with `__attribute__((packed))`.
   *
   * @default false
   */
  readonly packed?: boolean;
}

/**
 * A C struct, as a plain object. Members lie in the order given, each at its natural alignment, and the
 * end is padded, as a C compiler does it. Padding is always written as zero: a hash map compares it.
 * Bit-fields are {@link bits}.
 *
 * Writing takes any object that has the fields, also by getters or from its class, and refuses one with
 * other fields of its own. Fields that are the kernel's own, such as {@link spinLock}, are not among
 * them: they are written as zero, too; a struct of nothing else has the value `{}`.
 *
 * @throws {TypeError} if there is no field, a field is not a type, its name is a number (which
 * JavaScript would move to the front), an option is misspelt, or there is a second field of a kind that
 * is the kernel's own, at any depth
 * @throws {RangeError} if the size is over 2^31 - 1 bytes, or packing puts a field that is the kernel's
 * own where the kernel does not look for it
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Event = t.struct({ pid: t.u32, comm: t.cstring(16), ts: t.u64Number });
 * console.log(Event.size, Event.fields.ts.offset); // 32 24
 *
 * const view = new DataView(new ArrayBuffer(Event.size));
 * Event.write(view, 0, { pid: 1, comm: "systemd", ts: 5 });
 * console.log(Event.read(view, 0)); // { pid: 1, comm: "systemd", ts: 5 }
 *
 * const Header = t.struct({ kind: t.u8, length: t.be32 }, { packed: true });
 * console.log(Header.size); // 5
 * ```
 */
export function struct<F extends Fields>(fields: F, options: StructOptions = {}): StructType<F> {
  checkOptions("struct(options)", options, ["packed"]);
  const { packed = false } = options;
  checkBoolean("struct(options): packed", packed);
  const checked = checkFields("struct", fields);
  return defineStruct(
    layOut(checked, packed),
    packed,
    nameOf(packed ? "packed struct" : "struct", checked),
  );
}

/** Makes a struct whose layout gives the places of the members. */
export function defineStruct<F extends Fields>(
  layout: Layout,
  packed: boolean,
  name: string,
): StructType<F> {
  checkOpaque(layout.members);
  checkSize(name, layout.size);
  // Without a prototype, so that a member may be called "constructor", and "__proto__" is a name.
  const described = Object.create(null) as Record<string, unknown>;
  for (const { name: field, ...place } of layout.members) {
    described[field] = Object.freeze(place);
  }
  const parts = layout.members
    .filter((member) => !isOpaque(member.type))
    .map((member) => partOf(member, layout.size));
  const type: StructType<F> = defineType<StructValue<F>, StructType<F>>(
    {
      kind: "struct",
      name,
      size: layout.size,
      align: layout.align,
      fields: Object.freeze(described) as StructType<F>["fields"],
      packed,
      cursor: () => makeCursor(type),
      copy: (event) => copyStruct(type, event),
    },
    structRecipe(layout, parts, name) as Recipe<StructValue<F>>,
    structCType,
  );
  setParts(type, parts);
  return type;
}

const structCType: CType = {
  encode(types, type, part) {
    const members = encodeMembers(types, type, part, false);
    return members && types.struct("", type.size, members);
  },
};

/** Returns the place and recipe of a member. A bit-field is loaded with the size of its type where the struct has these bytes. */
function partOf(member: Member, size: number): Part {
  const { type, bitOffset } = member;
  const recipe = recipeOf(type);
  if (bitOffset === undefined || recipe.atBit === undefined) return { ...member, recipe };
  const { size: unit, width } = type as BitsType<unknown>;
  let offset = Math.floor(bitOffset / (unit * 8)) * unit;
  // It crosses a boundary of its type, as packed structs allow.
  if (bitOffset + width > (offset + unit) * 8) ({ offset } = member);
  return { ...member, offset, recipe: recipe.atBit(bitOffset - offset * 8, size - offset) };
}

/** Describes a struct or union by its members. */
export function nameOf(word: string, fields: readonly Field[]): string {
  const list = fields.map(({ name, type }) => `${memberPath("", name)}: ${type.name}`);
  return `${word} { ${list.join(", ")} }`;
}

/** Checks the members of a struct or union. */
export function checkFields(word: "struct" | "union", fields: Fields): Field[] {
  if (typeof fields !== "object" || fields === null) {
    throw new TypeError(`${word}(fields): expected an object of types, got ${describe(fields)}`);
  }
  const entries = Object.entries(fields);
  const checked = entries.map(([name, type]) => {
    const extent = checkType(`${word}(fields): field ${JSON.stringify(name)}`, type);
    if (/^(0|[1-9][0-9]*)$/.test(name)) {
      throw new TypeError(
        `${word}(fields): the name ${JSON.stringify(name)} is a number, which JavaScript moves before the others`,
      );
    }
    const isBits = recipeOf(type).atBit !== undefined;
    return { name, type, ...extent, ...(isBits && { width: (type as BitsType<unknown>).width }) };
  });
  // A bit-field of width 0 is no member.
  if (checked.every(({ width }) => width === 0)) {
    throw new TypeError(`${word}(fields): a ${word} needs a field`);
  }
  return checked;
}

/** The kernel trusts what it is told of its own fields: of some mistakes it warns as of its own bugs. */
function checkOpaque(members: readonly Member[]): void {
  const kinds = new Set<string>();
  for (const member of members) {
    const field = `struct(fields): field ${JSON.stringify(member.name)}`;
    for (const { type, offset } of opaqueFields(member.type, member.offset)) {
      if (kinds.has(type.kind)) {
        throw new TypeError(`${field}: a second ${type.name}: a struct can have one in all`);
      }
      kinds.add(type.kind);
      if (offset % type.align !== 0) {
        throw new RangeError(
          `${field}: expected a ${type.name} to lie at a multiple of ${type.align}, got offset ${offset}`,
        );
      }
    }
  }
}

type Value = Record<string, unknown>;

function structRecipe(
  { members, gaps, shared }: Layout,
  parts: readonly Part[],
  structName: string,
): Recipe<Value> {
  const names = parts.map(({ name }) => name);

  function refuse(value: unknown, path: string): never {
    refuseType(path, `an object (${structName})`, value);
  }

  function checkKeys(value: object, path: string): void {
    for (const key of Object.keys(value)) {
      if (names.includes(key)) continue;
      const field = JSON.stringify(memberPath(path, key));
      throw new TypeError(`unknown field ${field}: ${hintFor(key)}`);
    }
  }

  function hintFor(key: string): string {
    const member = members.find(({ name }) => name === key);
    if (member !== undefined) {
      return `a ${member.type.name} belongs to the kernel and is no part of the value`;
    }
    return names.length === 0 ? "the value is an object without fields" : suggest(key, names);
  }

  function checkPresent(value: object, { name, type }: Member, path: string): void {
    checkKeys(value, path);
    // A custom type may well stand for undefined.
    if (name in value) return;
    const field = JSON.stringify(memberPath(path, name));
    throw new TypeError(`missing field ${field}: expected ${type.name}`);
  }

  return {
    weight: members.reduce((sum, { type }) => sum + recipeOf(type).weight, 0),
    emitRead(source, place) {
      const properties = parts.map(({ name, offset, recipe }) => {
        // A plain key "__proto__" would set the prototype.
        const key = name === "__proto__" ? '["__proto__"]' : JSON.stringify(name);
        return `${key}: ${emitNestedRead(source, recipe, place.plus(offset))}`;
      });
      return `{ ${properties.join(", ")} }`;
    },
    emitWrite(source, place, value, path) {
      source.line(
        `if (typeof ${value} !== "object" || ${value} === null) ${source.capture(refuse)}(${value}, ${path});`,
      );
      // The engine keeps the keys of objects made alike: counting them costs less than 1 ns.
      source.line(
        `if (Object.keys(${value}).length !== ${names.length}) ${source.capture(checkKeys)}(${value}, ${path});`,
      );
      for (const gap of shared) emitZero(source, place.plus(gap.offset), gap.length);
      for (const { recipe, ...member } of parts) {
        const field = source.variable("field");
        const name = JSON.stringify(member.name);
        source.line(`const ${field} = ${value}[${name}];`);
        source.line(
          `if (${field} === undefined) ${source.capture(checkPresent)}(${value}, ${source.capture(member)}, ${path});`,
        );
        const at = place.plus(member.offset);
        const memberPathOf = source.capture(memberPath);
        emitNestedWrite(source, recipe, at, field, `${memberPathOf}(${path}, ${name})`);
      }
      for (const gap of gaps) emitZero(source, place.plus(gap.offset), gap.length);
    },
    read(view, offset) {
      // By definition, not by assignment, which the name "__proto__" would turn into something else.
      return Object.fromEntries(
        parts.map((part) => [part.name, part.recipe.read(view, offset + part.offset)]),
      );
    },
    write(view, offset, value, path) {
      if (typeof value !== "object" || value === null) return refuse(value, path);
      if (Object.keys(value).length !== names.length) checkKeys(value, path);
      for (const gap of shared) zero(view, offset + gap.offset, gap.length);
      for (const { recipe, ...member } of parts) {
        const field = (value as Value)[member.name];
        if (field === undefined) checkPresent(value, member, path);
        recipe.write(view, offset + member.offset, field, memberPath(path, member.name));
      }
      for (const gap of gaps) zero(view, offset + gap.offset, gap.length);
    },
  };
}

/** Zeroes padding in as few stores as it takes. */
function emitZero(source: Source, place: Place, length: number): void {
  let done = 0;
  for (const bytes of [4, 2, 1]) {
    for (; length - done >= bytes; done += bytes) {
      source.line(`view.setUint${bytes * 8}(${place.plus(done)}, 0);`);
    }
  }
}
