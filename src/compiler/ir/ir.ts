/**
 * @module The intermediate representation: functions in static single assignment form.
 *
 * A function is a graph of blocks. A block has nodes, in the order in which they run, and one end. A node computes a value once, or
 * has an effect. A value that depends on the path is a `phi` node, at the start of a block: it has an input for each predecessor.
 *
 * Values have 64 bits. Operations of width 32 read the low halves and clear the high half of the result, like the instructions.
 */

import type { HelperName } from "../../asm/call.ts";
import type { MapReference } from "../../asm/instruction.ts";

/** Operators of nodes with two inputs. A division by zero gives 0, and the remainder of one gives the dividend, as in BPF. */
export type BinaryOperator =
  | "add"
  | "sub"
  | "mul"
  | "and"
  | "or"
  | "xor"
  | "lsh"
  | "rsh"
  | "arsh"
  | "div"
  | "mod"
  | "sdiv"
  | "smod";

/** Comparisons: `s` is for signed numbers, `set` tests that both have a common bit. */
export type CompareOperator =
  "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "slt" | "sle" | "sgt" | "sge" | "set";

/** Number of bits that an operation works on. */
export type Width = 32 | 64;

/** Number of bytes of a load or store. */
export type AccessSize = 1 | 2 | 4 | 8;

/** Room on the stack. All of it is written before it is read. */
export interface Slot {
  /** Size in bytes. */
  readonly size: number;
  /** Alignment in bytes: 1, 2, 4 or 8. */
  readonly align: AccessSize;
  /** The variable or purpose, for listings. */
  readonly name: string;
}

/** Operators of atomic operations. */
export type AtomicOperator = "add" | "and" | "or" | "xor" | "exchange" | "compareExchange";

/** An operation of a node on its inputs. */
export type Operation =
  /** A number of 64 bits, as a signed integer. */
  | { readonly kind: "constant"; readonly value: bigint }
  /** An argument of the function. That of a program is its context. */
  | { readonly kind: "parameter"; readonly index: number }
  /** The value of the input that belongs to the predecessor through which the block was entered. */
  | { readonly kind: "phi" }
  | { readonly kind: "binary"; readonly operator: BinaryOperator; readonly width: Width }
  /** The low bits of the input, with zeros or copies of the sign above them. */
  | { readonly kind: "extend"; readonly bits: 8 | 16 | 32; readonly signed: boolean }
  /** The low bits of the input in reverse byte order, with zeros above them. */
  | { readonly kind: "swap"; readonly bits: 16 | 32 | 64 }
  /** 1 if the comparison is true, otherwise 0. */
  | { readonly kind: "compare"; readonly operator: CompareOperator; readonly width: Width }
  /** The same value, about which the verifier knows nothing. */
  | { readonly kind: "opaque" }
  /** The input, which the compiler knows to be in the range, and the verifier must know, too. Inputs: a value. */
  | { readonly kind: "bound"; readonly min: number; readonly max: number }
  /** The address of a slot on the stack. */
  | { readonly kind: "slot"; readonly slot: Slot }
  /** An address inside of an object. Inputs: a pointer, and, if the place is variable, a bounded number of bytes, which is added. */
  | { readonly kind: "address"; readonly offset: number }
  /** Inputs: a pointer. */
  | {
      readonly kind: "load";
      readonly size: AccessSize;
      readonly signed: boolean;
      readonly offset: number;
      /** True if nothing writes to the memory while the program runs: then equal loads are one. */
      readonly constant: boolean;
    }
  /** Inputs: a pointer and the value. */
  | { readonly kind: "store"; readonly size: AccessSize; readonly offset: number }
  /** Inputs: a pointer and the value; for compareExchange a pointer, the expected value and the new one. The result is the old value. */
  | {
      readonly kind: "atomic";
      readonly operator: AtomicOperator;
      readonly size: 4 | 8;
      readonly offset: number;
    }
  /** The address of a map. */
  | { readonly kind: "map"; readonly map: MapReference }
  /** The address of a byte in the value of a map with one entry. */
  | { readonly kind: "mapValue"; readonly map: MapReference; readonly offset: number }
  /** Calls a helper function. Inputs: its arguments. */
  | { readonly kind: "callHelper"; readonly helper: HelperName }
  /** Calls a function of the kernel. Inputs: its arguments. */
  | { readonly kind: "callKernel"; readonly name: string }
  /** Calls a subprogram. Inputs: its arguments. */
  | { readonly kind: "callFunction"; readonly function: IrFunction }
  /** The address of a subprogram, for helpers that call it. */
  | { readonly kind: "functionAddress"; readonly function: IrFunction };

