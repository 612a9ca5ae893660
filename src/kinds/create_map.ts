import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import {
  type BuildIdIn,
  simpleClasses,
  type SimpleMapsByKind,
  type SimpleOptionsByKind,
  type TypeIn,
} from "./classes.ts";
import {
  ArrayOfMaps,
  type ArrayOfMapsOptions,
  HashOfMaps,
  type HashOfMapsOptions,
  type InnerMapTypes,
} from "./map_of_maps.ts";

/** The options of every kind of map, by the kernel's names. */
export interface MapOptionsByKind extends SimpleOptionsByKind {
  hash_of_maps: HashOfMapsOptions<unknown, InnerMapTypes>;
  array_of_maps: ArrayOfMapsOptions<InnerMapTypes>;
}

/** The name of a kind of map that can be created: `"lru_hash"`, `"ringbuf"`, ... */
export type CreatedMapName = keyof MapOptionsByKind;

/** Options of {@link createMap}: those of a class, and the kind as `type`. */
export type CreateMapOptions = {
  [N in CreatedMapName]: { readonly type: N } & MapOptionsByKind[N];
}[CreatedMapName];

/** Makes an option that the kind does not have an error of types, as a class's constructor does. */
type NoOthers<O extends CreateMapOptions> = {
  readonly [N in Exclude<keyof O, "type" | keyof MapOptionsByKind[O["type"]]>]: never;
};

type InnerIn<O> = O extends { readonly inner: infer I extends InnerMapTypes } ? I : never;

interface MapsByKind<K, V, E, B extends boolean, I extends InnerMapTypes> extends SimpleMapsByKind<
  K,
  V,
  E,
  B
> {
  hash_of_maps: HashOfMaps<K, I>;
  array_of_maps: ArrayOfMaps<I>;
}

/** The class that {@link createMap} makes of options. */
export type CreatedMap<O extends CreateMapOptions> = MapsByKind<
  TypeIn<O, "key">,
  TypeIn<O, "value">,
  TypeIn<O, "event">,
  BuildIdIn<O>,
  InnerIn<O>
>[O["type"]];

const classes = {
  ...simpleClasses,
  hash_of_maps: HashOfMaps,
  array_of_maps: ArrayOfMaps,
} satisfies Record<CreatedMapName, unknown>;

/**
 * Creates a map of the kind that `type` names, with the options of its class: for kinds that come from a table or a
 * configuration. The result is of that class, and typed by it.
 *
 * @throws {TypeError} for a kind that there is not; and what the class's constructor throws
 *
 * @example
 * ```ts
 * import { createMap, t } from "bun-bpf";
 * using recent = createMap({ type: "lru_hash", key: t.ipv4, value: t.u64Number, maxEntries: 1024 });
 * recent.set("192.0.2.1", 1); // an LruHashMap<string, number>
 * using events = createMap({ type: "ringbuf", event: t.u64, size: 4096 });
 * console.log(`${recent}`, events.byteLength);
 * ```
 */
export function createMap<const O extends CreateMapOptions>(
  options: O & NoOthers<O>,
): CreatedMap<O> {
  const { type, ...own } = checkType(options);
  // The table and MapsByKind name the same classes, each of which checks its options: TypeScript cannot tell.
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
      `type: unknown kind of map ${describe(options.type)}: ${suggest(String(options.type), Object.keys(classes))}`,
    );
  }
  return options;
}
