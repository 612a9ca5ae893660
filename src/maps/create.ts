import { explainer } from "../ffi/explanation.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import {
  createKernelMap,
  describeMapFlags,
  type MapBtf,
  type MapCreation,
} from "../ffi/bpf_map.ts";
import {
  describeAll,
  fdNumber,
  objectInfo,
  pinObject,
  readFdInfo,
  unpinObject,
} from "../ffi/bpf_object.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { roundUp8 } from "../ffi/mapped_memory.ts";
import { describeOrigin, openObject, openPin, type Origin } from "../handle/kernel_object.ts";
import { accessFlags, describeMap, type MapSpec } from "./map_spec.ts";
import { type MapType, mapTypeName, type MapTypeName } from "./map_types.ts";
import { BPF_F_NO_COMMON_LRU, BPF_F_NUMA_NODE, BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { MAP_INFO } from "../uapi/layout.ts";

/**
 * Creates the map that a spec describes; the descriptor is the caller's.
 *
 * @param row of the map type
 * @param innerRow of the maps inside
 * @throws {BpfError} when the kernel refuses it
 * @throws {Error} for inode storage without its security module
 */
export function createFromSpec(row: MapType, spec: MapSpec, innerRow?: MapType): number {
  row.requirement?.();
  const { inner } = spec;
  if (inner === undefined || innerRow === undefined) return createWithTypes(row, spec, undefined);
  // The kernel takes from it what the maps inside are like, and does not keep it.
  using template = new Descriptor(
    createFromSpec(innerRow, inner),
    `template of the ${describeMap(spec)}`,
  );
  return createWithTypes(row, spec, template.fd);
}

/**
 * The types of keys and values serve `bpftool map dump` alone for most map types: a kernel that does not take them
 * (before 4.18) makes the map without.
 */
function createWithTypes(row: MapType, spec: MapSpec, innerMapFd: number | undefined): number {
  const what = describeMap(spec);
  const { types } = spec;
  if (types === undefined) return createKernelMap(creationAttributes(row, spec, innerMapFd), what);
  const { bytes, keyTypeId, valueTypeId, areRequired, older } = types;
  try {
    using btf = loadBtf(bytes, `types of the ${what}`);
    const described = { fd: btf.fd, keyTypeId, valueTypeId };
    return createKernelMap(creationAttributes(row, spec, innerMapFd, described), what);
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    if (older !== undefined) {
      return createWithTypes(row, { ...spec, types: { ...older, areRequired } }, innerMapFd);
    }
    if (areRequired) throw error;
    return createKernelMap(creationAttributes(row, spec, innerMapFd), what);
  }
}

function creationAttributes(
  row: MapType,
  spec: MapSpec,
  innerMapFd: number | undefined,
  btf?: MapBtf,
): MapCreation {
  return {
    type: row.number,
    keySize: spec.keySize,
    valueSize: spec.valueSize,
    maxEntries: spec.maxEntries,
    flags: spec.numaNode === -1 ? spec.flags : spec.flags | BPF_F_NUMA_NODE,
    numaNode: Math.max(spec.numaNode, 0),
    name: spec.name,
    extra: spec.mapExtra,
    innerMapFd,
    btf,
    isPerCpu: row.isPerCpu ?? false,
    needs: row.needs,
    explain: () => explainAbsence(row),
  };
}

/** Explains why the kernel has no maps of a type: by a probe where probes are loaded, else by its version and build. */
function explainAbsence(row: MapType): string | undefined {
  const probes = explainer();
  if (probes !== undefined) return probes.mapType(row.type);
  const reason = row.absence?.(row);
  return reason && `This kernel has no maps of the type ${row.type}: ${reason}`;
}

/** The properties of a map that stay the same for its whole life. */
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

/** The properties of a map, and its state at the time of the call. */
export interface MapInfo extends MapProperties {
  /** Bytes of memory that it takes now (kernel 6.4), or can take at most (before); `undefined` where /proc is not mounted. */
  readonly memory: number | undefined;
  /** True where user space cannot change it any more: {@link BpfMap.freeze}. `undefined` before kernel 5.2 and without /proc. */
  readonly frozen: boolean | undefined;
}

/** An open map, before an object of its class has it: the descriptor, owned, and what it was made or opened with. */
export class MapHandle<Types extends object = object> {
  /** The row of its map type. */
  readonly row: MapType;
  readonly descriptor: Descriptor;
  readonly info: MapProperties;
  /** The types that its keys, values or events are written and read with. */
  readonly types: Types;
  /** The path that it was opened or pinned at. */
  readonly pinnedAt: string | undefined;
  /** True where it was created, and pinned there, just now. */
  readonly isNewlyPinned: boolean;

  constructor(
    row: MapType,
    descriptor: Descriptor,
    info: MapProperties,
    types: Types,
    pinnedAt?: string,
    isNewlyPinned = false,
  ) {
    this.row = row;
    this.descriptor = descriptor;
    this.info = info;
    this.types = types;
    this.pinnedAt = pinnedAt;
    this.isNewlyPinned = isNewlyPinned;
  }

  /** Opens the map a second time, with a descriptor of its own. @throws {DisposedError} after disposal */
  duplicate(types = this.types): MapHandle<Types> {
    const { fd, what } = this.descriptor;
    return new MapHandle(this.row, new Descriptor(duplicate(fd, what), what), this.info, types);
  }

  /** Closes the map, whose construction fails after all: a pin that was made for it goes too. */
  abandon(): void {
    using descriptor = this.descriptor;
    try {
      if (this.isNewlyPinned) unpinObject(descriptor, this.pinnedAt as string, true);
    } catch {
      // Another process has put something else there. The error to report is the one that led here.
    }
  }
}

/** Reads the properties of a map from the kernel (kernel 4.13). */
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
    mapExtra: info.u64Number(MAP_INFO.map_extra),
    kernelValueTypeId: info.u32(MAP_INFO.btf_vmlinux_value_type_id),
  };
}

