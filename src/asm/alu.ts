/** @module The instructions that calculate: arithmetic, logic, shifts and moves. */

import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import {
  build,
  either32,
  immediate,
  type ImmediateRange,
  isRegister,
  readable,
  signed32,
  signExtended,
  writable,
} from "./operand.ts";
import {
  BPF_ADD,
  BPF_ALU,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_DIV,
  BPF_END,
  BPF_K,
  BPF_LSH,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RSH,
  BPF_SUB,
  BPF_TO_BE,
  BPF_TO_LE,
  BPF_X,
  BPF_XOR,
} from "../uapi/instruction.ts";

/**
 * An operation on two operands: `dst = dst op src`, where `src` is a register or an immediate.
 *
 * The 64-bit forms sign-extend an immediate from 32 bits: they take -2^31 to 2^31-1. The 32-bit
 * forms use the low halves of the registers, clear the high half of `dst`, and take an immediate up
 * to 2^32-1.
 *
 * @throws {TypeError} if an operand is neither a register nor a number
 * @throws {RangeError} if `dst` is the frame pointer, or the immediate out of range
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
  /** The field `offset`: 1 makes a division a signed one. */
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

/**
 * Copies the low bits of `src` and fills the rest of `dst` with their sign. Linux 6.6.
 *
 * @throws {TypeError} if an operand is not a register
 * @throws {RangeError} if `dst` is the frame pointer
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, ldxb, movsx8, exit } = asm;
 *
 * const code = [ldxb(r1, r1, 0), movsx8(r0, r1), exit()];
 * ```
 */
export type SignExtendingMove = (dst: WritableRegister, src: Register) => Instruction;

function signExtend(mnemonic: string, width: typeof BPF_ALU | typeof BPF_ALU64, bits: number) {
  return ((dst, src) =>
    build(width | BPF_MOV | BPF_X, {
      dst: writable(mnemonic, "dst", dst),
      src: readable(mnemonic, "src", src),
      // The kernel keeps the width of the source here.
      offset: bits,
    })) satisfies SignExtendingMove;
}

/** `dst = (s8)src`. Linux 6.6. See {@link SignExtendingMove}. */
export const movsx8: SignExtendingMove = signExtend("movsx8", BPF_ALU64, 8);
/** `dst = (s16)src`. Linux 6.6. See {@link SignExtendingMove}. */
export const movsx16: SignExtendingMove = signExtend("movsx16", BPF_ALU64, 16);
/** `dst = (s32)src`. Linux 6.6. See {@link SignExtendingMove}. */
export const movsx32: SignExtendingMove = signExtend("movsx32", BPF_ALU64, 32);
/** `dst = (s8)src` to 32 bits: the high half becomes 0. Linux 6.6. See {@link SignExtendingMove}. */
export const mov32sx8: SignExtendingMove = signExtend("mov32sx8", BPF_ALU, 8);
/** `dst = (s16)src` to 32 bits: the high half becomes 0. Linux 6.6. See {@link SignExtendingMove}. */
export const mov32sx16: SignExtendingMove = signExtend("mov32sx16", BPF_ALU, 16);

function byteOrder(mnemonic: string, opcode: number, bits: number): AluUnary {
  return (dst) => build(opcode | BPF_END, { dst: writable(mnemonic, "dst", dst), imm: bits });
}

/**
 * Between the host's byte order and big-endian, which is the network's: the low 16 bits, the rest
 * becomes 0.
 *
 * @throws {TypeError} if the operand is not a register
 * @throws {RangeError} if it is the frame pointer
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r2, r6, ldxh, be16, jeq } = asm;
 *
 * // Is the frame at r6 an IPv4 packet?
 * const isIpv4 = [ldxh(r2, r6, 12), be16(r2), jeq(r2, 0x0800, "ipv4")];
 * ```
 */
export const be16: AluUnary = byteOrder("be16", BPF_ALU | BPF_TO_BE, 16);
/** Between the host's byte order and big-endian: the low 32 bits. See {@link be16}. */
export const be32: AluUnary = byteOrder("be32", BPF_ALU | BPF_TO_BE, 32);
/** Between the host's byte order and big-endian: 64 bits. See {@link be16}. */
export const be64: AluUnary = byteOrder("be64", BPF_ALU | BPF_TO_BE, 64);
/** Between the host's byte order and little-endian: the low 16 bits, the rest becomes 0. See {@link be16}. */
export const le16: AluUnary = byteOrder("le16", BPF_ALU | BPF_TO_LE, 16);
/** Between the host's byte order and little-endian: the low 32 bits. See {@link be16}. */
export const le32: AluUnary = byteOrder("le32", BPF_ALU | BPF_TO_LE, 32);
/** Between the host's byte order and little-endian: 64 bits. See {@link be16}. */
export const le64: AluUnary = byteOrder("le64", BPF_ALU | BPF_TO_LE, 64);
/** Swaps the low two bytes, whatever the host's order; the rest becomes 0. Linux 6.6. See {@link be16}. */
export const bswap16: AluUnary = byteOrder("bswap16", BPF_ALU64 | BPF_TO_LE, 16);
/** Reverses the low four bytes, whatever the host's order. Linux 6.6. See {@link be16}. */
export const bswap32: AluUnary = byteOrder("bswap32", BPF_ALU64 | BPF_TO_LE, 32);
/** Reverses all eight bytes, whatever the host's order. Linux 6.6. See {@link be16}. */
export const bswap64: AluUnary = byteOrder("bswap64", BPF_ALU64 | BPF_TO_LE, 64);

/**
 * `dst = addr_space_cast(src, to, from)`: converts a pointer into an arena between the kernel's view
 * of it (0) and the user's (1). Linux 6.9.
 *
 * @throws {TypeError} if `dst` or `src` is not a register
 * @throws {RangeError} if `dst` is the frame pointer, or a space is not 0 to 65535
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * asm.addrSpaceCast(asm.r2, asm.r1, 0, 1);
 * ```
 */
export function addrSpaceCast(
  dst: WritableRegister,
  src: Register,
  to: number,
  from: number,
): Instruction {
  const space = { min: 0, max: 0xffff };
  const high = immediate("addrSpaceCast", "to", to, space);
  const low = immediate("addrSpaceCast", "from", from, space);
  return build(BPF_ALU64 | BPF_MOV | BPF_X, {
    dst: writable("addrSpaceCast", "dst", dst),
    src: readable("addrSpaceCast", "src", src),
    offset: 1,
    imm: (high << 16) | low,
  });
}
