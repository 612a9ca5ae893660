/** @module Probes of map types and of operations on maps. A probe creates the smallest map of a type, and may use it. */

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
import { probeLoad } from "./probe_program.ts";
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

/**
 * Creates the smallest map of a type. Returns the name of the error if the kernel refuses the map.
 *
 * @throws {BpfError} if the types that the map needs cannot be loaded or read.
 */
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
      // Kernels before 6.9 parse their own BTF when they verify their first program, and reject its types until then.
      if (type.creationInput === "kernel type") probeLoad("socket_filter");
      // The kernel requires a BTF descriptor even if the type of the value is from its own BTF.
      return type.creationInput === "types"
        ? probeMap({ ...smallest, btf: { fd: btf.fd, keyTypeId, valueTypeId } })
        : probeMap({ ...smallest, ...structOpsShape(), btf: { fd: btf.fd } });
    }
    default:
      return probeMap(smallest);
  }
}

/** Returns the value type of congestion control algorithms, the only struct_ops of all kernels with this map type. */
function structOpsShape(): Pick<ProbedMap, "valueSize" | "kernelTypeId"> {
  const btf = Btf.kernel();
  const id = btf.find("struct", "bpf_struct_ops_tcp_congestion_ops");
  return id === undefined ? { valueSize: 4 } : { valueSize: btf.sizeOf(id), kernelTypeId: id };
}

/** Makes the feature of a map type. Its probe creates the smallest map of the type. */
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

/** Kinds of values that are written as a file descriptor. */
const writtenAsDescriptor: ReadonlySet<HeldObject | undefined> = new Set([
  "program",
  "map",
  "perf event",
  "cgroup",
  "socket",
  "XDP socket",
]);

/** Index of the loopback interface in every network namespace. */
const loopback = 1;

/** A valid file descriptor number that no open file has: the kernel rejects invalid numbers before it checks the operation. */
const noDescriptor = 0x7fff_ffff;

/**
 * Errors that show that the kernel has an operation: the map is empty, no file has the descriptor, or the value size is not
 * the 8 bytes in which look-ups in maps of sockets return cookies.
 */
const answersOfOperations: ReadonlySet<string> = new Set(["ENOENT", "EBADF", "ENOSPC"]);

/** Probes an operation by running it on the smallest map of a type. */
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

/** Returns true for an error that shows that the kernel has the operation. */
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
  // get_next_key writes the next key to the buffer of the value.
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

/**
 * Maps the first page of a map.
 *
 * @throws {BpfError} if the kernel refuses.
 */
function tryMapping({ fd, what }: Descriptor): void {
  const page = { fd, offset: 0, length: pageSize(), writable: false, what };
  MappedMemory.ofFile(page)[Symbol.dispose]();
}
