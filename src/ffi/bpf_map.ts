/** @module The creation of maps, and hints for failed operations on their elements. */

import { BpfAttr, bpfError } from "./bpf.ts";
import { type Capability, hasCapability } from "./capabilities.ts";
import { lastErrno } from "./error.ts";
import { BPF_MAP_CREATE, BPF_MAP_FREEZE } from "../uapi/commands.ts";
import {
  BPF_F_CLONE,
  BPF_F_INNER_MAP,
  BPF_F_LOCK,
  BPF_F_MMAPABLE,
  BPF_F_NO_COMMON_LRU,
  BPF_F_NO_PREALLOC,
  BPF_F_NO_USER_CONV,
  BPF_F_NUMA_NODE,
  BPF_F_PRESERVE_ELEMS,
  BPF_F_RB_OVERWRITE,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_SEGV_ON_FAULT,
  BPF_F_STACK_BUILD_ID,
  BPF_F_WRONLY,
  BPF_F_WRONLY_PROG,
  BPF_F_ZERO_SEED,
  BPF_OBJ_NAME_LEN,
} from "../uapi/bpf.ts";
import { ENOMEM } from "../uapi/errno.ts";
import { MAP_CREATE } from "../uapi/layout.ts";

/** A flag of map creation: the kernel's `BPF_F_NO_PREALLOC` is `"no_prealloc"`. */
export type MapFlag = keyof typeof mapFlags;

/** The bits of the flags of map creation. */
export const mapFlags = {
  /** Allocate elements as they come, not all at creation. */
  no_prealloc: BPF_F_NO_PREALLOC,
  /** A list of least recently used elements for each CPU, instead of one for all. */
  no_common_lru: BPF_F_NO_COMMON_LRU,
  /** This process's descriptor may only read. */
  rdonly: BPF_F_RDONLY,
  /** This process's descriptor may only write. */
  wronly: BPF_F_WRONLY,
  /** Stack traces as build ids and offsets. */
  stack_build_id: BPF_F_STACK_BUILD_ID,
  /** A hash function without a random seed: for reproducible measurements only. */
  zero_seed: BPF_F_ZERO_SEED,
  /** Programs may only read. */
  rdonly_prog: BPF_F_RDONLY_PROG,
  /** Programs may only write. */
  wronly_prog: BPF_F_WRONLY_PROG,
  /** A socket's storage is copied to the sockets it accepts. */
  clone: BPF_F_CLONE,
  /** The values can be mapped into a process. */
  mmapable: BPF_F_MMAPABLE,
  /** Perf events stay in the map when the map descriptor that stored them is closed. */
  preserve_elems: BPF_F_PRESERVE_ELEMS,
  /** Arenas: touching a page from user space does not allocate it. */
  segv_on_fault: BPF_F_SEGV_ON_FAULT,
  /** Arenas: pointers are not turned into those of user space. */
  no_user_conv: BPF_F_NO_USER_CONV,
  /** An array that can be an inner map whatever its number of entries. */
  inner_map: BPF_F_INNER_MAP,
  /** Ring buffers: new records overwrite the oldest when the ring is full (kernel 6.19). */
  rb_overwrite: BPF_F_RB_OVERWRITE,
} as const;

/** The names of the flags in these bits, and the rest of the bits as a number. */
export function mapFlagNames(bits: number): string[] {
  const names: string[] = [];
  let rest = bits;
  for (const [name, bit] of Object.entries(mapFlags)) {
    if ((rest & bit) === 0) continue;
    names.push(name);
    rest &= ~bit;
  }
  return rest === 0 ? names : [...names, `0x${(rest >>> 0).toString(16)}`];
}

/** The names of the flags in these bits, for messages. */
export function describeMapFlags(bits: number): string {
  return bits === 0 ? "none" : mapFlagNames(bits).join(" ");
}

/** The types of a map's keys and values in a BTF that the kernel has. */
export interface MapBtf {
  readonly fd: number;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
}

