/** @module Makes the code of a program from its functions in the intermediate representation. */

import { mayGoto } from "../../asm/jump.ts";
import type { Code, CodeItem, Instruction, SourcePosition } from "../../asm/instruction.ts";
import { allocate, STACK_LIMIT, StackError } from "./allocate.ts";
import type { CompareOperator, IrFunction, TextPosition } from "../ir/ir.ts";
import { layOut, type PlacedBlock, type PlacedBranch } from "./layout.ts";
import type { Machine, MachineBlock, MachineFunction } from "./machine.ts";
import { cleanSpills } from "./peephole.ts";
import { select } from "./select.ts";
import type { Target } from "./target.ts";
import {
  BPF_EXIT,
  BPF_JA,
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
  BPF_X,
} from "../../uapi/instruction.ts";

/** Options of {@link emit}. */
export interface EmitOptions {
  /** The kernel that the code is for. */
  readonly target: Target;
  /** Returns the place in a source file of a part of a text, if it is known. */
  sourceOf(position: TextPosition): SourcePosition | undefined;
}

const jumpCodes: Readonly<Record<CompareOperator, number>> = {
  eq: BPF_JEQ,
  ne: BPF_JNE,
  lt: BPF_JLT,
  le: BPF_JLE,
  gt: BPF_JGT,
  ge: BPF_JGE,
  slt: BPF_JSLT,
  sle: BPF_JSLE,
  sgt: BPF_JSGT,
  sge: BPF_JSGE,
  set: BPF_JSET,
};

/** Distance in slots from which on jumps are long. Code that long is rare, so the limit is a safe one. */
const LONG_DISTANCE = 16_000;

/**
 * Returns the code of a program.
 *
 * @param functions - the functions, callees first; the last is the program itself, which comes first in the code
 * @throws {StackError} if the functions need more than 512 bytes of stack.
 * @throws {TargetError} if a function needs a feature that the target lacks.
 */
export function emit(functions: readonly IrFunction[], options: EmitOptions): Code {
  const names = nameFunctions(functions);
  const nameOf = (fn: IrFunction) => names.get(fn) ?? fn.name;
  const source = cachedSource(options);
  const stackSizes = new Map<IrFunction, number>();
  const code: CodeItem[] = [];
  for (const fn of functions.toReversed()) {
    const machine = select(fn, options.target, nameOf);
    const slotSize = machine.stackSize;
    if (slotSize > STACK_LIMIT) throw new StackError(fn.name, slotSize);
    allocate(machine);
    if (machine.stackSize > slotSize) cleanSpills(machine, slotSize);
    // The kernel keeps the count and the time of the loop on the stack.
    stackSizes.set(fn, machine.stackSize + (hasMayGoto(fn) ? mayGotoStackBytes : 0));
    code.push({ function: machine.name });
    emitFunction(machine, options.target, source, code);
  }
  checkStack(functions, stackSizes);
  return code;
}

/** Bytes of stack that the kernel uses for `may_goto`: see bpf_do_misc_fixups() in kernel/bpf/verifier.c. */
const mayGotoStackBytes = 16;

function hasMayGoto({ blocks }: IrFunction): boolean {
  return blocks.some(({ end }) => end?.kind === "mayGoto");
}

/** Gives functions different names: those of inner functions can be equal. */
function nameFunctions(functions: readonly IrFunction[]): Map<IrFunction, string> {
  const names = new Map<IrFunction, string>();
  const taken = new Set<string>();
  for (const fn of functions.toReversed()) {
    let name = fn.name;
    for (let number = 2; taken.has(name); number++) name = `${fn.name}_${number}`;
    taken.add(name);
    names.set(fn, name);
  }
  return names;
}

/** Checks the stack that functions need together with those that they call. */
function checkStack(
  functions: readonly IrFunction[],
  stackSizes: ReadonlyMap<IrFunction, number>,
): void {
  const depths = new Map<IrFunction, number>();
  for (const fn of functions) {
    let deepest = 0;
    for (const { nodes } of fn.blocks) {
      for (const { operation } of nodes) {
        if (operation.kind !== "callFunction" && operation.kind !== "functionAddress") continue;
        deepest = Math.max(deepest, depths.get(operation.function) ?? 0);
      }
    }
    // The verifier rounds frames up (check_max_stack_depth in kernel/bpf/verifier.c).
    const size = Math.max(32, Math.ceil((stackSizes.get(fn) ?? 0) / 32) * 32);
    depths.set(fn, size + deepest);
    if (size + deepest > STACK_LIMIT) throw new StackError(fn.name, size + deepest);
  }
}

