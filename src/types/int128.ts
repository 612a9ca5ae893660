import { refuseRange, refuseType } from "../check/describe.ts";
import { defineInteger } from "./integer.ts";
import { LITTLE_ENDIAN } from "./memory.ts";
import type { IntegerType } from "./type.ts";

const LOW = LITTLE_ENDIAN ? 0 : 8;
const HIGH = LITTLE_ENDIAN ? 8 : 0;

/** Defines an integer type of 16 bytes, which is read and written as two halves. */
function defineInt128(
  kind: "u128" | "i128",
  c: string,
  high: "BigUint64" | "BigInt64",
  min: bigint,
  max: bigint,
): IntegerType<bigint> {
  function check(value: unknown, path: string): asserts value is bigint {
    const expected = `a bigint from ${min} to ${max} (${kind})`;
    if (typeof value !== "bigint") {
      const hint = typeof value === "number" ? "pass a bigint, e.g. 5n" : "";
      return refuseType(path, expected, value, hint);
    }
    if (value < min || value > max) refuseRange(path, expected, value);
  }
  return defineInteger({ kind, min, max, c }, 16, {
    emitRead: (_source, place) =>
      `view.get${high}(${place.plus(HIGH)}, ${LITTLE_ENDIAN}) << 64n | view.getBigUint64(${place.plus(LOW)}, ${LITTLE_ENDIAN})`,
    emitWrite(source, place, value, path) {
      const isWrong = `typeof ${value} !== "bigint" || ${value} < ${min}n || ${value} > ${max}n`;
      source.line(`if (${isWrong}) ${source.capture(check)}(${value}, ${path});`);
      source.line(`view.setBigUint64(${place.plus(LOW)}, ${value}, ${LITTLE_ENDIAN});`);
      source.line(`view.setBigUint64(${place.plus(HIGH)}, ${value} >> 64n, ${LITTLE_ENDIAN});`);
    },
    read: (view, offset) =>
      (view[`get${high}`](offset + HIGH, LITTLE_ENDIAN) << 64n) |
      view.getBigUint64(offset + LOW, LITTLE_ENDIAN),
    write(view, offset, value, path) {
      check(value, path);
      view.setBigUint64(offset + LOW, value, LITTLE_ENDIAN);
      view.setBigUint64(offset + HIGH, value >> 64n, LITTLE_ENDIAN);
    },
  });
}

/**
 * Unsigned integer of 16 bytes in the machine's byte order, aligned to 16, C's `unsigned __int128`. Values
 * are bigints from 0 to 2^128 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(16));
 * t.u128.write(view, 0, 2n ** 128n - 1n);
 * console.log(t.u128.read(view, 0)); // 340282366920938463463374607431768211455n
 * ```
 */
export const u128: IntegerType<bigint> = /*@__PURE__*/ defineInt128(
  "u128",
  "unsigned __int128",
  "BigUint64",
  0n,
  0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffffn,
);

// Bundlers keep initializers that negate a bigint, so this is not a negated literal.
const SMALLEST = /*@__PURE__*/ BigInt.asIntN(128, 0x8000_0000_0000_0000_0000_0000_0000_0000n);

/**
 * Signed integer of 16 bytes in the machine's byte order, aligned to 16, C's `__int128`. Values are
 * bigints from -2^127 to 2^127 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i128.write(new DataView(new ArrayBuffer(16)), 0, -1n);
 * ```
 */
export const i128: IntegerType<bigint> = /*@__PURE__*/ defineInt128(
  "i128",
  "__int128",
  "BigInt64",
  SMALLEST,
  0x7fff_ffff_ffff_ffff_ffff_ffff_ffff_ffffn,
);
