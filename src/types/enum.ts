import { checkOptions } from "../check/arguments.ts";
import { describe, memberPath, refuseRange } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { BTF_KIND_ENUM, BTF_KIND_ENUM64 } from "../uapi/btf.ts";
import { identifiers, isType, maxMembers } from "./c_members.ts";
import type { CType } from "./c_type.ts";
import { defineType, type Recipe, recipeOf } from "./compile.ts";
import { i32, u32 } from "./integer.ts";
import type { EnumType, IntegerType, Type } from "./type.ts";

/** Options of an enum type. */
export interface EnumOptions<N extends number | bigint> {
  /**
   * Integer type that stores the values.
   *
   * @default as in C: `t.i32` if a value is negative, otherwise `t.u32`
   */
  readonly base?: IntegerType<N>;
}

/**
 * Makes the type of a C `enum`, exported as `t.enum`. Values are the names as strings, or numbers that have no name.
 *
 * Reading returns the name of a value; if several names share the value, the first of them. A value without a name, such as one of
 * a newer kernel, reads as the number. Writing takes names, and every number in the range of the base type.
 *
 * @param values value of each name: numbers, or bigints if the base type's values are bigints
 * @throws {TypeError} if there are no names, a name is a number (JavaScript would move it to the front), a value has the wrong
 *   JavaScript type, or an option is misspelt.
 * @throws {RangeError} if a value is out of the base type's range.
 *
 * @example
 * ```ts
 * import { t, uapi } from "bun-bpf";
 *
 * const Verdict = t.enum({ DROP: 1, PASS: 2 });
 * type Verdict = t.Infer<typeof Verdict>; // "DROP" | "PASS" | number
 * const view = new DataView(new ArrayBuffer(Verdict.size));
 * Verdict.write(view, 0, "PASS");
 * console.log(Verdict.read(view, 0), Verdict.values.PASS); // PASS 2
 * Verdict.write(view, 0, 77);
 * console.log(Verdict.read(view, 0)); // 77
 *
 * const Family = t.enum({ INET: 2, INET6: 10 }, { base: t.u16 });
 * console.log(Family.size); // 2
 *
 * const State = t.enum(uapi.tcp_state); // "TCP_ESTABLISHED" and so on
 * console.log(State.values.TCP_LISTEN); // 10
 * ```
 */
export function enumeration<
  const V extends Readonly<Record<string, number | bigint>>,
  N extends number | bigint = number,
>(values: V, options: EnumOptions<N> = {}): EnumType<keyof V & string, N> {
  checkOptions("enum(options)", options, ["base"]);
  if (typeof values !== "object" || values === null) {
    throw new TypeError(`enum(values): expected an object of numbers, got ${describe(values)}`);
  }
  const entries = Object.entries(values) as [string, N][];
  if (entries.length === 0) throw new TypeError("enum(values): expected at least one name");
  const isNegative = entries.some(([, value]) => value < 0);
  const { base = (isNegative ? i32 : u32) as IntegerType<N> } = options;
  if (typeof (base as Partial<typeof base> | null)?.signed !== "boolean") {
    throw new TypeError(`enum(options): base: expected an integer type, got ${describe(base)}`);
  }
  const room = new DataView(new ArrayBuffer(base.size));
  for (const [name, value] of entries) {
    if (/^(0|[1-9][0-9]*)$/.test(name)) {
      throw new TypeError(
        `enum(values): the name ${JSON.stringify(name)} is a number, and JavaScript lists numbers first: use another name`,
      );
    }
    recipeOf(base).write(room, 0, value, `enum(values).${name}`);
  }
  const list = entries.map(([name, value]) => `${memberPath("", name)} = ${value}`).join(", ");
  const suffix = options.base === undefined ? "" : `: ${base.name}`;
  return defineEnum(entries, base, `enum${suffix} { ${list} }`);
}

/** Defines an enum whose values are known to be in the range of the base type. */
export function defineEnum<Name extends string, N extends number | bigint>(
  entries: readonly (readonly [name: string, value: N])[],
  base: IntegerType<N>,
  name: string,
): EnumType<Name, N> {
  // The object has no prototype, so that "constructor" and "__proto__" can be names.
  const values = Object.create(null) as Record<string, N>;
  for (const [key, value] of entries) values[key] = value;
  return defineType<unknown, EnumType<Name, N>>(
    {
      kind: "enum",
      name,
      size: base.size,
      align: base.align,
      values: Object.freeze(values) as EnumType<Name, N>["values"],
      base,
    },
    enumRecipe(entries, recipeOf(base)),
    enumCType,
  );
}

/** Returns the recipe of an enum, based on the recipe of its integer type. */
export function enumRecipe<N extends number | bigint>(
  entries: readonly (readonly [name: string, value: N])[],
  integer: Recipe<N>,
): Recipe<unknown> {
  const values = new Map(entries);
  // The entries are reversed, so that the first of several names for a value is kept.
  const names = new Map(entries.map(([name, value]) => [value, name] as const).reverse());
  const nameOf = (value: N): string | N => names.get(value) ?? value;
  function refuse(name: string, path: string): never {
    refuseRange(path, "a name or a number of the enum", name, suggest(name, [...values.keys()]));
  }
  return {
    weight: integer.weight,
    emitRead: (source, place) => `${source.capture(nameOf)}(${integer.emitRead(source, place)})`,
    emitWrite(source, place, value, path) {
      const number = source.variable("number");
      source.line(
        `const ${number} = typeof ${value} === "string" ? ${source.capture(values)}.get(${value}) ?? ${source.capture(refuse)}(${value}, ${path}) : ${value};`,
      );
      integer.emitWrite(source, place, number, path);
    },
    read: (view, offset) => nameOf(integer.read(view, offset)),
    write(view, offset, value, path) {
      const number = typeof value === "string" ? (values.get(value) ?? refuse(value, path)) : value;
      integer.write(view, offset, number, path);
    },
  };
}

const enumCType: CType = {
  encode(types, type, encodeNested) {
    const {
      values = {},
      base,
      size,
    } = type as Partial<EnumType<string, number | bigint>> & Type<unknown>;
    const entries = Object.entries(values);
    if (!isType(base) || entries.length === 0 || entries.length > maxMembers) return undefined;
    // C's enums are in the machine's byte order and have at most 64 bits.
    if (base.byteOrder === "big" || size > 8) return encodeNested(base);
    const isWide = size === 8;
    // The flag for signed enums and BTF_KIND_ENUM64 exist since 6.0.
    types.usesNewKinds ||= isWide || base.signed;
    if (isWide && types.isLegacy) return encodeNested(base);
    const names = identifiers(entries.map(([name]) => name));
    const words = entries.map(([, value], index) => {
      const bits = BigInt.asUintN(64, BigInt(value));
      const halves = [Number(bits & 0xffff_ffffn), Number(bits >> 32n)];
      return [types.nameOffset(names[index] as string), ...halves.slice(0, isWide ? 2 : 1)];
    });
    return types.add(isWide ? BTF_KIND_ENUM64 : BTF_KIND_ENUM, "", size, {
      flag: base.signed && !types.isLegacy,
      entries: words,
    });
  },
};
