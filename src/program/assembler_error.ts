/** @module What is wrong with a program as a whole. A wrong operand is a TypeError or a RangeError already. */

import { disassembleInstruction } from "./disassembler.ts";
import type { Instruction } from "./instruction.ts";

/** What an error tells about the instruction that is to blame. */
interface Culprit {
  readonly instruction: Instruction;
  readonly index: number;
  readonly slot: number;
}

/**
 * A program cannot be assembled: a label that is missing or too far away, a reference that nothing
 * resolves, an end without `exit()`. The message quotes the instruction and says where it came from.
 *
 * @example
 * ```ts
 * import { asm, assemble, AssemblerError } from "bun-bpf";
 * try {
 *   assemble([asm.ja("nowhere"), asm.exit()]);
 * } catch (error) {
 *   console.log(error instanceof AssemblerError && error.index); // 0
 * }
 * ```
 */
export class AssemblerError extends Error {
  override readonly name = "AssemblerError";
  /** The instruction that is to blame, if one is. */
  readonly instruction: Instruction | undefined;
  /** Its place among the instructions, from 0. */
  readonly index: number | undefined;
  /** Its first slot. */
  readonly slot: number | undefined;

  constructor(message: string, culprit?: Culprit) {
    super(culprit === undefined ? message : `${quote(culprit)}: ${message}`);
    this.instruction = culprit?.instruction;
    this.index = culprit?.index;
    this.slot = culprit?.slot;
  }
}

function quote({ instruction, index, slot }: Culprit): string {
  // The verifier counts in slots: say it where the two differ.
  const place = slot === index ? `instruction ${index}` : `instruction ${index} (slot ${slot})`;
  const { source } = instruction;
  const from = source === undefined ? "" : ` at ${source.file}:${source.line}`;
  return `${place}, ${JSON.stringify(disassembleInstruction(instruction))}${from}`;
}
