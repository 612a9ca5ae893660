/** @module The definitions of map classes: their options, the checks of these, and how they become specs. */

import { encodeBtf, type MapTypes } from "../btf/encode.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { closest, suggest } from "../check/names.ts";
import type { MapFlag } from "../ffi/bpf_map.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import type { Origin } from "../handle/kernel_object.ts";
import { createMapHandle, MapHandle, type MapProperties, openMapHandle } from "./create.ts";
import {
  accessBits,
  checkMaxEntries,
  commonMapOptionNames,
  type CommonMapOptions,
  commonSpec,
  type MapSpec,
  type OpenMapOptions,
} from "./map_spec.ts";
import type { MapType, MapTypeName } from "./map_types.ts";
import { i32, u32 } from "../types/integer.ts";
import { hasOpaqueField, isOpaque } from "../types/opaque.ts";
import { checkType, type Type } from "../types/type.ts";

/**
 * The classes of maps by their names, for the types `T` of keys, values and events that an object is opened or created
 * with. Each class adds itself beside its declaration.
 */
export interface MapClasses<T> {}

/** The name of a class of maps: `"HashMap"`. */
export type MapClassName = keyof MapClasses<unknown>;

/** The type that `T` has under a name: of keys, values or events. */
export type TypeIn<T, Name extends string> = T extends { readonly [N in Name]: infer X }
  ? X extends Type<unknown>
    ? X
    : never
  : never;

/** A class of maps, as far as opening and creation go. */
export interface MapClass {
  readonly kind: MapKind<MapClassName, any, any>;
  new (handle: never): object;
}

/** The types that a class is opened with. */
export type TypesOf<C extends MapClass> =
  C["kind"] extends MapKind<any, infer Types, any> ? Types : never;

/** The object of a class that is opened with the types `T`. */
export type MapOf<C extends MapClass, T> = MapClasses<T>[C["kind"]["className"]];

/** The options that a class is created with. */
export type OptionsOf<C extends MapClass> =
  C["kind"] extends MapKind<any, any, infer Options> ? Options : never;

/** The last arguments of `open`, `fromId` and `fromFd`: types and options. They are optional where no type is required. */
export type OpenArguments<C extends MapClass> =
  object extends TypesOf<C>
    ? readonly [options?: TypesOf<C> & OpenMapOptions]
    : readonly [options: TypesOf<C> & OpenMapOptions];

/** The arguments `A`, checked so that a misspelt name in them is an error of types. */
export type CheckedArguments<C extends MapClass, A extends readonly unknown[]> = {
  [I in keyof A]: A[I] & {
    readonly [N in Exclude<keyof A[I], keyof TypesOf<C> | keyof OpenMapOptions>]: never;
  };
};

/** The definition of a class of maps. */
export interface KindDefinition<
  ClassName extends MapClassName,
  Types extends object,
  Options extends Types & CommonMapOptions,
> {
  readonly row: MapType;
  readonly className: ClassName;
  /** The names of the types that an existing map is opened with. */
  readonly types: readonly (keyof Types & string)[];
  /** The names of the other options, beside those that every class has. */
  readonly options: readonly string[];
  /** The types of a map that is opened without any; there are none where they must be given. */
  readonly defaultTypes?: Types;
  /** Refuses an option that other kinds have under another name. @throws {TypeError} that tells this name */
  readonly refuseRenamed?: (className: string, options: object, known: readonly string[]) => void;
  /**
   * Checks the types and says which sizes follow from them. What is left out may be anything in a map that is opened.
   *
   * @throws {TypeError | RangeError}
   */
  sizes(types: Types): Partial<Pick<MapSpec, "keySize" | "valueSize">>;
  /**
   * Checks the other options and says what follows from them; `flags` are added to those of the options.
   *
   * @throws {TypeError | RangeError}
   */
  complete(
    options: Options,
  ): Pick<MapSpec, "maxEntries"> & Partial<Omit<MapSpec, "types">> & { types?: MapTypes };
  /** Returns the row of the maps inside, of a map of maps. */
  innerRow?(options: Options): MapType;
  /** Refuses an existing map that does not fit for another reason than its sizes. @throws {TypeError} */
  checkFit?(types: Types, info: MapProperties): void;
}

