/** @module Translates expressions and conditions to the intermediate representation. */

import type * as acorn from "acorn";
import { FunctionValue } from "./functions.ts";
import type { Node } from "../ir/ir.ts";
import { binaryOperator, FractionValue, unaryOperator, knownNumber } from "./numbers.ts";
import { walkPattern, propertyName } from "./patterns.ts";
import { unsupportedExpression } from "./refusals.ts";
import { StringValue, templateText } from "./text.ts";
import { ObjectValue } from "./object_value.ts";
import {
  AbsentValue,
  BigintValue,
  BooleanValue,
  MaybeValue,
  nullValue,
  NumberValue,
  undefinedValue,
  type Value,
  type Condition,
  type Lowering,
} from "./value.ts";
import { Variable } from "./scope.ts";

/**
 * Translates an expression, and returns its value.
 *
 * @param unused true if nothing uses the value
 */
export function lowerExpression(
  l: Lowering,
  node: acorn.Expression | acorn.Super | acorn.PrivateIdentifier,
  unused = false,
): Value {
  // The rest of a chain after a part that is known to be missing.
  if (!l.b.isReachable) return undefinedValue;
  l.enterSyntax(node);
  switch (node.type) {
    case "Identifier":
      return node.name === "undefined" ? undefinedValue : l.readName(node.name, node);
    case "Literal":
      return lowerLiteral(l, node);
    case "ParenthesizedExpression":
      return lowerExpression(l, node.expression, unused);
    case "TemplateLiteral":
      return templateText(l, node);
    case "UnaryExpression":
      return lowerUnary(l, node);
    case "BinaryExpression":
      return lowerBinary(l, node);
    case "LogicalExpression":
      return lowerLogical(l, node);
    case "ConditionalExpression":
      return l.choose(
        lowerCondition(l, node.test),
        () => lowerExpression(l, node.consequent),
        () => lowerExpression(l, node.alternate),
        node,
      );
    case "AssignmentExpression":
      return lowerAssignment(l, node);
    case "UpdateExpression":
      return lowerUpdate(l, node, unused);
    case "SequenceExpression": {
      let value: Value = undefinedValue;
      for (const [index, each] of node.expressions.entries()) {
        value = lowerExpression(l, each, unused || index < node.expressions.length - 1);
      }
      return value;
    }
    case "MemberExpression":
      return lowerMember(l, node);
    case "CallExpression":
      return lowerCall(l, node);
    case "ChainExpression":
      return lowerChain(l, node);
    case "ObjectExpression":
      return lowerObject(l, node);
    case "ArrayExpression":
      return lowerArray(l, node);
    case "ArrowFunctionExpression":
    case "FunctionExpression":
      return new FunctionValue(node, l.frame.source, l.scope);
    default:
      return unsupportedExpression(l, node);
  }
}

function lowerLiteral(l: Lowering, node: acorn.Literal): Value {
  if (node.regex)
    l.refuse(node, "regular expressions are not in the language", "Use === or startsWith()");
  if (node.bigint !== undefined && node.bigint !== null) {
    const value = BigInt(node.bigint);
    if (value >= 2n ** 64n)
      l.refuse(node, "bigints have 64 bits here", "Divide it into several bigints");
    return new BigintValue(value);
  }
  const { value } = node;
  if (value === null) return nullValue;
  if (typeof value === "boolean") return new BooleanValue(value);
  if (typeof value === "string") return new StringValue(value);
  const number = value as number;
  // The bundler replaces `1500 / 7` by its value.
  if (Math.abs(number) <= Number.MAX_SAFE_INTEGER && !Number.isInteger(number)) {
    return new FractionValue(number);
  }
  return knownNumber(l, number, node);
}

function lowerUnary(l: Lowering, node: acorn.UnaryExpression): Value {
  switch (node.operator) {
    case "!": {
      const truth = lowerExpression(l, node.argument).truth(l, node.argument);
      if (typeof truth === "boolean") return new BooleanValue(!truth);
      return new BooleanValue(l.b.compare("eq", truth, 0));
    }
    case "void":
      lowerExpression(l, node.argument, true);
      return undefinedValue;
    case "typeof":
      l.refuse(
        node,
        "typeof is not in the language: the kind of each value is known when it is compiled",
        "Remove the test, or compare with undefined",
      );
      break;
    case "delete":
      l.refuse(node, "properties cannot be deleted", "Use the method delete() of maps");
      break;
    default:
      return unaryOperator(l, node.operator, lowerExpression(l, node.argument), node);
  }
}

