/** @module Live registers at the ends of blocks, and the depth of loops. */

import {
  accessOf,
  EXCHANGES_R0,
  IS_CALL,
  type Machine,
  type MachineBlock,
  type MachineFunction,
  READS_DST,
  READS_SRC,
  successorsOf,
  WRITES_DST,
  WRITES_SRC,
} from "./machine.ts";

/** Calls a function with each register that an instruction reads. */
export function eachRead(
  instruction: Machine,
  access: number,
  visit: (register: number) => void,
): void {
  if ((access & READS_DST) !== 0) visit(instruction.dst);
  if ((access & READS_SRC) !== 0) visit(instruction.src);
  if ((access & EXCHANGES_R0) !== 0) visit(0);
  if ((access & IS_CALL) !== 0) for (let i = 1; i <= instruction.argumentCount; i++) visit(i);
}

/** Calls a function with each register that an instruction writes. */
export function eachWrite(
  instruction: Machine,
  access: number,
  visit: (register: number) => void,
): void {
  if ((access & WRITES_DST) !== 0) visit(instruction.dst);
  if ((access & WRITES_SRC) !== 0) visit(instruction.src);
  if ((access & EXCHANGES_R0) !== 0) visit(0);
  if ((access & IS_CALL) !== 0) for (let i = 0; i <= 5; i++) visit(i);
}

/** Calls a function with each register that the end of a block reads. */
export function eachReadOfEnd({ end }: MachineBlock, visit: (register: number) => void): void {
  if (end.kind === "exit") visit(0);
  if (end.kind !== "branch") return;
  visit(end.left);
  if (end.right >= 0) visit(end.right);
}

/** Returns the registers that are live after each block, as bit sets. */
export function liveAfter({ blocks, registerCount }: MachineFunction): Uint32Array[] {
  const words = (registerCount + 31) >>> 5;
  const make = () => blocks.map(() => new Uint32Array(words));
  const [reads, writes, after, before] = [make(), make(), make(), make()];
  for (const block of blocks) {
    const read = reads[block.index] as Uint32Array;
    const written = writes[block.index] as Uint32Array;
    const noteRead = (register: number) => {
      const bit = 1 << (register & 31);
      const word = register >>> 5;
      if (((written[word] as number) & bit) === 0) read[word] = (read[word] as number) | bit;
    };
    const noteWrite = (register: number) => {
      const word = register >>> 5;
      written[word] = (written[word] as number) | (1 << (register & 31));
    };
    for (const instruction of block.code) {
      const access = accessOf(instruction);
      eachRead(instruction, access, noteRead);
      eachWrite(instruction, access, noteWrite);
    }
    eachReadOfEnd(block, noteRead);
  }
  const order = blocks.toReversed();
  let isChanged = true;
  while (isChanged) {
    isChanged = false;
    for (const { index, end } of order) {
      const out = after[index] as Uint32Array;
      const into = before[index] as Uint32Array;
      for (const successor of successorsOf(end)) {
        const next = before[successor.index] as Uint32Array;
        for (let i = 0; i < words; i++) out[i] = (out[i] as number) | (next[i] as number);
      }
      const read = reads[index] as Uint32Array;
      const written = writes[index] as Uint32Array;
      for (let i = 0; i < words; i++) {
        const live = ((out[i] as number) & ~(written[i] as number)) | (read[i] as number);
        if (live >>> 0 === into[i]) continue;
        into[i] = live;
        isChanged = true;
      }
    }
  }
  return after;
}

/** Returns the number of loops around each block. */
export function loopDepths({ blocks }: MachineFunction): Uint8Array {
  const depths = new Uint8Array(blocks.length);
  const predecessors: MachineBlock[][] = blocks.map(() => []);
  for (const block of blocks) {
    for (const successor of successorsOf(block.end)) predecessors[successor.index]?.push(block);
  }
  for (const header of blocks) {
    // Blocks are in an order in which only jumps back to the header of a loop go to an earlier or the same block.
    const body = new Set(predecessors[header.index]?.filter(({ index }) => index >= header.index));
    if (body.size === 0) continue;
    body.add(header);
    for (const block of body) {
      if (block === header) continue;
      for (const predecessor of predecessors[block.index] as MachineBlock[]) body.add(predecessor);
    }
    for (const { index } of body) depths[index] = Math.min((depths[index] as number) + 1, 6);
  }
  return depths;
}
