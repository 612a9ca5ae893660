import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { MapClass, MapOf, OptionsOf } from "../maps/map_options.ts";
import type { MapTypeName } from "../maps/map_types.ts";
import { simpleClasses, type SimpleMap, type SimpleMapName } from "./classes.ts";
import { ArrayOfMaps, HashOfMaps } from "./map_of_maps.ts";

const classes = {
  ...simpleClasses,
  hash_of_maps: HashOfMaps,
  array_of_maps: ArrayOfMaps,
} as const satisfies Partial<Record<MapTypeName, MapClass>>;

/** Options of every map type that can be created, by map type. */
type MapOptionsByType = { [N in keyof typeof classes]: OptionsOf<(typeof classes)[N]> };

/** Options of {@link createMap}: the options of a map class, and its map type as `type`. */
export type CreateMapOptions = {
  [N in keyof MapOptionsByType]: { readonly type: N } & MapOptionsByType[N];
}[keyof MapOptionsByType];

/** Type error for each option that the map type does not have, as in the constructors. */
type NoOthers<O extends CreateMapOptions> = {
  readonly [N in Exclude<keyof O, "type" | keyof MapOptionsByType[O["type"]]>]: never;
};

/** Object that {@link createMap} returns for options: a `HashMap`, an `ArrayMap`, ... */
export type CreatedMap<O extends CreateMapOptions> = O["type"] extends SimpleMapName
  ? SimpleMap<O["type"], O>
  : MapOf<(typeof classes)[O["type"]], O>;

/**
 * Creates a map of the type that the option `type` names, with the other options of its class. The function suits map types
 * that come from a table or a configuration. The result is an object of the class, with its TypeScript type.
 *
 * @throws {TypeError} if the map type is unknown.
 * @throws {BpfError | TypeError | RangeError} as the constructor of the class.
 *
 * @example
 * ```ts
 * import { createMap, t } from "bun-bpf";
 * using recent = createMap({ type: "lru_hash", key: t.ipv4, value: t.u64Number, maxEntries: 1024 });
 * recent.set("192.0.2.1", 1); // an LruHashMap with addresses as keys
 * using events = createMap({ type: "ringbuf", event: t.u64, size: 4096 });
 * console.log(`${recent}`, events.byteLength);
 * ```
 */
export function createMap<const O extends CreateMapOptions>(
  options: O & NoOthers<O>,
): CreatedMap<O> {
  const { type, ...own } = checkType(options);
  // TypeScript cannot see that the table and CreatedMap have the same classes. Each class checks its options.
  const Class = classes[type] as unknown as new (own: object) => CreatedMap<O>;
  return new Class(own);
}

function checkType<O extends CreateMapOptions>(options: O): O {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(
      `createMap: expected options such as { type: "hash", key, value, maxEntries }, got ${describe(options)}`,
    );
  }
  if (!Object.hasOwn(classes, options.type)) {
    throw new TypeError(
      `type: unknown map type ${describe(options.type)}: ${suggest(String(options.type), Object.keys(classes))}`,
    );
  }
  return options;
}
