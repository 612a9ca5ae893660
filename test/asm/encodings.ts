/**
 * @module Instructions in LLVM's notation, with the calls of `asm` that make the same ones. LLVM's bytes are
 * in vectors.json, which generate_vectors.ts generates. Instructions that LLVM 14 does not have are in
 * documented.ts.
 */

import type { AluOperation, AluUnary } from "../../src/asm/alu.ts";
import * as asm from "../../src/asm/asm.ts";
import type { Instruction } from "../../src/asm/instruction.ts";
import type { ConditionalJump } from "../../src/asm/jump.ts";

/** An instruction as text in LLVM's notation, and as made by `asm`. */
export interface Row {
  readonly text: string;
  readonly name: keyof typeof asm;
  readonly instruction: Instruction;
}

const { r0, r1, r2, r3, r6, r7, r9, r10 } = asm;
const rows: Row[] = [];

function row(text: string, name: keyof typeof asm, instruction: Instruction): void {
  rows.push({ text, name, instruction });
}

const arithmetic = {
  add: "+=",
  sub: "-=",
  mul: "*=",
  div: "/=",
  or: "|=",
  and: "&=",
  xor: "^=",
  lsh: "<<=",
  rsh: ">>=",
  arsh: "s>>=",
  mov: "=",
} as const;
for (const [name, symbol] of Object.entries(arithmetic)) {
  const wide = name as keyof typeof arithmetic;
  const narrow: `${typeof wide}32` = `${wide}32`;
  const make: Record<typeof wide | typeof narrow, AluOperation> = asm;
  row(`r3 ${symbol} r10`, wide, make[wide](r3, r10));
  row(`r9 ${symbol} 17`, wide, make[wide](r9, 17));
  row(`w3 ${symbol} w7`, narrow, make[narrow](r3, r7));
  row(`w9 ${symbol} 17`, narrow, make[narrow](r9, 17));
}
row("r3 += -5", "add", asm.add(r3, -5));
row("r3 = -2147483648", "mov", asm.mov(r3, -0x8000_0000));
row("r3 = 2147483647", "mov", asm.mov(r3, 0x7fff_ffff));
row("w3 = -1", "mov32", asm.mov32(r3, 0xffff_ffff));
row("r3 = -r3", "neg", asm.neg(r3));
row("w3 = -w3", "neg32", asm.neg32(r3));
for (const bits of [16, 32, 64] as const) {
  for (const order of ["be", "le"] as const) {
    const name: `${typeof order}${typeof bits}` = `${order}${bits}`;
    const make: Record<typeof name, AluUnary> = asm;
    row(`r3 = ${name} r3`, name, make[name](r3));
  }
}

row("r1 = *(u8 *)(r2 + 4)", "ldxb", asm.ldxb(r1, r2, 4));
row("r1 = *(u16 *)(r2 - 4)", "ldxh", asm.ldxh(r1, r2, -4));
row("r1 = *(u32 *)(r2 + 32767)", "ldxw", asm.ldxw(r1, r2, 0x7fff));
row("r1 = *(u64 *)(r10 - 32768)", "ldxdw", asm.ldxdw(r1, r10, -0x8000));
row("*(u8 *)(r2 + 4) = r1", "stxb", asm.stxb(r2, 4, r1));
row("*(u16 *)(r2 - 4) = r1", "stxh", asm.stxh(r2, -4, r1));
row("*(u32 *)(r2 + 32767) = r1", "stxw", asm.stxw(r2, 0x7fff, r1));
row("*(u64 *)(r10 - 32768) = r10", "stxdw", asm.stxdw(r10, -0x8000, r10));
row("r0 = *(u8 *)skb[23]", "ldAbsB", asm.ldAbsB(23));
row("r0 = *(u16 *)skb[12]", "ldAbsH", asm.ldAbsH(12));
row("r0 = *(u32 *)skb[26]", "ldAbsW", asm.ldAbsW(26));
row("r0 = *(u8 *)skb[r7]", "ldIndB", asm.ldIndB(r7, 0));
row("r0 = *(u16 *)skb[r7]", "ldIndH", asm.ldIndH(r7, 0));
row("r0 = *(u32 *)skb[r7]", "ldIndW", asm.ldIndW(r7, 0));
row("r6 = 0 ll", "lddw", asm.lddw(r6, 0));
row("r6 = 1234605616436508552 ll", "lddw", asm.lddw(r6, 0x1122334455667788n));
row("r6 = 4294967295 ll", "lddw", asm.lddw(r6, 0xffff_ffff));
row("r6 = -2 ll", "lddw", asm.lddw(r6, -2n));

