import { integer, wideNumber } from "./define-integer.ts";
import type { IntegerType } from "./type.ts";

const SAFE = Number.MAX_SAFE_INTEGER;

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
export const u8: IntegerType<number> = integer("Uint8", 1, { kind: "u8", min: 0, max: 0xff });

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
export const u16: IntegerType<number> = integer("Uint16", 2, { kind: "u16", min: 0, max: 0xffff });

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
export const u32: IntegerType<number> = integer("Uint32", 4, {
  kind: "u32",
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
export const i8: IntegerType<number> = integer("Int8", 1, { kind: "i8", min: -0x80, max: 0x7f });

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
export const i16: IntegerType<number> = integer("Int16", 2, {
  kind: "i16",
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
export const i32: IntegerType<number> = integer("Int32", 4, {
  kind: "i32",
  min: -0x80000000,
  max: 0x7fffffff,
});

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * `__u64`: an unsigned integer of 8 bytes, as a bigint: exact, and twice as dear as
 * {@link u64n}, which leaves no garbage.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.u64.write(new DataView(new ArrayBuffer(8)), 0, 0xffff_ffff_ffff_ffffn);
 * ```
 */
export const u64: IntegerType<bigint> = integer("BigUint64", 8, {
  kind: "u64",
  min: 0n,
  max: U64_MAX,
});

/**
 * `__s64`: a signed integer of 8 bytes, as a bigint: exact, and twice as dear as
 * {@link i64n}, which leaves no garbage.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i64.write(new DataView(new ArrayBuffer(8)), 0, -1n);
 * ```
 */
export const i64: IntegerType<bigint> = integer("BigInt64", 8, {
  kind: "i64",
  min: -0x8000_0000_0000_0000n,
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
 * t.u64n.write(view, 0, 1_700_000_000_000_000);
 * console.log(t.u64n.read(view, 0)); // 1700000000000000
 * ```
 */
export const u64n: IntegerType<number> = wideNumber("Uint32", { kind: "u64n", min: 0, max: SAFE });

/**
 * `__s64` as a number. What is written must be a safe integer; what is read beyond -2^53 or 2^53 is
 * rounded to the nearest number: use {@link i64} where every bit counts.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * t.i64n.write(new DataView(new ArrayBuffer(8)), 0, -1);
 * ```
 */
export const i64n: IntegerType<number> = wideNumber("Int32", {
  kind: "i64n",
  min: -SAFE,
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
export const be16: IntegerType<number> = integer("Uint16", 2, {
  kind: "be16",
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
export const be32: IntegerType<number> = integer("Uint32", 4, {
  kind: "be32",
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
export const be64: IntegerType<bigint> = integer("BigUint64", 8, {
  kind: "be64",
  min: 0n,
  max: U64_MAX,
  byteOrder: "big",
});
