/** @module Definitions of the map classes: their options, checks of the options, and conversion to specs. */

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
 * Map classes by name, for the types `T` of keys, values and events that an object is created or opened with. The file of
 * each class adds its own line.
 *
 * @hidden
 */
export interface MapClasses<T> {}

/** Name of a map class: `"HashMap"`. */
export type MapClassName = keyof MapClasses<unknown>;

/** Type that `T` has under a name: the type of keys, values or events. */
export type TypeIn<T, Name extends string> = T extends { readonly [N in Name]: infer X }
  ? X extends Type<unknown>
    ? X
    : never
  : never;

/** Map class, with the static members that `open`, `fromId`, `fromFd` and `createMap` use. */
export interface MapClass {
  /** Definition of the class. */
  readonly kind: MapKind<MapClassName, any, any>;
  new (handle: never): object;
}

/** Types that an object of a class is opened with. */
export type TypesOf<C extends MapClass> =
  C["kind"] extends MapKind<any, infer Types, any> ? Types : never;

/** Object of a class with the types `T`. */
export type MapOf<C extends MapClass, T> = MapClasses<T>[C["kind"]["className"]];

/** Options of the constructor of a class. */
export type OptionsOf<C extends MapClass> =
  C["kind"] extends MapKind<any, any, infer Options> ? Options : never;

/**
 * Last arguments of `open`, `fromId` and `fromFd`: types and {@link OpenMapOptions}. The argument is optional for classes
 * that require no type.
 */
export type OpenArguments<C extends MapClass> =
  object extends TypesOf<C>
    ? readonly [options?: TypesOf<C> & OpenMapOptions]
    : readonly [options: TypesOf<C> & OpenMapOptions];

/** The arguments `A`, with a type error for each property that the class does not have. */
export type CheckedArguments<C extends MapClass, A extends readonly unknown[]> = {
  [I in keyof A]: A[I] & {
    readonly [N in Exclude<keyof A[I], keyof TypesOf<C> | keyof OpenMapOptions>]: never;
  };
};

/** Definition of a map class. */
export interface KindDefinition<
  ClassName extends MapClassName,
  Types extends object,
  Options extends Types & CommonMapOptions,
> {
  /** Row of the map type. */
  readonly row: MapType;
  /** Name of the class. */
  readonly className: ClassName;
  /** Names of the types that an existing map is opened with. */
  readonly types: readonly (keyof Types & string)[];
  /** Names of the other options, except the options that every class has. */
  readonly options: readonly string[];
  /** Types of a map that is opened without types. `undefined` if types are required. */
  readonly defaultTypes?: Types;
  /**
   * Rejects an option that other classes have under another name.
   *
   * @throws {TypeError} that names the right option.
   */
  readonly refuseRenamed?: (className: string, options: object, known: readonly string[]) => void;
  /**
   * Checks the types and returns the sizes that follow from them. An opened map may have any key or value size that is not
   * returned.
   *
   * @throws {TypeError | RangeError} if the class cannot have the types.
   */
  sizes(types: Types): Partial<Pick<MapSpec, "keySize" | "valueSize">>;
  /**
   * Checks the other options and returns the rest of the spec. The returned `flags` are combined with the flags of the
   * options.
   *
   * @throws {TypeError | RangeError} if an option has the wrong type or is out of range.
   */
  complete(
    options: Options,
  ): Pick<MapSpec, "maxEntries"> & Partial<Omit<MapSpec, "types">> & { types?: MapTypes };
  /** Returns the row of the inner maps, for a map of maps. */
  innerRow?(options: Options): MapType;
  /**
   * Checks an existing map beyond its sizes.
   *
   * @throws {TypeError} if the map does not fit.
   */
  checkFit?(types: Types, info: MapProperties): void;
}

/** Definition of a map class as data: its map type, its options, and their conversion to specs and open maps. */
export class MapKind<
  ClassName extends MapClassName,
  Types extends object,
  Options extends Types & CommonMapOptions,
