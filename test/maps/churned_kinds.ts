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

/** Map class over which one thread iterates while another one changes the map. */
export interface ChurnedKind {
  create(maxEntries: number): ChurnedMap;
  /** Opens the map in the other thread. */
  open(fd: number): ChurnedMap;
  /** Returns a different key for each number below {@link keyCount}. */
  key(number: number): Key;
  /** Returns the constant value of the key with that number. */
  value(number: number): unknown;
  readonly maxEntries: number;
  /** True if the kernel's iteration returns no key twice. */
  readonly isOnce: boolean;
  /**
   * True if the kernel's iteration skips no key. That of tries sometimes skips a whole branch, if the current node is replaced or
   * moved during the call (`trie_get_next_key` compares it with its parent's child; seen on 6.18).
   */
  readonly isComplete: boolean;
}

const numbers = { key: t.u32, value: t.u32 };
const networks = { key: t.cidr4, value: t.u32 };

/** Number of keys. */
export const keyCount = 1200;
/** Number of networks of each length. Networks of one length cover those of another. */
const lengths = [20, 32, 16, 24];
const networksEach = keyCount / lengths.length;

/** Returns networks with lengths in the order of the numbers, and scattered addresses. */
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
// Larger than ever needed, so that nothing is evicted.
const largeSize = { maxEntries: 8 * keyCount };
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
    ...largeSize,
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
    ...largeSize,
    create: (maxEntries) => new LruPerCpuHashMap({ ...numbers, maxEntries }),
    open: (fd) => LruPerCpuHashMap.fromFd(fd, numbers),
  },
  "a map without batches": {
    ...keyed,
    // The only valid value.
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

/** Message to a Worker. */
export interface ChurnTask {
  readonly kind: keyof typeof churnedKinds;
  readonly fd: number;
  /** Numbers of the keys that it stores and deletes. */
  readonly first: number;
  readonly count: number;
  readonly seed: number;
  /** See {@link shared}. */
  readonly memory: Int32Array;
}

/** Indexes in the shared memory: a flag to stop, the number of steps, a flag that the Worker ended. */
export const shared = { stop: 0, steps: 1, ended: 2, length: 3 } as const;
