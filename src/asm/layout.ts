/** @module Layout of a program: the slots of its instructions, its labels and its functions. */

import { describe } from "../check/describe.ts";
import { disassembleInstruction } from "./disassembler.ts";
import { isEnd, LDDW } from "./encode.ts";
import {
  type Code,
  type CodeItem,
  type Instruction,
  isInstruction,
  slotsOf,
} from "./instruction.ts";

/** The instruction that an error is about. */
interface FaultyInstruction {
  readonly instruction: Instruction;
  readonly index: number;
  readonly slot: number;
}

/**
 * Error for a program that cannot be assembled, for example because a label is missing or too far away, a
 * reference cannot be resolved, or the program does not end with `exit()`. The message contains the
 * instruction and its source position.
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
  /** The name of the class. */
  override readonly name = "AssemblerError";
  /** Instruction that the error is about; `undefined` if it is about the whole program. */
  readonly instruction: Instruction | undefined;
  /** Index of the instruction in the program, from 0; `undefined` if the error is about the whole program. */
  readonly index: number | undefined;
  /** Index of the instruction's first slot; `undefined` if the error is about the whole program. */
  readonly slot: number | undefined;

  constructor(message: string, faulty?: FaultyInstruction) {
    super(faulty === undefined ? message : `${quote(faulty)}: ${message}`);
    this.instruction = faulty?.instruction;
    this.index = faulty?.index;
    this.slot = faulty?.slot;
  }
}

function quote({ instruction, index, slot }: FaultyInstruction): string {
  // The verifier counts slots, so the slot is added if it differs from the index.
  const place = slot === index ? `instruction ${index}` : `instruction ${index} (slot ${slot})`;
  const { source } = instruction;
  const from = source === undefined ? "" : ` at ${source.file}:${source.line}`;
  return `${place}, ${JSON.stringify(disassembleInstruction(instruction))}${from}`;
}

/** An instruction, and its position in the assembled program. */
export interface PlacedInstruction {
  /** The instruction itself. */
  readonly instruction: Instruction;
  /** Index of the instruction in the program, from 0. */
  readonly index: number;
  /** Index of the instruction's first slot. The verifier's log and jumps count slots. */
  readonly slot: number;
  /** Labels of the instruction. */
  readonly labels: readonly string[];
  /** Name of the function that contains the instruction; empty for a program that starts without `func()`. */
  readonly function: string;
}

/** Layout of a function. */
export interface FunctionLayout {
  /** Name of the function; empty for a program that starts without `func()`. */
  readonly name: string;
  /** Index of the function's first slot. */
  readonly slot: number;
  /** Instructions of the function, in order. */
  readonly instructions: PlacedInstruction[];
  /** Instruction of each label; `undefined` for a label after the last instruction. */
  readonly labels: Map<string, PlacedInstruction | undefined>;
}

/**
 * Computes the layout of a program.
 *
 * @throws {AssemblerError} if the program is empty, does not end with an exit or a jump, or defines a label or function twice.
 * @throws {TypeError} if an item of the code is not an instruction, label or function start.
 */
export function layOut(code: Code): FunctionLayout[] {
  const layout = new Layout();
  layout.addAll(code, "code");
  return layout.finish();
}

class Layout {
  readonly #functions: FunctionLayout[] = [];
  readonly #names = new Set<string>();
  #pending: string[] = [];
  #slot = 0;
  #index = 0;

  addAll(code: Code, path: string): void {
    if (!Array.isArray(code)) {
      throw new TypeError(`${path}: expected an array of instructions, got ${describe(code)}`);
    }
    for (const [position, item] of (code as Code).entries()) {
      const itemPath = `${path}[${position}]`;
      // Array.isArray does not narrow to a read-only array.
      if (Array.isArray(item)) this.addAll(item as Code, itemPath);
      else this.#add(item as CodeItem, itemPath);
    }
  }

  #add(item: CodeItem, path: string): void {
    if (typeof item !== "object" || item === null) {
      const hint = typeof item === "function" ? ": was it meant to be called, as in exit()?" : "";
      throw new TypeError(`${path}: expected an instruction, got ${describe(item)}${hint}`);
    }
    if (isInstruction(item)) this.#addInstruction(item);
    else if ("label" in item) this.#pending.push(item.label);
    else if ("function" in item) this.#startFunction(item.function);
    else throw new TypeError(`${path}: expected an instruction, got ${describe(item)}`);
  }

  #startFunction(name: string): void {
    this.#endFunction();
    if (this.#names.has(name)) {
      throw new AssemblerError(`function ${JSON.stringify(name)} is defined twice: rename one`);
    }
    this.#names.add(name);
    this.#functions.push({ name, slot: this.#slot, instructions: [], labels: new Map() });
  }

  /** Ends the current function. Labels that no instruction follows belong to this function. */
  #endFunction(): void {
    const current = this.#functions.at(-1);
    for (const label of this.#pending) this.#define(current ?? this.#entry(), label, undefined);
    this.#pending = [];
  }

  /** Starts the function of a program that begins without `func()`. */
  #entry(): FunctionLayout {
    const entry = { name: "", slot: 0, instructions: [], labels: new Map() };
    this.#names.add("");
    this.#functions.push(entry);
    return entry;
  }

  #addInstruction(instruction: Instruction): void {
    const owner = this.#functions.at(-1) ?? this.#entry();
    const labels = this.#pending;
    this.#pending = [];
    if (instruction.label !== undefined) labels.push(instruction.label);
    const index = this.#index++;
    const placed = { instruction, index, slot: this.#slot, labels, function: owner.name };
    for (const label of labels) this.#define(owner, label, placed);
    if (instruction.opcode === LDDW && typeof instruction.imm !== "bigint") {
      throw new AssemblerError(`imm: expected a bigint for lddw, got ${instruction.imm}`, placed);
    }
    if (instruction.opcode !== LDDW && typeof instruction.imm === "bigint") {
      throw new AssemblerError(
        `imm: expected a number, got ${instruction.imm}n: only lddw has a bigint`,
        placed,
      );
    }
    owner.instructions.push(placed);
    this.#slot += slotsOf(instruction);
  }

  #define(owner: FunctionLayout, label: string, place: PlacedInstruction | undefined): void {
    if (owner.labels.has(label)) {
      const inside = owner.name === "" ? "" : ` in function ${JSON.stringify(owner.name)}`;
      throw new AssemblerError(
        `label ${JSON.stringify(label)} is defined twice${inside}: rename one`,
        place,
      );
    }
    owner.labels.set(label, place);
  }

  finish(): FunctionLayout[] {
    this.#endFunction();
    for (const { name, instructions } of this.#functions) {
      const last = instructions.at(-1);
      const what = name === "" ? "the program" : `function ${JSON.stringify(name)}`;
      if (last === undefined)
        throw new AssemblerError(`${what} is empty: it needs at least an exit()`);
      if (!isEnd(last.instruction)) {
        throw new AssemblerError(`${what} does not end with an exit or a jump: add exit()`, last);
      }
    }
    if (this.#functions.length === 0) {
      throw new AssemblerError("the program is empty: it needs at least an exit()");
    }
    return this.#functions;
  }
}
