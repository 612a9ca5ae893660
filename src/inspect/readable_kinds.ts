import { describeMap, type MapTypeName } from "../maps/spec.ts";
import type { MapProperties } from "../maps/handle.ts";

/** How the entries of a map are read: from key to key, by all indexes, as networks, or only the one that comes next. */
export type Reading = "keys" | "indexes" | "networks" | "next";

const readings: Readonly<Partial<Record<MapTypeName, Reading>>> = {
  hash: "keys",
  "lru-hash": "keys",
  "percpu-hash": "keys",
  "lru-percpu-hash": "keys",
  array: "keys",
  "percpu-array": "keys",
  "hash-of-maps": "keys",
  "stack-trace": "keys",
  "devmap-hash": "keys",
  sockhash: "keys",
  "cgroup-storage": "keys",
  "percpu-cgroup-storage": "keys",
  "struct-ops": "keys",
  "insn-array": "keys",
  rhash: "keys",
  "array-of-maps": "indexes",
  "prog-array": "indexes",
  devmap: "indexes",
  cpumap: "indexes",
  sockmap: "indexes",
  "reuseport-sockarray": "indexes",
  "lpm-trie": "networks",
  queue: "next",
  stack: "next",
};

const ofAnObject =
  "its values belong to objects, and the kernel gives them only by a descriptor of";

/** Why nothing of a kind can be read. */
const refusals: Readonly<Partial<Record<MapTypeName, string>>> = {
  "perf-event-array": "the kernel does not say which perf events are in it",
  "cgroup-array": "the kernel does not say which cgroups are in it",
  xskmap: "the kernel does not say which sockets are in it",
  "bloom-filter": "it knows whether a value was added, not which ones were",
  ringbuf: "reading its records would take them from their consumer",
  "user-ringbuf": "its records are for programs to read",
  arena: "it is memory that programs give a form to, without entries",
  "sk-storage": `${ofAnObject} a socket`,
  "inode-storage": `${ofAnObject} a file`,
  "task-storage": `${ofAnObject} a thread`,
  "cgrp-storage": `${ofAnObject} a cgroup`,
};

/** Kinds whose values the kernel gives only where there is room for a socket's cookie. */
const socketKinds: ReadonlySet<MapTypeName> = new Set([
  "sockmap",
  "sockhash",
  "reuseport-sockarray",
]);
const cookieSize = 8;

/** How a map is read. @throws {Error} when it cannot be, with the reason */
export function readingOf(map: MapProperties): Reading {
  const { type, valueSize } = map;
  const reading = readings[type];
  if (reading === undefined) {
    throw unreadable(map, refusals[type] ?? "its kind is newer than this version of bun-bpf");
  }
  if (socketKinds.has(type) && valueSize < cookieSize) {
    throw unreadable(map, "its values have no room for the cookies of sockets, which take 8 bytes");
  }
  return reading;
}

function unreadable(map: MapProperties, reason: string): Error {
  return new Error(`the entries of the ${describeMap(map)} cannot be read: ${reason}`);
}
