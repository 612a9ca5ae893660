/**
 * @module Chooses the instructions for a function of the intermediate representation. The result has virtual registers.
 *
 * Constants and addresses of slots and maps have no register of their own: they are loaded where they are used, because that costs
 * no more than a copy. Offsets of addresses become offsets of the loads and stores that use them.
 */

import { exchanged } from "../ir/comparison.ts";
import type { Reference } from "../../asm/instruction.ts";
import {
  type Block,
  type IrFunction,
  type Node,
  type Operation,
  rootOf,
  type Slot,
  type TextPosition,
} from "../ir/ir.ts";
import {
  FIRST_VIRTUAL,
  FRAME,
  type Machine,
  type MachineBlock,
  type MachineEnd,
  type MachineFunction,
  MOVE,
} from "./machine.ts";
import { CALL, LDDW, lddwKind } from "../../asm/encode.ts";
import { divide, type Selector } from "./division.ts";
import {
  type Comparison,
  countNodes,
  fusedComparison,
  isZero,
  NodeUses,
  readInputs,
  reachableBlocks,
} from "./node_uses.ts";
import {
  BPF_ADD,
  BPF_ALU,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_ATOMIC,
  BPF_B,
  BPF_CMPXCHG,
  BPF_DIV,
  BPF_DW,
  BPF_END,
  BPF_FETCH,
  BPF_H,
  BPF_LDX,
  BPF_LSH,
  BPF_MEM,
  BPF_MEMSX,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_TO_BE,
  BPF_W,
  BPF_X,
  BPF_XCHG,
  BPF_XOR,
} from "../../uapi/instruction.ts";
import { bpfHelpers } from "../../uapi/helpers.ts";
import { fitsSigned, fitsUnsigned } from "./width.ts";
import type { Target } from "./target.ts";

/** Arithmetic operations by operator; signed ones have the offset 1. */
const aluCodes = {
  add: BPF_ADD,
  sub: BPF_SUB,
  mul: BPF_MUL,
  and: BPF_AND,
  or: BPF_OR,
  xor: BPF_XOR,
  lsh: BPF_LSH,
  rsh: BPF_RSH,
  arsh: BPF_ARSH,
  div: BPF_DIV,
  mod: BPF_MOD,
  sdiv: BPF_DIV,
  smod: BPF_MOD,
} as const;

const sizeCodes = { 1: BPF_B, 2: BPF_H, 4: BPF_W, 8: BPF_DW } as const;

const atomicCodes = {
  add: BPF_ADD,
  and: BPF_AND,
  or: BPF_OR,
  xor: BPF_XOR,
  exchange: BPF_XCHG,
  compareExchange: BPF_CMPXCHG,
} as const;

const commutative = new Set(["add", "mul", "and", "or", "xor"]);

const INT16_MAX = 0x7fff;

type Of<K extends Operation["kind"]> = Extract<Operation, { kind: K }>;

/** A feature that the code needs and the target lacks. */
export class TargetError extends Error {
  readonly position: TextPosition | undefined;

  constructor(message: string, position: TextPosition | undefined) {
    super(message);
    this.name = "TargetError";
    this.position = position;
  }
}

/** Returns the instructions of a function. `nameOf` gives functions their names in the program. */
export function select(
  fn: IrFunction,
  target: Target,
  nameOf: (fn: IrFunction) => string,
): MachineFunction {
  return new FunctionSelector(fn, target, nameOf).run();
}

/** Translates one function. */
class FunctionSelector implements Selector {
  readonly target: Target;
  readonly #fn: IrFunction;
  readonly #nameOf: (fn: IrFunction) => string;
  readonly #blocks: Block[];
  readonly #uses: NodeUses;
  /** Registers by node id; 0 if the node has none. */
  readonly #registers: Uint32Array;
  /** Registers through which phis get their values, by node id. */
  readonly #transfers: Uint32Array;
  readonly #slotOffsets = new Map<Slot, number>();
  readonly #machineBlocks = new Map<Block, MachineBlock>();
  /** Registers of wide constants and addresses of map values that the current block has loaded. */
  readonly #loaded = new Map<string, { readonly register: number; readonly offset: number }>();
  readonly #result: MachineFunction;
  #current!: MachineBlock;
  #trap: MachineBlock | undefined;
  #unknown = 0;
  #position: TextPosition | undefined;

