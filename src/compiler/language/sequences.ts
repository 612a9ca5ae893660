/** @module Arrays whose elements the compiler knows one by one. */

import type { Node } from "../ir/ir.ts";
import { FunctionValue } from "./functions.ts";
import { numberOf } from "./numbers.ts";
import {
  type Argument,
  BooleanValue,
  NumberValue,
  type Syntax,
  undefinedValue,
  type Value,
  type Lowering,
  argument,
} from "./value.ts";

/** Number of elements that are told apart by tests. */
const maxTests = 64;

/** Returns the element at an index that is known only when the program runs: `undefined` outside of the elements. */
export function elementAt(l: Lowering, items: readonly Value[], index: Value, at: Syntax): Value {
  if (items.length > maxTests) {
    l.refuse(
      at,
      `an index into ${items.length} constant elements must be known when the function is compiled`,
      "Put the elements into an ArrayMap",
    );
  }
  const node = numberOf(l, index, at).node(l.b);
  const choose = (from: number): Value => {
    if (from === items.length) return undefinedValue;
    return l.choose(
      l.test(l.b.compare("eq", node, from)),
      () => items[from] as Value,
      () => choose(from + 1),
    );
  };
  return choose(0);
}

/** Calls a method of an array whose elements the compiler knows one by one. */
export function arrayMethod(
  l: Lowering,
  array: Value,
  name: string,
  args: readonly Argument[],
  at: Syntax,
): Value {
  const items = array.items(l, at) ?? l.refuse(at, "the number of elements must be known");
  if (name === "includes") {
    const searched = argument(l, args, 0, at);
    return anyOf(l, items, (item) => {
      const same = item.equals(l, searched, at);
      return l.toBoolean(same, at, item, searched).asCondition();
    });
  }
  if (name !== "some" && name !== "every") {
    return l.refuse(
      at,
      `arrays have no method ${JSON.stringify(name)} in kernel code`,
      "They have includes, some and every; use for...of for the rest",
    );
  }
  const callback = argument(l, args, 0, at);
  if (!(callback instanceof FunctionValue)) {
    return l.refuse(
      args[0] ?? at,
      `expected a function, got ${callback.describe()}`,
      "Write it there: (element) => element > 1",
    );
  }
  const { context } = l.frame;
  const test = (item: Value, index: number): boolean | Node =>
    l.inScope(
      () => callback.callWith(l, [item, new NumberValue(index)], at).truth(l, at),
      context.child(at, index),
    );
  if (name === "some") return anyOf(l, items, test);
  const fails = anyOf(l, items, (item, index) => {
    const truth = test(item, index);
    return typeof truth === "boolean" ? !truth : l.b.compare("eq", truth, 0);
  });
  const condition = fails.asCondition();
  return new BooleanValue(
    typeof condition === "boolean" ? !condition : l.b.compare("eq", condition, 0),
  );
}

/** Returns whether a test is true for one of the items. Later items are not tested then. */
function anyOf(
  l: Lowering,
  items: readonly Value[],
  test: (item: Value, index: number) => boolean | Node,
): BooleanValue {
  const from = (index: number): Value => {
    const item = items[index];
    if (item === undefined) return new BooleanValue(false);
    return l.choose(
      l.test(test(item, index)),
      () => new BooleanValue(true),
      () => from(index + 1),
    );
  };
  const result = from(0);
  if (!(result instanceof BooleanValue)) throw new Error("expected a boolean");
  return result;
}
