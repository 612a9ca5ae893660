import { expect, test } from "bun:test";
import { Intervals, isExactArithmetic } from "../../../src/compiler/ir/intervals.ts";
import {
  type Block,
  type IrFunction,
  type Node,
  printFunction,
  type Range,
} from "../../../src/compiler/ir/ir.ts";
import { prepareLoops } from "../../../src/compiler/ir/loops.ts";
import { analyseRanges } from "../../../src/compiler/ir/ranges.ts";
import { repetitions } from "../../support/effort.ts";
import { anySeed, randomNumbers } from "../../support/random_numbers.ts";
import { interpret } from "./interpret.ts";
import { RandomFunctions } from "./random_ir.ts";

const edges = [0, 1, 2, 3, 7, 8, 10, 31, 32, 63, 64, 100, 127, 128, 255, 32768, 65535];
const greatEdges = [2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 62n, 2n ** 63n - 1n];

/** Returns a number that is near an end of a type, or any. */
function anyValue(random: (bound: number) => number): bigint {
  const near = BigInt(random(3)) - 1n;
  const sign = random(2) === 0 ? 1n : -1n;
  if (random(3) === 0) return sign * (greatEdges[random(greatEdges.length)]! + near);
  if (random(3) === 0) return BigInt(random(2 ** 32)) * BigInt(random(2 ** 31)) * sign;
  return sign * (BigInt(edges[random(edges.length)]!) + near);
}

function isIn(value: bigint, { min, max }: Range): boolean {
  return (min === -Infinity || value >= BigInt(min)) && (max === Infinity || value <= BigInt(max));
}

/** Returns the value of a source that fits to its type. */
function sourceOf(node: Node, random: (bound: number) => number): bigint {
  const { operation } = node;
  if (operation.kind !== "load") return anyValue(random);
  const bits = operation.size * 8;
  return operation.signed
    ? BigInt.asIntN(bits, anyValue(random))
    : BigInt.asUintN(bits, anyValue(random));
}

/** Runs a function with random inputs, and returns a description of the first value that is outside of its range. */
function violationIn(
  fn: IrFunction,
  random: (bound: number) => number,
  rangeOf: (node: Node, block: Block) => Range | undefined,
  mayOverflow: boolean,
): string | undefined {
  let violation: string | undefined;
  const values = new Map<Node, bigint>();
  const check = (node: Node, block: Block, value: bigint) => {
    const range = rangeOf(node, block);
    if (range !== undefined && isIn(value, range)) return true;
    violation ??= `%${node.id} is ${value} in b${block.id}, not ${range?.min} to ${range?.max}`;
    return false;
  };
  interpret(fn, {
    parameters: [anyValue(random), BigInt(random(201) - 100)],
    source: (node) => sourceOf(node, random),
    maxBlocks: 400,
    enter(block) {
      // Also what conditions say about values that were computed before.
      for (const [node, value] of values) {
        if (violation === undefined && !isStale(node, block)) check(node, block, value);
      }
    },
    observe(node, value) {
      if (violation !== undefined) return false;
      if (isExactArithmetic(node)) {
        const exact = exactValue(node, values);
        const isSafe = exact <= 2n ** 53n - 1n && exact >= -(2n ** 53n) + 1n;
        if (!isSafe && !mayOverflow) violation = `%${node.id} is ${exact}`;
        if (!isSafe) return false;
      }
      values.set(node, value);
      return check(node, node.block, value);
    },
  });
  return violation;

  /** True for a value of the block that is entered: that of its phis is not yet known. */
  function isStale(node: Node, block: Block): boolean {
    return node.block === block || !dominators.get(block)!.has(node.block);
  }
}

let dominators = new Map<Block, Set<Block>>();

