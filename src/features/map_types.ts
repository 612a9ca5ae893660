/** @module Probes of map types and of the operations on their maps: the smallest map of a type is made, and tried. */

import { Btf } from "../btf/btf.ts";
import { encodeBtf } from "../btf/encode.ts";
import { keyword } from "../check/names.ts";
import type { BpfCommand } from "../ffi/bpf.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import {
  probeBatch,
  type Probed,
  type ProbedMap,
  probeElement,
  probeFreeze,
  probeMap,
} from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { MappedMemory, pageSize, roundUp8 } from "../ffi/mapped_memory.ts";
import type { HeldObject, MapOperation, MapType } from "../maps/map_types.ts";
import { u32, u64 } from "../types/integer.ts";
import { attempt, descriptorOf, KernelAnswer } from "./attempt.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";
import { probeLoad } from "./trial_program.ts";
import {
  BPF_MAP_DELETE_BATCH,
  BPF_MAP_DELETE_ELEM,
  BPF_MAP_GET_NEXT_KEY,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM,
  BPF_MAP_LOOKUP_BATCH,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_UPDATE_BATCH,
  BPF_MAP_UPDATE_ELEM,
} from "../uapi/commands.ts";

/** Makes the smallest map of a type. @throws {BpfError} where what it needs besides cannot be made, or read */
export function probeMapOf(type: MapType): Probed {
  const { name, keySize, valueSize, maxEntries, flags = 0 } = type;
  const smallest: ProbedMap = { type: name, keySize, valueSize, maxEntries, flags };
  switch (type.creationInput) {
    case "inner map": {
      const inner = probeMap({ type: "ARRAY", keySize: 4, valueSize: 4, maxEntries: 1 });
      if (!(inner instanceof Descriptor)) return inner;
      using template = inner;
      return probeMap({ ...smallest, innerMapFd: template.fd });
    }
    case "types":
    case "kernel type": {
      const { bytes, keyTypeId, valueTypeId } = encodeBtf({ key: u32, value: u64 });
      using btf = loadBtf(bytes, "types of a probed map");
      // Kernels before 6.9 read their own types when they check their first program, and know none of them until then.
      if (type.creationInput === "kernel type") probeLoad("socket_filter");
      // The kernel asks for types of the program's own also where it takes the value's from its own.
      return type.creationInput === "types"
        ? probeMap({ ...smallest, btf: { fd: btf.fd, keyTypeId, valueTypeId } })
        : probeMap({ ...smallest, ...structOpsShape(), btf: { fd: btf.fd } });
    }
    default:
      return probeMap(smallest);
  }
}

/** Values of congestion control algorithms, which every kernel with this type takes; the structs of others came later. */
function structOpsShape(): Pick<ProbedMap, "valueSize" | "kernelTypeId"> {
  const btf = Btf.kernel();
  const id = btf.find("struct", "bpf_struct_ops_tcp_congestion_ops");
  return id === undefined ? { valueSize: 4 } : { valueSize: btf.sizeOf(id), kernelTypeId: id };
}

/** The feature of having maps of a type: the smallest is made. */
export function mapTypeFeature(type: MapType): Feature {
  const name = `map type ${keyword(type.name)}`;
  const probe = () => attempt(() => descriptorOf(probeMapOf(type))[Symbol.dispose]());
  const { since, config, needs } = type;
  return new Feature({ name, since, config, needs, probe });
}

const elementCommands = {
  lookup: BPF_MAP_LOOKUP_ELEM,
  update: BPF_MAP_UPDATE_ELEM,
  delete: BPF_MAP_DELETE_ELEM,
  get_next_key: BPF_MAP_GET_NEXT_KEY,
  lookup_and_delete: BPF_MAP_LOOKUP_AND_DELETE_ELEM,
} as const satisfies Partial<Record<MapOperation, BpfCommand>>;

const batchCommands = {
  lookup_batch: BPF_MAP_LOOKUP_BATCH,
  lookup_and_delete_batch: BPF_MAP_LOOKUP_AND_DELETE_BATCH,
  update_batch: BPF_MAP_UPDATE_BATCH,
  delete_batch: BPF_MAP_DELETE_BATCH,
} as const satisfies Partial<Record<MapOperation, BpfCommand>>;

/** Values that are written as a descriptor. */
const writtenAsDescriptor: ReadonlySet<HeldObject | undefined> = new Set([
  "program",
  "map",
  "perf event",
  "cgroup",
  "socket",
  "XDP socket",
]);

/** The first interface of each network namespace. */
const loopback = 1;

/** A number that no descriptor has, but could: others are refused before the operation is. */
const noDescriptor = 0x7fff_ffff;

/**
 * Errors of an operation that exists, on a map that is empty: nothing is there, no such descriptor is
 * open, or values are read in 8 bytes alone, which those of the smallest map of sockets have not.
 */
const answersOfOperations: ReadonlySet<string> = new Set(["ENOENT", "EBADF", "ENOSPC"]);

/** Tries an operation on the smallest map of a type. */
export function probeMapOperation(type: MapType, operation: MapOperation): ProbeAnswer {
  const { mappingFlag } = type;
  const probed =
    operation === "mmap" && mappingFlag !== undefined ? { ...type, flags: mappingFlag } : type;
  return attempt(() => {
    using map = descriptorOf(probeMapOf(probed));
    if (operation === "mmap") {
      tryMapping(map);
      return;
    }
    const error = operation === "freeze" ? probeFreeze(map.fd) : tryCommand(type, operation, map);
    if (error === undefined || isAnswerOfOperation(type, operation, error)) return;
    throw new KernelAnswer(error);
  });
}

/** Returns true for an error that is an answer of the operation itself, so that the kernel has it. */
function isAnswerOfOperation(type: MapType, operation: MapOperation, error: string): boolean {
  if (operation === "delete" && error === type.absentDeletion) return true;
  return operation !== "freeze" && answersOfOperations.has(error);
}

function tryCommand(
  type: MapType,
  operation: Exclude<MapOperation, "freeze" | "mmap">,
  { fd }: Descriptor,
): string | undefined {
  const { keySize, valueSize } = type;
  const key = new Uint8Array(keySize);
  if (type.key === "descriptor") new DataView(key.buffer).setInt32(0, noDescriptor, true);
  const copies = type.isPerCpu === true ? possibleCpus().length : 1;
  // The next key goes where the value does.
  const value = new Uint8Array(Math.max(roundUp8(valueSize) * copies, roundUp8(keySize), 8));
  const view = new DataView(value.buffer);
  if (writtenAsDescriptor.has(type.value)) view.setInt32(0, noDescriptor, true);
  if (type.value === "interface") view.setInt32(0, loopback, true);
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
