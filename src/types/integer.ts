import { refuseRange, refuseType } from "../check/describe.ts";
import { cBe16, cBe32, cBe64, type CType } from "./c_type.ts";
import { defineType, type Recipe } from "./compile.ts";
import { LITTLE_ENDIAN } from "./memory.ts";
import type { IntegerKind, IntegerType, Type } from "./type.ts";

const WORD = 2 ** 32;
const LOW_WORD = LITTLE_ENDIAN ? 0 : 4;
const HIGH_WORD = LITTLE_ENDIAN ? 4 : 0;

/** Suffix of DataView's getter and setter for one width and sign: `"Uint32"` for `getUint32` and `setUint32`. */
type Accessor =
  "Uint8" | "Uint16" | "Uint32" | "Int8" | "Int16" | "Int32" | "BigUint64" | "BigInt64";

interface Range<T extends number | bigint> {
  readonly kind: IntegerKind;
  readonly min: T;
  readonly max: T;
  readonly byteOrder?: "big";
  /** Name of the C integer type, or the function that encodes another C type. */
  readonly c: string | CType["encode"];
}

/** Defines an integer type, which is aligned to its size. */
export function defineInteger<T extends number | bigint>(
  { kind, min, max, byteOrder, c }: Range<T>,
  size: number,
  recipe: Omit<Recipe<T>, "weight">,
): IntegerType<T> {
  const isSigned = min < 0;
  const encode: CType["encode"] =
    typeof c === "string" ? (types) => types.int(c, size, { isSigned }) : c;
  return defineType<T, IntegerType<T>>(
    {
      kind,
      name: kind,
      size,
      align: size,
      signed: isSigned,
      min,
      max,
      byteOrder: byteOrder ?? "native",
    },
    { weight: 1, ...recipe },
    { size, encode },
  );
}

/** Returns an expression for generated code: true if a variable is not an integer in the range. */
function outsideExpression(value: string, { min, max }: Range<number | bigint>): string {
  if (typeof min === "bigint") {
    return `typeof ${value} !== "bigint" || ${value} < ${min}n || ${value} > ${max}n`;
  }
  // For 8, 16 and 32 bits, comparing with the wrapped value is the fastest check. It rejects NaN.
  const wrapped: Record<string, string> = {
    "255": `(${value} & 255)`,
    "65535": `(${value} & 65535)`,
    "4294967295": `${value} >>> 0`,
    "127": `${value} << 24 >> 24`,
    "32767": `${value} << 16 >> 16`,
    "2147483647": `(${value} | 0)`,
  };
  const same = wrapped[String(max)];
  return same === undefined
    ? `typeof ${value} !== "number" || !(${value} >= ${min} && ${value} <= ${max}) || Math.floor(${value}) !== ${value}`
    : `typeof ${value} !== "number" || ${same} !== ${value}`;
}

function isOutside(value: unknown, { min, max }: Range<number | bigint>): boolean {
  if (typeof value === "bigint") return typeof min !== "bigint" || value < min || value > max;
  if (typeof value !== "number" || typeof min === "bigint") return true;
  return !Number.isInteger(value) || value < min || value > max;
}

/** Returns the function that throws the error for a value outside of the range. */
function makeRefuse(range: Range<number | bigint>): (value: unknown, path: string) => never {
  return (value, path) => {
    const { kind, min, max } = range;
    const wanted = typeof min;
    const expected = `${wanted === "bigint" ? "a bigint" : "an integer"} from ${min} to ${max} (${kind})`;
    if (typeof value === wanted) return refuseRange(path, expected, value);
    let hint = "";
    if (wanted === "number" && typeof value === "bigint") hint = "pass a number, e.g. 5";
    if (wanted === "bigint" && typeof value === "number") {
      hint = "pass a bigint, e.g. 5n";
      if (range.byteOrder === undefined) hint += `, or use t.${kind}Number`;
    }
    return refuseType(path, expected, value, hint);
  };
}

/** Defines an integer type that DataView reads and writes with one call. */
function integer<T extends number | bigint>(
  accessor: Accessor,
  size: number,
  range: Range<T>,
): IntegerType<T> {
  const little = range.byteOrder === "big" ? false : LITTLE_ENDIAN;
  const refuse = makeRefuse(range);
  // TypeScript cannot know that this accessor's getter returns T and its setter takes T; the definitions below pair them.
  const get = DataView.prototype[`get${accessor}`] as (offset: number, little?: boolean) => T;
  const set = DataView.prototype[`set${accessor}`] as (
    offset: number,
    value: T,
    little?: boolean,
  ) => void;
  return defineInteger(range, size, {
    emitRead: (_source, place) => `view.get${accessor}(${place}, ${little})`,
    emitWrite(source, place, value, path) {
      source.line(
        `if (${outsideExpression(value, range)}) ${source.capture(refuse)}(${value}, ${path});`,
      );
      source.line(`view.set${accessor}(${place}, ${value}, ${little});`);
    },
    read: (view, offset) => get.call(view, offset, little),
    write(view, offset, value, path) {
      if (isOutside(value, range)) refuse(value, path);
      set.call(view, offset, value as T, little);
    },
  });
}

