/**
 * @module Gives the virtual registers of a function machine registers, or places on the stack.
 *
 * This is iterated register coalescing: registers that live at the same time interfere; the graph of that is coloured, and copies
 * disappear where both sides get the same colour. What finds no colour is spilled: stored whole, so that the verifier follows the
 * spilled value, or, if it is a constant, loaded again where it is used.
 */

import { InterferenceGraph } from "./interference.ts";
import { type Machine, type MachineFunction, MOVE } from "./machine.ts";
import { spill } from "./spill.ts";

/** A function needs more stack than the kernel gives to a program: 512 bytes for all functions that are active at a time. */
export class StackError extends Error {
  /** Name of the function. */
  readonly functionName: string;
  /** Bytes that the function and its callers need. */
  readonly size: number;

  constructor(functionName: string, size: number) {
    super(`${functionName} needs ${size} bytes of stack, and a program has 512`);
    this.name = "StackError";
    this.functionName = functionName;
    this.size = size;
  }
}

/** Bytes of stack of a program. */
export const STACK_LIMIT = 512;

/** Replaces the virtual registers of a function. @throws {StackError} if the spilled registers do not fit the stack. */
export function allocate(fn: MachineFunction): void {
  // Registers that reload spilled values live for one instruction, and must not be spilled again.
  let firstReload = Number.POSITIVE_INFINITY;
  for (;;) {
    const graph = new InterferenceGraph(fn, firstReload);
    const spilled = graph.color();
    if (spilled.length === 0) {
      assign(fn, graph);
      return;
    }
    firstReload = Math.min(firstReload, fn.registerCount);
    spill(fn, graph, spilled);
    if (fn.stackSize > STACK_LIMIT) throw new StackError(fn.name, fn.stackSize);
  }
}

function assign(fn: MachineFunction, graph: InterferenceGraph): void {
  for (const block of fn.blocks) {
    const code: Machine[] = [];
    for (const instruction of block.code) {
      instruction.dst = graph.colorOf(instruction.dst);
      instruction.src = graph.colorOf(instruction.src);
      const { opcode, dst, src, offset } = instruction;
      if (opcode !== MOVE || dst !== src || offset !== 0) code.push(instruction);
    }
    block.code = code;
    const { end } = block;
    if (end.kind !== "branch") continue;
    end.left = graph.colorOf(end.left);
    if (end.right >= 0) end.right = graph.colorOf(end.right);
  }
}
