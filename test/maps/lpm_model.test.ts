import { describe, expect } from "bun:test";
import { BatchError, BpfError, LpmTrie, t, features } from "../../src/index.ts";
import type { Type } from "../../src/types/type.ts";
import { type Random, withRandom } from "../types/random.ts";
import { bitsOf, compareBits, type PrefixKey, prefixType, randomPrefixes } from "./prefixes.ts";
import { type Bytes, randomBytes } from "./random_bytes.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";

/** Key for the trie, and its form in the model. */
interface Prefix<K> {
  readonly key: K;
  /** See {@link bitsOf}. */
  readonly bits: string;
}

interface Stored<K> {
  /** Key as last stored, including the bits after the prefix. */
  readonly key: K;
  readonly value: string;
}

function refusesAsFull(call: () => unknown): BpfError {
  try {
    call();
  } catch (error) {
    if (error instanceof BpfError && error.code === "ENOSPC") return error;
    throw error;
  }
  throw new Error("a full trie took one more");
}

/** Trie of the kernel and a list of prefixes, to which the same random operations are applied. */
class TriePair<K> implements Disposable {
  readonly #random: Random;
  readonly #trie: LpmTrie<t.Type<K>, t.Type<Bytes>>;
  readonly #prefixes: readonly Prefix<K>[];
  readonly #model = new Map<string, Stored<K>>();

  constructor(
    random: Random,
    trie: LpmTrie<t.Type<K>, t.Type<Bytes>>,
    prefixes: readonly Prefix<K>[],
  ) {
    this.#random = random;
    this.#trie = trie;
    this.#prefixes = prefixes;
  }

  readonly #operations: readonly (() => void)[] = [
    () => this.#set(this.#any()),
    () => this.#set(this.#any()),
    () => this.#add(this.#any()),
    () => this.#replace(this.#any()),
    () => this.#setMany(this.#some()),
    () => this.#look(this.#any()),
    () => this.#look(this.#any()),
    () => this.#delete(this.#any()),
    () => this.#take(this.#any()),
    () => this.#getMany(this.#some()),
    () => this.#deleteMany(this.#some()),
    () => this.#takeAll(1 + this.#random.below(4), (max) => this.#trie.takeAll().take(max)),
    () =>
      this.#takeAll(1 + this.#random.below(4), (max) =>
        [...this.#trie.takeAllInBatches({ max }).take(1)].flat(),
      ),
    () => {
      if (this.#random.below(50) > 0) return;
      this.#trie.clear();
      this.#model.clear();
    },
    () => {
      if (this.#random.below(20) === 0) this.compare();
    },
  ];

  step(): void {
    this.#random.pick(this.#operations)();
  }

  #any(): Prefix<K> {
    return this.#random.pick(this.#prefixes);
  }

  #some(): Prefix<K>[] {
    return Array.from({ length: this.#random.below(12) }, () => this.#any());
  }

  #value(): Bytes {
    return randomBytes(this.#random, this.#trie.types.value.size);
  }

  /** Returns the value of the longest prefix that covers this one or is this one. */
  #match({ bits }: Prefix<K>): string | undefined {
    let longest: string | undefined;
    for (const stored of this.#model.keys()) {
      if (bits.startsWith(stored) && stored.length >= (longest?.length ?? 0)) longest = stored;
    }
    return longest === undefined ? undefined : this.#model.get(longest)?.value;
  }

  #ordered(): readonly Stored<K>[] {
    return [...this.#model].sort(([a], [b]) => compareBits(a, b)).map(([, stored]) => stored);
  }