  constructor(fn: IrFunction, target: Target, nameOf: (fn: IrFunction) => string) {
    this.#fn = fn;
    this.target = target;
    this.#nameOf = nameOf;
    this.#blocks = reachableBlocks(fn);
    const nodeCount = countNodes(this.#blocks);
    this.#uses = new NodeUses(this.#blocks, nodeCount);
    this.#registers = new Uint32Array(nodeCount);
    this.#transfers = new Uint32Array(nodeCount);
    this.#result = {
      name: nameOf(fn),
      blocks: [],
      registerCount: FIRST_VIRTUAL,
      stackSize: 0,
    };
  }

  run(): MachineFunction {
    this.#placeSlots();
    for (const block of this.#blocks) {
      this.#machineBlocks.set(block, { index: -1, code: [], end: undefined as never });
      for (const phi of block.phis) {
        if (!this.#isNeeded(phi)) continue;
        this.#registers[phi.id] = this.newRegister();
        this.#transfers[phi.id] = this.newRegister();
      }
    }
    // The arguments are copied in a block of their own, which no loop comes back to.
    this.#start(this.#newBlock());
    this.#enter();
    const entry = this.#machineBlocks.get(this.#fn.entry) as MachineBlock;
    this.#current.end = { kind: "jump", target: entry };
    for (const block of this.#blocks) {
      this.#start(this.#machineBlocks.get(block) as MachineBlock);
      this.#loaded.clear();
      for (const phi of block.phis) {
        if (this.#isNeeded(phi)) this.move(this.#register(phi), this.#transfers[phi.id] as number);
      }
      for (const node of block.nodes) {
        if (!this.#isNeeded(node)) continue;
        this.#position = node.position;
        this.#select(node);
      }
      this.#end(block);
    }
    if (this.#trap !== undefined) this.#result.blocks.push(this.#trap);
    for (const [index, block] of this.#result.blocks.entries()) block.index = index;
    return this.#result;
  }

  #isNeeded(node: Node): boolean {
    return this.#uses.count(node) > 0;
  }

  /** Returns true for an address whose offset goes into the instructions that use it. */
  #isFolded(node: Node): boolean {
    return node.operation.kind === "address" && this.#uses.inRegister(node) === 0;
  }

  /** Places the slots that are used next to the frame pointer, in the order of their first use. */
  #placeSlots(): void {
    let size = 0;
    for (const { nodes } of this.#blocks) {
      for (const node of nodes) {
        if (node.operation.kind !== "slot" || !this.#isNeeded(node)) continue;
        const { slot } = node.operation;
        if (this.#slotOffsets.has(slot)) continue;
        size = Math.ceil((size + slot.size) / slot.align) * slot.align;
        this.#slotOffsets.set(slot, -size);
      }
    }
    this.#result.stackSize = Math.ceil(size / 8) * 8;
  }

  /** Copies the arguments from their registers, and makes the unknown number that opaque values need. */
  #enter(): void {
    const nodes = this.#blocks
      .flatMap((block) => block.nodes)
      .filter((node) => this.#isNeeded(node));
    for (const node of nodes) {
      if (node.operation.kind !== "parameter") continue;
      this.#position = node.position;
      this.move(this.#define(node), node.operation.index + 1);
    }
    const opaque = nodes.find(({ operation }) => operation.kind === "opaque");
    if (opaque === undefined) return;
    this.#position = opaque.position;
    this.#unknown = this.newRegister();
    // The difference is 0, but the verifier does not know it: one addition makes a value opaque.
    if (this.target.pointerDifference) {
      this.move(this.#unknown, FRAME);
      this.alu(BPF_SUB, this.#unknown, FRAME);
    } else {
      this.#emit({ opcode: CALL, imm: bpfHelpers.get_prandom_u32 });
      this.move(this.#unknown, 0);
    }
  }

  /** Returns a new virtual register. */
  newRegister(): number {
    return this.#result.registerCount++;
  }

  #start(block: MachineBlock): void {
    this.#result.blocks.push(block);
    this.#current = block;
  }

  #newBlock(): MachineBlock {
    return { index: -1, code: [], end: undefined as never };
  }

  #emit(fields: Partial<Machine> & { readonly opcode: number }): void {
    const {
      opcode,
      dst = 0,
      src = 0,
      offset = 0,
      imm = 0,
      reference = undefined,
      argumentCount = 0,
    } = fields;
    const position = this.#position;
    this.#current.code.push({
      opcode,
      dst,
      src,
      offset,
      imm,
      reference,
      position,
      argumentCount,
    });
  }

  /** Copies a register. */
  move(dst: number, src: number): void {
    this.#emit({ opcode: MOVE, dst, src });
  }

  /** Adds an operation on two registers. */
  alu(code: number, dst: number, src: number, is32 = false, offset = 0): void {
    this.#emit({ opcode: (is32 ? BPF_ALU : BPF_ALU64) | code | BPF_X, dst, src, offset });
  }

  /** Adds an operation on a register and an immediate. */
  aluImmediate(code: number, dst: number, imm: number, is32 = false, offset = 0): void {
    this.#emit({ opcode: (is32 ? BPF_ALU : BPF_ALU64) | code, dst, imm, offset });
  }

  #loadReference(dst: number, src: number, reference: Reference): void {
    this.#emit({ opcode: LDDW, dst, src, imm: 0n, reference });
  }

  #loadConstant(dst: number, value: bigint): void {
    if (value === BigInt.asIntN(32, value)) this.aluImmediate(BPF_MOV, dst, Number(value));
    else if (value === BigInt.asUintN(32, value)) {
      this.aluImmediate(BPF_MOV, dst, Number(value) | 0, true);
    } else this.#emit({ opcode: LDDW, dst, imm: BigInt.asUintN(64, value) });
  }

  /** Puts the value of a node into a register. */
  into(dst: number, node: Node): void {
    const { operation } = node;
    switch (operation.kind) {
      case "constant":
        this.#loadConstant(dst, operation.value);
        break;
      case "slot":
        this.move(dst, FRAME);
        this.aluImmediate(BPF_ADD, dst, this.#slotOffset(operation.slot));
        break;
      case "map":
        this.#loadReference(dst, lddwKind.mapFd, { kind: "map", map: operation.map });
        break;
      case "mapValue": {
        const { map, offset } = operation;
        this.#loadReference(dst, lddwKind.mapValue, { kind: "mapValue", map, offset });
        break;
      }
      case "functionAddress": {
        if (!this.target.functionAddresses) {
          throw new TargetError("callbacks require Linux 5.13", node.position);
        }
        const name = this.#nameOf(operation.function);
        this.#loadReference(dst, lddwKind.function, { kind: "function", name });
        break;
      }
      case "address":
        if (this.#rootSlot(node) === undefined) this.move(dst, this.#register(node));
        else this.#addressInto(dst, node, 0);
        break;
      default:
        this.move(dst, this.#register(node));
    }
  }

  /** Returns a register with the value of a node. */
  registerOf(node: Node): number {
    const { operation } = node;
    const isLoaded =
      operation.kind === "constant" ||
      operation.kind === "slot" ||
      operation.kind === "map" ||
      operation.kind === "mapValue" ||
      operation.kind === "functionAddress" ||
      (operation.kind === "address" && this.#rootSlot(node) !== undefined);
    if (!isLoaded) return this.#register(node);
    const isWide =
      operation.kind === "constant" && operation.value !== BigInt.asIntN(32, operation.value);
    const key = isWide ? `${operation.value}` : undefined;
    const loaded = key === undefined ? undefined : this.#loaded.get(key);
    if (loaded !== undefined) return loaded.register;
    const register = this.newRegister();
    this.into(register, node);
    if (key !== undefined) this.#loaded.set(key, { register, offset: 0 });
    return register;
  }

  #register({ id, operation }: Node): number {
    const register = this.#registers[id] as number;
    if (register === 0) throw new Error(`node %${id} (${operation.kind}) has no register yet`);
    return register;
  }

  #define({ id }: Node): number {
    const register = this.newRegister();
    this.#registers[id] = register;
    return register;
  }

  #slotOffset(slot: Slot): number {
    return this.#slotOffsets.get(slot) as number;
  }

  /** Returns the slot at a constant offset from which an address is, and the offset. */
  #rootSlot(node: Node): { readonly slot: Slot; readonly offset: number } | undefined {
    let offset = 0;
    for (let place = node; ; place = place.inputs[0] as Node) {
      const { operation, inputs } = place;
      if (operation.kind === "slot") return { slot: operation.slot, offset };
      if (operation.kind !== "address" || inputs.length > 1) return undefined;
      offset += operation.offset;
    }
  }

  /** Returns a register and an offset that address a place at an offset from a pointer. */
  #place(pointer: Node, offset: number): { readonly base: number; readonly offset: number } {
    const root = this.#rootSlot(pointer);
    if (root !== undefined) {
      return this.#near(FRAME, this.#slotOffset(root.slot) + root.offset + offset);
    }
    let node = pointer;
    let distance = offset;
    while (this.#isFolded(node)) {
      distance += (node.operation as Of<"address">).offset;
      // The register of a folded address with an index has the sum without the offset.
      if (node.inputs.length > 1) return this.#near(this.#register(node), distance);
      node = node.inputs[0] as Node;
    }
    if (node.operation.kind !== "mapValue") return this.#near(this.registerOf(node), distance);
    const { map, offset: start } = node.operation;
    const key = typeof map === "string" ? `map ${map}` : `fd ${map.fd}`;
    let loaded = this.#loaded.get(key);
    if (loaded === undefined || !isOffset(start - loaded.offset + distance)) {
      loaded = { register: this.newRegister(), offset: start };
      this.into(loaded.register, node);
      this.#loaded.set(key, loaded);
    }
    return this.#near(loaded.register, start - loaded.offset + distance);
  }

