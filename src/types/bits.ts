import { checkCount } from "../check/arguments.ts";
import { describe, refuseRange, refuseType } from "../check/describe.ts";
import { isBits } from "./c_members.ts";
import { defineType, type Recipe, type Source } from "./compile.ts";
import { zero } from "./memory.ts";
import { enumRecipe } from "./enum.ts";
import {
  type BitsEnd,
  type BitsType,
  checkType,
  type EnumType,
  type IntegerType,
  type Type,
} from "./type.ts";

/**
 * Makes the type of a C bit-field of `width` bits, C's `base name : width`. Its values are those of `base` that fit into `width`
 * bits; a signed integer keeps its sign.
 *
 * Consecutive bit-fields of a struct are laid out as clang does for BPF programs: without padding, except that a bit-field does not
 * cross a boundary of its declared type. C on x86-64 has the same layout, and so has arm64 unless a bit-field has width 0.
 *
 * Width 0 is C's unnamed zero-width bit-field: the next bit-field begins at a boundary of the type. It has a name in the struct's
 * declaration, but is not part of the struct's value.
 *
 * @param base declared type: an integer of up to 8 bytes in the machine's byte order, `t.bool` or a `t.enum`
 * @param width number of bits, from 0 to the number of bits of the type (1 for `t.bool`)
 * @throws {TypeError} if `base` is another type.
 * @throws {RangeError} if `width` is not an integer in its range.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Flags = t.struct({
 *   version: t.bits(t.u8, 4),
 *   headerLength: t.bits(t.u8, 4),
 *   delta: t.bits(t.i32, 20),
 *   isLast: t.bits(t.bool, 1),
 * });
 * const view = new DataView(new ArrayBuffer(Flags.size));
 * Flags.write(view, 0, { version: 4, headerLength: 5, delta: -3, isLast: true });
 * console.log(Flags.size, view.getUint8(0).toString(16)); // 4 54
 * console.log(Flags.read(view, 0)); // { version: 4, headerLength: 5, delta: -3, isLast: true }
 * ```
 */
export function bits<Outside, Inside>(base: Type<Outside, Inside>, width: 0): BitsEnd;
export function bits<Outside, Inside>(
  base: Type<Outside, Inside>,
  width: number,
): BitsType<Outside, Inside>;
export function bits(base: Type<unknown>, width: number): BitsType<unknown> {
  const { size, align } = checkType("bits(base)", base);
  const limit = base.kind === "bool" ? 1 : size * 8;
  const make = bitFieldMaker(base);
  if (make === undefined) {
    throw new TypeError(
      `bits(base): expected an integer of up to 8 bytes in the machine's byte order, t.bool or a t.enum, got ${describe(base.name)}`,
    );
  }
  checkCount("bits(width)", width, 0, limit);
  const name = `bits(${base.name}, ${width})`;
  const atBit = (bit: number, room: number) =>
    width === 0 ? zeroWidthRecipe : make({ bit, width, room, name });
  const alone = atBit(0, size);
  return defineType<unknown, BitsType<unknown>>(
    { kind: "bits", name, size, align, base, width },
    {
      ...alone,
      emitWrite(source, place, value, path) {
        source.line(`${source.capture(zero)}(view, ${place}, ${size});`);
        alone.emitWrite(source, place, value, path);
      },
      write(view, offset, value, path) {
        zero(view, offset, size);
        alone.write(view, offset, value, path);
      },
      atBit,
    },
    // C has bit-fields only within structs and unions.
    {
      encode: (_types, type, encodeNested) => (isBits(type) ? encodeNested(type.base) : undefined),
    },
  );
}

/** A bit-field within the bytes that it is read from. */
interface BitRange {
  /** First bit, counted from the least significant bit of the first byte. */
  readonly bit: number;
  readonly width: number;
  /** Number of bytes that may be read. */
  readonly room: number;
  /** Name of the type in messages. */
  readonly name: string;
}

/** Returns the function that makes recipes of bit-fields of a type; `undefined` if C has no bit-fields of the type. */
function bitFieldMaker(base: Type<unknown>): ((place: BitRange) => Recipe<unknown>) | undefined {
  const { signed, byteOrder, min } = base as Partial<IntegerType<number | bigint>>;
  if (base.kind === "bool") return (place) => booleanRecipe(integerRecipe(place, false, false));
  if (base.kind === "enum") {
    const { values, base: integer } = base as EnumType<string, number | bigint>;
    // A type that was not made by `t` may have the kind "enum" but no base.
    const make = integer && bitFieldMaker(integer);
    // Writing a name rejects a value that has more bits than the bit-field; C would truncate it.
    return (
      make &&
      ((place) => enumRecipe(Object.entries(values), make(place) as Recipe<number | bigint>))
    );
  }
  if (signed === undefined || byteOrder !== "native" || base.size > 8) return undefined;
  return (place) => integerRecipe(place, signed, typeof min === "bigint");
}

const refuseZeroWidth = (): never => {
  throw new TypeError("bits: a bit-field of width 0 has no value: use it in a struct");
};
/** Recipe of a zero-width bit-field, which a struct neither reads nor writes. */
const zeroWidthRecipe: Recipe<never> = {
  weight: 1,
  emitRead: (source) => `${source.capture(refuseZeroWidth)}()`,
  emitWrite: (source) => source.line(`${source.capture(refuseZeroWidth)}();`),
  read: refuseZeroWidth,
  write: refuseZeroWidth,
};

