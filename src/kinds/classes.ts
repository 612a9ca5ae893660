import type { BpfMap } from "../maps/bpf_map.ts";
import type { MapSpec } from "../maps/map_spec.ts";
import { Arena, type ArenaOptions } from "../maps/arena.ts";
import {
  ArrayMap,
  type ArrayMapOptions,
  PerCpuArrayMap,
  type PerCpuArrayMapOptions,
} from "../maps/array_map.ts";
import {
  BloomFilter,
  type BloomFilterOptions,
  Queue,
  type QueueOptions,
  Stack,
  type StackOptions,
} from "../maps/queue.ts";
import {
  CgroupArray,
  type CgroupArrayOptions,
  PerfEventArray,
  type PerfEventArrayOptions,
  ProgArray,
  type ProgArrayOptions,
} from "../maps/prog_array.ts";
import {
  CgroupStorage,
  type CgroupStorageOptions,
  InodeStorage,
  type InodeStorageOptions,
  SkStorage,
  type SkStorageOptions,
  TaskStorage,
  type TaskStorageOptions,
} from "../maps/object_storage.ts";
import {
  CpuMap,
  type CpuMapOptions,
  DevMap,
  DevMapHash,
  type DevMapHashOptions,
  type DevMapOptions,
  XskMap,
  type XskMapOptions,
} from "../maps/dev_map.ts";
import {
  HashMap,
  type HashMapOptions,
  LruHashMap,
  type LruHashMapOptions,
  LruPerCpuHashMap,
  type LruPerCpuHashMapOptions,
  PerCpuHashMap,
  type PerCpuHashMapOptions,
} from "../maps/hash_map.ts";
import { LpmTrie, type LpmTrieOptions } from "../maps/lpm_trie.ts";
import {
  ReuseportSockArray,
  type ReuseportSockArrayOptions,
  SockHash,
  type SockHashOptions,
  SockMap,
  type SockMapOptions,
} from "../maps/sock_map.ts";
import { StackTraceMap, type StackTraceMapOptions } from "../maps/stack_trace_map.ts";
import { RingBuf } from "../ring/ring_buf.ts";
import type { RingBufOptions } from "../ring/ring_options.ts";
import { UserRingBuf } from "../ring/user_ring_buf.ts";
import type { Type } from "../types/type.ts";

/** The kinds that hold no maps, by the kernel's names: the options of their classes. */
export interface SimpleOptionsByKind {
  hash: HashMapOptions<unknown, unknown>;
  lru_hash: LruHashMapOptions<unknown, unknown>;
  percpu_hash: PerCpuHashMapOptions<unknown, unknown>;
  lru_percpu_hash: LruPerCpuHashMapOptions<unknown, unknown>;
  array: ArrayMapOptions<unknown>;
  percpu_array: PerCpuArrayMapOptions<unknown>;
  lpm_trie: LpmTrieOptions<unknown, unknown>;
  queue: QueueOptions<unknown>;
  stack: StackOptions<unknown>;
  bloom_filter: BloomFilterOptions<unknown>;
  ringbuf: RingBufOptions<unknown>;
  user_ringbuf: RingBufOptions<unknown>;
  stack_trace: StackTraceMapOptions<boolean>;
  prog_array: ProgArrayOptions;
  perf_event_array: PerfEventArrayOptions;
  cgroup_array: CgroupArrayOptions;
  devmap: DevMapOptions;
  devmap_hash: DevMapHashOptions;
  cpumap: CpuMapOptions;
  xskmap: XskMapOptions;
  sockmap: SockMapOptions;
  sockhash: SockHashOptions<unknown>;
  reuseport_sockarray: ReuseportSockArrayOptions;
  sk_storage: SkStorageOptions<unknown>;
  inode_storage: InodeStorageOptions<unknown>;
  task_storage: TaskStorageOptions<unknown>;
  cgrp_storage: CgroupStorageOptions<unknown>;
  arena: ArenaOptions;
}

/** The kinds that hold no maps: their classes, by the types of keys, values and events, and whether frames are build ids. */
export interface SimpleMapsByKind<K, V, E, B extends boolean> {
  hash: HashMap<K, V>;
  lru_hash: LruHashMap<K, V>;
  percpu_hash: PerCpuHashMap<K, V>;
  lru_percpu_hash: LruPerCpuHashMap<K, V>;
  array: ArrayMap<V>;
  percpu_array: PerCpuArrayMap<V>;
  lpm_trie: LpmTrie<K, V>;
  queue: Queue<V>;
  stack: Stack<V>;
  bloom_filter: BloomFilter<V>;
  ringbuf: RingBuf<E>;
  user_ringbuf: UserRingBuf<E>;
  stack_trace: StackTraceMap<B>;
  prog_array: ProgArray;
  perf_event_array: PerfEventArray;
  cgroup_array: CgroupArray;
  devmap: DevMap;
  devmap_hash: DevMapHash;
  cpumap: CpuMap;
  xskmap: XskMap;
  sockmap: SockMap;
  sockhash: SockHash<K>;
  reuseport_sockarray: ReuseportSockArray;
  sk_storage: SkStorage<V>;
  inode_storage: InodeStorage<V>;
  task_storage: TaskStorage<V>;
  cgrp_storage: CgroupStorage<V>;
  arena: Arena;
}

/** The name of a kind that holds no maps: `"hash"`, `"ringbuf"`, ... */
export type SimpleMapName = keyof SimpleOptionsByKind;

/** What all classes of maps have in common: how they make a spec of options, and open a map by its id. */
export interface MapClass {
  readonly kind: { spec(options: never): MapSpec };
  fromId(id: number, types: never): BpfMap;
}

/** The classes of all kinds that hold no maps. */
export const simpleClasses = {
  hash: HashMap,
  lru_hash: LruHashMap,
  percpu_hash: PerCpuHashMap,
  lru_percpu_hash: LruPerCpuHashMap,
  array: ArrayMap,
  percpu_array: PerCpuArrayMap,
  lpm_trie: LpmTrie,
  queue: Queue,
  stack: Stack,
  bloom_filter: BloomFilter,
  ringbuf: RingBuf,
  user_ringbuf: UserRingBuf,
  stack_trace: StackTraceMap,
  prog_array: ProgArray,
  perf_event_array: PerfEventArray,
  cgroup_array: CgroupArray,
  devmap: DevMap,
  devmap_hash: DevMapHash,
  cpumap: CpuMap,
  xskmap: XskMap,
  sockmap: SockMap,
  sockhash: SockHash,
  reuseport_sockarray: ReuseportSockArray,
  sk_storage: SkStorage,
  inode_storage: InodeStorage,
  task_storage: TaskStorage,
  cgrp_storage: CgroupStorage,
  arena: Arena,
} satisfies Record<SimpleMapName, MapClass>;

/** The type that an option says of keys, values or events. */
export type TypeIn<O, Name extends string> = O extends { readonly [N in Name]: Type<infer T> }
  ? T
  : never;

/** Whether frames are build ids, as the option says; they are not by default. */
export type BuildIdIn<O> = O extends { readonly buildId: infer B extends boolean } ? B : false;
