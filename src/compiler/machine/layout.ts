/** @module Simplifies the blocks of a function with machine registers, and puts them in order. */

import { opposites } from "../ir/comparison.ts";
import {
  type Machine,
  type MachineBlock,
  type MachineBranch,
  type MachineFunction,
  successorsOf,
} from "./machine.ts";

/** A block whose end has been turned into jumps, for the order of blocks. */
export interface PlacedBlock {
  readonly block: MachineBlock;
  readonly code: readonly Machine[];
  /** The conditional jump at the end. */
  readonly branch: PlacedBranch | undefined;
  /** The block that is jumped to after that; `undefined` if it is the next one, or the block exits. */
  readonly jump: MachineBlock | undefined;
  readonly isExit: boolean;
}

/** A conditional jump. */
export interface PlacedBranch {
  readonly operator: MachineBranch["operator"];
  readonly is32: boolean;
  readonly left: number;
  readonly right: number;
  readonly imm: number;
  readonly target: MachineBlock;
  readonly position: Machine["position"];
}

/** The greatest number of instructions that are repeated to save the jump back to the head of a loop. */
const MAX_REPEATED = 2;

/** Returns the blocks of a function in the order in which they are placed. */
export function layOut(fn: MachineFunction): PlacedBlock[] {
  for (let isChanged = true; isChanged;) {
    for (const block of fn.blocks) threadJumps(block);
    isChanged = mergeEqualBlocks(fn.blocks);
  }
  const blocks = joinBlocks(fn.blocks);
  const reachable = new Set(blocks.slice(0, 1));
  for (const block of reachable) for (const next of successorsOf(block.end)) reachable.add(next);
  const order = blocks.filter((block) => reachable.has(block));
  return order.map((block, i) => place(block, order[i + 1]));
}

/** Returns the block at which a jump ends, past empty blocks. */
function destination(block: MachineBlock): MachineBlock {
  const seen = new Set<MachineBlock>();
  let place = block;
  while (place.code.length === 0 && place.end.kind === "jump" && !seen.has(place)) {
    seen.add(place);
    place = place.end.target;
  }
  return place;
}

function threadJumps(block: MachineBlock): void {
  const { end } = block;
  if (end.kind === "jump") {
    end.target = destination(end.target);
    const { target } = end;
    const isExit = target.code.length === 0 && target.end.kind === "exit";
    // Jumps to an empty block go past it, so it keeps its jump.
    if (isExit && block.code.length > 0) block.end = target.end;
  } else if (end.kind === "branch") {
    end.then = destination(end.then);
    end.else = destination(end.else);
    if (end.then === end.else) block.end = { kind: "jump", target: end.then };
  }
}

/** Redirects jumps to blocks that equal others. Returns true if there are some. */
function mergeEqualBlocks(blocks: readonly MachineBlock[]): boolean {
  const first = new Map<string, MachineBlock>();
  const same = new Map<MachineBlock, MachineBlock>();
  for (const block of blocks) {
    if (block.code.length > 4) continue;
    const { end } = block;
    if (end.kind === "branch") continue;
    const code = block.code.map(({ opcode, dst, src, offset, imm, reference }) =>
      reference === undefined ? `${opcode} ${dst} ${src} ${offset} ${imm}` : `of ${block.index}`,
    );
    const key = `${code.join("; ")}; ${end.kind === "jump" ? end.target.index : end.kind}`;
    const known = first.get(key);
    if (known === undefined) first.set(key, block);
    else if (block !== blocks[0]) same.set(block, known);
  }
  if (same.size === 0) return false;
  let isChanged = false;
  const redirect = (target: MachineBlock) => {
    const other = same.get(target);
    if (other !== undefined) isChanged = true;
    return other ?? target;
  };
  for (const { end } of blocks) {
    if (end.kind === "jump") end.target = redirect(end.target);
    else if (end.kind === "branch") {
      end.then = redirect(end.then);
      end.else = redirect(end.else);
    }
  }
  return isChanged;
}

/** Appends blocks to the only blocks that jump to them. */
function joinBlocks(blocks: readonly MachineBlock[]): MachineBlock[] {
  const entries = new Map<MachineBlock, number>();
  const reachable = new Set(blocks.slice(0, 1));
  for (const block of reachable) {
    for (const next of successorsOf(block.end)) {
      entries.set(next, (entries.get(next) ?? 0) + 1);
      reachable.add(next);
    }
  }
  const joined = new Set<MachineBlock>();
  for (const block of blocks) {
    if (joined.has(block) || !reachable.has(block)) continue;
    while (block.end.kind === "jump") {
      const { target } = block.end;
      if (target === block || target === blocks[0] || entries.get(target) !== 1) break;
      block.code = block.code.concat(target.code);
      block.end = target.end;
      joined.add(target);
    }
  }
  return blocks.filter((block) => !joined.has(block));
}

function place(block: MachineBlock, next: MachineBlock | undefined): PlacedBlock {
  const { code, end } = block;
  if (end.kind === "exit") return { block, code, branch: undefined, jump: undefined, isExit: true };
  if (end.kind === "branch") return { block, code, ...placeBranch(end, next), isExit: false };
  const { target } = end;
  if (target === next) return { block, code, branch: undefined, jump: undefined, isExit: false };
  // A jump to a block that only branches, such as the head of a loop, becomes the branch itself.
  const limit = target.index <= block.index ? MAX_REPEATED : 0;
  if (target.end.kind === "branch" && target.code.length <= limit) {
    const { branch, jump } = placeBranch(target.end, next);
    if (jump === undefined) {
      return { block, code: code.concat(target.code), branch, jump, isExit: false };
    }
  }
  return { block, code, branch: undefined, jump: target, isExit: false };
}

function placeBranch(
  end: Extract<MachineBlock["end"], { kind: "branch" }>,
  next: MachineBlock | undefined,
): Pick<PlacedBlock, "branch" | "jump"> {
  const { operator, is32, left, right, imm, position } = end;
  const fields = { is32, left, right, imm, position };
  // There is no opposite of "set" and "mayGoto".
  if (end.then === next && operator !== "set" && operator !== "mayGoto") {
    const branch = { ...fields, operator: opposites[operator], target: end.else };
    return { branch, jump: undefined };
  }
  const jump = end.else === next ? undefined : end.else;
  return { branch: { ...fields, operator, target: end.then }, jump };
}
