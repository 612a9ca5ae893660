import { roundUp8 } from "../ffi/align.ts";
import { perCpuMapTypes, possibleCpus } from "../ffi/cpus.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel_release.ts";
import { MappedMemory, pageSize } from "../ffi/memory.ts";
import {
  type BatchCommand,
  type ElementCommand,
  probeBatch,
  probeElement,
  probeFreeze,
} from "../ffi/probe.ts";
import { keyword } from "../types/keyword.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";
import { attempt, descriptorOf, KernelAnswer } from "./attempt.ts";
import type { ProbeAnswer } from "./feature.ts";
import { type MapTypeFacts, type MapTypeKeyword, mapTypes, probeMapOf } from "./map_types.ts";
import { operationFacts } from "./operation_versions.ts";

const elementCommands = {
  lookup: "BPF_MAP_LOOKUP_ELEM",
  update: "BPF_MAP_UPDATE_ELEM",
  delete: "BPF_MAP_DELETE_ELEM",
  "get-next-key": "BPF_MAP_GET_NEXT_KEY",
  "lookup-and-delete": "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
} as const satisfies Record<string, ElementCommand>;

const batchCommands = {
  "lookup-batch": "BPF_MAP_LOOKUP_BATCH",
  "lookup-and-delete-batch": "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
  "update-batch": "BPF_MAP_UPDATE_BATCH",
  "delete-batch": "BPF_MAP_DELETE_BATCH",
} as const satisfies Record<string, BatchCommand>;

/** An operation of user space on a map: the kernel's `BPF_MAP_LOOKUP_BATCH` is `"lookup-batch"`. */
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
  "prog-array",
  "perf-event-array",
  "cgroup-array",
  "array-of-maps",
  "hash-of-maps",
  "sockmap",
  "sockhash",
  "xskmap",
  "reuseport-sockarray",
]);
const descriptorKeys: ReadonlySet<MapTypeKeyword> = new Set([
  "sk-storage",
  "inode-storage",
  "task-storage",
  "cgrp-storage",
]);
/** Kinds whose values are an interface: the first of each network namespace is its loopback. */
const interfaceValues: ReadonlySet<MapTypeKeyword> = new Set(["devmap", "devmap-hash"]);
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
