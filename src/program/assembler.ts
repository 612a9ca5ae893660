/** @module From instructions to the bytes that the kernel loads. */

import { encode, SLOT_SIZE } from "./encode.ts";
import { slotsOf, type Code, type SourcePosition } from "./instruction.ts";
import { layOut, type PlacedInstruction } from "./layout.ts";
import { resolve, type Resolver } from "./resolve.ts";

export { AssemblerError } from "./assembler_error.ts";
export type { PlacedInstruction } from "./layout.ts";
export type { KernelReference, Resolver } from "./resolve.ts";

/** The start of a function. */
export interface FunctionPlace {
  /** `""` for a program that starts without `func()`. */
  readonly name: string;
  /** Its first slot. */
  readonly slot: number;
}

/** A slot from which on a source position holds. */
export interface SourceLine {
  readonly slot: number;
  readonly source: SourcePosition;
}

/** A program that is ready to load. */
export interface Assembled {
  /** 8 bytes a slot. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly slots: number;
  /** The instructions in order. */
  readonly instructions: readonly PlacedInstruction[];
  /**
   * The instruction at each slot: what a number in the verifier's log stands for. Both slots of an
   * `lddw` have it.
   */
  readonly bySlot: readonly PlacedInstruction[];
  /** The functions in order; the first is the program itself. */
  readonly functions: readonly FunctionPlace[];
  /** The source positions in order of slots, as the kernel's line information wants them. */
  readonly sourceLines: readonly SourceLine[];
}

/**
 * Makes the bytes of a program: flattens it, gives every instruction its slot, and replaces labels,
 * functions, maps and symbols by numbers. Asks nothing of the kernel; the resolver may.
 *
 * @param code - instructions, labels and function starts, in arrays of any depth
 * @param resolver - what finds the maps and the kernel's symbols that the program names
 * @throws {AssemblerError} when the program is empty or falls off its end, a label or a function is
 *   missing or doubled, a jump is too long, or a reference cannot be resolved
 * @throws {TypeError} when something in the code is not an instruction
 * @throws {RangeError} when a field of an instruction made by hand does not fit its bits
 * @example
 * ```ts
 * import { asm, assemble } from "bun-bpf";
 * const { r0, r1, ldMap, mov, exit } = asm;
 *
 * const code = [ldMap(r1, "counts"), mov(r0, 0), exit()];
 * const { bytes, slots } = assemble(code, { map: (map) => (map === "counts" ? 3 : -1) });
 * slots; // 4
 * ```
 */
export function assemble(code: Code, resolver: Resolver = {}): Assembled {
  const layouts = layOut(code);
  const functions = new Map(layouts.map((layout) => [layout.name, layout]));
  const instructions = layouts.flatMap((layout) => layout.instructions);
  const context = { functions, resolver };
  const bytes = encode(instructions.map((placed) => resolve(placed, context)));
  return {
    bytes,
    slots: bytes.length / SLOT_SIZE,
    instructions,
    bySlot: instructions.flatMap((placed) =>
      Array<PlacedInstruction>(slotsOf(placed.instruction)).fill(placed),
    ),
    functions: layouts.map(({ name, slot }) => ({ name, slot })),
    sourceLines: sourceLines(instructions),
  };
}

function sourceLines(instructions: readonly PlacedInstruction[]): SourceLine[] {
  const lines: SourceLine[] = [];
  for (const { instruction, slot } of instructions) {
    const { source } = instruction;
    if (source === undefined || samePlace(source, lines.at(-1)?.source)) continue;
    lines.push({ slot, source });
  }
  return lines;
}

function samePlace(a: SourcePosition, b: SourcePosition | undefined): boolean {
  return a.file === b?.file && a.line === b.line && a.column === b.column;
}
