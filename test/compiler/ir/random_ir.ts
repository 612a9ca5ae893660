/** @module Random functions of the intermediate representation. */
import { Builder } from "../../../src/compiler/ir/builder.ts";
import {
  type BinaryOperator,
  type Block,
  type CompareOperator,
  IrFunction,
  type Loop,
  type Node,
} from "../../../src/compiler/ir/ir.ts";

const operators: readonly BinaryOperator[] = [
  ...(["add", "add", "add", "sub", "sub", "mul", "and", "or", "xor"] as const),
  ...(["lsh", "rsh", "arsh", "div", "mod", "sdiv", "smod"] as const),
];
const comparisons: readonly CompareOperator[] = [
  ...(["eq", "ne", "lt", "le", "gt", "ge", "slt", "sle", "sgt", "sge", "set"] as const),
];

/** Takes the mark of numbers from what is computed from other values. */
function correctNumbers(fn: IrFunction): void {
  for (let isStable = false; !isStable;) {
    isStable = true;
    for (const block of fn.blocks) {
      for (const node of [...block.phis, ...block.nodes]) {
        const { kind } = node.operation;
        const isComputed = kind === "phi" || (kind === "binary" && node.operation.width === 64);
        if (!node.isNumber || !isComputed || node.inputs.every(({ isNumber }) => isNumber))
          continue;
        node.isNumber = false;
        isStable = false;
      }
    }
  }
}

/** Makes functions of structured control flow. Variables are nodes; each statement may give one a new value. */
export class RandomFunctions {
  readonly #random: (bound: number) => number;
  #builder!: Builder;
  #variables: Node[] = [];
  #room = 0;

  constructor(random: (bound: number) => number) {
    this.#random = random;
  }

