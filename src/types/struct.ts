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
import { copyStruct, makeCursor, type ValueMember, setValueMembers } from "./cursor.ts";
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

/** Options of {@link struct}. */
export interface StructOptions {
  /**
   * Places members without padding between them, as `__attribute__((packed))` does.
   *
   * @default false
   */
  readonly packed?: boolean;
}

/**
 * Makes the type of a C struct. Values are plain objects with a property for each member.
 *
 * Members are in the order of `fields`, each at its natural alignment, with padding as a C compiler adds it.
 * Padding is written as zero, because hash maps compare it. Bit-fields are made by {@link bits}.
 *
 * Writing takes any object that has the fields; they may be getters or inherited. It rejects an object with other own
 * enumerable properties. Opaque fields, such as {@link spinLock}, are not part of the value: they are written as zero. A
 * struct with only opaque fields has the value `{}`.
 *
 * @param fields type of each member by name
 * @throws {TypeError} if there are no fields, a field is not a type, a name is a number (JavaScript would
 * move it to the front), an option is misspelt, or there are two opaque fields of one kind, at any depth.
 * @throws {RangeError} if the struct takes more than 2^31 - 1 bytes, or an opaque field is not aligned.
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

/** Defines a struct with a given layout. */
export function defineStruct<F extends Fields>(
  layout: Layout,
  packed: boolean,
  name: string,
): StructType<F> {
  checkOpaque(layout.members);
  checkSize(name, layout.size);
  // The object has no prototype, so that "constructor" and "__proto__" can be names.
  const described = Object.create(null) as Record<string, unknown>;
  for (const { name: field, ...place } of layout.members) {
    described[field] = Object.freeze(place);
  }
  const valueMembers = layout.members
    .filter((member) => !isOpaque(member.type))
    .map((member) => withRecipe(member, layout.size));
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
    structRecipe(layout, valueMembers, name) as Recipe<StructValue<F>>,
    structCType,
  );
  setValueMembers(type, valueMembers);
  return type;
}

const structCType: CType = {
  encode(types, type, encodeNested) {
    const members = encodeMembers(types, type, encodeNested, false);
    return members && types.struct("", type.size, members);
  },
};

/** Returns a member with its recipe. A bit-field is read at an offset that is a multiple of its declared type's size, if possible. */
function withRecipe(member: Member, size: number): ValueMember {
  const { type, bitOffset } = member;
  const recipe = recipeOf(type);
  if (bitOffset === undefined || recipe.atBit === undefined) return { ...member, recipe };
  const { size: unit, width } = type as BitsType<unknown>;
  let offset = Math.floor(bitOffset / (unit * 8)) * unit;
  // In a packed struct a bit-field can cross a boundary of its declared type.
  if (bitOffset + width > (offset + unit) * 8) ({ offset } = member);
  return { ...member, offset, recipe: recipe.atBit(bitOffset - offset * 8, size - offset) };
}

/** Returns the name of a struct or union for messages, with its members. */
export function nameOf(word: string, fields: readonly Field[]): string {
  const list = fields.map(({ name, type }) => `${memberPath("", name)}: ${type.name}`);
  return `${word} { ${list.join(", ")} }`;
}

/** Checks the members of a struct or union, and returns them with their sizes and alignments. */
export function checkFields(word: "struct" | "union", fields: Fields): Field[] {
  if (typeof fields !== "object" || fields === null) {
    throw new TypeError(`${word}(fields): expected an object of types, got ${describe(fields)}`);
  }
  const entries = Object.entries(fields);
  const checked = entries.map(([name, type]) => {
    const extent = checkType(`${word}(fields): field ${JSON.stringify(name)}`, type);
    if (/^(0|[1-9][0-9]*)$/.test(name)) {
      throw new TypeError(
        `${word}(fields): the name ${JSON.stringify(name)} is a number, and JavaScript lists numbers first: use another name`,
      );
    }
    const isBits = recipeOf(type).atBit !== undefined;
    return { name, type, ...extent, ...(isBits && { width: (type as BitsType<unknown>).width }) };
  });
  // A bit-field of width 0 is not a member.
  if (checked.every(({ width }) => width === 0)) {
    throw new TypeError(`${word}(fields): expected at least one field`);
  }
  return checked;
}

