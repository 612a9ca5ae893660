/** @module Instructions for arithmetic, logic, shifts, moves and byte order. */

import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import {
  makeInstruction,
  either32,
  checkImmediate,
  type ImmediateRange,
  isRegister,
  checkReadable,
  signed32,
  signExtended,
  checkWritable,
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
 * Function that makes an instruction with two operands: `dst = dst op src`, where `src` is a register or an
 * immediate.
 *
 * The 64-bit forms take an immediate from -2^31 to 2^31-1, which is sign-extended. The 32-bit forms use the
 * low halves of the registers, set the high half of `dst` to 0, and take an immediate from -2^31 to 2^32-1
 * (2^31-1 for signed division). The immediate of a shift is less than the width, and that of a division is
 * not 0.
 *
 * @throws {TypeError} if `dst` is not a register, or `src` neither a register nor a number.
 * @throws {RangeError} if `dst` is the frame pointer, or the immediate is out of range.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, mov, add, and, lsh, exit } = asm;
 *
 * const code = [mov(r0, r1), add(r0, 42), and(r0, 0xff), lsh(r0, 3), exit()];
 * ```
 */
export type AluOperation = (dst: WritableRegister, src: Register | number) => Instruction;

/**
 * Function that makes an instruction with one operand, a register that is changed.
 *
 * @throws {TypeError} if `dst` is not a register.
 * @throws {RangeError} if `dst` is the frame pointer.
 */
export type AluUnary = (dst: WritableRegister) => Instruction;

interface Options {
  /** Field `offset` of the instruction. In a division, 1 means signed. */
  readonly offset?: number;
  readonly range?: ImmediateRange;
}

function defineOperation(
  mnemonic: string,
  opcode: number,
  { offset = 0, range = signExtended }: Options,
): AluOperation {
  return (dst, src) => {
    const to = checkWritable(mnemonic, "dst", dst);
    if (isRegister(src))
      return makeInstruction(opcode | BPF_X, { dst: to, src: src.register, offset });
    const imm = checkImmediate(mnemonic, "src", src, range, "a register or a number");
    return makeInstruction(opcode | BPF_K, { dst: to, offset, imm });
  };
}

function define64(mnemonic: string, code: number, options: Options = {}): AluOperation {
  return defineOperation(mnemonic, BPF_ALU64 | code, options);
}

function define32(mnemonic: string, code: number, options: Options = {}): AluOperation {
  return defineOperation(mnemonic, BPF_ALU | code, { range: either32, ...options });
}

// The verifier rejects a shift by the width or more, and a division by an immediate 0.
const shift64: Options = { range: { min: 0, max: 63 } };
const shift32: Options = { range: { min: 0, max: 31 } };

function defineDivision(
  make: typeof define64,
  mnemonic: string,
  code: number,
  options: Options = {},
) {
  const divide = make(mnemonic, code, options);
  return ((dst, src) => {
    if (src === 0) throw new RangeError(`${mnemonic}: src: expected a divisor other than 0, got 0`);
    return divide(dst, src);
  }) satisfies AluOperation;
}

const signed: Options = { offset: 1, range: signed32 };

/** Copies a register or an immediate: `dst = src`, 64 bits. See {@link AluOperation}. */
export const mov: AluOperation = define64("mov", BPF_MOV);
/** Copies a register or an immediate: `dst = src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const mov32: AluOperation = define32("mov32", BPF_MOV);
/** Adds: `dst += src`, 64 bits. See {@link AluOperation}. */
export const add: AluOperation = define64("add", BPF_ADD);
/** Adds: `dst += src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const add32: AluOperation = define32("add32", BPF_ADD);
/** Subtracts: `dst -= src`, 64 bits. See {@link AluOperation}. */
export const sub: AluOperation = define64("sub", BPF_SUB);
/** Subtracts: `dst -= src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const sub32: AluOperation = define32("sub32", BPF_SUB);
/** Multiplies: `dst *= src`, 64 bits. See {@link AluOperation}. */
export const mul: AluOperation = define64("mul", BPF_MUL);
/** Multiplies: `dst *= src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const mul32: AluOperation = define32("mul32", BPF_MUL);
/**
 * Divides unsigned numbers: `dst /= src`, 64 bits. The result is 0 if `src` is a register with the value 0. See
 * {@link AluOperation}.
 */
