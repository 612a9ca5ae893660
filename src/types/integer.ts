import { refuseRange, refuseType } from "../check/describe.ts";
import { cBe16, cBe32, cBe64, type CType } from "./c_type.ts";
import { defineType, type Recipe } from "./compile.ts";
import { LITTLE_ENDIAN } from "./memory.ts";
import type { IntegerKind, IntegerType, Type } from "./type.ts";

const WORD = 2 ** 32;
const LOW_WORD = LITTLE_ENDIAN ? 0 : 4;
const HIGH_WORD = LITTLE_ENDIAN ? 4 : 0;

/** DataView's methods for one width and sign: `getUint32` and `setUint32` are `"Uint32"`. */
type Accessor =
  "Uint8" | "Uint16" | "Uint32" | "Int8" | "Int16" | "Int32" | "BigUint64" | "BigInt64";

interface Range<T extends number | bigint> {
  readonly kind: IntegerKind;
  readonly min: T;
  readonly max: T;
  readonly byteOrder?: "big";
  /** The name of C's integer, or what encodes another C type. */
  readonly c: string | CType["encode"];
}

/** Makes an integer type. */
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

/** The test, in generated code, that a variable does not hold an integer of the range. */
function outside(value: string, { min, max }: Range<number | bigint>): string {
  if (typeof min === "bigint") {
    return `typeof ${value} !== "bigint" || ${value} < ${min}n || ${value} > ${max}n`;
  }
  // Comparing with the wrapped value is the quickest test for 8, 16 and 32 bits, and refuses NaN.
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

function refusal(range: Range<number | bigint>): (value: unknown, path: string) => never {
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

/** An integer type that DataView reads and writes by one call. */
export function integer<T extends number | bigint>(
  accessor: Accessor,
  size: number,
  range: Range<T>,
): IntegerType<T> {
  const little = range.byteOrder === "big" ? false : LITTLE_ENDIAN;
  const refuse = refusal(range);
  // One name stands for a getter of T and a setter of T; the table of calls below pairs them.
  const get = DataView.prototype[`get${accessor}`] as (offset: number, little?: boolean) => T;
  const set = DataView.prototype[`set${accessor}`] as (
    offset: number,
    value: T,
    little?: boolean,
  ) => void;
  return defineInteger(range, size, {
    emitRead: (_source, place) => `view.get${accessor}(${place}, ${little})`,
    emitWrite(source, place, value, path) {
      source.line(`if (${outside(value, range)}) ${source.capture(refuse)}(${value}, ${path});`);
      source.line(`view.set${accessor}(${place}, ${value}, ${little});`);
    },
    read: (view, offset) => get.call(view, offset, little),
    write(view, offset, value, path) {
      if (isOutside(value, range)) refuse(value, path);
      set.call(view, offset, value as T, little);
    },
  });
}

/** A 64-bit integer as a number: two halves cost half of one bigint, and leave no garbage. */
function wideNumber(high: "Uint32" | "Int32", range: Range<number>): IntegerType<number> {
  const refuse = refusal(range);
  return defineInteger(range, 8, {
    emitRead: (_source, place) =>
      `view.get${high}(${place.plus(HIGH_WORD)}, ${LITTLE_ENDIAN}) * ${WORD} + view.getUint32(${place.plus(LOW_WORD)}, ${LITTLE_ENDIAN})`,
    emitWrite(source, place, value, path) {
      source.line(`if (${outside(value, range)}) ${source.capture(refuse)}(${value}, ${path});`);
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

// Bundlers keep what is made of a property or of a sign before a name or a bigint.
const SAFE = 2 ** 53 - 1;
const SMALLEST_SAFE = 1 - 2 ** 53;
const SMALLEST_I64 = /*@__PURE__*/ BigInt.asIntN(64, 0x8000_0000_0000_0000n);

/**
 * `__u8`: an unsigned integer of 1 byte, as a number from 0 to 255.
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
 * `__u16`: an unsigned integer of 2 bytes, as a number from 0 to 65,535. For a port as it is on the
 * wire, use {@link be16}.
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
 * `__u32`: an unsigned integer of 4 bytes, as a number from 0 to 4,294,967,295.
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
 * `__s8`: a signed integer of 1 byte, as a number from -128 to 127.
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
 * `__s16`: a signed integer of 2 bytes, as a number from -32,768 to 32,767.
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
 * `__s32`: a signed integer of 4 bytes, as a number from -2,147,483,648 to 2,147,483,647.
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
 * `__u64`: an unsigned integer of 8 bytes, as a bigint: exact, and twice as dear as
 * {@link u64Number}, which leaves no garbage.
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
 * `__s64`: a signed integer of 8 bytes, as a bigint: exact, and twice as dear as
 * {@link i64Number}, which leaves no garbage.
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
 * `__u64` as a number: for times, sizes and counts. What is written must be a safe integer, from 0 to
 * 2^53 - 1. What is read beyond that (a hash, a pointer, a mask) is rounded to the nearest number, and
 * never thrown at, as the kernel put it there: use {@link u64} where every bit counts.
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
export const u64Number: IntegerType<number> = /*@__PURE__*/ wideNumber("Uint32", {
  kind: "u64Number",
  c: "unsigned long long",
  min: 0,
  max: SAFE,
});

/**
 * `__s64` as a number. What is written must be a safe integer; what is read beyond -2^53 or 2^53 is
 * rounded to the nearest number: use {@link i64} where every bit counts.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i64Number.write(new DataView(new ArrayBuffer(8)), 0, -1);
 * ```
 */
export const i64Number: IntegerType<number> = /*@__PURE__*/ wideNumber("Int32", {
  kind: "i64Number",
  c: "long long",
  min: SMALLEST_SAFE,
  max: SAFE,
});

/**
 * `__be16`: an integer of 2 bytes in network order, such as a port, as a number from 0 to 65,535.
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
 * `__be32`: an integer of 4 bytes in network order, as a number from 0 to 4,294,967,295. For an
 * address as text, use `t.ipv4`.
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
 * `__be64`: an integer of 8 bytes in network order, as a bigint.
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
 * C's `bool`: one byte. Any byte but zero reads as `true`; `true` is written as 1. Only booleans can be
 * written: use {@link u8} for a byte that is a number.
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
