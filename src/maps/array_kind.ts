import { u32 } from "../types/integer.ts";
import type { Type } from "../types/type.ts";
import { checkValueType } from "./type_checks.ts";
import { MapKind } from "./kind.ts";
import { checkMaxEntries, type CommonMapOptions, type MapSpec, type MapTypeName } from "./spec.ts";

/** The type of an array's values. */
export interface ArrayMapTypes<V> {
  readonly value: Type<V>;
}

/** Options that every array of values takes. */
export interface IndexedMapOptions<V> extends CommonMapOptions, ArrayMapTypes<V> {
  /** The length: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** The kind of a class of arrays. */
export function arrayKind<Options extends IndexedMapOptions<unknown>>(
  type: MapTypeName,
  className: string,
  own: readonly string[],
  complete: (options: Options) => Partial<MapSpec>,
): MapKind<ArrayMapTypes<unknown>, Options> {
  return new MapKind({
    type,
    className,
    options: ["value", "maxEntries", ...own],
    sizes({ value }) {
      checkValueType(value);
      return { keySize: u32.size, valueSize: value.size };
    },
    complete(options) {
      const { value, maxEntries } = options;
      checkMaxEntries(maxEntries);
      return { maxEntries, types: { key: u32, value }, ...complete(options) };
    },
  });
}
