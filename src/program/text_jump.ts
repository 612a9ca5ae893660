/** @module A jump or a call as text. */

import { bpfHelpers } from "../uapi/helpers.ts";
import {
  BPF_EXIT,
  BPF_JA,
  BPF_JCOND,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JLE,
  BPF_JLT,
  BPF_JMP,
  BPF_JMP32,
  BPF_JNE,
  BPF_JSET,
  BPF_JSGE,
  BPF_JSGT,
  BPF_JSLE,
  BPF_JSLT,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_X,
} from "../uapi/instruction.ts";
import type { Instruction } from "./instruction.ts";
import { CALL, classOf, GOTOL, operationOf, sourceOf } from "./opcode.ts";

const symbols: Readonly<Record<number, string>> = {
  [BPF_JEQ]: "==",
  [BPF_JGT]: ">",
  [BPF_JGE]: ">=",
  [BPF_JSET]: "&",
  [BPF_JNE]: "!=",
  [BPF_JSGT]: "s>",
  [BPF_JSGE]: "s>=",
  [BPF_JLT]: "<",
  [BPF_JLE]: "<=",
  [BPF_JSLT]: "s<",
  [BPF_JSLE]: "s<=",
};

const helperNames: ReadonlyMap<number, string> = new Map(
  Object.entries(bpfHelpers).map(([name, id]) => [id, name]),
);

function relative(distance: number): string {
  return `pc${distance < 0 ? "" : "+"}${distance}`;
}

/** The text of a jump or a call, or `undefined` when there is none of such an opcode. */
export function jumpText(instruction: Instruction): string | undefined {
  const { opcode, dst, src, offset } = instruction;
  const imm = Number(instruction.imm);
  const target =
    instruction.reference?.kind === "label"
      ? instruction.reference.name
      : relative(opcode === GOTOL ? imm : offset);
  switch (opcode) {
    case CALL:
      return callText(instruction, imm);
    case BPF_JMP | BPF_EXIT:
      return "exit";
    case BPF_JMP | BPF_JA:
      return `goto ${target}`;
    case BPF_JMP | BPF_JA | BPF_X:
      return `gotox r${dst}`;
    case GOTOL:
      return `gotol ${target}`;
    case BPF_JMP | BPF_JCOND:
      // The source register holds which pseudo condition it is; there is this one so far.
      return src === 0 ? `may_goto ${target}` : undefined;
  }
  const symbol = symbols[operationOf(opcode)];
  if (symbol === undefined) return undefined;
  const prefix = classOf(opcode) === BPF_JMP32 ? "w" : "r";
  const operand = sourceOf(opcode) === BPF_X ? `${prefix}${src}` : `0x${(imm >>> 0).toString(16)}`;
  return `if ${prefix}${dst} ${symbol} ${operand} goto ${target}`;
}

function callText({ src, reference }: Instruction, imm: number): string | undefined {
  switch (src) {
    case 0:
      return `call ${helperNames.has(imm) ? `bpf_${helperNames.get(imm)}` : "unknown"}#${imm}`;
    case BPF_PSEUDO_CALL:
      return `call ${reference?.kind === "function" ? reference.name : relative(imm)}`;
    case BPF_PSEUDO_KFUNC_CALL:
      return reference?.kind === "kernelFunction"
        ? `call ${reference.name}`
        : `call kernel-function#${imm}`;
    default:
      return undefined;
  }
}
