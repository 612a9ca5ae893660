import { describe, expect } from "bun:test";
import { BatchError, BpfError, HashMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { type Random, withRandom } from "../types/random.ts";

type Bytes = Uint8Array;
type Pair = readonly [key: Bytes, value: Bytes];

const hex = (bytes: Bytes): string => bytes.toHex();

/** Takes the error of a full map, and no other. */
function refusesAsFull(call: () => unknown): BpfError {
  try {
    call();
  } catch (error) {
    if (error instanceof BpfError && error.code === "E2BIG") return error;
    throw error;
  }
  throw new Error("a full map took one more");
}

/** A hash map of the kernel beside one of JavaScript, on which the same is done. */
class HashPair implements Disposable {
  readonly #random: Random;
  readonly #map: HashMap<Bytes, Bytes>;
  readonly #model = new Map<string, string>();
  readonly #keys: readonly Bytes[];
  readonly #valueSize: number;
  readonly #maxEntries: number;

  constructor(random: Random, keySize: number, valueSize: number, maxEntries: number) {
    this.#random = random;
    this.#valueSize = valueSize;
    this.#maxEntries = maxEntries;
    const flags = random.below(2) === 0 ? (["no-prealloc"] as const) : [];
    const types = { key: t.bytes(keySize), value: t.bytes(valueSize) };
    this.#map = new HashMap({ ...types, maxEntries, flags });
    // More keys than there is room for, so that the map is full now and then; one byte has 256 only.
    const count = Math.min(2 * maxEntries, keySize === 1 ? 256 : Number.POSITIVE_INFINITY);
    const keys = new Map<string, Bytes>();
    while (keys.size < count) {
      const key = this.#bytes(keySize);
      keys.set(hex(key), key);
    }
    this.#keys = [...keys.values()];
  }

  #bytes(length: number): Bytes {
    return Uint8Array.from({ length }, () => this.#random.below(256));
  }

  #pair(): Pair {
    return [this.#random.pick(this.#keys), this.#bytes(this.#valueSize)];
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
    () => this.#look(this.#random.pick(this.#keys)),
    () => this.#look(this.#random.pick(this.#keys)),
    () => this.#delete(this.#random.pick(this.#keys)),
    () => this.#take(this.#random.pick(this.#keys)),
    () => this.#getMany(this.#some(() => this.#random.pick(this.#keys))),
    () => this.#deleteMany(this.#some(() => this.#random.pick(this.#keys))),
    () => this.#drain(this.#random.below(4)),
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
    const entries = [...this.#map].map(([key, value]) => [hex(key), hex(value)] as const);
    expect(new Map(entries)).toEqual(this.#model);
    expect(entries).toHaveLength(this.#model.size);
    expect(this.#map.count()).toBe(this.#model.size);
  }

  /** What the model says of room for a key; it takes the value if there is. */
  #takes(key: Bytes, value: Bytes): boolean {
    if (!this.#model.has(hex(key)) && this.#model.size >= this.#maxEntries) return false;
    this.#model.set(hex(key), hex(value));
    return true;
  }

  #set(key: Bytes, value: Bytes): void {
    if (this.#takes(key, value)) this.#map.set(key, value);
    else refusesAsFull(() => this.#map.set(key, value));
  }

  #add(key: Bytes, value: Bytes): void {
    if (this.#model.has(hex(key))) expect(this.#map.add(key, value)).toBe(false);
    else if (this.#takes(key, value)) expect(this.#map.add(key, value)).toBe(true);
    else refusesAsFull(() => this.#map.add(key, value));
  }

  #replace(key: Bytes, value: Bytes): void {
    const isPresent = this.#model.has(hex(key));
    if (isPresent) this.#model.set(hex(key), hex(value));
    expect(this.#map.replace(key, value)).toBe(isPresent);
  }

  #setMany(pairs: readonly Pair[]): void {
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

  #look(key: Bytes): void {
    const value = this.#map.get(key);
    expect(value && hex(value)).toBe(this.#expected(key));
    expect(this.#map.has(key)).toBe(this.#model.has(hex(key)));
  }

  #delete(key: Bytes): void {
    expect(this.#map.delete(key)).toBe(this.#model.delete(hex(key)));
  }

  #take(key: Bytes): void {
    const value = this.#map.take(key);
    expect(value && hex(value)).toBe(this.#expected(key));
    this.#model.delete(hex(key));
  }

  #getMany(keys: readonly Bytes[]): void {
    const values = this.#map.getMany(keys).map((value) => value && hex(value));
    expect(values).toEqual(keys.map((key) => this.#expected(key)));
  }

  #deleteMany(keys: readonly Bytes[]): void {
    const deleted = keys.filter((key) => this.#model.delete(hex(key))).length;
    expect(this.#map.deleteMany(keys)).toBe(deleted);
  }

  #drain(limit: number): void {
    for (const [key, value] of this.#map.drain()) {
      expect(this.#expected(key)).toBe(hex(value));
      this.#model.delete(hex(key));
      if (--limit <= 0) break;
    }
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}

// The smallest, odd ones, those around 8 and the largest; the rest is random.
const sizes = [
  [1, 1],
  [3, 5],
  [7, 9],
  [8, 8],
  [64, 512],
] as const;
const stepsEach = 1500;

describe("a hash map does what a Map does", () => {
  for (const [keySize, valueSize] of [...sizes, undefined, undefined, undefined].map(
    (pair) => pair ?? [undefined, undefined],
  )) {
    const name =
      keySize === undefined ? "random sizes" : `keys of ${keySize}, values of ${valueSize} bytes`;
    bpfTest(name, () => {
      withRandom((random) => {
        using pair = new HashPair(
          random,
          keySize ?? 1 + random.below(64),
          valueSize ?? 1 + random.below(512),
          1 + random.below(60),
        );
        for (let step = 0; step < stepsEach; step++) pair.step();
        pair.compare();
      });
    });
  }
});
