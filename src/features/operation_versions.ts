/**
 * @module Since which version of the kernel user space can do what with the maps of each kind.
 *
 * Read off the tables of operations (`struct bpf_map_ops`, in kernel/bpf, net/core and net/xdp) and kernel/bpf/syscall.c in the sources
 * of Linux 3.19 to 7.2.
 */

import type { KernelVersion } from "../ffi/kernel_release.ts";
import type { MapOperation } from "./map_operations.ts";
import type { MapTypeKeyword } from "./map_types.ts";

/** What a kind of map is there with, and what came later. What is in neither no kernel has. */
interface OperationFacts {
  readonly atOnce: readonly MapOperation[];
  readonly later: Readonly<Partial<Record<MapOperation, KernelVersion>>>;
}

/** Of hash tables of all sorts. */
const hashTable: OperationFacts = {
  atOnce: ["lookup", "update", "delete", "get-next-key"],
  later: {
    "lookup-and-delete": "5.14",
    "lookup-batch": "5.6",
    "lookup-and-delete-batch": "5.6",
    "update-batch": "5.6",
    "delete-batch": "5.6",
    freeze: "5.2",
  },
};

/** By kind. Not those of `struct-ops`: to try them is to register something with the kernel. */
export const operationFacts: Readonly<Partial<Record<MapTypeKeyword, OperationFacts>>> = {
  hash: hashTable,
  array: {
    atOnce: ["lookup", "update", "get-next-key"],
    later: { "lookup-batch": "5.6", "update-batch": "5.6", freeze: "5.2", mmap: "5.5" },
  },
  "prog-array": {
    atOnce: ["update", "delete", "get-next-key"],
    later: { lookup: "4.13", freeze: "5.2" },
  },
  "perf-event-array": { atOnce: ["update", "delete", "get-next-key"], later: { freeze: "5.2" } },
  "percpu-hash": hashTable,
  "percpu-array": {
    atOnce: ["lookup", "update", "get-next-key"],
    later: { "lookup-batch": "5.13", "update-batch": "5.13", freeze: "5.2" },
  },
  "stack-trace": {
    atOnce: ["lookup", "delete"],
    later: { "get-next-key": "4.16", "lookup-and-delete": "6.18", freeze: "5.2" },
  },
  "cgroup-array": { atOnce: ["update", "delete", "get-next-key"], later: { freeze: "5.2" } },
  "lru-hash": hashTable,
  "lru-percpu-hash": hashTable,
  "lpm-trie": {
    atOnce: ["lookup", "update", "delete"],
    later: {
      "get-next-key": "4.16",
      "lookup-batch": "5.13",
      "update-batch": "5.13",
      "delete-batch": "5.13",
      freeze: "5.2",
    },
  },
  "array-of-maps": {
    atOnce: ["update", "delete", "get-next-key"],
    later: { lookup: "4.13", "lookup-batch": "5.19", "update-batch": "5.19", freeze: "5.2" },
  },
  "hash-of-maps": {
    atOnce: ["update", "delete", "get-next-key"],
    later: {
      lookup: "4.13",
      "lookup-batch": "5.19",
      "lookup-and-delete-batch": "5.19",
      "update-batch": "5.19",
      "delete-batch": "5.19",
      freeze: "5.2",
    },
  },
  devmap: { atOnce: ["lookup", "update", "delete", "get-next-key"], later: { freeze: "5.2" } },
  sockmap: {
    atOnce: ["update", "delete", "get-next-key"],
    later: { lookup: "5.7", freeze: "5.2" },
  },
  cpumap: { atOnce: ["lookup", "update", "delete", "get-next-key"], later: { freeze: "5.2" } },
  xskmap: { atOnce: ["update", "delete", "get-next-key"], later: { freeze: "5.2" } },
  sockhash: {
    atOnce: ["update", "delete", "get-next-key"],
    later: { lookup: "5.7", freeze: "5.2" },
  },
  "cgroup-storage": { atOnce: ["lookup", "update", "get-next-key"], later: { freeze: "5.2" } },
  "reuseport-sockarray": {
    atOnce: ["lookup", "update", "delete", "get-next-key"],
    later: { freeze: "5.2" },
  },
  "percpu-cgroup-storage": {
    atOnce: ["lookup", "update", "get-next-key"],
    later: { freeze: "5.2" },
  },
  queue: { atOnce: ["lookup", "update", "lookup-and-delete"], later: { freeze: "5.2" } },
  stack: { atOnce: ["lookup", "update", "lookup-and-delete"], later: { freeze: "5.2" } },
  "sk-storage": { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  "devmap-hash": { atOnce: ["lookup", "update", "delete", "get-next-key", "freeze"], later: {} },
  ringbuf: { atOnce: ["freeze", "mmap"], later: {} },
  "inode-storage": { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  "task-storage": { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  "bloom-filter": { atOnce: ["lookup", "update", "freeze"], later: {} },
  "user-ringbuf": { atOnce: ["freeze", "mmap"], later: {} },
  "cgrp-storage": { atOnce: ["lookup", "update", "delete", "freeze"], later: {} },
  arena: { atOnce: ["freeze", "mmap"], later: {} },
  "insn-array": { atOnce: ["lookup", "update", "get-next-key", "freeze"], later: {} },
  rhash: {
    atOnce: [
      "lookup",
      "update",
      "delete",
      "get-next-key",
      "lookup-and-delete",
      "lookup-batch",
      "lookup-and-delete-batch",
      "update-batch",
      "delete-batch",
      "freeze",
    ],
    later: {},
  },
};