/** Returns the recipe of a bit-field with booleans as values. */
function booleanRecipe(bit: Recipe<unknown>): Recipe<boolean> {
  const refuse = (value: unknown, path: string) => refuseType(path, "true or false (bool)", value);
  return {
    weight: 1,
    emitRead: (source, place) => `${bit.emitRead(source, place)} !== 0`,
    emitWrite(source, place, value, path) {
      const number = source.variable("number");
      source.line(
        `if (typeof ${value} !== "boolean") ${source.capture(refuse)}(${value}, ${path});`,
      );
      source.line(`const ${number} = ${value} ? 1 : 0;`);
      bit.emitWrite(source, place, number, path);
    },
    read: (view, offset) => bit.read(view, offset) !== 0,
    write(view, offset, value, path) {
      if (typeof value !== "boolean") refuse(value, path);
      bit.write(view, offset, value ? 1 : 0, path);
    },
  };
}

/** Returns the recipe of a bit-field with integers as values. It uses one load if enough bytes follow, otherwise one for each byte. */
function integerRecipe(
  { bit, width, room, name }: BitRange,
  isSigned: boolean,
  isBig: boolean,
): Recipe<number | bigint> {
  const size = [1, 2, 4].find((bytes) => bit + width <= bytes * 8 && bytes <= room);
  const limit = 2n ** BigInt(isSigned ? width - 1 : width);
  const min = isSigned ? -limit : 0n;
  // A number is exact up to 53 bits: reading rounds larger values, and writing rejects them.
  const widest = isBig ? 64n : 53n;
  const max = limit > 2n ** widest ? 2n ** widest - 1n : limit - 1n;
  const smallest = isBig || min > -(2n ** widest) ? min : 1n - 2n ** widest;
  function check(value: unknown, path: string): asserts value is number | bigint {
    const wanted = isBig ? "bigint" : "number";
    const expected = `${isBig ? "a bigint" : "an integer"} from ${smallest} to ${max} (${name})`;
    if (typeof value !== wanted) {
      const hint = typeof value === "number" ? "pass a bigint, e.g. 5n" : "";
      return refuseType(path, expected, value, hint);
    }
    const isInteger = isBig || Number.isInteger(value);
    if (!isInteger || (value as bigint) < smallest || (value as bigint) > max) {
      refuseRange(path, expected, value);
    }
  }
  function read(view: DataView, offset: number): number | bigint {
    const value = readBits(view, offset, bit, width);
    const result = isSigned ? BigInt.asIntN(width, value) : value;
    return isBig ? result : Number(result);
  }
  function emitCheck(source: Source, value: string, path: string): void {
    const isWrong = isBig
      ? `typeof ${value} !== "bigint" || ${value} < ${smallest}n || ${value} > ${max}n`
      : `typeof ${value} !== "number" || !(${value} >= ${smallest} && ${value} <= ${max}) || Math.floor(${value}) !== ${value}`;
    source.line(`if (${isWrong}) ${source.capture(check)}(${value}, ${path});`);
  }
  function store(view: DataView, offset: number, value: number | bigint): void {
    addBits(view, offset, bit, BigInt.asUintN(width, BigInt(value)));
  }
  function write(view: DataView, offset: number, value: unknown, path: string): void {
    check(value, path);
    store(view, offset, value);
  }
  if (isBig && bit + width <= 64 && room >= 8) {
    const wrap = `BigInt.as${isSigned ? "Int" : "Uint"}N`;
    return {
      weight: 2,
      emitRead: (_source, place) =>
        `${wrap}(${width}, view.getBigUint64(${place}, true) >> ${bit}n)`,
      emitWrite(source, place, value, path) {
        emitCheck(source, value, path);
        source.line(
          `view.setBigUint64(${place}, view.getBigUint64(${place}, true) | BigInt.asUintN(${width}, ${value}) << ${bit}n, true);`,
        );
      },
      read,
      write,
    };
  }
  if (size === undefined || isBig) {
    return {
      weight: 2,
      emitRead: (source, place) => `${source.capture(read)}(view, ${place})`,
      emitWrite(source, place, value, path) {
        emitCheck(source, value, path);
        source.line(`${source.capture(store)}(view, ${place}, ${value});`);
      },
      read,
      write,
    };
  }
  const accessor = `Uint${size * 8}`;
  const mask = width === 32 ? "" : ` & ${2 ** width - 1}`;
  return {
    weight: 1,
    emitRead(_source, place) {
      const load = `view.get${accessor}(${place}, true)`;
      if (isSigned) return `${load} << ${32 - bit - width} >> ${32 - width}`;
      return width === 32 ? load : `(${load} >>> ${bit}${mask})`;
    },
    emitWrite(source, place, value, path) {
      emitCheck(source, value, path);
      source.line(
        `view.set${accessor}(${place}, view.get${accessor}(${place}, true) | (${value}${mask}) << ${bit}, true);`,
      );
    },
    read,
    write,
  };
}

/** Reads bits as an unsigned integer, beginning with the least significant. */
function readBits(view: DataView, offset: number, bit: number, width: number): bigint {
  let value = 0n;
  const last = (bit + width - 1) >> 3;
  for (let at = last; at >= bit >> 3; at--)
    value = (value << 8n) | BigInt(view.getUint8(offset + at));
  return BigInt.asUintN(width, value >> BigInt(bit & 7));
}

/** Stores bits where all bits are 0, without changing neighbouring bits. */
function addBits(view: DataView, offset: number, bit: number, value: bigint): void {
  let rest = value << BigInt(bit & 7);
  for (let at = offset + (bit >> 3); rest > 0n; at++, rest >>= 8n) {
    view.setUint8(at, view.getUint8(at) | Number(rest & 0xffn));
  }
}
