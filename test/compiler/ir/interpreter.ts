/** Runs functions of the intermediate representation, to compare with what the kernel does. Memory is one buffer of bytes. */

import type { Block, IrFunction, Node, Slot, Width } from "../../../src/compiler/ir/ir.ts";

/** Addresses of the value of the map and of the stack in the interpreter. They are far apart, and no valid numbers of the other. */
const MAP_ADDRESS = 0x1000_0000n;
const STACK_ADDRESS = 0x7000_0000n;

const unsigned = (value: bigint, bits: number) => BigInt.asUintN(bits, value);
const signed = (value: bigint, bits: number) => BigInt.asIntN(bits, value);

/** Runs a function with a map's value, which it may change. Returns the result as an unsigned number of 64 bits. */
export function interpret(fn: IrFunction, memory: Uint8Array, args: readonly bigint[]): bigint {
  return new Interpreter(memory).run(fn, args, 0);
}

class Interpreter {
  readonly #memory: DataView;
  readonly #stack = new DataView(new ArrayBuffer(4096));

  constructor(memory: Uint8Array) {
    this.#memory = new DataView(memory.buffer, memory.byteOffset, memory.length);
  }

  run(fn: IrFunction, args: readonly bigint[], frame: number): bigint {
    const values = new Map<Node, bigint>();
    const slots = new Map<Slot, number>();
    let next = frame;
    const slotAt = (slot: Slot) => {
      let at = slots.get(slot);
      if (at === undefined) {
        at = next;
        next += 64;
        slots.set(slot, at);
      }
      return STACK_ADDRESS + BigInt(at);
    };
    let block: Block = fn.entry;
    let previous: Block | undefined;
    let isSecond = false;
    for (let steps = 0; steps < 100_000; steps++) {
      let from = previous === undefined ? -1 : block.predecessors.indexOf(previous);
      if (isSecond) from = block.predecessors.indexOf(previous as Block, from + 1);
      const phis = block.phis.map((phi) => values.get(phi.inputs[from] as Node) as bigint);
      for (const [i, phi] of block.phis.entries()) values.set(phi, phis[i] as bigint);
      for (const node of block.nodes) {
        const inputs = node.inputs.map((input) => {
          const value = values.get(input);
          if (value === undefined) throw new Error(`%${input.id} has no value in %${node.id}`);
          return value;
        });
        const { operation } = node;
        const result =
          operation.kind === "parameter"
            ? (args[operation.index] as bigint)
            : operation.kind === "slot"
              ? slotAt(operation.slot)
              : operation.kind === "callFunction"
                ? this.run(operation.function, inputs, frame + 1024)
                : this.#evaluate(node, inputs);
        values.set(node, unsigned(result, 64));
      }
      const { end } = block;
      previous = block;
      isSecond = false;
      if (end?.kind === "return") return values.get(end.inputs[0]) as bigint;
      if (end?.kind === "jump") block = end.target;
      else if (end?.kind === "branch") {
        const [left, right] = end.inputs.map((input) => values.get(input) as bigint);
        const isTrue = compare(end.operator, left as bigint, right as bigint, end.width);
        isSecond = !isTrue && end.then === end.else;
        block = isTrue ? end.then : end.else;
      } else return 0n;
    }
    throw new Error("the function does not end");
  }

  #at(address: bigint): readonly [DataView, number] {
    if (address >= STACK_ADDRESS) return [this.#stack, Number(address - STACK_ADDRESS)];
    return [this.#memory, Number(address - MAP_ADDRESS)];
  }

  #read(address: bigint, size: number): bigint {
    const [view, at] = this.#at(address);
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at + i));
    return value;
  }

  #write(address: bigint, size: number, value: bigint): void {
    const [view, at] = this.#at(address);
    for (let i = 0; i < size; i++) {
      view.setUint8(at + i, Number(unsigned(value >> BigInt(8 * i), 8)));
    }
  }

  #evaluate({ operation }: Node, inputs: readonly bigint[]): bigint {
    const [first = 0n, second = 0n, third = 0n] = inputs;
    switch (operation.kind) {
      case "constant":
        return operation.value;
      case "mapValue":
        return MAP_ADDRESS + BigInt(operation.offset);
      case "binary":
        return binary(operation.operator, first, second, operation.width);
      case "extend":
        return operation.signed ? signed(first, operation.bits) : unsigned(first, operation.bits);
      case "swap": {
        let result = 0n;
        for (let i = 0; i < operation.bits; i += 8) {
          result = (result << 8n) | unsigned(first >> BigInt(i), 8);
        }
        return result;
      }
      case "compare":
        return compare(operation.operator, first, second, operation.width) ? 1n : 0n;
      case "opaque":
        return first;
      case "bound": {
        const value = signed(first, 64);
        if (value < operation.min || value > operation.max) throw new Error("wrong bound");
        return first;
      }
      case "address":
        return first + second + BigInt(operation.offset);
      case "load": {
        const value = this.#read(first + BigInt(operation.offset), operation.size);
        return operation.signed ? signed(value, operation.size * 8) : value;
      }
      case "store":
        this.#write(first + BigInt(operation.offset), operation.size, second);
        return 0n;
      case "atomic": {
        const { operator, size, offset } = operation;
        const address = first + BigInt(offset);
        const old = this.#read(address, size);
        if (operator === "exchange") this.#write(address, size, second);
        else if (operator !== "compareExchange") {
          this.#write(address, size, binary(operator, old, second, 64));
        } else if (old === unsigned(second, size * 8)) this.#write(address, size, third);
        return old;
      }
      case "callHelper":
        return 0n;
      default:
        throw new Error(`cannot interpret ${operation.kind}`);
    }
  }
}

function binary(operator: string, left: bigint, right: bigint, width: Width): bigint {
  const [a, b] = [unsigned(left, width), unsigned(right, width)];
  const [sa, sb] = [signed(left, width), signed(right, width)];
  const shift = b & BigInt(width - 1);
  const results: Record<string, () => bigint> = {
    add: () => a + b,
    sub: () => a - b,
    mul: () => a * b,
    and: () => a & b,
    or: () => a | b,
    xor: () => a ^ b,
    lsh: () => a << shift,
    rsh: () => a >> shift,
    arsh: () => sa >> shift,
    div: () => (b === 0n ? 0n : a / b),
    mod: () => (b === 0n ? a : a % b),
    sdiv: () => (b === 0n ? 0n : sa / sb),
    smod: () => (b === 0n ? a : sa % sb),
  };
  return unsigned((results[operator] as () => bigint)(), width);
}

function compare(operator: string, left: bigint, right: bigint, width: Width): boolean {
  const isSigned = operator.length === 3 && operator.startsWith("s") && operator !== "set";
  const [a, b] = isSigned
    ? [signed(left, width), signed(right, width)]
    : [unsigned(left, width), unsigned(right, width)];
  switch (isSigned ? operator.slice(1) : operator) {
    case "eq":
      return a === b;
    case "ne":
      return a !== b;
    case "lt":
      return a < b;
    case "le":
      return a <= b;
    case "gt":
      return a > b;
    case "ge":
      return a >= b;
    default:
      return (a & b) !== 0n;
  }
}
