import { roundUp8 } from "../ffi/align.ts";
import { objectKind, openById, openPinned, pinObject } from "../ffi/bpf_object.ts";
import { perCpuMapTypes, possibleCpus } from "../ffi/cpus.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { fdNumber, readFdInfo } from "../ffi/fdinfo.ts";
import { objectInfo } from "../ffi/object_info.ts";
import { checkCount } from "../types/argument.ts";
import { keyword } from "../types/keyword.ts";
import {
  BPF_F_NO_COMMON_LRU,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY,
  BPF_OBJ_NAME_LEN,
} from "../uapi/bpf.ts";
import { MAP_INFO } from "../uapi/layout.ts";
import { createFromSpec } from "./create.ts";
import {
  checkPinPath,
  describeMap,
  type MapSpec,
  mapTypeName,
  type MapTypeName,
  mapTypeNumber,
} from "./spec.ts";

/** What of a map stays the same for all its life. */
export interface MapProperties {
  readonly id: number;
  readonly type: MapTypeName;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes of one value as programs see it. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** The kernel's bits (`BPF_F_*`). */
  readonly flags: number;
  /** Empty where the creator gave none. */
  readonly name: string;
  /** The id of the BTF that describes key and value, or 0. */
  readonly btfId: number;
  /** The key's type in that BTF, or 0. */
  readonly btfKeyTypeId: number;
  /** The value's type in that BTF, or 0. */
  readonly btfValueTypeId: number;
  /** The kernel's `map_extra`, whose meaning depends on the kind (kernel 5.16); 0 for most. */
  readonly mapExtra: number;
  /** The value's type in the kernel's own BTF (kernel 5.6), for structs of functions; 0 for other kinds. */
  readonly kernelValueTypeId: number;
}

/** What the kernel says of a map. */
export interface MapInfo extends MapProperties {
  /**
   * Bytes of memory: what it takes now (kernel 6.4), or what it may take at the most; `undefined` where /proc is not mounted.
   */
  readonly memory: number | undefined;
  /** Whether user space may not change it any more: {@link BpfMap.freeze}. `undefined` before kernel 5.2 and without /proc. */
  readonly frozen: boolean | undefined;
}

/** An open map: the descriptor, owned, and what the kernel says of it. */
export interface MapHandle {
  readonly descriptor: Descriptor;
  readonly info: MapProperties;
  /** The path that it was opened or pinned at. */
  readonly pinnedAt?: string | undefined;
  /** Whether it was created, and pinned there, just now. */
  readonly isNewlyPinned?: boolean;
}

/** What of a map must be the same for a class to work on it: all of a spec, or the part that is known. */
export type ExpectedMap = Pick<MapSpec, "type"> & Partial<MapSpec>;

/** Asks the kernel what a map is (kernel 4.13). */
export function readMapProperties(fd: number, what: string): MapProperties {
  using info = objectInfo(fd, MAP_INFO.sizeof, what);
  return {
    id: info.u32(MAP_INFO.id),
    type: mapTypeName(info.u32(MAP_INFO.type)),
    keySize: info.u32(MAP_INFO.key_size),
    valueSize: info.u32(MAP_INFO.value_size),
    maxEntries: info.u32(MAP_INFO.max_entries),
    flags: info.u32(MAP_INFO.map_flags),
    name: info.name(MAP_INFO.name, BPF_OBJ_NAME_LEN),
    btfId: info.u32(MAP_INFO.btf_id),
    btfKeyTypeId: info.u32(MAP_INFO.btf_key_type_id),
    btfValueTypeId: info.u32(MAP_INFO.btf_value_type_id),
    mapExtra: info.u64n(MAP_INFO.map_extra),
    kernelValueTypeId: info.u32(MAP_INFO.btf_vmlinux_value_type_id),
  };
}

/** Asks the kernel about a map, and how it is now (kernel 4.13). */
export function readMapInfo(fd: number, what: string): MapInfo {
  const properties = readMapProperties(fd, what);
  const more = readFdInfo(fd);
  const frozen = fdNumber(more, "frozen");
  return {
    ...properties,
    memory: fdNumber(more, "memlock"),
    frozen: frozen === undefined ? undefined : frozen !== 0,
  };
}

const perCpuKinds: ReadonlySet<MapTypeName> = new Set(perCpuMapTypes.map(keyword));

/** Whether a map has a value for each CPU. */
export function isPerCpu({ type }: Pick<MapProperties, "type">): boolean {
  return perCpuKinds.has(type);
}

/** Bytes that the kernel copies for the value of a key, whatever room it is given. @throws {Error} without /sys */
export function copiedValueSize({
  type,
  valueSize,
}: Pick<MapProperties, "type" | "valueSize">): number {
  return perCpuKinds.has(type) ? roundUp8(valueSize) * possibleCpus().length : valueSize;
}