  /** Returns an equal place whose offset fits an instruction. */
  #near(base: number, offset: number): { readonly base: number; readonly offset: number } {
    if (isOffset(offset)) return { base, offset };
    const register = this.newRegister();
    this.move(register, base);
    this.aluImmediate(BPF_ADD, register, offset);
    return { base: register, offset: 0 };
  }

  /** Puts the address of a place into a register. */
  #addressInto(dst: number, pointer: Node, offset: number): void {
    const place = this.#place(pointer, offset);
    this.move(dst, place.base);
    if (place.offset !== 0) this.aluImmediate(BPF_ADD, dst, place.offset);
  }

  #select(node: Node): void {
    const { operation } = node;
    const [first, second] = readInputs(node) as [Node, Node];
    switch (operation.kind) {
      case "binary":
        this.#binary(node, operation);
        break;
      case "extend":
        this.#extend(this.#define(node), first, operation.bits, operation.signed);
        break;
      case "swap": {
        const dst = this.#define(node);
        this.into(dst, first);
        // On machines of little-endian order, the only ones supported, the conversion to big-endian order is a swap.
        this.#emit({ opcode: BPF_ALU | BPF_END | BPF_TO_BE, dst, imm: operation.bits });
        break;
      }
      case "compare":
        this.#compare(node, { ...operation, inputs: [first, second] });
        break;
      case "opaque": {
        const dst = this.#define(node);
        this.into(dst, first);
        if (this.target.pointerDifference) this.alu(BPF_ADD, dst, this.#unknown);
        else {
          this.alu(BPF_XOR, dst, this.#unknown);
          this.alu(BPF_XOR, dst, this.#unknown);
        }
        break;
      }
      case "bound":
        this.#bound(this.#define(node), first, operation);
        break;
      case "address":
        this.#address(node, operation);
        break;
      case "load":
        this.#load(node, operation);
        break;
      case "store":
        this.#store(node, operation);
        break;
      case "atomic":
        this.#atomic(node, operation);
        break;
      case "callHelper":
        this.#call(node, { imm: bpfHelpers[operation.helper] });
        break;
      case "callKernel": {
        if (!this.target.kernelFunctions) {
          throw new TargetError("functions of the kernel require Linux 5.13", node.position);
        }
        const reference = { kind: "kernelFunction", name: operation.name } as const;
        this.#call(node, { src: BPF_PSEUDO_KFUNC_CALL, imm: -1, reference });
        break;
      }
      case "callFunction": {
        const reference = { kind: "function", name: this.#nameOf(operation.function) } as const;
        this.#call(node, { src: BPF_PSEUDO_CALL, imm: -1, reference });
        break;
      }
      default:
      // Parameters are copied at the entry, phis at the start of blocks, and the others are loaded where they are used.
    }
  }

  #binary(node: Node, { operator, width }: Of<"binary">): void {
    let [left, right] = readInputs(node) as [Node, Node];
    const is32 = width === 32;
    const isSwapped =
      commutative.has(operator) &&
      right.operation.kind !== "constant" &&
      (left.operation.kind === "constant" ||
        (this.#uses.count(left) > 1 && this.#uses.count(right) === 1));
    if (isSwapped) [left, right] = [right, left];
    const dst = this.#define(node);
    const constant = right.operation.kind === "constant" ? right.operation.value : undefined;
    if (aluCodes[operator] === BPF_DIV || aluCodes[operator] === BPF_MOD) {
      divide(this, { dst, left, right, operator: operator as "div", is32, constant });
      return;
    }
    if (operator === "sub" && isZero(left)) {
      this.into(dst, right);
      this.aluImmediate(BPF_NEG, dst, 0, is32);
      return;
    }
    const imm = constant === undefined ? undefined : immediateOf(constant, is32);
    const isShift = operator === "lsh" || operator === "rsh" || operator === "arsh";
    if (imm !== undefined) {
      this.into(dst, left);
      this.aluImmediate(aluCodes[operator], dst, isShift ? imm & (width - 1) : imm, is32);
    } else {
      const register = this.registerOf(right);
      this.into(dst, left);
      this.alu(aluCodes[operator], dst, register, is32);
    }
  }

  #extend(dst: number, value: Node, bits: 8 | 16 | 32, signed: boolean): void {
    if (signed ? fitsSigned(value, bits) : fitsUnsigned(value, bits)) this.into(dst, value);
    else if (signed && this.target.signedMoves) {
      this.#emit({ opcode: MOVE, dst, src: this.registerOf(value), offset: bits });
    } else if (signed) {
      this.into(dst, value);
      this.#extendSign(dst, bits);
    } else if (bits === 32) {
      this.#emit({ opcode: BPF_ALU | BPF_MOV | BPF_X, dst, src: this.registerOf(value) });
    } else {
      this.into(dst, value);
      this.aluImmediate(BPF_AND, dst, 2 ** bits - 1);
    }
  }

  #extendSign(dst: number, bits: number): void {
    this.aluImmediate(BPF_LSH, dst, 64 - bits);
    this.aluImmediate(BPF_ARSH, dst, 64 - bits);
  }

  /** Puts the truth of a comparison into a register, without a branch where it is the sign or a bit already. */
  #compare(node: Node, comparison: Comparison): void {
    const { operator, width, inputs } = comparison;
    const [left, right] = inputs;
    const dst = this.#define(node);
    if (isZero(right) && (operator === "slt" || operator === "sge")) {
      this.into(dst, left);
      this.aluImmediate(BPF_RSH, dst, width - 1, width === 32);
      if (operator === "sge") this.aluImmediate(BPF_XOR, dst, 1);
      return;
    }
    if (isZero(right) && (operator === "ne" || operator === "eq") && fitsUnsigned(left, 1)) {
      this.into(dst, left);
      if (operator === "eq") this.aluImmediate(BPF_XOR, dst, 1);
      return;
    }
    const [join, otherwise] = [this.#newBlock(), this.#newBlock()];
    const end = this.#branch(comparison, join, otherwise);
    this.aluImmediate(BPF_MOV, dst, 1);
    this.#current.end = end;
    this.#start(otherwise);
    this.aluImmediate(BPF_MOV, dst, 0);
    otherwise.end = { kind: "jump", target: join };
    this.#start(join);
  }

  /** Makes the verifier know the range of a value, which the compiler has proved. The trap never runs. */
  #bound(dst: number, value: Node, { min, max }: Of<"bound">): void {
    this.into(dst, value);
    const isMask = min === 0 && Number.isInteger(Math.log2(max + 1));
    if (isMask && max <= 0x7fff_ffff) this.aluImmediate(BPF_AND, dst, max);
    else if (isMask && max === 0xffff_ffff) {
      this.#emit({ opcode: BPF_ALU | BPF_MOV | BPF_X, dst, src: dst });
    } else if (min >= 0) {
      this.#trapIf("gt", dst, max);
      if (min > 0) this.#trapIf("lt", dst, min);
    } else {
      this.#trapIf("slt", dst, min);
      this.#trapIf("sgt", dst, max);
    }
  }

  #trapIf(operator: "gt" | "lt" | "slt" | "sgt", left: number, limit: number): void {
    if (!Number.isFinite(limit)) return;
    this.#trap ??= this.#exitBlock();
    const imm = immediateOf(BigInt(limit), false);
    let right = -1;
    if (imm === undefined) {
      right = this.newRegister();
      this.#loadConstant(right, BigInt(limit));
    }
    const next = this.#newBlock();
    const position = this.#position;
    this.#current.end = {
      kind: "branch",
      operator,
      is32: false,
      left,
      right,
      imm: imm ?? 0,
      then: this.#trap,
      else: next,
      position,
    };
    this.#start(next);
  }

  /** Returns a block that returns 0. */
  #exitBlock(): MachineBlock {
    const block = this.#newBlock();
    const current = this.#current;
    this.#current = block;
    this.#exit(undefined);
    this.#current = current;
    return block;
  }

  #exit(value: Node | undefined): void {
    if (value === undefined) this.aluImmediate(BPF_MOV, 0, 0);
    else this.into(0, value);
    this.#current.end = { kind: "exit", position: this.#position };
  }

  #address(node: Node, { offset }: Of<"address">): void {
    const [pointer, index] = node.inputs as [Node, Node | undefined];
    const isFolded = this.#isFolded(node);
    // Addresses in slots are computed where they are used.
    if (index === undefined && (isFolded || this.#rootSlot(node) !== undefined)) return;
    const indexRegister = index === undefined ? undefined : this.registerOf(index);
    const dst = this.#define(node);
    this.#addressInto(dst, pointer, isFolded ? 0 : offset);
    if (indexRegister !== undefined) this.alu(BPF_ADD, dst, indexRegister);
  }

  #load(node: Node, { size, signed, offset }: Of<"load">): void {
    const place = this.#place(node.inputs[0] as Node, offset);
    const dst = this.#define(node);
    const isExtended = signed && size < 8;
    const mode = isExtended && this.target.signedLoads ? BPF_MEMSX : BPF_MEM;
    const opcode = BPF_LDX | mode | sizeCodes[size];
    this.#emit({ opcode, dst, src: place.base, offset: place.offset });
    if (isExtended && mode === BPF_MEM) this.#extendSign(dst, size * 8);
  }

  #store(node: Node, { size, offset }: Of<"store">): void {
    const [pointer, value] = readInputs(node) as [Node, Node];
    const place = this.#place(pointer, offset);
    const mayBeImmediate =
      this.target.contextImmediates || rootOf(pointer).operation.kind !== "parameter";
    if (value.operation.kind === "constant" && mayBeImmediate) {
      const imm = immediateOf(BigInt.asIntN(size * 8, value.operation.value), false);
      if (imm !== undefined) {
        const opcode = BPF_ST | BPF_MEM | sizeCodes[size];
        this.#emit({ opcode, dst: place.base, offset: place.offset, imm });
        return;
      }
    }
    const src = this.registerOf(value);
    const opcode = BPF_STX | BPF_MEM | sizeCodes[size];
    this.#emit({ opcode, dst: place.base, src, offset: place.offset });
  }

  #atomic(node: Node, { operator, size, offset }: Of<"atomic">): void {
    const [pointer, second, third] = node.inputs as [Node, Node, Node | undefined];
    const value = third ?? second;
    // The effect itself is one use.
    const hasResult = this.#uses.count(node) > 1;
    if (!this.target.atomicFetch && (hasResult || operator !== "add")) {
      throw new TargetError(`atomic ${operator} requires Linux 5.12`, node.position);
    }
    const place = this.#place(pointer, offset);
    const opcode = BPF_STX | BPF_ATOMIC | sizeCodes[size];
    const fields = { opcode, dst: place.base, offset: place.offset };
    if (operator === "compareExchange") {
      const src = this.registerOf(value);
      this.into(0, second);
      this.#emit({ ...fields, src, imm: BPF_CMPXCHG });
      if (hasResult) this.move(this.#define(node), 0);
      return;
    }
    if (!hasResult && operator !== "exchange") {
      this.#emit({ ...fields, src: this.registerOf(value), imm: atomicCodes[operator] });
      return;
    }
    const src = this.#define(node);
    this.into(src, value);
    this.#emit({ ...fields, src, imm: atomicCodes[operator] | BPF_FETCH });
  }

  #call(node: Node, fields: Partial<Machine>): void {
    const { inputs } = node;
    // Constants come last, so that their registers are free for longer.
    for (const isLast of [false, true]) {
      for (const [index, input] of inputs.entries()) {
        if ((input.operation.kind === "constant") === isLast) this.into(index + 1, input);
      }
    }
    this.#emit({ ...fields, opcode: CALL, argumentCount: inputs.length });
    if (this.#uses.count(node) > 1) this.move(this.#define(node), 0);
  }

  /** Returns the end for a comparison, after loading its operands. */
  #branch(comparison: Comparison, then: MachineBlock, otherwise: MachineBlock): MachineEnd {
    let [left, right] = comparison.inputs;
    let { operator } = comparison;
    if (left.operation.kind === "constant" && right.operation.kind !== "constant") {
      [left, right] = [right, left];
      operator = exchanged[operator];
    }
    const is32 = comparison.width === 32;
    const constant = right.operation.kind === "constant" ? right.operation.value : undefined;
    const imm = constant === undefined ? undefined : immediateOf(constant, is32);
    return {
      kind: "branch",
      operator,
      is32,
      left: this.registerOf(left),
      right: imm === undefined ? this.registerOf(right) : -1,
      imm: imm ?? 0,
      then,
      else: otherwise,
      position: this.#position,
    };
  }

  /** Returns the end that leaves a loop after millions of iterations. */
  #mayGoto(then: MachineBlock, otherwise: MachineBlock): MachineEnd {
    if (!this.target.mayGoto)
      throw new TargetError("loops this long require Linux 6.9", this.#position);
    return {
      kind: "branch",
      operator: "mayGoto",
      is32: false,
      left: FRAME,
      right: -1,
      imm: 0,
      then,
      else: otherwise,
      position: this.#position,
    };
  }

  #end(block: Block): void {
    const { end } = block;
    if (end?.kind === "return") {
      this.#position = end.inputs[0].position ?? this.#position;
      this.#exit(end.inputs[0]);
    } else if (end?.kind === "jump") {
      this.#transfer(block, end.target, 0);
      const target = this.#machineBlocks.get(end.target) as MachineBlock;
      this.#current.end = { kind: "jump", target };
    } else if (end?.kind === "branch" || end?.kind === "mayGoto") {
      const edges = [this.#newBlock(), this.#newBlock()] as const;
      const last = this.#current;
      if (end.kind === "branch") {
        const comparison = fusedComparison(end);
        this.#position = comparison.inputs[0].position ?? this.#position;
        last.end = this.#branch(comparison, ...edges);
      } else last.end = this.#mayGoto(...edges);
      const targets = end.kind === "branch" ? [end.then, end.else] : [end.exit, end.next];
      for (const [index, target] of targets.entries()) {
        const isSecond = index === 1 && targets[0] === targets[1];
        this.#start(edges[index] as MachineBlock);
        this.#transfer(block, target, isSecond ? 1 : 0);
        const next = this.#machineBlocks.get(target) as MachineBlock;
        this.#current.end = { kind: "jump", target: next };
      }
    } else this.#exit(undefined);
  }

  /** Copies the inputs of the phis of a block on one of the edges to it. */
  #transfer(from: Block, to: Block, occurrence: number): void {
    if (to.phis.length === 0) return;
    let index = to.predecessors.indexOf(from);
    if (occurrence === 1) index = to.predecessors.indexOf(from, index + 1);
    for (const phi of to.phis) {
      if (this.#isNeeded(phi))
        this.into(this.#transfers[phi.id] as number, phi.inputs[index] as Node);
    }
  }
}

function isOffset(offset: number): boolean {
  return offset >= -INT16_MAX - 1 && offset <= INT16_MAX;
}

/** Returns a constant as an immediate, if it is one. Operations on 32 bits ignore the high half. */
function immediateOf(value: bigint, is32: boolean): number | undefined {
  const low = BigInt.asIntN(32, value);
  return is32 || low === value ? Number(low) : undefined;
}
