/** @module Removes loads of spilled values that registers still hold, and stores of those that are never loaded. */

import { classOf } from "../../asm/encode.ts";
import {
  accessOf,
  FRAME,
  IS_CALL,
  type Machine,
  type MachineFunction,
  MOVE,
  WRITES_DST,
  WRITES_SRC,
  EXCHANGES_R0,
} from "./machine.ts";
import { BPF_DW, BPF_LDX, BPF_MEM, BPF_ST, BPF_STX } from "../../uapi/instruction.ts";

const LOAD = BPF_LDX | BPF_MEM | BPF_DW;
const STORE = BPF_STX | BPF_MEM | BPF_DW;
const STORE_IMMEDIATE = BPF_ST | BPF_MEM | BPF_DW;

/** Removes loads and stores of spilled values. `slotSize` is the size of the part of the stack that has no spilled values. */
export function cleanSpills(fn: MachineFunction, slotSize: number): void {
  removeReloads(fn, slotSize);
  removeStores(fn, slotSize);
}

/** Removes stores to places that nothing loads from. */
function removeStores({ blocks }: MachineFunction, slotSize: number): void {
  const loaded = new Set<number>();
  for (const { code } of blocks) {
    for (const { opcode, src, offset } of code) {
      if (opcode === LOAD && src === FRAME) loaded.add(offset);
    }
  }
  for (const block of blocks) {
    block.code = block.code.filter(({ opcode, dst, offset }) => {
      const isStore = opcode === STORE || opcode === STORE_IMMEDIATE;
      return !isStore || dst !== FRAME || offset >= -slotSize || loaded.has(offset);
    });
  }
}

function removeReloads({ blocks }: MachineFunction, slotSize: number): void {
  for (const block of blocks) {
    /** Registers that hold the values of places on the stack, by offset. */
    const held = new Map<number, number>();
    const forget = (register: number) => {
      for (const [offset, holder] of held) if (holder === register) held.delete(offset);
    };
    const code: Machine[] = [];
    for (const instruction of block.code) {
      const { opcode, dst, src, offset } = instruction;
      const isReload = opcode === LOAD && src === FRAME && offset < -slotSize;
      if (isReload) {
        const holder = held.get(offset);
        if (holder === dst) continue;
        forget(dst);
        if (holder === undefined) code.push(instruction);
        else code.push({ ...instruction, opcode: MOVE, src: holder, offset: 0 });
        held.set(offset, holder ?? dst);
        continue;
      }
      code.push(instruction);
      if (dst === FRAME && offset < -slotSize && classOf(opcode) !== BPF_LDX) {
        held.delete(offset);
        if (opcode === STORE) held.set(offset, src);
        continue;
      }
      const access = accessOf(instruction);
      if ((access & WRITES_DST) !== 0) forget(dst);
      if ((access & WRITES_SRC) !== 0) forget(src);
      if ((access & EXCHANGES_R0) !== 0) forget(0);
      if ((access & IS_CALL) !== 0) for (let i = 0; i <= 5; i++) forget(i);
    }
    block.code = code;
  }
}
