/**
 * @module Instructions that LLVM 14 cannot assemble, with bytes from other sources, which are named
 * above each group.
 */

import * as asm from "../../src/asm/asm.ts";
import type { Row } from "./encodings.ts";

/** An instruction, and its bytes in another source. */
export interface DocumentedRow extends Row {
  readonly bytes: string;
}

const { r0, r1, r2, r3, r4, r5, r6 } = asm;

// LLVM, llvm/test/CodeGen/BPF/assembler-disassembler-v4.s.
const version4: DocumentedRow[] = [
  [asm.bswap16(r1), "bswap16", "r1 = bswap16 r1", "d7 01 00 00 10 00 00 00"],
  [asm.bswap32(r2), "bswap32", "r2 = bswap32 r2", "d7 02 00 00 20 00 00 00"],
  [asm.bswap64(r3), "bswap64", "r3 = bswap64 r3", "d7 03 00 00 40 00 00 00"],
  [asm.ldxsb(r1, r4, 0), "ldxsb", "r1 = *(s8 *)(r4 +0)", "91 41 00 00 00 00 00 00"],
  [asm.ldxsh(r2, r5, 4), "ldxsh", "r2 = *(s16 *)(r5 +4)", "89 52 04 00 00 00 00 00"],
  [asm.ldxsw(r3, r6, 8), "ldxsw", "r3 = *(s32 *)(r6 +8)", "81 63 08 00 00 00 00 00"],
  [asm.movsx8(r1, r4), "movsx8", "r1 = (s8)r4", "bf 41 08 00 00 00 00 00"],
  [asm.movsx16(r2, r5), "movsx16", "r2 = (s16)r5", "bf 52 10 00 00 00 00 00"],
  [asm.movsx32(r3, r6), "movsx32", "r3 = (s32)r6", "bf 63 20 00 00 00 00 00"],
  [asm.mov32sx8(r1, r3), "mov32sx8", "w1 = (s8)w3", "bc 31 08 00 00 00 00 00"],
  [asm.mov32sx16(r2, r4), "mov32sx16", "w2 = (s16)w4", "bc 42 10 00 00 00 00 00"],
  [asm.sdiv(r1, r3), "sdiv", "r1 s/= r3", "3f 31 01 00 00 00 00 00"],
  [asm.smod(r2, r4), "smod", "r2 s%= r4", "9f 42 01 00 00 00 00 00"],
  [asm.sdiv32(r1, r3), "sdiv32", "w1 s/= w3", "3c 31 01 00 00 00 00 00"],
  [asm.smod32(r2, r4), "smod32", "w2 s%= w4", "9c 42 01 00 00 00 00 00"],
].map(documented);

// The same file; the kernel's commit 880442305a39 ("bpf: Introduce load-acquire and store-release
// instructions") has the 64-bit load and the 16-bit store.
const ordered: DocumentedRow[] = [
  [
    asm.loadAcquireB(r0, r1, 0),
    "loadAcquireB",
    "r0 = load_acquire((u8 *)(r1 +0))",
    "d3 10 00 00 00 01 00 00",
  ],
  [
    asm.loadAcquireH(r0, r1, 0),
    "loadAcquireH",
    "r0 = load_acquire((u16 *)(r1 +0))",
    "cb 10 00 00 00 01 00 00",
  ],
  [
    asm.loadAcquireW(r0, r1, 0),
    "loadAcquireW",
    "r0 = load_acquire((u32 *)(r1 +0))",
    "c3 10 00 00 00 01 00 00",
  ],
  [
    asm.loadAcquireDW(r0, r1, 0),
    "loadAcquireDW",
    "r0 = load_acquire((u64 *)(r1 +0))",
    "db 10 00 00 00 01 00 00",
  ],
  [
    asm.storeReleaseB(r1, 0, r2),
    "storeReleaseB",
    "store_release((u8 *)(r1 +0), r2)",
    "d3 21 00 00 10 01 00 00",
  ],
  [
    asm.storeReleaseH(r1, 0, r2),
    "storeReleaseH",
    "store_release((u16 *)(r1 +0), r2)",
    "cb 21 00 00 10 01 00 00",
  ],
  [
    asm.storeReleaseW(r1, 0, r2),
    "storeReleaseW",
    "store_release((u32 *)(r1 +0), r2)",
    "c3 21 00 00 10 01 00 00",
  ],
  [
    asm.storeReleaseDW(r1, 0, r2),
    "storeReleaseDW",
    "store_release((u64 *)(r1 +0), r2)",
    "db 21 00 00 10 01 00 00",
  ],
].map(documented);