function lowerBinary(l: Lowering, node: acorn.BinaryExpression): Value {
  const { operator } = node;
  switch (operator) {
    case "===":
    case "!==":
    case "==":
    case "!=":
      return lowerEquality(l, node);
    case "in":
    case "instanceof":
      return unsupportedExpression(l, node);
    default: {
      const left = lowerExpression(l, node.left);
      const right = lowerExpression(l, node.right);
      return binaryOperator(l, operator, left, right, node);
    }
  }
}

function lowerEquality(l: Lowering, node: acorn.BinaryExpression): BooleanValue {
  const left = lowerExpression(l, node.left);
  const right = lowerExpression(l, node.right);
  const isLoose = node.operator.length === 2;
  let result: boolean | Node | undefined;
  if (isLoose && (left instanceof AbsentValue || right instanceof AbsentValue)) {
    // null == undefined, and neither equals anything else.
    const other = left instanceof AbsentValue ? right : left;
    if (other instanceof AbsentValue) result = true;
    else if (other instanceof MaybeValue) result = l.b.compare("eq", other.test, 0);
    else result = other.equals(l, nullValue, node) ?? false;
  } else {
    l.b.position = l.positionOf(node);
    result =
      right instanceof AbsentValue && !(left instanceof MaybeValue)
        ? right.equals(l, left, node)
        : left.equals(l, right, node);
  }
  const same = l.toBoolean(result, node, left, right);
  return node.operator.startsWith("!") ? negate(l, same) : same;
}

function negate(l: Lowering, value: BooleanValue): BooleanValue {
  const condition = value.asCondition();
  if (typeof condition === "boolean") return new BooleanValue(!condition);
  return new BooleanValue(l.b.compare("eq", condition, 0));
}

function lowerLogical(l: Lowering, node: acorn.LogicalExpression): Value {
  if (node.operator === "??") {
    return presence(
      l,
      node.left,
      (value) => value,
      () => lowerExpression(l, node.right),
      node,
    );
  }
  const isAnd = node.operator === "&&";
  const left = lowerExpression(l, node.left);
  const variable = variableOf(l, node.left);
  const condition = l.test(left.truth(l, node.left));
  const right = () => lowerExpression(l, node.right);
  // In the other case, the value is the left one, which is false (&&) or true (||).
  const absent = left instanceof MaybeValue ? absentOf(left) : undefined;
  narrow(l, condition, variable, left);
  return isAnd
    ? l.choose(condition, right, () => absent ?? left, node)
    : l.choose(condition, () => (left instanceof MaybeValue ? left.take(l) : left), right, node);
}

const absentOf = (value: MaybeValue) => (value.absent === "null" ? nullValue : undefinedValue);

/**
 * Translates an expression whose value may be missing, and continues in two ways.
 *
 * @param present makes the result from the value
 * @param missing makes the result if there is none
 * @param at the place of the problem if the results are of different kinds
 */
function presence(
  l: Lowering,
  node: acorn.Expression | acorn.Super,
  present: (value: Value) => Value,
  missing: () => Value,
  at?: acorn.Node,
): Value {
  const value = lowerExpression(l, node);
  if (value instanceof AbsentValue) return missing();
  if (value instanceof MaybeValue) {
    const condition = l.testPresence(value);
    narrow(l, condition, variableOf(l, node), value);
    return l.choose(condition, () => present(value.take(l)), missing, at);
  }
  const isNull = value.equals(l, nullValue, node);
  if (isNull === undefined || typeof isNull === "boolean") return present(value);
  const { yes, no } = l.test(isNull);
  return l.choose({ yes: no, no: yes }, () => present(value), missing, at);
}

/** Returns the variable that an expression names, if it names one. */
function variableOf(
  l: Lowering,
  node: acorn.Expression | acorn.Super | acorn.PrivateIdentifier,
): Variable | undefined {
  if (node.type === "Identifier") return l.scope.find(node.name);
  if (node.type === "ParenthesizedExpression") return variableOf(l, node.expression);
  if (node.type !== "MemberExpression" || node.computed) return undefined;
  const object = variableOf(l, node.object);
  const value = object && l.state.get(object);
  if (!(value instanceof ObjectValue) || node.property.type !== "Identifier") return undefined;
  return value.fields.get(node.property.name);
}

/** Gives a variable its value where a test has shown that the value is there, and where it has shown that it is not. */
function narrow(
  l: Lowering,
  condition: Condition,
  variable: Variable | undefined,
  value: Value,
): void {
  if (variable === undefined || !(value instanceof MaybeValue)) return;
  if (l.enter(condition.yes)) {
    l.write(variable, value.take(l));
    condition.yes.splice(0, Infinity, ...l.leave());
  }
  for (const { state } of condition.no) state.set(variable, absentOf(value));
}

