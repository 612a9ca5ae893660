/**
 * @module The instruction set as functions: each makes one instruction, as plain data.
 *
 * Names and the order of operands are those of the established assemblers: the destination first, a
 * memory operand as base register and offset, and a suffix `32` for what works on the low halves of
 * registers. Operands are checked when the instruction is made, so an error points at the line that
 * wrote it.
 *
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, ldxw, jeq, mov, label, exit } = asm;
 *
 * const code = [ldxw(r0, r1, 0), jeq(r0, 0, "out"), mov(r0, 1), label("out"), exit()];
 * ```
 */

export * from "./alu.ts";
export * from "./call.ts";
export * from "./immediate.ts";
export { fp, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10 } from "./instruction.ts";
export * from "./jump.ts";
export * from "./memory.ts";
export * from "./ring.ts";