/** Defines a 64-bit integer type with numbers as values. Two 32-bit halves take half the time of one bigint and allocate nothing. */
function defineWideNumber(high: "Uint32" | "Int32", range: Range<number>): IntegerType<number> {
  const refuse = makeRefuse(range);
  return defineInteger(range, 8, {
    emitRead: (_source, place) =>
      `view.get${high}(${place.plus(HIGH_WORD)}, ${LITTLE_ENDIAN}) * ${WORD} + view.getUint32(${place.plus(LOW_WORD)}, ${LITTLE_ENDIAN})`,
    emitWrite(source, place, value, path) {
      source.line(
        `if (${outsideExpression(value, range)}) ${source.capture(refuse)}(${value}, ${path});`,
      );
      source.line(`view.setUint32(${place.plus(LOW_WORD)}, ${value} >>> 0, ${LITTLE_ENDIAN});`);
      source.line(
        `view.setInt32(${place.plus(HIGH_WORD)}, Math.floor(${value} / ${WORD}), ${LITTLE_ENDIAN});`,
      );
    },
    read: (view, offset) =>
      view[`get${high}`](offset + HIGH_WORD, LITTLE_ENDIAN) * WORD +
      view.getUint32(offset + LOW_WORD, LITTLE_ENDIAN),
    write(view, offset, value, path) {
      if (typeof value !== "number" || isOutside(value, range)) return refuse(value, path);
      view.setUint32(offset + LOW_WORD, value >>> 0, LITTLE_ENDIAN);
      view.setInt32(offset + HIGH_WORD, Math.floor(value / WORD), LITTLE_ENDIAN);
    },
  });
}

// These are literals, because bundlers keep initializers that read a property or negate a name or a bigint.
const SAFE = 2 ** 53 - 1;
const SMALLEST_SAFE = 1 - 2 ** 53;
const SMALLEST_I64 = /*@__PURE__*/ BigInt.asIntN(64, 0x8000_0000_0000_0000n);

/**
 * Unsigned integer of 1 byte, C's `__u8`. Values are numbers from 0 to 255.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.u8.write(new DataView(new ArrayBuffer(1)), 0, 255);
 * ```
 */
export const u8: IntegerType<number> = /*@__PURE__*/ integer("Uint8", 1, {
  kind: "u8",
  c: "unsigned char",
  min: 0,
  max: 0xff,
});

/**
 * Unsigned integer of 2 bytes in the machine's byte order, C's `__u16`. Values are numbers from 0 to
 * 65,535. For a port in network byte order, use {@link be16}.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.u16.write(new DataView(new ArrayBuffer(2)), 0, 65535);
 * ```
 */
export const u16: IntegerType<number> = /*@__PURE__*/ integer("Uint16", 2, {
  kind: "u16",
  c: "unsigned short",
  min: 0,
  max: 0xffff,
});

/**
 * Unsigned integer of 4 bytes in the machine's byte order, C's `__u32`. Values are numbers from 0 to
 * 4,294,967,295.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.u32.write(new DataView(new ArrayBuffer(4)), 0, 4294967295);
 * ```
 */
export const u32: IntegerType<number> = /*@__PURE__*/ integer("Uint32", 4, {
  kind: "u32",
  c: "unsigned int",
  min: 0,
  max: 0xffffffff,
});

/**
 * Signed integer of 1 byte, C's `__s8`. Values are numbers from -128 to 127.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i8.write(new DataView(new ArrayBuffer(1)), 0, -128);
 * ```
 */
export const i8: IntegerType<number> = /*@__PURE__*/ integer("Int8", 1, {
  kind: "i8",
  c: "signed char",
  min: -0x80,
  max: 0x7f,
});

/**
 * Signed integer of 2 bytes in the machine's byte order, C's `__s16`. Values are numbers from -32,768 to
 * 32,767.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i16.write(new DataView(new ArrayBuffer(2)), 0, -32768);
 * ```
 */
export const i16: IntegerType<number> = /*@__PURE__*/ integer("Int16", 2, {
  kind: "i16",
  c: "short",
  min: -0x8000,
  max: 0x7fff,
});

/**
 * Signed integer of 4 bytes in the machine's byte order, C's `__s32`. Values are numbers from
 * -2,147,483,648 to 2,147,483,647.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i32.write(new DataView(new ArrayBuffer(4)), 0, -1);
 * ```
 */