  compare(): void {
    const expected = this.#ordered();
    const entries = [...this.#trie].map(([key, value]) => ({ key, value: value.toHex() }));
    expect(entries).toEqual([...expected]);
    expect([...this.#trie.keys()]).toEqual(expected.map(({ key }) => key));
    expect([...this.#trie.values()].map((value) => value.toHex())).toEqual(
      expected.map(({ value }) => value),
    );
    expect(this.#trie.count()).toBe(expected.length);
  }

  /** Stores a value in the model if it has room for the prefix. Returns true if it was stored. */
  #takes({ key, bits }: Prefix<K>, value: Bytes): boolean {
    if (!this.#model.has(bits) && this.#model.size >= this.#trie.maxEntries) return false;
    this.#model.set(bits, { key, value: value.toHex() });
    return true;
  }

  #set(prefix: Prefix<K>): void {
    const value = this.#value();
    if (this.#takes(prefix, value)) this.#trie.set(prefix.key, value);
    else refusesAsFull(() => this.#trie.set(prefix.key, value));
  }

  #add(prefix: Prefix<K>): void {
    const value = this.#value();
    const add = () => this.#trie.add(prefix.key, value);
    if (this.#model.has(prefix.bits)) expect(add()).toBe(false);
    else if (this.#takes(prefix, value)) expect(add()).toBe(true);
    else refusesAsFull(add);
  }

  #replace(prefix: Prefix<K>): void {
    const value = this.#value();
    const isPresent = this.#model.has(prefix.bits) && this.#takes(prefix, value);
    expect(this.#trie.replace(prefix.key, value)).toBe(isPresent);
  }

  #setMany(prefixes: readonly Prefix<K>[]): void {
    const pairs = prefixes.map((prefix) => [prefix, this.#value()] as const);
    const refused = pairs.findIndex(([prefix, value]) => !this.#takes(prefix, value));
    const setMany = () => this.#trie.setMany(pairs.map(([{ key }, value]) => [key, value]));
    if (refused === -1) {
      setMany();
      return;
    }
    const error = refusesAsFull(setMany);
    expect(error).toBeInstanceOf(BatchError);
    expect((error as BatchError).applied).toBe(refused);
  }

  #look(prefix: Prefix<K>): void {
    const expected = this.#match(prefix);
    expect(this.#trie.get(prefix.key)?.toHex()).toBe(expected);
    expect(this.#trie.has(prefix.key)).toBe(expected !== undefined);
  }

  #getMany(prefixes: readonly Prefix<K>[]): void {
    const values = this.#trie.getMany(prefixes.map(({ key }) => key));
    expect(values.map((value) => value?.toHex())).toEqual(
      prefixes.map((prefix) => this.#match(prefix)),
    );
  }

  #delete({ key, bits }: Prefix<K>): void {
    expect(this.#trie.delete(key)).toBe(this.#model.delete(bits));
  }

  #deleteMany(prefixes: readonly Prefix<K>[]): void {
    const deleted = prefixes.filter(({ bits }) => this.#model.delete(bits)).length;
    expect(this.#trie.deleteMany(prefixes.map(({ key }) => key))).toBe(deleted);
  }

  /** Deletes exactly this prefix: one that covers it stays. */
  #take({ key, bits }: Prefix<K>): void {
    expect(this.#trie.take(key)?.toHex()).toBe(this.#model.get(bits)?.value);
    this.#model.delete(bits);
  }

  #takeAll(limit: number, take: (limit: number) => Iterable<[K, Bytes]>): void {
    const expected = [...this.#model].sort(([a], [b]) => compareBits(a, b)).slice(0, limit);
    const taken = [...take(limit)].map(([key, value]) => ({ key, value: value.toHex() }));
    expect(taken).toEqual(expected.map(([, stored]) => stored));
    for (const [bits] of expected) this.#model.delete(bits);
  }

  [Symbol.dispose](): void {
    this.#trie[Symbol.dispose]();
  }
}

/** Converts networks from the general form to text, through the memory that both types describe. */
function through<K>(type: Type<K>, prefix: PrefixKey): K {
  const view = new DataView(new ArrayBuffer(type.size));
  prefixType(prefix.address.length).write(view, 0, prefix);
  return type.read(view, 0);
}

const stepsEach = repetitions(2000);

function testTrie<K>(name: string, type: Type<K>, bytes: number, isExact: boolean): void {
  testWith(features.fixes.get("lpm_trie_update"))(name, () => {
    withRandom((random) => {
      const maxEntries = 1 + random.below(60);
      const value = t.bytes(1 + random.below(64));
      const prefixes = randomPrefixes(random, bytes, 2 * maxEntries, isExact).map((prefix) => ({
        key: through(type, prefix),
        bits: bitsOf(prefix),
      }));
      using pair = new TriePair(random, new LpmTrie({ key: type, value, maxEntries }), prefixes);
      for (let step = 0; step < stepsEach; step++) pair.step();
      pair.compare();
    });
  });
}

describe("an LPM trie behaves like a linear search among prefixes", () => {
  testTrie("networks of IPv4", t.cidr4, 4, true);
  testTrie("networks of IPv6", t.cidr6, 16, true);
  for (const bytes of [1, 2, 3, 4, 16, 256]) {
    testTrie(`addresses of ${bytes} bytes`, prefixType(bytes), bytes, false);
  }
  // Prefixes never include address bits that are in the padding of the struct.
  testTrie("an address with padding", t.struct({ length: t.u32, address: t.bytes(3) }), 3, false);
});
