/** @module One instruction as text, in the notation of the verifier's log and of bpftool. */

import {
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_ATOMIC,
  BPF_B,
  BPF_CMPXCHG,
  BPF_DIV,
  BPF_DW,
  BPF_END,
  BPF_FETCH,
  BPF_H,
  BPF_IND,
  BPF_LD,
  BPF_LDX,
  BPF_LOAD_ACQ,
  BPF_LSH,
  BPF_MEM,
  BPF_MEMSX,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RSH,
  BPF_ST,
  BPF_STORE_REL,
  BPF_STX,
  BPF_SUB,
  BPF_TO_BE,
  BPF_W,
  BPF_X,
  BPF_XCHG,
  BPF_XOR,
} from "../uapi/instruction.ts";
import type { Instruction } from "./instruction.ts";
import { classOf, LDDW, modeOf, operationOf, sizeOf, sourceOf } from "./opcode.ts";
import { jumpText } from "./text_jump.ts";
import { wideText } from "./text_wide.ts";

const LAST_REGISTER = 10;

const aluSymbols: Readonly<Record<number, string>> = {
  [BPF_ADD]: "+=",
  [BPF_SUB]: "-=",
  [BPF_MUL]: "*=",
  [BPF_DIV]: "/=",
  [BPF_OR]: "|=",
  [BPF_AND]: "&=",
  [BPF_LSH]: "<<=",
  [BPF_RSH]: ">>=",
  [BPF_MOD]: "%=",
  [BPF_XOR]: "^=",
  [BPF_MOV]: "=",
  [BPF_ARSH]: "s>>=",
};

const atomicNames: Readonly<Record<number, string>> = {
  [BPF_ADD]: "add",
  [BPF_OR]: "or",
  [BPF_AND]: "and",
  [BPF_XOR]: "xor",
};

const bits: Readonly<Record<number, number>> = {
  [BPF_B]: 8,
  [BPF_H]: 16,
  [BPF_W]: 32,
  [BPF_DW]: 64,
};

/** What the kernel's own rewriting puts into programs that it lends out. */
const ADDRESS_SPACE_CAST = 1;
const PER_CPU_ADDRESS = -1;

