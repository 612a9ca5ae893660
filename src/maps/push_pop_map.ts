import type { Hints } from "../ffi/map_hints.ts";
import { checkOptions } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import { BPF_ANY, BPF_EXIST } from "../uapi/bpf.ts";
import { ElementMap } from "./element_map.ts";
import type { MapHandle } from "./handle.ts";
import { noKey } from "./keyless.ts";
import type { ValueTypes } from "./value_kind.ts";

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