export const div: AluOperation = defineDivision(define64, "div", BPF_DIV);
/**
 * Divides unsigned numbers: `dst /= src`, 32 bits; the high half of `dst` becomes 0. The result is 0 if `src` is a register with
 * the value 0. See {@link AluOperation}.
 */
export const div32: AluOperation = defineDivision(define32, "div32", BPF_DIV);
/**
 * Divides signed numbers, rounding towards zero: `dst /= src`, 64 bits. The result is 0 if `src` is a register with the value 0.
 * See {@link AluOperation}.
 *
 * Requires Linux 6.6.
 */
export const sdiv: AluOperation = defineDivision(define64, "sdiv", BPF_DIV, { offset: 1 });
/**
 * Divides signed numbers, rounding towards zero: `dst /= src`, 32 bits; the high half of `dst` becomes 0. The result is 0 if `src`
 * is a register with the value 0. See {@link AluOperation}.
 *
 * Requires Linux 6.6.
 */
export const sdiv32: AluOperation = defineDivision(define32, "sdiv32", BPF_DIV, signed);
/**
 * Computes the remainder of an unsigned division: `dst %= src`, 64 bits. `dst` does not change if `src` is a register with the
 * value 0. See {@link AluOperation}.
 */
export const mod: AluOperation = defineDivision(define64, "mod", BPF_MOD);
/**
 * Computes the remainder of an unsigned division: `dst %= src`, 32 bits; the high half of `dst` becomes 0. The low half does not
 * change if `src` is a register with the value 0. See {@link AluOperation}.
 */
export const mod32: AluOperation = defineDivision(define32, "mod32", BPF_MOD);
/**
 * Computes the remainder of a signed division: `dst %= src`, 64 bits. The result has the sign of `dst`: -13 % 3 is -1. `dst` does
 * not change if `src` is a register with the value 0. See {@link AluOperation}.
 *
 * Requires Linux 6.6.
 */
export const smod: AluOperation = defineDivision(define64, "smod", BPF_MOD, { offset: 1 });
/**
 * Computes the remainder of a signed division: `dst %= src`, 32 bits; the high half of `dst` becomes 0. The result has the sign of
 * `dst`: -13 % 3 is -1. The low half does not change if `src` is a register with the value 0. See {@link AluOperation}.
 *
 * Requires Linux 6.6.
 */
export const smod32: AluOperation = defineDivision(define32, "smod32", BPF_MOD, signed);
/** Computes bitwise OR: `dst |= src`, 64 bits. See {@link AluOperation}. */
export const or: AluOperation = define64("or", BPF_OR);
/** Computes bitwise OR: `dst |= src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const or32: AluOperation = define32("or32", BPF_OR);
/** Computes bitwise AND: `dst &= src`, 64 bits. See {@link AluOperation}. */
export const and: AluOperation = define64("and", BPF_AND);
/** Computes bitwise AND: `dst &= src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const and32: AluOperation = define32("and32", BPF_AND);
/** Computes bitwise XOR: `dst ^= src`, 64 bits. See {@link AluOperation}. */
export const xor: AluOperation = define64("xor", BPF_XOR);
/** Computes bitwise XOR: `dst ^= src`, 32 bits; the high half of `dst` becomes 0. See {@link AluOperation}. */
export const xor32: AluOperation = define32("xor32", BPF_XOR);
/**
 * Shifts left: `dst <<= src`, 64 bits. An immediate is from 0 to 63; the low 6 bits of a register are used. See
 * {@link AluOperation}.
 */
export const lsh: AluOperation = define64("lsh", BPF_LSH, shift64);
/**
 * Shifts left: `dst <<= src`, 32 bits; the high half of `dst` becomes 0. An immediate is from 0 to 31; the low 5 bits of a
 * register are used. See {@link AluOperation}.
 */
export const lsh32: AluOperation = define32("lsh32", BPF_LSH, shift32);
/**
 * Shifts right, filling with zeros: `dst >>= src`, 64 bits. An immediate is from 0 to 63; the low 6 bits of a register are
 * used. See {@link AluOperation}.
 */
