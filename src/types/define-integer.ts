import { defineType } from "./define.ts";
import { LITTLE_ENDIAN } from "./memory.ts";
import type { Recipe } from "./recipe.ts";
import { refuseRange, refuseType } from "./refusal.ts";
import type { IntegerKind, IntegerType } from "./type.ts";

const WORD = 2 ** 32;
const LOW_WORD = LITTLE_ENDIAN ? 0 : 4;
const HIGH_WORD = 4 - LOW_WORD;

/** DataView's methods for one width and sign: `getUint32` and `setUint32` are `"Uint32"`. */
type Accessor =
  "Uint8" | "Uint16" | "Uint32" | "Int8" | "Int16" | "Int32" | "BigUint64" | "BigInt64";

interface Range<T extends number | bigint> {
  readonly kind: IntegerKind;
  readonly min: T;
  readonly max: T;
  readonly byteOrder?: "big";
}

function defineInteger<T extends number | bigint>(
  { kind, min, max, byteOrder }: Range<T>,
  size: number,
  recipe: Omit<Recipe<T>, "weight">,
): IntegerType<T> {
  return defineType<T, IntegerType<T>>(
    {
      kind,
      name: kind,
      size,
      align: size,
      signed: min < 0,
      min,
      max,
      byteOrder: byteOrder ?? "native",
    },
    { weight: 1, ...recipe },
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
  const { kind, min, max } = range;
  const wanted = typeof min;
  const expected = `${wanted === "bigint" ? "a bigint" : "an integer"} from ${min} to ${max} (${kind})`;
  return (value, path) => {
    if (typeof value === wanted) return refuseRange(path, expected, value);
    let hint = "";
    if (wanted === "number" && typeof value === "bigint") hint = "pass a number, e.g. 5";
    if (wanted === "bigint" && typeof value === "number") {
      hint = "pass a bigint, e.g. 5n";
      if (range.byteOrder === undefined) hint += `, or use t.${kind}n`;
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
export function wideNumber(high: "Uint32" | "Int32", range: Range<number>): IntegerType<number> {
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
