/** @module The instructions that calculate: arithmetic, logic, shifts and moves. */

import {
  BPF_ADD,
  BPF_ALU,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_DIV,
  BPF_K,
  BPF_LSH,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RSH,
  BPF_SUB,
  BPF_X,
  BPF_XOR,
} from "../uapi/instruction.ts";
import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import {
  build,
  either32,
  immediate,
  isRegister,
  signed32,
  signExtended,
  writable,
  type ImmediateRange,
} from "./operand.ts";

/**
 * An operation on two operands: `dst = dst op src`, where `src` is a register or an immediate.
 *
 * The 64-bit forms sign-extend an immediate from 32 bits: they take -2^31 to 2^31-1. The 32-bit
 * forms use the low halves of the registers, clear the high half of `dst`, and take an immediate up
 * to 2^32-1.
 *
 * @throws {TypeError} when an operand is neither a register nor a number
 * @throws {RangeError} when `dst` is the frame pointer, or the immediate out of range
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, mov, add, and, lsh, exit } = asm;
 *
 * const code = [mov(r0, r1), add(r0, 42), and(r0, 0xff), lsh(r0, 3), exit()];
 * ```
 */
export type AluOperation = (dst: WritableRegister, src: Register | number) => Instruction;

/** An operation on one register, in place. */
export type AluUnary = (dst: WritableRegister) => Instruction;

interface Options {
  /** What `offset` says: 1 makes a division a signed one. */
  readonly offset?: number;
  readonly range?: ImmediateRange;
}

function operation(
  mnemonic: string,
  opcode: number,
  { offset = 0, range = signExtended }: Options,
): AluOperation {
  return (dst, src) => {
    const to = writable(mnemonic, "dst", dst);
    if (isRegister(src)) return build(opcode | BPF_X, { dst: to, src: src.register, offset });
    const imm = immediate(mnemonic, "src", src, range, "a register or a number");
    return build(opcode | BPF_K, { dst: to, offset, imm });
  };
}

function alu64(mnemonic: string, code: number, options: Options = {}): AluOperation {
  return operation(mnemonic, BPF_ALU64 | code, options);
}

function alu32(mnemonic: string, code: number, options: Options = {}): AluOperation {
  return operation(mnemonic, BPF_ALU | code, { range: either32, ...options });
}

// The verifier refuses a shift by the width or more, and a division by an immediate zero.
const shift64: Options = { range: { min: 0, max: 63 } };
const shift32: Options = { range: { min: 0, max: 31 } };

function divisor(make: typeof alu64, mnemonic: string, code: number, options: Options = {}) {
  const divide = make(mnemonic, code, options);
  return ((dst, src) => {
    if (src === 0) throw new RangeError(`${mnemonic}: src: expected a divisor other than 0, got 0`);
    return divide(dst, src);
  }) satisfies AluOperation;
}

const signed: Options = { offset: 1, range: signed32 };

