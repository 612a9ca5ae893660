/** @module Calls that probe the kernel. They return errors instead of throwing them. */

import { BpfAttr, type BpfCommand } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./error.ts";
import { BPF_MAP_CREATE, BPF_MAP_DELETE_ELEM, BPF_MAP_FREEZE } from "../uapi/commands.ts";
import { bpfMapTypes } from "../uapi/enumerations.ts";
import { MAP_BATCH, MAP_CREATE, MAP_ELEM } from "../uapi/layout.ts";

/** The result of a probe: the new descriptor, or the errno name of the failure, such as `"EINVAL"`. */
export type Probed = Descriptor | string;

/** The fields of BPF_MAP_CREATE that probes set. */
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
  /** The id, in the kernel's BTF, of the struct that is the value type of a struct_ops map. */
  readonly kernelTypeId?: number;
  readonly extra?: bigint;
}

/** Tries to create a map. */
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
 * Tries a command for one entry of a map.
 *
 * @param key `undefined` for a map without keys
 * @param value the value to store, or the buffer for the value or the next key that the kernel returns
 * @returns the errno name, or `undefined` on success
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
  // next_key and value share a field of the union, which must be zero in a deletion.
  const copy = command === BPF_MAP_DELETE_ELEM ? undefined : attr.memory(MAP_ELEM.value, value);
  if (attr.tryCall(command) < 0) return errnoName(lastErrno());
  if (copy !== undefined) value.set(copy.bytes.subarray(0, value.byteLength));
  return undefined;
}

/** Tries a batch command with one entry. @returns the errno name, or `undefined` on success */
export function probeBatch(
  command: BpfCommand,
  fd: number,
  key: Uint8Array,
  value: Uint8Array,
): string | undefined {
  using attr = new BpfAttr(MAP_BATCH.sizeof);
  attr.u32(MAP_BATCH.map_fd, fd).u32(MAP_BATCH.count, 1);
  // The cursor has the size of a key, and at least 4 bytes.
  attr.memory(MAP_BATCH.out_batch, Math.max(key.byteLength, 4));
  attr.memory(MAP_BATCH.keys, key);
  attr.memory(MAP_BATCH.values, value);
  return attr.tryCall(command) < 0 ? errnoName(lastErrno()) : undefined;
}

/** Tries to freeze a map. @returns the errno name, or `undefined` on success */
export function probeFreeze(fd: number): string | undefined {
  using attr = new BpfAttr(MAP_CREATE.key_size);
  attr.u32(0, fd);
  return attr.tryCall(BPF_MAP_FREEZE) < 0 ? errnoName(lastErrno()) : undefined;
}
