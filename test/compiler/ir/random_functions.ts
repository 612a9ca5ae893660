/** Makes random functions in the intermediate representation. */

import type { MapReference } from "../../../src/asm/instruction.ts";
import { Builder } from "../../../src/compiler/ir/builder.ts";
import {
  type AccessSize,
  type AtomicOperator,
  type BinaryOperator,
  type CompareOperator,
  IrFunction,
  type Node,
  type Slot,
  type Width,
} from "../../../src/compiler/ir/ir.ts";

/** Layout of the map's value: numbers that functions read, numbers that they write, and memory that they read and write. */
export const layout = {
  inputs: 0,
  inputCount: 8,
  outputs: 64,
  outputCount: 12,
  scratch: 160,
  size: 256,
};

const binaries: readonly BinaryOperator[] = [
  "add",
  "sub",
  "mul",
  "and",
  "or",
  "xor",
  "lsh",
  "rsh",
  "arsh",
  "div",
  "mod",
  "sdiv",
  "smod",
];
const comparisons: readonly CompareOperator[] = [
  "eq",
  "ne",
  "lt",
  "le",
  "gt",
  "ge",
  "slt",
  "sle",
  "sgt",
  "sge",
  "set",
];
const atomics: readonly AtomicOperator[] = [
  "add",
  "and",
  "or",
  "xor",
  "exchange",
  "compareExchange",
];
const constants: readonly bigint[] = [
  0n,
  1n,
  -1n,
  2n,
  7n,
  255n,
  -128n,
  65_535n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  -0x8000_0000n,
  -0x8000_0001n,
  0x1_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  -0x8000_0000_0000_0000n,
  0x1234_5678_9abc_def0n,
];

/** Options of random functions. */
export interface RandomOptions {
  readonly map: MapReference;
  /** Returns a number below the bound. */
  readonly random: (bound: number) => number;
  /** About the number of statements. */
  readonly size: number;
  /** Functions that may be called. */
  readonly callees?: readonly IrFunction[];
  /** True if atomic operations may have results. */
  readonly hasAtomics: boolean;
  readonly parameterCount?: number;
}

/** Returns a random function that ends. Its variables are written to the map before it returns. */
export function randomFunction(name: string, options: RandomOptions): IrFunction {
  return new Generator(name, options).run();
}

class Generator {
  readonly #builder: Builder;
  readonly #options: RandomOptions;
  readonly #variables: Node[] = [];
  readonly #slots: Slot[] = [];
  #budget: number;
  #iterations = 1;

  constructor(name: string, options: RandomOptions) {
    this.#options = options;
    this.#budget = options.size;
    this.#builder = new Builder(new IrFunction(name, options.parameterCount ?? 1));
  }

