/** @module Checks of the types of keys, values and events: before the kernel is asked for a map. */

import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { createMapHandle, type ExpectedMap, type MapHandle, openMapHandle } from "./create.ts";
import type { KeyedMapTypes } from "./keyed_map.ts";
import {
  checkMaxEntries,
  commonMapOptionNames,
  type CommonMapOptions,
  commonSpec,
  type MapFlag,
  type MapSpec,
} from "./map_spec.ts";
import type { MapTypeName } from "./map_types.ts";
import { i32, u32 } from "../types/integer.ts";
import { hasOpaqueField, isOpaque } from "../types/opaque.ts";
import { checkType, type Type } from "../types/type.ts";
import { BPF_F_NO_PREALLOC } from "../uapi/bpf.ts";

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

/** What distinguishes a kind of map from the others. */
export interface KindDefinition<Types, Options> {
  readonly type: MapTypeName;
  /** The class, for messages. */
  readonly className: string;
  /** The names of its options, beside those that every kind has. */
  readonly options: readonly string[];
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
  complete(options: Options): Pick<MapSpec, "maxEntries"> & Partial<MapSpec>;
}

/** How the maps of one kind are made and opened: the part of a class that does not depend on its operations. */
export class MapKind<Types extends object, Options extends Types & CommonMapOptions> {
  readonly #definition: KindDefinition<Types, Options>;

  constructor(definition: KindDefinition<Types, Options>) {
    this.#definition = definition;
  }

  get type(): MapTypeName {
    return this.#definition.type;
  }

  /** Checks options and makes plain data of them. @throws {TypeError | RangeError} */
  spec(options: Options): MapSpec {
    const { type, className, options: names } = this.#definition;
    checkOptions(className, options, [...names, ...commonMapOptionNames]);
    const sizes = { keySize: 0, valueSize: 0, ...this.#definition.sizes(options) };
    const { flags = 0, ...completed } = this.#definition.complete(options);
    const common = commonSpec(options);
    return { type, ...sizes, ...common, ...completed, flags: common.flags | flags };
  }

  /** @param options all of them, as the class's own constructor asks for */
  create(options: Types): MapHandle {
    // A constructor takes options or, from within the library alone, types with an existing map: here it is options.
    const complete = options as unknown as Options;
    return createMapHandle(this.spec(complete), complete.pin);
  }

  open(path: string, types: Types): MapHandle {
    return openMapHandle({ path }, this.#expected(types));
  }

  byId(id: number, types: Types): MapHandle {
    return openMapHandle({ id }, this.#expected(types));
  }

  byFd(fd: number, types: Types): MapHandle {
    return openMapHandle({ fd }, this.#expected(types));
  }

  #expected(types: Types): ExpectedMap {
    if (typeof types !== "object" || types === null) {
      throw new TypeError(
        `types: expected those of the map's keys and values or events, as given to new ${this.#definition.className}, got ${describe(types)}`,
      );
    }
    return { type: this.#definition.type, ...this.#definition.sizes(types) };
  }
}

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

/** The type of the values that are kept with objects of the kernel. */
export interface StorageTypes<V> {
  readonly value: Type<V>;
}

/** Options that every kind of storage takes. There is no number of entries: each object has room for one value. */
export interface StorageOptions<V, Flag extends MapFlag = "no_prealloc">
  extends Pick<CommonMapOptions, "name" | "pin">, StorageTypes<V> {
  /** Names of flags, or the kernel's bits; `"no_prealloc"`, which the kernel asks for, is always among them. @default none */
  readonly flags?: readonly Flag[] | number;
}

/** The kind of a class of storage. */
export function storageKind<Flag extends MapFlag>(
  type: MapTypeName,
  className: string,
  flagNames: readonly Flag[],
): MapKind<StorageTypes<unknown>, StorageOptions<unknown, Flag>> {
  return new MapKind({
    type,
    className,
    options: ["value"],
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
      return { maxEntries: 0, flags: BPF_F_NO_PREALLOC, types };
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
  /** The length: 1 to 2^32 - 1. All places are empty at first. */
  readonly maxEntries: number;
}

/** Options of arrays with a place for each CPU. */
export interface CpuArrayOptions extends CommonMapOptions {
  /** The length: 1 to 2^32 - 1. @default a place for each CPU that this machine could have */
  readonly maxEntries?: number;
}

/** Types of maps that have none to choose. */
export const noTypes: object = {};

/** The kind of a class of arrays whose values have no type of their own. */
export function descriptorArrayKind(
  type: MapTypeName,
  className: string,
  valueSize: number,
): MapKind<object, DescriptorArrayOptions> {
  return untypedArrayKind(type, className, valueSize);
}

/** The same for arrays with a place for each CPU. */
export function cpuArrayKind(
  type: MapTypeName,
  className: string,
  valueSize: number,
): MapKind<object, CpuArrayOptions> {
  return untypedArrayKind(type, className, valueSize, () => largestCpu() + 1);
}

/** @param usualLength of an array without the option `maxEntries`, which is asked for otherwise */
function untypedArrayKind<Options extends CpuArrayOptions>(
  type: MapTypeName,
  className: string,
  valueSize: number,
  usualLength?: () => number,
): MapKind<object, Options> {
  return new MapKind({
    type,
    className,
    options: ["maxEntries"],
    // Maps that others made may have smaller values, as the kernel made do with in the beginning.
    sizes: () => ({ keySize: u32.size }),
    // Without a usual length, what is left out is refused as what it is.
    complete({ maxEntries = usualLength?.() as number }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, valueSize };
    },
  });
}

/** Ids may be left out: there can be fewer CPUs than this. */
function largestCpu(): number {
  return Math.max(...possibleCpus());
}
