import { BpfError } from "../ffi/error.ts";
import { MapBatch } from "../ffi/map_batch.ts";
import { listOf } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import { BPF_ANY, BPF_NOEXIST } from "../uapi/bpf.ts";
import { BatchError } from "./batch_error.ts";
import { deleteBatch } from "./delete_batch.ts";
import { ElementMap } from "./element_map.ts";
import { LookupProgram } from "./lookup_program.ts";
import { ManyLookups } from "./many_lookups.ts";

/** Maps with calls on many elements at once: in one call of bpf(2) where the kernel can, or else one by one. */
export abstract class BatchedMap<K, V, W = V> extends ElementMap<K, V, W> {
  #manyLookups: ManyLookups | undefined;

  /** @internal The values of these keys, in their order. */
  protected findMany(keys: Iterable<K>): (V | undefined)[] {
    // None may be asked for: a disposed map refuses all the same.
    void this.fd;
    const list = listOf(keys, "keys");
    const found = this.#findByProgram(list);
    if (found !== undefined) return found;
    const flags = this.defaultFlags;
    const values = new Array<V | undefined>(list.length);
    const element = this.begin();
    try {
      for (let index = 0; index < list.length; index++) {
        this.writeKey(element, list[index] as K, index);
        values[index] = element.lookup(flags) ? this.readValue(element) : undefined;
      }
      return values;
    } finally {
      this.end(element);
    }
  }

  /** @internal Stores many values: all pairs are checked before the first is stored. */
  protected updateMany(pairs: Iterable<readonly [key: K, value: W]>): void {
    void this.fd;
    // A copy: the caller's own array may change while its values are encoded, and the memory is for so many.
    const list = listOf(pairs, "pairs");
    if (list.length === 0) return;
    const { key, value } = this.layout;
    using batch = this.newBatch(list.length);
    for (let index = 0; index < list.length; index++) {
      const pair: unknown = list[index];
      if (!isPair(pair)) {
        throw new TypeError(
          `pair ${index} for ${this}: expected [key, value], got ${describe(pair)}`,
        );
      }
      this.write("key", key, batch.view, batch.keyOffset(index), pair[0] as K, index);
      this.write("value", value, batch.view, batch.valueOffset(index), pair[1] as W, index);
    }
    let applied = 0;
    try {
      const isDone = batch.update(0, list.length, this.defaultFlags) !== "unsupported";
      if (!isDone) {
        for (; applied < list.length; applied++) this.#updateFrom(batch, applied, BPF_ANY);
      }
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      throw new BatchError(
        error,
        Math.max(applied, batch.count),
        list.length,
        `store values in ${this}`,
      );
    }
  }

  /** @internal Deletes many keys; how many were there. */
  protected removeMany(keys: Iterable<K>): number {
    void this.fd;
    const list = listOf(keys, "keys");
    if (list.length === 0) return 0;
    const { key: type } = this.layout;
    using batch = this.newBatch(list.length);
    for (const [index, key] of list.entries()) {
      this.write("key", type, batch.view, batch.keyOffset(index), key, index);
    }
    return deleteBatch(batch, list.length, this.walked);
  }

  /** @internal Room for so many keys and values. */
  protected newBatch(capacity: number): MapBatch {
    const { descriptor, keySize, valueSize, what, kind } = this.walked;
    return new MapBatch(descriptor, keySize, valueSize, capacity, what, kind);
  }

  /** @internal Stores what was fetched and deleted again, where no newer value has come. */
  protected putBack(batch: MapBatch): void {
    for (let index = 0; index < batch.count; index++) this.#updateFrom(batch, index, BPF_NOEXIST);
  }

  #updateFrom(batch: MapBatch, index: number, flags: number): void {
    const element = this.begin();
    try {
      element.setKey(batch.keyBytes(index));
      element.setValue(batch.valueBytes(index));
      element.update(this.defaultFlags | flags);
    } finally {
      this.end(element);
    }
  }

  /** Look-ups in one call, where that is possible and worth it. */
  #findByProgram(keys: readonly K[]): (V | undefined)[] | undefined {
    const { key: type, value, isReadByPrograms } = this.layout;
    if (isReadByPrograms !== true || !LookupProgram.fits(value.size)) return undefined;
    this.#manyLookups ??= new ManyLookups();
    if (!this.#manyLookups.isWorthwhile(keys.length)) return undefined;
    // A program may read what this descriptor may not: it is asked first, for its error.
    this.contains(keys[0] as K);
    const { fd, type: kind, keySize } = this;
    return this.#manyLookups.find(
      { fd, type: kind, keySize, valueSize: value.size, what: `${this}` },
      keys,
      (view, offset, key, index) => {
        this.write("key", type, view, offset, key, index);
        void this.fd;
      },
      value,
    );
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#manyLookups?.[Symbol.dispose]();
  }
}

function isPair(value: unknown): value is readonly [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}