function findDominators(fn: IrFunction): void {
  dominators = new Map();
  for (const block of fn.blocks) {
    const known = block.predecessors.flatMap((from) => dominators.get(from) ?? []);
    const [first, ...others] = known;
    const common = new Set(
      [...(first ?? [])].filter((other) => others.every((set) => set.has(other))),
    );
    dominators.set(block, common.add(block));
  }
}

function exactValue(node: Node, values: ReadonlyMap<Node, bigint>): bigint {
  const [left, right] = node.inputs.map((input) => values.get(input)!) as [bigint, bigint];
  if (node.operation.kind !== "binary") return 0n;
  switch (node.operation.operator) {
    case "add":
      return left + right;
    case "sub":
      return left - right;
    case "mul":
      return left * right;
    default:
      return left << (right & 63n);
  }
}

test("values of random functions are in their ranges", () => {
  const seed = Number(process.env["SEED"] ?? anySeed());
  const random = randomNumbers(seed);
  const functions = new RandomFunctions(random);
  let bounded = 0;
  for (let count = 0; count < repetitions(500, 50); count++) {
    const fn = functions.make();
    findDominators(fn);
    const intervals = new Intervals(fn);
    for (let run = 0; run < 12; run++) {
      const violation = violationIn(
        fn,
        random,
        (node, block) => (intervals.isReachable(block) ? intervals.at(node, block) : undefined),
        true,
      );
      if (violation !== undefined) {
        expect(`seed ${seed}, function ${count}: ${violation}\n${printFunction(fn)}`).toBe("");
      }
    }
    bounded += intervals.bounds.size;
  }
  expect(bounded).toBeGreaterThan(repetitions(500, 50) / 10);
});

test("functions that are accepted never leave the safe integers, and their loops end", () => {
  const seed = Number(process.env["SEED"] ?? anySeed());
  const random = randomNumbers(seed);
  const functions = new RandomFunctions(random);
  let accepted = 0;
  for (let count = 0; count < repetitions(500, 50); count++) {
    const fn = functions.make();
    findDominators(fn);
    const refuse = (_: unknown, message: string): never => {
      throw new RangeError(message);
    };
    try {
      analyseRanges(fn, refuse, { mayGoto: random(2) === 0 });
    } catch (error) {
      if (error instanceof RangeError) continue;
      throw error;
    }
    accepted++;
    const intervals = new Intervals(fn);
    for (let run = 0; run < 6; run++) {
      const iterations = new Map<Block, number>();
      const parameters = [anyValue(random), BigInt(random(201) - 100)];
      const violation = violationIn(fn, random, (node, block) => intervals.at(node, block), false);
      if (violation !== undefined) {
        expect(`seed ${seed}, function ${count}: ${violation}\n${printFunction(fn)}`).toBe("");
      }
      const made = new Map<string, bigint>();
      const runOnce = () => {
        let loads = 0;
        return interpret(fn, {
          parameters,
          source(node) {
            const key = `${node.id} ${loads++}`;
            const value = made.get(key) ?? sourceOf(node, random);
            made.set(key, value);
            return value;
          },
          maxBlocks: 20_000,
          enter(block, from) {
            if (block.loop?.maxIterations === undefined) return;
            const isAgain =
              from !== undefined && fn.blocks.indexOf(from) >= fn.blocks.indexOf(block);
            const now = isAgain ? iterations.get(block)! + 1 : 0;
            iterations.set(block, now);
            if (now > block.loop.maxIterations) {
              throw new Error(
                `seed ${seed}, function ${count}: ${now} iterations\n${printFunction(fn)}`,
              );
            }
          },
        });
      };
      if (run > 0) continue;
      const before = runOnce();
      prepareLoops(fn);
      iterations.clear();
      // Opaque nodes, counters and may_goto change nothing. Loads are numbered in the order in which they run.
      if (before !== undefined)
        expect({ seed, count, result: runOnce() }).toEqual({ seed, count, result: before });
      break;
    }
  }
  expect(accepted).toBeGreaterThan(repetitions(500, 50) / 5);
});