/** A range of integers, both ends included. Ends may be infinite. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** Position in a function's text, in UTF-16 code units. `source` tells texts apart. */
export interface TextPosition {
  readonly source: number;
  readonly start: number;
  readonly end: number;
}

/** A computed value, or an effect. */
export class Node {
  /** Number for listings; unique in its function. */
  readonly id: number;
  operation: Operation;
  readonly inputs: Node[];
  block: Block;
  readonly position: TextPosition | undefined;
  /**
   * True if the value is an integer that JavaScript has as a number: a safe integer, in 64 bits with sign. The range pass proves
   * that sums, differences and products stay safe.
   */
  isNumber = false;
  /** The range of the value as a signed integer of 64 bits, as far as it is known. */
  range: Range | undefined;

  constructor(
    id: number,
    operation: Operation,
    inputs: readonly Node[],
    block: Block,
    position: TextPosition | undefined,
  ) {
    this.id = id;
    this.operation = operation;
    this.inputs = [...inputs];
    this.block = block;
    this.position = position;
  }
}

/** The end of a block. */
export type End =
  | { readonly kind: "jump"; target: Block }
  | {
      readonly kind: "branch";
      readonly operator: CompareOperator;
      readonly width: Width;
      readonly inputs: [left: Node, right: Node];
      /** The next block if the comparison is true. */
      then: Block;
      /** The next block otherwise. */
      else: Block;
    }
  /** The instruction `may_goto`: goes on to `next`, and to `exit` after millions of times, which never happens in bounded loops. */
  | { readonly kind: "mayGoto"; next: Block; exit: Block }
  | { readonly kind: "return"; readonly inputs: [value: Node] }
  /** The call before it does not return, or an earlier check excludes this path. */
  | { readonly kind: "unreachable" };

/** A sequence of nodes that is entered at its start and left at its end. */
export class Block {
  readonly id: number;
  readonly phis: Node[] = [];
  readonly nodes: Node[] = [];
  /** The blocks whose ends lead to this one, in the order of the inputs of its phis. A branch with both ways here is twice in it. */
  readonly predecessors: Block[] = [];
  end: End | undefined;
  /** Set for the header of a loop. */
  loop: Loop | undefined;

  constructor(id: number) {
    this.id = id;
  }
}

/** A loop, by its header: the block through which it is entered, and to which it jumps back. */
export interface Loop {
  readonly position: TextPosition;
  /** The loop around this one. */
  readonly parent: Loop | undefined;
  /** The greatest number of iterations, set by the range pass. */
  maxIterations: number | undefined;
  /**
   * Set by the range pass: the verifier follows each iteration of a `plain` loop. It does not for `mayGoto`, and then knows
   * nothing about values that the iterations change.
   */
  kind?: "plain" | "mayGoto";
}

/** A function: a program, a subprogram or a callback. */
export class IrFunction {
  readonly name: string;
  readonly parameterCount: number;
  readonly entry: Block;
  /** All blocks that can be reached, the entry first, each after the blocks that dominate it. */
  blocks: Block[];
  #nextNode = 0;
  #nextBlock = 0;

  constructor(name: string, parameterCount: number) {
    this.name = name;
    this.parameterCount = parameterCount;
    this.entry = this.newBlock();
    this.blocks = [this.entry];
  }