  make(): IrFunction {
    const fn = new IrFunction("random", 2);
    const builder = new Builder(fn);
    this.#builder = builder;
    this.#room = 12 + this.#random(20);
    this.#variables = [
      builder.add({ kind: "parameter", index: 0 }),
      builder.number(builder.add({ kind: "parameter", index: 1 }), { min: -100, max: 100 }),
      builder.number(builder.constant(this.#random(10))),
      builder.constant(this.#random(3)),
      this.#load(),
    ];
    this.#statements(0);
    builder.return(this.#pick());
    correctNumbers(fn);
    return fn;
  }

  #pick(): Node {
    return this.#variables[this.#random(this.#variables.length)]!;
  }

  #constant(): Node {
    const builder = this.#builder;
    const few = [
      0,
      1,
      2,
      3,
      4,
      7,
      8,
      10,
      16,
      31,
      32,
      63,
      64,
      100,
      255,
      -1,
      -2,
      -8,
      65535,
      2 ** 31,
      -(2 ** 31),
    ];
    return builder.number(builder.constant(few[this.#random(few.length)]!));
  }

  #load(): Node {
    const builder = this.#builder;
    const size = ([1, 2, 4, 8] as const)[this.#random(4)]!;
    const node = builder.load(this.#variables[0] ?? builder.constant(0), 0, size, {
      signed: this.#random(3) === 0,
    });
    if (size < 8) builder.number(node);
    return node;
  }

  #value(): Node {
    const builder = this.#builder;
    const left = this.#pick();
    const right = this.#random(2) === 0 ? this.#constant() : this.#pick();
    switch (this.#random(9)) {
      case 0:
        return this.#load();
      case 1: {
        const bits = ([8, 16, 32] as const)[this.#random(3)]!;
        return builder.number(builder.extend(left, bits, this.#random(2) === 0));
      }
      case 2:
        return builder.number(builder.compare(this.#comparison(), left, right, this.#width()));
      case 3:
        return this.#constant();
      case 4: {
        const operator = operators[this.#random(operators.length)]!;
        const narrow = builder.binary(operator, left, right, 32);
        return this.#random(2) === 0
          ? narrow
          : builder.number(builder.extend(narrow, 32, this.#random(2) === 0));
      }
      default: {
        const operator = operators[this.#random(operators.length)]!;
        const node = builder.binary(operator, left, right);
        // Of negative numbers, results of the others are greater than numbers can be.
        node.isNumber =
          left.isNumber &&
          right.isNumber &&
          !["rsh", "div", "mod", "and", "or", "xor"].includes(operator);
        return node;
      }
    }
  }

  #comparison(): CompareOperator {
    return comparisons[this.#random(comparisons.length)]!;
  }

  #width(): 32 | 64 {
    return this.#random(4) === 0 ? 32 : 64;
  }

  #statements(depth: number): void {
    for (let count = 1 + this.#random(5); count > 0 && this.#room > 0; count--) {
      this.#room--;
      const choice = this.#random(10);
      if (choice < 5 || depth > 3)
        this.#variables[this.#random(this.#variables.length)] = this.#value();
      else if (choice < 8) this.#if(depth);
      else this.#loop(depth);
    }
  }

  #branch(then: Block, otherwise: Block): void {
    const right = this.#random(2) === 0 ? this.#constant() : this.#pick();
    this.#builder.branchOn(this.#comparison(), this.#pick(), right, then, otherwise, this.#width());
  }

  /** Joins the variables of the predecessors of a block. */
  #join(block: Block, from: readonly Node[][]): void {
    const builder = this.#builder;
    this.#variables = from[0]!.map((first, index) => {
      const inputs = from.map((variables) => variables[index]!);
      if (inputs.every((input) => input === first)) return first;
      const phi = builder.phi(block, inputs);
      phi.isNumber = inputs.every(({ isNumber }) => isNumber);
      return phi;
    });
  }

  #if(depth: number): void {
    const builder = this.#builder;
    const [then, otherwise, after] = [
      builder.fn.newBlock(),
      builder.fn.newBlock(),
      builder.fn.newBlock(),
    ];
    const before = this.#variables;
    this.#branch(then, otherwise);
    const ends: Node[][] = [];
    for (const block of [then, otherwise]) {
      builder.continueIn(block);
      this.#variables = [...before];
      if (block === then || this.#random(2) === 0) this.#statements(depth + 1);
      ends.push(this.#variables);
      builder.jump(after);
    }
    builder.continueIn(after);
    this.#join(after, ends);
  }

  #loop(depth: number): void {
    const builder = this.#builder;
    const loop: Loop = {
      position: { source: 0, start: 0, end: 0 },
      parent: builder.loop,
      maxIterations: undefined,
    };
    const [header, body, latch, exit] = [0, 0, 0, 0].map(() => builder.fn.newBlock()) as [
      Block,
      Block,
      Block,
      Block,
    ];
    const start = this.#random(3) === 0 ? this.#pick() : this.#constant();
    const initial = [...this.#variables, start];
    builder.jump(header);
    header.loop = loop;
    builder.continueIn(header, true);
    builder.loop = loop;
    const phis = initial.map((input) => {
      const phi = builder.phi(header, [input]);
      phi.isNumber = input.isNumber;
      return phi;
    });
    this.#variables = [...phis];
    const counter = phis.at(-1)!;
    const isDoWhile = this.#random(4) === 0;
    const test = (then: Block) => {
      const limit = this.#random(2) === 0 ? this.#pick() : this.#constant();
      const operator = comparisons[this.#random(3) === 0 ? this.#random(11) : 2 + this.#random(8)]!;
      builder.branchOn(
        operator,
        this.#random(5) === 0 ? this.#pick() : counter,
        limit,
        then,
        exit,
        this.#width(),
      );
    };
    const exits: Node[][] = [];
    if (isDoWhile) builder.jump(body);
    else {
      test(body);
      exits.push([...this.#variables.slice(0, -1)]);
    }
    builder.continueIn(body);
    this.#statements(depth + 1);
    if (this.#random(3) === 0) {
      const on = builder.fn.newBlock();
      this.#branch(exit, on);
      exits.push([...this.#variables.slice(0, -1)]);
      builder.continueIn(on);
    }
    if (this.#random(3) === 0) {
      // An accumulator.
      const index = this.#random(this.#variables.length - 1);
      const node = builder.binary(
        this.#random(3) === 0 ? "sub" : "add",
        this.#variables[index]!,
        this.#pick(),
      );
      node.isNumber = node.inputs.every(({ isNumber }) => isNumber);
      this.#variables[index] = node;
    }
    let next: Node;
    const step = builder.number(builder.constant(1 + this.#random(3)));
    switch (this.#random(6)) {
      case 0:
        next = builder.binary("sub", counter, step);
        break;
      case 1:
        next = builder.binary(
          (["rsh", "sdiv", "div", "mul", "lsh", "arsh"] as const)[this.#random(6)]!,
          counter,
          step,
        );
        break;
      case 2:
        next = builder.binary("and", counter, builder.binary("sub", counter, 1));
        break;
      default:
        next = builder.binary("add", counter, step);
    }
    const { operation } = next;
    const isUnsigned =
      operation.kind === "binary" && ["rsh", "div", "and"].includes(operation.operator);
    next.isNumber = counter.isNumber && !isUnsigned;
    if (this.#random(4) === 0)
      next = builder.number(builder.extend(next, 32, this.#random(2) === 0));
    if (isDoWhile) {
      this.#variables[this.#variables.length - 1] = next;
      test(latch);
      exits.push([...this.#variables.slice(0, -1)]);
    } else builder.jump(latch);
    builder.continueIn(latch);
    const ends = [...this.#variables.slice(0, -1), next];
    builder.jump(header);
    for (const [index, phi] of phis.entries()) {
      phi.inputs.push(ends[index]!);
      phi.isNumber &&= ends[index]!.isNumber;
    }
    builder.loop = loop.parent;
    builder.continueIn(exit);
    this.#join(exit, exits);
  }
}
