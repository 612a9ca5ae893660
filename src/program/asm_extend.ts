/** @module The instructions that reshape one value: sign extension, byte order, address spaces. */

import {
  BPF_ALU,
  BPF_ALU64,
  BPF_END,
  BPF_MOV,
  BPF_TO_BE,
  BPF_TO_LE,
  BPF_X,
} from "../uapi/instruction.ts";
import type { AluUnary } from "./asm_alu.ts";
import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import { build, immediate, readable, writable } from "./operand.ts";

/**
 * Copies the low bits of `src` and fills the rest of `dst` with their sign. Linux 6.6.
 *
 * @throws {TypeError} when an operand is not a register
 * @throws {RangeError} when `dst` is the frame pointer
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
 * @throws {TypeError} when the operand is not a register
 * @throws {RangeError} when it is the frame pointer
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
 * @throws {TypeError} when `dst` or `src` is not a register
 * @throws {RangeError} when `dst` is the frame pointer, or a space is not 0 to 65535
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
