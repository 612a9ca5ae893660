/** @module The instructions that move between registers and memory. */

import {
  BPF_ABS,
  BPF_B,
  BPF_DW,
  BPF_H,
  BPF_IND,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_MEMSX,
  BPF_ST,
  BPF_STX,
  BPF_W,
} from "../uapi/instruction.ts";
import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import {
  build,
  either32,
  immediate,
  offset16,
  readable,
  signed32,
  signExtended,
  writable,
  type ImmediateRange,
} from "./operand.ts";

/**
 * `dst = *(src + offset)`: a load. The offset is -32768 to 32767 bytes.
 *
 * @throws {TypeError} when `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} when `dst` is the frame pointer, or the offset out of range
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, r10, ldxw, stxw, exit } = asm;
 *
 * const code = [ldxw(r0, r1, 0), stxw(r10, -4, r0), exit()];
 * ```
 */
export type Load = (dst: WritableRegister, src: Register, offset: number) => Instruction;

/**
 * `*(dst + offset) = src`: a store of a register. `dst` is the address and is not written.
 *
 * @throws {TypeError} when `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} when the offset is out of range
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r10, stxdw, stw } = asm;
 *
 * const code = [stxdw(r10, -8, r1), stw(r10, -12, 0)];
 * ```
 */
export type Store = (dst: Register, offset: number, src: Register) => Instruction;

/**
 * `*(dst + offset) = imm`: a store of an immediate, which must fit the size, signed or unsigned.
 *
 * @throws {TypeError} when `dst` is not a register, or another operand not a number
 * @throws {RangeError} when the offset or the immediate is out of range
 */
export type StoreImmediate = (dst: Register, offset: number, imm: number) => Instruction;

function load(mnemonic: string, size: number, mode: number = BPF_MEM): Load {
  return (dst, src, offset) =>
    build(BPF_LDX | mode | size, {
      dst: writable(mnemonic, "dst", dst),
      src: readable(mnemonic, "src", src),
      offset: offset16(mnemonic, offset),
    });
}

function store(mnemonic: string, size: number): Store {
  return (dst, offset, src) =>
    build(BPF_STX | BPF_MEM | size, {
      dst: readable(mnemonic, "dst", dst),
      offset: offset16(mnemonic, offset),
      src: readable(mnemonic, "src", src),
    });
}

function storeImmediate(mnemonic: string, size: number, range: ImmediateRange): StoreImmediate {
  return (dst, offset, imm) =>
    build(BPF_ST | BPF_MEM | size, {
      dst: readable(mnemonic, "dst", dst),
      offset: offset16(mnemonic, offset),
      imm: immediate(mnemonic, "imm", imm, range),
    });
}

/** `dst = *(u8 *)(src + offset)`. See {@link Load}. */
export const ldxb: Load = load("ldxb", BPF_B);
/** `dst = *(u16 *)(src + offset)`. See {@link Load}. */
export const ldxh: Load = load("ldxh", BPF_H);
/** `dst = *(u32 *)(src + offset)`. See {@link Load}. */
export const ldxw: Load = load("ldxw", BPF_W);
/** `dst = *(u64 *)(src + offset)`. See {@link Load}. */
export const ldxdw: Load = load("ldxdw", BPF_DW);
/** `dst = *(s8 *)(src + offset)`: fills with the sign. Linux 6.6. See {@link Load}. */
export const ldxsb: Load = load("ldxsb", BPF_B, BPF_MEMSX);
/** `dst = *(s16 *)(src + offset)`: fills with the sign. Linux 6.6. See {@link Load}. */
export const ldxsh: Load = load("ldxsh", BPF_H, BPF_MEMSX);
/** `dst = *(s32 *)(src + offset)`: fills with the sign. Linux 6.6. See {@link Load}. */
export const ldxsw: Load = load("ldxsw", BPF_W, BPF_MEMSX);