/** A class of maps as data: its map type, its options, and how they become specs and open maps. */
export class MapKind<
  ClassName extends MapClassName,
  Types extends object,
  Options extends Types & CommonMapOptions,
> {
  /** The name of the class. */
  readonly className: ClassName;
  /** @internal The row of the map type. */
  readonly row: MapType;
  readonly #definition: KindDefinition<ClassName, Types, Options>;

  /** @internal */
  constructor(definition: KindDefinition<ClassName, Types, Options>) {
    this.#definition = definition;
    this.className = definition.className;
    this.row = definition.row;
  }

  /** The map type. */
  get type(): MapTypeName {
    return this.row.type;
  }

  /** Checks options and makes plain data of them. @throws {TypeError | RangeError} */
  spec(options: Options): MapSpec {
    const { row } = this.#definition;
    this.checkNames(options);
    const sizes = { keySize: 0, valueSize: 0, ...this.#definition.sizes(options) };
    const { flags = 0, types: described, ...completed } = this.#definition.complete(options);
    const common = commonSpec(options);
    return {
      type: row.type,
      ...sizes,
      ...common,
      ...completed,
      flags: common.flags | (row.flags ?? 0) | flags,
      ...(described && { types: specTypes(row, described) }),
    };
  }

  /** @internal Checks that each option is one of the class. @throws {TypeError} */
  checkNames(options: object): void {
    const { className, types, options: names, refuseRenamed } = this.#definition;
    const known = [...types, ...names, ...commonMapOptionNames];
    refuseRenamed?.(className, options, known);
    checkOptions(className, options, known);
  }

  /** @internal Creates the map of options, or passes on the one that is open already. */
  handle<O extends Types>(options: O): MapHandle<O> {
    // Not in the declared types: the library itself opens objects so.
    if (options instanceof MapHandle) return options as MapHandle<O>;
    const complete = options as unknown as Options;
    const spec = this.spec(complete);
    const innerRow = this.#definition.innerRow?.(complete);
    const types = this.pickTypes(options);
    return createMapHandle(this.row, spec, types, complete.pin, innerRow);
  }

  /** @internal Opens a map that exists. */
  open(origin: Origin, given: (Types & OpenMapOptions) | undefined): MapHandle<Types> {
    const { className, types: names, defaultTypes } = this.#definition;
    const types = given === undefined ? defaultTypes : given;
    if (typeof types !== "object" || types === null) {
      throw new TypeError(
        `types: expected those of the map's keys and values or events, as given to new ${className}, got ${describe(types)}`,
      );
    }
    checkOptions(className, types, [...names, "flags"]);
    const sizes = this.#definition.sizes(types);
    const handle = openMapHandle(this.row, origin, sizes, this.pickTypes(types), accessBits(types));
    try {
      this.#definition.checkFit?.(types, handle.info);
      return handle;
    } catch (error) {
      handle.descriptor[Symbol.dispose]();
      throw error;
    }
  }

  /** @internal Leaves the types of an object alone, inherited ones included. */
  pickTypes<T extends object>(types: T): T {
    const names = this.#definition.types.filter((name) => name in types);
    return Object.fromEntries(names.map((name) => [name, types[name as string as keyof T]])) as T;
  }
}

/** Encodes types for the kernel. */
function specTypes(row: MapType, types: MapTypes): NonNullable<MapSpec["types"]> {
  const areRequired =
    row.with === "types" || (types.value !== undefined && hasOpaqueField(types.value));
  return { ...encodeBtf(types), areRequired };
}

/** Any `t` type. */
export type AnyType = Type<unknown>;

/** Checks that types were given, and that the kernel can find what it has to in them. @throws {TypeError} */
export function checkTypes({ key, value }: KeyedMapTypes<AnyType, AnyType>): void {
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
function checkValueType(value: Type<unknown>): void {
  checkType("value", value);
  if (isOpaque(value) || (value.kind !== "struct" && hasOpaqueField(value))) {
    throw new TypeError(
      `value: a spin lock or timer must be a field of the struct that is the value, got ${describe(value.name)}`,
    );
  }
}

/** The types of a map's keys and values. */
export interface KeyedMapTypes<K extends AnyType, V extends AnyType> {
  readonly key: K;
  readonly value: V;
}

/** Options of maps with any key and any value: hash tables and their kin. */
export interface KeyedMapOptions<K extends AnyType, V extends AnyType>
  extends CommonMapOptions, KeyedMapTypes<K, V> {
  /** The largest number of entries: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** Defines a class whose options are {@link KeyedMapOptions}. */
export function keyedKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
): MapKind<ClassName, KeyedMapTypes<AnyType, AnyType>, KeyedMapOptions<AnyType, AnyType>> {
  return new MapKind({
    row,
    className,
    types: ["key", "value"],
    options: ["maxEntries"],
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

/** The type of a map's values. */
export interface ValueTypes<V extends AnyType> {
  readonly value: V;
}

/** Options that every array of values takes. */
export interface IndexedMapOptions<V extends AnyType> extends CommonMapOptions, ValueTypes<V> {
  /** The number of values: 1 to 2^32 - 1. */
  readonly length: number;
}

/** Refuses the option `maxEntries` of an array, misspelt or not. @throws {TypeError} */
export function refuseMaxEntries(
  className: string,
  options: object,
  known: readonly string[],
): void {
  const wrong = Object.keys(options ?? {}).find((name) => !known.includes(name));
  if (wrong === undefined || closest(wrong, [...known, "maxEntries"]) !== "maxEntries") return;
  throw new TypeError(
    `${className}: unknown option ${JSON.stringify(wrong)}: the number of elements of an array is the option \`length\``,
  );
}

/** Checks the option `length` of an array. @throws {RangeError} */
export function checkLength(length: number): void {
  checkCount("length", length, 1, 0xffffffff);
}

/** Defines a class of arrays of values. */
export function arrayKind<
  ClassName extends MapClassName,
  Options extends IndexedMapOptions<AnyType> = IndexedMapOptions<AnyType>,
>(
  row: MapType,
  className: ClassName,
  extraOptions: readonly string[] = [],
  complete: (options: Options) => Partial<MapSpec> = () => ({}),
): MapKind<ClassName, ValueTypes<AnyType>, Options> {
  return new MapKind<ClassName, ValueTypes<AnyType>, Options>({
    row,
    className,
    types: ["value"],
    options: ["length", ...extraOptions],
    refuseRenamed: refuseMaxEntries,
    sizes({ value }) {
      checkValueType(value);
      return { keySize: u32.size, valueSize: value.size };
    },
    complete(options) {
      const { value, length } = options;
      checkLength(length);
      const { types: _, ...completed } = complete(options);
      return { ...completed, maxEntries: length, types: { key: u32, value } };
    },
  });
}

/** Options that every map without keys takes. */
export interface ValueMapOptions<V extends AnyType> extends CommonMapOptions, ValueTypes<V> {
  /** The largest number of values: 1 to 2^32 - 1. All are allocated at once. */
  readonly maxEntries: number;
}

/** Defines a class of maps without keys. */
export function valueKind<
  ClassName extends MapClassName,
  Options extends ValueMapOptions<AnyType> = ValueMapOptions<AnyType>,
>(
  row: MapType,
  className: ClassName,
  extraOptions: readonly string[] = [],
  complete: (
    options: Options,
  ) => Partial<Omit<MapSpec, "types">> & { types?: MapTypes } = () => ({}),
): MapKind<ClassName, ValueTypes<AnyType>, Options> {
  return new MapKind<ClassName, ValueTypes<AnyType>, Options>({
    row,
    className,
    types: ["value"],
    options: ["maxEntries", ...extraOptions],
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

/** Options that every kind of storage takes. There is no number of entries: each object has room for one value. */
export interface StorageOptions<V extends AnyType, Flag extends MapFlag = "no_prealloc">
  extends Pick<CommonMapOptions, "name" | "pin">, ValueTypes<V> {
  /** Names of flags, or the kernel's bits; `"no_prealloc"`, which the kernel asks for, is always among them. @default none */
  readonly flags?: readonly Flag[] | number;
}

/** Defines a class of storage. */
export function storageKind<ClassName extends MapClassName, Flag extends MapFlag>(
  row: MapType,
  className: ClassName,
  flagNames: readonly Flag[],
): MapKind<ClassName, ValueTypes<AnyType>, StorageOptions<AnyType, Flag>> {
  return new MapKind({
    row,
    className,
    types: ["value"],
    options: [],
    sizes({ value }) {
      checkValueType(value);
      // To user space the key is the descriptor of an object; programs have the object itself.
      return { keySize: i32.size, valueSize: value.size };
    },
    complete(options) {
      checkFlags(className, options.flags, flagNames);
      if ((options as CommonMapOptions).numaNode !== undefined) {
        throw new TypeError(
          `numaNode: the kernel allocates the values of ${className} where they are stored`,
        );
      }
      const types = { key: i32, value: options.value };
      return { maxEntries: 0, types };
    },
  });
}

/** The kernel would take `"clone"` for every kind of storage, and heed it for sockets alone. */
function checkFlags(className: string, flags: unknown, names: readonly MapFlag[]): void {
  if (!Array.isArray(flags)) return;
  const wrong: unknown = flags.find((flag) => !names.includes(flag as MapFlag));
  if (wrong === undefined) return;
  throw new TypeError(
    `flags: ${className} takes no flag ${describe(wrong)}: ${suggest(String(wrong), names)}`,
  );
}

/** Options of arrays whose values have no type of their own, as descriptors of programs or sockets. */
export interface DescriptorArrayOptions extends CommonMapOptions {
  /** The number of places: 1 to 2^32 - 1. All are empty at first. */
  readonly length: number;
}

/** Options of arrays with a place for each CPU. */
export interface CpuArrayOptions extends CommonMapOptions {
  /** The number of places: 1 to 2^32 - 1. @default one for each CPU that this machine could have */
  readonly length?: number;
}

/** Options of hash tables whose keys and values have no types of their own. */
export interface DescriptorHashOptions extends CommonMapOptions {
  /** The largest number of entries: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** Defines a class of arrays whose values have no type of their own. */
export function descriptorArrayKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
  valueSize: number,
): MapKind<ClassName, object, DescriptorArrayOptions> {
  return untypedArrayKind(row, className, valueSize);
}

/** Defines a class of arrays with a place for each CPU. */
export function cpuArrayKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
  valueSize: number,
): MapKind<ClassName, object, CpuArrayOptions> {
  return untypedArrayKind(row, className, valueSize, () => highestCpu() + 1);
}

/** @param defaultLength of an array without the option `length`, which is asked for otherwise */
function untypedArrayKind<ClassName extends MapClassName, Options extends CpuArrayOptions>(
  row: MapType,
  className: ClassName,
  valueSize: number,
  defaultLength?: () => number,
): MapKind<ClassName, object, Options> {
  return new MapKind<ClassName, object, Options>({
    row,
    className,
    types: [],
    defaultTypes: {},
    options: ["length"],
    refuseRenamed: refuseMaxEntries,
    // Maps that others made may have smaller values, as the kernel made do with in the beginning.
    sizes: () => ({ keySize: u32.size }),
    // Without a usual length, what is left out is refused as what it is.
    complete({ length = defaultLength?.() as number }) {
      checkLength(length);
      return { maxEntries: length, valueSize };
    },
  });
}

/** Ids may be left out: there can be fewer CPUs than this. */
function highestCpu(): number {
  return Math.max(...possibleCpus());
}
