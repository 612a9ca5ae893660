/** Tests of the optimizer: random functions do the same before and after. */
import { describe, expect, test } from "bun:test";
import { Builder } from "../../../src/compiler/ir/builder.ts";
import { IrFunction, type Node, printFunction, withCallees } from "../../../src/compiler/ir/ir.ts";
import { optimize } from "../../../src/compiler/ir/optimize.ts";
import { shareSlots } from "../../../src/compiler/ir/share_slots.ts";
import { repetitions } from "../../support/effort.ts";
import { anySeed, randomNumbers } from "../../support/random_numbers.ts";
import { checkFunction } from "./check_function.ts";
import { interpret } from "./interpreter.ts";
import { layout, randomFunction } from "./random_functions.ts";

/** Returns the number of the first function that does something else after a change; `undefined` if none does. */
function findDifference(
  seed: number,
  count: number,
  change: (fn: IrFunction) => void,
): string | undefined {
  for (let number = 0; number < count; number++) {
    const random = randomNumbers(seed + number);
    const fn = randomFunction("main", {
      map: "map",
      random,
      size: 5 + random(60),
      hasAtomics: true,
      parameterCount: 0,
    });
    const inputs = Array.from({ length: 4 }, () =>
      Uint8Array.from({ length: layout.size }, () =>
        random(3) === 0 ? random(256) : random(2) * 255,
      ),
    );
    const run = () =>
      inputs.map((input) => {
        const memory = input.slice();
        return [interpret(fn, memory, []), memory] as const;
      });
    const before = run();
    const listing = printFunction(fn);
    for (const each of withCallees(fn)) change(each);
    for (const each of withCallees(fn)) checkFunction(each);
    if (!Bun.deepEquals(run(), before)) {
      return `seed ${seed + number}\n${listing}\n${printFunction(fn)}`;
    }
  }
  return undefined;
}

describe("random functions do the same", () => {
  test("after optimization", () => {
    expect(findDifference(anySeed(), repetitions(1500, 50), optimize)).toBeUndefined();
  });

  test("after sharing room on the stack", () => {
    const change = (fn: IrFunction) => {
      optimize(fn);
      shareSlots(fn);
    };
    expect(findDifference(anySeed(), repetitions(500, 20), change)).toBeUndefined();
  });

  test("and a wrong optimizer is found", () => {
    const change = (fn: IrFunction) => {
      optimize(fn);
      for (const { nodes } of fn.blocks) {
        for (const { operation, inputs } of nodes) {
          if (operation.kind === "binary" && operation.operator === "sub") inputs.reverse();
        }
      }
    };
    expect(findDifference(1, 100, change)).toStartWith("seed");
  });
});

/** Returns the listing of an optimized function, without its first line. */
function optimized(build: (b: Builder, context: Node) => void): string[] {
  const fn = new IrFunction("main", 1);
  const b = new Builder(fn);
  build(b, b.add({ kind: "parameter", index: 0 }));
  optimize(fn);
  checkFunction(fn);
  return printFunction(fn)
    .split("\n")
    .slice(1)
    .map((line) => line.trim());
}

test("a test of a value that another test has chosen is skipped", () => {
  const lines = optimized((b, context) => {
    const [yes, no, join] = [b.fn.newBlock(), b.fn.newBlock(), b.fn.newBlock()];
    const [first, second] = [b.fn.newBlock(), b.fn.newBlock()];
    b.branchOn("eq", b.load(context, 0, 4), 5, yes, no);
    b.continueIn(yes);
    const one = b.constant(1);
    b.jump(join);
    b.continueIn(no);
    const zero = b.constant(0);
    b.jump(join);
    b.continueIn(join);
    b.branch(b.compare("ne", b.phi(join, [one, zero]), 0), first, second);
    b.continueIn(first);
    b.return(7);
    b.continueIn(second);
    b.return(8);
  });
  expect(lines.filter((line) => line.startsWith("branch"))).toHaveLength(1);
  expect(lines.some((line) => line.includes("phi"))).toBe(false);
});

test("a value that was stored on the stack is not read again, and the store is removed", () => {
  const lines = optimized((b, context) => {
    const slot = b.slot({ size: 8, align: 8, name: "value" });
    b.store(slot, 0, 8, b.load(context, 0, 4));
    b.return(b.load(slot, 0, 8));
  });
  expect(lines).toEqual(["b0:", "%0 = parameter index=0", "%2 = load size=4 %0", "return %2"]);
});

test("operations of constants are computed, and equal values are computed once", () => {
  const lines = optimized((b, context) => {
    const value = b.load(context, 0, 4);
    const first = b.binary("add", value, b.binary("mul", b.constant(3), 4));
    const second = b.binary("add", value, 12);
    b.return(b.binary("xor", first, b.binary("lsh", second, 1)));
  });
  expect(lines.filter((line) => line.includes("binary add"))).toHaveLength(1);
  expect(lines.some((line) => line.includes("mul"))).toBe(false);
});

test("a mask of 32 bits clears the upper half of a value with more bits", () => {
  const lines = optimized((b, context) => {
    const value = b.load(context, 0, 8);
    value.range = { min: 0, max: 2 ** 40 - 1 };
    b.return(b.binary("and", value, b.constant(2 ** 40 - 1), 32));
  });
  expect(lines.some((line) => line.includes("binary and"))).toBe(true);
});
