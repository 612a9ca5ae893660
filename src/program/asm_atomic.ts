/** @module The instructions that other CPUs cannot see half done. */

import {
  BPF_ADD,
  BPF_AND,
  BPF_ATOMIC,
  BPF_B,
  BPF_CMPXCHG,
  BPF_DW,
  BPF_FETCH,
  BPF_H,
  BPF_LOAD_ACQ,
  BPF_OR,
  BPF_STORE_REL,
  BPF_STX,
  BPF_W,
  BPF_XCHG,
  BPF_XOR,
} from "../uapi/instruction.ts";
import type { Load, Store } from "./asm_memory.ts";
import type { Instruction, Register, WritableRegister } from "./instruction.ts";
import { build, offset16, readable, writable } from "./operand.ts";

/**
 * `*(dst + offset) op= src`, atomically. `dst` is the address and is not written. The address must
 * be aligned to the size.
 *
 * @throws {TypeError} when `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} when the offset does not fit 16 signed bits
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
 * @throws {TypeError} when `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} when `src` is the frame pointer, or the offset does not fit 16 signed bits
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
 * @throws {TypeError} when `dst` or `src` is not a register, or `offset` not a number
 * @throws {RangeError} when `dst` is the frame pointer, or the offset does not fit 16 signed bits
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
