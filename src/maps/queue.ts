import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import type { MapHandle } from "./create.ts";
import { ElementMap, noKey } from "./element_map.ts";
import { valueKind, type ValueMapOptions, type ValueTypes } from "./map_options.ts";
import type { Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST } from "../uapi/bpf.ts";

const hints: Hints = {
  E2BIG: "The map is full (maxEntries): push with { evict: true } drops the oldest value",
};

/** How a value is pushed. */
export interface PushOptions {
  /** Whether the oldest value makes room when the map is full. @default false: pushing throws then */
  readonly evict?: boolean;
}

/** Maps of values without keys, put in and taken out one after the other. */
export abstract class PushPopMap<V> extends ElementMap<undefined, V> {
  /** The type that values are written and read with. */
  readonly types: ValueTypes<V>;

  /** @internal */
  protected constructor(handle: MapHandle, value: Type<V>) {
    super(handle, { key: noKey, value, hints });
    this.types = { value };
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
    if (typeof evict !== "boolean") {
      throw new TypeError(`evict: expected true or false, got ${describe(evict)}`);
    }
    this.update(undefined, value, evict ? BPF_EXIST : BPF_ANY);
    return this;
  }

  /** Takes the next value out, or `undefined` when there is none. */
  pop(): V | undefined {
    return this.takeOut(undefined);
  }

  /** The next value, which stays, or `undefined` when there is none. */
  peek(): V | undefined {
    return this.find(undefined);
  }

  /**
   * Takes the values out one after the other, each when it is handed out, until there is none: also those that are put in
   * meanwhile.
   */
  *drain(): Generator<V, undefined, undefined> {
    for (;;) {
      const element = this.begin();
      let value: V;
      try {
        if (!this.takeElement(element)) return undefined;
        value = this.readValue(element);
      } finally {
        this.end(element);
      }
      yield value;
    }
  }

  /** Takes all values out that are there when it begins. */
  clear(): void {
    const element = this.begin();
    try {
      for (let left = this.maxEntries; left > 0 && this.takeElement(element); left--);
    } finally {
      this.end(element);
    }
  }
}

/** Options of {@link Queue}. */
export type QueueOptions<V> = ValueMapOptions<V>;

/**
 * A queue of values: the first one in is the first one out.
 *
 * Kernel 4.20. Programs push and pop as well, which makes it a mailbox between them and user space. There is nothing to
 * wait on: a reader asks. The kernel has no number of the values in it.
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
export class Queue<V> extends PushPopMap<V> {
  /** @internal */
  static readonly kind = valueKind("queue", "Queue", [], () => ({}));

  constructor(options: QueueOptions<V>);
  /** @internal */
  constructor(types: ValueTypes<V>, existing: MapHandle);
  constructor(options: ValueTypes<V>, existing = Queue.kind.create(options)) {
    super(existing, options.value);
  }

  /** Opens the queue pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<V>(path: string, types: ValueTypes<V>): Queue<V> {
    return new Queue(types, Queue.kind.open(path, types));
  }

  /** Opens a queue by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: ValueTypes<V>): Queue<V> {
    return new Queue(types, Queue.kind.byId(id, types));
  }

  /** Opens the queue behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: ValueTypes<V>): Queue<V> {
    return new Queue(types, Queue.kind.byFd(fd, types));
  }

  override dup(): Queue<V> {
    return new Queue(this.types, this.duplicateHandle());
  }
}

/** Options of {@link Stack}. */
export type StackOptions<V> = ValueMapOptions<V>;

/**
 * A stack of values: the last one in is the first one out.
 *
 * Kernel 4.20. Programs push and pop as well; a pool of free numbers is its usual use. The kernel has no number of the
 * values in it.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` or `E2BIG` where the kernel has no memory for all values
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { Stack, t } from "bun-bpf";
 * using free = new Stack({ value: t.u32, maxEntries: 1024 });
 * free.push(7).push(8);
 * console.log(free.pop(), [...free.drain()]); // 8 [ 7 ]
 * ```
 */
export class Stack<V> extends PushPopMap<V> {
  /** @internal */
  static readonly kind = valueKind("stack", "Stack", [], () => ({}));

  constructor(options: StackOptions<V>);
  /** @internal */
  constructor(types: ValueTypes<V>, existing: MapHandle);
  constructor(options: ValueTypes<V>, existing = Stack.kind.create(options)) {
    super(existing, options.value);
  }

  /** Opens the stack pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<V>(path: string, types: ValueTypes<V>): Stack<V> {
    return new Stack(types, Stack.kind.open(path, types));
  }

  /** Opens a stack by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: ValueTypes<V>): Stack<V> {
    return new Stack(types, Stack.kind.byId(id, types));
  }

  /** Opens the stack behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: ValueTypes<V>): Stack<V> {
    return new Stack(types, Stack.kind.byFd(fd, types));
  }

  override dup(): Stack<V> {
    return new Stack(this.types, this.duplicateHandle());
  }
}

/** Options of {@link BloomFilter}: `maxEntries` is how many values it is made for; more can be added, at worse odds. */
export interface BloomFilterOptions<V> extends ValueMapOptions<V> {
  /** How many hash functions: 1 to 15. More make fewer errors and cost more. @default 5 (the kernel's choice) */
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
export class BloomFilter<V> extends ElementMap<undefined, V> {
  /** @internal */
  static readonly kind = valueKind(
    "bloom_filter",
    "BloomFilter",
    ["hashes"],
    ({ hashes, value }: BloomFilterOptions<unknown>) => {
      if (hashes !== undefined) checkCount("hashes", hashes, 1, 15);
      return { mapExtra: hashes ?? 0, types: { value } };
    },
  );
  /** The type that values are written with. */
  readonly types: ValueTypes<V>;

  constructor(options: BloomFilterOptions<V>);
  /** @internal */
  constructor(types: ValueTypes<V>, existing: MapHandle);
  constructor(options: ValueTypes<V>, existing = BloomFilter.kind.create(options)) {
    const { value } = options;
    super(existing, { key: noKey, value });
    this.types = { value };
  }

  /** Opens the filter pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<V>(path: string, types: ValueTypes<V>): BloomFilter<V> {
    return new BloomFilter(types, BloomFilter.kind.open(path, types));
  }

  /** Opens a filter by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: ValueTypes<V>): BloomFilter<V> {
    return new BloomFilter(types, BloomFilter.kind.byId(id, types));
  }

  /** Opens the filter behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: ValueTypes<V>): BloomFilter<V> {
    return new BloomFilter(types, BloomFilter.kind.byFd(fd, types));
  }

  /** Adds a value. @throws {TypeError | RangeError} for a value that its type refuses */
  add(value: V): this {
    this.update(undefined, value, BPF_ANY);
    return this;
  }

  /** False for a value that was never added; true for one that was, and by mistake for a few others. */
  has(value: V): boolean {
    const element = this.begin();
    try {
      // The kernel reads the value where it writes those of other kinds.
      this.write("value", this.types.value, element.view, element.valueOffset, value);
      void this.fd;
      return element.lookup(0);
    } finally {
      this.end(element);
    }
  }

  override dup(): BloomFilter<V> {
    return new BloomFilter(this.types, this.duplicateHandle());
  }
}