/** Creates a map; with a pin, the map pinned there is opened if there is one, and else the new one is pinned. */
export function createMapHandle(spec: MapSpec, pin: string | undefined): MapHandle {
  const what = describeMap(spec);
  // Before any other call, so that an unknown kind of map is refused as an argument.
  mapTypeNumber(spec.type);
  const pinned = pin === undefined ? undefined : openPinned(pin, what, spec.flags & accessFlags);
  if (pinned !== undefined) return adopt(pinned, spec, `pinned at ${pin}`, pin);
  const handle = adopt(createFromSpec(spec), { type: spec.type }, "just created", pin);
  if (pin !== undefined) {
    try {
      pinObject(handle.descriptor.fd, pin, what);
    } catch (error) {
      handle.descriptor[Symbol.dispose]();
      // Another process pinned its own meanwhile: that one it is, then.
      if (error instanceof BpfError && error.code === "EEXIST") return openMapHandle(pin, spec);
      throw error;
    }
  }
  return { ...handle, isNewlyPinned: pin !== undefined };
}

/** Opens the map pinned at a path. @throws {Error} where nothing is pinned or it does not fit */
export function openMapHandle(path: string, expected: ExpectedMap): MapHandle {
  checkPinPath("path", path);
  const access = (expected.flags ?? 0) & accessFlags;
  const fd = openPinned(path, `${expected.type} map`, access);
  if (fd === undefined) throw new Error(`nothing is pinned at ${path}: no such file`);
  return adopt(fd, expected, `pinned at ${path}`, path);
}

/** Opens a map by its id. */
export function mapHandleById(id: number, expected: ExpectedMap): MapHandle {
  checkCount("id", id, 1, 0xffffffff);
  return adopt(openById("map", id), expected, `with id ${id}`);
}

/** Opens a map through somebody else's descriptor, which stays theirs: this is a duplicate. */
export function mapHandleFromFd(fd: number, expected: ExpectedMap): MapHandle {
  checkCount("fd", fd, 0, 0x7fffffff);
  return adopt(duplicate(fd, `${expected.type} map`), expected, `of descriptor ${fd}`);
}

function adopt(fd: number, expected: ExpectedMap, where: string, pinnedAt?: string): MapHandle {
  const descriptor = new Descriptor(fd, `map ${where}`);
  try {
    const { fd } = descriptor;
    const kind = objectKind(fd);
    // What is no BPF object at all the kernel refuses by itself.
    if (kind === "prog" || kind === "link" || kind === "btf") {
      throw new TypeError(`the map ${where} does not fit: it is no map but a BPF ${kind}`);
    }
    const info = readMapProperties(fd, descriptor.what);
    descriptor.what = describeMap(info);
    checkCompatible(expected, info, where);
    // Where that cannot be known, nothing must be made or pinned.
    copiedValueSize(info);
    return { descriptor, info, pinnedAt };
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** What a descriptor may do with its map: a property of the descriptor alone. */
const accessFlags = BPF_F_RDONLY | BPF_F_WRONLY;

/** Flags that belong to the moment of creation: the kernel does not keep them. */
const passingFlags = BPF_F_NUMA_NODE | accessFlags;

/** Flags that the kernel gives a kind by itself, and refuses at its creation. */
const ownFlags: Partial<Record<MapTypeName, number>> = {
  devmap: BPF_F_RDONLY_PROG,
  "devmap-hash": BPF_F_RDONLY_PROG,
};

const comparedAttributes = [
  "type",
  "keySize",
  "valueSize",
  "maxEntries",
  "flags",
  "mapExtra",
] as const;

function comparable(map: Partial<MapSpec>, name: (typeof comparedAttributes)[number]) {
  const value = map[name];
  if (name === "maxEntries" && typeof value === "number") return roundedEntries(map, value);
  if (name !== "flags" || typeof value !== "number") return value;
  const own = map.type === undefined ? undefined : ownFlags[map.type];
  return value & ~(passingFlags | (own ?? 0));
}

/** With a list for each CPU, the kernel gives all lists the same length: as many entries more as that takes. */
function roundedEntries({ flags = 0 }: Partial<MapSpec>, maxEntries: number): number {
  if ((flags & BPF_F_NO_COMMON_LRU) === 0) return maxEntries;
  const lists = possibleCpus().length;
  return Math.ceil(maxEntries / lists) * lists;
}

/** @throws {TypeError} that lists each attribute in which a map differs from what is expected */
function checkCompatible(expected: ExpectedMap, info: MapProperties, where: string): void {
  const differences = comparedAttributes
    .filter((name) => expected[name] !== undefined)
    .filter((name) => comparable(expected, name) !== comparable(info, name))
    .map((name) => `${name} is ${info[name]}, not ${expected[name]}`);
  if (differences.length === 0) return;
  throw new TypeError(`the map ${where} does not fit: ${differences.join("; ")}`);
}
