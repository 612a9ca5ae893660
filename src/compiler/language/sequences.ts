/** @module Elements of values that the compiler knows one by one. */

import { numberOf } from "./numbers.ts";
import { type Syntax, undefinedValue, type Value, type Lowering } from "./value.ts";

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
