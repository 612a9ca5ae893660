/** @module The instructions that go elsewhere in the same function. */

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
  build,
  either32,
  immediate,
  type ImmediateRange,
  isRegister,
  nameOf,
  readable,
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
 * `if (dst op src) goto target`, where `src` is a register or an immediate and `target` a label of
 * the same function, at most 32767 slots away.
 *
 * The 64-bit forms sign-extend an immediate from 32 bits. The 32-bit forms (Linux 5.1) compare the
 * low halves, and the unsigned ones take an immediate up to 2^32-1.
 *
 * @throws {TypeError} if an operand has the wrong type
 * @throws {RangeError} if the immediate is out of range
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

/** A jump with no condition of the program's own. */
export type Jump = (target: string) => Instruction;

function labelReference(mnemonic: string, target: unknown): Reference {
  return { kind: "label", name: nameOf(mnemonic, "target", target) };
}

function conditional(mnemonic: string, opcode: number, range: ImmediateRange): ConditionalJump {
  return (dst, src, target) => {
    const left = readable(mnemonic, "dst", dst);
    const reference = labelReference(mnemonic, target);
    if (isRegister(src)) return build(opcode | BPF_X, { dst: left, src: src.register, reference });
    const imm = immediate(mnemonic, "src", src, range, "a register or a number");
    return build(opcode | BPF_K, { dst: left, imm, reference });
  };
}

function jump64(mnemonic: string, code: number): ConditionalJump {
  return conditional(mnemonic, BPF_JMP | code, signExtended);
}

function jump32(mnemonic: string, code: number, range: ImmediateRange = either32): ConditionalJump {
  return conditional(mnemonic, BPF_JMP32 | code, range);
}

/** `if (dst == src) goto target`. See {@link ConditionalJump}. */
export const jeq: ConditionalJump = jump64("jeq", BPF_JEQ);
/** `if (dst == src) goto target`, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jeq32: ConditionalJump = jump32("jeq32", BPF_JEQ);
/** `if (dst != src) goto target`. See {@link ConditionalJump}. */
export const jne: ConditionalJump = jump64("jne", BPF_JNE);
/** `if (dst != src) goto target`, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jne32: ConditionalJump = jump32("jne32", BPF_JNE);
/** `if (dst > src) goto target`, unsigned. See {@link ConditionalJump}. */
export const jgt: ConditionalJump = jump64("jgt", BPF_JGT);
/** `if (dst > src) goto target`, unsigned, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jgt32: ConditionalJump = jump32("jgt32", BPF_JGT);
/** `if (dst >= src) goto target`, unsigned. See {@link ConditionalJump}. */
export const jge: ConditionalJump = jump64("jge", BPF_JGE);
/** `if (dst >= src) goto target`, unsigned, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jge32: ConditionalJump = jump32("jge32", BPF_JGE);
/** `if (dst < src) goto target`, unsigned. Linux 4.14. See {@link ConditionalJump}. */
export const jlt: ConditionalJump = jump64("jlt", BPF_JLT);
/** `if (dst < src) goto target`, unsigned, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jlt32: ConditionalJump = jump32("jlt32", BPF_JLT);
/** `if (dst <= src) goto target`, unsigned. Linux 4.14. See {@link ConditionalJump}. */
export const jle: ConditionalJump = jump64("jle", BPF_JLE);
/** `if (dst <= src) goto target`, unsigned, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jle32: ConditionalJump = jump32("jle32", BPF_JLE);
/** `if (dst > src) goto target`, signed. See {@link ConditionalJump}. */
export const jsgt: ConditionalJump = jump64("jsgt", BPF_JSGT);
/** `if (dst > src) goto target`, signed, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jsgt32: ConditionalJump = jump32("jsgt32", BPF_JSGT, signed32);
/** `if (dst >= src) goto target`, signed. See {@link ConditionalJump}. */
export const jsge: ConditionalJump = jump64("jsge", BPF_JSGE);
/** `if (dst >= src) goto target`, signed, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jsge32: ConditionalJump = jump32("jsge32", BPF_JSGE, signed32);
/** `if (dst < src) goto target`, signed. Linux 4.14. See {@link ConditionalJump}. */
export const jslt: ConditionalJump = jump64("jslt", BPF_JSLT);
/** `if (dst < src) goto target`, signed, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jslt32: ConditionalJump = jump32("jslt32", BPF_JSLT, signed32);
/** `if (dst <= src) goto target`, signed. Linux 4.14. See {@link ConditionalJump}. */
export const jsle: ConditionalJump = jump64("jsle", BPF_JSLE);
/** `if (dst <= src) goto target`, signed, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jsle32: ConditionalJump = jump32("jsle32", BPF_JSLE, signed32);
/** `if (dst & src) goto target`. See {@link ConditionalJump}. */
export const jset: ConditionalJump = jump64("jset", BPF_JSET);
/** `if (dst & src) goto target`, 32 bits. Linux 5.1. See {@link ConditionalJump}. */
export const jset32: ConditionalJump = jump32("jset32", BPF_JSET);