/** Checks the opaque fields of a struct. The kernel does not reject all mistakes: some trigger a WARN in its log. */
function checkOpaque(members: readonly Member[]): void {
  const kinds = new Set<string>();
  for (const member of members) {
    const field = `struct(fields): field ${JSON.stringify(member.name)}`;
    for (const { type, offset } of opaqueFields(member.type, member.offset)) {
      if (kinds.has(type.kind)) {
        throw new TypeError(`${field}: a struct can have only one ${type.name}`);
      }
      kinds.add(type.kind);
      if (offset % type.align !== 0) {
        throw new RangeError(
          `${field}: expected an offset that is a multiple of ${type.align} (${type.name}), got ${offset}`,
        );
      }
    }
  }
}

type Value = Record<string, unknown>;

function structRecipe(
  { members, gaps, shared }: Layout,
  valueMembers: readonly ValueMember[],
  structName: string,
): Recipe<Value> {
  const names = valueMembers.map(({ name }) => name);

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
      return `only the kernel writes a ${member.type.name}: leave it out`;
    }
    return names.length === 0 ? "the value is an object without fields" : suggest(key, names);
  }

  function checkPresent(value: object, { name, type }: Member, path: string): void {
    checkKeys(value, path);
    // undefined can be a value of a custom type.
    if (name in value) return;
    const field = JSON.stringify(memberPath(path, name));
    throw new TypeError(`missing field ${field}: expected ${type.name}`);
  }

  return {
    weight: members.reduce((sum, { type }) => sum + recipeOf(type).weight, 0),
    emitRead(source, place) {
      const properties = valueMembers.map(({ name, offset, recipe }) => {
        // In an object literal the key __proto__ would set the prototype, unless it is computed.
        const key = name === "__proto__" ? '["__proto__"]' : JSON.stringify(name);
        return `${key}: ${emitNestedRead(source, recipe, place.plus(offset))}`;
      });
      return `{ ${properties.join(", ")} }`;
    },
    emitWrite(source, place, value, path) {
      source.line(
        `if (typeof ${value} !== "object" || ${value} === null) ${source.capture(refuse)}(${value}, ${path});`,
      );
      // The engine caches the keys of objects with the same shape: counting them takes less than 1 ns.
      source.line(
        `if (Object.keys(${value}).length !== ${names.length}) ${source.capture(checkKeys)}(${value}, ${path});`,
      );
      for (const gap of shared) emitZero(source, place.plus(gap.offset), gap.length);
      for (const { recipe, ...member } of valueMembers) {
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
      // Assigning to the key "__proto__" would set the prototype.
      return Object.fromEntries(
        valueMembers.map((member) => [
          member.name,
          member.recipe.read(view, offset + member.offset),
        ]),
      );
    },
    write(view, offset, value, path) {
      if (typeof value !== "object" || value === null) return refuse(value, path);
      if (Object.keys(value).length !== names.length) checkKeys(value, path);
      for (const gap of shared) zero(view, offset + gap.offset, gap.length);
      for (const { recipe, ...member } of valueMembers) {
        const field = (value as Value)[member.name];
        if (field === undefined) checkPresent(value, member, path);
        recipe.write(view, offset + member.offset, field, memberPath(path, member.name));
      }
      for (const gap of gaps) zero(view, offset + gap.offset, gap.length);
    },
  };
}

/** Adds the statements that zero padding, in as few stores as possible. */
function emitZero(source: Source, place: Place, length: number): void {
  let done = 0;
  for (const bytes of [4, 2, 1]) {
    for (; length - done >= bytes; done += bytes) {
      source.line(`view.setUint${bytes * 8}(${place.plus(done)}, 0);`);
    }
  }
}
