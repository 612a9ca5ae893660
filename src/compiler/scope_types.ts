/** @module The types of a scope's members in kernel code. */

import type { AnyType, KeyedMapTypes, ValueTypes } from "../maps/map_options.ts";
import type { MapTypeName } from "../maps/map_types.ts";
import type { RingBuf } from "../ring/ring_buf.ts";
import type {
  ArrayType,
  BitsEnd,
  EnumType,
  Fields,
  Inside,
  IntegerType,
  StructType,
  Type,
  UnionType,
} from "../types/type.ts";
import type { headers } from "./language/library.ts";
import type { BpfFunction, BpfGlobal } from "./language/shared_values.ts";
import type * as constants from "../uapi/constants.ts";
import type * as errno from "../uapi/errno.ts";
import type * as network from "../uapi/network.ts";

/**
 * A value that kernel code got as a copy: its parts cannot be changed, because that would not change the original.
 */
export type Copy<T> = T extends object ? { readonly [K in keyof T]: Copy<T[K]> } : T;

/**
 * The values that kernel code can write to memory of a `t` type. A member of a union stands for the union, and the name of an
 * enum's value for its number.
 */
export type Written<X> =
  X extends StructType<infer F>
    ? WrittenStruct<F>
    : X extends UnionType<infer F>
      ? WrittenUnion<F>
      : X extends EnumType<infer Name, infer N>
        ? Name | N
        : X extends ArrayType<unknown, infer In>
          ? readonly Copy<In>[]
          : Inside<X>;

type WrittenStruct<F extends Fields> = {
  readonly [K in keyof F as F[K] extends BitsEnd ? never : K]: Written<F[K]>;
} & {};

type WrittenUnion<F extends Fields> = {
  [K in keyof F]: { readonly [N in K]: Written<F[N]> } & {
    readonly [N in Exclude<keyof F, K>]?: never;
  };
}[keyof F];

/** A type whose values have parts, so that they can be changed in place. */
interface TypeWithParts {
  readonly kind: "struct" | "union" | "array";
}

/** Methods of maps whose values have parts. */
export interface MemoryMethods<Key extends unknown[], V> {
  /** Returns the value itself: writing to it changes the map. `undefined` if there is none. */
  ref(...key: Key): Inside<V> | undefined;
}

/** Methods of maps whose values are numbers. */
export interface NumberMethods<Key extends unknown[], V> {
  /** Adds to the number, atomically unless each CPU has its own. It adds 1 by default, and a missing entry starts at 0. */
  increment(...args: [...key: Key, by?: Inside<V>]): undefined;
}

/** The methods that a map with keys has for each type of its values. */
type ByValue<Key extends unknown[], V> = (V extends TypeWithParts
  ? MemoryMethods<Key, V>
  : unknown) &
  (V extends IntegerType<number> | IntegerType<bigint> ? NumberMethods<Key, V> : unknown);

/** A map with keys, in kernel code. */
export interface KernelMap<K, V> {
  /** Returns a copy of the value; `undefined` if there is none. */
  get(key: Written<K>): Copy<Inside<V>> | undefined;
  /** Returns true if the map has the key. */
  has(key: Written<K>): boolean;
  /** Removes an entry, and returns its value. Other CPUs may change it between both. */
  take(key: Written<K>): Copy<Inside<V>> | undefined;
  /** Stores a value. Returns false if the map is full. */
  set(key: Written<K>, value: Written<V>): boolean;
  /** Stores a value if the map does not have the key. Returns false if it has it, or is full. */
  add(key: Written<K>, value: Written<V>): boolean;
  /** Stores a value if the map has the key. Returns false if it does not. */
  replace(key: Written<K>, value: Written<V>): boolean;
  /** Removes an entry. Returns false if there was none. */
  delete(key: Written<K>): boolean;
}

/** A hash table whose values have parts, in kernel code. */
export interface MemoryMap<K, V> {
  /**
   * Returns the value itself, which is stored first if there is none: writing to it changes the map. `undefined` if the map is
   * full.
   */
  getOrInit(key: Written<K>, initial: Written<V>): Inside<V> | undefined;
}

/** An array, in kernel code. */
export interface KernelArray<V> {
  /** Number of elements. */
  readonly length: number;
  /** Returns a copy of the element; `undefined` if the index is not in the array. */
  get(index: number): Copy<Inside<V>> | undefined;
  /** Stores an element. Returns false if the index is not in the array. */
  set(index: number, value: Written<V>): boolean;
}

/** A queue or a stack, in kernel code. */
export interface KernelQueue<V> {
  /** Adds a value. Returns false if there is no room. @param options `evict` removes the oldest value to make room */
  push(value: Written<V>, options?: { readonly evict: boolean }): boolean;
  /** Removes the next value and returns it; `undefined` if there is none. */
  pop(): Copy<Inside<V>> | undefined;
  /** Returns the next value; `undefined` if there is none. */
  peek(): Copy<Inside<V>> | undefined;
}

/** A Bloom filter, in kernel code. */
export interface KernelBloomFilter<V> {
  /** Adds a value. Returns false if that fails. */
  add(value: Written<V>): boolean;
  /** Returns false if the value was never added; true if it probably was. */
  has(value: Written<V>): boolean;
}

declare const stackMap: unique symbol;

/** A map of stack traces, in kernel code: for `ctx.kernelStack()` and `ctx.userStack()`. */
export interface KernelStackMap {
  /** Marker for the type checker. It does not exist at run time. */
  readonly [stackMap]: true;
}

