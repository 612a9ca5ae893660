import type { Type } from "../types/type.ts";
import { checkPlainType } from "./type_checks.ts";
import { MapKind } from "./kind.ts";
import { checkMaxEntries, type CommonMapOptions, type MapSpec, type MapTypeName } from "./spec.ts";

/** The type of the values of a map without keys. */
export interface ValueTypes<V> {
  readonly value: Type<V>;
}

/** Options that every map without keys takes. */
export interface ValueMapOptions<V> extends CommonMapOptions, ValueTypes<V> {
  /** How many values it holds at the most: 1 to 2^32 - 1. All are allocated at once. */
  readonly maxEntries: number;
}

/** The kind of a class of maps without keys. */
export function valueKind<Options extends ValueMapOptions<unknown>>(
  type: MapTypeName,
  className: string,
  own: readonly string[],
  complete: (options: Options) => Partial<MapSpec>,
): MapKind<ValueTypes<unknown>, Options> {
  return new MapKind({
    type,
    className,
    options: ["value", "maxEntries", ...own],
    sizes({ value }) {
      checkPlainType("value", value);
      return { keySize: 0, valueSize: value.size };
    },
    complete(options) {
      checkMaxEntries(options.maxEntries);
      return { maxEntries: options.maxEntries, ...complete(options) };
    },
  });
}
