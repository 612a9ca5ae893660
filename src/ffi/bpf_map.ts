/** @module Creation of maps, and error hints for operations on their entries. */

import { BpfAttr, bpfError } from "./bpf.ts";
import { type Capability, hasCapability } from "./capabilities.ts";
import { fdNumber, readFdInfo } from "./bpf_object.ts";
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
  /** The kernel allocates entries when they are stored, not all at creation. */
  no_prealloc: BPF_F_NO_PREALLOC,
  /** LRU maps have a list of least recently used entries for each CPU, instead of one list for all CPUs. */
  no_common_lru: BPF_F_NO_COMMON_LRU,
  /** Makes this process's file descriptor of the map read-only. */
  rdonly: BPF_F_RDONLY,
  /** Makes this process's file descriptor of the map write-only. */
  wronly: BPF_F_WRONLY,
  /** Stack traces consist of build ids and offsets in files, instead of addresses. */
  stack_build_id: BPF_F_STACK_BUILD_ID,
  /** The seed of the hash function is 0 instead of random. Use the flag only for reproducible measurements. */
  zero_seed: BPF_F_ZERO_SEED,
  /** Programs may read the map, but not write to it. */
  rdonly_prog: BPF_F_RDONLY_PROG,
  /** Programs may write to the map, but not read it. */
  wronly_prog: BPF_F_WRONLY_PROG,
  /** The storage of a listening socket is copied to the sockets that it accepts. */
  clone: BPF_F_CLONE,
  /** The values can be mapped into a process. */
  mmapable: BPF_F_MMAPABLE,
  /** Perf events stay in the map after the map descriptor through which they were stored is closed. */
  preserve_elems: BPF_F_PRESERVE_ELEMS,
  /** Arenas: an access from user space to an unallocated page raises SIGSEGV, instead of allocating the page. */
  segv_on_fault: BPF_F_SEGV_ON_FAULT,
  /** Arenas: pointers are not converted to user-space addresses. */
  no_user_conv: BPF_F_NO_USER_CONV,
  /** The array can be an inner map although its number of entries differs from the template's. */
  inner_map: BPF_F_INNER_MAP,
  /** Ring buffers: new records overwrite the oldest when the ring is full (kernel 6.19). */
  rb_overwrite: BPF_F_RB_OVERWRITE,
} as const;

/** Returns the names of the flags in these bits. Bits without a name are added as one hexadecimal number. */
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

/** Describes the flags in these bits for messages. */
export function describeMapFlags(bits: number): string {
  return bits === 0 ? "none" : mapFlagNames(bits).join(" ");
}

/** The types of a map's keys and values, in a loaded BTF object. */
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
  /** The descriptor of the template for inner maps (kernel 4.12). */
  readonly innerMapFd?: number | undefined;
  /** The types of keys and values (kernel 4.18). */
  readonly btf?: MapBtf | undefined;
  /** True if the map has a value for each CPU. */
  readonly isPerCpu: boolean;
  /** The capabilities that the creation needs. */
  readonly needs: readonly Capability[];
  /** Explains why the kernel has no maps of this type, or returns `undefined`. It is called after EINVAL. */
  readonly explain?: () => string | undefined;
}

/** Creates a map and returns its descriptor. `what` names it in errors. */
export function createKernelMap(map: MapCreation, what: string): number {
  // Older kernels lack the last fields, so these are passed only if they are used.
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
        "Programs must be able to write values with a spin lock or timer: leave out the flag rdonly_prog",
      EINVAL: () =>
        map.explain?.() ?? `The kernel rejects these sizes or flags for this map type: ${size}`,
      E2BIG: `The map is too large for its type${perCpuHint(map)}: ${size}`,
      ENOMEM: `The kernel has no memory for this map${perCpuHint(map)}: ${size}`,
      EOPNOTSUPP:
        "This kernel was built without this map type, or its values cannot have a spin lock or timer",
      ENOTSUPP:
        "The kernel does not allow these flags for this map type, or its values cannot have a spin lock or timer",
    },
  });
}

/** The largest per-CPU value, in bytes (PCPU_MIN_UNIT_SIZE). */
const maxPerCpuValueSize = 32 * 1024;

/** Describes the limit on per-CPU values, if this map exceeds it. Some kernels then return E2BIG, others ENOMEM. */
function perCpuHint({ isPerCpu, valueSize }: MapCreation): string {
  return isPerCpu && valueSize > maxPerCpuValueSize
    ? ", whose per-CPU values have at most 32 KiB"
    : "";
}

