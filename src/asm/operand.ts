/** @module Checks of operands, and the construction of instructions. */

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

/** Range of an immediate. */
export interface ImmediateRange {
  readonly min: number;
  readonly max: number;
  /** Returns the hint that is appended to the error for a number out of range. */
  readonly hint?: (value: number) => string;
}

/** Makes an instruction. Omitted fields are 0. */
export function makeInstruction(
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

/** Returns true for a register. */
export function isRegister(value: unknown): value is { readonly register: RegisterNumber } {
  if (typeof value !== "object" || value === null || !("register" in value)) return false;
  const index = value.register;
  return Number.isInteger(index) && Number(index) >= 0 && Number(index) <= LAST_REGISTER;
}

/** Order of the operands of loads and stores, for messages. */
const operandOrders: readonly (readonly [form: RegExp, operands: string])[] = [
  [/^ldx/, "dst, src, offset"],
  [/^stx/, "dst, offset, src"],
  [/^st(b|h|w|dw)$/, "dst, offset, imm"],
];

function refuse(mnemonic: string, operand: string, expected: string, value: unknown): never {
  const hint =
    typeof value === "bigint" ? ": only lddw takes a bigint; other immediates are numbers" : "";
  const got = isRegister(value) ? `the register r${value.register}` : describe(value);
  const order = operandOrders.find(([form]) => form.test(mnemonic))?.[1];
  const usage = order === undefined ? "" : `: the operands are ${mnemonic}(${order})`;
  throw new TypeError(`${mnemonic}: ${operand}: expected ${expected}, got ${got}${hint}${usage}`);
}

/**
 * Checks a register that the instruction reads, and returns its number.
 *
 * @throws {TypeError} if it is not a register.
 */
export function checkReadable(mnemonic: string, operand: string, value: unknown): number {
  if (isRegister(value)) return value.register;
  return refuse(mnemonic, operand, "a register, r0 to r10", value);
}

/**
 * Checks a register that the instruction changes, and returns its number.
 *
 * @throws {TypeError} if it is not a register.
 * @throws {RangeError} if it is the frame pointer.
 */
export function checkWritable(mnemonic: string, operand: string, value: unknown): number {
  if (!isRegister(value)) return refuse(mnemonic, operand, "a register, r0 to r9", value);
  if (value.register === LAST_REGISTER) {
    throw new RangeError(
      `${mnemonic}: ${operand}: expected r0 to r9, got r10: the frame pointer is read-only; copy it first, as in mov(r2, r10)`,
    );
  }
  return value.register;
}

/**
 * Checks an immediate, and returns it as the signed 32-bit number of the instruction.
 *
 * @throws {TypeError} if it is not a number.
 * @throws {RangeError} if it is not an integer in the range.
 */
export function checkImmediate(
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
 * Checks the offset of a load or a store, and returns it.
 *
 * @throws {TypeError} if it is not a number.
 * @throws {RangeError} if it is not an integer from -2^15 to 2^15-1.
 */
export function checkOffset(mnemonic: string, value: unknown): number {
  return checkImmediate(mnemonic, "offset", value, { min: INT16_MIN, max: INT16_MAX });
}

/**
 * Checks the name of a label, function or symbol, and returns it.
 *
 * @throws {TypeError} if it is not a string, or is empty.
 */
export function checkName(mnemonic: string, operand: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  return refuse(mnemonic, operand, "a name", value);
}

/** Range of an immediate that the instruction sign-extends from 32 to 64 bits. */
export const signExtended: ImmediateRange = {
  min: INT32_MIN,
  max: INT32_MAX,
  hint: (value) => {
    if (!Number.isInteger(value) || value < INT32_MIN || value > UINT32_MAX) return "";
    const seen = BigInt.asUintN(64, BigInt(value | 0)).toString(16);
    return `: the 32-bit immediate would be sign-extended to 0x${seen}; load it with lddw, or use the 32-bit form`;
  },
};

/** Range of an immediate of a 32-bit operation, which may be written as a signed or an unsigned number. */
export const either32: ImmediateRange = { min: INT32_MIN, max: UINT32_MAX };

/** Range of an immediate of an operation on signed 32-bit numbers. */
export const signed32: ImmediateRange = { min: INT32_MIN, max: INT32_MAX };
