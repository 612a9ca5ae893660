import {
  type AssociativeMap,
  HashMap,
  LpmTrie,
  LruHashMap,
  LruPerCpuHashMap,
  PerCpuHashMap,
  possibleCpus,
  t,
} from "../../src/index.ts";
import { BatchlessMap, batchlessMap } from "./batchless.ts";
import { KeyByKeyTrie } from "./key_by_key_trie.ts";

export type Key = number | string;
export type ChurnedMap = AssociativeMap<Key, unknown>;

/** A kind of map that one thread walks over while another one changes it. */
export interface ChurnedKind {
  create(maxEntries: number): ChurnedMap;
  /** Opens it in the other thread. */
  open(fd: number): ChurnedMap;
  /** A different key for each number below {@link keyCount}. */
  key(number: number): Key;
  /** The value of the key of that number, always the same. */
  value(number: number): unknown;
  readonly maxEntries: number;
  /** Whether the kernel's walk gives no key twice. */
  readonly isOnce: boolean;
  /**
   * Whether the kernel's walk leaves none out: that of tries does so now and then, with a whole branch, where the node at
   * hand is replaced or moved during the call (`trie_get_next_key` compares it with its parent's child; seen on 6.18).
   */
  readonly isComplete: boolean;
}

const numbers = { key: t.u32, value: t.u32 };
const networks = { key: t.cidr4, value: t.u32 };

/** How many keys there are. */
export const keyCount = 1200;
/** So many networks of each length: those of one cover those of another, and are covered. */
const lengths = [20, 32, 16, 24];
const networksEach = keyCount / lengths.length;

/** Lengths in the order of the numbers, addresses in no order. */
function network(number: number): string {
  const length = lengths[Math.floor(number / networksEach)];
  const address = Math.imul(number % networksEach, 40_503) & 0xffff;
  return `${address >> 8}.${address & 255}.0.0/${length}`;
}

const keyed = {
  key: (number: number) => number,
  value: (number: number) => number + 1,
  maxEntries: keyCount,
  isOnce: true,
  isComplete: true,
};
// Room for more than there ever is: no reason to evict.
const roomy = { maxEntries: 8 * keyCount };
const perCpu = {
  ...keyed,
  value: (number: number) => possibleCpus().map((cpu) => 1000 * number + cpu),
};
const trie = { ...keyed, key: network, isComplete: false };

export const churnedKinds = {
  "a hash map": {
    ...keyed,
    create: (maxEntries) => new HashMap({ ...numbers, maxEntries }),
    open: (fd) => HashMap.fromFd(fd, numbers),
  },
  "a hash map without preallocation": {
    ...keyed,
    create: (maxEntries) => new HashMap({ ...numbers, maxEntries, flags: ["no_prealloc"] }),
    open: (fd) => HashMap.fromFd(fd, numbers),
  },
  "an LRU hash map": {
    ...keyed,
    ...roomy,
    create: (maxEntries) => new LruHashMap({ ...numbers, maxEntries }),
    open: (fd) => LruHashMap.fromFd(fd, numbers),
  },
  "a per-CPU hash map": {
    ...perCpu,
    create: (maxEntries) => new PerCpuHashMap({ ...numbers, maxEntries }),
    open: (fd) => PerCpuHashMap.fromFd(fd, numbers),
  },
  "an LRU per-CPU hash map": {
    ...perCpu,
    ...roomy,
    create: (maxEntries) => new LruPerCpuHashMap({ ...numbers, maxEntries }),
    open: (fd) => LruPerCpuHashMap.fromFd(fd, numbers),
  },
  "a map without batches": {
    ...keyed,
    // The only value that it takes.
    value: () => 1,
    isOnce: false,
    create: batchlessMap,
    open: (fd) => new BatchlessMap(fd, numbers),
  },
  "an LPM trie": {
    ...trie,
    create: (maxEntries) => new LpmTrie({ ...networks, maxEntries }),
    open: (fd) => LpmTrie.fromFd(fd, networks),
  },
  "an LPM trie that is walked over key by key": {
    ...trie,
    create: (maxEntries) => new KeyByKeyTrie({ ...networks, maxEntries }),
    open: (fd) => LpmTrie.fromFd(fd, networks),
  },
} satisfies Readonly<Record<string, ChurnedKind>>;

/** What a Worker is told. */
export interface ChurnTask {
  readonly kind: keyof typeof churnedKinds;
  readonly fd: number;
  /** The numbers of the keys that it stores and deletes. */
  readonly first: number;
  readonly count: number;
  readonly seed: number;
  /** See {@link shared}. */
  readonly memory: Int32Array;
}

/** What is where in the memory that the threads share: whether to stop, steps that were made, whether it ended. */
export const shared = { stop: 0, steps: 1, ended: 2, length: 3 } as const;
