/** @module The checks of an instruction's operands, and the instruction they make. */

import type { Instruction, Reference, RegisterNumber } from "./instruction.ts";
import { describe } from "../check/describe.ts";

export const INT16_MIN = -0x8000;
export const INT16_MAX = 0x7fff;
export const INT32_MIN = -0x8000_0000;
export const INT32_MAX = 0x7fff_ffff;
export const UINT32_MAX = 0xffff_ffff;
export const INT64_MIN = -(2n ** 63n);
export const UINT64_MAX = 2n ** 64n - 1n;

const LAST_REGISTER = 10;

/** The values that an immediate may have, and what to do instead. */
export interface ImmediateRange {
  readonly min: number;
  readonly max: number;
  /** Appended to the error of a number in the wrong range. */
  readonly hint?: (value: number) => string;
}

/** Makes an instruction: what is not named is zero. */
export function build(
  opcode: number,
  fields: {
    readonly dst?: number;
    readonly src?: number;
    readonly offset?: number;
    readonly imm?: number | bigint;
    readonly reference?: Reference;
  } = {},
): Instruction {
  const { dst = 0, src = 0, offset = 0, imm = 0, reference } = fields;
  const instruction = { opcode, dst, src, offset, imm };
  return reference === undefined ? instruction : { ...instruction, reference };
}

/** Returns true for an operand that is a register. */
export function isRegister(value: unknown): value is { readonly register: RegisterNumber } {
  if (typeof value !== "object" || value === null || !("register" in value)) return false;
  const index = value.register;
  return Number.isInteger(index) && Number(index) >= 0 && Number(index) <= LAST_REGISTER;
}

/** The operands of loads and stores, whose order differs between them. */
const operandOrders: readonly (readonly [form: RegExp, operands: string])[] = [
  [/^ldx/, "dst, src, offset"],
  [/^stx/, "dst, offset, src"],
  [/^st(b|h|w|dw)$/, "dst, offset, imm"],
];

function refuse(mnemonic: string, operand: string, expected: string, value: unknown): never {
  const hint =
    typeof value === "bigint"
      ? ": only lddw takes a bigint, every other immediate is a number"
      : "";
  const got = isRegister(value) ? `the register r${value.register}` : describe(value);
  const order = operandOrders.find(([form]) => form.test(mnemonic))?.[1];
  const usage = order === undefined ? "" : `: the operands are ${mnemonic}(${order})`;
  throw new TypeError(`${mnemonic}: ${operand}: expected ${expected}, got ${got}${hint}${usage}`);
}

/**
 * The number of a register that is read.
 *
 * @throws {TypeError} if it is not a register
 */
export function readable(mnemonic: string, operand: string, value: unknown): number {
  if (isRegister(value)) return value.register;
  return refuse(mnemonic, operand, "a register, r0 to r10", value);
}

/**
 * The number of a register that is written.
 *
 * @throws {TypeError} if it is not a register
 * @throws {RangeError} if it is the frame pointer
 */
export function writable(mnemonic: string, operand: string, value: unknown): number {
  if (!isRegister(value)) return refuse(mnemonic, operand, "a register, r0 to r9", value);
  if (value.register === LAST_REGISTER) {
    throw new RangeError(
      `${mnemonic}: ${operand}: expected r0 to r9, got r10: the frame pointer cannot be written, copy it first: mov(r2, r10)`,
    );
  }
  return value.register;
}

/**
 * An immediate as the signed 32 bits that the instruction holds.
 *
 * @throws {TypeError} if it is not a number
 * @throws {RangeError} if it is not an integer in the range
 */
export function immediate(
  mnemonic: string,
  operand: string,
  value: unknown,
  range: ImmediateRange,
  expected = "a number",
): number {
  if (typeof value !== "number") return refuse(mnemonic, operand, expected, value);
  if (Number.isInteger(value) && value >= range.min && value <= range.max) return value | 0;
  const hint = range.hint?.(value) ?? "";
  throw new RangeError(
    `${mnemonic}: ${operand}: expected an integer from ${range.min} to ${range.max}, got ${value}${hint}`,
  );
}

/**
 * The offset of a load or a store.
 *
 * @throws {TypeError} if it is not a number
 * @throws {RangeError} if it does not fit 16 signed bits
 */
export function offset16(mnemonic: string, value: unknown): number {
  return immediate(mnemonic, "offset", value, { min: INT16_MIN, max: INT16_MAX });
}

/**
 * A name: of a label, a function or a symbol.
 *
 * @throws {TypeError} if it is not a string, or empty
 */
export function nameOf(mnemonic: string, operand: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  return refuse(mnemonic, operand, "a name", value);
}

/** The signed 32 bits of an immediate that the processor sign-extends to 64. */
export const signExtended: ImmediateRange = {
  min: INT32_MIN,
  max: INT32_MAX,
  hint: (value) => {
    if (!Number.isInteger(value) || value < INT32_MIN || value > UINT32_MAX) return "";
    const seen = BigInt.asUintN(64, BigInt(value | 0)).toString(16);
    return `: a 32-bit immediate is sign-extended, this one would become 0x${seen}; load it with lddw, or use the 32-bit form`;
  },
};

/** The 32 bits of an immediate of a 32-bit operation, read as signed or unsigned. */
export const either32: ImmediateRange = { min: INT32_MIN, max: UINT32_MAX };

/** The 32 bits of an immediate of an operation on signed 32-bit numbers. */
export const signed32: ImmediateRange = { min: INT32_MIN, max: INT32_MAX };
