/**
 * @module Map types of the kernel, with one row for each. Classes, creation, feature probes, the command and the readers of entries
 * use these rows.
 *
 * Versions of types are the tags in which the members of `enum bpf_map_type` first appear. Versions of operations are from the
 * tables of operations (`struct bpf_map_ops`, in kernel/bpf, net/core and net/xdp) and kernel/bpf/syscall.c of Linux 3.19 to 7.2.
 */

import { describe } from "../check/describe.ts";
import { type Keyword, keyword, keywordOf, keywordsByNumber, suggest } from "../check/names.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { isKernelSince, kernelConfig, kernelRelease, type KernelVersion } from "../ffi/kernel.ts";
import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG } from "../uapi/bpf.ts";
import { requireBpfSecurityModule } from "../ffi/security.ts";
import { bpfMapTypes } from "../uapi/enumerations.ts";
import { BatchWalk, IndexWalk, MapWalk, TrieWalk } from "./walk.ts";

/** Name of a map type in the kernel, without `BPF_MAP_TYPE_`. */
export type MapTypeConstant = Exclude<
  keyof typeof bpfMapTypes,
  "UNSPEC" | "CGROUP_STORAGE_DEPRECATED" | "PERCPU_CGROUP_STORAGE_DEPRECATED"
>;

/** Map type: the kernel's `BPF_MAP_TYPE_LRU_HASH` is `"lru_hash"`. */
export type MapTypeName = Keyword<MapTypeConstant>;

/**
 * Operations of user space on a map, in the order in which they are displayed: the kernel's `BPF_MAP_LOOKUP_BATCH` is
 * `"lookup_batch"`.
 */
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

/** Operation of user space on a map: the kernel's `BPF_MAP_LOOKUP_BATCH` is `"lookup_batch"`. */
export type MapOperation = (typeof mapOperations)[number];

/** Kernel objects that values refer to. */
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

/** Class of the walk that reads all entries; `"next"` if only the next value can be read. */
export type EntryAccess = typeof BatchWalk | "next";

/** Attributes of the smallest map of a type. */
interface SmallestMap {
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Flags that every creation needs. */
  readonly flags?: number;
}

/** Row of a map type. */
export interface MapType extends SmallestMap {
  /** Name in the kernel: `"LRU_HASH"`. */
  readonly name: MapTypeConstant;
  readonly type: MapTypeName;
  /** Number in the kernel. */
  readonly number: number;
  /**
   * First kernel version with the type. It can be older than the first version that this library supports (4.13). It can
   * also be older than the version that the map class requires, which the documentation of the class states.
   */
  readonly since: KernelVersion;
  /** Build options of the kernel that the type requires. */
  readonly config?: readonly string[];
  /**
   * Returns the reason, by version and build options, why the running kernel has no maps of the type, or `undefined` if it
   * should have them. Only types that a kernel since 5.10 can lack have this function.
   */
  readonly absence?: (row: MapType) => string | undefined;
  /** Capabilities that creation requires. */
  readonly needs: readonly Capability[];
  /** Input of creation beyond numbers: an inner map, BTF of the key and value, or a type of the kernel's BTF. */
  readonly creationInput?: "inner map" | "types" | "kernel type";
  /** True if a key has one value for each CPU: buffers must have room for all of them. */
  readonly isPerCpu?: boolean;
  /** Flags that the kernel sets itself and rejects at creation. */
  readonly kernelFlags?: number;
  /**
   * Meaning of the key: `"index"` for 0 to the length, `"descriptor"` for the descriptor of the object that a value belongs
   * to.
   */
  readonly key?: "index" | "descriptor";
  /**
   * Option of the class that sets the kernel's `max_entries`.
   *
   * @default "maxEntries"
   */
  readonly countOption?: "maxEntries" | "length" | "size" | "pages";
  /** Kernel object that values refer to. */
  readonly value?: HeldObject;
  /** Result of the kernel when an absent key is deleted, if it is not ENOENT. */
  readonly absentDeletion?: "success" | "EINVAL";
  /** Throws if maps of the type must not be used on this machine. */
  readonly requireSupport?: () => void;
  /** True if the kernel rejects maps of the type as inner maps. */
  readonly isNeverInner?: true;
  /** True if sleepable programs cannot use maps of the type. */
  readonly refusesSleepable?: true;
  /** Flag that the map needs so that its memory can be mapped. */
  readonly mappingFlag?: number;
  /** Walk that reads the entries, or the reason why they cannot be read. */
  readonly entries: EntryAccess | { readonly unreadable: string };
}

