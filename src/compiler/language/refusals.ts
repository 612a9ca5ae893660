/** @module Messages for the parts of JavaScript that are not in the language. */

import type * as acorn from "acorn";
import { QuotientValue, roundHint } from "./numbers.ts";
import { ObjectValue } from "./object_value.ts";
import {
  AbsentValue,
  BigintValue,
  BooleanValue,
  MaybeValue,
  NumberValue,
  presenceHint,
  type Value,
  type Lowering,
} from "./value.ts";

/** A description of the problem, and the alternative. */
type Refusal = readonly [message: string, hint?: string];

const statements: Readonly<Record<string, Refusal>> = {
  TryStatement: [
    "try is not in the language: nothing throws in the kernel",
    'Test for undefined: reads that fail give 0, "" or undefined',
  ],
  ThrowStatement: [
    "throw is not in the language",
    "Return early, or report by a ring: ring.output({ ... })",
  ],
  ClassDeclaration: ["classes are not in the language", "Use objects and functions"],
  ForInStatement: [
    "for...in is not in the language",
    "Name the properties, or use for...of over an array",
  ],
  WithStatement: ["with is not in the language", "Name the object: object.property"],
  DebuggerStatement: [
    "debugger is not in the language",
    "Send a record to the process: ring.output({ ... })",
  ],
  VariableDeclaration: [
    "using works only with values that must be released, such as locks",
    "Use const",
  ],
};

const expressions: Readonly<Record<string, Refusal>> = {
  NewExpression: ["new is not in the language", "Use literals, and maps of the scope"],
  ThisExpression: ["this is not in the language", "Use the parameters: the context and the scope"],
  Super: ["super is not in the language", "Use functions of the scope: bpf.fn()"],
  ClassExpression: ["classes are not in the language", "Use objects and functions"],
  YieldExpression: ["generators are not in the language", "Use a loop"],
  AwaitExpression: [
    "await is only for ctx.returned, in functions that are attached to calls",
    "Kernel code does not wait: continue in the program that runs later",
  ],
  TaggedTemplateExpression: ["tagged templates are not in the language", "Call a function"],
  ImportExpression: ["modules cannot be imported in the kernel", "Pass the value in the scope"],
  MetaProperty: [
    "import.meta and new.target are not in the language",
    "Pass the value in the scope",
  ],
  BinaryExpression: [
    "the operators in and instanceof are not in the language",
    "Use the method has() of maps, or includes() of arrays",
  ],
};

/** Names that JavaScript has everywhere and the language has not, with what to use instead. */
const javaScriptNames: Readonly<Record<string, string>> = {
  Array: "Use array literals, for...of, includes(), some() and every()",
  Date: "Use ctx.now, or ctx.nowUs",
  Infinity: "Kernel code has only integers: use Number.MAX_SAFE_INTEGER",
  JSON: "Put the values into a record, and format them in the process that reads it",
  Map: "Use a map of the scope",
  NaN: "Kernel code has only integers",
  Object: "Name the properties",
  Promise: "Kernel code does not wait",
  Set: "Use a map of the scope",
  String: "Put the value into a record, and format it in the process that reads it",
  arguments: "Name the parameters",
  console: "Send a record to the process: ring.output({ ... })",
  eval: "Write the code in the function",
  globalThis: "Pass the value in the scope, the first argument of bpf.attach()",
  isNaN: "Kernel code has only integers, which are never NaN",
  parseInt: "Parse the text in the process, and pass the number in the scope",
  process: "Use the members of the context, such as ctx.pid",
  setTimeout: "Kernel code does not wait: use a timer of the process",
};

/** Reports a name that the function does not know. */
export function unknownName(l: Lowering, name: string, at: acorn.Node): never {
  if (Object.hasOwn(javaScriptNames, name)) {
    return l.refuse(at, `${name} is not in the language`, javaScriptNames[name]);
  }
  return l.refuse(
    at,
    `${name} is neither a parameter, a local name nor a name of the language`,
    "A function runs in the kernel without its surroundings: pass the value in the scope, the first argument of bpf.attach()",
  );
}

/** Returns the hint for a comparison of values of different kinds. */
export function comparisonHint(left: Value, right: Value): string | undefined {
  const kinds = [left, right];
  const some = (kind: abstract new (...args: never[]) => Value) =>
    kinds.some((value) => value instanceof kind);
  if (some(QuotientValue)) return roundHint;
  if (some(MaybeValue)) return presenceHint;
  if (some(NumberValue) && some(BigintValue)) {
    return "Convert one of them: BigInt(number), Number(bigint)";
  }
  if (some(BooleanValue)) return "Compare booleans with booleans: test them as they are, or by !x";
  if (some(ObjectValue)) return "Compare the properties";
  if (some(AbsentValue)) return undefined;
  return "Compare values of one kind";
}

/** Reports a statement that is not in the language. */
export function unsupportedStatement(l: Lowering, at: acorn.Statement): never {
  const [message, hint] = statements[at.type] ?? [`${at.type} is not in the language`];
  return l.refuse(at, message, hint);
}

/** Reports an expression that is not in the language. */
export function unsupportedExpression(l: Lowering, at: acorn.Node): never {
  const [message, hint] = expressions[at.type] ?? [`${at.type} is not in the language`];
  return l.refuse(at, message, hint);
}
