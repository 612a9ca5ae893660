import { checkName, checkPinPath } from "../handle/kernel_object.ts";
import { checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { type MapFlag, mapFlags } from "../ffi/bpf_map.ts";
import { BPF_F_RDONLY, BPF_F_WRONLY } from "../uapi/bpf.ts";
import type { MapTypeName } from "./map_types.ts";

/** BTF of the C types of keys and values, as the kernel takes it. */
export interface SpecTypes {
  /** Raw BTF. */
  readonly bytes: Uint8Array;
  /** Id of the key type in the BTF; 0 for no key. */
  readonly keyTypeId: number;
  /** Id of the value type in the BTF; 0 for no value. */
  readonly valueTypeId: number;
  /** True if the map cannot be created without the BTF, for example because the kernel looks for spin locks in it. */
  readonly areRequired: boolean;
  /** The same types for older kernels that lack a BTF kind used in `bytes`; absent if `bytes` has no such kind. */
  readonly older?: Omit<SpecTypes, "areRequired" | "older">;
}

/** Description of a map before its creation: plain data, the same on every machine. */
export interface MapSpec {
  /** Map type: `"hash"`, `"lru_hash"`, ... */
  readonly type: MapTypeName;
  /** Size of a key in bytes; 0 for map types without keys. */
  readonly keySize: number;
  /** Size of a value in bytes, for one CPU in per-CPU maps; 0 for map types without values. */
  readonly valueSize: number;
  /** Largest number of entries: the kernel's `max_entries`. */
  readonly maxEntries: number;
  /** Flags of the creation: the kernel's bits (`BPF_F_*`). */
  readonly flags: number;
  /** Name of the map: at most 15 characters of `A-Z a-z 0-9 _ .`; may be empty. */
  readonly name: string;
  /** NUMA node to allocate the map on, or -1 for any. */
  readonly numaNode: number;
  /** `map_extra` of the kernel, whose meaning depends on the map type; 0 for most. */
  readonly mapExtra: number;
  /** BTF of keys and values, for map types that take it. */
  readonly types?: SpecTypes;
  /** Spec of the inner maps of a map of maps. */
  readonly inner?: MapSpec;
}

/** Returns the name of a map for messages: `hash map "counts"`, or `hash map 17` (its id) without a name. */
export function describeMap(map: { type: string; name: string; id?: number }): string {
  if (map.name !== "") return `${map.type} map "${map.name}"`;
  return map.id === undefined ? `${map.type} map` : `${map.type} map ${map.id}`;
}

/** Options of every map class. */
export interface CommonMapOptions {
  /**
   * Name that `bpftool map` shows: at most 15 characters of `A-Z a-z 0-9 _ .`.
   *
   * @default ""
   */
  readonly name?: string;
  /**
   * Names of flags, or the kernel's bits (`BPF_F_*`).
   *
   * @default none
   */
  readonly flags?: readonly MapFlag[] | number;
  /**
   * NUMA node to allocate the map on.
   *
   * @default the node of the creating thread
   */
  readonly numaNode?: number;
  /**
   * Path on a BPF file system. If nothing is pinned there, the new map is pinned. If a map is pinned there, it is opened
   * instead, and a TypeError is thrown if its map type, sizes, number of entries or flags differ from the options.
   */
  readonly pin?: string;
}

/** Flags that restrict a descriptor to reading or writing. They are not properties of the map. */
export const accessFlags: number = BPF_F_RDONLY | BPF_F_WRONLY;

/** Options of `open`, `fromId` and `fromFd`, in addition to the types of the map. */
export interface OpenMapOptions {
  /**
   * `["rdonly"]` or `["wronly"]` for a descriptor that may only read or only write. A user with only one of these rights can
   * open a map only in this way. `fromFd` requires that the given descriptor has exactly these rights.
   *
   * @default none: reading and writing; for `fromFd` the rights of the given descriptor
   *
   * Requires Linux 4.15.
   */
  readonly flags?: readonly Extract<MapFlag, "rdonly" | "wronly">[] | number;
}

/**
 * Checks the flags that a map is opened with and returns their bits.
 *
 * @throws {TypeError | RangeError} if they are not access rights.
 */
export function accessBits({ flags }: OpenMapOptions): number {
  const bits = flagBits(flags);
  if ((bits & ~accessFlags) === 0 && bits !== accessFlags) return bits;
  throw new TypeError(`flags: expected "rdonly", "wronly" or none, got ${String(flags)}`);
}

/** Names of {@link CommonMapOptions}, to find misspelt options. */
export const commonMapOptionNames = ["name", "flags", "numaNode", "pin"] as const;

/**
 * Checks the options of every map class and returns their part of a spec.
 *
 * @throws {TypeError | RangeError} if one has the wrong type or is out of range.
 */
export function commonSpec(
  options: CommonMapOptions,
): Pick<MapSpec, "name" | "numaNode" | "flags" | "mapExtra"> {
  const { name = "", numaNode = -1 } = options;
  checkCount("numaNode", numaNode, -1, 0x7fffffff);
  checkName(name);
  if (options.pin !== undefined) checkPinPath("pin", options.pin);
  return { name, numaNode, flags: flagBits(options.flags), mapExtra: 0 };
}

/**
 * Checks the option `maxEntries`.
 *
 * @throws {TypeError | RangeError} if it is not an integer from 1 to 2^32 - 1.
 */
export function checkMaxEntries(maxEntries: number): void {
  checkCount("maxEntries", maxEntries, 1, 0xffffffff);
}

function flagBits(flags: CommonMapOptions["flags"]): number {
  if (flags === undefined) return 0;
  if (typeof flags === "number") {
    checkCount("flags", flags, 0, 0xffffffff);
    return flags;
  }
  if (!Array.isArray(flags)) {
    throw new TypeError(`flags: expected an array of names or a number, got ${describe(flags)}`);
  }
  let bits = 0;
  for (const flag of flags as readonly MapFlag[]) {
    const bit = Object.hasOwn(mapFlags, flag) ? mapFlags[flag] : undefined;
    if (bit === undefined) {
      throw new TypeError(
        `flags: unknown flag ${describe(flag)}: ${suggest(String(flag), Object.keys(mapFlags))}`,
      );
    }
    bits |= bit;
  }
  return bits;
}
