/** @module The shape of a function: order of its blocks, dominators, and loops. */

import { type Block, type IrFunction, targetsOf } from "./ir.ts";

/** A loop, as the graph has it. */
export interface NaturalLoop {
  readonly header: Block;
  /** Indices of the header's predecessors that are in the loop. */
  readonly latches: readonly number[];
  /** Indices of the header's predecessors that are not. */
  readonly entries: readonly number[];
  /** The blocks of the loop, with those of the loops in it. */
  readonly blocks: ReadonlySet<Block>;
}

/** Order, dominators and loops of a function. */
export class Flow {
  /** The blocks that can be reached, each after its predecessors, except for the jumps back of loops. */
  readonly order: readonly Block[];
  /** The loops, each after those that contain it. */
  readonly loops: readonly NaturalLoop[];
  readonly #position = new Map<Block, number>();
  /** Position of the immediate dominator of each block, by position. */
  readonly #dominators: number[] = [];

  constructor(fn: IrFunction) {
    this.order = reversePostorder(fn.entry);
    for (const [index, block] of this.order.entries()) this.#position.set(block, index);
    this.#findDominators();
    this.loops = this.#findLoops();
  }

  /** Position of a block in the order, or `undefined` if it cannot be reached. */
  positionOf(block: Block): number | undefined {
    return this.#position.get(block);
  }

  /** True if each path to a block goes through another, or both are the same. */
  dominates(dominator: Block, block: Block): boolean {
    const goal = this.#position.get(dominator);
    let at = this.#position.get(block);
    if (goal === undefined || at === undefined) return false;
    while (at > goal) at = this.#dominators[at]!;
    return at === goal;
  }

  #findDominators(): void {
    const dominators = this.#dominators;
    dominators[0] = 0;
    for (let isStable = false; !isStable;) {
      isStable = true;
      for (let index = 1; index < this.order.length; index++) {
        let found: number | undefined;
        for (const predecessor of this.order[index]!.predecessors) {
          let other = this.#position.get(predecessor);
          if (other === undefined || dominators[other] === undefined) continue;
          if (found === undefined) found = other;
          while (found !== other) {
            if (found > other) found = dominators[found]!;
            else other = dominators[other]!;
          }
        }
        if (dominators[index] !== found) {
          dominators[index] = found!;
          isStable = false;
        }
      }
    }
  }

  #findLoops(): NaturalLoop[] {
    const loops: NaturalLoop[] = [];
    for (const header of this.order) {
      const latches: number[] = [];
      const entries: number[] = [];
      for (const [index, predecessor] of header.predecessors.entries()) {
        if (this.#position.has(predecessor)) {
          (this.dominates(header, predecessor) ? latches : entries).push(index);
        }
      }
      if (latches.length === 0) continue;
      const blocks = new Set([header]);
      const open = latches.map((index) => header.predecessors[index]!);
      for (let block = open.pop(); block !== undefined; block = open.pop()) {
        if (blocks.has(block)) continue;
        blocks.add(block);
        for (const predecessor of block.predecessors) {
          if (this.#position.has(predecessor)) open.push(predecessor);
        }
      }
      loops.push({ header, latches, entries, blocks });
    }
    return loops;
  }
}

function reversePostorder(entry: Block): Block[] {
  const postorder: Block[] = [];
  const seen = new Set([entry]);
  const path = [{ block: entry, next: targetsOf(entry.end) }];
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    // The last target first, so that the first comes next to its predecessor in the reverse.
    const target = top.next.pop();
    if (target === undefined) {
      postorder.push(top.block);
      path.pop();
    } else if (!seen.has(target)) {
      seen.add(target);
      path.push({ block: target, next: targetsOf(target.end) });
    }
  }
  return postorder.reverse();
}
