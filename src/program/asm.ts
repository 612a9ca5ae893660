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

export * from "./asm_alu.ts";
export * from "./asm_atomic.ts";
export * from "./asm_call.ts";
export * from "./asm_extend.ts";
export * from "./asm_immediate.ts";
export * from "./asm_jump.ts";
export * from "./asm_mark.ts";
export * from "./asm_memory.ts";
export * from "./asm_ring.ts";
export * from "./register.ts";