/** An array of cgroups, in kernel code. */
export interface KernelCgroups {
  /** Returns true if the current task is in the cgroup at an index, or in one below it. */
  has(index: number): boolean;
}

/** A ring buffer, in kernel code. */
export interface KernelRing<E> {
  /** Writes a record. If there is no room it is lost, and counted in `stats.lost`. */
  output(record: Written<E>): undefined;
}

/** A global variable of any type, in kernel code. */
export interface KernelVariable<T> {
  /** The value. */
  value: Inside<T>;
}

/** Atomic operations of global variables with 32 or 64 bits, in kernel code. */
export interface AtomicVariable<T> {
  /** Adds to the value, and returns the value before. */
  add(amount: Inside<T>): Inside<T>;
  /** Stores a value, and returns the value before. */
  exchange(value: Inside<T>): Inside<T>;
  /** Stores a value if the present one is the expected one. Returns the value before. */
  compareExchange(expected: Inside<T>, value: Inside<T>): Inside<T>;
}

type KeyedName = "hash" | "lru_hash" | "percpu_hash" | "lru_percpu_hash";

/** The object in kernel code of a map with this type and these types of keys and values. */
type MapInside<Name, Types> = Name extends KeyedName
  ? Types extends KeyedMapTypes<infer K, infer V>
    ? KernelMap<K, V> &
        ByValue<[key: Written<K>], V> &
        (V extends TypeWithParts ? MemoryMap<K, V> : unknown)
    : never
  : Name extends "lpm_trie"
    ? Types extends KeyedMapTypes<infer K, infer V>
      ? KernelMap<K, V> & (V extends TypeWithParts ? MemoryMethods<[key: Written<K>], V> : unknown)
      : never
    : Types extends ValueTypes<infer V>
      ? Name extends "array" | "percpu_array"
        ? KernelArray<V> & ByValue<[index: number], V>
        : Name extends "queue" | "stack"
          ? KernelQueue<V>
          : Name extends "bloom_filter"
            ? KernelBloomFilter<V>
            : object
      : object;

type NumberArray =
  Int8Array | Uint8Array | Uint8ClampedArray | Int16Array | Uint16Array | Int32Array | Uint32Array;

/** The type that a member of a scope has in kernel code. */
export type ScopeMember<X> =
  X extends BpfGlobal<infer T>
    ? KernelVariable<T> &
        (T extends IntegerType<number> | IntegerType<bigint> ? AtomicVariable<T> : unknown)
    : X extends BpfFunction<infer A, infer R>
      ? (...args: A) => R
      : X extends RingBuf<infer E>
        ? KernelRing<E>
        : X extends { readonly type: "stack_trace" }
          ? KernelStackMap
          : X extends { readonly type: "cgroup_array" }
            ? KernelCgroups
            : X extends {
                  readonly type: infer Name extends MapTypeName;
                  readonly types: infer Types;
                }
              ? MapInside<Name, Types>
              : X extends Type<unknown>
                ? X
                : X extends (...args: never[]) => unknown
                  ? never
                  : X extends BigInt64Array | BigUint64Array
                    ? readonly bigint[]
                    : X extends NumberArray
                      ? readonly number[]
                      : Copy<X>;

/**
 * The scope of kernel code: the second parameter of its functions. It has the members that were given, as kernel code sees them,
 * and the kernel library `k`.
 */
export type Scope<Sc> = { readonly [K in keyof Sc]: ScopeMember<Sc[K]> } & {
  /** The kernel library: functions, header types and constants. */
  readonly k: KernelLibrary;
};

/** The constants of the kernel: actions, protocols, errors. */
type KernelConstants = typeof constants & typeof errno & typeof network;

/** Types of the headers of packets, for `packet.at()`. */
type PacketHeaders = typeof headers;

/** Names of the members of memory that have 32 or 64 bits. */
type NumberName<O> = { [K in keyof O]: O[K] extends number | bigint ? K : never }[keyof O];

/** The functions of the kernel library. */
export interface LibraryFunctions {
  /** The numbers from 0 up to an end, which is not one of them. For `for...of`. */
  range(end: number): Iterable<number>;
  /** Returns memory of a type, of at most 256 bytes, that is all zeros. */
  zeroed<X extends AnyType>(type: X): Inside<X>;
  /** Returns the low 32 bits of a bigint, without sign. */
  u32(value: bigint): number;
  /** Returns the low 32 bits of a bigint, with sign. */
  i32(value: bigint): number;
  /** Returns the position of the highest bit that is 1: the logarithm to base 2, rounded down. */
  log2(value: number | bigint): number;
  /** Returns the low 16 bits with their bytes swapped. */
  swap16(value: number): number;
  /** Atomic operations on memory of `ref()` and `getOrInit()`. */
  readonly atomic: {
    /** Adds to a field of 32 or 64 bits. */
    add<O extends object, N extends NumberName<O>>(object: O, field: N, amount: O[N]): undefined;
  };
}

/**
 * The kernel library: `k` in each scope. Besides its functions it has the types of packet headers (`k.Ethernet`, `k.Ipv4`,
 * `k.Ipv6`, `k.Tcp`, `k.Udp`) and the kernel's constants (`k.EACCES`, `k.AF_INET`, `k.IPPROTO_TCP`).
 */
export type KernelLibrary = LibraryFunctions & PacketHeaders & KernelConstants;