/** `*(u8 *)(dst + offset) = src`. See {@link Store}. */
export const stxb: Store = store("stxb", BPF_B);
/** `*(u16 *)(dst + offset) = src`. See {@link Store}. */
export const stxh: Store = store("stxh", BPF_H);
/** `*(u32 *)(dst + offset) = src`. See {@link Store}. */
export const stxw: Store = store("stxw", BPF_W);
/** `*(u64 *)(dst + offset) = src`. See {@link Store}. */
export const stxdw: Store = store("stxdw", BPF_DW);

/** `*(u8 *)(dst + offset) = imm`. See {@link StoreImmediate}. */
export const stb: StoreImmediate = storeImmediate("stb", BPF_B, { min: -0x80, max: 0xff });
/** `*(u16 *)(dst + offset) = imm`. See {@link StoreImmediate}. */
export const sth: StoreImmediate = storeImmediate("sth", BPF_H, { min: -0x8000, max: 0xffff });
/** `*(u32 *)(dst + offset) = imm`. See {@link StoreImmediate}. */
export const stw: StoreImmediate = storeImmediate("stw", BPF_W, either32);
/** `*(u64 *)(dst + offset) = imm`, sign-extended from 32 bits. See {@link StoreImmediate}. */
export const stdw: StoreImmediate = storeImmediate("stdw", BPF_DW, signExtended);

/**
 * `r0 = packet[offset]`: reads the packet of the context in `r6`, in the host's byte order, and ends
 * the program if the packet is shorter. Legacy, for socket filters; destroys `r1` to `r5`.
 *
 * @throws {TypeError} when `offset` is not a number
 * @throws {RangeError} when it does not fit 32 signed bits
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r6, mov, ldAbsB, exit } = asm;
 *
 * // The protocol of an IPv4 packet.
 * const code = [mov(r6, r1), ldAbsB(23), exit()];
 * ```
 */
export type LoadPacket = (offset: number) => Instruction;

/**
 * `r0 = packet[src + offset]`: as {@link LoadPacket}, at an offset that a register adds to.
 *
 * @throws {TypeError} when `src` is not a register or `offset` not a number
 * @throws {RangeError} when the offset does not fit 32 signed bits
 */
export type LoadPacketIndirect = (src: Register, offset: number) => Instruction;

function packet(mnemonic: string, size: number): LoadPacket {
  return (offset) =>
    build(BPF_LD | BPF_ABS | size, { imm: immediate(mnemonic, "offset", offset, signed32) });
}

function packetIndirect(mnemonic: string, size: number): LoadPacketIndirect {
  return (src, offset) =>
    build(BPF_LD | BPF_IND | size, {
      src: readable(mnemonic, "src", src),
      imm: immediate(mnemonic, "offset", offset, signed32),
    });
}

/** `r0 = *(u8 *)packet[offset]`. See {@link LoadPacket}. */
export const ldAbsB: LoadPacket = packet("ldAbsB", BPF_B);
/** `r0 = *(u16 *)packet[offset]`, from network byte order. See {@link LoadPacket}. */
export const ldAbsH: LoadPacket = packet("ldAbsH", BPF_H);
/** `r0 = *(u32 *)packet[offset]`, from network byte order. See {@link LoadPacket}. */
export const ldAbsW: LoadPacket = packet("ldAbsW", BPF_W);
/** `r0 = *(u8 *)packet[src + offset]`. See {@link LoadPacketIndirect}. */
export const ldIndB: LoadPacketIndirect = packetIndirect("ldIndB", BPF_B);
/** `r0 = *(u16 *)packet[src + offset]`, from network byte order. See {@link LoadPacketIndirect}. */
export const ldIndH: LoadPacketIndirect = packetIndirect("ldIndH", BPF_H);
/** `r0 = *(u32 *)packet[src + offset]`, from network byte order. See {@link LoadPacketIndirect}. */
export const ldIndW: LoadPacketIndirect = packetIndirect("ldIndW", BPF_W);
