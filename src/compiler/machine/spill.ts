/** @module Moves registers that found no colour to the stack. */

import type { InterferenceGraph } from "./interference.ts";
import {
  accessOf,
  FIRST_VIRTUAL,
  FRAME,
  isConstantLoad,
  type Machine,
  type MachineFunction,
  MOVE,
  READS_DST,
  READS_SRC,
  WRITES_DST,
  WRITES_SRC,
} from "./machine.ts";
import {
  BPF_ALU64,
  BPF_DW,
  BPF_LDX,
  BPF_MEM,
  BPF_MOV,
  BPF_ST,
  BPF_STX,
} from "../../uapi/instruction.ts";

/** The source of a spilled value: a place on the stack, or a constant that is loaded again. */
type Home = { readonly offset: number } | { readonly constant: Machine };

const LOAD = BPF_LDX | BPF_MEM | BPF_DW;
const STORE = BPF_STX | BPF_MEM | BPF_DW;
const STORE_IMMEDIATE = BPF_ST | BPF_MEM | BPF_DW;
const MOVE_IMMEDIATE = BPF_ALU64 | BPF_MOV;

/** Rewrites a function so that the values of nodes are in registers only for one instruction. */
export function spill(
  fn: MachineFunction,
  graph: InterferenceGraph,
  spilled: readonly number[],
): void {
  const homes = findHomes(fn, graph, spilled);
  const homeOf = (register: number) =>
    register < FIRST_VIRTUAL ? undefined : homes.get(graph.nodeOf(register));
  for (const block of fn.blocks) {
    const code: Machine[] = [];
    const position = { current: block.code[0]?.position };
    const push = (opcode: number, fields: Partial<Machine>) => {
      const base = { dst: 0, src: 0, offset: 0, imm: 0, reference: undefined, argumentCount: 0 };
      code.push({ ...base, position: position.current, ...fields, opcode });
    };
    const load = (dst: number, home: Home) => {
      if ("constant" in home) code.push({ ...home.constant, dst, position: position.current });
      else push(LOAD, { dst, src: FRAME, offset: home.offset });
    };
    const store = (home: Home, src: number) => {
      if ("offset" in home) push(STORE, { dst: FRAME, src, offset: home.offset });
    };
    for (const instruction of block.code) {
      position.current = instruction.position;
      const access = accessOf(instruction);
      const { opcode, dst, src } = instruction;
      const usesDst = (access & (READS_DST | WRITES_DST)) !== 0;
      const usesSrc = (access & (READS_SRC | WRITES_SRC)) !== 0;
      const dstHome = usesDst ? homeOf(dst) : undefined;
      const srcHome = usesSrc ? homeOf(src) : undefined;
      if (dstHome === undefined && srcHome === undefined) {
        code.push(instruction);
        continue;
      }
      if (opcode === MOVE && instruction.offset === 0) {
        if (dstHome === srcHome) continue;
        if (dstHome === undefined && srcHome !== undefined) load(dst, srcHome);
        else if (dstHome !== undefined && srcHome === undefined) store(dstHome, src);
        else if (dstHome !== undefined && srcHome !== undefined) {
          const register = fn.registerCount++;
          load(register, srcHome);
          store(dstHome, register);
        }
        continue;
      }
      if (dstHome !== undefined && isConstantLoad(instruction)) {
        if ("constant" in dstHome) continue;
        if (opcode === MOVE_IMMEDIATE) {
          push(STORE_IMMEDIATE, { dst: FRAME, offset: dstHome.offset, imm: instruction.imm });
          continue;
        }
      }
      if (dstHome !== undefined) {
        instruction.dst = fn.registerCount++;
        if ((access & READS_DST) !== 0) load(instruction.dst, dstHome);
      }
      if (srcHome !== undefined) {
        const isSame = src === dst && dstHome !== undefined && (access & READS_DST) !== 0;
        instruction.src = isSame ? instruction.dst : fn.registerCount++;
        if (!isSame) load(instruction.src, srcHome);
      }
      code.push(instruction);
      if (dstHome !== undefined && (access & WRITES_DST) !== 0) store(dstHome, instruction.dst);
      if (srcHome !== undefined && (access & WRITES_SRC) !== 0) store(srcHome, instruction.src);
    }
    const { end } = block;
    if (end.kind === "branch") {
      position.current = end.position;
      const [leftHome, rightHome] = [homeOf(end.left), homeOf(end.right)];
      if (leftHome !== undefined) load((end.left = fn.registerCount++), leftHome);
      if (rightHome !== undefined) load((end.right = fn.registerCount++), rightHome);
    }
    block.code = code;
  }
}

/** Finds homes for nodes. Nodes that do not interfere share places on the stack. */
function findHomes(
  fn: MachineFunction,
  graph: InterferenceGraph,
  spilled: readonly number[],
): Map<number, Home> {
  const constants = findConstants(fn, graph, new Set(spilled));
  const homes = new Map<number, Home>();
  const firstOffset = fn.stackSize;
  for (const node of spilled) {
    const constant = constants.get(node);
    if (constant !== undefined) {
      homes.set(node, { constant });
      continue;
    }
    const taken = new Set<number>();
    for (const neighbor of graph.neighborsOf(node)) {
      const home = homes.get(neighbor);
      if (home !== undefined && "offset" in home) taken.add(home.offset);
    }
    let size = firstOffset + 8;
    while (taken.has(-size)) size += 8;
    homes.set(node, { offset: -size });
    fn.stackSize = Math.max(fn.stackSize, size);
  }
  return homes;
}

/** Finds the nodes that are only written once, with a constant. */
function findConstants(
  fn: MachineFunction,
  graph: InterferenceGraph,
  spilled: ReadonlySet<number>,
): Map<number, Machine> {
  const constants = new Map<number, Machine>();
  const others = new Set<number>();
  const write = (register: number, instruction: Machine) => {
    const node = graph.nodeOf(register);
    if (!spilled.has(node)) return;
    if (isConstantLoad(instruction) && !constants.has(node)) constants.set(node, instruction);
    else others.add(node);
  };
  for (const { code } of fn.blocks) {
    for (const instruction of code) {
      const access = accessOf(instruction);
      const { opcode, dst, src, offset } = instruction;
      const isInner = opcode === MOVE && offset === 0 && graph.nodeOf(dst) === graph.nodeOf(src);
      if (isInner) continue;
      if ((access & WRITES_DST) !== 0) write(dst, instruction);
      if ((access & WRITES_SRC) !== 0) write(src, instruction);
    }
  }
  for (const node of others) constants.delete(node);
  return constants;
}