/** Translates a condition, and ends the current way with it. */
export function lowerCondition(l: Lowering, node: acorn.Expression): Condition {
  l.enterSyntax(node);
  switch (node.type) {
    case "ParenthesizedExpression":
      return lowerCondition(l, node.expression);
    case "UnaryExpression":
      if (node.operator === "!") {
        const { yes, no } = lowerCondition(l, node.argument);
        return { yes: no, no: yes };
      }
      break;
    case "LogicalExpression": {
      if (node.operator === "??") break;
      const first = lowerCondition(l, node.left);
      const isAnd = node.operator === "&&";
      const decided = isAnd ? first.no : first.yes;
      if (!l.enter(isAnd ? first.yes : first.no))
        return isAnd ? { yes: [], no: decided } : { yes: decided, no: [] };
      const second = lowerCondition(l, node.right);
      return isAnd
        ? { yes: second.yes, no: [...decided, ...second.no] }
        : { yes: [...decided, ...second.yes], no: second.no };
    }
    case "BinaryExpression":
      if (/^[!=]==?$/.test(node.operator)) {
        const tested = testedForAbsence(l, node);
        if (tested !== undefined) {
          const condition = l.testPresence(tested.value);
          narrow(l, condition, tested.variable, tested.value);
          const { yes, no } = condition;
          return node.operator.startsWith("!") ? { yes, no } : { yes: no, no: yes };
        }
      }
      break;
    default:
  }
  const value = lowerExpression(l, node);
  const condition = l.test(value.truth(l, node));
  narrow(l, condition, variableOf(l, node), value);
  return condition;
}

/** Returns the value of `x` in `x === undefined`, if it may be missing. */
function testedForAbsence(
  l: Lowering,
  node: acorn.BinaryExpression,
): { variable: Variable | undefined; value: MaybeValue } | undefined {
  const isAbsent = (each: acorn.Node) => {
    if (each.type === "Identifier")
      return (each as acorn.Identifier).name === "undefined" ? "undefined" : undefined;
    if (each.type === "Literal") return (each as acorn.Literal).raw === "null" ? "null" : undefined;
    if (each.type !== "UnaryExpression") return undefined;
    const { operator, argument } = each as acorn.UnaryExpression;
    return operator === "void" && argument.type === "Literal" ? "undefined" : undefined;
  };
  for (const [subject, other] of [
    [node.left, node.right],
    [node.right, node.left],
  ] as const) {
    const absent = isAbsent(other);
    if (absent === undefined) continue;
    const variable = variableOf(l, subject);
    const value = variable && l.state.get(variable);
    if (!(value instanceof MaybeValue)) continue;
    if (node.operator.length === 3 && value.absent !== absent) continue;
    return { variable, value };
  }
  return undefined;
}

// ---- properties and calls

/** Returns the name or the index of a member. */
function memberKey(l: Lowering, node: acorn.MemberExpression): string | Value {
  const { property, computed } = node;
  if (!computed && property.type === "Identifier") return property.name;
  if (property.type === "PrivateIdentifier")
    return l.refuse(
      property,
      "private names are not in the language",
      "Use an object without a class",
    );
  const value = lowerExpression(l, property);
  const known = value.known?.value;
  return typeof known === "string" ? known : value;
}

function readMember(l: Lowering, object: Value, key: string | Value, at: acorn.Node): Value {
  l.b.position = l.positionOf(at);
  return typeof key === "string" ? object.property(l, key, at) : object.element(l, key, at);
}

function lowerMember(l: Lowering, node: acorn.MemberExpression): Value {
  if (node.optional) {
    return presence(
      l,
      node.object,
      (object) => readMember(l, object, memberKey(l, node), node),
      () => skipChain(l),
    );
  }
  const object = lowerExpression(l, node.object);
  return l.b.isReachable ? readMember(l, object, memberKey(l, node), node) : undefinedValue;
}

function lowerCall(l: Lowering, node: acorn.CallExpression): Value {
  const args = node.arguments.map((argument) => {
    if (argument.type === "SpreadElement")
      l.refuse(argument, "arguments cannot be spread", "Pass them one by one");
    return argument;
  });
  const { callee } = node;
  const call = (value: Value) => value.call(l, args, node);
  if (callee.type === "MemberExpression") {
    const callMember = (object: Value) => {
      const key = memberKey(l, callee);
      if (node.optional)
        l.refuse(node, "optional calls are not in the language", "Call the function");
      if (typeof key === "string") return object.callMethod(l, key, args, node);
      return call(object.element(l, key, node));
    };
    if (callee.optional) return presence(l, callee.object, callMember, () => skipChain(l));
    const object = lowerExpression(l, callee.object);
    return l.b.isReachable ? callMember(object) : undefinedValue;
  }
  if (node.optional) l.refuse(node, "optional calls are not in the language", "Call the function");
  return call(lowerExpression(l, callee));
}

