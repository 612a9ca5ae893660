/** @module Objects of the scope besides maps and constants: global variables and functions. */

import { ArrayMap } from "../../maps/array_map.ts";
import type { AnyType } from "../../maps/map_options.ts";
import type { Infer } from "../../types/type.ts";
import type { AtomicOperator, Node } from "../ir/ir.ts";
import { loadValue, storeValue } from "./memory.ts";
import { numberOf } from "./numbers.ts";
import {
  type Argument,
  BigintValue,
  FixedValue,
  NumberValue,
  type Syntax,
  type Value,
  argument,
  type Lowering,
} from "./value.ts";
import { type MemoryPlace, writablePlace } from "./memory_place.ts";

/**
 * A variable that kernel code and this process share, made by `bpf.global()`. It lives in memory that both map.
 *
 * @example
 * ```ts
 * import { bpf, type BpfGlobal, t } from "bun-bpf";
 * const raise = (limit: BpfGlobal<typeof t.u32>, by: number) => (limit.value += by);
 * using limit = bpf.global(t.u32, 10);
 * raise(limit, 10);
 * console.log(limit.value); // 20
 * ```
 *
 * Requires Linux 5.10.
 */
export class BpfGlobal<T extends AnyType = AnyType> implements Disposable {
  /** The array with one entry that holds the variable. */
  readonly map: ArrayMap<T>;
  /** The type of the variable. */
  readonly type: T;

  /** @internal */
  constructor(type: T, initial: Infer<T>) {
    this.type = type;
    this.map = new ArrayMap<T>({ value: type, length: 1, mmap: true });
    try {
      this.value = initial;
    } catch (error) {
      this.map[Symbol.dispose]();
      throw error;
    }
  }

  /** The value. */
  get value(): Infer<T> {
    return this.type.read(this.map.view, 0) as Infer<T>;
  }

  /** Changes what kernel code reads next. */
  set value(value: Infer<T>) {
    // A value that cannot be written must not be written in part.
    const bytes = new DataView(new ArrayBuffer(this.type.size));
    this.type.write(bytes, 0, value);
    this.type.write(this.map.view, 0, value);
  }

  /** Closes the memory of this process. Loaded programs keep theirs. */
  [Symbol.dispose](): void {
    this.map[Symbol.dispose]();
  }
}

/**
 * A function with a scope of its own, made by `bpf.fn()`. In the scope of other functions it is called with its arguments,
 * without its scope.
 *
 * @example
 * ```ts
 * import { bpf, BpfFunction } from "bun-bpf";
 * const lowest = bpf.fn({ least: 1 }, ({ least }, size: number) => Math.max(size, least));
 * console.log(lowest instanceof BpfFunction, lowest.scope); // true { least: 1 }
 * ```
 *
 * Requires Linux 5.10.
 */
export class BpfFunction<A extends readonly unknown[] = never[], R = unknown> {
  /** The scope that was given. */
  readonly scope: Readonly<Record<string, unknown>>;
  /** The function that was given. Its first parameter is the scope. */
  readonly fn: (scope: never, ...args: A) => R;

  /** @internal */
  constructor(scope: Readonly<Record<string, unknown>>, fn: (scope: never, ...args: A) => R) {
    this.scope = scope;
    this.fn = fn;
  }
}

const atomics: Readonly<Record<string, AtomicOperator>> = {
  add: "add",
  exchange: "exchange",
  compareExchange: "compareExchange",
};

/** A global variable in kernel code. */
export class GlobalValue extends FixedValue {
  readonly #map: string;
  readonly #type: AnyType;

  constructor(map: string, type: AnyType) {
    super();
    this.#map = map;
    this.#type = type;
  }

  override describe(): string {
    return "a global variable";
  }

  #place(l: Lowering): MemoryPlace {
    return writablePlace(l.b.add({ kind: "mapValue", map: this.#map, offset: 0 }));
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (name === "value") return loadValue(l, this.#type, this.#place(l), at);
    return l.refuse(
      at,
      `a global variable has no property ${JSON.stringify(name)}`,
      "It has value, add, exchange and compareExchange",
    );
  }

  override setProperty(l: Lowering, name: string, value: Value, at: Syntax): void {
    if (name !== "value") return super.setProperty(l, name, value, at);
    storeValue(l, this.#type, this.#place(l), value, "value", at);
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    const operator = Object.hasOwn(atomics, name) ? atomics[name] : undefined;
    if (operator === undefined) return this.property(l, name, at).call(l, args, at);
    const { kind, size } = this.#type;
    const isBigint = kind === "u64" || kind === "i64";
    if (!isBigint && kind !== "u32" && kind !== "i32") {
      l.refuse(at, `atomic operations need integers of 32 or 64 bits, not ${this.#type.name}`);
    }
    const nodes: Node[] = args.map((arg, index) => {
      const value = argument(l, args, index, at);
      if (!isBigint) return numberOf(l, value, arg).node(l.b);
      if (value instanceof BigintValue) return value.node(l.b);
      return l.refuse(arg, `expected a bigint, got ${value.describe()}`, "Convert it: BigInt(x)");
    });
    if (nodes.length !== (name === "compareExchange" ? 2 : 1)) {
      l.refuse(at, `${name}() takes ${name === "compareExchange" ? "two values" : "one value"}`);
    }
    l.b.writes++;
    const old = l.b.add({ kind: "atomic", operator, size: size as 4 | 8, offset: 0 }, [
      this.#place(l).pointer,
      ...nodes,
    ]);
    if (isBigint) return new BigintValue(old, kind === "i64");
    if (kind === "i32") return new NumberValue(l.b.number(l.b.extend(old, 32, true)));
    return new NumberValue(l.b.number(l.b.extend(old, 32, false), { min: 0, max: 2 ** 32 - 1 }));
  }
}