/** Describes the NUMA node, if one was chosen. */
function numaHint({ flags, numaNode }: MapCreation): string {
  return (flags & BPF_F_NUMA_NODE) === 0 ? "" : ` (with NUMA node ${numaNode})`;
}

/** Describes the kernel version that the ring buffer flag rb_overwrite requires, if the flag was given. */
function overwriteHint({ flags }: MapCreation): string {
  return (flags & BPF_F_RB_OVERWRITE) === 0 ? "" : ": the flag rb_overwrite needs Linux 6.19";
}

/** Makes a map read-only for user space, permanently (kernel 5.2). */
export function freezeKernelMap(fd: number, what: string): void {
  using attr = new BpfAttr(MAP_CREATE.key_size);
  attr.u32(0, fd);
  const frozen = "The map is frozen already";
  const isFrozen = () => fdNumber(readFdInfo(fd), "frozen") === 1;
  attr.call(BPF_MAP_FREEZE, {
    doing: `freeze the ${what}`,
    hints: {
      // For a frozen map the error is EPERM since kernel 6.5, and EBUSY before. Kernel 6.5 also dropped the check for
      // CAP_BPF.
      EPERM: () =>
        isFrozen()
          ? frozen
          : hasCapability("CAP_BPF")
            ? `${frozen}, or was opened without the right to write it`
            : undefined,
      EBUSY: () => (isFrozen() ? frozen : `${frozen}, or its memory is mapped writable`),
      ENOTSUPP:
        "The kernel cannot freeze maps of this type, or with spin locks or timers in their values",
    },
  });
}

/** Hints for errors, by errno name: the likely cause and the remedy. */
export type Hints = Readonly<Record<string, string>>;

/** Hints of one map type, in addition to those of all types. */
export interface KindHints {
  /** Hints for failed updates, by errno name. */
  readonly hints?: Hints;
  /** Hints for rejected keys, for all operations. */
  readonly keyHints?: Hints;
}

/** Hints for all operations. */
const commonHints: Hints = {
  ENOMEM: "The kernel has no memory for the call",
  EBUSY:
    "Another operation was changing this part of the map on this CPU, as happens when a program interrupts another one: retry",
};

/**
 * Returns true if the error says that the map or the kernel lacks an operation. EINVAL is the error for a command that the
 * kernel lacks.
 */
export function isUnsupported(code: string): boolean {
  return ["ENOTSUPP", "EOPNOTSUPP", "EINVAL"].includes(code);
}

/** Returns hints for operations with these flags. */
export function flagHints(flags: number): Hints {
  if ((flags & BPF_F_LOCK) === 0) return {};
  return {
    EINVAL: "The map was created without BTF that declares a spin lock in its values",
  };
}

/** Hints for look-ups and iterations. They do not mention freezing, because a frozen map can be read. */
export const readHints: Hints = {
  ...commonHints,
  EPERM: "The map was created or opened without the right to read it",
};

/** Hints for deletions, and for operations that look up and delete in one step. */
export const deleteHints: Hints = {
  ...commonHints,
  EPERM: "The map is frozen, or was created or opened without the required access",
};

const fullHint = "The map is full: increase maxEntries, or delete entries";

/** Returns hints for updates of a map of this type. */
export function updateHints({ hints, keyHints }: KindHints): Hints {
  return {
    ...deleteHints,
    ENOMEM: `The kernel found no memory for the entry within ${refillTimeMs} ms: free memory, or create the map without the flag no_prealloc, if its type allows that`,
    E2BIG: fullHint,
    // LPM tries return ENOSPC when they are full.
    ENOSPC: fullHint,
    ...keyHints,
    ...hints,
  };
}

/**
 * The longest wait for the kernel to refill its reserve, in milliseconds. A refill takes about 2 ms, even on a busy machine.
 */
export const refillTimeMs = 50;

/**
 * Waits a millisecond before a failed update is repeated; returns false if repeating it cannot help.
 *
 * The kernel takes the memory of entries that are not preallocated from a small reserve, because programs cannot wait for
 * memory, and refills the reserve in the background (kernel/bpf/memalloc.c, pcpu_balance_workfn() in mm/percpu.c). So fast
 * writers can get ENOMEM although memory is free. Map types for which ENOMEM has another cause have a hint for this error,
 * and are not retried.
 *
 * @param waited milliseconds that this update has waited so far
 */
export function retryAfterEnomem({ hints }: KindHints, errno: number, waited: number): boolean {
  if (errno !== ENOMEM || hints?.["ENOMEM"] !== undefined) return false;
  if (waited >= refillTimeMs) return false;
  Bun.sleepSync(1);
  return true;
}