/** Reads the properties and the state of a map from the kernel (kernel 4.13). */
export function readMapInfo(fd: number, what: string): MapInfo {
  const properties = readMapProperties(fd, what);
  const fdInfo = readFdInfo(fd);
  const frozen = fdNumber(fdInfo, "frozen");
  return {
    ...properties,
    memory: fdNumber(fdInfo, "memlock"),
    frozen: frozen === undefined ? undefined : frozen !== 0,
  };
}

/** Bytes that the kernel copies for the value of a key, whatever room it is given. @throws {Error} without /sys */
export function copiedValueSize(row: Pick<MapType, "isPerCpu">, valueSize: number): number {
  return row.isPerCpu === true ? roundUp8(valueSize) * possibleCpus().length : valueSize;
}

/**
 * Creates a map; with a pin, the map pinned there is opened if there is one, and else the new one is pinned.
 *
 * @param types see {@link MapHandle.types}
 * @param innerRow the row of the maps inside
 */
export function createMapHandle<Types extends object>(
  row: MapType,
  spec: MapSpec,
  types: Types,
  pin: string | undefined,
  innerRow?: MapType,
): MapHandle<Types> {
  const what = describeMap(spec);
  const access = spec.flags & accessFlags;
  const pinned = pin === undefined ? undefined : openPin("map", pin, what, access);
  if (pinned !== undefined) return adopt(row, pinned, spec, types, `pinned at ${pin}`, pin);
  const created = new Descriptor(createFromSpec(row, spec, innerRow), `${what} just created`);
  const { descriptor, info } = adopt(row, created, {}, types, "just created");
  if (pin === undefined) return new MapHandle(row, descriptor, info, types);
  try {
    pinObject(descriptor.fd, pin, what);
  } catch (error) {
    descriptor[Symbol.dispose]();
    // Another process pinned its own meanwhile: that one it is, then.
    if (error instanceof BpfError && error.code === "EEXIST") {
      return openMapHandle(row, { path: pin }, spec, types, access);
    }
    throw error;
  }
  return new MapHandle(row, descriptor, info, types, pin, true);
}

