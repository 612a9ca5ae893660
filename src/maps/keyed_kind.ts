import type { KeyedMapTypes } from "./keyed_map.ts";
import { checkTypes } from "./type_checks.ts";
import { MapKind } from "./kind.ts";
import { checkMaxEntries, type CommonMapOptions, type MapTypeName } from "./spec.ts";

/** Options of maps with any key and any value: hash tables and their kin. */
export interface KeyedMapOptions<K, V> extends CommonMapOptions, KeyedMapTypes<K, V> {
  /** How many entries it holds at the most: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** The kind of a class whose options are {@link KeyedMapOptions}. */
export function keyedKind(
  type: MapTypeName,
  className: string,
): MapKind<KeyedMapTypes<unknown, unknown>, KeyedMapOptions<unknown, unknown>> {
  return new MapKind({
    type,
    className,
    options: ["key", "value", "maxEntries"],
    sizes(types) {
      checkTypes(types);
      return { keySize: types.key.size, valueSize: types.value.size };
    },
    complete({ key, value, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, types: { key, value } };
    },
  });
}
