/**
 * @module Instructions with virtual registers, the form between the intermediate representation and `asm`.
 *
 * Registers 0 to 10 are the machine's; larger numbers are virtual. The fields are those of `struct bpf_insn`, so what an instruction
 * reads and writes follows from its opcode.
 */

import type { Reference } from "../../asm/instruction.ts";
import type { CompareOperator, TextPosition } from "../ir/ir.ts";
import { classOf, LDDW, modeOf, operationOf, sourceOf } from "../../asm/encode.ts";
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_CALL,
  BPF_CMPXCHG,
  BPF_EXIT,
  BPF_FETCH,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_MOV,
  BPF_ST,
  BPF_STX,
  BPF_X,
  BPF_END,
} from "../../uapi/instruction.ts";

/** Number of the frame pointer, which is never allocated. */
export const FRAME = 10;
/** Number of the first virtual register. */
export const FIRST_VIRTUAL = 11;
/** Opcode of a copy of a register. */
export const MOVE = BPF_ALU64 | BPF_MOV | BPF_X;

/** An instruction. `dst` and `src` are numbers of registers, also where the opcode does not use them. */
export interface Machine {
  opcode: number;
  dst: number;
  src: number;
  offset: number;
  imm: number | bigint;
  readonly reference: Reference | undefined;
  readonly position: TextPosition | undefined;
  /** Number of arguments of a call. */
  readonly argumentCount: number;
}

/** A comparison at the end of a block: of a register with another, or with an immediate if `right` is negative. */
export interface MachineBranch {
  readonly kind: "branch";
  /** `mayGoto` is the instruction that ends long loops. It compares nothing. */
  readonly operator: CompareOperator | "mayGoto";
  readonly is32: boolean;
  left: number;
  right: number;
  readonly imm: number;
  then: MachineBlock;
  else: MachineBlock;
  readonly position: TextPosition | undefined;
}

/** The end of a block. */
export type MachineEnd =
  | { readonly kind: "jump"; target: MachineBlock }
  | MachineBranch
  /** Returns the value in register 0. */
  | { readonly kind: "exit"; readonly position: TextPosition | undefined };

/** A sequence of instructions with one entry and one end. */
export interface MachineBlock {
  /** Index in the function's `blocks`. */
  index: number;
  code: Machine[];
  end: MachineEnd;
}

/** A function. Its first block is the entry. */
export interface MachineFunction {
  readonly name: string;
  readonly blocks: MachineBlock[];
  /** One more than the greatest register number. */
  registerCount: number;
  /** Bytes of stack below the frame pointer. */
  stackSize: number;
}

/** Returns the blocks that an end leads to. */
export function successorsOf(end: MachineEnd): MachineBlock[] {
  if (end.kind === "jump") return [end.target];
  return end.kind === "branch" ? [end.then, end.else] : [];
}

/** Kinds of access of an instruction to its registers, as bits. */
export const WRITES_DST = 1;
export const READS_DST = 2;
export const READS_SRC = 4;
export const WRITES_SRC = 8;
/** Reads and writes register 0. */
export const EXCHANGES_R0 = 16;
/** Reads the registers of arguments, and writes registers 0 to 5. */
export const IS_CALL = 32;

/** Returns how an instruction uses its registers, as bits. */
export function accessOf({ opcode, imm }: Machine): number {
  switch (classOf(opcode)) {
    case BPF_ALU:
    case BPF_ALU64: {
      const operation = operationOf(opcode);
      // The bit of the source has another meaning in byte swaps.
      const source = operation !== BPF_END && sourceOf(opcode) === BPF_X ? READS_SRC : 0;
      return source | WRITES_DST | (operation === BPF_MOV ? 0 : READS_DST);
    }
    case BPF_LD:
      return WRITES_DST;
    case BPF_LDX:
      return WRITES_DST | READS_SRC;
    case BPF_ST:
      return READS_DST;
    case BPF_STX: {
      const access = READS_DST | READS_SRC;
      if (modeOf(opcode) !== BPF_ATOMIC) return access;
      if (imm === BPF_CMPXCHG) return access | EXCHANGES_R0;
      return (Number(imm) & BPF_FETCH) === 0 ? access : access | WRITES_SRC;
    }
    case BPF_JMP:
      if (operationOf(opcode) === BPF_CALL) return IS_CALL;
      if (operationOf(opcode) === BPF_EXIT) return 0;
      break;
    default:
  }
  throw new Error(`instruction with opcode ${opcode} inside of a block`);
}

/** Returns true for an instruction that can be repeated instead of keeping its result: a load of a constant or of an address. */
export function isConstantLoad({ opcode }: Machine): boolean {
  if (opcode === LDDW) return true;
  const operands = opcode & ~7;
  const type = classOf(opcode);
  return (type === BPF_ALU64 || type === BPF_ALU) && operands === BPF_MOV;
}
