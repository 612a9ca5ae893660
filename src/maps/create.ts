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
 * Creates the map that a spec describes. Returns its descriptor, which the caller owns.
 *
 * @param row row of the map type
 * @param innerRow row of the type of the inner maps
 * @throws {BpfError} if the kernel rejects the creation.
 * @throws {Error} for inode storage if its security module is not active.
 */
export function createFromSpec(row: MapType, spec: MapSpec, innerRow?: MapType): number {
  row.requireSupport?.();
  const { inner } = spec;
  if (inner === undefined || innerRow === undefined) return createWithTypes(row, spec, undefined);
  // The kernel copies the attributes of inner maps from the template, and does not need the template after that.
  using template = new Descriptor(
    createFromSpec(innerRow, inner),
    `template of the ${describeMap(spec)}`,
  );
  return createWithTypes(row, spec, template.fd);
}

/**
 * Creates a map with BTF for its keys and values. If the kernel rejects the BTF (before 4.18), the map is created without
 * BTF unless it requires BTF. Most map types use BTF only for `bpftool map dump`.
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

/** Explains why the kernel has no maps of a type: by a probe if `features` is loaded, else by version and build options. */
function explainAbsence(row: MapType): string | undefined {
  const probes = explainer();
  if (probes !== undefined) return probes.mapType(row.type);
  const reason = row.absence?.(row);
  return reason && `This kernel does not support the map type ${row.type}: ${reason}`;
}

/** Properties of a map that never change. */
export interface MapProperties {
  /** Id of the map in the kernel. */
  readonly id: number;
  /** Map type: `"hash"`, `"lru_hash"`, ... */
  readonly type: MapTypeName;
  /** Size of a key in bytes; 0 for map types without keys. */
  readonly keySize: number;
  /** Size of a value in bytes, for one CPU in per-CPU maps; 0 for map types without values. */
  readonly valueSize: number;
  /** Largest number of entries, or the size of a ring buffer in bytes. */
  readonly maxEntries: number;
  /** Flags that the map was created with: the kernel's bits (`BPF_F_*`). */
  readonly flags: number;
  /** Name that the map was created with, or `""`. */
  readonly name: string;
  /** Id of the BTF object that describes keys and values, or 0. */
  readonly btfId: number;
  /** Id of the key type in that BTF, or 0. */
  readonly btfKeyTypeId: number;
  /** Id of the value type in that BTF, or 0. */
  readonly btfValueTypeId: number;
  /** `map_extra` of the kernel (Linux 5.16), whose meaning depends on the map type; 0 for most. */
  readonly mapExtra: number;
  /** Id of the value type in the kernel's BTF (Linux 5.6), for `struct_ops` maps; 0 for other map types. */
  readonly kernelValueTypeId: number;
}

/** Properties of a map, and its state at the time of the call. */
export interface MapInfo extends MapProperties {
  /**
   * Bytes of memory that the map uses now (since Linux 6.4), or can use at most (before). `undefined` if /proc is not
   * mounted.
   */
  readonly memory: number | undefined;
  /**
   * True if user space can no longer change the map: see {@link BpfMap.freeze}. `undefined` before Linux 5.2, and if /proc
   * is not mounted.
   */
  readonly frozen: boolean | undefined;
}

/**
 * Open map before a map class wraps it: the owned descriptor, the map's properties, and the types that it was created or
 * opened with.
 */
export class MapHandle<Types extends object = object> {
  /** Row of the map type. */
  readonly row: MapType;
  readonly descriptor: Descriptor;
  readonly info: MapProperties;
  /** Types of the keys, values or events. */
  readonly types: Types;
  /** Path that the map was opened or pinned at. */
  readonly pinnedAt: string | undefined;
  /** True if the map was created and pinned by this process just now. */
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

  /**
   * Opens the map a second time, with a duplicate of the descriptor.
   *
   * @throws {DisposedError} after disposal.
   */
  duplicate(types = this.types): MapHandle<Types> {
    const { fd, what } = this.descriptor;
    return new MapHandle(this.row, new Descriptor(duplicate(fd, what), what), this.info, types);
  }

