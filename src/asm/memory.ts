/** @module The instructions that move between registers and memory. */

import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import {
  build,
  either32,
  immediate,
  type ImmediateRange,
  offset16,
  readable,
  signed32,
  signExtended,
  writable,
} from "./operand.ts";
import {
  BPF_ABS,
  BPF_ADD,
  BPF_AND,
  BPF_ATOMIC,
  BPF_B,
  BPF_CMPXCHG,
  BPF_DW,
  BPF_FETCH,
  BPF_H,
  BPF_IND,
  BPF_LD,
  BPF_LDX,
  BPF_LOAD_ACQ,
  BPF_MEM,
  BPF_MEMSX,
  BPF_OR,
  BPF_ST,
  BPF_STORE_REL,
  BPF_STX,
  BPF_W,
  BPF_XCHG,
  BPF_XOR,
} from "../uapi/instruction.ts";

/**
 * `dst = *(src + offset)`: a load. The offset is -32768 to 32767 bytes.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} if `dst` is the frame pointer, or the offset out of range
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
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} if the offset is out of range
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
 * @throws {TypeError} if `dst` is not a register, or another operand not a number
 * @throws {RangeError} if the offset or the immediate is out of range
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
 * @throws {TypeError} if `offset` is not a number
 * @throws {RangeError} if it does not fit 32 signed bits
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
 * @throws {TypeError} if `src` is not a register or `offset` not a number
 * @throws {RangeError} if the offset does not fit 32 signed bits
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

/**
 * `*(dst + offset) op= src`, atomically. `dst` is the address and is not written. The address must
 * be aligned to the size.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} if the offset does not fit 16 signed bits
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, mov, atomicAdd } = asm;
 *
 * // Adds 1 to the 64-bit counter that r0 points at.
 * const count = [mov(r1, 1), atomicAdd(r0, 0, r1)];
 * ```
 */
export type Atomic = Store;

/**
 * As {@link Atomic}, and `src` receives the value that was there before. Linux 5.12.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} if `src` is the frame pointer, or the offset does not fit 16 signed bits
 */
export type AtomicFetch = (dst: Register, offset: number, src: WritableRegister) => Instruction;

function atomic(mnemonic: string, size: number, operation: number): Atomic {
  return (dst, offset, src) =>
    build(BPF_STX | BPF_ATOMIC | size, {
      dst: readable(mnemonic, "dst", dst),
      offset: offset16(mnemonic, offset),
      src: readable(mnemonic, "src", src),
      imm: operation,
    });
}

function atomicFetch(mnemonic: string, size: number, operation: number): AtomicFetch {
  const make = atomic(mnemonic, size, operation | BPF_FETCH);
  return (dst, offset, src) => {
    writable(mnemonic, "src", src);
    return make(dst, offset, src);
  };
}

/** `*(u64 *)(dst + offset) += src`. See {@link Atomic}. */
export const atomicAdd: Atomic = atomic("atomicAdd", BPF_DW, BPF_ADD);
/** `*(u32 *)(dst + offset) += src`. See {@link Atomic}. */
export const atomicAdd32: Atomic = atomic("atomicAdd32", BPF_W, BPF_ADD);
/** `*(u64 *)(dst + offset) |= src`. Linux 5.12. See {@link Atomic}. */
export const atomicOr: Atomic = atomic("atomicOr", BPF_DW, BPF_OR);
/** `*(u32 *)(dst + offset) |= src`. Linux 5.12. See {@link Atomic}. */
export const atomicOr32: Atomic = atomic("atomicOr32", BPF_W, BPF_OR);
/** `*(u64 *)(dst + offset) &= src`. Linux 5.12. See {@link Atomic}. */
export const atomicAnd: Atomic = atomic("atomicAnd", BPF_DW, BPF_AND);
/** `*(u32 *)(dst + offset) &= src`. Linux 5.12. See {@link Atomic}. */
export const atomicAnd32: Atomic = atomic("atomicAnd32", BPF_W, BPF_AND);
/** `*(u64 *)(dst + offset) ^= src`. Linux 5.12. See {@link Atomic}. */
export const atomicXor: Atomic = atomic("atomicXor", BPF_DW, BPF_XOR);
/** `*(u32 *)(dst + offset) ^= src`. Linux 5.12. See {@link Atomic}. */
export const atomicXor32: Atomic = atomic("atomicXor32", BPF_W, BPF_XOR);

