/**
 * @module Since which version of the kernel user space can do what with the maps of each kind.
 *
 * Read off the tables of operations (`struct bpf_map_ops`, in kernel/bpf, net/core and net/xdp) and kernel/bpf/syscall.c in the sources
 * of Linux 3.19 to 7.2.
 */

import { keyword } from "../check/names.ts";
import { attempt, descriptorOf, KernelAnswer } from "./attempt.ts";
import type { ProbeAnswer } from "./feature.ts";
import { type MapTypeFacts, type MapTypeKeyword, mapTypes, probeMapOf } from "./map_types.ts";
import {
  type BatchCommand,
  type ElementCommand,
  probeBatch,
  probeElement,
  probeFreeze,
} from "../ffi/bpf_probe.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { type KernelVersion, perCpuMapTypes, possibleCpus } from "../ffi/kernel.ts";
import { MappedMemory, pageSize, roundUp8 } from "../ffi/mapped_memory.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";

/** What a kind of map is there with, and what came later. What is in neither no kernel has. */
interface OperationFacts {
  readonly atOnce: readonly MapOperation[];
  readonly later: Readonly<Partial<Record<MapOperation, KernelVersion>>>;
}

/** Of hash tables of all sorts. */
const hashTable: OperationFacts = {
  atOnce: ["lookup", "update", "delete", "get_next_key"],
  later: {
    lookup_and_delete: "5.14",
    lookup_batch: "5.6",
    lookup_and_delete_batch: "5.6",
    update_batch: "5.6",
    delete_batch: "5.6",
    freeze: "5.2",
  },
};

