/** @module Where each instruction of a program goes: slots, labels and functions; and what can be wrong with that. */

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

/** The part of an error that tells which instruction is to blame. */
interface FaultyInstruction {
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

  constructor(message: string, faulty?: FaultyInstruction) {
    super(faulty === undefined ? message : `${quote(faulty)}: ${message}`);
    this.instruction = faulty?.instruction;
    this.index = faulty?.index;
    this.slot = faulty?.slot;
  }
}

function quote({ instruction, index, slot }: FaultyInstruction): string {
  // The verifier counts in slots: say it where the two differ.
  const place = slot === index ? `instruction ${index}` : `instruction ${index} (slot ${slot})`;
  const { source } = instruction;
  const from = source === undefined ? "" : ` at ${source.file}:${source.line}`;
  return `${place}, ${JSON.stringify(disassembleInstruction(instruction))}${from}`;
}

/** An instruction, and where it ended up. */
export interface PlacedInstruction {
  readonly instruction: Instruction;
  /** Its place among the instructions, from 0. */
  readonly index: number;
  /** Its first slot: the number that the verifier's log and a jump count in. */
  readonly slot: number;
  /** The labels that stand in front of it. */
  readonly labels: readonly string[];
  /** The function it belongs to; `""` for a program that starts without `func()`. */
  readonly function: string;
}

/** A function, while its code is laid out. */
export interface FunctionLayout {
  /** `""` for a program that starts without `func()`. */
  readonly name: string;
  readonly slot: number;
  readonly instructions: PlacedInstruction[];
  /** Where each label points; `undefined` for one that stands behind the last instruction. */
  readonly labels: Map<string, PlacedInstruction | undefined>;
}

/** Lays a program out. */
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
      // The type guard of an array does not know read-only ones.
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
      throw new AssemblerError(`there are two functions ${JSON.stringify(name)}`);
    }
    this.#names.add(name);
    this.#functions.push({ name, slot: this.#slot, instructions: [], labels: new Map() });
  }

  /** Labels that wait for an instruction belong to the function that ends. */
  #endFunction(): void {
    const current = this.#functions.at(-1);
    for (const label of this.#pending) this.#define(current ?? this.#entry(), label, undefined);
    this.#pending = [];
  }

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
      throw new AssemblerError(`the imm of an lddw is a bigint, got ${instruction.imm}`, placed);
    }
    if (instruction.opcode !== LDDW && typeof instruction.imm === "bigint") {
      throw new AssemblerError(
        `only lddw has a bigint for its imm, got ${instruction.imm}n`,
        placed,
      );
    }
    owner.instructions.push(placed);
    this.#slot += slotsOf(instruction);
  }

  #define(owner: FunctionLayout, label: string, place: PlacedInstruction | undefined): void {
    if (owner.labels.has(label)) {
      const inside = owner.name === "" ? "" : ` in function ${JSON.stringify(owner.name)}`;
      throw new AssemblerError(`there are two labels ${JSON.stringify(label)}${inside}`, place);
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
        throw new AssemblerError(`${what} falls off its end: end it with exit() or a jump`, last);
      }
    }
    if (this.#functions.length === 0) {
      throw new AssemblerError("the program is empty: it needs at least an exit()");
    }
    return this.#functions;
  }
}