type Row = Omit<MapType, "name" | "type" | "number" | "needs"> & {
  readonly needs?: readonly Capability[];
};

/**
 * Attributes shared by types with a 4-byte key. {@link arrayDefaults} repeats them instead of spreading this object, because
 * a bundler keeps spread objects.
 */
const smallHash: SmallestMap = { keySize: 4, valueSize: 4, maxEntries: 1 };
const arrayDefaults = {
  keySize: 4,
  valueSize: 4,
  maxEntries: 1,
  key: "index",
  countOption: "length",
} as const;
const keylessDefaults: SmallestMap = { keySize: 0, valueSize: 4, maxEntries: 1 };
const networkCapabilities: readonly Capability[] = ["CAP_BPF", "CAP_NET_ADMIN"];

/**
 * Attributes of ring buffers. Their size must be a power of two and a multiple of the page size: 64 KiB fits every page
 * size.
 */
const ringDefaults = { keySize: 0, valueSize: 0, maxEntries: 65_536, countOption: "size" } as const;

const hashDefaults = {
  keySize: 4,
  valueSize: 4,
  maxEntries: 1,
  entries: BatchWalk,
} as const;

/** Attributes of the old cgroup storage types. The key is `struct bpf_cgroup_storage_key` with its tail padding. */
const oldCgroupStorage = {
  keySize: 16,
  valueSize: 4,
  maxEntries: 0,
  config: ["CONFIG_CGROUP_BPF"],
  absence: absenceOf,
  entries: MapWalk,
} as const;

function storage(owner: string) {
  const unreadable = `its values belong to kernel objects, and reading one takes a descriptor of ${owner}`;
  return {
    keySize: 4,
    valueSize: 8,
    maxEntries: 0,
    flags: BPF_F_NO_PREALLOC,
    creationInput: "types",
    key: "descriptor",
    entries: { unreadable },
  } as const;
}

/** Returns a row: attributes shared by several types, and those of one type. */
function defineRow<
  N extends MapTypeConstant,
  Shared extends Partial<Row>,
  const Own extends Omit<Row, keyof Shared> & Partial<Row>,
>(
  name: N,
  shared: Shared,
  own: Own & { readonly [K in Exclude<keyof Own, keyof Row>]: never },
): MapType & { readonly type: Keyword<N> } & Pick<Own, Extract<keyof Own, "isNeverInner">> {
  // TypeScript does not infer that the two objects together have all properties of a row.
  const row = { ...shared, ...own } as unknown as Row;
  return {
    needs: ["CAP_BPF"],
    ...row,
    name,
    type: keyword(name),
    number: bpfMapTypes[name],
  } as MapType & { readonly type: Keyword<N> } & Pick<Own, Extract<keyof Own, "isNeverInner">>;
}

// Rows in the order of their kernel versions. Each row is a separate constant, so that bundlers drop unused rows.

