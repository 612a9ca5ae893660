import { expect } from "bun:test";
import { type AssociativeMap, BatchError, BpfError } from "../../src/index.ts";
import type { Random } from "../types/random.ts";
import type { Bytes } from "./random_bytes.ts";

type Pair<V> = readonly [key: Bytes, value: V];

const hex = (bytes: Bytes): string => bytes.toHex();

/** Returns the E2BIG error of a full map that a call throws. Rethrows any other error. */
function refusesAsFull(call: () => unknown): BpfError {
  try {
    call();
  } catch (error) {
    if (error instanceof BpfError && error.code === "E2BIG") return error;
    throw error;
  }
  throw new Error("a full map stored another entry");
}

/** Map of the kernel, and functions for the random operations on it. */
export interface PairOptions<V> {
  readonly random: Random;
  /** Map of the kernel. It is disposed of with the pair. */
  readonly map: AssociativeMap<Bytes, V>;
  readonly keys: readonly Bytes[];
  /** Returns a new random value. */
  value(): V;
  /** Returns a string that differs for different values. */
  text(value: V): string;
  /** Checks further methods of the map for a key that has this value in the model. */
  alsoLook?(key: Bytes, expected: string | undefined): void;
}

/** Map of the kernel and a JavaScript Map, to which the same random operations are applied. */
export class MapPair<V> implements Disposable {
  readonly #options: PairOptions<V>;
  readonly #random: Random;
  readonly #map: AssociativeMap<Bytes, V>;
  readonly #model = new Map<string, string>();

  constructor(options: PairOptions<V>) {
    this.#options = options;
    this.#random = options.random;
    this.#map = options.map;
  }

  #key(): Bytes {
    return this.#random.pick(this.#options.keys);
  }

  #pair(): Pair<V> {
    return [this.#key(), this.#options.value()];
  }

  #some<T>(make: () => T): T[] {
    return Array.from({ length: this.#random.below(12) }, make);
  }

  readonly #operations: readonly (() => void)[] = [
    () => this.#set(...this.#pair()),
    () => this.#set(...this.#pair()),
    () => this.#add(...this.#pair()),
    () => this.#replace(...this.#pair()),
    () => this.#setMany(this.#some(() => this.#pair())),
    () => this.#look(this.#key()),
    () => this.#look(this.#key()),
    () => this.#delete(this.#key()),
    () => this.#take(this.#key()),
    () => this.#getMany(this.#some(() => this.#key())),
    () => this.#deleteMany(this.#some(() => this.#key())),
    () => this.#takeAll(this.#random.below(4)),
    () => this.#takeAllInBatches(1 + this.#random.below(9)),
    () => {
      if (this.#random.below(50) > 0) return;
      this.#map.clear();
      this.#model.clear();
    },
    () => {
      if (this.#random.below(20) === 0) this.compare();
    },
  ];

  step(): void {
    this.#random.pick(this.#operations)();
  }

  compare(): void {
    const { text } = this.#options;
    const entries = [...this.#map].map(([key, value]) => [hex(key), text(value)] as const);
    expect(new Map(entries)).toEqual(this.#model);
    expect(entries).toHaveLength(this.#model.size);
    expect([...this.#map.keys()].map(hex).sort()).toEqual([...this.#model.keys()].sort());
    expect([...this.#map.values()].map(text).sort()).toEqual([...this.#model.values()].sort());
    const batches = [...this.#map.entriesInBatches({ max: 1 + this.#random.below(9) })].flat();
    expect(new Map(batches.map(([key, value]) => [hex(key), text(value)]))).toEqual(this.#model);
    expect(batches).toHaveLength(this.#model.size);
    expect(this.#map.count()).toBe(this.#model.size);
  }

  /** Stores a value in the model if it has room for the key. Returns true if it was stored. */
  #takes(key: Bytes, value: V): boolean {
    const isNew = !this.#model.has(hex(key));
    if (isNew && this.#model.size >= this.#map.maxEntries) return false;
    this.#model.set(hex(key), this.#options.text(value));
    return true;
  }

  #set(key: Bytes, value: V): void {
    if (this.#takes(key, value)) this.#map.set(key, value);
    else refusesAsFull(() => this.#map.set(key, value));
  }

  #add(key: Bytes, value: V): void {
    if (this.#model.has(hex(key))) expect(this.#map.add(key, value)).toBe(false);
    else if (this.#takes(key, value)) expect(this.#map.add(key, value)).toBe(true);
    else refusesAsFull(() => this.#map.add(key, value));
  }

  #replace(key: Bytes, value: V): void {
    const isPresent = this.#model.has(hex(key));
    if (isPresent) this.#model.set(hex(key), this.#options.text(value));
    expect(this.#map.replace(key, value)).toBe(isPresent);
  }

  #setMany(pairs: readonly Pair<V>[]): void {
    const refused = pairs.findIndex(([key, value]) => !this.#takes(key, value));
    if (refused === -1) {
      this.#map.setMany(pairs);
      return;
    }
    const error = refusesAsFull(() => this.#map.setMany(pairs));
    expect(error).toBeInstanceOf(BatchError);
    expect((error as BatchError).applied).toBe(refused);
  }

  #expected(key: Bytes): string | undefined {
    return this.#model.get(hex(key));
  }

  #expectValue(value: V | undefined, key: Bytes): void {
    const text = value === undefined ? undefined : this.#options.text(value);
    expect(text).toBe(this.#expected(key));
  }

  #look(key: Bytes): void {
    this.#expectValue(this.#map.get(key), key);
    expect(this.#map.has(key)).toBe(this.#model.has(hex(key)));
    this.#options.alsoLook?.(key, this.#expected(key));
  }

  #delete(key: Bytes): void {
    expect(this.#map.delete(key)).toBe(this.#model.delete(hex(key)));
  }

  #take(key: Bytes): void {
    this.#expectValue(this.#map.take(key), key);
    this.#model.delete(hex(key));
  }

  #getMany(keys: readonly Bytes[]): void {
    const values = this.#map.getMany(keys);
    expect(values).toHaveLength(keys.length);
    for (const [index, key] of keys.entries()) this.#expectValue(values[index], key);
  }

  #deleteMany(keys: readonly Bytes[]): void {
    const deleted = keys.filter((key) => this.#model.delete(hex(key))).length;
    expect(this.#map.deleteMany(keys)).toBe(deleted);
  }

  #takeAll(limit: number): void {
    for (const [key, value] of this.#map.takeAll()) {
      this.#expectValue(value, key);
      expect(this.#model.delete(hex(key))).toBe(true);
      if (--limit <= 0) break;
    }
  }

  /** Takes at most one array of entries: otherwise the map would be empty most of the time. */
  #takeAllInBatches(max: number): void {
    for (const entries of this.#map.takeAllInBatches({ max })) {
      for (const [key, value] of entries) {
        this.#expectValue(value, key);
        expect(this.#model.delete(hex(key))).toBe(true);
      }
      break;
    }
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}