/** By kind. Not those of `struct_ops`: to try them is to register something with the kernel. */
export const operationFacts: Readonly<Partial<Record<MapTypeKeyword, OperationFacts>>> = {
  hash: hashTable,
  array: {
    atOnce: ["lookup", "update", "get_next_key"],
    later: { lookup_batch: "5.6", update_batch: "5.6", freeze: "5.2", mmap: "5.5" },
  },
  prog_array: {
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "4.13", freeze: "5.2" },
  },
  perf_event_array: { atOnce: ["update", "delete", "get_next_key"], later: { freeze: "5.2" } },
  percpu_hash: hashTable,
  percpu_array: {
    atOnce: ["lookup", "update", "get_next_key"],
    later: { lookup_batch: "5.13", update_batch: "5.13", freeze: "5.2" },
  },
  stack_trace: {
    atOnce: ["lookup", "delete"],
    later: { get_next_key: "4.16", lookup_and_delete: "6.18", freeze: "5.2" },
  },
  cgroup_array: { atOnce: ["update", "delete", "get_next_key"], later: { freeze: "5.2" } },
  lru_hash: hashTable,
  lru_percpu_hash: hashTable,
  lpm_trie: {
    atOnce: ["lookup", "update", "delete"],
    later: {
      get_next_key: "4.16",
      lookup_batch: "5.13",
      update_batch: "5.13",
      delete_batch: "5.13",
      freeze: "5.2",
    },
  },
  array_of_maps: {
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "4.13", lookup_batch: "5.19", update_batch: "5.19", freeze: "5.2" },
  },
  hash_of_maps: {
    atOnce: ["update", "delete", "get_next_key"],
    later: {
      lookup: "4.13",
      lookup_batch: "5.19",
      lookup_and_delete_batch: "5.19",
      update_batch: "5.19",
      delete_batch: "5.19",
      freeze: "5.2",
    },
  },
  devmap: { atOnce: ["lookup", "update", "delete", "get_next_key"], later: { freeze: "5.2" } },
  sockmap: {
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "5.7", freeze: "5.2" },
  },
  cpumap: { atOnce: ["lookup", "update", "delete", "get_next_key"], later: { freeze: "5.2" } },
  xskmap: { atOnce: ["update", "delete", "get_next_key"], later: { freeze: "5.2" } },
  sockhash: {
    atOnce: ["update", "delete", "get_next_key"],
    later: { lookup: "5.7", freeze: "5.2" },
  },
  cgroup_storage: { atOnce: ["lookup", "update", "get_next_key"], later: { freeze: "5.2" } },
  reuseport_sockarray: {
    atOnce: ["lookup", "update", "delete", "get_next_key"],
    later: { freeze: "5.2" },
  },
  percpu_cgroup_storage: {
    atOnce: ["lookup", "update", "get_next_key"],
    later: { freeze: "5.2" },
  },
  queue: { atOnce: ["lookup", "update", "lookup_and_delete"], later: { freeze: "5.2" } },
  stack: { atOnce: ["lookup", "update", "lookup_and_delete"], later: { freeze: "5.2" } },
  sk_storage: { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  devmap_hash: { atOnce: ["lookup", "update", "delete", "get_next_key", "freeze"], later: {} },
  ringbuf: { atOnce: ["freeze", "mmap"], later: {} },
  inode_storage: { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  task_storage: { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  bloom_filter: { atOnce: ["lookup", "update", "freeze"], later: {} },
  user_ringbuf: { atOnce: ["freeze", "mmap"], later: {} },
  cgrp_storage: { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  arena: { atOnce: ["freeze", "mmap"], later: {} },
  insn_array: { atOnce: ["lookup", "update", "get_next_key", "freeze"], later: {} },
  rhash: {
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
    later: {},
  },
};

const elementCommands = {
  lookup: "BPF_MAP_LOOKUP_ELEM",
  update: "BPF_MAP_UPDATE_ELEM",
  delete: "BPF_MAP_DELETE_ELEM",
  get_next_key: "BPF_MAP_GET_NEXT_KEY",
  lookup_and_delete: "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
} as const satisfies Record<string, ElementCommand>;

const batchCommands = {
  lookup_batch: "BPF_MAP_LOOKUP_BATCH",
  lookup_and_delete_batch: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
  update_batch: "BPF_MAP_UPDATE_BATCH",
  delete_batch: "BPF_MAP_DELETE_BATCH",
} as const satisfies Record<string, BatchCommand>;

/** An operation of user space on a map: the kernel's `BPF_MAP_LOOKUP_BATCH` is `"lookup_batch"`. */
export type MapOperation =
  keyof typeof elementCommands | keyof typeof batchCommands | "freeze" | "mmap";

/** The operations, in the order in which people read them. */
export const mapOperations: readonly MapOperation[] = [
  ...(Object.keys(elementCommands) as (keyof typeof elementCommands)[]),
  ...(Object.keys(batchCommands) as (keyof typeof batchCommands)[]),
  "freeze",
  "mmap",
];

/** Since when user space can do that with maps of a kind; `undefined` where no kernel that is known lets it. */
export function operationVersion(
  type: MapTypeKeyword,
  operation: MapOperation,
): KernelVersion | undefined {
  const facts = operationFacts[type];
  return facts?.atOnce.includes(operation) === true
    ? mapTypes.get(type)?.since
    : facts?.later[operation];
}

/** Kinds whose values are a descriptor, and kinds whose keys are. */
const descriptorValues: ReadonlySet<MapTypeKeyword> = new Set([
  "prog_array",
  "perf_event_array",
  "cgroup_array",
  "array_of_maps",
  "hash_of_maps",
  "sockmap",
  "sockhash",
  "xskmap",
  "reuseport_sockarray",
]);
const descriptorKeys: ReadonlySet<MapTypeKeyword> = new Set([
  "sk_storage",
  "inode_storage",
  "task_storage",
  "cgrp_storage",
]);
/** Kinds whose values are an interface: the first of each network namespace is its loopback. */
const interfaceValues: ReadonlySet<MapTypeKeyword> = new Set(["devmap", "devmap_hash"]);
const loopback = 1;

/** A number that no descriptor has, but could: others are refused before the operation is. */
const noDescriptor = 0x7fff_ffff;

/**
 * What an operation that a kind of map has answers to a map that is empty: that there is nothing, that no such descriptor is
 * open, or that values are read in 8 bytes alone, which those of the smallest map of sockets have not.
 */
const answersOfOperations: ReadonlySet<string> = new Set(["ENOENT", "EBADF", "ENOSPC"]);

/** An empty place of a sockmap is not deleted. */
const answerOfEmptySockmap = "EINVAL";

/** Tries an operation on the smallest map of a kind. */
export function probeMapOperation(type: MapTypeFacts, operation: MapOperation): ProbeAnswer {
  // Arrays are the one kind that has to be told.
  const flags = operation === "mmap" && type.name === "ARRAY" ? BPF_F_MMAPABLE : type.flags;
  return attempt(() => {
    using map = descriptorOf(probeMapOf({ ...type, ...(flags !== undefined && { flags }) }));
    if (operation === "mmap") {
      tryMapping(map);
      return;
    }
    const error = operation === "freeze" ? probeFreeze(map.fd) : tryCommand(type, operation, map);
    if (error === undefined || isAnswerOfOperation(type, operation, error)) return;
    throw new KernelAnswer(error);
  });
}

/** Whether an error is what the operation answers, and so that there is one. */
function isAnswerOfOperation({ name }: MapTypeFacts, operation: MapOperation, error: string) {
  if (name === "SOCKMAP" && operation === "delete" && error === answerOfEmptySockmap) return true;
  return operation !== "freeze" && answersOfOperations.has(error);
}

function tryCommand(
  { name, keySize, valueSize }: MapTypeFacts,
  operation: Exclude<MapOperation, "freeze" | "mmap">,
  { fd }: Descriptor,
): string | undefined {
  const type = keyword(name);
  const key = new Uint8Array(keySize);
  if (descriptorKeys.has(type)) new DataView(key.buffer).setInt32(0, noDescriptor, true);
  const copies = perCpuMapTypes.includes(name) ? possibleCpus().length : 1;
  // The next key goes where the value does.
  const value = new Uint8Array(Math.max(roundUp8(valueSize) * copies, roundUp8(keySize), 8));
  if (descriptorValues.has(type)) new DataView(value.buffer).setInt32(0, noDescriptor, true);
  if (interfaceValues.has(type)) new DataView(value.buffer).setInt32(0, loopback, true);
  if (isBatch(operation)) return probeBatch(batchCommands[operation], fd, key, value);
  return probeElement(elementCommands[operation], fd, keySize === 0 ? undefined : key, value);
}

function isBatch(operation: string): operation is keyof typeof batchCommands {
  return Object.hasOwn(batchCommands, operation);
}

/** @throws {BpfError} where the kernel refuses it */
function tryMapping({ fd, what }: Descriptor): void {
  const page = { fd, offset: 0, length: pageSize(), writable: false, what };
  MappedMemory.ofFile(page)[Symbol.dispose]();
}
