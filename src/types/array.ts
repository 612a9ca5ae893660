import { checkCount, checkSize } from "../check/arguments.ts";
import { isCount, isType } from "./c_members.ts";
import type { CType } from "./c_type.ts";
import {
  defineType,
  emitNestedRead,
  emitNestedWrite,
  Place,
  type Recipe,
  recipeOf,
} from "./compile.ts";
import { isOpaque } from "./opaque.ts";
import { describe, elementPath, refuseRange, refuseType } from "../check/describe.ts";
import { type ArrayType, type Type, checkType } from "./type.ts";

/** Greatest number of values for which generated code has one statement for each element instead of a loop. */
const MAX_UNROLLED = 32;

/**
 * Makes the type of an array of `length` elements, C's `T[length]`. Values are JavaScript arrays.
 *
 * Writing takes arrays of exactly `length` elements, but no typed arrays. For raw bytes use {@link bytes}.
 *
 * @param element type of each element; not a bit-field or an opaque type such as {@link spinLock}
 * @param length number of elements, at least 1. Flexible array members (`T data[]`) have no fixed size and are not supported.
 * @throws {RangeError} if the length is not an integer of at least 1, or the array takes more than 2^31 - 1 bytes.
 * @throws {TypeError} if the element is not a type, or is a bit-field or an opaque type.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Histogram = t.array(t.u64Number, 64);
 * const view = new DataView(new ArrayBuffer(Histogram.size));
 * Histogram.write(view, 0, new Array(64).fill(0));
 * console.log(Histogram.read(view, 0).length); // 64
 * ```
 */
export function array<Outside, Inside>(
  element: Type<Outside, Inside>,
  length: number,
): ArrayType<Outside, Inside> {
  const { size: stride, align } = checkType("array(element)", element);
  if (isOpaque(element)) {
    throw new TypeError(
      `array(element): expected a type with values, got ${element.name}: make it a field of a struct`,
    );
  }
  if (element.kind === "bits") {
    throw new TypeError(
      `array(element): expected no bit-field, got ${describe(element.name)}: C has no arrays of bit-fields`,
    );
  }
  checkCount("array(length)", length, 1);
  const name = `array(${element.name}, ${length})`;
  const size = stride * length;
  checkSize(name, size);
  return defineType<Outside[], ArrayType<Outside, Inside>>(
    { kind: "array", name, size, align, element, length },
    arrayRecipe(recipeOf(element), stride, length, name),
    arrayCType,
  );
}

const arrayCType: CType = {
  encode(types, type, encodeNested) {
    const { element, length, size } = type as Partial<ArrayType<unknown>> & Type<unknown>;
    if (!isType(element) || !isCount(length) || element.size * length !== size) return undefined;
    return types.array(encodeNested(element), length);
  },
};

function arrayRecipe<T>(
  element: Recipe<T>,
  stride: number,
  length: number,
  name: string,
): Recipe<T[]> {
  const isUnrolled = element.weight * length <= MAX_UNROLLED;
  function check(value: unknown, path: string): asserts value is unknown[] {
    const expected = `an array of ${length} (${name})`;
    if (!Array.isArray(value)) refuseType(path, expected, value);
    if (value.length !== length) refuseRange(path, expected, value);
  }
  return {
    weight: isUnrolled ? element.weight * length : element.weight + 1,
    emitRead(source, place) {
      if (isUnrolled) {
        const parts = Array.from({ length }, (_, index) =>
          emitNestedRead(source, element, place.plus(index * stride)),
        );
        return `[${parts.join(", ")}]`;
      }
      const values = source.variable("values");
      const index = source.variable("index");
      const at = source.variable("offset");
      source.line(`const ${values} = new Array(${length});`);
      source.line(`for (let ${index} = 0; ${index} < ${length}; ${index}++) {`);
      source.line(`const ${at} = ${place} + ${index} * ${stride};`);
      source.line(`${values}[${index}] = ${emitNestedRead(source, element, new Place(at))};`);
      source.line("}");
      return values;
    },
    emitWrite(source, place, value, path) {
      source.line(
        `if (!Array.isArray(${value}) || ${value}.length !== ${length}) ${source.capture(check)}(${value}, ${path});`,
      );
      const pathOf = source.capture(elementPath);
      if (isUnrolled) {
        for (let index = 0; index < length; index++) {
          const item = source.variable("item");
          source.line(`const ${item} = ${value}[${index}];`);
          const at = place.plus(index * stride);
          emitNestedWrite(source, element, at, item, `${pathOf}(${path}, ${index})`);
        }
        return;
      }
      const index = source.variable("index");
      const at = source.variable("offset");
      const item = source.variable("item");
      source.line(`for (let ${index} = 0; ${index} < ${length}; ${index}++) {`);
      source.line(`const ${at} = ${place} + ${index} * ${stride};`);
      source.line(`const ${item} = ${value}[${index}];`);
      emitNestedWrite(source, element, new Place(at), item, `${pathOf}(${path}, ${index})`);
      source.line("}");
    },
    read: (view, offset) =>
      Array.from({ length }, (_, index) => element.read(view, offset + index * stride)),
    write(view, offset, value, path) {
      check(value, path);
      for (let index = 0; index < length; index++) {
        element.write(view, offset + index * stride, value[index], elementPath(path, index));
      }
    },
  };
}
