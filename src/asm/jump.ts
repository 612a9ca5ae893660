/** @module Jumps, labels, function starts and source positions. */

import {
  type Code,
  type CodeItem,
  type FunctionStart,
  type Instruction,
  isInstruction,
  type Label,
  type Reference,
  type Register,
  type SourcePosition,
} from "./instruction.ts";
import {
  makeInstruction,
  either32,
  checkImmediate,
  type ImmediateRange,
  isRegister,
  checkName,
  checkReadable,
  signed32,
  signExtended,
} from "./operand.ts";
import { describe } from "../check/describe.ts";
import {
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
  BPF_K,
  BPF_MAY_GOTO,
  BPF_X,
} from "../uapi/instruction.ts";

/**
 * Function that makes a conditional jump: `if (dst op src) goto target`. `src` is a register or an immediate,
 * and `target` is a label of the same function, at most 32,767 slots away.
 *
 * The 64-bit forms take an immediate from -2^31 to 2^31-1, which is sign-extended. The 32-bit forms compare
 * the low halves of the registers and take an immediate from -2^31 to 2^32-1 (2^31-1 in signed comparisons).
 *
 * @throws {TypeError} if `dst` is not a register, `src` is neither a register nor a number, or `target` is
 *   not a string or is empty.
 * @throws {RangeError} if the immediate is out of range.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, mov, ldxw, jne, label, exit } = asm;
 *
 * const code = [mov(r0, 0), ldxw(r1, r1, 0), jne(r1, 80, "out"), mov(r0, 1), label("out"), exit()];
 * ```
 */
export type ConditionalJump = (
  dst: Register,
  src: Register | number,
  target: string,
) => Instruction;

/**
 * Function that makes a jump without operands to compare. `target` is a label of the same function.
 *
 * @throws {TypeError} if `target` is not a string, or is empty.
 */
export type Jump = (target: string) => Instruction;

function labelReference(mnemonic: string, target: unknown): Reference {
  return { kind: "label", name: checkName(mnemonic, "target", target) };
}

function defineConditional(
  mnemonic: string,
  opcode: number,
  range: ImmediateRange,
): ConditionalJump {
  return (dst, src, target) => {
    const left = checkReadable(mnemonic, "dst", dst);
    const reference = labelReference(mnemonic, target);
    if (isRegister(src))
      return makeInstruction(opcode | BPF_X, { dst: left, src: src.register, reference });
    const imm = checkImmediate(mnemonic, "src", src, range, "a register or a number");
    return makeInstruction(opcode | BPF_K, { dst: left, imm, reference });
  };
}

function define64(mnemonic: string, code: number): ConditionalJump {
  return defineConditional(mnemonic, BPF_JMP | code, signExtended);
}

function define32(
  mnemonic: string,
  code: number,
  range: ImmediateRange = either32,
): ConditionalJump {
  return defineConditional(mnemonic, BPF_JMP32 | code, range);
}

/** Jumps if the operands are equal: `if (dst == src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jeq: ConditionalJump = define64("jeq", BPF_JEQ);
/**
 * Jumps if the operands are equal: `if (dst == src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jeq32: ConditionalJump = define32("jeq32", BPF_JEQ);
/** Jumps if the operands differ: `if (dst != src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jne: ConditionalJump = define64("jne", BPF_JNE);
/**
 * Jumps if the operands differ: `if (dst != src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jne32: ConditionalJump = define32("jne32", BPF_JNE);
/** Jumps if `dst` is greater, unsigned: `if (dst > src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jgt: ConditionalJump = define64("jgt", BPF_JGT);
/**
 * Jumps if `dst` is greater, unsigned: `if (dst > src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jgt32: ConditionalJump = define32("jgt32", BPF_JGT);
/** Jumps if `dst` is greater or equal, unsigned: `if (dst >= src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jge: ConditionalJump = define64("jge", BPF_JGE);
/**
 * Jumps if `dst` is greater or equal, unsigned: `if (dst >= src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jge32: ConditionalJump = define32("jge32", BPF_JGE);
/**
 * Jumps if `dst` is less, unsigned: `if (dst < src) goto target`, 64 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 4.14.
 */
export const jlt: ConditionalJump = define64("jlt", BPF_JLT);
/**
 * Jumps if `dst` is less, unsigned: `if (dst < src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jlt32: ConditionalJump = define32("jlt32", BPF_JLT);
/**
 * Jumps if `dst` is less or equal, unsigned: `if (dst <= src) goto target`, 64 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 4.14.
 */
export const jle: ConditionalJump = define64("jle", BPF_JLE);
/**
 * Jumps if `dst` is less or equal, unsigned: `if (dst <= src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jle32: ConditionalJump = define32("jle32", BPF_JLE);
/** Jumps if `dst` is greater, signed: `if (dst > src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jsgt: ConditionalJump = define64("jsgt", BPF_JSGT);
/**
 * Jumps if `dst` is greater, signed: `if (dst > src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jsgt32: ConditionalJump = define32("jsgt32", BPF_JSGT, signed32);
/** Jumps if `dst` is greater or equal, signed: `if (dst >= src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jsge: ConditionalJump = define64("jsge", BPF_JSGE);
/**
 * Jumps if `dst` is greater or equal, signed: `if (dst >= src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jsge32: ConditionalJump = define32("jsge32", BPF_JSGE, signed32);
/**
 * Jumps if `dst` is less, signed: `if (dst < src) goto target`, 64 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 4.14.
 */