export const HASH = /*@__PURE__*/ defineRow("HASH", hashDefaults, { since: "3.19" });
export const ARRAY = /*@__PURE__*/ defineRow("ARRAY", arrayDefaults, {
  since: "3.19",
  mappingFlag: BPF_F_MMAPABLE,
  entries: BatchWalk,
});
export const PROG_ARRAY = /*@__PURE__*/ defineRow("PROG_ARRAY", arrayDefaults, {
  since: "4.2",
  value: "program",
  isNeverInner: true,
  entries: IndexWalk,
});
export const PERF_EVENT_ARRAY = /*@__PURE__*/ defineRow("PERF_EVENT_ARRAY", arrayDefaults, {
  since: "4.3",
  config: ["CONFIG_PERF_EVENTS"],
  absence: absenceOf,
  value: "perf event",
  entries: { unreadable: "the kernel does not report which perf events are in it" },
});
export const PERCPU_HASH = /*@__PURE__*/ defineRow("PERCPU_HASH", hashDefaults, {
  since: "4.6",
  isPerCpu: true,
});
export const PERCPU_ARRAY = /*@__PURE__*/ defineRow("PERCPU_ARRAY", arrayDefaults, {
  since: "4.6",
  isPerCpu: true,
  entries: MapWalk,
});
export const STACK_TRACE = /*@__PURE__*/ defineRow("STACK_TRACE", arrayDefaults, {
  since: "4.6",
  config: ["CONFIG_PERF_EVENTS"],
  absence: absenceOf,
  valueSize: 8,
  countOption: "maxEntries",
  value: "stack",
  entries: MapWalk,
});
export const CGROUP_ARRAY = /*@__PURE__*/ defineRow("CGROUP_ARRAY", arrayDefaults, {
  since: "4.8",
  config: ["CONFIG_CGROUPS"],
  absence: absenceOf,
  value: "cgroup",
  entries: { unreadable: "the kernel does not report which cgroups are in it" },
});
export const LRU_HASH = /*@__PURE__*/ defineRow("LRU_HASH", hashDefaults, { since: "4.10" });
export const LRU_PERCPU_HASH = /*@__PURE__*/ defineRow("LRU_PERCPU_HASH", hashDefaults, {
  since: "4.10",
  isPerCpu: true,
});
export const LPM_TRIE = /*@__PURE__*/ defineRow(
  "LPM_TRIE",
  {},
  {
    since: "4.11",
    // The prefix length, and four bytes of an address.
    keySize: 8,
    valueSize: 4,
    maxEntries: 1,
    flags: BPF_F_NO_PREALLOC,
    refusesSleepable: true,
    entries: TrieWalk,
  },
);
export const ARRAY_OF_MAPS = /*@__PURE__*/ defineRow("ARRAY_OF_MAPS", arrayDefaults, {
  since: "4.12",
  creationInput: "inner map",
  value: "map",
  entries: IndexWalk,
});
export const HASH_OF_MAPS = /*@__PURE__*/ defineRow("HASH_OF_MAPS", smallHash, {
  since: "4.12",
  creationInput: "inner map",
  value: "map",
  entries: MapWalk,
});
export const DEVMAP = /*@__PURE__*/ defineRow("DEVMAP", arrayDefaults, {
  since: "4.14",
  config: ["CONFIG_NET"],
  absence: absenceOf,
  needs: networkCapabilities,
  kernelFlags: BPF_F_RDONLY_PROG,
  value: "interface",
  absentDeletion: "success",
  entries: IndexWalk,
});
export const SOCKMAP = /*@__PURE__*/ defineRow("SOCKMAP", arrayDefaults, {
  since: "4.14",
  config: ["CONFIG_INET"],
  absence: absenceOf,
  needs: networkCapabilities,
  value: "socket",
  absentDeletion: "EINVAL",
  entries: IndexWalk,
});
export const CPUMAP = /*@__PURE__*/ defineRow("CPUMAP", arrayDefaults, {
  since: "4.15",
  config: ["CONFIG_NET"],
  absence: absenceOf,
  value: "CPU queue",
  absentDeletion: "success",
  entries: IndexWalk,
});
export const XSKMAP = /*@__PURE__*/ defineRow("XSKMAP", arrayDefaults, {
  since: "4.18",
  config: ["CONFIG_XDP_SOCKETS"],
  absence: absenceOf,
  needs: networkCapabilities,
  value: "XDP socket",
  absentDeletion: "success",
  entries: { unreadable: "the kernel does not report which sockets are in it" },
});
export const SOCKHASH = /*@__PURE__*/ defineRow("SOCKHASH", smallHash, {
  since: "4.18",
  config: ["CONFIG_INET"],
  absence: absenceOf,
  needs: networkCapabilities,
  value: "socket",
  entries: MapWalk,
});
const CGROUP_STORAGE = /*@__PURE__*/ defineRow("CGROUP_STORAGE", oldCgroupStorage, {
  since: "4.19",
});
export const REUSEPORT_SOCKARRAY = /*@__PURE__*/ defineRow("REUSEPORT_SOCKARRAY", arrayDefaults, {
  since: "4.19",
  config: ["CONFIG_INET"],
  absence: absenceOf,
  value: "socket",
  entries: IndexWalk,
});
const PERCPU_CGROUP_STORAGE = /*@__PURE__*/ defineRow("PERCPU_CGROUP_STORAGE", oldCgroupStorage, {
  since: "4.20",
  isPerCpu: true,
});
export const QUEUE = /*@__PURE__*/ defineRow("QUEUE", keylessDefaults, {
  since: "4.20",
  entries: "next",
});
export const STACK = /*@__PURE__*/ defineRow("STACK", keylessDefaults, {
  since: "4.20",
  entries: "next",
});
export const SK_STORAGE = /*@__PURE__*/ defineRow("SK_STORAGE", /*@__PURE__*/ storage("a socket"), {
  since: "5.2",
  config: ["CONFIG_NET"],
  absence: absenceOf,
});
export const DEVMAP_HASH = /*@__PURE__*/ defineRow("DEVMAP_HASH", smallHash, {
  since: "5.4",
  config: ["CONFIG_NET"],
  absence: absenceOf,
  needs: networkCapabilities,
  kernelFlags: BPF_F_RDONLY_PROG,
  value: "interface",
  entries: MapWalk,
});
const STRUCT_OPS = /*@__PURE__*/ defineRow("STRUCT_OPS", arrayDefaults, {
  since: "5.6",
  config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
  absence: absenceOf,
  creationInput: "kernel type",
  entries: MapWalk,
});
export const RINGBUF = /*@__PURE__*/ defineRow("RINGBUF", ringDefaults, {
  since: "5.8",
  entries: { unreadable: "reading its records would take them from their consumer" },
});
export const INODE_STORAGE = /*@__PURE__*/ defineRow(
  "INODE_STORAGE",
  /*@__PURE__*/ storage("a file"),
  {
    since: "5.10",
    config: ["CONFIG_BPF_LSM"],
    absence: absenceOf,
    requireSupport: requireBpfSecurityModule,
  },
);
export const TASK_STORAGE = /*@__PURE__*/ defineRow(
  "TASK_STORAGE",
  /*@__PURE__*/ storage("a thread"),
  { since: "5.11", absence: absenceOf },
);
export const BLOOM_FILTER = /*@__PURE__*/ defineRow("BLOOM_FILTER", keylessDefaults, {
  since: "5.16",
  absence: absenceOf,
  entries: { unreadable: "it does not store its values" },
});
export const USER_RINGBUF = /*@__PURE__*/ defineRow("USER_RINGBUF", ringDefaults, {
  since: "6.1",
  absence: absenceOf,
  entries: { unreadable: "only programs can read its records" },
});
export const CGRP_STORAGE = /*@__PURE__*/ defineRow(
  "CGRP_STORAGE",
  /*@__PURE__*/ storage("a cgroup"),
  { since: "6.2", config: ["CONFIG_CGROUPS"], absence: absenceOf },
);
export const ARENA = /*@__PURE__*/ defineRow(
  "ARENA",
  {},
  {
    since: "6.9",
    config: ["CONFIG_MMU", "CONFIG_64BIT"],
    absence: absenceOf,
    keySize: 0,
    valueSize: 0,
    maxEntries: 1,
    countOption: "pages",
    flags: BPF_F_MMAPABLE,
    entries: { unreadable: "it is plain memory without entries" },
  },
);
const INSN_ARRAY = /*@__PURE__*/ defineRow("INSN_ARRAY", arrayDefaults, {
  since: "6.19",
  absence: absenceOf,
  valueSize: 16,
  entries: MapWalk,
});
export const RHASH = /*@__PURE__*/ defineRow("RHASH", smallHash, {
  since: "7.2",
  absence: absenceOf,
  flags: BPF_F_NO_PREALLOC,
  entries: BatchWalk,
});