export const rsh: AluOperation = define64("rsh", BPF_RSH, shift64);
/**
 * Shifts right, filling with zeros: `dst >>= src`, 32 bits; the high half of `dst` becomes 0. An immediate is from 0 to 31;
 * the low 5 bits of a register are used. See {@link AluOperation}.
 */
export const rsh32: AluOperation = define32("rsh32", BPF_RSH, shift32);
/**
 * Shifts right, filling with the sign bit: `dst >>= src`, 64 bits. An immediate is from 0 to 63; the low 6 bits of a register
 * are used. See {@link AluOperation}.
 */
export const arsh: AluOperation = define64("arsh", BPF_ARSH, shift64);
/**
 * Shifts right, filling with the sign bit: `dst >>= src`, 32 bits; the high half of `dst` becomes 0. An immediate is from 0
 * to 31; the low 5 bits of a register are used. See {@link AluOperation}.
 */
export const arsh32: AluOperation = define32("arsh32", BPF_ARSH, shift32);

/** Negates: `dst = -dst`, 64 bits. See {@link AluUnary}. */
export const neg: AluUnary = (dst) =>
  makeInstruction(BPF_ALU64 | BPF_NEG | BPF_K, { dst: checkWritable("neg", "dst", dst) });
/** Negates: `dst = -dst`, 32 bits; the high half of `dst` becomes 0. See {@link AluUnary}. */
export const neg32: AluUnary = (dst) =>
  makeInstruction(BPF_ALU | BPF_NEG | BPF_K, { dst: checkWritable("neg32", "dst", dst) });

/**
 * Function that makes a move with sign extension: `dst` receives the low bits of `src`, extended with their
 * sign bit.
 *
 * @throws {TypeError} if an operand is not a register.
 * @throws {RangeError} if `dst` is the frame pointer.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, ldxb, movsx8, exit } = asm;
 *
 * const code = [ldxb(r1, r1, 0), movsx8(r0, r1), exit()];
 * ```
 *
 * Requires Linux 6.6.
 */
export type SignExtendingMove = (dst: WritableRegister, src: Register) => Instruction;

function defineSignExtension(
  mnemonic: string,
  width: typeof BPF_ALU | typeof BPF_ALU64,
  bits: number,
) {
  return ((dst, src) =>
    makeInstruction(width | BPF_MOV | BPF_X, {
      dst: checkWritable(mnemonic, "dst", dst),
      src: checkReadable(mnemonic, "src", src),
      // A nonzero offset in a move is the number of bits to sign-extend.
      offset: bits,
    })) satisfies SignExtendingMove;
}

/**
 * Copies the low 8 bits of `src`, sign-extended to 64 bits: `dst = (s8)src`. See {@link SignExtendingMove}.
 *
 * Requires Linux 6.6.
 */
export const movsx8: SignExtendingMove = defineSignExtension("movsx8", BPF_ALU64, 8);
/**
 * Copies the low 16 bits of `src`, sign-extended to 64 bits: `dst = (s16)src`. See {@link SignExtendingMove}.
 *
 * Requires Linux 6.6.
 */
export const movsx16: SignExtendingMove = defineSignExtension("movsx16", BPF_ALU64, 16);
/**
 * Copies the low 32 bits of `src`, sign-extended to 64 bits: `dst = (s32)src`. See {@link SignExtendingMove}.
 *
 * Requires Linux 6.6.
 */
export const movsx32: SignExtendingMove = defineSignExtension("movsx32", BPF_ALU64, 32);
/**
 * Copies the low 8 bits of `src`, sign-extended to 32 bits: `dst = (s8)src`; the high half of `dst` becomes 0. See
 * {@link SignExtendingMove}.
 *
 * Requires Linux 6.6.
 */
export const mov32sx8: SignExtendingMove = defineSignExtension("mov32sx8", BPF_ALU, 8);
/**
 * Copies the low 16 bits of `src`, sign-extended to 32 bits: `dst = (s16)src`; the high half of `dst` becomes 0. See
 * {@link SignExtendingMove}.
 *
 * Requires Linux 6.6.
 */
export const mov32sx16: SignExtendingMove = defineSignExtension("mov32sx16", BPF_ALU, 16);

