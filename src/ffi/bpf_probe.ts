/** @module Calls that probe the kernel: its answer is the result, and not an error. */

import { BpfAttr, type BpfCommand } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./error.ts";
import { BPF_MAP_CREATE, BPF_MAP_DELETE_ELEM, BPF_MAP_FREEZE } from "../uapi/commands.ts";
import { bpfMapTypes } from "../uapi/enumerations.ts";
import { MAP_BATCH, MAP_CREATE, MAP_ELEM } from "../uapi/layout.ts";

/** The descriptor that a call made, or the name of the error that it ended with: `"EINVAL"`. */
export type Probed = Descriptor | string;

/** The fields of BPF_MAP_CREATE that a kind of map needs to be made at all. */
export interface ProbedMap {
  readonly type: keyof typeof bpfMapTypes;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags?: number;
  readonly innerMapFd?: number;
  readonly btf?: {
    readonly fd: number;
    readonly keyTypeId?: number;
    readonly valueTypeId?: number;
  };
  /** The kernel's own struct that the values are of. */
  readonly kernelTypeId?: number;
  readonly extra?: bigint;
}

/** Creates a map. */
export function probeMap(map: ProbedMap): Probed {
  using attr = new BpfAttr(
    map.extra === undefined ? MAP_CREATE.map_extra : MAP_CREATE.value_type_btf_obj_fd,
  );
  attr
    .u32(MAP_CREATE.map_type, bpfMapTypes[map.type])
    .u32(MAP_CREATE.key_size, map.keySize)
    .u32(MAP_CREATE.value_size, map.valueSize)
    .u32(MAP_CREATE.max_entries, map.maxEntries)
    .u32(MAP_CREATE.map_flags, map.flags ?? 0)
    .u32(MAP_CREATE.inner_map_fd, map.innerMapFd ?? 0)
    .u32(MAP_CREATE.btf_fd, map.btf?.fd ?? 0)
    .u32(MAP_CREATE.btf_key_type_id, map.btf?.keyTypeId ?? 0)
    .u32(MAP_CREATE.btf_value_type_id, map.btf?.valueTypeId ?? 0)
    .u32(MAP_CREATE.btf_vmlinux_value_type_id, map.kernelTypeId ?? 0);
  if (map.extra !== undefined) attr.u64(MAP_CREATE.map_extra, map.extra);
  const fd = attr.tryCall(BPF_MAP_CREATE);
  return fd >= 0 ? new Descriptor(fd, "probed map") : errnoName(lastErrno());
}

/**
 * Calls for one element.
 *
 * @param key none for a kind without keys
 * @param value what is stored, or room for what the kernel writes: a value, or the next key
 * @returns the name of the error, or `undefined` for none
 */
export function probeElement(
  command: BpfCommand,
  fd: number,
  key: Uint8Array | undefined,
  value: Uint8Array,
  flags = 0,
): string | undefined {
  using attr = new BpfAttr(MAP_ELEM.sizeof);
  attr.u32(MAP_ELEM.map_fd, fd).u64(MAP_ELEM.flags, flags);
  if (key !== undefined) attr.memory(MAP_ELEM.key, key);
  // The next key goes where the value does; a deletion is refused if there is anything.
  const room = command === BPF_MAP_DELETE_ELEM ? undefined : attr.memory(MAP_ELEM.value, value);
  if (attr.tryCall(command) < 0) return errnoName(lastErrno());
  if (room !== undefined) value.set(room.bytes.subarray(0, value.byteLength));
  return undefined;
}

/** Calls for a batch of one. @returns the name of the error, or `undefined` for none */
export function probeBatch(
  command: BpfCommand,
  fd: number,
  key: Uint8Array,
  value: Uint8Array,
): string | undefined {
  using attr = new BpfAttr(MAP_BATCH.sizeof);
  attr.u32(MAP_BATCH.map_fd, fd).u32(MAP_BATCH.count, 1);
  // The cursor takes as much as a key, and 4 bytes at least.
  attr.memory(MAP_BATCH.out_batch, Math.max(key.byteLength, 4));
  attr.memory(MAP_BATCH.keys, key);
  attr.memory(MAP_BATCH.values, value);
  return attr.tryCall(command) < 0 ? errnoName(lastErrno()) : undefined;
}

/** Freezes a map. @returns the name of the error, or `undefined` for none */
export function probeFreeze(fd: number): string | undefined {
  using attr = new BpfAttr(MAP_CREATE.key_size);
  attr.u32(0, fd);
  return attr.tryCall(BPF_MAP_FREEZE) < 0 ? errnoName(lastErrno()) : undefined;
}