/** `src = fetch_add((u64 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchAdd: AtomicFetch = atomicFetch("atomicFetchAdd", BPF_DW, BPF_ADD);
/** `src = fetch_add((u32 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchAdd32: AtomicFetch = atomicFetch("atomicFetchAdd32", BPF_W, BPF_ADD);
/** `src = fetch_or((u64 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchOr: AtomicFetch = atomicFetch("atomicFetchOr", BPF_DW, BPF_OR);
/** `src = fetch_or((u32 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchOr32: AtomicFetch = atomicFetch("atomicFetchOr32", BPF_W, BPF_OR);
/** `src = fetch_and((u64 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchAnd: AtomicFetch = atomicFetch("atomicFetchAnd", BPF_DW, BPF_AND);
/** `src = fetch_and((u32 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchAnd32: AtomicFetch = atomicFetch("atomicFetchAnd32", BPF_W, BPF_AND);
/** `src = fetch_xor((u64 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchXor: AtomicFetch = atomicFetch("atomicFetchXor", BPF_DW, BPF_XOR);
/** `src = fetch_xor((u32 *)(dst + offset), src)`. Linux 5.12. See {@link AtomicFetch}. */
export const atomicFetchXor32: AtomicFetch = atomicFetch("atomicFetchXor32", BPF_W, BPF_XOR);

/** Swaps `src` and `*(u64 *)(dst + offset)`. Linux 5.12. See {@link AtomicFetch}. */
export const xchg: AtomicFetch = atomicFetch("xchg", BPF_DW, BPF_XCHG);
/** Swaps the low half of `src` and `*(u32 *)(dst + offset)`. Linux 5.12. See {@link AtomicFetch}. */
export const xchg32: AtomicFetch = atomicFetch("xchg32", BPF_W, BPF_XCHG);
/**
 * Stores `src` to `*(u64 *)(dst + offset)` if that equals `r0`; `r0` receives what was there.
 * Linux 5.12. See {@link Atomic}.
 */
export const cmpxchg: Atomic = atomic("cmpxchg", BPF_DW, BPF_CMPXCHG);
/** As {@link cmpxchg}, on 32 bits. Linux 5.12. */
export const cmpxchg32: Atomic = atomic("cmpxchg32", BPF_W, BPF_CMPXCHG);

function loadAcquire(mnemonic: string, size: number): Load {
  return (dst, src, offset) =>
    build(BPF_STX | BPF_ATOMIC | size, {
      dst: writable(mnemonic, "dst", dst),
      src: readable(mnemonic, "src", src),
      offset: offset16(mnemonic, offset),
      imm: BPF_LOAD_ACQ,
    });
}

/**
 * `dst = load_acquire((u8 *)(src + offset))`: what follows it in the program happens after it, as
 * every CPU sees it. Linux 6.15.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} if `dst` is the frame pointer, or the offset does not fit 16 signed bits
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, r2, loadAcquireW, storeReleaseW, mov } = asm;
 *
 * const handOver = [loadAcquireW(r0, r1, 0), mov(r2, 1), storeReleaseW(r1, 4, r2)];
 * ```
 */
export const loadAcquireB: Load = loadAcquire("loadAcquireB", BPF_B);
/** `dst = load_acquire((u16 *)(src + offset))`. Linux 6.15. See {@link loadAcquireB}. */
export const loadAcquireH: Load = loadAcquire("loadAcquireH", BPF_H);
/** `dst = load_acquire((u32 *)(src + offset))`. Linux 6.15. See {@link loadAcquireB}. */
export const loadAcquireW: Load = loadAcquire("loadAcquireW", BPF_W);
/** `dst = load_acquire((u64 *)(src + offset))`. Linux 6.15. See {@link loadAcquireB}. */
export const loadAcquireDW: Load = loadAcquire("loadAcquireDW", BPF_DW);

/**
 * `store_release((u8 *)(dst + offset), src)`: what precedes it in the program happens before it, as
 * every CPU sees it. Linux 6.15. See {@link Atomic}.
 */
export const storeReleaseB: Store = atomic("storeReleaseB", BPF_B, BPF_STORE_REL);
/** `store_release((u16 *)(dst + offset), src)`. Linux 6.15. See {@link storeReleaseB}. */
export const storeReleaseH: Store = atomic("storeReleaseH", BPF_H, BPF_STORE_REL);
/** `store_release((u32 *)(dst + offset), src)`. Linux 6.15. See {@link storeReleaseB}. */
export const storeReleaseW: Store = atomic("storeReleaseW", BPF_W, BPF_STORE_REL);
/** `store_release((u64 *)(dst + offset), src)`. Linux 6.15. See {@link storeReleaseB}. */
export const storeReleaseDW: Store = atomic("storeReleaseDW", BPF_DW, BPF_STORE_REL);