export const i32: IntegerType<number> = /*@__PURE__*/ integer("Int32", 4, {
  kind: "i32",
  c: "int",
  min: -0x80000000,
  max: 0x7fffffff,
});

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * Unsigned integer of 8 bytes in the machine's byte order, C's `__u64`. Values are bigints from 0 to
 * 2^64 - 1.
 *
 * {@link u64Number} takes half the time and allocates nothing, but is exact only up to 2^53 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.u64.write(new DataView(new ArrayBuffer(8)), 0, 0xffff_ffff_ffff_ffffn);
 * ```
 */
export const u64: IntegerType<bigint> = /*@__PURE__*/ integer("BigUint64", 8, {
  kind: "u64",
  c: "unsigned long long",
  min: 0n,
  max: U64_MAX,
});

/**
 * Signed integer of 8 bytes in the machine's byte order, C's `__s64`. Values are bigints from -2^63 to
 * 2^63 - 1.
 *
 * {@link i64Number} takes half the time and allocates nothing, but is exact only from -(2^53 - 1) to
 * 2^53 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i64.write(new DataView(new ArrayBuffer(8)), 0, -1n);
 * ```
 */
export const i64: IntegerType<bigint> = /*@__PURE__*/ integer("BigInt64", 8, {
  kind: "i64",
  c: "long long",
  min: SMALLEST_I64,
  max: 0x7fff_ffff_ffff_ffffn,
});

/**
 * Unsigned integer of 8 bytes as a number, C's `__u64`: for times, sizes and counts.
 *
 * Writing takes integers from 0 to 2^53 - 1. Reading rounds larger values (such as hashes, pointers and
 * masks) to the nearest number, without an error. Use {@link u64} for exact values.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(8));
 * t.u64Number.write(view, 0, 1_700_000_000_000_000);
 * console.log(t.u64Number.read(view, 0)); // 1700000000000000
 * ```
 */
export const u64Number: IntegerType<number> = /*@__PURE__*/ defineWideNumber("Uint32", {
  kind: "u64Number",
  c: "unsigned long long",
  min: 0,
  max: SAFE,
});

/**
 * Signed integer of 8 bytes as a number, C's `__s64`.
 *
 * Writing takes integers from -(2^53 - 1) to 2^53 - 1. Reading rounds values beyond that range to the
 * nearest number, without an error. Use {@link i64} for exact values.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i64Number.write(new DataView(new ArrayBuffer(8)), 0, -1);
 * ```
 */
export const i64Number: IntegerType<number> = /*@__PURE__*/ defineWideNumber("Int32", {
  kind: "i64Number",
  c: "long long",
  min: SMALLEST_SAFE,
  max: SAFE,
});

/**
 * Unsigned integer of 2 bytes in network byte order, such as a port, C's `__be16`. Values are numbers
 * from 0 to 65,535.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(2));
 * t.be16.write(view, 0, 443);
 * console.log(view.getUint8(0), view.getUint8(1)); // 1 187
 * ```
 */
export const be16: IntegerType<number> = /*@__PURE__*/ integer("Uint16", 2, {
  kind: "be16",
  c: cBe16,
  min: 0,
  max: 0xffff,
  byteOrder: "big",
});

/**
 * Unsigned integer of 4 bytes in network byte order, C's `__be32`. Values are numbers from 0 to
 * 4,294,967,295. For an IPv4 address as a string, use `t.ipv4`.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.be32.write(new DataView(new ArrayBuffer(4)), 0, 0x0a000001);
 * ```
 */
export const be32: IntegerType<number> = /*@__PURE__*/ integer("Uint32", 4, {
  kind: "be32",
  c: cBe32,
  min: 0,
  max: 0xffffffff,
  byteOrder: "big",
});

/**
 * Unsigned integer of 8 bytes in network byte order, C's `__be64`. Values are bigints from 0 to 2^64 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.be64.write(new DataView(new ArrayBuffer(8)), 0, 1n);
 * ```
 */
export const be64: IntegerType<bigint> = /*@__PURE__*/ integer("BigUint64", 8, {
  kind: "be64",
  c: cBe64,
  min: 0n,
  max: U64_MAX,
  byteOrder: "big",
});

function refuse(value: unknown, path: string): never {
  refuseType(path, "true or false (bool)", value);
}

/**
 * Boolean of 1 byte, C's `bool`. Every byte other than 0 reads as `true`; `true` is written as 1. Writing
 * takes booleans only: use {@link u8} for a byte that is a number.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(1));
 * t.bool.write(view, 0, true);
 * console.log(t.bool.read(view, 0)); // true
 * ```
 */
export const bool: Type<boolean, boolean> = /*@__PURE__*/ defineType<
  boolean,
  Type<boolean, boolean>
>(
  { kind: "bool", name: "bool", size: 1, align: 1 },
  {
    weight: 1,
    emitRead: (_source, place) => `view.getUint8(${place}) !== 0`,
    emitWrite(source, place, value, path) {
      source.line(
        `if (typeof ${value} !== "boolean") ${source.capture(refuse)}(${value}, ${path});`,
      );
      source.line(`view.setUint8(${place}, ${value} ? 1 : 0);`);
    },
    read: (view, offset) => view.getUint8(offset) !== 0,
    write(view, offset, value, path) {
      if (typeof value !== "boolean") refuse(value, path);
      view.setUint8(offset, value ? 1 : 0);
    },
  },
  { size: 1, encode: (types) => types.int("_Bool", 1, { isBool: true }) },
);