/** `dst = src`. See {@link AluOperation}. */
export const mov: AluOperation = alu64("mov", BPF_MOV);
/** `dst = src`, 32 bits: the high half becomes 0. See {@link AluOperation}. */
export const mov32: AluOperation = alu32("mov32", BPF_MOV);
/** `dst += src`. See {@link AluOperation}. */
export const add: AluOperation = alu64("add", BPF_ADD);
/** `dst += src`, 32 bits. See {@link AluOperation}. */
export const add32: AluOperation = alu32("add32", BPF_ADD);
/** `dst -= src`. See {@link AluOperation}. */
export const sub: AluOperation = alu64("sub", BPF_SUB);
/** `dst -= src`, 32 bits. See {@link AluOperation}. */
export const sub32: AluOperation = alu32("sub32", BPF_SUB);
/** `dst *= src`. See {@link AluOperation}. */
export const mul: AluOperation = alu64("mul", BPF_MUL);
/** `dst *= src`, 32 bits. See {@link AluOperation}. */
export const mul32: AluOperation = alu32("mul32", BPF_MUL);
/** `dst /= src`, unsigned; 0 if `src` is a register that holds 0. See {@link AluOperation}. */
export const div: AluOperation = divisor(alu64, "div", BPF_DIV);
/** `dst /= src`, unsigned, 32 bits. See {@link AluOperation}. */
export const div32: AluOperation = divisor(alu32, "div32", BPF_DIV);
/** `dst /= src`, signed, towards zero. Linux 6.6. See {@link AluOperation}. */
export const sdiv: AluOperation = divisor(alu64, "sdiv", BPF_DIV, { offset: 1 });
/** `dst /= src`, signed, towards zero, 32 bits. Linux 6.6. See {@link AluOperation}. */
export const sdiv32: AluOperation = divisor(alu32, "sdiv32", BPF_DIV, signed);
/** `dst %= src`, unsigned; `dst` stays if `src` is a register that holds 0. See {@link AluOperation}. */
export const mod: AluOperation = divisor(alu64, "mod", BPF_MOD);
/** `dst %= src`, unsigned, 32 bits. See {@link AluOperation}. */
export const mod32: AluOperation = divisor(alu32, "mod32", BPF_MOD);
/** `dst %= src`, signed: -13 % 3 is -1. Linux 6.6. See {@link AluOperation}. */
export const smod: AluOperation = divisor(alu64, "smod", BPF_MOD, { offset: 1 });
/** `dst %= src`, signed, 32 bits. Linux 6.6. See {@link AluOperation}. */
export const smod32: AluOperation = divisor(alu32, "smod32", BPF_MOD, signed);
/** `dst |= src`. See {@link AluOperation}. */
export const or: AluOperation = alu64("or", BPF_OR);
/** `dst |= src`, 32 bits. See {@link AluOperation}. */
export const or32: AluOperation = alu32("or32", BPF_OR);
/** `dst &= src`. See {@link AluOperation}. */
export const and: AluOperation = alu64("and", BPF_AND);
/** `dst &= src`, 32 bits. See {@link AluOperation}. */
export const and32: AluOperation = alu32("and32", BPF_AND);
/** `dst ^= src`. See {@link AluOperation}. */
export const xor: AluOperation = alu64("xor", BPF_XOR);
/** `dst ^= src`, 32 bits. See {@link AluOperation}. */
export const xor32: AluOperation = alu32("xor32", BPF_XOR);
/** `dst <<= src`; an immediate is 0 to 63. See {@link AluOperation}. */
export const lsh: AluOperation = alu64("lsh", BPF_LSH, shift64);
/** `dst <<= src`, 32 bits; an immediate is 0 to 31. See {@link AluOperation}. */
export const lsh32: AluOperation = alu32("lsh32", BPF_LSH, shift32);
/** `dst >>= src`, filling with zeros; an immediate is 0 to 63. See {@link AluOperation}. */
export const rsh: AluOperation = alu64("rsh", BPF_RSH, shift64);
/** `dst >>= src`, filling with zeros, 32 bits; an immediate is 0 to 31. See {@link AluOperation}. */
export const rsh32: AluOperation = alu32("rsh32", BPF_RSH, shift32);
/** `dst >>= src`, filling with the sign; an immediate is 0 to 63. See {@link AluOperation}. */
export const arsh: AluOperation = alu64("arsh", BPF_ARSH, shift64);
/** `dst >>= src`, filling with the sign, 32 bits; an immediate is 0 to 31. See {@link AluOperation}. */
export const arsh32: AluOperation = alu32("arsh32", BPF_ARSH, shift32);

/** `dst = -dst`. */
export const neg: AluUnary = (dst) =>
  build(BPF_ALU64 | BPF_NEG | BPF_K, { dst: writable("neg", "dst", dst) });
/** `dst = -dst`, 32 bits. */
export const neg32: AluUnary = (dst) =>
  build(BPF_ALU | BPF_NEG | BPF_K, { dst: writable("neg32", "dst", dst) });