/** The fields of BPF_MAP_CREATE. */
export interface MapCreation {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly numaNode: number;
  readonly name: string;
  /** The kernel's `map_extra`, whose meaning depends on the map type; 0 for most. */
  readonly extra: number;
  /** A map like those that will be inside this one (kernel 4.12). */
  readonly innerMapFd?: number | undefined;
  /** Kernel 4.18. */
  readonly btf?: MapBtf | undefined;
  /** True where there is a value for each CPU. */
  readonly isPerCpu: boolean;
  /** Capabilities that the kernel asks for. */
  readonly needs: readonly Capability[];
  /** Explains why the kernel does not know the map type, where that is so: called when it refuses it. */
  readonly explain?: () => string | undefined;
}

/** Creates a map and returns its descriptor. `what` names it in errors. */
export function createKernelMap(map: MapCreation, what: string): number {
  // Kernels that do not know the last fields accept the call as long as they do not see them.
  using attr = new BpfAttr(
    map.extra === 0 ? MAP_CREATE.map_extra : MAP_CREATE.value_type_btf_obj_fd,
  );
  attr
    .u32(MAP_CREATE.map_type, map.type)
    .u32(MAP_CREATE.key_size, map.keySize)
    .u32(MAP_CREATE.value_size, map.valueSize)
    .u32(MAP_CREATE.max_entries, map.maxEntries)
    .u32(MAP_CREATE.map_flags, map.flags)
    .u32(MAP_CREATE.inner_map_fd, map.innerMapFd ?? 0)
    .u32(MAP_CREATE.numa_node, map.numaNode)
    .text(MAP_CREATE.map_name, map.name, BPF_OBJ_NAME_LEN);
  if (map.extra !== 0) attr.u64(MAP_CREATE.map_extra, map.extra);
  if (map.btf !== undefined) {
    attr
      .u32(MAP_CREATE.btf_fd, map.btf.fd)
      .u32(MAP_CREATE.btf_key_type_id, map.btf.keyTypeId)
      .u32(MAP_CREATE.btf_value_type_id, map.btf.valueTypeId);
  }
  const fd = attr.tryCall(BPF_MAP_CREATE);
  if (fd >= 0) return fd;
  const size = `a key of ${map.keySize} and a value of ${map.valueSize} bytes, ${map.maxEntries} entries, flags ${describeMapFlags(map.flags & ~BPF_F_NUMA_NODE)}${numaHint(map)}${overwriteHint(map)}`;
  throw bpfError(BPF_MAP_CREATE, lastErrno(), {
    doing: `create the ${what}`,
    needs: map.needs,
    hints: {
      EACCES:
        "Values with a spin lock or timer are for programs to write: the flag rdonly_prog forbids that",
      EINVAL: () =>
        map.explain?.() ?? `The kernel refuses the sizes or flags of this kind of map: ${size}`,
      E2BIG: `The map would be too large for its kind${perCpuHint(map)}: ${size}`,
      ENOMEM: `The kernel has no memory for it${perCpuHint(map)}: ${size}`,
      EOPNOTSUPP:
        "This kernel was built without this kind of map, or the kind takes no spin lock or timer in its values",
      ENOTSUPP:
        "The kernel does not take these flags for this kind of map, or the kind takes no spin lock or timer in its values",
    },
  });
}

/** Most bytes of a value for each CPU (PCPU_MIN_UNIT_SIZE). */
const largestPerCpuValue = 32 * 1024;

/** Kernels have had two words for it. */
function perCpuHint({ isPerCpu, valueSize }: MapCreation): string {
  return isPerCpu && valueSize > largestPerCpuValue
    ? ", whose values for each CPU have 32 KiB at most"
    : "";
}

/** The flag for it is among the others in the number. */
function numaHint({ flags, numaNode }: MapCreation): string {
  return (flags & BPF_F_NUMA_NODE) === 0 ? "" : ` (with NUMA node ${numaNode})`;
}

