/** @module Checks of the types of keys, values and events: before the kernel is asked for a map. */

import { checkType } from "../types/argument.ts";
import { hasOpaqueField, isOpaque } from "../types/opaque.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";

/** Checks that types were given, and that the kernel can find what it has to in them. @throws {TypeError} */
export function checkTypes({ key, value }: KeyedMapTypes<unknown, unknown>): void {
  checkPlainType("key", key);
  checkValueType(value);
}

/** Checks a type in which the kernel would not look for spin locks and timers. @throws {TypeError} */
export function checkPlainType(what: string, type: Type<unknown>): void {
  checkType(what, type);
  if (isOpaque(type) || hasOpaqueField(type)) {
    throw new TypeError(
      `${what}: it can have no spin lock or timer here, got ${describe(type.name)}`,
    );
  }
}

/** Checks the type of a map's values. @throws {TypeError} */
export function checkValueType(value: Type<unknown>): void {
  checkType("value", value);
  if (isOpaque(value) || (value.kind !== "struct" && hasOpaqueField(value))) {
    throw new TypeError(
      `value: a spin lock or timer must be a field of the struct that is the value, got ${describe(value.name)}`,
    );
  }
}