> {
  /** Name of the class. */
  readonly className: ClassName;
  /** @internal Row of the map type. */
  readonly row: MapType;
  readonly #definition: KindDefinition<ClassName, Types, Options>;

  /** @internal */
  constructor(definition: KindDefinition<ClassName, Types, Options>) {
    this.#definition = definition;
    this.className = definition.className;
    this.row = definition.row;
  }

  /** Map type of the class. */
  get type(): MapTypeName {
    return this.row.type;
  }

  /**
   * Checks options and returns the spec of the map: plain data.
   *
   * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
   */
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

  /**
   * @internal Checks that the class has each of the options.
   *
   * @throws {TypeError} that names an option that the class does not have.
   */
  checkNames(options: object): void {
    const { className, types, options: names, refuseRenamed } = this.#definition;
    const known = [...types, ...names, ...commonMapOptionNames];
    refuseRenamed?.(className, options, known);
    checkOptions(className, options, known);
  }

  /** @internal Creates the map that options describe. If the argument is a {@link MapHandle}, returns it unchanged. */
  handle<O extends Types>(options: O): MapHandle<O> {
    // `open`, `fromId`, `fromFd` and `dup` pass a handle, which the declared types hide from users.
    if (options instanceof MapHandle) return options as MapHandle<O>;
    const complete = options as unknown as Options;
    const spec = this.spec(complete);
    const innerRow = this.#definition.innerRow?.(complete);
    const types = this.pickTypes(options);
    return createMapHandle(this.row, spec, types, complete.pin, innerRow);
  }

  /** @internal Opens an existing map. */
  open(origin: Origin, given: (Types & OpenMapOptions) | undefined): MapHandle<Types> {
    const { className, types: names, defaultTypes } = this.#definition;
    const types = given === undefined ? defaultTypes : given;
    if (typeof types !== "object" || types === null) {
      throw new TypeError(
        `types: expected those of the map's keys and values or events, as passed to new ${className}, got ${describe(types)}`,
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

  /** @internal Returns only the types among options, including inherited properties. */
  pickTypes<T extends object>(types: T): T {
    const names = this.#definition.types.filter((name) => name in types);
    return Object.fromEntries(names.map((name) => [name, types[name as string as keyof T]])) as T;
  }
}

/** Encodes types as BTF. */
function specTypes(row: MapType, types: MapTypes): NonNullable<MapSpec["types"]> {
  const areRequired =
    row.creationInput === "types" || (types.value !== undefined && hasOpaqueField(types.value));
  return { ...encodeBtf(types), areRequired };
}

/** Any `t` type. */
export type AnyType = Type<unknown>;

/**
 * Checks the types of keys and values.
 *
 * @throws {TypeError} if a type has a spin lock or timer in a place where the kernel does not look for one.
 */
export function checkTypes({ key, value }: KeyedMapTypes<AnyType, AnyType>): void {
  checkPlainType("key", key);
  checkValueType(value);
}

/**
 * Checks a type that must not have spin locks or timers, because the kernel does not look for them there.
 *
 * @throws {TypeError} if the type has one, or is not a `t` type.
 */
export function checkPlainType(what: string, type: Type<unknown>): void {
  checkType(what, type);
  if (isOpaque(type) || hasOpaqueField(type)) {
    throw new TypeError(
      `${what}: expected a type without a spin lock or timer, got ${describe(type.name)}`,
    );
  }
}

/**
 * Checks the type of a map's values.
 *
 * @throws {TypeError} if the type has a spin lock or timer outside a struct, or is not a `t` type.
 */
function checkValueType(value: Type<unknown>): void {
  checkType("value", value);
  if (isOpaque(value) || (value.kind !== "struct" && hasOpaqueField(value))) {
    throw new TypeError(
      `value: a spin lock or timer must be a field of the struct that is the value, got ${describe(value.name)}`,
    );
  }
}

/** Types of a map's keys and values. */
export interface KeyedMapTypes<K extends AnyType, V extends AnyType> {
  /** Type of the keys. */
  readonly key: K;
  /** Type of the values. In a per-CPU map, it is the type of the value of one CPU. */
  readonly value: V;
}

/** Options of maps with keys and values of any type: hash tables and LPM tries. */
export interface KeyedMapOptions<K extends AnyType, V extends AnyType>
  extends CommonMapOptions, KeyedMapTypes<K, V> {
  /** Largest number of entries: 1 to 2^32 - 1. */
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

/** Type of a map's values. */
export interface ValueTypes<V extends AnyType> {
  /** Type of the values. In a per-CPU map, it is the type of the value of one CPU. */
  readonly value: V;
}

/** Options of arrays of values. */
export interface IndexedMapOptions<V extends AnyType> extends CommonMapOptions, ValueTypes<V> {
  /** Number of elements: 1 to 2^32 - 1. */
  readonly length: number;
}

/**
 * Rejects the option `maxEntries` of an array, also if it is misspelt.
 *
 * @throws {TypeError} that names the option `length`.
 */
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

/**
 * Checks the option `length` of an array.
 *
 * @throws {RangeError} if it is not an integer from 1 to 2^32 - 1.
 */
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

/** Options of maps without keys: queues, stacks and Bloom filters. */
export interface ValueMapOptions<V extends AnyType> extends CommonMapOptions, ValueTypes<V> {
  /** Largest number of values: 1 to 2^32 - 1. The kernel allocates all values at creation. */
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

/** Options of local storage. There is no limit on entries: each socket, task, inode or cgroup has room for one value. */
export interface StorageOptions<V extends AnyType, Flag extends MapFlag = "no_prealloc">
  extends Pick<CommonMapOptions, "name" | "pin">, ValueTypes<V> {
  /**
   * Names of flags, or the kernel's bits. The required flag `"no_prealloc"` is always added.
   *
   * @default none
   */
  readonly flags?: readonly Flag[] | number;
}

/** Defines a class of local storage. */
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
      // For user space the key is a descriptor of the owner; programs pass the owner itself.
      return { keySize: i32.size, valueSize: value.size };
    },
    complete(options) {
      checkFlags(className, options.flags, flagNames);
      if ((options as CommonMapOptions).numaNode !== undefined) {
        throw new TypeError(
          `numaNode: ${className} does not support it, because the kernel allocates values when they are stored`,
        );
      }
      const types = { key: i32, value: options.value };
      return { maxEntries: 0, types };
    },
  });
}

/**
 * Checks the names of flags. The kernel accepts `"clone"` for every storage type, but applies it to sockets only.
 *
 * @throws {TypeError} if the class does not have one of the flags.
 */
function checkFlags(className: string, flags: unknown, names: readonly MapFlag[]): void {
  if (!Array.isArray(flags)) return;
  const wrong: unknown = flags.find((flag) => !names.includes(flag as MapFlag));
  if (wrong === undefined) return;
  throw new TypeError(
    `flags: ${className} takes no flag ${describe(wrong)}: ${suggest(String(wrong), names)}`,
  );
}

/** Options of arrays whose values are kernel objects such as programs or sockets, stored by descriptor. */
export interface DescriptorArrayOptions extends CommonMapOptions {
  /** Number of slots: 1 to 2^32 - 1. All are empty at first. */
  readonly length: number;
}

/** Options of arrays with one slot for each CPU. */
export interface CpuArrayOptions extends CommonMapOptions {
  /**
   * Number of slots: 1 to 2^32 - 1.
   *
   * @default one more than the highest of {@link possibleCpus}
   */
  readonly length?: number;
}

/** Options of hash tables whose keys and values have fixed types. */
export interface DescriptorHashOptions extends CommonMapOptions {
  /** Largest number of entries: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/** Defines a class of arrays of kernel objects. */
export function descriptorArrayKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
  valueSize: number,
): MapKind<ClassName, object, DescriptorArrayOptions> {
  return untypedArrayKind(row, className, valueSize);
}

/** Defines a class of arrays with one slot for each CPU. */
export function cpuArrayKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
  valueSize: number,
): MapKind<ClassName, object, CpuArrayOptions> {
  return untypedArrayKind(row, className, valueSize, () => highestCpu() + 1);
}

/** @param defaultLength returns the default of the option `length`; if absent, that option is required */
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
    // Existing maps may have the smaller values of older kernels' interfaces.
    sizes: () => ({ keySize: u32.size }),
    // Without a default, checkLength() rejects a missing length.
    complete({ length = defaultLength?.() as number }) {
      checkLength(length);
      return { maxEntries: length, valueSize };
    },
  });
}

/** Returns the highest possible CPU number. The numbers can have gaps, so the machine can have fewer CPUs. */
function highestCpu(): number {
  return Math.max(...possibleCpus());
}
