/**
 * @module Functions that make BPF instructions as plain data, and the registers.
 *
 * The destination operand comes first. A memory operand is a base register and an offset. A suffix `32`
 * means the 32-bit form, which works on the low halves of registers. Each function checks its operands, so
 * that the stack of an error has the line with the wrong operand.
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
