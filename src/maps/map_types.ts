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
import { requireBpfSecurityModule } from "../ffi/security.ts";
import { bpfMapTypes } from "../uapi/enumerations.ts";
import { BatchWalk, IndexWalk, MapWalk, TrieWalk } from "./walk.ts";

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

/** The walk that reads all entries; `"next"` where only the value that comes next can be read. */
export type EntryOrder = typeof BatchWalk | "next";

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
  readonly type: MapTypeName;
  /** The kernel's number. */
  readonly number: number;
  /** The first kernel version that has it. */
  readonly since: KernelVersion;
  /** Options of the kernel's build without which it is not there. */
  readonly config?: readonly string[];
  /**
   * Explains by version and build options why the running kernel has no maps of the type; `undefined` where it should have them.
   * Only types that a kernel since 5.10 can lack have it.
   */
  readonly absence?: (row: MapType) => string | undefined;
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
  /** The option of the class that sets the kernel's `max_entries`. @default "maxEntries" */
  readonly countOption?: "maxEntries" | "length" | "size" | "pages";
  /** The objects that values stand for. */
  readonly value?: HeldObject;
  /** The answer of the kernel when an absent key is deleted, where that is not ENOENT. */
  readonly absentDeletion?: "success" | "EINVAL";
  /** Throws where maps of the type must not be used. */
  readonly requirement?: () => void;
  /** True where the kernel takes no maps of the type inside another map. */
  readonly isNeverInner?: true;
  /** True where programs that may sleep cannot use its maps. */
  readonly refusesSleepable?: true;
  /** The flag without which its memory cannot be mapped. */
  readonly mappingFlag?: number;
  /** The way in which entries are read, or the reason why they cannot be. */
  readonly entries: EntryOrder | { readonly unreadable: string };
}

type Row = Omit<MapType, "name" | "type" | "number" | "needs"> & {
  readonly needs?: readonly Capability[];
};

/** Types with a hash of 4 bytes, and with an index. Both are spelt out: a bundler keeps what is copied from another. */
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

/** The smallest size that is a power of two and whole pages, whatever the size of a page. */
const ringDefaults = { keySize: 0, valueSize: 0, maxEntries: 65_536, countOption: "size" } as const;

const hashDefaults = {
  keySize: 4,
  valueSize: 4,
  maxEntries: 1,
  entries: BatchWalk,
} as const;

/** `struct bpf_cgroup_storage_key`, with the padding after its last member. */
const oldCgroupStorage = {
  keySize: 16,
  valueSize: 4,
  maxEntries: 0,
  config: ["CONFIG_CGROUP_BPF"],
  absence: absenceOf,
  entries: MapWalk,
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
    entries: { unreadable },
  } as const;
}

/** Makes a row of what several types share and what is its own. */
function defineRow<
  N extends MapTypeConstant,
  Shared extends Partial<Row>,
  const Own extends Omit<Row, keyof Shared> & Partial<Row>,
>(
  name: N,
  shared: Shared,
  own: Own & { readonly [K in Exclude<keyof Own, keyof Row>]: never },
): MapType & { readonly type: Keyword<N> } & Pick<Own, Extract<keyof Own, "isNeverInner">> {
  // The types of the parameters say that the two make a whole row, which TypeScript does not conclude.
  const row = { ...shared, ...own } as unknown as Row;
  return {
    needs: ["CAP_BPF"],
    ...row,
    name,
    type: keyword(name),
    number: bpfMapTypes[name],
  } as MapType & { readonly type: Keyword<N> } & Pick<Own, Extract<keyof Own, "isNeverInner">>;
}