const comparisons = {
  jeq: "==",
  jne: "!=",
  jgt: ">",
  jge: ">=",
  jlt: "<",
  jle: "<=",
  jsgt: "s>",
  jsge: "s>=",
  jslt: "s<",
  jsle: "s<=",
} as const;
for (const [name, symbol] of Object.entries(comparisons)) {
  const wide = name as keyof typeof comparisons;
  const narrow: `${typeof wide}32` = `${wide}32`;
  const make: Record<typeof wide | typeof narrow, ConditionalJump> = asm;
  row(`if r1 ${symbol} r10 goto +3`, wide, make[wide](r1, r10, "+3"));
  row(`if r1 ${symbol} -4 goto -3`, wide, make[wide](r1, -4, "-3"));
  row(`if w1 ${symbol} w2 goto +3`, narrow, make[narrow](r1, r2, "+3"));
  row(`if w1 ${symbol} 4 goto -3`, narrow, make[narrow](r1, 4, "-3"));
}
row("goto +3", "ja", asm.ja("+3"));
row("goto -3", "ja", asm.ja("-3"));
row("call 1", "call", asm.call("map_lookup_elem"));
row("call 131", "call", asm.call(131));
row("exit", "exit", asm.exit());

row("lock *(u64 *)(r1 + 8) += r2", "atomicAdd", asm.atomicAdd(r1, 8, r2));
row("lock *(u32 *)(r1 + 8) += w2", "atomicAdd32", asm.atomicAdd32(r1, 8, r2));
row("lock *(u64 *)(r1 + 8) |= r2", "atomicOr", asm.atomicOr(r1, 8, r2));
row("lock *(u32 *)(r1 + 8) |= w2", "atomicOr32", asm.atomicOr32(r1, 8, r2));
row("lock *(u64 *)(r1 + 8) &= r2", "atomicAnd", asm.atomicAnd(r1, 8, r2));
row("lock *(u32 *)(r1 + 8) &= w2", "atomicAnd32", asm.atomicAnd32(r1, 8, r2));
row("lock *(u64 *)(r1 - 8) ^= r2", "atomicXor", asm.atomicXor(r1, -8, r2));
row("lock *(u32 *)(r1 - 8) ^= w2", "atomicXor32", asm.atomicXor32(r1, -8, r2));

/** Rows whose bytes LLVM's assembler makes from the text. */
export const assembled: readonly Row[] = rows;

/**
 * Rows whose bytes LLVM 14 compiles from a C function in generate_vectors.ts, because its assembler does
 * not parse the text that its disassembler prints.
 */
export const compiled: readonly Row[] = [
  {
    text: "r0 = atomic_fetch_add((u64 *)(r1 + 0), r0)",
    name: "atomicFetchAdd",
    instruction: asm.atomicFetchAdd(r1, 0, r0),
  },
  {
    text: "r0 = atomic_fetch_or((u64 *)(r1 + 0), r0)",
    name: "atomicFetchOr",
    instruction: asm.atomicFetchOr(r1, 0, r0),
  },
  {
    text: "r0 = atomic_fetch_and((u64 *)(r1 + 0), r0)",
    name: "atomicFetchAnd",
    instruction: asm.atomicFetchAnd(r1, 0, r0),
  },
  {
    text: "r0 = atomic_fetch_xor((u64 *)(r1 + 0), r0)",
    name: "atomicFetchXor",
    instruction: asm.atomicFetchXor(r1, 0, r0),
  },
  { text: "r0 = xchg_64(r1 + 0, r0)", name: "xchg", instruction: asm.xchg(r1, 0, r0) },
  { text: "r0 = cmpxchg_64(r1 + 0, r0, r3)", name: "cmpxchg", instruction: asm.cmpxchg(r1, 0, r3) },
  {
    text: "w0 = atomic_fetch_add((u32 *)(r1 + 0), w0)",
    name: "atomicFetchAdd32",
    instruction: asm.atomicFetchAdd32(r1, 0, r0),
  },
  {
    text: "w0 = atomic_fetch_or((u32 *)(r1 + 0), w0)",
    name: "atomicFetchOr32",
    instruction: asm.atomicFetchOr32(r1, 0, r0),
  },
  {
    text: "w0 = atomic_fetch_and((u32 *)(r1 + 0), w0)",
    name: "atomicFetchAnd32",
    instruction: asm.atomicFetchAnd32(r1, 0, r0),
  },
  {
    text: "w0 = atomic_fetch_xor((u32 *)(r1 + 0), w0)",
    name: "atomicFetchXor32",
    instruction: asm.atomicFetchXor32(r1, 0, r0),
  },
  { text: "w0 = xchg32_32(r1 + 0, w0)", name: "xchg32", instruction: asm.xchg32(r1, 0, r0) },
  {
    text: "w0 = cmpxchg32_32(r1 + 0, w0, w3)",
    name: "cmpxchg32",
    instruction: asm.cmpxchg32(r1, 0, r3),
  },
];