function defineByteOrder(mnemonic: string, opcode: number, bits: number): AluUnary {
  return (dst) =>
    makeInstruction(opcode | BPF_END, { dst: checkWritable(mnemonic, "dst", dst), imm: bits });
}

/**
 * Converts the low 16 bits of `dst` between the machine's byte order and big-endian (network) byte order;
 * the other bits become 0.
 *
 * @throws {TypeError} if `dst` is not a register.
 * @throws {RangeError} if `dst` is the frame pointer.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r2, r6, ldxh, be16, jeq } = asm;
 *
 * // Jumps if the Ethernet frame at r6 is an IPv4 packet.
 * const isIpv4 = [ldxh(r2, r6, 12), be16(r2), jeq(r2, 0x0800, "ipv4")];
 * ```
 */
export const be16: AluUnary = defineByteOrder("be16", BPF_ALU | BPF_TO_BE, 16);
/**
 * Converts the low 32 bits of `dst` between the machine's byte order and big-endian (network) byte order; the other bits become 0.
 * See {@link AluUnary}.
 */
export const be32: AluUnary = defineByteOrder("be32", BPF_ALU | BPF_TO_BE, 32);
/** Converts all 64 bits of `dst` between the machine's byte order and big-endian (network) byte order. See {@link AluUnary}. */
export const be64: AluUnary = defineByteOrder("be64", BPF_ALU | BPF_TO_BE, 64);
/**
 * Converts the low 16 bits of `dst` between the machine's byte order and little-endian byte order; the other bits become 0. See
 * {@link AluUnary}.
 */
export const le16: AluUnary = defineByteOrder("le16", BPF_ALU | BPF_TO_LE, 16);
/**
 * Converts the low 32 bits of `dst` between the machine's byte order and little-endian byte order; the other bits become 0. See
 * {@link AluUnary}.
 */
export const le32: AluUnary = defineByteOrder("le32", BPF_ALU | BPF_TO_LE, 32);
/** Converts all 64 bits of `dst` between the machine's byte order and little-endian byte order. See {@link AluUnary}. */
export const le64: AluUnary = defineByteOrder("le64", BPF_ALU | BPF_TO_LE, 64);
/**
 * Reverses the low two bytes of `dst`, on machines of either byte order; the other bits become 0. See {@link AluUnary}.
 *
 * Requires Linux 6.6.
 */
export const bswap16: AluUnary = defineByteOrder("bswap16", BPF_ALU64 | BPF_TO_LE, 16);
/**
 * Reverses the low four bytes of `dst`, on machines of either byte order; the other bits become 0. See {@link AluUnary}.
 *
 * Requires Linux 6.6.
 */
export const bswap32: AluUnary = defineByteOrder("bswap32", BPF_ALU64 | BPF_TO_LE, 32);
/**
 * Reverses the eight bytes of `dst`, on machines of either byte order. See {@link AluUnary}.
 *
 * Requires Linux 6.6.
 */
export const bswap64: AluUnary = defineByteOrder("bswap64", BPF_ALU64 | BPF_TO_LE, 64);

/**
 * Converts a pointer into an arena between address spaces: `dst = addr_space_cast(src, to, from)`. Address
 * space 0 is the kernel's, 1 is that of the processes that map the arena.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or an address space not a number.
 * @throws {RangeError} if `dst` is the frame pointer, or an address space is not an integer from 0 to 65535.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * asm.addrSpaceCast(asm.r2, asm.r1, 0, 1);
 * ```
 *
 * Requires Linux 6.9 (6.10 on arm64).
 */
export function addrSpaceCast(
  dst: WritableRegister,
  src: Register,
  to: number,
  from: number,
): Instruction {
  const space = { min: 0, max: 0xffff };
  const high = checkImmediate("addrSpaceCast", "to", to, space);
  const low = checkImmediate("addrSpaceCast", "from", from, space);
  return makeInstruction(BPF_ALU64 | BPF_MOV | BPF_X, {
    dst: checkWritable("addrSpaceCast", "dst", dst),
    src: checkReadable("addrSpaceCast", "src", src),
    offset: 1,
    imm: (high << 16) | low,
  });
}
