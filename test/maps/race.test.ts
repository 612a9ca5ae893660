/** Iteration during which an entry is deleted at the worst moment, between two system calls. */
import { afterEach, describe, expect, mock, spyOn } from "bun:test";
import { elementKeyOffset, MapElement } from "../../src/ffi/bpf_map_element.ts";
import { type AssociativeMap, features, LpmTrie, t } from "../../src/index.ts";
import { TrieWalk, type Walk, type WalkedMap } from "../../src/maps/walk.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { batchlessMap } from "./batchless.ts";
import { KeyByKeyTrie } from "./key_by_key_trie.ts";

afterEach(() => mock.restore());

const trieTest = testWith(features.fixes.get("lpm_trie_next_key"));

const count = 400;
const networks = { key: t.cidr4, value: t.u32, maxEntries: count };
const network = (number: number) => `10.${number >> 8}.${number & 255}.0/24`;

type Meanwhile = (key: Uint8Array) => void;

/**
 * Calls `meanwhile` with a key after each system call with that key, or after each call that returned it as the next key.
 */
function onEachCall(
  when: "after a call with their key" | "after a call that returned their key",
  meanwhile: Meanwhile,
): void {
  const { lookup, nextKey } = MapElement.prototype;
  const keyAt = ({ view }: MapElement, offset: number, end: number) =>
    new Uint8Array(view.buffer, view.byteOffset + offset, end - offset).slice();
  spyOn(MapElement.prototype, "lookup").mockImplementation(function (
    this: MapElement,
    flags: number,
  ) {
    const isPresent = lookup.call(this, flags);
    if (when === "after a call with their key")
      meanwhile(keyAt(this, elementKeyOffset, this.nextKeyOffset));
    return isPresent;
  });
  spyOn(MapElement.prototype, "nextKey").mockImplementation(function (
    this: MapElement,
    first: boolean,
  ) {
    const from = keyAt(this, this.nextKeyOffset, this.valueOffset);
    const isMore = nextKey.call(this, first);
    if (when === "after a call that returned their key")
      meanwhile(keyAt(this, this.nextKeyOffset, this.valueOffset));
    else if (!first) meanwhile(from);
    return isMore;
  });
}

/** Walk whose batches consist of single steps, as in the kernel (`generic_map_lookup_batch`). */
class SteppedWalk extends TrieWalk {
  readonly #element: MapElement;

  constructor(map: WalkedMap, meanwhile: Meanwhile) {
    super(map);
    const element = new MapElement(map.descriptor.fd, map.keySize, map.valueSize, map.what);
    this.#element = element;
    let isFirst = true;
    this.lookup = () => {
      for (this.count = 0; this.count < this.limit;) {
        if (!element.nextKey(isFirst)) return "end";
        isFirst = false;
        element.useNextKey();
        if (!element.lookup(map.flags)) continue;
        element.copyTo(this.bytes, this.keyOffset(this.count), this.valueOffset(this.count));
        this.count++;
        const key = new Uint8Array(map.keySize);
        element.copyKeyTo(key, 0);
        meanwhile(key);
      }
      return "more";
    };
  }

  override [Symbol.dispose](): void {
    this.#element[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}

class SteppedTrie extends LpmTrie<t.Type<string>, t.Type<number>> {
  meanwhile: Meanwhile = () => {};

  protected override walk(): Walk {
    return new SteppedWalk(this.elements.walked, (key) => this.meanwhile(key));
  }
}

/** Returns a function that deletes the given keys, each once. */
function deleter<K>(
  map: AssociativeMap<K, number>,
  type: { read(view: DataView, offset: number): K },
  victims: Set<K>,
): Meanwhile {
  return (bytes) => {
    const key = type.read(new DataView(bytes.buffer, bytes.byteOffset), 0);
    if (victims.delete(key)) map.delete(key);
  };
}

/** Iterates while every key `from + n * every` is deleted right after the system call on it. */
function walkWhileDeleted<K>(
  map: AssociativeMap<K, number>,
  [from, every]: readonly [number, number],
  begin: (victims: Set<K>) => void,
): void {
  const order = [...map.keys()];
  expect(order.length).toBe(count);
  const victims = order.filter((_, index) => index >= from && index % every === 0);
  const left = new Set(victims);
  begin(left);
  const seen: K[] = [];
  for (const key of map.keys()) {
    if (seen.push(key) > 10 * count) throw new Error("the walk does not end");
  }
  // All of them were deleted.
  expect(left.size).toBe(0);
  const staying = order.filter((key) => !victims.includes(key));
  expect(seen.filter((key) => !victims.includes(key))).toEqual(staying);
  expect(new Set(seen).size).toBe(seen.length);
}

const patterns = [
  [0, 40],
  [1, 7],
  [count / 2, 3],
  [count - 20, 2],
] as const;

describe.each(patterns)(
  "deleting entries from %d on, every %d, between two calls",
  (...pattern) => {
    for (const when of [
      "after a call with their key",
      "after a call that returned their key",
    ] as const) {
      bpfTest(`hides no other entry from iteration over a map without batches, ${when}`, () => {
        using map = batchlessMap(count);
        for (let key = 1; key <= count; key++) map.set(key, 1);
        walkWhileDeleted(map, pattern, (victims) => onEachCall(when, deleter(map, t.u32, victims)));
      });

      trieTest(`hides no other entry from iteration over a trie key by key, ${when}`, () => {
        using trie = new KeyByKeyTrie(networks);
        for (let number = 0; number < count; number++) trie.set(network(number), number);
        walkWhileDeleted(trie, pattern, (victims) =>
          onEachCall(when, deleter(trie, t.cidr4, victims)),
        );
      });
    }

    trieTest("hides no other entry from iteration over a trie in batches", () => {
      using trie = new SteppedTrie(networks);
      for (let number = 0; number < count; number++) trie.set(network(number), number);
      walkWhileDeleted(trie, pattern, (victims) => {
        trie.meanwhile = deleter(trie, t.cidr4, victims);
      });
    });
  },
);