/** Rows of all map types, in the order of their kernel versions. */
const rows = {
  HASH,
  ARRAY,
  PROG_ARRAY,
  PERF_EVENT_ARRAY,
  PERCPU_HASH,
  PERCPU_ARRAY,
  STACK_TRACE,
  CGROUP_ARRAY,
  LRU_HASH,
  LRU_PERCPU_HASH,
  LPM_TRIE,
  ARRAY_OF_MAPS,
  HASH_OF_MAPS,
  DEVMAP,
  SOCKMAP,
  CPUMAP,
  XSKMAP,
  SOCKHASH,
  CGROUP_STORAGE,
  REUSEPORT_SOCKARRAY,
  PERCPU_CGROUP_STORAGE,
  QUEUE,
  STACK,
  SK_STORAGE,
  DEVMAP_HASH,
  STRUCT_OPS,
  RINGBUF,
  INODE_STORAGE,
  TASK_STORAGE,
  BLOOM_FILTER,
  USER_RINGBUF,
  CGRP_STORAGE,
  ARENA,
  INSN_ARRAY,
  RHASH,
} as const satisfies {
  readonly [N in MapTypeConstant]: MapType & { readonly type: Keyword<N> };
};

/** Map types that the kernel rejects as inner maps. */
export type NeverInnerName = Extract<
  (typeof rows)[MapTypeConstant],
  { readonly isNeverInner: true }
