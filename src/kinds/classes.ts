import { Arena } from "../maps/arena.ts";
import { ArrayMap, PerCpuArrayMap } from "../maps/array_map.ts";
import { CpuMap, DevMap, DevMapHash, XskMap } from "../maps/dev_map.ts";
import { HashMap, LruHashMap, LruPerCpuHashMap, PerCpuHashMap } from "../maps/hash_map.ts";
import { LpmTrie } from "../maps/lpm_trie.ts";
import type { MapClass, MapOf } from "../maps/map_options.ts";
import type { MapTypeName } from "../maps/map_types.ts";
import { CgroupStorage, InodeStorage, SkStorage, TaskStorage } from "../maps/object_storage.ts";
import { CgroupArray, PerfEventArray, ProgArray } from "../maps/prog_array.ts";
import { BloomFilter, Queue, Stack } from "../maps/queue.ts";
import { ReuseportSockArray, SockHash, SockMap } from "../maps/sock_map.ts";
import { StackTraceMap } from "../maps/stack_trace_map.ts";
import { RingBuf } from "../ring/ring_buf.ts";
import { UserRingBuf } from "../ring/user_ring_buf.ts";

/** Classes of all map types except maps of maps, by map type. */
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
} as const satisfies Partial<Record<MapTypeName, MapClass>>;

/** Map type that is not a map of maps: `"hash"`, `"ringbuf"`, ... */
export type SimpleMapName = keyof typeof simpleClasses;

/**
 * Object of a map type that is created or opened with `T`. The frames of stacks are addresses unless `T` has
 * `buildId: true`.
 */
export type SimpleMap<N extends SimpleMapName, T> = MapOf<
  (typeof simpleClasses)[N],
  T extends { readonly buildId: boolean } ? T : T & { readonly buildId: false }
>;