  #random(bound: number): number {
    return this.#options.random(bound);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#random(list.length)] as T;
  }

  run(): IrFunction {
    const b = this.#builder;
    const { parameterCount } = this.#options;
    for (let i = 0; i < (parameterCount ?? 0); i++) {
      this.#variables.push(b.add({ kind: "parameter", index: i }));
    }
    const count = 2 + this.#random(layout.outputCount - 6);
    for (let i = 0; i < count; i++) this.#variables.push(this.#loadInput());
    for (let i = 0; i < 2; i++) {
      const slot: Slot = { size: 32, align: 8, name: `slot${i}` };
      this.#slots.push(slot);
      for (let at = 0; at < 32; at += 8) b.store(b.slot(slot), at, 8, this.#value());
    }
    while (this.#budget > 0 && b.isReachable) this.#statement(0);
    if (b.isReachable) this.#return();
    return b.fn;
  }

  #return(): void {
    const b = this.#builder;
    const outputs = b.add({ kind: "mapValue", map: this.#options.map, offset: layout.outputs });
    for (const [i, variable] of this.#variables.entries()) b.store(outputs, i * 8, 8, variable);
    b.return(this.#value());
  }

  #loadInput(): Node {
    const b = this.#builder;
    const size = this.#pick<AccessSize>([1, 2, 4, 8, 8, 8]);
    const offset = this.#random(layout.inputCount) * 8;
    const isLeft = this.#random(2) === 0;
    const { map } = this.#options;
    const base = b.add({ kind: "mapValue", map, offset: isLeft ? offset : 0 });
    return b.load(base, isLeft ? 0 : offset, size, { signed: this.#random(3) === 0 });
  }

  #value(): Node {
    if (this.#random(4) === 0) return this.#builder.constant(this.#pick(constants));
    return this.#pick(this.#variables);
  }

  #set(value: Node): void {
    const { length } = this.#variables;
    if (length < layout.outputCount && this.#random(6) === 0) this.#variables.push(value);
    else this.#variables[this.#random(length)] = value;
  }

  #width(): Width {
    return this.#random(2) === 0 ? 32 : 64;
  }

  /** Returns an address of 8 bytes that can be read and written. */
  #place(isSlot = this.#random(2) === 0): Node {
    const b = this.#builder;
    const base = isSlot
      ? b.slot(this.#pick(this.#slots))
      : b.add({ kind: "mapValue", map: this.#options.map, offset: layout.scratch });
    if (this.#random(3) > 0) return b.address(base, this.#random(4) * 8);
    const offset = this.#random(2) * 8;
    // The verifier forgets the range of a remainder; the masked number is known to it.
    const [index, max] =
      this.#random(2) === 0
        ? [b.binary("mod", this.#value(), 3), 2]
        : [b.binary("and", this.#value(), 1), 1];
    const bounded = b.add({ kind: "bound", min: 0, max }, [index]);
    // The verifier rejects reads of the stack at places where it could hold pointers, so slots are only read at constant places.
    if (isSlot) return b.address(base, 8 * (max - 1));
    return b.address(base, offset, b.binary("lsh", bounded, 3));
  }

  #statement(depth: number): void {
    const b = this.#builder;
    this.#budget--;
    const kind = this.#random(26);
    if (kind < 9) {
      const [left, right] = [this.#value(), this.#value()];
      this.#set(b.binary(this.#pick(binaries), left, right, this.#width()));
    } else if (kind < 11) {
      const bits = this.#pick<8 | 16 | 32>([8, 16, 32]);
      this.#set(b.extend(this.#value(), bits, this.#random(2) === 0));
    } else if (kind < 12) {
      const bits = this.#pick<16 | 32 | 64>([16, 32, 64]);
      this.#set(b.add({ kind: "swap", bits }, [this.#value()]));
    } else if (kind < 14) {
      const [left, right] = [this.#value(), this.#value()];
      this.#set(b.compare(this.#pick(comparisons), left, right, this.#width()));
    } else if (kind < 15) this.#set(b.add({ kind: "opaque" }, [this.#value()]));
    else if (kind < 16) {
      // The ranges of some values are known.
      const [value, max] = [this.#value(), this.#pick([1, 127, 255, 0x7fff_ffff])];
      const isKnown = this.#random(3) > 0;
      const masked = isKnown ? b.binary("and", value, max) : this.#loadInput();
      if (isKnown) b.number(masked, { min: 0, max });
      const bits = this.#pick<8 | 16 | 32>([8, 16, 32]);
      this.#set(this.#random(2) === 0 ? b.extend(masked, bits, this.#random(2) === 0) : masked);
    } else if (kind < 18) {
      const size = this.#pick<AccessSize>([1, 2, 4, 8]);
      const offset = this.#random(8 / size) * size;
      b.store(this.#place(), offset, size, this.#value());
    } else if (kind < 19) {
      const size = this.#pick<AccessSize>([1, 2, 4, 8]);
      const offset = this.#random(8 / size) * size;
      this.#set(b.load(this.#place(), offset, size, { signed: this.#random(2) === 0 }));
    } else if (kind < 20) this.#atomic();
    else if (kind < 21) {
      const unknown = b.callHelper("get_prandom_u32");
      this.#set(b.binary("or", b.binary("and", unknown, 0), this.#value()));
    } else if (kind < 22) this.#call();
    else if (kind < 25) this.#if(depth);
    else this.#loop(depth);
  }

  #atomic(): void {
    const b = this.#builder;
    const { hasAtomics } = this.#options;
    const operator = hasAtomics ? this.#pick(atomics) : "add";
    const size = this.#pick<4 | 8>([4, 8]);
    // The verifier of Linux 6.18 overlooks that atomic operations read the stack, and skips paths that differ in it.
    const inputs = [this.#place(false), this.#value()];
    if (operator === "compareExchange") {
      // Half of the exchanges take place.
      const pointer = inputs[0] as Node;
      const expected = this.#random(2) === 0 ? this.#value() : b.load(pointer, 0, size);
      inputs.splice(1, 0, expected);
    }
    const old = b.add({ kind: "atomic", operator, size, offset: 0 }, inputs);
    if (hasAtomics && this.#random(2) === 0) this.#set(old);
  }

  #call(): void {
    const { callees = [] } = this.#options;
    if (callees.length === 0 || this.#iterations > 2) return;
    const callee = this.#pick(callees);
    const inputs = Array.from({ length: callee.parameterCount }, () => this.#value());
    this.#set(this.#builder.add({ kind: "callFunction", function: callee }, inputs));
  }

  #if(depth: number): void {
    const b = this.#builder;
    if (depth > 2) return;
    const [then, otherwise, join] = [b.fn.newBlock(), b.fn.newBlock(), b.fn.newBlock()];
    const operator = this.#pick(comparisons);
    const [left, right] = [this.#value(), this.#value()];
    const hasElse = this.#random(3) > 0;
    const width = this.#width();
    const [first, second] = [this.#random(8) === 0 ? join : then, hasElse ? otherwise : join];
    if (this.#random(3) === 0) b.branch(b.compare(operator, left, right, width), first, second);
    else b.branchOn(operator, left, right, first, second, width);
    const before = [...this.#variables];
    // A branch with both ways to the same block has different values on them.
    const rotated = [...before.slice(1), before[0] as Node];
    const states = join.predecessors.map((_, i) => (i === 0 ? before : rotated));
    for (const block of [then, otherwise]) {
      if (block.predecessors.length === 0) continue;
      b.continueIn(block);
      this.#variables.splice(0, this.#variables.length, ...before);
      const count = this.#random(4);
      for (let i = 0; i < count && b.isReachable; i++) this.#statement(depth + 1);
      if (!b.isReachable) continue;
      if (this.#random(12) === 0) {
        this.#return();
        continue;
      }
      b.jump(join);
      states.push([...this.#variables]);
    }
    b.continueIn(join);
    if (b.isReachable) this.#join(join, states);
  }

  #join(block: ReturnType<IrFunction["newBlock"]>, states: readonly Node[][]): void {
    const b = this.#builder;
    const count = Math.min(...states.map(({ length }) => length));
    this.#variables.length = 0;
    for (let i = 0; i < count; i++) {
      const inputs = states.map((state) => state[i] as Node);
      const isSame = inputs.every((input) => input === inputs[0]);
      this.#variables.push(
        isSame && this.#random(4) > 0 ? (inputs[0] as Node) : b.phi(block, inputs),
      );
    }
  }

  #loop(depth: number): void {
    const b = this.#builder;
    const iterations = 1 + this.#random(4);
    if (depth > 2 || this.#iterations * iterations > 6) return;
    const [header, body, exit] = [b.fn.newBlock(), b.fn.newBlock(), b.fn.newBlock()];
    const start = b.constant(0);
    b.jump(header);
    b.continueIn(header, true);
    const counter = b.phi(header, [start]);
    const phis = this.#variables.map((variable) => b.phi(header, [variable]));
    this.#variables.splice(0, this.#variables.length, ...phis);
    b.branchOn("lt", counter, iterations, body, exit);
    b.continueIn(body);
    this.#iterations *= iterations;
    const count = 1 + this.#random(4);
    for (let i = 0; i < count && b.isReachable; i++) this.#statement(depth + 1);
    // Some loops swap variables, which needs a copy more than the variables have.
    if (this.#random(3) === 0) this.#variables.push(this.#variables.shift() as Node);
    this.#iterations /= iterations;
    if (b.isReachable) {
      const next = b.binary("add", counter, 1);
      b.jump(header);
      counter.inputs.push(next);
      for (const [i, phi] of phis.entries()) phi.inputs.push(this.#variables[i] as Node);
    }
    b.continueIn(exit);
    this.#variables.splice(0, this.#variables.length, ...phis);
  }
}