>["type"];

/** Rows of all map types by name, in the order of their kernel versions. */
export const mapTypes: ReadonlyMap<MapTypeName, MapType> = /*@__PURE__*/ rowsByType();

function rowsByType(): ReadonlyMap<MapTypeName, MapType> {
  return new Map(Object.values(rows).map((row) => [row.type, row]));
}

/** Operations that a type had from its first version on, and those that came later. */
type Operations = readonly [
  initial: readonly MapOperation[],
  later?: Readonly<Partial<Record<MapOperation, KernelVersion>>>,
];

const hashOperations: Operations = [
  ["lookup", "update", "delete", "get_next_key"],
  {
    lookup_and_delete: "5.14",
    lookup_batch: "5.6",
    lookup_and_delete_batch: "5.6",
    update_batch: "5.6",
    delete_batch: "5.6",
    freeze: "5.2",
  },
];
const cgroupStorageOperations: Operations = [
  ["lookup", "update", "get_next_key"],
  { freeze: "5.2" },
];
const storageOperations: Operations = [["lookup", "update", "delete", "freeze"]];

/** Operations of all map types. They are not part of the rows, because every bundle with a map class contains rows. */
const operations: Readonly<Record<MapTypeConstant, Operations>> = {
  HASH: hashOperations,
  ARRAY: [
    ["lookup", "update", "get_next_key"],
    { lookup_batch: "5.6", update_batch: "5.6", freeze: "5.2", mmap: "5.5" },
  ],
  PROG_ARRAY: [["update", "delete", "get_next_key"], { lookup: "4.13", freeze: "5.2" }],
  PERF_EVENT_ARRAY: [["update", "delete", "get_next_key"], { freeze: "5.2" }],
  PERCPU_HASH: hashOperations,
  PERCPU_ARRAY: [
    ["lookup", "update", "get_next_key"],
    { lookup_batch: "5.13", update_batch: "5.13", freeze: "5.2" },
  ],
  STACK_TRACE: [
    ["lookup", "delete"],
    { get_next_key: "4.16", lookup_and_delete: "6.18", freeze: "5.2" },
  ],
  CGROUP_ARRAY: [["update", "delete", "get_next_key"], { freeze: "5.2" }],
  LRU_HASH: hashOperations,
  LRU_PERCPU_HASH: hashOperations,
  LPM_TRIE: [
    ["lookup", "update", "delete"],
    {
      get_next_key: "4.16",
      lookup_batch: "5.13",
      update_batch: "5.13",
      delete_batch: "5.13",
      freeze: "5.2",
    },
  ],
  ARRAY_OF_MAPS: [
    ["update", "delete", "get_next_key"],
    { lookup: "4.13", lookup_batch: "5.19", update_batch: "5.19", freeze: "5.2" },
  ],
  HASH_OF_MAPS: [
    ["update", "delete", "get_next_key"],
    {
      lookup: "4.13",
      lookup_batch: "5.19",
      lookup_and_delete_batch: "5.19",
      update_batch: "5.19",
      delete_batch: "5.19",
      freeze: "5.2",
    },
  ],
  DEVMAP: [["lookup", "update", "delete", "get_next_key"], { freeze: "5.2" }],
  SOCKMAP: [["update", "delete", "get_next_key"], { lookup: "5.7", freeze: "5.2" }],
  CPUMAP: [["lookup", "update", "delete", "get_next_key"], { freeze: "5.2" }],
  XSKMAP: [["update", "delete", "get_next_key"], { freeze: "5.2" }],
  SOCKHASH: [["update", "delete", "get_next_key"], { lookup: "5.7", freeze: "5.2" }],
  CGROUP_STORAGE: cgroupStorageOperations,
  REUSEPORT_SOCKARRAY: [["lookup", "update", "delete", "get_next_key"], { freeze: "5.2" }],
  PERCPU_CGROUP_STORAGE: cgroupStorageOperations,
  QUEUE: [["lookup", "update", "lookup_and_delete"], { freeze: "5.2" }],
  STACK: [["lookup", "update", "lookup_and_delete"], { freeze: "5.2" }],
  SK_STORAGE: storageOperations,
  DEVMAP_HASH: [["lookup", "update", "delete", "get_next_key", "freeze"]],
  // No operation is probed: storing the only value would register it with the kernel.
  STRUCT_OPS: [[]],
  RINGBUF: [["freeze", "mmap"]],
  INODE_STORAGE: storageOperations,
  TASK_STORAGE: storageOperations,
  BLOOM_FILTER: [["lookup", "update", "freeze"]],
  USER_RINGBUF: [["freeze", "mmap"]],
  CGRP_STORAGE: storageOperations,
  ARENA: [["freeze", "mmap"]],
  INSN_ARRAY: [["lookup", "update", "get_next_key", "freeze"]],
  RHASH: [
    [
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
  ],
};

/**
 * Returns the operations of user space on maps of a type, with the first kernel version of each. The result is empty for a
 * type whose operations cannot be probed without an effect.
 */
export function operationsOf({
  name,
  since,
}: Pick<MapType, "name" | "since">): Readonly<Partial<Record<MapOperation, KernelVersion>>> {
  const [initial, later] = operations[name];
  return { ...Object.fromEntries(initial.map((operation) => [operation, since])), ...later };
}

const namesByNumber = /*@__PURE__*/ keywordsByNumber(bpfMapTypes) as ReadonlyMap<
  number,
  MapTypeName
>;

/**
 * Returns the row of a map type.
 *
 * @throws {TypeError} if the type is unknown.
 */
export function mapType(type: MapTypeName): MapType {
  const row = mapTypes.get(type);
  if (row !== undefined) return row;
  throw new TypeError(
    `type: unknown map type ${describe(type)}: ${suggest(String(type), [...mapTypes.keys()])}`,
  );
}

/** Returns the name of a map type. A type that this library does not support yet is named by its number: `"type_99"`. */
export function mapTypeName(number: number): MapTypeName {
  return keywordOf(namesByNumber, number);
}

/** Implements {@link MapType.absence}. */
function absenceOf({ since, config = [] }: MapType): string | undefined {
  if (!isKernelSince(since)) {
    return `it needs Linux ${since}, and this is ${kernelRelease()}`;
  }
  const off = config.filter((option) => kernelConfig()?.has(option) === false);
  return off.length === 0 ? undefined : `this kernel was built without ${off.join(" and ")}`;
}
