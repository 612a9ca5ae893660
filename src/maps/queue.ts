import { checkBoolean, checkCount, checkOptions } from "../check/arguments.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import type { MapHandle } from "./create.ts";
import { MapElements, noKey } from "./elements.ts";
import { BpfMap } from "./bpf_map.ts";
import {
  type AnyType,
  type TypeIn,
  valueKind,
  type ValueMapOptions,
  type ValueTypes,
} from "./map_options.ts";
import { BLOOM_FILTER, QUEUE, STACK, type MapTypeName } from "./map_types.ts";
import type { Infer, Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST } from "../uapi/bpf.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    Queue: Queue<TypeIn<T, "value">>;
    Stack: Stack<TypeIn<T, "value">>;
    BloomFilter: BloomFilter<TypeIn<T, "value">>;
  }
}

const hints: Hints = {
  E2BIG:
    "The map is full: increase maxEntries, or push with { evict: true } to drop the oldest value",
};

/** Options of `push`. */
export interface PushOptions {
  /**
   * Removes the oldest value if the map is full.
   *
   * @default false: `push` throws if the map is full
   */
  readonly evict?: boolean;
}

/** Base class of maps of values without keys: {@link Queue} and {@link Stack}. */
export abstract class PushPopMap<V, Name extends MapTypeName = MapTypeName> extends BpfMap<Name> {
  /** @internal Redeclared by the classes. */
  protected readonly types: object;
  readonly #elements: MapElements<undefined, V>;

  /** @internal */
  protected constructor(handle: MapHandle<ValueTypes<AnyType>>) {
    super(handle);
    this.types = handle.types;
    const value = handle.types.value as Type<V>;
    this.#elements = new MapElements(handle, { key: noKey, value, hints });
  }

  /**
   * Adds a value.
   *
   * @throws {BpfError} E2BIG if the map is full and `evict` is false. Nothing is added then.
   * @throws {TypeError | RangeError} if the value type rejects the value.
   */
  push(value: V, options: PushOptions = {}): this {
    checkOptions("push", options, ["evict"]);
    const { evict = false } = options;
    checkBoolean("evict", evict);
    this.#elements.set(undefined, value, evict ? BPF_EXIST : BPF_ANY);
    return this;
  }

  /**
   * Removes the next value and returns it, in one step. Returns `undefined` if the map is empty.
   *
   * @throws {DecodeError} if the value type cannot decode the value. The value is removed, and the error has its bytes.
   */
  pop(): V | undefined {
    return this.#elements.take(undefined);
  }

  /**
   * Returns the next value and leaves it in the map. Returns `undefined` if the map is empty.
   *
   * @throws {DecodeError} if the value type cannot decode the value.
   */
  peek(): V | undefined {
    return this.#elements.get(undefined);
  }

  /**
   * Iterates over the values and removes each one when it is returned. The loop ends when the map is empty, so it also
   * returns values that are added meanwhile.
   *
   * @throws {DecodeError} if the value type cannot decode a value. The value is removed, and the error has its bytes.
   */
  *takeAll(): Generator<V, undefined, undefined> {
    const elements = this.#elements;
    for (;;) {
      const taken = elements.use((element) =>
        elements.takeElement(element) ? ([elements.read(element)] as const) : undefined,
      );
      if (taken === undefined) return undefined;
      yield taken[0];
    }
  }

  /** Removes at most `maxEntries` values: all that are in the map when the call begins. */
  clear(): void {
    const elements = this.#elements;
    elements.use((element) => {
      for (let left = this.maxEntries; left > 0 && elements.takeElement(element); left--);
    });
  }

  /** Closes the descriptor and frees the memory for calls. Further calls do nothing. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}

/** Options of {@link Queue}. */
export type QueueOptions<V extends AnyType> = ValueMapOptions<V>;

/**
 * Queue of values: first in, first out.
 *
 * Programs push and pop as well, which makes the queue a mailbox between programs and user space. The kernel does not wake
 * readers: user space has to poll with `pop`. The kernel keeps no count of the values.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM or E2BIG if the kernel has no memory for all values.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { Queue, t } from "bun-bpf";
 * using jobs = new Queue({ value: t.u32, maxEntries: 2 });
 * jobs.push(1).push(2).push(3, { evict: true });
 * console.log(jobs.peek(), jobs.pop(), jobs.pop(), jobs.pop()); // 2 2 3 undefined
 * ```
 *
 * Requires Linux 4.20.
 */
export class Queue<V extends AnyType> extends PushPopMap<Infer<V>, "queue"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ valueKind(QUEUE, "Queue");
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: QueueOptions<V>) {
    super(Queue.kind.handle(options));
  }
}

