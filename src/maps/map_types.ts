/**
 * @module The map types of the kernel: one row for each, with everything that is known about it. Classes, creation, feature probes,
 * the command and the readers of entries all take it from here.
 *
 * Versions of types: the tags that the members of `enum bpf_map_type` first appear in. Versions of operations: the tables
 * of operations (`struct bpf_map_ops`, in kernel/bpf, net/core and net/xdp) and kernel/bpf/syscall.c of Linux 3.19 to 7.2.
 */

import { describe } from "../check/describe.ts";
import { type Keyword, keyword, keywordOf, keywordsByNumber, suggest } from "../check/names.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { isKernelSince, kernelConfig, kernelRelease, type KernelVersion } from "../ffi/kernel.ts";
import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG } from "../uapi/bpf.ts";
import { bpfMapTypes } from "../uapi/enumerations.ts";

/** The kernel's name of a map type, without `BPF_MAP_TYPE_`. */
export type MapTypeConstant = Exclude<
  keyof typeof bpfMapTypes,
  "UNSPEC" | "CGROUP_STORAGE_DEPRECATED" | "PERCPU_CGROUP_STORAGE_DEPRECATED"
>;

/** A map type: the kernel's `BPF_MAP_TYPE_LRU_HASH` is `"lru_hash"`. */
export type MapTypeName = Keyword<MapTypeConstant>;

/** Operations of user space on a map, in the order in which people read them: the kernel's `BPF_MAP_LOOKUP_BATCH` is `"lookup_batch"`. */
export const mapOperations = [
  "lookup",
  "update",
  "delete",
  "get_next_key",
  "lookup_and_delete",
  "lookup_batch",
  "lookup_and_delete_batch",
  "update_batch",
  "delete_batch",
  "freeze",
  "mmap",
] as const;

/** An operation of user space on a map: the kernel's `BPF_MAP_LOOKUP_BATCH` is `"lookup_batch"`. */
export type MapOperation = (typeof mapOperations)[number];

/** The objects that values stand for, where the kernel makes more of a value than bytes. */
export type HeldObject =
  | "program"
  | "map"
  | "perf event"
  | "cgroup"
  | "socket"
  | "XDP socket"
  | "interface"
  | "CPU queue"
  | "stack";

/** The order in which entries are read: from key to key, by all indexes, or as networks; or only the value that comes next. */
export type EntryOrder = "keys" | "indexes" | "networks" | "next";

/** The fields of the smallest map of a type. */
interface SmallestMap {
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Flags that every creation needs. */
  readonly flags?: number;
}

/** Everything that is known about a map type. */
export interface MapType extends SmallestMap {
  /** The kernel's name: `"LRU_HASH"`. */
  readonly name: MapTypeConstant;
  /** The first kernel version that has it. */
  readonly since: KernelVersion;
  /** Options of the kernel's build without which it is not there. */
  readonly config?: readonly string[];
  /** Capabilities that creation needs. */
  readonly needs: readonly Capability[];
  /** The parts of a creation that are not numbers. */
  readonly with?: "inner map" | "types" | "kernel type";
  /** True where there is a value for each CPU: to read one, there must be room for all of them. */
  readonly isPerCpu?: boolean;
  /** Flags that the kernel sets by itself, and refuses at creation. */
  readonly kernelFlags?: number;
  /** `"index"`: from 0 to the length. `"descriptor"`: of the object that a value belongs to. */
  readonly key?: "index" | "descriptor";
  /** The objects that values stand for. */
  readonly value?: HeldObject;
  /** The answer of the kernel when an absent key is deleted, where that is not ENOENT. */
  readonly absentDeletion?: "success" | "EINVAL";
  /** True where it must not be used unless `bpf` is among the active security modules. */
  readonly needsSecurityModule?: boolean;
  /** True where the kernel takes no maps of the type inside another map. */
  readonly isNeverInner?: true;
  /** True where programs that may sleep cannot use its maps. */
  readonly refusesSleepable?: true;
  /** The flag without which its memory cannot be mapped. */
  readonly mappingFlag?: number;
  /** The first kernel version with each operation. Empty for a type whose operations cannot be tried without an effect. */
  readonly operations: Readonly<Partial<Record<MapOperation, KernelVersion>>>;
  /** The order in which entries are read, or the reason why they cannot be. */
  readonly entries: EntryOrder | { readonly unreadable: string };
}

