import { checkName, checkPinPath } from "../handle/kernel_object.ts";
import { checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { type MapFlag, mapFlags } from "../ffi/bpf_map.ts";
import { BPF_F_RDONLY, BPF_F_WRONLY } from "../uapi/bpf.ts";
import type { MapTypeName } from "./map_types.ts";

/** The C types of keys and values, as the kernel takes them. */
export interface SpecTypes {
  /** BTF in its raw form. */
  readonly bytes: Uint8Array;
  /** The id of the key's type in it; 0 for no key. */
  readonly keyTypeId: number;
  /** The id of the value's type in it; 0 for no value. */
  readonly valueTypeId: number;
  /** True where the map cannot be created without them: the kernel looks for spin locks in them, say. */
  readonly areRequired: boolean;
  /** The same types for kernels that lack a kind of BTF in them, if there is one. */
  readonly older?: Omit<SpecTypes, "areRequired" | "older">;
}

/** A map before it is created: plain data, the same on every machine. */
export interface MapSpec {
  readonly type: MapTypeName;
  /** Bytes; 0 for kinds without keys. */
  readonly keySize: number;
  /** Bytes of one value as the kernel's programs see it; 0 for kinds without values. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** The kernel's bits. */
  readonly flags: number;
  /** At most 15 characters of `A-Z a-z 0-9 _ .`; may be empty. */
  readonly name: string;
  /** The NUMA node to allocate on, or -1 for any. */
  readonly numaNode: number;
  /** The kernel's `map_extra`, whose meaning depends on the kind; 0 for most. */
  readonly mapExtra: number;
  /** The types that the kernel is told, for map types that take them. */
  readonly types?: SpecTypes;
  /** The spec of each map inside this one. */
  readonly inner?: MapSpec;
}

/** A map for errors: `hash map "counts"`, or `hash map 17` by id for one without a name. */
export function describeMap(map: { type: string; name: string; id?: number }): string {
  if (map.name !== "") return `${map.type} map "${map.name}"`;
  return map.id === undefined ? `${map.type} map` : `${map.type} map ${map.id}`;
}

/** Options that every kind of map takes. */
export interface CommonMapOptions {
  /** Shown by `bpftool map`: at most 15 characters of `A-Z a-z 0-9 _ .`. @default "" */
  readonly name?: string;
  /** Names of flags, or the kernel's bits. @default none */
  readonly flags?: readonly MapFlag[] | number;
  /** The NUMA node to allocate the map on. @default wherever the creating thread runs */
  readonly numaNode?: number;
  /** A path on a BPF file system: the map pinned there is used if it fits, or else this one is pinned there. */
  readonly pin?: string;
}

/** The rights of a descriptor to its map: not a property of the map. */
export const accessFlags: number = BPF_F_RDONLY | BPF_F_WRONLY;

/** Options of opening an existing map, in addition to its types. */
export interface OpenMapOptions {
  /**
   * `["rdonly"]` or `["wronly"]` for a descriptor that may only read or only write, also where this user may do only that (kernel
   * 4.15). A given descriptor must have exactly these rights.
   *
   * @default none: reading and writing, or the rights of a given descriptor
   */
  readonly flags?: readonly Extract<MapFlag, "rdonly" | "wronly">[] | number;
}

/** Checks the flags with which a map is opened. @throws {TypeError | RangeError} */
export function accessBits({ flags }: OpenMapOptions): number {
  const bits = flagBits(flags);
  if ((bits & ~accessFlags) === 0 && bits !== accessFlags) return bits;
  throw new TypeError(`flags: expected "rdonly", "wronly" or none, got ${String(flags)}`);
}

/** The names of {@link CommonMapOptions}, for checks of misspelt ones. */
export const commonMapOptionNames = ["name", "flags", "numaNode", "pin"] as const;

/** Checks the options that every kind of map takes, and gives their part of a spec. */
export function commonSpec(
  options: CommonMapOptions,
): Pick<MapSpec, "name" | "numaNode" | "flags" | "mapExtra"> {
  const { name = "", numaNode = -1 } = options;
  checkCount("numaNode", numaNode, -1, 0x7fffffff);
  checkName(name);
  if (options.pin !== undefined) checkPinPath("pin", options.pin);
  return { name, numaNode, flags: flagBits(options.flags), mapExtra: 0 };
}

/** Checks the option `maxEntries`. */
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