/** Options of {@link Stack}. */
export type StackOptions<V extends AnyType> = ValueMapOptions<V>;

/**
 * Stack of values: last in, first out.
 *
 * Programs push and pop as well. A stack is often used as a pool of free numbers. The kernel keeps no count of the values.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} ENOMEM or E2BIG if the kernel has no memory for all values.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { Stack, t } from "bun-bpf";
 * using free = new Stack({ value: t.u32, maxEntries: 1024 });
 * free.push(7).push(8);
 * console.log(free.pop(), [...free.takeAll()]); // 8 [ 7 ]
 * ```
 *
 * Requires Linux 4.20.
 */
export class Stack<V extends AnyType> extends PushPopMap<Infer<V>, "stack"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ valueKind(STACK, "Stack");
  /** Type of the values. */
  declare readonly types: ValueTypes<V>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: StackOptions<V>) {
    super(Stack.kind.handle(options));
  }
}

/**
 * Options of {@link BloomFilter}. `maxEntries` is the expected number of values: more can be added, but the rate of false
 * positives grows.
 */
export interface BloomFilterOptions<V extends AnyType> extends ValueMapOptions<V> {
  /**
   * Number of hash functions: 1 to 15. More functions cause fewer false positives and cost more time.
   *
   * @default 5 (the kernel's choice)
   */
  readonly hashes?: number;
}

/**
 * Bloom filter: a set that may report values that were never added, but never misses one that was added. It takes little
 * memory, independent of the size of the values, and saves programs look-ups in large maps.
 *
 * Values cannot be removed or listed.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 5.16.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { BloomFilter, t } from "bun-bpf";
 * using seen = new BloomFilter({ value: t.ipv4, maxEntries: 10_000, hashes: 3 });
 * seen.add("192.0.2.1");
 * console.log(seen.has("192.0.2.1"), seen.has("198.51.100.7")); // true false
 * ```
 *
 * Requires Linux 5.16.
 */
export class BloomFilter<V extends AnyType> extends BpfMap<"bloom_filter"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ valueKind(
    BLOOM_FILTER,
    "BloomFilter",
    ["hashes"],
    ({ hashes, value }: BloomFilterOptions<AnyType>) => {
      if (hashes !== undefined) checkCount("hashes", hashes, 1, 15);
      return { mapExtra: hashes ?? 0, types: { value } };
    },
  );
  /** Type of the values. */
  readonly types: ValueTypes<V>;
  readonly #elements: MapElements<undefined, Infer<V>>;

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: BloomFilterOptions<V>) {
    const handle = BloomFilter.kind.handle(options);
    super(handle);
    this.types = handle.types;
    const value = handle.types.value as Type<Infer<V>>;
    this.#elements = new MapElements(handle, { key: noKey, value });
  }

  /**
   * Adds a value.
   *
   * @throws {TypeError | RangeError} if the value type rejects the value.
   */
  add(value: Infer<V>): this {
    this.#elements.set(undefined, value, BPF_ANY);
    return this;
  }

  /**
   * Returns false if the value was never added. Returns true if it was added, and for a small share of other values.
   *
   * @throws {TypeError | RangeError} if the value type rejects the value.
   */
  has(value: Infer<V>): boolean {
    const elements = this.#elements;
    return elements.use((element) => {
      elements.write("value", elements.layout.value, element.view, element.valueOffset, value);
      // The type's code may have disposed of the map.
      void this.fd;
      // For a Bloom filter, BPF_MAP_LOOKUP_ELEM reads the value as its input.
      return element.lookup(0);
    });
  }

  /** Closes the descriptor and frees the memory for calls. Further calls do nothing. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}
