/** @module Builds functions of the intermediate representation, block by block. */

import type { HelperName } from "../../asm/call.ts";
import {
  type AccessSize,
  type BinaryOperator,
  Block,
  type CompareOperator,
  type End,
  IrFunction,
  type Loop,
  type Node,
  type Operation,
  type Range,
  type Slot,
  targetsOf,
  type TextPosition,
  type Width,
} from "./ir.ts";

/** Options of loads. */
export interface LoadOptions {
  readonly signed?: boolean;
  /** True if nothing writes to the memory while the program runs. */
  readonly constant?: boolean;
}

/** Appends nodes to the current block of a function. */
export class Builder {
  readonly fn: IrFunction;
  /** The block that nodes are appended to; `undefined` after its end: code there cannot run, and is not lowered. */
  block: Block | undefined;
  /** The position of the nodes that are appended. */
  position: TextPosition | undefined;
  /** The loop that the current block is in. */
  loop: Loop | undefined;
  /** Increases with each operation that writes memory. */
  writes = 0;

  constructor(fn: IrFunction) {
    this.fn = fn;
    this.block = fn.entry;
  }

  /** True if code at this place can run. */
  get isReachable(): boolean {
    return this.block !== undefined;
  }

  /** Appends a node. @throws {Error} if the place cannot be reached. */
  add(operation: Operation, inputs: readonly Node[] = []): Node {
    if (this.block === undefined) throw new Error("the place of the node cannot be reached");
    const node = this.fn.newNode(this.block, operation, inputs, this.position);
    this.block.nodes.push(node);
    return node;
  }

  constant(value: number | bigint): Node {
    return this.add({ kind: "constant", value: BigInt.asIntN(64, BigInt(value)) });
  }

  binary(operator: BinaryOperator, left: Node, right: Node | number, width: Width = 64): Node {
    const second = typeof right === "number" ? this.constant(right) : right;
    return this.add({ kind: "binary", operator, width }, [left, second]);
  }

  compare(operator: CompareOperator, left: Node, right: Node | number, width: Width = 64): Node {
    const second = typeof right === "number" ? this.constant(right) : right;
    return this.add({ kind: "compare", operator, width }, [left, second]);
  }

  extend(value: Node, bits: 8 | 16 | 32, signed: boolean): Node {
    return this.add({ kind: "extend", bits, signed }, [value]);
  }

  slot(slot: Slot): Node {
    return this.add({ kind: "slot", slot });
  }

  /** Returns the address at an offset from a pointer, and, if the place is variable, a bounded number of bytes further. */
  address(pointer: Node, offset: number, index?: Node): Node {
    if (offset === 0 && index === undefined) return pointer;
    return this.add(
      { kind: "address", offset },
      index === undefined ? [pointer] : [pointer, index],
    );
  }

  load(pointer: Node, offset: number, size: AccessSize, options: LoadOptions = {}): Node {
    const { signed = false, constant = false } = options;
    return this.add({ kind: "load", size, signed, offset, constant }, [pointer]);
  }

  store(pointer: Node, offset: number, size: AccessSize, value: Node | number): void {
    this.writes++;
    const stored = typeof value === "number" ? this.constant(value) : value;
    this.add({ kind: "store", size, offset }, [pointer, stored]);
  }

  callHelper(helper: HelperName, ...inputs: readonly (Node | number)[]): Node {
    this.writes++;
    const nodes = inputs.map((input) => (typeof input === "number" ? this.constant(input) : input));
    return this.add({ kind: "callHelper", helper }, nodes);
  }

  /** Marks the value of a node as a JavaScript number, in a range if that is known. */
  number(node: Node, range?: Range): Node {
    node.isNumber = true;
    if (range !== undefined) node.range = range;
    return node;
  }

  /** Ends the current block with a jump to another. */
  jump(target: Block): void {
    this.#end({ kind: "jump", target });
  }

  /** Ends the current block with a branch on a comparison. */
  branchOn(
    operator: CompareOperator,
    left: Node,
    right: Node | number,
    then: Block,
    otherwise: Block,
    width: Width = 64,
  ): void {
    const second = typeof right === "number" ? this.constant(right) : right;
    this.#end({ kind: "branch", operator, width, inputs: [left, second], then, else: otherwise });
  }

  /** Ends the current block with a branch on a value of 0 or 1. */
  branch(condition: Node, then: Block, otherwise: Block): void {
    const { operation, inputs } = condition;
    if (operation.kind === "compare") {
      const { operator, width } = operation;
      const [left, right] = inputs as [Node, Node];
      this.#end({ kind: "branch", operator, width, inputs: [left, right], then, else: otherwise });
    } else this.branchOn("ne", condition, 0, then, otherwise);
  }

  return(value: Node | number): void {
    const node = typeof value === "number" ? this.constant(value) : value;
    this.#end({ kind: "return", inputs: [node] });
  }

  unreachable(): void {
    this.#end({ kind: "unreachable" });
  }

  #end(end: End): void {
    const { block } = this;
    this.block = undefined;
    if (block === undefined) return;
    block.end = end;
    for (const target of targetsOf(end)) target.predecessors.push(block);
  }

  /** Continues in a block that was made by `fn.newBlock()`. If nothing jumps to it, the code that follows cannot be reached. */
  continueIn(block: Block, isLoopHeader = false): void {
    const canBeReached = block === this.fn.entry || block.predecessors.length > 0 || isLoopHeader;
    this.block = canBeReached ? block : undefined;
    if (canBeReached) this.fn.blocks.push(block);
  }

  /** Appends a phi to a block. Its inputs are in the order of the block's predecessors; those of a loop's end are added later. */
  phi(block: Block, inputs: readonly Node[]): Node {
    const node = this.fn.newNode(block, { kind: "phi" }, inputs, this.position);
    block.phis.push(node);
    return node;
  }
}