/**
 * `goto target`: a label of the same function, at most 32767 slots away.
 *
 * @throws {TypeError} if `target` is not a name
 */
export const ja: Jump = (target) =>
  build(BPF_JMP | BPF_JA | BPF_K, { reference: labelReference("ja", target) });

/**
 * `gotol target`: a label of the same function, at any distance. Linux 6.6.
 *
 * @throws {TypeError} if `target` is not a name
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, gotol, label, exit } = asm;
 *
 * const code = [mov(r0, 0), gotol("out"), label("out"), exit()];
 * ```
 */
export const gotol: Jump = (target) =>
  build(BPF_JMP32 | BPF_JA | BPF_K, { reference: labelReference("gotol", target) });

/**
 * `may_goto target`: goes on with the next instruction, until the kernel decides that the program
 * has run for long enough: then it jumps. What makes a loop without a bound acceptable to the
 * verifier. Linux 6.9.
 *
 * @throws {TypeError} if `target` is not a name
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
 */
export const mayGoto: Jump = (target) =>
  build(BPF_JMP | BPF_JCOND, { src: BPF_MAY_GOTO, reference: labelReference("mayGoto", target) });

/**
 * `gotox dst`: jumps to the address in a register, which was loaded from a map of instructions
 * (`BPF_MAP_TYPE_INSN_ARRAY`): a jump table. Linux 6.19.
 *
 * @throws {TypeError} if `dst` is not a register
 */
export function gotox(dst: Register): Instruction {
  return build(BPF_JMP | BPF_JA | BPF_X, { dst: readable("gotox", "dst", dst) });
}

/**
 * Names the place of the next instruction, for jumps in the same function. Several labels may share
 * a place.
 *
 * @throws {TypeError} if `name` is not a name
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, sub, jne, label, exit } = asm;
 *
 * const code = [mov(r0, 10), label("again"), sub(r0, 1), jne(r0, 0, "again"), exit()];
 * ```
 */
export function label(name: string): Label {
  return { label: nameOf("label", "name", name) };
}

/**
 * Starts a function at the next instruction: for `callFunction()` and `ldFunc()`. The first function
 * is the program itself and needs no `func()`.
 *
 * @throws {TypeError} if `name` is not a name
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, callFunction, exit, func } = asm;
 *
 * const code = [callFunction("zero"), exit(), func("zero"), mov(r0, 0), exit()];
 * ```
 */
export function func(name: string): FunctionStart {
  return { function: nameOf("func", "name", name) };
}

/**
 * Says where instructions came from: errors and verifier logs show it. A position that an
 * instruction has already stays, since it is the more exact one.
 *
 * @throws {TypeError} if the position has no file or its line is not counted from 1
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
  // The type guard of an array does not know read-only ones.
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