export const jslt: ConditionalJump = define64("jslt", BPF_JSLT);
/**
 * Jumps if `dst` is less, signed: `if (dst < src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jslt32: ConditionalJump = define32("jslt32", BPF_JSLT, signed32);
/**
 * Jumps if `dst` is less or equal, signed: `if (dst <= src) goto target`, 64 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 4.14.
 */
export const jsle: ConditionalJump = define64("jsle", BPF_JSLE);
/**
 * Jumps if `dst` is less or equal, signed: `if (dst <= src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jsle32: ConditionalJump = define32("jsle32", BPF_JSLE, signed32);
/** Jumps if the operands have a common bit: `if (dst & src) goto target`, 64 bits. See {@link ConditionalJump}. */
export const jset: ConditionalJump = define64("jset", BPF_JSET);
/**
 * Jumps if the operands have a common bit: `if (dst & src) goto target`, 32 bits. See {@link ConditionalJump}.
 *
 * Requires Linux 5.1.
 */
export const jset32: ConditionalJump = define32("jset32", BPF_JSET);

/**
 * Jumps unconditionally: `goto target`, a label of the same function at most 32,767 slots away.
 *
 * @throws {TypeError} if `target` is not a string, or is empty.
 */
export const ja: Jump = (target) =>
  makeInstruction(BPF_JMP | BPF_JA | BPF_K, { reference: labelReference("ja", target) });

/**
 * Jumps unconditionally with a 32-bit distance: `gotol target`, a label of the same function at any distance.
 *
 * @throws {TypeError} if `target` is not a string, or is empty.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, gotol, label, exit } = asm;
 *
 * const code = [mov(r0, 0), gotol("out"), label("out"), exit()];
 * ```
 *
 * Requires Linux 6.6.
 */
export const gotol: Jump = (target) =>
  makeInstruction(BPF_JMP32 | BPF_JA | BPF_K, { reference: labelReference("gotol", target) });

/**
 * Bounds a loop: `may_goto target`. Execution continues with the next instruction until the program reaches
 * the kernel's limit of iterations or time; then it jumps to `target`, a label of the same function. The
 * verifier accepts a loop without a known bound if it contains this instruction.
 *
 * @throws {TypeError} if `target` is not a string, or is empty.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, add, mayGoto, ja, label, exit } = asm;
 *
 * const code = [
 *   mov(r0, 0),
 *   label("again"),
 *   mayGoto("out"),
 *   add(r0, 1),
 *   ja("again"),
 *   label("out"),
 *   exit(),
 * ];
 * ```
 *
 * Requires Linux 6.9.
 */
export const mayGoto: Jump = (target) =>
  makeInstruction(BPF_JMP | BPF_JCOND, {
    src: BPF_MAY_GOTO,
    reference: labelReference("mayGoto", target),
  });

/**
 * Jumps to an address in a register: `gotox dst`. The program loads the address from a jump table, a map of
 * type `BPF_MAP_TYPE_INSN_ARRAY`.
 *
 * @throws {TypeError} if `dst` is not a register.
 *
 * Requires Linux 6.19.
 */
export function gotox(dst: Register): Instruction {
  return makeInstruction(BPF_JMP | BPF_JA | BPF_X, { dst: checkReadable("gotox", "dst", dst) });
}

/**
 * Makes a label for the next instruction, the target of jumps in the same function. An instruction may have
 * several labels.
 *
 * @throws {TypeError} if `name` is not a string, or is empty.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, sub, jne, label, exit } = asm;
 *
 * const code = [mov(r0, 10), label("again"), sub(r0, 1), jne(r0, 0, "again"), exit()];
 * ```
 */
export function label(name: string): Label {
  return { label: checkName("label", "name", name) };
}

/**
 * Starts a function at the next instruction, for {@link callFunction} and {@link ldFunc}. The first function
 * is the program itself and needs no `func()`.
 *
 * @throws {TypeError} if `name` is not a string, or is empty.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, callFunction, exit, func } = asm;
 *
 * const code = [callFunction("zero"), exit(), func("zero"), mov(r0, 0), exit()];
 * ```
 */
export function func(name: string): FunctionStart {
  return { function: checkName("func", "name", name) };
}

/**
 * Returns copies of instructions with a source position, which errors and verifier logs show. Instructions
 * that already have a position keep it.
 *
 * @throws {TypeError} if the position has no file, or its line or column is not an integer from 1.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, exit, withSource } = asm;
 *
 * const code = withSource([mov(r0, 0), exit()], { file: "drop.bpf", line: 3, text: "return 0" });
 * ```
 */
export function withSource(code: Instruction, position: SourcePosition): Instruction;
export function withSource(code: Code, position: SourcePosition): Code;
export function withSource(code: CodeItem | Code, position: SourcePosition): CodeItem | Code {
  checkPosition(position);
  return attach(code, position);
}

function attach(code: CodeItem | Code, position: SourcePosition): CodeItem | Code {
  // Array.isArray does not narrow to a read-only array.
  if (Array.isArray(code)) return (code as Code).map((item) => attach(item, position));
  const item = code as CodeItem;
  return isInstruction(item) ? { source: position, ...item } : item;
}

function checkPosition(position: SourcePosition): void {
  if (typeof position?.file !== "string") {
    throw new TypeError(
      `withSource: position: expected an object with a file and a line, got ${describe(position)}`,
    );
  }
  for (const [name, value] of [
    ["line", position.line],
    ["column", position.column ?? 1],
  ] as const) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new TypeError(
      `withSource: position.${name}: expected an integer from 1, got ${describe(value)}`,
    );
  }
}