// The rows, in the kernel's order of versions. A class takes its own: the others are left out of a bundle.

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
  entries: { unreadable: "the kernel does not say which perf events are in it" },
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
  entries: { unreadable: "the kernel does not say which cgroups are in it" },
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
    // The prefix's length and four bytes of an address.
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
  with: "inner map",
  value: "map",
  entries: IndexWalk,
});
export const HASH_OF_MAPS = /*@__PURE__*/ defineRow("HASH_OF_MAPS", smallHash, {
  since: "4.12",
  with: "inner map",
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
  entries: { unreadable: "the kernel does not say which sockets are in it" },
});
export const SOCKHASH = /*@__PURE__*/ defineRow("SOCKHASH", smallHash, {
  since: "4.18",
  config: ["CONFIG_INET"],
  absence: absenceOf,
  needs: networkCapabilities,
  value: "socket",
  entries: MapWalk,
});
export const CGROUP_STORAGE = /*@__PURE__*/ defineRow("CGROUP_STORAGE", oldCgroupStorage, {
  since: "4.19",
});
export const REUSEPORT_SOCKARRAY = /*@__PURE__*/ defineRow("REUSEPORT_SOCKARRAY", arrayDefaults, {
  since: "4.19",
  config: ["CONFIG_INET"],
  absence: absenceOf,
  value: "socket",
  entries: IndexWalk,
});
export const PERCPU_CGROUP_STORAGE = /*@__PURE__*/ defineRow(
  "PERCPU_CGROUP_STORAGE",
  oldCgroupStorage,
  { since: "4.20", isPerCpu: true },
);
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
export const STRUCT_OPS = /*@__PURE__*/ defineRow("STRUCT_OPS", arrayDefaults, {
  since: "5.6",
  config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
  absence: absenceOf,
  with: "kernel type",
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
    requirement: requireBpfSecurityModule,
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
  entries: { unreadable: "it knows whether a value was added, not which ones were" },
});
export const USER_RINGBUF = /*@__PURE__*/ defineRow("USER_RINGBUF", ringDefaults, {
  since: "6.1",
  absence: absenceOf,
  entries: { unreadable: "its records are for programs to read" },
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
    entries: { unreadable: "it is memory that programs give a form to, without entries" },
  },
);
export const INSN_ARRAY = /*@__PURE__*/ defineRow("INSN_ARRAY", arrayDefaults, {
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

/** All rows, in the order in which the kernel got the types. */
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

/** The map types that the kernel takes no maps of inside another map. */
export type NeverInnerName = Extract<
  (typeof rows)[MapTypeConstant],
  { readonly isNeverInner: true }
>["type"];

/** The rows of all map types, by name, in the order in which the kernel got them. */
export const mapTypes: ReadonlyMap<MapTypeName, MapType> = /*@__PURE__*/ rowsByType();

function rowsByType(): ReadonlyMap<MapTypeName, MapType> {
  return new Map(Object.values(rows).map((row) => [row.type, row]));
}

/** The operations of user space that came with a type, and those that came later. */
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

/** Apart from the rows, which every bundle of a script with a map of the type holds. */
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
  // To store the one value is to register it with the kernel.
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
 * The first kernel version with each operation of user space on maps of a type. Empty for a type whose operations cannot be tried
 * without an effect.
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

/** Returns the row of a map type. @throws {TypeError} for an unknown one */
export function mapType(type: MapTypeName): MapType {
  const row = mapTypes.get(type);
  if (row !== undefined) return row;
  throw new TypeError(
    `type: unknown kind of map ${describe(type)}: ${suggest(String(type), [...mapTypes.keys()])}`,
  );
}

/** The name of a map type, also of one that is newer than this library: `"type_99"`. */
export function mapTypeName(number: number): MapTypeName {
  return keywordOf(namesByNumber, number);
}

/** See {@link MapType.absence}. */
function absenceOf({ since, config = [] }: MapType): string | undefined {
  if (!isKernelSince(since)) {
    return `it came with kernel ${since}, and this is ${kernelRelease()}`;
  }
  const off = config.filter((option) => kernelConfig()?.has(option) === false);
  return off.length === 0 ? undefined : `this kernel was built without ${off.join(" and ")}`;
}