type SourceOf = (position: TextPosition | undefined) => SourcePosition | undefined;

function cachedSource({ sourceOf }: EmitOptions): SourceOf {
  const known = new Map<TextPosition, SourcePosition | undefined>();
  return (position) => {
    if (position === undefined) return undefined;
    if (!known.has(position)) known.set(position, sourceOf(position));
    return known.get(position);
  };
}

/** Appends the code of a function. */
function emitFunction(
  machine: MachineFunction,
  target: Target,
  sourceOf: SourceOf,
  code: CodeItem[],
): void {
  const placed = layOut(machine);
  const labels = nameBlocks(placed);
  const labelOf = (block: MachineBlock) => labels.get(block) as string;
  const isLong = slotCount(placed) > LONG_DISTANCE && target.longJumps;
  const positions = placed.flatMap((block) => block.code.map(({ position }) => position));
  const first = positions.find((position) => sourceOf(position) !== undefined);
  const firstSource = sourceOf(first);
  let isFirst = true;
  const push = (fields: Omit<Instruction, "source">, position: TextPosition | undefined) => {
    // The kernel requires line information at the start of each function.
    const source = sourceOf(position) ?? (isFirst ? firstSource : undefined);
    isFirst = false;
    code.push(source === undefined ? fields : { ...fields, source });
  };
  const jump = (to: string) => {
    const reference = { kind: "label", name: to } as const;
    const opcode = (isLong ? BPF_JMP32 : BPF_JMP) | BPF_JA;
    push({ opcode, dst: 0, src: 0, offset: 0, imm: 0, reference }, undefined);
  };
  for (const [
    index,
    { block, code: instructions, branch, jump: next, isExit },
  ] of placed.entries()) {
    const label = labels.get(block);
    if (label !== undefined) code.push({ label });
    for (const { opcode, dst, src, offset, imm, reference, position } of instructions) {
      const fields = { opcode, dst, src, offset, imm };
      push(reference === undefined ? fields : { ...fields, reference }, position);
    }
    if (branch !== undefined && isLong) {
      // Only unconditional jumps reach any distance.
      const [near, after] = [`near${index}`, `after${index}`];
      push(conditionalJump(branch, near), branch.position);
      jump(after);
      code.push({ label: near });
      jump(labelOf(branch.target));
      code.push({ label: after });
    } else if (branch !== undefined) {
      push(conditionalJump(branch, labelOf(branch.target)), branch.position);
    }
    if (next !== undefined) jump(labelOf(next));
    if (isExit) {
      const position = block.end.kind === "exit" ? block.end.position : undefined;
      push({ opcode: BPF_JMP | BPF_EXIT, dst: 0, src: 0, offset: 0, imm: 0 }, position);
    }
  }
}

function slotCount(placed: readonly PlacedBlock[]): number {
  const slots = ({ imm }: Machine) => (typeof imm === "bigint" ? 2 : 1);
  return placed.reduce(
    (sum, { code }) => sum + 2 + code.reduce((part, instruction) => part + slots(instruction), 0),
    0,
  );
}

/** Names the blocks that are jumped to, in their order. */
function nameBlocks(placed: readonly PlacedBlock[]): Map<MachineBlock, string> {
  const targets = new Set<MachineBlock>();
  for (const { branch, jump } of placed) {
    if (branch !== undefined) targets.add(branch.target);
    if (jump !== undefined) targets.add(jump);
  }
  const blocks = placed.map(({ block }) => block).filter((block) => targets.has(block));
  return new Map(blocks.map((block, index) => [block, `b${index + 1}`]));
}

function conditionalJump(branch: PlacedBranch, to: string): Omit<Instruction, "source"> {
  const { operator, is32, left, right, imm } = branch;
  if (operator === "mayGoto") return mayGoto(to);
  const reference = { kind: "label", name: to } as const;
  const opcode = (is32 ? BPF_JMP32 : BPF_JMP) | jumpCodes[operator];
  const fields = { dst: left, offset: 0, reference };
  return right < 0
    ? { ...fields, opcode, src: 0, imm }
    : { ...fields, opcode: opcode | BPF_X, src: right, imm: 0 };
}