/** The text of an instruction, or `undefined` when no instruction has such an opcode or operation. */
export function textOf(instruction: Instruction): string | undefined {
  const { opcode, dst, src, imm } = instruction;
  if (dst > LAST_REGISTER || src > LAST_REGISTER) return undefined;
  if (typeof imm === "bigint") return opcode === LDDW ? wideText(instruction, imm) : undefined;
  switch (classOf(opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
      return aluText(instruction);
    case BPF_LD:
      return packetText(instruction);
    case BPF_LDX:
      return loadText(instruction);
    case BPF_ST:
      return storeText(instruction);
    case BPF_STX:
      return modeOf(opcode) === BPF_ATOMIC ? atomicText(instruction, imm) : storeText(instruction);
    default:
      return jumpText(instruction);
  }
}

function aluText(instruction: Instruction): string | undefined {
  const { opcode, dst, src, offset, imm } = instruction;
  const is64 = classOf(opcode) === BPF_ALU64;
  const prefix = is64 ? "r" : "w";
  const operation = operationOf(opcode);
  if (operation === BPF_END) return byteOrderText(instruction, is64);
  if (operation === BPF_NEG) {
    return sourceOf(opcode) === BPF_X ? undefined : `${prefix}${dst} = -${prefix}${dst}`;
  }
  const symbol = aluSymbols[operation];
  if (symbol === undefined) return undefined;
  if (operation === BPF_MOV && sourceOf(opcode) === BPF_X)
    return moveText(instruction, is64, prefix);
  // Elsewhere the offset is reserved, but for a division that it makes a signed one.
  const signed = offset === 1 && (operation === BPF_DIV || operation === BPF_MOD);
  if (offset !== 0 && !signed) return undefined;
  const operand = sourceOf(opcode) === BPF_X ? `${prefix}${src}` : imm;
  return `${prefix}${dst} ${signed ? "s" : ""}${symbol} ${operand}`;
}

function moveText(
  { dst, src, offset, imm }: Instruction,
  is64: boolean,
  prefix: string,
): string | undefined {
  switch (offset) {
    case 0:
      return `${prefix}${dst} = ${prefix}${src}`;
    case 8:
    case 16:
      return `${prefix}${dst} = (s${offset})${prefix}${src}`;
    case 32:
      return is64 ? `r${dst} = (s32)r${src}` : undefined;
    case ADDRESS_SPACE_CAST: {
      const spaces = Number(imm);
      return is64
        ? `r${dst} = addr_space_cast(r${src}, ${spaces >>> 16}, ${spaces & 0xffff})`
        : undefined;
    }
    case PER_CPU_ADDRESS:
      return is64 ? `r${dst} = &(void __percpu *)(r${src})` : undefined;
    default:
      return undefined;
  }
}

function byteOrderText({ opcode, dst, imm }: Instruction, is64: boolean): string | undefined {
  if (imm !== 16 && imm !== 32 && imm !== 64) return undefined;
  const toBigEndian = sourceOf(opcode) === BPF_TO_BE;
  if (is64) return toBigEndian ? undefined : `r${dst} = bswap${imm} r${dst}`;
  return `r${dst} = ${toBigEndian ? "be" : "le"}${imm} r${dst}`;
}

/** `(u32 *)(r1 +4)`: what is behind an address. */
function memory(sign: "u" | "s", opcode: number, register: number, offset: number): string {
  const at = offset < 0 ? offset : `+${offset}`;
  return `(${sign}${bits[sizeOf(opcode)]} *)(r${register} ${at})`;
}

function loadText({ opcode, dst, src, offset }: Instruction): string | undefined {
  const mode = modeOf(opcode);
  if (mode === BPF_MEM) return `r${dst} = *${memory("u", opcode, src, offset)}`;
  // A sign cannot extend what fills the register already.
  if (mode !== BPF_MEMSX || sizeOf(opcode) === BPF_DW) return undefined;
  return `r${dst} = *${memory("s", opcode, src, offset)}`;
}

function storeText({ opcode, dst, src, offset, imm }: Instruction): string | undefined {
  if (modeOf(opcode) === BPF_MEM) {
    const value = classOf(opcode) === BPF_STX ? `r${src}` : imm;
    return `*${memory("u", opcode, dst, offset)} = ${value}`;
  }
  // BPF_NOSPEC: the verifier's barrier against speculation, in programs that the kernel lends out.
  return opcode === (BPF_ST | BPF_ATOMIC) ? "nospec" : undefined;
}

function packetText({ opcode, src, imm }: Instruction): string | undefined {
  if (sizeOf(opcode) === BPF_DW) return undefined;
  const start = `r0 = *(u${bits[sizeOf(opcode)]} *)skb`;
  if (modeOf(opcode) === BPF_ABS) return `${start}[${imm}]`;
  if (modeOf(opcode) === BPF_IND) return `${start}[r${src} + ${imm}]`;
  return undefined;
}

function atomicText({ opcode, dst, src, offset }: Instruction, imm: number): string | undefined {
  const place = memory("u", opcode, dst, offset);
  if (imm === BPF_LOAD_ACQ) return `r${dst} = load_acquire(${memory("u", opcode, src, offset)})`;
  if (imm === BPF_STORE_REL) return `store_release(${place}, r${src})`;
  // The others read, change and write back: 32 or 64 bits.
  if (sizeOf(opcode) !== BPF_W && sizeOf(opcode) !== BPF_DW) return undefined;
  const prefix = sizeOf(opcode) === BPF_DW ? "atomic64" : "atomic";
  if (imm === BPF_CMPXCHG) return `r0 = ${prefix}_cmpxchg(${place}, r0, r${src})`;
  if (imm === BPF_XCHG) return `r${src} = ${prefix}_xchg(${place}, r${src})`;
  const name = atomicNames[imm & ~BPF_FETCH];
  if (name === undefined) return undefined;
  if ((imm & BPF_FETCH) === 0) return `lock *${place} ${aluSymbols[imm]} r${src}`;
  return `r${src} = ${prefix}_fetch_${name}(${place}, r${src})`;
}