/** It is one kind's alone, so that nothing else is to blame more often. */
function overwriteHint({ flags }: MapCreation): string {
  return (flags & BPF_F_RB_OVERWRITE) === 0 ? "" : ": the flag rb_overwrite needs kernel 6.19";
}

/** Makes a map read-only for user space, for good (kernel 5.2). */
export function freezeKernelMap(fd: number, what: string): void {
  using attr = new BpfAttr(MAP_CREATE.key_size);
  attr.u32(0, fd);
  attr.call(BPF_MAP_FREEZE, {
    doing: `freeze the ${what}`,
    hints: {
      EPERM: () =>
        hasCapability("CAP_BPF")
          ? "The map is frozen already, or was opened without the right to write"
          : undefined,
      EBUSY: "The map is frozen already, or its memory is mapped writable",
      ENOTSUPP: "The kernel does not freeze this kind of map, or a map with timers in its values",
    },
  });
}

/** Hints for errors of the kernel, by the name of the error: the likely cause and the remedy. */
export type Hints = Readonly<Record<string, string>>;

/** Hints of one kind of map, beside those of all. */
export interface KindHints {
  /** Hints for failed updates, by errno name. */
  readonly hints?: Hints;
  /** Hints for refused keys, whatever the operation. */
  readonly keyHints?: Hints;
}

const everyOperation: Hints = {
  ENOMEM: "The kernel has no memory for the call",
  EBUSY:
    "Another change of this part of the map was under way on this CPU, as happens in programs that interrupt one another",
};

/** Returns true for errors of a map or kernel without a call. EINVAL is for commands that the kernel does not know. */
export function isUnsupported(code: string): boolean {
  return ["ENOTSUPP", "EOPNOTSUPP", "EINVAL"].includes(code);
}

/** Hints for operations with these flags. */
export function flagHints(flags: number): Hints {
  if ((flags & BPF_F_LOCK) === 0) return {};
  return {
    EINVAL: "The map was made without a spin lock in its values that the kernel was told of",
  };
}

/** Hints for look-ups and walks: a frozen map can be read. */
export const readHints: Hints = {
  ...everyOperation,
  EPERM: "The map was created or opened without the right to read it",
};

/** Hints for deletions, and for what reads and deletes in one step. */
export const deleteHints: Hints = {
  ...everyOperation,
  EPERM: "The map is frozen, or was created or opened without this access",
};

const isFull = "The map is full (maxEntries): make it larger, or delete what is not needed";

/** Hints for updates of a map of this kind. */
export function storeHints({ hints, keyHints }: KindHints): Hints {
  return {
    ...deleteHints,
    ENOMEM: `The kernel had no memory for the element, nor found any within ${refillTimeMs} ms: a map of elements that are allocated in advance (without no_prealloc) gets all its memory when it is created`,
    E2BIG: isFull,
    // An LPM trie's word for it.
    ENOSPC: isFull,
    ...keyHints,
    ...hints,
  };
}

/** The longest wait for the kernel to refill its reserve: on a busy machine, too, it takes about two. */
export const refillTimeMs = 50;

/**
 * Waits a millisecond for another attempt at an update that failed; returns false where another attempt cannot help.
 *
 * The kernel takes the memory of elements that were not allocated with their map from a small reserve, as programs may
 * not wait for memory, and refills that in the background (kernel/bpf/memalloc.c, pcpu_balance_workfn() in mm/percpu.c).
 * Fast writers can get ENOMEM although memory is free. Kinds that have another reason for it have a hint for it: for them there
 * is nothing to wait for.
 *
 * @param waited milliseconds that this update has waited so far
 */
export function retryAfterEnomem({ hints }: KindHints, errno: number, waited: number): boolean {
  if (errno !== ENOMEM || hints?.["ENOMEM"] !== undefined) return false;
  if (waited >= refillTimeMs) return false;
  Bun.sleepSync(1);
  return true;
}