/**
 * Opens a map that exists already.
 *
 * @param row of the type that it must have
 * @param expected the part of a spec that it must agree with
 * @param access the rights of the descriptor: BPF_F_RDONLY, BPF_F_WRONLY or 0 for both
 * @throws {Error} where there is none, or it does not fit
 */
export function openMapHandle<Types extends object>(
  row: MapType,
  origin: Origin,
  expected: Partial<MapSpec>,
  types: Types,
  access = 0,
): MapHandle<Types> {
  const descriptor = openObject("map", origin, `${row.type} map`, access);
  const pinnedAt = "path" in origin ? origin.path : undefined;
  return adopt(row, descriptor, expected, types, describeOrigin(origin), pinnedAt);
}

function adopt<Types extends object>(
  row: MapType,
  descriptor: Descriptor,
  expected: Partial<MapSpec>,
  types: Types,
  where: string,
  pinnedAt?: string,
): MapHandle<Types> {
  try {
    const info = readMapProperties(descriptor.fd, descriptor.what);
    descriptor.what = describeMap(info);
    checkCompatible(row, { ...expected, type: row.type }, info, where);
    row.requirement?.();
    // Where that cannot be known, nothing must be made or pinned.
    copiedValueSize(row, info.valueSize);
    return new MapHandle(row, descriptor, info, types, pinnedAt);
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** Flags that belong to the moment of creation: the kernel does not keep them. */
const unstoredFlags = BPF_F_NUMA_NODE | accessFlags;

const comparedAttributes = [
  "type",
  "keySize",
  "valueSize",
  "maxEntries",
  "flags",
  "mapExtra",
] as const;

function comparableValue(
  { kernelFlags = 0 }: MapType,
  map: Partial<MapSpec>,
  name: (typeof comparedAttributes)[number],
) {
  const value = map[name];
  if (name === "maxEntries" && typeof value === "number") return roundedEntries(map, value);
  if (name !== "flags" || typeof value !== "number") return value;
  return value & ~(unstoredFlags | kernelFlags);
}

/** Rounds up as the kernel does: with a list for each CPU, all lists get the same length. */
function roundedEntries({ flags = 0 }: Partial<MapSpec>, maxEntries: number): number {
  if ((flags & BPF_F_NO_COMMON_LRU) === 0) return maxEntries;
  const lists = possibleCpus().length;
  return Math.ceil(maxEntries / lists) * lists;
}

function formatAttribute(
  name: (typeof comparedAttributes)[number],
  map: Partial<MapSpec>,
): unknown {
  return name === "flags" ? describeMapFlags(map.flags ?? 0) : map[name];
}

/** @throws {TypeError} that lists each attribute in which a map differs from what is expected */
function checkCompatible(
  row: MapType,
  expected: Partial<MapSpec>,
  info: MapProperties,
  where: string,
): void {
  const differences = comparedAttributes
    .filter((name) => expected[name] !== undefined)
    .filter((name) => comparableValue(row, expected, name) !== comparableValue(row, info, name))
    .map((name) => {
      const option = name === "maxEntries" ? (row.countOption ?? name) : name;
      return `${option} is ${formatAttribute(name, info)}, not ${formatAttribute(name, expected)}`;
    });
  if (differences.length === 0) return;
  throw new TypeError(`the map ${where} does not fit: ${differences.join("; ")}`);
}

/**
 * Lists all maps on the system, in the order of their ids. The list is lazy: each map is asked for when its turn comes.
 * Maps that are created or removed meanwhile may be in it or not.
 *
 * Kernel 4.13, CAP_SYS_ADMIN.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
 *
 * @example
 * ```ts
 * import { HashMap, listMaps, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8, name: "mine" });
 * for (const { id, type, name, maxEntries } of listMaps()) console.log(id, type, name, maxEntries);
 * console.log([...listMaps()].some(({ id }) => id === map.id)); // true
 * ```
 */
export function listMaps(): Generator<MapInfo, undefined, undefined> {
  return describeAll("map", readMapInfo);
}