type Row = Omit<MapType, "name" | "needs" | "operations"> & {
  readonly needs?: readonly Capability[];
  /** Operations that came with the type. */
  readonly atOnce: readonly MapOperation[];
  /** Operations that came later. */
  readonly later?: MapType["operations"];
};

/** Types with an index, or a hash, of 4 bytes. */
const small: SmallestMap = { keySize: 4, valueSize: 4, maxEntries: 1 };
const array = { ...small, key: "index" } as const;
const keyless: SmallestMap = { keySize: 0, valueSize: 4, maxEntries: 1 };
const networking: readonly Capability[] = ["CAP_BPF", "CAP_NET_ADMIN"];

/** The smallest size that is a power of two and whole pages, whatever the size of a page. */
const pages: SmallestMap = { keySize: 0, valueSize: 0, maxEntries: 65_536 };

const hashTable = {
  ...small,
  atOnce: ["lookup", "update", "delete", "get_next_key"],
  later: {
    lookup_and_delete: "5.14",
    lookup_batch: "5.6",
    lookup_and_delete_batch: "5.6",
    update_batch: "5.6",
    delete_batch: "5.6",
    freeze: "5.2",
  },
  entries: "keys",
} as const;

/** `struct bpf_cgroup_storage_key`, with the padding after its last member. */
const oldCgroupStorage = {
  keySize: 16,
  valueSize: 4,
  maxEntries: 0,
  config: ["CONFIG_CGROUP_BPF"],
  atOnce: ["lookup", "update", "get_next_key"],
  later: { freeze: "5.2" },
  entries: "keys",
} as const;

function storage(owner: string) {
  const unreadable = `its values belong to objects, and the kernel gives them only by a descriptor of ${owner}`;
  return {
    keySize: 4,
    valueSize: 8,
    maxEntries: 0,
    flags: BPF_F_NO_PREALLOC,
    with: "types",
    key: "descriptor",
    atOnce: ["lookup", "update", "delete", "freeze"],
    entries: { unreadable },
  } as const;
}