  /** Closes the map after the construction of its object failed. Removes the pin if it was made for that object. */
  abandon(): void {
    using descriptor = this.descriptor;
    try {
      if (this.isNewlyPinned) unpinObject(descriptor, this.pinnedAt as string, true);
    } catch {
      // Another process has replaced the pin. This error is ignored, so that the caller reports the error of the
      // construction.
    }
  }
}

/**
 * Reads the properties of a map from the kernel.
 *
 * @throws {BpfError} if the kernel rejects the call.
 *
 * Requires Linux 4.13.
 */
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

/**
 * Reads the properties and the state of a map from the kernel.
 *
 * @throws {BpfError} if the kernel rejects the call.
 *
 * Requires Linux 4.13.
 */
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

/**
 * Returns the number of bytes that the kernel copies for the value of a key, regardless of the size of the buffer.
 *
 * @throws {Error} for per-CPU maps if /sys is not mounted.
 */
export function copiedValueSize(row: Pick<MapType, "isPerCpu">, valueSize: number): number {
  return row.isPerCpu === true ? roundUp8(valueSize) * possibleCpus().length : valueSize;
}

/**
 * Creates a map. If `pin` is present, opens the map that is pinned at that path instead, or pins the new map there if there
 * is none.
 *
 * @param types see {@link MapHandle.types}
 * @param innerRow row of the type of the inner maps
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
    // Another process has pinned an object at the path meanwhile. Opens that object if it is a map that matches.
    if (error instanceof BpfError && error.code === "EEXIST") {
      return openMapHandle(row, { path: pin }, spec, types, access);
    }
    throw error;
  }
  return new MapHandle(row, descriptor, info, types, pin, true);
}

/**
 * Opens an existing map.
 *
 * @param row row of the map type that it must have
 * @param expected part of a spec that the map must match
 * @param access rights of the descriptor: BPF_F_RDONLY, BPF_F_WRONLY, or 0 for both
 * @throws {TypeError} if the map does not match.
 * @throws {BpfError | Error} if the map cannot be opened.
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

/**
 * Takes ownership of the descriptor of a map, and checks that the map matches the row and `expected`. Closes the descriptor
 * otherwise.
 */
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
    row.requireSupport?.();
    // Throws if the number of CPUs is unknown. This check must come before the map is pinned or wrapped.
    copiedValueSize(row, info.valueSize);
    return new MapHandle(row, descriptor, info, types, pinnedAt);
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** Flags that apply to the creation or the descriptor only: the kernel does not store them in the map. */
const unstoredFlags = BPF_F_NUMA_NODE | accessFlags;

const comparedAttributes = [
  "type",
  "keySize",
  "valueSize",
  "maxEntries",
  "flags",
  "mapExtra",
] as const;

/** Returns an attribute of a map in the form in which the kernel reports it after creation. */
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

/** Rounds up `maxEntries` as the kernel does with one LRU list for each CPU: all lists have the same length. */
function roundedEntries({ flags = 0 }: Partial<MapSpec>, maxEntries: number): number {
  if ((flags & BPF_F_NO_COMMON_LRU) === 0) return maxEntries;
  const lists = possibleCpus().length;
  return Math.ceil(maxEntries / lists) * lists;
}

/** Returns an attribute in the form that messages print. */
function formatAttribute(
  name: (typeof comparedAttributes)[number],
  map: Partial<MapSpec>,
): unknown {
  return name === "flags" ? describeMapFlags(map.flags ?? 0) : map[name];
}

/**
 * Checks that a map matches what is expected.
 *
 * @throws {TypeError} that lists each attribute in which the map differs.
 */
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
 * Iterates over the properties of all maps in the kernel, in the order of their ids. Each map is read when the loop reaches
 * it: maps that are created or removed meanwhile may be returned or not.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { HashMap, listMaps, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8, name: "mine" });
 * for (const { id, type, name, maxEntries } of listMaps()) console.log(id, type, name, maxEntries);
 * console.log([...listMaps()].some(({ id }) => id === map.id)); // true
 * ```
 *
 * Requires Linux 4.13 and CAP_SYS_ADMIN.
 */
export function listMaps(): Generator<MapInfo, undefined, undefined> {
  return describeAll("map", readMapInfo);
}
