/** @module From instructions, or from bytes, to text. */

import { decode, hexadecimal, SLOT_SIZE, spaced } from "./encode.ts";
import {
  isInstruction,
  slotsOf,
  type Code,
  type CodeItem,
  type Instruction,
} from "./instruction.ts";
import { textOf } from "./text.ts";

/**
 * One instruction as text, without its place. What is no instruction is shown as its bytes.
 *
 * @example
 * ```ts
 * import { asm, disassembleInstruction } from "bun-bpf";
 *
 * disassembleInstruction(asm.ldxw(asm.r1, asm.r2, 4)); // r1 = *(u32 *)(r2 +4)
 * ```
 */
export function disassembleInstruction(instruction: Instruction): string {
  return textOf(instruction) ?? `bytes ${hexadecimal(instruction)}`;
}

/**
 * A program as text, in the notation of the verifier's log: a line for each instruction with its
 * slot and opcode, and lines for labels, functions and source positions. Takes what a program is
 * written in, or raw bytes. Never throws: what is no instruction is shown as its bytes.
 *
 * @example
 * ```ts
 * import { asm, disassemble } from "bun-bpf";
 * const { r0, r1, ldxw, jeq, mov, label, exit } = asm;
 *
 * disassemble([ldxw(r0, r1, 0), jeq(r0, 0, "out"), mov(r0, 1), label("out"), exit()]);
 * //    0: (61) r0 = *(u32 *)(r1 +0)
 * //    1: (15) if r0 == 0x0 goto out
 * //    2: (b7) r0 = 1
 * // out:
 * //    3: (95) exit
 * ```
 */
export function disassemble(program: Code | Uint8Array): string {
  if (!(program instanceof Uint8Array)) return lines(flatten(program)).join("\n");
  const whole = program.length - (program.length % SLOT_SIZE);
  const text = lines(decode(program.subarray(0, whole)));
  if (whole < program.length) text.push(`      bytes ${spaced(program.subarray(whole))}`);
  return text.join("\n");
}

function* flatten(code: Code): Generator<CodeItem> {
  for (const item of code) {
    // The type guard of an array does not know read-only ones.
    if (Array.isArray(item)) yield* flatten(item as Code);
    else yield item as CodeItem;
  }
}

function lines(items: Iterable<CodeItem>): string[] {
  const text: string[] = [];
  let slot = 0;
  let position = "";
  for (const item of items) {
    if (!isInstruction(item)) {
      text.push("function" in item ? `func ${item.function}` : `${item.label}:`);
      continue;
    }
    if (item.label !== undefined) text.push(`${item.label}:`);
    const comment = sourceComment(item);
    if (comment !== "" && comment !== position) text.push(comment);
    position = comment;
    const opcode = item.opcode.toString(16).padStart(2, "0");
    text.push(`${String(slot).padStart(4)}: (${opcode}) ${disassembleInstruction(item)}`);
    slot += slotsOf(item);
  }
  return text;
}

function sourceComment({ source }: Instruction): string {
  if (source === undefined) return "";
  const { file, line, text } = source;
  return `; ${text === undefined ? "" : `${text.trim()} `}@ ${file}:${line}`;
}
