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
  E2BIG: "The map is full (maxEntries): push with { evict: true } drops the oldest value",
};

/** Options of a push. */
export interface PushOptions {
  /** Drops the oldest value when the map is full. @default false: pushing throws then */
  readonly evict?: boolean;
}

/** Maps of values without keys, put in and taken out one after the other. */
export abstract class PushPopMap<V, Name extends MapTypeName = MapTypeName> extends BpfMap<Name> {
  /** @internal Shown by the classes. */
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
   * Puts a value in.
   *
   * @throws {BpfError} `E2BIG` when it is full and nothing may be evicted: it is as before
   * @throws {TypeError | RangeError} for a value that its type refuses
   */
  push(value: V, options: PushOptions = {}): this {
    checkOptions("push", options, ["evict"]);
    const { evict = false } = options;
    checkBoolean("evict", evict);
    this.#elements.set(undefined, value, evict ? BPF_EXIST : BPF_ANY);
    return this;
  }

  /**
   * Removes the next value and returns it; `undefined` when there is none.
   *
   * @throws {DecodeError} for a value that its type cannot decode: it is removed, and the error has its bytes
   */
  pop(): V | undefined {
    return this.#elements.take(undefined);
  }

  /** The next value, which stays, or `undefined` when there is none. */
  peek(): V | undefined {
    return this.#elements.get(undefined);
  }

  /**
   * Takes the values out one after the other, each when it is handed out, until there is none: also those that are put in
   * meanwhile.
   *
   * @throws as {@link pop}
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

  /** Takes all values out that are there when it begins. */
  clear(): void {
    const elements = this.#elements;
    elements.use((element) => {
      for (let left = this.maxEntries; left > 0 && elements.takeElement(element); left--);
    });
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}

/** Options of {@link Queue}. */
export type QueueOptions<V extends AnyType> = ValueMapOptions<V>;

/**
 * A queue of values: the first one in is the first one out.
 *
 * Kernel 4.20. Programs push and pop as well, which makes it a mailbox between them and user space. There is nothing to
 * wait on: a reader asks. The kernel does not count its values.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` or `E2BIG` where the kernel has no memory for all values
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { Queue, t } from "bun-bpf";
 * using jobs = new Queue({ value: t.u32, maxEntries: 2 });
 * jobs.push(1).push(2).push(3, { evict: true });
 * console.log(jobs.peek(), jobs.pop(), jobs.pop(), jobs.pop()); // 2 2 3 undefined
 * ```
 */
export class Queue<V extends AnyType> extends PushPopMap<Infer<V>, "queue"> {
  static readonly kind = /*@__PURE__*/ valueKind(QUEUE, "Queue");
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;

  constructor(options: QueueOptions<V>) {
    super(Queue.kind.handle(options));
  }
}

/** Options of {@link Stack}. */
export type StackOptions<V extends AnyType> = ValueMapOptions<V>;

/**
 * A stack of values: the last one in is the first one out.
 *
 * Kernel 4.20. Programs push and pop as well; a pool of free numbers is its usual use. The kernel does not count its
 * values.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` or `E2BIG` where the kernel has no memory for all values
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { Stack, t } from "bun-bpf";
 * using free = new Stack({ value: t.u32, maxEntries: 1024 });
 * free.push(7).push(8);
 * console.log(free.pop(), [...free.takeAll()]); // 8 [ 7 ]
 * ```
 */
export class Stack<V extends AnyType> extends PushPopMap<Infer<V>, "stack"> {
  static readonly kind = /*@__PURE__*/ valueKind(STACK, "Stack");
  /** The type that values are written and read with. */
  declare readonly types: ValueTypes<V>;

  constructor(options: StackOptions<V>) {
    super(Stack.kind.handle(options));
  }
}

/** Options of {@link BloomFilter}: `maxEntries` is how many values it is made for; more can be added, at worse odds. */
export interface BloomFilterOptions<V extends AnyType> extends ValueMapOptions<V> {
  /** The number of hash functions: 1 to 15. More make fewer errors and cost more. @default 5 (the kernel's choice) */
  readonly hashes?: number;
}

/**
 * A Bloom filter: whether a value was added for certain not, or probably. It takes little memory whatever the size of the
 * values, and spares programs look-ups in large maps.
 *
 * Kernel 5.16. Values cannot be removed, nor listed.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.16
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BloomFilter, t } from "bun-bpf";
 * using seen = new BloomFilter({ value: t.ipv4, maxEntries: 10_000, hashes: 3 });
 * seen.add("192.0.2.1");
 * console.log(seen.has("192.0.2.1"), seen.has("198.51.100.7")); // true false
 * ```
 */
export class BloomFilter<V extends AnyType> extends BpfMap<"bloom_filter"> {
  static readonly kind = /*@__PURE__*/ valueKind(
    BLOOM_FILTER,
    "BloomFilter",
    ["hashes"],
    ({ hashes, value }: BloomFilterOptions<AnyType>) => {
      if (hashes !== undefined) checkCount("hashes", hashes, 1, 15);
      return { mapExtra: hashes ?? 0, types: { value } };
    },
  );
  /** The type that values are written with. */
  readonly types: ValueTypes<V>;
  readonly #elements: MapElements<undefined, Infer<V>>;

  constructor(options: BloomFilterOptions<V>) {
    const handle = BloomFilter.kind.handle(options);
    super(handle);
    this.types = handle.types;
    const value = handle.types.value as Type<Infer<V>>;
    this.#elements = new MapElements(handle, { key: noKey, value });
  }

  /** Adds a value. @throws {TypeError | RangeError} for a value that its type refuses */
  add(value: Infer<V>): this {
    this.#elements.set(undefined, value, BPF_ANY);
    return this;
  }

  /** False for a value that was never added; true for one that was, and by mistake for a few others. */
  has(value: Infer<V>): boolean {
    const elements = this.#elements;
    return elements.use((element) => {
      elements.write("value", elements.layout.value, element.view, element.valueOffset, value);
      // The type's code may have disposed of the map.
      void this.fd;
      // The kernel reads the value at its place.
      return element.lookup(0);
    });
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#elements[Symbol.dispose]();
  }
}