/** The rows, in the kernel's order of versions. */
const rows = {
  HASH: { since: "3.19", ...hashTable },
  ARRAY: {
    since: "3.19",
    ...array,
    mappingFlag: BPF_F_MMAPABLE,
    atOnce: ["lookup", "update", "get_next_key"],
    later: { lookup_batch: "5.6", update_batch: "5.6", freeze: "5.2", mmap: "5.5" },
    entries: "keys",
  },
  PROG_ARRAY: {
    since: "4.2",
    ...array,
    value: "program",
    isNeverInner: true,
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "4.13", freeze: "5.2" },
    entries: "indexes",
  },
  PERF_EVENT_ARRAY: {
    since: "4.3",
    config: ["CONFIG_PERF_EVENTS"],
    ...array,
    value: "perf event",
    atOnce: ["update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
    entries: { unreadable: "the kernel does not say which perf events are in it" },
  },
  PERCPU_HASH: { since: "4.6", ...hashTable, isPerCpu: true },
  PERCPU_ARRAY: {
    since: "4.6",
    ...array,
    isPerCpu: true,
    atOnce: ["lookup", "update", "get_next_key"],
    later: { lookup_batch: "5.13", update_batch: "5.13", freeze: "5.2" },
    entries: "keys",
  },
  STACK_TRACE: {
    since: "4.6",
    config: ["CONFIG_PERF_EVENTS"],
    ...array,
    valueSize: 8,
    value: "stack",
    atOnce: ["lookup", "delete"],
    later: { get_next_key: "4.16", lookup_and_delete: "6.18", freeze: "5.2" },
    entries: "keys",
  },
  CGROUP_ARRAY: {
    since: "4.8",
    config: ["CONFIG_CGROUPS"],
    ...array,
    value: "cgroup",
    atOnce: ["update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
    entries: { unreadable: "the kernel does not say which cgroups are in it" },
  },
  LRU_HASH: { since: "4.10", ...hashTable },
  LRU_PERCPU_HASH: { since: "4.10", ...hashTable, isPerCpu: true },
  LPM_TRIE: {
    since: "4.11",
    // The prefix's length and four bytes of an address.
    keySize: 8,
    valueSize: 4,
    maxEntries: 1,
    flags: BPF_F_NO_PREALLOC,
    refusesSleepable: true,
    atOnce: ["lookup", "update", "delete"],
    later: {
      get_next_key: "4.16",
      lookup_batch: "5.13",
      update_batch: "5.13",
      delete_batch: "5.13",
      freeze: "5.2",
    },
    entries: "networks",
  },
  ARRAY_OF_MAPS: {
    since: "4.12",
    ...array,
    with: "inner map",
    value: "map",
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "4.13", lookup_batch: "5.19", update_batch: "5.19", freeze: "5.2" },
    entries: "indexes",
  },
  HASH_OF_MAPS: {
    since: "4.12",
    ...small,
    with: "inner map",
    value: "map",
    atOnce: ["update", "delete", "get_next_key"],
    later: {
      lookup: "4.13",
      lookup_batch: "5.19",
      lookup_and_delete_batch: "5.19",
      update_batch: "5.19",
      delete_batch: "5.19",
      freeze: "5.2",
    },
    entries: "keys",
  },
  DEVMAP: {
    since: "4.14",
    config: ["CONFIG_NET"],
    needs: networking,
    ...array,
    kernelFlags: BPF_F_RDONLY_PROG,
    value: "interface",
    absentDeletion: "success",
    atOnce: ["lookup", "update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
    entries: "indexes",
  },
  SOCKMAP: {
    since: "4.14",
    config: ["CONFIG_INET"],
    needs: networking,
    ...array,
    value: "socket",
    absentDeletion: "EINVAL",
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "5.7", freeze: "5.2" },
    entries: "indexes",
  },
  CPUMAP: {
    since: "4.15",
    config: ["CONFIG_NET"],
    ...array,
    value: "CPU queue",
    absentDeletion: "success",
    atOnce: ["lookup", "update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
    entries: "indexes",
  },
  XSKMAP: {
    since: "4.18",
    config: ["CONFIG_XDP_SOCKETS"],
    needs: networking,
    ...array,
    value: "XDP socket",
    absentDeletion: "success",
    atOnce: ["update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
    entries: { unreadable: "the kernel does not say which sockets are in it" },
  },
  SOCKHASH: {
    since: "4.18",
    config: ["CONFIG_INET"],
    needs: networking,
    ...small,
    value: "socket",
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "5.7", freeze: "5.2" },
    entries: "keys",
  },
  CGROUP_STORAGE: { since: "4.19", ...oldCgroupStorage },
  REUSEPORT_SOCKARRAY: {
    since: "4.19",
    config: ["CONFIG_INET"],
    ...array,
    value: "socket",
    atOnce: ["lookup", "update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
    entries: "indexes",
  },
  PERCPU_CGROUP_STORAGE: { since: "4.20", ...oldCgroupStorage, isPerCpu: true },
  QUEUE: {
    since: "4.20",
    ...keyless,
    atOnce: ["lookup", "update", "lookup_and_delete"],
    later: { freeze: "5.2" },
    entries: "next",
  },
  STACK: {
    since: "4.20",
    ...keyless,
    atOnce: ["lookup", "update", "lookup_and_delete"],
    later: { freeze: "5.2" },
    entries: "next",
  },
  SK_STORAGE: { since: "5.2", config: ["CONFIG_NET"], ...storage("a socket") },
  DEVMAP_HASH: {
    since: "5.4",
    config: ["CONFIG_NET"],
    needs: networking,
    ...small,
    kernelFlags: BPF_F_RDONLY_PROG,
    value: "interface",
    atOnce: ["lookup", "update", "delete", "get_next_key", "freeze"],
    entries: "keys",
  },
  STRUCT_OPS: {
    since: "5.6",
    config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
    ...array,
    with: "kernel type",
    // To store the one value is to register it with the kernel.
    atOnce: [],
    entries: "keys",
  },
  RINGBUF: {
    since: "5.8",
    ...pages,
    atOnce: ["freeze", "mmap"],
    entries: { unreadable: "reading its records would take them from their consumer" },
  },
  INODE_STORAGE: {
    since: "5.10",
    config: ["CONFIG_BPF_LSM"],
    needsSecurityModule: true,
    ...storage("a file"),
  },
  TASK_STORAGE: { since: "5.11", ...storage("a thread") },
  BLOOM_FILTER: {
    since: "5.16",
    ...keyless,
    atOnce: ["lookup", "update", "freeze"],
    entries: { unreadable: "it knows whether a value was added, not which ones were" },
  },
  USER_RINGBUF: {
    since: "6.1",
    ...pages,
    atOnce: ["freeze", "mmap"],
    entries: { unreadable: "its records are for programs to read" },
  },
  CGRP_STORAGE: { since: "6.2", config: ["CONFIG_CGROUPS"], ...storage("a cgroup") },
  ARENA: {
    since: "6.9",
    config: ["CONFIG_MMU", "CONFIG_64BIT"],
    keySize: 0,
    valueSize: 0,
    maxEntries: 1,
    flags: BPF_F_MMAPABLE,
    atOnce: ["freeze", "mmap"],
    entries: { unreadable: "it is memory that programs give a form to, without entries" },
  },
  INSN_ARRAY: {
    since: "6.19",
    ...array,
    valueSize: 16,
    atOnce: ["lookup", "update", "get_next_key", "freeze"],
    entries: "keys",
  },
  RHASH: {
    since: "7.2",
    ...small,
    flags: BPF_F_NO_PREALLOC,
    atOnce: [
      "lookup",
      "update",
      "delete",
      "get_next_key",
      "lookup_and_delete",
      "lookup_batch",
      "lookup_and_delete_batch",
      "update_batch",
      "delete_batch",
      "freeze",
    ],
    entries: "keys",
  },
} as const satisfies Readonly<Record<MapTypeConstant, Row>>;

/** The map types that the kernel takes no maps of inside another map. */
export type NeverInnerName = {
  [N in MapTypeConstant]: (typeof rows)[N] extends { readonly isNeverInner: true }
    ? Keyword<N>
    : never;
}[MapTypeConstant];

/** The rows of all map types, by name, in the order in which the kernel got them. */
export const mapTypes: ReadonlyMap<MapTypeName, MapType> = new Map(
  Object.entries<Row>(rows).map(([constant, { atOnce, later, ...row }]) => {
    const name = constant as MapTypeConstant;
    const came = Object.fromEntries(atOnce.map((operation) => [operation, row.since]));
    return [keyword(name), { needs: ["CAP_BPF"], ...row, name, operations: { ...came, ...later } }];
  }),
);

/** The numbers of all names that the kernel has, the deprecated ones included. */
const numbersByName: ReadonlyMap<string, number> = new Map(
  Object.entries(bpfMapTypes).map(([name, number]) => [keyword(name), number]),
);

const namesByNumber = keywordsByNumber(bpfMapTypes) as ReadonlyMap<number, MapTypeName>;

/** The kernel's number of a map type. @throws {TypeError} for an unknown one */
export function mapTypeNumber(type: MapTypeName): number {
  const number = numbersByName.get(type);
  if (number !== undefined && number !== 0) return number;
  throw new TypeError(
    `type: unknown kind of map ${describe(type)}: ${suggest(String(type), [...mapTypes.keys()])}`,
  );
}

/** The name of a map type, also of one that is newer than this library: `"type_99"`. */
export function mapTypeName(number: number): MapTypeName {
  return keywordOf(namesByNumber, number);
}

/**
 * The reason why the running kernel has no maps of a type, as far as its version and its build tell; `undefined` where
 * it should have them.
 */
export function absenceOf({ since, config = [] }: MapType): string | undefined {
  if (!isKernelSince(since)) {
    return `it came with kernel ${since}, and this is ${kernelRelease()}`;
  }
  const off = config.filter((option) => kernelConfig()?.has(option) === false);
  return off.length === 0 ? undefined : `this kernel was built without ${off.join(" and ")}`;
}