  /** Returns a block that is not yet in `blocks`. */
  newBlock(): Block {
    return new Block(this.#nextBlock++);
  }

  /** Returns a node that is not yet in its block. */
  newNode(
    block: Block,
    operation: Operation,
    inputs: readonly Node[],
    position: TextPosition | undefined,
  ): Node {
    return new Node(this.#nextNode++, operation, inputs, block, position);
  }
}

/** Effects of an operation on memory. Nodes with effects keep their order. */
export type Effect = "none" | "read" | "write";

/** Returns the effect of an operation: of calls, `write`. */
export function effectOf(operation: Operation): Effect {
  switch (operation.kind) {
    case "load":
      return operation.constant ? "none" : "read";
    case "store":
    case "atomic":
    case "callHelper":
    case "callKernel":
    case "callFunction":
      return "write";
    default:
      return "none";
  }
}

/** Returns the node whose memory an address is in: that of the innermost base, also if the place in it varies. */
export function rootOf(pointer: Node): Node {
  let root = pointer;
  while (root.operation.kind === "address") root = root.inputs[0] as Node;
  return root;
}

/** Returns the blocks that an end leads to. */
export function targetsOf(end: End | undefined): Block[] {
  if (end?.kind === "jump") return [end.target];
  if (end?.kind === "branch") return [end.then, end.else];
  if (end?.kind === "mayGoto") return [end.next, end.exit];
  return [];
}

/** Returns the nodes that an end reads. */
export function inputsOf(end: End | undefined): readonly Node[] {
  return end?.kind === "branch" || end?.kind === "return" ? end.inputs : [];
}

/** Returns the subprograms that a function calls or takes the address of, directly or not, callees first, itself last. */
export function withCallees(main: IrFunction): IrFunction[] {
  const seen = new Set<IrFunction>();
  const ordered: IrFunction[] = [];
  const visit = (fn: IrFunction) => {
    if (seen.has(fn)) return;
    seen.add(fn);
    for (const block of fn.blocks) {
      for (const { operation } of block.nodes) {
        if (operation.kind === "callFunction" || operation.kind === "functionAddress") {
          visit(operation.function);
        }
      }
    }
    ordered.push(fn);
  };
  visit(main);
  return ordered;
}

/** Returns a listing of a function. */
export function printFunction(fn: IrFunction): string {
  const lines = [`function ${fn.name} (${fn.parameterCount})`];
  for (const block of fn.blocks) {
    const from = block.predecessors.map(({ id }) => `b${id}`).join(" ");
    lines.push(`b${block.id}:${from === "" ? "" : ` from ${from}`}`);
    for (const node of [...block.phis, ...block.nodes]) lines.push(`  ${printNode(node)}`);
    lines.push(`  ${printEnd(block.end)}`);
  }
  return lines.join("\n");
}

const names = (nodes: readonly Node[]) => nodes.map(({ id }) => `%${id}`).join(", ");

function printNode(node: Node): string {
  const { operation, inputs, range } = node;
  const details: string[] = [];
  for (const [key, value] of Object.entries(operation)) {
    if (key === "kind" || value === false || (key === "offset" && value === 0)) continue;
    if (key === "slot") details.push((value as unknown as Slot).name);
    else if (key === "function") details.push((value as unknown as IrFunction).name);
    else if (key === "map") details.push(typeof value === "string" ? value : "map");
    else details.push(value === true ? key : `${key === "operator" ? "" : `${key}=`}${value}`);
  }
  const shownRange = range === undefined ? "" : `  ; ${range.min} to ${range.max}`;
  const parts = [operation.kind, ...details, names(inputs)].filter((part) => part !== "");
  return `%${node.id} = ${parts.join(" ")}${shownRange}`;
}

function printEnd(end: End | undefined): string {
  switch (end?.kind) {
    case "jump":
      return `jump b${end.target.id}`;
    case "branch":
      return `branch ${end.operator}${end.width === 32 ? "32" : ""} ${names(end.inputs)} then b${end.then.id} else b${end.else.id}`;
    case "mayGoto":
      return `mayGoto b${end.exit.id} else b${end.next.id}`;
    case "return":
      return `return ${names(end.inputs)}`;
    case "unreachable":
      return "unreachable";
    case undefined:
      return "(open)";
  }
}