// GNU binutils, gas/testsuite/gas/bpf/mem.d. Its stb and sth have immediates that the kernel would
// truncate, so the rows here have smaller ones.
const stores: DocumentedRow[] = [
  [asm.stb(r1, 0x7eef, 0x44), "stb", "*(u8 *)(r1 +32495) = 68", "72 01 ef 7e 44 00 00 00"],
  [asm.sth(r1, 0x7eef, 0x3344), "sth", "*(u16 *)(r1 +32495) = 13124", "6a 01 ef 7e 44 33 00 00"],
  [
    asm.stw(r1, 0x7eef, 0x11223344),
    "stw",
    "*(u32 *)(r1 +32495) = 287454020",
    "62 01 ef 7e 44 33 22 11",
  ],
  [asm.stdw(r1, -2, 0x11223344), "stdw", "*(u64 *)(r1 -2) = 287454020", "7a 01 fe ff 44 33 22 11"],
].map(documented);

// GNU binutils, gas/testsuite/gas/bpf/alu.d and alu32.d.
const remainders: DocumentedRow[] = [
  [asm.mod(r2, 0x29a), "mod", "r2 %= 666", "97 02 00 00 9a 02 00 00"],
  [asm.mod(r3, -666), "mod", "r3 %= -666", "97 03 00 00 66 fd ff ff"],
  [asm.mod(r5, r6), "mod", "r5 %= r6", "9f 65 00 00 00 00 00 00"],
  [asm.mod32(r2, 0x29a), "mod32", "w2 %= 666", "94 02 00 00 9a 02 00 00"],
  [asm.mod32(r3, 0xfffffd66), "mod32", "w3 %= -666", "94 03 00 00 66 fd ff ff"],
  [asm.mod32(r5, r6), "mod32", "w5 %= w6", "9c 65 00 00 00 00 00 00"],
].map(documented);

// GNU binutils, gas/testsuite/gas/bpf/jump.d and jump32.d.
const tests: DocumentedRow[] = [
  [asm.jset(r3, 3, "+1"), "jset", "if r3 & 0x3 goto pc+1", "45 03 01 00 03 00 00 00"],
  [asm.jset(r3, r4, "+0"), "jset", "if r3 & r4 goto pc+0", "4d 43 00 00 00 00 00 00"],
  [asm.jset32(r3, 3, "+1"), "jset32", "if w3 & 0x3 goto pc+1", "46 03 01 00 03 00 00 00"],
  [asm.jset32(r3, r4, "+0"), "jset32", "if w3 & w4 goto pc+0", "4e 43 00 00 00 00 00 00"],
].map(documented);

// gotol: the kernel's instruction-set.rst, "Jump instructions": {JA, K, JMP32}, the distance in imm.
// may_goto: the kernel's selftest progs/compute_live_registers.c has "(e5) may_goto pc+1", and its
// verifier rejects a source register other than 0 and an immediate.
// gotox: the kernel's commit "bpf, x86: add support for indirect jumps" (6.19), opcode 0d.
// addr_space_cast: the kernel's selftest progs/verifier_arena_large.c logs "(bf) r9 =
// addr_space_cast(r8, 0, 1)". print_bpf_insn() reads the address spaces from the halves of imm; the offset is 1.
const control: DocumentedRow[] = [
  [asm.gotol("+70000"), "gotol", "gotol pc+70000", "06 00 00 00 70 11 01 00"],
  [asm.gotol("-3"), "gotol", "gotol pc-3", "06 00 00 00 fd ff ff ff"],
  [asm.mayGoto("+1"), "mayGoto", "may_goto pc+1", "e5 00 01 00 00 00 00 00"],
  [asm.gotox(r3), "gotox", "gotox r3", "0d 03 00 00 00 00 00 00"],
  [
    asm.addrSpaceCast(r2, r1, 0, 1),
    "addrSpaceCast",
    "r2 = addr_space_cast(r1, 0, 1)",
    "bf 12 01 00 01 00 00 00",
  ],
  [
    asm.addrSpaceCast(r2, r1, 1, 0),
    "addrSpaceCast",
    "r2 = addr_space_cast(r1, 1, 0)",
    "bf 12 01 00 00 00 01 00",
  ],
].map(documented);

function documented(row: (Row["instruction"] | string)[]): DocumentedRow {
  const [instruction, name, text, bytes] = row as [Row["instruction"], Row["name"], string, string];
  return { text, name, instruction, bytes };
}

/** All rows. Their texts are in the notation of the disassembler. */
export const documentedRows: readonly DocumentedRow[] = [
  ...version4,
  ...ordered,
  ...stores,
  ...remainders,
  ...tests,
  ...control,
];
