/** @module Loads, stores, packet loads and atomic operations. */

import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import {
  makeInstruction,
  either32,
  checkImmediate,
  type ImmediateRange,
  checkOffset,
  checkReadable,
  signed32,
  signExtended,
  checkWritable,
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
 * Function that makes a load: `dst = *(src + offset)`. The offset is from -32,768 to 32,767 bytes.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` is not a number.
 * @throws {RangeError} if `dst` is the frame pointer, or the offset is out of range.
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
 * Function that makes a store of a register: `*(dst + offset) = src`. `dst` is the address; it is not
 * changed. The offset is from -32,768 to 32,767 bytes.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` is not a number.
 * @throws {RangeError} if the offset is out of range.
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
 * Function that makes a store of an immediate: `*(dst + offset) = imm`. `dst` is the address; it is not
 * changed. The offset is from -32,768 to 32,767 bytes.
 *
 * @throws {TypeError} if `dst` is not a register, or `offset` or `imm` is not a number.
 * @throws {RangeError} if the offset or the immediate is out of range.
 */
export type StoreImmediate = (dst: Register, offset: number, imm: number) => Instruction;

function defineLoad(mnemonic: string, size: number, mode: number = BPF_MEM): Load {
  return (dst, src, offset) =>
    makeInstruction(BPF_LDX | mode | size, {
      dst: checkWritable(mnemonic, "dst", dst),
      src: checkReadable(mnemonic, "src", src),
      offset: checkOffset(mnemonic, offset),
    });
}

function defineStore(mnemonic: string, size: number): Store {
  return (dst, offset, src) =>
    makeInstruction(BPF_STX | BPF_MEM | size, {
      dst: checkReadable(mnemonic, "dst", dst),
      offset: checkOffset(mnemonic, offset),
      src: checkReadable(mnemonic, "src", src),
    });
}

function defineStoreImmediate(
  mnemonic: string,
  size: number,
  range: ImmediateRange,
): StoreImmediate {
  return (dst, offset, imm) =>
    makeInstruction(BPF_ST | BPF_MEM | size, {
      dst: checkReadable(mnemonic, "dst", dst),
      offset: checkOffset(mnemonic, offset),
      imm: checkImmediate(mnemonic, "imm", imm, range),
    });
}

/** Loads 1 byte, zero-extended: `dst = *(u8 *)(src + offset)`. See {@link Load}. */
export const ldxb: Load = defineLoad("ldxb", BPF_B);
/** Loads 2 bytes, zero-extended: `dst = *(u16 *)(src + offset)`. See {@link Load}. */
export const ldxh: Load = defineLoad("ldxh", BPF_H);
/** Loads 4 bytes, zero-extended: `dst = *(u32 *)(src + offset)`. See {@link Load}. */
export const ldxw: Load = defineLoad("ldxw", BPF_W);
/** Loads 8 bytes: `dst = *(u64 *)(src + offset)`. See {@link Load}. */
export const ldxdw: Load = defineLoad("ldxdw", BPF_DW);
/**
 * Loads 1 byte, sign-extended: `dst = *(s8 *)(src + offset)`. See {@link Load}.
 *
 * Requires Linux 6.6.
 */
export const ldxsb: Load = defineLoad("ldxsb", BPF_B, BPF_MEMSX);
/**
 * Loads 2 bytes, sign-extended: `dst = *(s16 *)(src + offset)`. See {@link Load}.
 *
 * Requires Linux 6.6.
 */
export const ldxsh: Load = defineLoad("ldxsh", BPF_H, BPF_MEMSX);
/**
 * Loads 4 bytes, sign-extended: `dst = *(s32 *)(src + offset)`. See {@link Load}.
 *
 * Requires Linux 6.6.
 */
export const ldxsw: Load = defineLoad("ldxsw", BPF_W, BPF_MEMSX);

/** Stores the low byte of a register: `*(u8 *)(dst + offset) = src`. See {@link Store}. */
export const stxb: Store = defineStore("stxb", BPF_B);
/** Stores the low 2 bytes of a register: `*(u16 *)(dst + offset) = src`. See {@link Store}. */
export const stxh: Store = defineStore("stxh", BPF_H);
/** Stores the low 4 bytes of a register: `*(u32 *)(dst + offset) = src`. See {@link Store}. */
export const stxw: Store = defineStore("stxw", BPF_W);
/** Stores the 8 bytes of a register: `*(u64 *)(dst + offset) = src`. See {@link Store}. */
export const stxdw: Store = defineStore("stxdw", BPF_DW);

/**
 * Stores an immediate in 1 byte: `*(u8 *)(dst + offset) = imm`. The immediate is from -2^7 to 2^8-1. See {@link StoreImmediate}.
 */
export const stb: StoreImmediate = defineStoreImmediate("stb", BPF_B, { min: -0x80, max: 0xff });
/**
 * Stores an immediate in 2 bytes: `*(u16 *)(dst + offset) = imm`. The immediate is from -2^15 to 2^16-1. See
 * {@link StoreImmediate}.
 */
export const sth: StoreImmediate = defineStoreImmediate("sth", BPF_H, {
  min: -0x8000,
  max: 0xffff,
});
/**
 * Stores an immediate in 4 bytes: `*(u32 *)(dst + offset) = imm`. The immediate is from -2^31 to 2^32-1. See
 * {@link StoreImmediate}.
 */
export const stw: StoreImmediate = defineStoreImmediate("stw", BPF_W, either32);
/**
 * Stores an immediate in 8 bytes: `*(u64 *)(dst + offset) = imm`. The immediate is from -2^31 to 2^31-1, sign-extended. See
 * {@link StoreImmediate}.
 */
export const stdw: StoreImmediate = defineStoreImmediate("stdw", BPF_DW, signExtended);

/**
 * Function that makes a legacy load from the packet at a constant offset: `r0 = packet[offset]`.
 *
 * `r6` must be the context (`struct __sk_buff *`). The value is converted to the machine's byte order. If the
 * packet is too short, the program ends with the result 0. The instruction clobbers `r1` to `r5`. Only socket
 * filters and traffic control programs can use it; the kernel's documentation calls it deprecated.
 *
 * @throws {TypeError} if `offset` is not a number.
 * @throws {RangeError} if the offset is not an integer from -2^31 to 2^31-1.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r6, mov, ldAbsB, exit } = asm;
 *
 * // Returns the protocol of an IPv4 packet.
 * const code = [mov(r6, r1), ldAbsB(23), exit()];
 * ```
 */
export type LoadPacket = (offset: number) => Instruction;

/**
 * Function that makes a legacy load from the packet at a variable offset: `r0 = packet[src + offset]`. The
 * requirements and effects are those of {@link LoadPacket}.
 *
 * @throws {TypeError} if `src` is not a register, or `offset` is not a number.
 * @throws {RangeError} if the offset is not an integer from -2^31 to 2^31-1.
 */
export type LoadPacketIndirect = (src: Register, offset: number) => Instruction;

function definePacketLoad(mnemonic: string, size: number): LoadPacket {
  return (offset) =>
    makeInstruction(BPF_LD | BPF_ABS | size, {
      imm: checkImmediate(mnemonic, "offset", offset, signed32),
    });
}

function defineIndirectPacketLoad(mnemonic: string, size: number): LoadPacketIndirect {
  return (src, offset) =>
    makeInstruction(BPF_LD | BPF_IND | size, {
      src: checkReadable(mnemonic, "src", src),
      imm: checkImmediate(mnemonic, "offset", offset, signed32),
    });
}

/** Loads 1 byte of the packet: `r0 = *(u8 *)(packet + offset)`. See {@link LoadPacket}. */
export const ldAbsB: LoadPacket = definePacketLoad("ldAbsB", BPF_B);
/** Loads 2 bytes of the packet, converted from network byte order: `r0 = *(u16 *)(packet + offset)`. See {@link LoadPacket}. */
export const ldAbsH: LoadPacket = definePacketLoad("ldAbsH", BPF_H);
/** Loads 4 bytes of the packet, converted from network byte order: `r0 = *(u32 *)(packet + offset)`. See {@link LoadPacket}. */
export const ldAbsW: LoadPacket = definePacketLoad("ldAbsW", BPF_W);
/** Loads 1 byte of the packet: `r0 = *(u8 *)(packet + src + offset)`. See {@link LoadPacketIndirect}. */
export const ldIndB: LoadPacketIndirect = defineIndirectPacketLoad("ldIndB", BPF_B);
/**
 * Loads 2 bytes of the packet, converted from network byte order: `r0 = *(u16 *)(packet + src + offset)`. See
 * {@link LoadPacketIndirect}.
 */
export const ldIndH: LoadPacketIndirect = defineIndirectPacketLoad("ldIndH", BPF_H);
/**
 * Loads 4 bytes of the packet, converted from network byte order: `r0 = *(u32 *)(packet + src + offset)`. See
 * {@link LoadPacketIndirect}.
 */
export const ldIndW: LoadPacketIndirect = defineIndirectPacketLoad("ldIndW", BPF_W);

/**
 * Function that makes an atomic operation on memory: `*(dst + offset) op= src`. `dst` is the address; it is
 * not changed. The address must be aligned to the size. The offset is from -32,768 to 32,767 bytes.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` is not a number.
 * @throws {RangeError} if the offset is out of range.
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
 * Function that makes an atomic operation on memory that returns the old value. `src` receives the old value, zero-extended
 * in the 32-bit forms. `dst` is the address; it is not changed. The address must be aligned to the size. The offset is from
 * -32,768 to 32,767 bytes.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` is not a number.
 * @throws {RangeError} if `src` is the frame pointer, or the offset is out of range.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export type AtomicFetch = (dst: Register, offset: number, src: WritableRegister) => Instruction;

function defineAtomic(mnemonic: string, size: number, operation: number): Atomic {
  return (dst, offset, src) =>
    makeInstruction(BPF_STX | BPF_ATOMIC | size, {
      dst: checkReadable(mnemonic, "dst", dst),
      offset: checkOffset(mnemonic, offset),
      src: checkReadable(mnemonic, "src", src),
      imm: operation,
    });
}

function defineAtomicFetch(mnemonic: string, size: number, operation: number): AtomicFetch {
  const make = defineAtomic(mnemonic, size, operation | BPF_FETCH);
  return (dst, offset, src) => {
    checkWritable(mnemonic, "src", src);
    return make(dst, offset, src);
  };
}

/** Adds atomically: `*(u64 *)(dst + offset) += src`. See {@link Atomic}. */
export const atomicAdd: Atomic = defineAtomic("atomicAdd", BPF_DW, BPF_ADD);
/** Adds atomically: `*(u32 *)(dst + offset) += src`. See {@link Atomic}. */
export const atomicAdd32: Atomic = defineAtomic("atomicAdd32", BPF_W, BPF_ADD);
/**
 * Computes bitwise OR atomically: `*(u64 *)(dst + offset) |= src`. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicOr: Atomic = defineAtomic("atomicOr", BPF_DW, BPF_OR);
/**
 * Computes bitwise OR atomically: `*(u32 *)(dst + offset) |= src`. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicOr32: Atomic = defineAtomic("atomicOr32", BPF_W, BPF_OR);
/**
 * Computes bitwise AND atomically: `*(u64 *)(dst + offset) &= src`. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicAnd: Atomic = defineAtomic("atomicAnd", BPF_DW, BPF_AND);
/**
 * Computes bitwise AND atomically: `*(u32 *)(dst + offset) &= src`. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicAnd32: Atomic = defineAtomic("atomicAnd32", BPF_W, BPF_AND);
/**
 * Computes bitwise XOR atomically: `*(u64 *)(dst + offset) ^= src`. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicXor: Atomic = defineAtomic("atomicXor", BPF_DW, BPF_XOR);
/**
 * Computes bitwise XOR atomically: `*(u32 *)(dst + offset) ^= src`. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicXor32: Atomic = defineAtomic("atomicXor32", BPF_W, BPF_XOR);

/**
 * Adds atomically, and returns the old value in `src`: `src = fetch_add((u64 *)(dst + offset), src)`. See {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchAdd: AtomicFetch = defineAtomicFetch("atomicFetchAdd", BPF_DW, BPF_ADD);
/**
 * Adds atomically, and returns the old value in `src`: `src = fetch_add((u32 *)(dst + offset), src)`. See {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchAdd32: AtomicFetch = defineAtomicFetch("atomicFetchAdd32", BPF_W, BPF_ADD);
/**
 * Computes bitwise OR atomically, and returns the old value in `src`: `src = fetch_or((u64 *)(dst + offset), src)`. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchOr: AtomicFetch = defineAtomicFetch("atomicFetchOr", BPF_DW, BPF_OR);
/**
 * Computes bitwise OR atomically, and returns the old value in `src`: `src = fetch_or((u32 *)(dst + offset), src)`. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchOr32: AtomicFetch = defineAtomicFetch("atomicFetchOr32", BPF_W, BPF_OR);
/**
 * Computes bitwise AND atomically, and returns the old value in `src`: `src = fetch_and((u64 *)(dst + offset), src)`. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchAnd: AtomicFetch = defineAtomicFetch("atomicFetchAnd", BPF_DW, BPF_AND);
/**
 * Computes bitwise AND atomically, and returns the old value in `src`: `src = fetch_and((u32 *)(dst + offset), src)`. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchAnd32: AtomicFetch = defineAtomicFetch("atomicFetchAnd32", BPF_W, BPF_AND);
/**
 * Computes bitwise XOR atomically, and returns the old value in `src`: `src = fetch_xor((u64 *)(dst + offset), src)`. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchXor: AtomicFetch = defineAtomicFetch("atomicFetchXor", BPF_DW, BPF_XOR);
/**
 * Computes bitwise XOR atomically, and returns the old value in `src`: `src = fetch_xor((u32 *)(dst + offset), src)`. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const atomicFetchXor32: AtomicFetch = defineAtomicFetch("atomicFetchXor32", BPF_W, BPF_XOR);

/**
 * Exchanges `src` and `*(u64 *)(dst + offset)` atomically. See {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const xchg: AtomicFetch = defineAtomicFetch("xchg", BPF_DW, BPF_XCHG);
/**
 * Exchanges the low half of `src` and `*(u32 *)(dst + offset)` atomically; the high half of `src` becomes 0. See
 * {@link AtomicFetch}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const xchg32: AtomicFetch = defineAtomicFetch("xchg32", BPF_W, BPF_XCHG);
/**
 * Stores `src` in `*(u64 *)(dst + offset)` atomically if the old value equals `r0`. `r0` receives the old value. See
 * {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const cmpxchg: Atomic = defineAtomic("cmpxchg", BPF_DW, BPF_CMPXCHG);
/**
 * Stores the low half of `src` in `*(u32 *)(dst + offset)` atomically if the old value equals the low half of `r0`. `r0` receives
 * the old value, zero-extended. See {@link Atomic}.
 *
 * Requires Linux 5.12 (5.18 on arm64).
 */
export const cmpxchg32: Atomic = defineAtomic("cmpxchg32", BPF_W, BPF_CMPXCHG);

function defineLoadAcquire(mnemonic: string, size: number): Load {
  return (dst, src, offset) =>
    makeInstruction(BPF_STX | BPF_ATOMIC | size, {
      dst: checkWritable(mnemonic, "dst", dst),
      src: checkReadable(mnemonic, "src", src),
      offset: checkOffset(mnemonic, offset),
      imm: BPF_LOAD_ACQ,
    });
}

/**
 * Loads 1 byte with acquire ordering: `dst = load_acquire((u8 *)(src + offset))`. For every CPU, the load
 * happens before the memory accesses that follow it in the program. See {@link Load}.
 *
 * @throws {TypeError} if `dst` or `src` is not a register, or `offset` is not a number.
 * @throws {RangeError} if `dst` is the frame pointer, or the offset is out of range.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, r2, loadAcquireW, storeReleaseW, mov } = asm;
 *
 * const handOver = [loadAcquireW(r0, r1, 0), mov(r2, 1), storeReleaseW(r1, 4, r2)];
 * ```
 *
 * Requires Linux 6.15.
 */
export const loadAcquireB: Load = defineLoadAcquire("loadAcquireB", BPF_B);
/**
 * Loads 2 bytes with acquire ordering: `dst = load_acquire((u16 *)(src + offset))`. See {@link loadAcquireB}.
 *
 * Requires Linux 6.15.
 */
export const loadAcquireH: Load = defineLoadAcquire("loadAcquireH", BPF_H);
/**
 * Loads 4 bytes with acquire ordering: `dst = load_acquire((u32 *)(src + offset))`. See {@link loadAcquireB}.
 *
 * Requires Linux 6.15.
 */
export const loadAcquireW: Load = defineLoadAcquire("loadAcquireW", BPF_W);
/**
 * Loads 8 bytes with acquire ordering: `dst = load_acquire((u64 *)(src + offset))`. See {@link loadAcquireB}.
 *
 * Requires Linux 6.15.
 */
export const loadAcquireDW: Load = defineLoadAcquire("loadAcquireDW", BPF_DW);

/**
 * Stores 1 byte with release ordering: `store_release((u8 *)(dst + offset), src)`. For every CPU, the memory
 * accesses that precede the store in the program happen before it. See {@link Store}.
 *
 * Requires Linux 6.15.
 */
export const storeReleaseB: Store = defineAtomic("storeReleaseB", BPF_B, BPF_STORE_REL);
/**
 * Stores 2 bytes with release ordering: `store_release((u16 *)(dst + offset), src)`. See {@link storeReleaseB}.
 *
 * Requires Linux 6.15.
 */
export const storeReleaseH: Store = defineAtomic("storeReleaseH", BPF_H, BPF_STORE_REL);
/**
 * Stores 4 bytes with release ordering: `store_release((u32 *)(dst + offset), src)`. See {@link storeReleaseB}.
 *
 * Requires Linux 6.15.
 */
export const storeReleaseW: Store = defineAtomic("storeReleaseW", BPF_W, BPF_STORE_REL);
/**
 * Stores 8 bytes with release ordering: `store_release((u64 *)(dst + offset), src)`. See {@link storeReleaseB}.
 *
 * Requires Linux 6.15.
 */
export const storeReleaseDW: Store = defineAtomic("storeReleaseDW", BPF_DW, BPF_STORE_REL);
