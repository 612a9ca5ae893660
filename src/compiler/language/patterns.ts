/** @module Declares and assigns the names of destructuring patterns. */

import type * as acorn from "acorn";
import { AbsentValue, MaybeValue, NumberValue, type Value, type Lowering } from "./value.ts";

/** Declares the names of a pattern with the values that it takes. */
export function bindPattern(
  l: Lowering,
  pattern: acorn.Pattern,
  value: Value,
  isConstant: boolean,
): void {
  walkPattern(l, pattern, value, (target, each) => {
    if (target.type !== "Identifier") throw new Error("the parser accepts no such declaration");
    if (target.name === "undefined")
      l.refuse(target, "undefined cannot be a variable", "Rename it");
    l.declare(target, target.name, each, isConstant);
  });
}

/** Gives each name or place of a pattern its value. */
export function walkPattern(
  l: Lowering,
  pattern: acorn.Pattern,
  value: Value,
  bind: (target: acorn.Identifier | acorn.MemberExpression, value: Value) => void,
): void {
  switch (pattern.type) {
    case "Identifier":
    case "MemberExpression":
      return bind(pattern, value);
    case "AssignmentPattern":
      return walkPattern(l, pattern.left, withDefault(l, value, pattern.right), bind);
    case "ObjectPattern":
      for (const property of pattern.properties) {
        if (property.type === "RestElement") {
          l.refuse(property, "the rest of an object cannot be taken", "Name the properties");
        }
        const name = propertyName(l, property);
        walkPattern(l, property.value, value.property(l, name, property.key), bind);
      }
      return;
    case "ArrayPattern":
      for (const [index, element] of pattern.elements.entries()) {
        if (element === null) continue;
        if (element.type === "RestElement") {
          l.refuse(element, "the rest of an array cannot be taken", "Name the elements");
        }
        walkPattern(l, element, value.element(l, new NumberValue(index), element), bind);
      }
      return;
    case "RestElement":
      l.refuse(pattern, "rest parameters are not in the language", "Name the parameters");
  }
}

/** Returns the names that a pattern declares. */
export function* namesOf(pattern: acorn.Pattern): Generator<acorn.Identifier> {
  switch (pattern.type) {
    case "Identifier":
      yield pattern;
      return;
    case "AssignmentPattern":
      return yield* namesOf(pattern.left);
    case "RestElement":
      return yield* namesOf(pattern.argument);
    case "ObjectPattern":
      for (const property of pattern.properties) {
        yield* namesOf(property.type === "RestElement" ? property : property.value);
      }
      return;
    case "ArrayPattern":
      for (const element of pattern.elements) if (element !== null) yield* namesOf(element);
      return;
    default:
  }
}

/** Returns the names that `var` declares in a statement, without those of functions in it. */
export function* hoistedNames(statement: acorn.Statement): Generator<acorn.Identifier> {
  switch (statement.type) {
    case "VariableDeclaration":
      if (statement.kind !== "var") return;
      for (const { id } of statement.declarations) yield* namesOf(id);
      return;
    case "BlockStatement":
      for (const each of statement.body) yield* hoistedNames(each);
      return;
    case "IfStatement":
      yield* hoistedNames(statement.consequent);
      if (statement.alternate) yield* hoistedNames(statement.alternate);
      return;
    case "ForStatement":
      if (statement.init?.type === "VariableDeclaration") yield* hoistedNames(statement.init);
      return yield* hoistedNames(statement.body);
    case "ForOfStatement":
      if (statement.left.type === "VariableDeclaration") yield* hoistedNames(statement.left);
      return yield* hoistedNames(statement.body);
    case "WhileStatement":
    case "DoWhileStatement":
    case "LabeledStatement":
      return yield* hoistedNames(statement.body);
    case "SwitchStatement":
      for (const { consequent } of statement.cases) {
        for (const each of consequent) yield* hoistedNames(each);
      }
      return;
    default:
  }
}

function withDefault(l: Lowering, value: Value, fallback: acorn.Expression): Value {
  if (value instanceof MaybeValue && value.absent === "undefined") {
    return l.choose(
      l.testPresence(value),
      () => value.take(l),
      () => l.lower(fallback),
    );
  }
  const isAbsent = value instanceof AbsentValue && value.which === "undefined";
  return isAbsent ? l.lower(fallback) : value;
}

/** Returns the name of a property of a literal or pattern. */
export function propertyName(
  l: Lowering,
  property: acorn.Property | acorn.AssignmentProperty,
): string {
  const { key, computed } = property;
  if (!computed && key.type === "Identifier") return key.name;
  const known = l.lower(key as acorn.Expression).known?.value;
  if (typeof known === "string" || typeof known === "number") return `${known}`;
  return l.refuse(
    key,
    "the name of a property must be known when the function is compiled",
    "Use a map, whose keys can be values of the running program",
  );
}