/** Skips the rest of a chain, whose value is then `undefined`. */
function skipChain(l: Lowering): Value {
  const edges = l.chains.at(-1);
  if (edges === undefined) throw new Error("an optional member is outside of a chain");
  edges.push(...l.leave());
  return undefinedValue;
}

function lowerChain(l: Lowering, node: acorn.ChainExpression): Value {
  return l.inChain(() => lowerExpression(l, node.expression));
}

// ---- assignments

type Place = acorn.Identifier | acorn.MemberExpression;

/** Returns functions that read and write the target of an assignment. Its object and index are evaluated once. */
function placeOf(l: Lowering, target: acorn.Pattern | acorn.Expression) {
  if (target.type === "ParenthesizedExpression") return placeOf(l, target.expression);
  if (target.type === "Identifier") {
    return {
      read: () => l.readName(target.name, target),
      write: (value: Value) => l.writeName(target.name, value, target),
    };
  }
  if (target.type !== "MemberExpression") {
    return l.refuse(target, "this cannot be assigned to", "Assign to a variable or a property");
  }
  const object = lowerExpression(l, target.object);
  const key = memberKey(l, target);
  return {
    read: () => readMember(l, object, key, target),
    write: (value: Value) => {
      l.b.position = l.positionOf(target);
      if (typeof key === "string") object.setProperty(l, key, value, target);
      else object.setElement(l, key, value, target);
    },
  };
}

function lowerAssignment(l: Lowering, node: acorn.AssignmentExpression): Value {
  const { operator, left, right } = node;
  if (operator === "=") {
    if (left.type === "ObjectPattern" || left.type === "ArrayPattern") {
      const value = lowerExpression(l, right);
      walkPattern(l, left, value, (target: Place, each) => placeOf(l, target).write(each));
      return value;
    }
    const place = placeOf(l, left);
    const value = lowerExpression(l, right);
    place.write(value);
    return value;
  }
  const place = placeOf(l, left);
  const before = place.read();
  if (operator === "??=" || operator === "&&=" || operator === "||=") {
    const assign = () => {
      const value = lowerExpression(l, right);
      place.write(value);
      return value;
    };
    if (operator === "??=") {
      if (before instanceof AbsentValue) return assign();
      if (!(before instanceof MaybeValue)) return before;
      return l.choose(l.testPresence(before), () => before.take(l), assign, node);
    }
    const condition = l.test(before.truth(l, left));
    return operator === "&&="
      ? l.choose(condition, assign, () => before, node)
      : l.choose(condition, () => before, assign, node);
  }
  const value = binaryOperator(
    l,
    operator.slice(0, -1) as acorn.BinaryOperator,
    before,
    lowerExpression(l, right),
    node,
  );
  place.write(value);
  return value;
}

function lowerUpdate(l: Lowering, node: acorn.UpdateExpression, unused: boolean): Value {
  const place = placeOf(l, node.argument);
  const before = place.read();
  const one = before instanceof BigintValue ? new BigintValue(1n) : new NumberValue(1);
  const after = binaryOperator(l, node.operator === "++" ? "+" : "-", before, one, node);
  place.write(after);
  return node.prefix || unused ? after : before;
}

// ---- literals

function lowerObject(l: Lowering, node: acorn.ObjectExpression): Value {
  const values = new Map<string, Value>();
  for (const property of node.properties) {
    if (property.type === "SpreadElement") {
      const spread = lowerExpression(l, property.argument);
      const entries = spread.entries(l, property);
      for (const [name, value] of entries) values.set(name, value);
      continue;
    }
    if (property.kind !== "init" || property.method) {
      l.refuse(property, "objects cannot have accessors or methods here", "Use a local function");
    }
    const name = propertyName(l, property);
    if (name === "__proto__") {
      l.refuse(property, "objects have no prototypes here", "Write all properties in the literal");
    }
    values.set(name, lowerExpression(l, property.value));
  }
  return l.newObject(node, values, false);
}

function lowerArray(l: Lowering, node: acorn.ArrayExpression): Value {
  const values = new Map<string, Value>();
  for (const element of node.elements) {
    if (element === null) l.refuse(node, "an array cannot have holes", "Write undefined");
    if (element.type === "SpreadElement") {
      const items = lowerExpression(l, element.argument).items(l, element);
      if (items === undefined) {
        l.refuse(
          element,
          "the number of elements must be known when the function is compiled",
          "Spread arrays only",
        );
      }
      for (const item of items) values.set(`${values.size}`, item);
    } else values.set(`${values.size}`, lowerExpression(l, element));
  }
  return l.newObject(node, values, true);
}
