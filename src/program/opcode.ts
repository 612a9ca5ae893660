/** @module Taking an opcode apart, as the kernel's macros BPF_CLASS(), BPF_OP() and so on do. */

import {
  BPF_ALU64,
  BPF_CALL,
  BPF_DW,
  BPF_EXIT,
  BPF_IMM,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_LD,
  BPF_PSEUDO_BTF_ID,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_IDX,
  BPF_PSEUDO_MAP_IDX_VALUE,
  BPF_PSEUDO_MAP_VALUE,
  BPF_X,
} from "../uapi/instruction.ts";
import type { Instruction } from "./instruction.ts";

// The classes fill the low three bits, and the largest has them all set.
const CLASS_MASK = BPF_ALU64;
// What is above class and source, or above class and size.
const OPERATION_MASK = 0xf0;
const MODE_MASK = 0xe0;

/** BPF_CLASS(): which of the eight kinds of instruction it is. */
export function classOf(opcode: number): number {
  return opcode & CLASS_MASK;
}

/** BPF_OP(): which arithmetic operation or which jump. */
export function operationOf(opcode: number): number {
  return opcode & OPERATION_MASK;
}

/** BPF_SRC(): BPF_X for a register, BPF_K for an immediate. */
export function sourceOf(opcode: number): number {
  return opcode & BPF_X;
}

/** BPF_MODE(): how a load or a store finds its memory. */
export function modeOf(opcode: number): number {
  return opcode & MODE_MASK;
}

/** BPF_SIZE(): how much a load or a store moves. */
export function sizeOf(opcode: number): number {
  return opcode & BPF_DW;
}

/** The only instruction of two slots: the load of a 64-bit immediate. */
export const LDDW = BPF_LD | BPF_IMM | BPF_DW;

/** The jump with 32 bits of distance, which it keeps in its immediate. */
export const GOTOL = BPF_JMP32 | BPF_JA;

/** The calls: of a helper, of a function of the program, of a function of the kernel. */
export const CALL = BPF_JMP | BPF_CALL;

/** Whether an instruction has a target in the same function. */
export function isJump(opcode: number): boolean {
  if (classOf(opcode) !== BPF_JMP && classOf(opcode) !== BPF_JMP32) return false;
  const operation = operationOf(opcode);
  return operation !== BPF_CALL && operation !== BPF_EXIT;
}

/** What the source register of an `lddw` says that its immediate is. */
export const lddwKind = {
  number: 0,
  mapFd: BPF_PSEUDO_MAP_FD,
  mapValue: BPF_PSEUDO_MAP_VALUE,
  kernelSymbol: BPF_PSEUDO_BTF_ID,
  function: BPF_PSEUDO_FUNC,
  mapIndex: BPF_PSEUDO_MAP_IDX,
  mapIndexValue: BPF_PSEUDO_MAP_IDX_VALUE,
} as const;

/** `bpf_throw()` does not return: the verifier lets a function end with it. */
const THROW = "bpf_throw";

/** Whether a function may end with an instruction: what follows it is never reached from it. */
export function isEnd({ opcode, reference }: Instruction): boolean {
  if (reference?.kind === "kernelFunction") return reference.name === THROW;
  return (
    opcode === (BPF_JMP | BPF_EXIT) ||
    opcode === (BPF_JMP | BPF_JA) ||
    opcode === (BPF_JMP | BPF_JA | BPF_X) ||
    opcode === GOTOL
  );
}
