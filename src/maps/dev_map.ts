/** @module What maps of network interfaces hold. */

import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import type { MapElement } from "../ffi/bpf_map_element.ts";
import { interfaceIndex } from "../ffi/socket.ts";
import type { MapHandle } from "./create.ts";
import { SparseArrayMap, WriteOnlyArrayMap } from "./descriptor_array.ts";
import type { ElementOptions } from "./element_map.ts";
import { AssociativeMap } from "./keyed_map.ts";
import {
  cpuArrayKind,
  type CpuArrayOptions,
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./map_options.ts";
import { type FdLike, idLayout, ProgrammedLayout, programmedSize } from "./value_layout.ts";
import { u32 } from "../types/integer.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

/** A network interface of this process's network namespace: its index or its name, such as `1` or `"lo"`. */
export type NetworkInterface = number | string;

/** What is stored in a {@link DevMap} or {@link DevMapHash}: an interface, alone or with a program. */
export type DevMapValue =
  | NetworkInterface
  | {
      /** The interface that packets are sent out by. */
      readonly ifindex: NetworkInterface;
      /**
       * An XDP program that sees each packet before it is sent, loaded for the attachment `BPF_XDP_DEVMAP` (libbpf's section
       * `xdp/devmap`).
       */
      readonly program?: FdLike | undefined;
    };

/** What is read from a {@link DevMap} or {@link DevMapHash}. */
export interface DevMapEntry {
  /** The index of the interface. */
  readonly ifindex: number;
  /** The id of the program that sees the packets, or `undefined` for none. */
  readonly programId: number | undefined;
}

/** What refusals of interfaces mean. */
export const devMapHints: Hints = {
  EINVAL:
    "This network namespace has no interface of that index (`ip link` lists those that it has), or the program is none of type XDP that was loaded for devmaps (attachment BPF_XDP_DEVMAP)",
};

/** How the values of a map of interfaces lie in memory: of one whose values have that many bytes. */
export function devMapLayout(size: number): ProgrammedLayout<DevMapEntry, DevMapValue> {
  return new ProgrammedLayout(size, {
    take(value) {
      if (typeof value !== "object") return { number: indexOf(value) };
      checkOptions("interface", value, ["ifindex", "program"]);
      return { number: indexOf(value.ifindex), program: value.program };
    },
    make: (ifindex, programId) => ({ ifindex, programId }),
  });
}

function indexOf(device: NetworkInterface): number {
  if (typeof device === "string") {
    if (device === "" || device.includes("\0")) {
      throw new TypeError(
        `ifindex: expected the name of a network interface, such as "eth0", got ${describe(device)}`,
      );
    }
    return interfaceIndex(device);
  }
  if (typeof device !== "number") {
    throw new TypeError(
      `ifindex: expected the index or the name of a network interface, got ${describe(device)}`,
    );
  }
  // The kernel would take 0 for a deletion.
  checkCount("ifindex", device, 1);
  return device;
}

/** Options of {@link DevMap}. */
export type DevMapOptions = DescriptorArrayOptions;

/**
 * An array of network interfaces that XDP programs send packets out by, with the helper `redirect_map`; each may have a
 * program that sees the packets before.
 *
 * Kernel 4.14, CAP_NET_ADMIN; made here with room for programs, which takes kernel 5.8: an older kernel's maps are opened
 * as they are. An interface that is removed leaves the map. Programs cannot change the map. `delete` looks first, as the
 * kernel does not say whether something was there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { DevMap } from "bun-bpf";
 * using ports = new DevMap({ maxEntries: 16, name: "ports" });
 * ports.set(3, "lo");
 * console.log(ports.get(3)); // { ifindex: 1, programId: undefined }
 * console.log(ports.get(0), ports.delete(3), ports.delete(3)); // undefined true false
 * ```
 */
export class DevMap extends SparseArrayMap<DevMapEntry, DevMapValue> {
  /** @internal */
  static readonly kind = descriptorArrayKind("devmap", "DevMap", programmedSize);

  constructor(options: DevMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = DevMap.kind.create(options)) {
    super(existing, { key: u32, value: devMapLayout(existing.info.valueSize), hints: devMapHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): DevMap {
    return new DevMap(noTypes, DevMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): DevMap {
    return new DevMap(noTypes, DevMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): DevMap {
    return new DevMap(noTypes, DevMap.kind.byFd(fd, noTypes));
  }

  override dup(): DevMap {
    return new DevMap(noTypes, this.duplicateHandle());
  }

  /** @internal The kernel deletes what is not there, too, and says nothing. */
  protected override deleteElement(element: MapElement): boolean {
    return element.lookup(0) && element.delete();
  }
}

/** Options of {@link DevMapHash}. */
export interface DevMapHashOptions extends DescriptorArrayOptions {
  /** How many entries it holds at the most: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/**
 * Network interfaces that XDP programs send packets out by, with the helper `redirect_map`, under any number as a key: often
 * the interface's own index, which may be larger than a {@link DevMap} should be long.
 *
 * Kernel 5.4, CAP_NET_ADMIN; made here with room for programs, which takes kernel 5.8: an older kernel's maps are opened as
 * they are. Keys are numbers from 0 to 2^32 - 1. An interface that is removed leaves the map. Programs cannot change the map.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { DevMapHash } from "bun-bpf";
 * using ports = new DevMapHash({ maxEntries: 16, name: "ports" });
 * ports.set(4_000_000_000, "lo");
 * console.log(ports.toMap()); // Map(1) { 4000000000: { ifindex: 1, programId: undefined } }
 * console.log(ports.add(4_000_000_000, 1), ports.add(7, { ifindex: 1 })); // false true
 * ```
 */
export class DevMapHash extends AssociativeMap<number, DevMapEntry, DevMapValue> {
  /** @internal */
  static readonly kind = descriptorArrayKind("devmap_hash", "DevMapHash", programmedSize);

  constructor(options: DevMapHashOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = DevMapHash.kind.create(options)) {
    super(existing, { key: u32, value: devMapLayout(existing.info.valueSize), hints: devMapHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): DevMapHash {
    return new DevMapHash(noTypes, DevMapHash.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): DevMapHash {
    return new DevMapHash(noTypes, DevMapHash.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): DevMapHash {
    return new DevMapHash(noTypes, DevMapHash.kind.byFd(fd, noTypes));
  }

  /**
   * Stores an interface only if the key is present; whether it did. The key is looked up first, as the kernel does not heed
   * the condition: one that another process deletes in between is stored anew.
   */
  override replace(key: number, value: DevMapValue, options?: ElementOptions): boolean {
    if (!this.has(key)) return false;
    this.set(key, value, options);
    return true;
  }

  override dup(): DevMapHash {
    return new DevMapHash(noTypes, this.duplicateHandle());
  }
}

/** Options of {@link CpuMap}. */
export type CpuMapOptions = CpuArrayOptions;

/** What is stored in a {@link CpuMap}. */
export interface CpuMapValue {
  /** How many packets wait for the CPU at the most: 1 to 16384. */
  readonly queueSize: number;
  /**
   * An XDP program that sees each packet on the CPU it was sent to, loaded for the attachment `BPF_XDP_CPUMAP` (libbpf's
   * section `xdp/cpumap`).
   */
  readonly program?: FdLike | undefined;
}

/** What is read from a {@link CpuMap}. */
export interface CpuMapEntry {
  /** How many packets wait for the CPU at the most. */
  readonly queueSize: number;
  /** The id of the program that sees the packets, or `undefined` for none. */
  readonly programId: number | undefined;
}

/** The kernel's own limit (kernel/bpf/cpumap.c). */
const longestQueue = 16384;

const wrongProgram =
  "The program is none of type XDP that was loaded for cpumaps (attachment BPF_XDP_CPUMAP)";
const cpuMapHints: Hints = {
  ENODEV: "This machine cannot have a CPU of that number: possibleCpus() lists those that it can",
  ENOMEM: `${wrongProgram}, or the kernel has no memory for the queue`,
  // What newer kernels say.
  EINVAL: wrongProgram,
  EBADF: `${wrongProgram}, or no file is open at that descriptor`,
};

function cpuMapLayout(size: number): ProgrammedLayout<CpuMapEntry, CpuMapValue> {
  return new ProgrammedLayout(size, {
    take(value) {
      checkOptions("queue", value, ["queueSize", "program"]);
      const { queueSize, program } = value;
      // The kernel would take 0 for a deletion.
      checkCount("queueSize", queueSize, 1, longestQueue);
      return { number: queueSize, program };
    },
    make: (queueSize, programId) => ({ queueSize, programId }),
  });
}

/**
 * Queues to other CPUs, that XDP programs send packets to with the helper `redirect_map`, by the number of the CPU: there
 * the network stack goes on with them. Each may have a program that sees the packets before.
 *
 * Kernel 4.15; made here with room for programs, which takes kernel 5.9: an older kernel's maps are opened as they are.
 * The kernel starts a thread for each CPU that is stored. `delete` looks first, as the kernel does not say whether
 * something was there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.9, `E2BIG` for more entries than the kernel was built
 * for CPUs
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { CpuMap } from "bun-bpf";
 * using cpus = new CpuMap({ name: "cpus" });
 * cpus.set(0, { queueSize: 192 });
 * console.log(cpus.get(0)); // { queueSize: 192, programId: undefined }
 * console.log(cpus.delete(0), cpus.delete(0)); // true false
 * ```
 */
export class CpuMap extends SparseArrayMap<CpuMapEntry, CpuMapValue> {
  /** @internal */
  static readonly kind = cpuArrayKind("cpumap", "CpuMap", programmedSize);

  constructor(options?: CpuMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object = {}, existing = CpuMap.kind.create(options)) {
    super(existing, { key: u32, value: cpuMapLayout(existing.info.valueSize), hints: cpuMapHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): CpuMap {
    return new CpuMap(noTypes, CpuMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): CpuMap {
    return new CpuMap(noTypes, CpuMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): CpuMap {
    return new CpuMap(noTypes, CpuMap.kind.byFd(fd, noTypes));
  }

  override dup(): CpuMap {
    return new CpuMap(noTypes, this.duplicateHandle());
  }

  /** @internal The kernel deletes what is not there, too, and says nothing. */
  protected override deleteElement(element: MapElement): boolean {
    return element.lookup(0) && element.delete();
  }
}

/** Options of {@link XskMap}. */
export type XskMapOptions = DescriptorArrayOptions;

const xskHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOBUFS:
    "The socket has no memory for packets yet: give it some (XDP_UMEM_REG) and bind it first",
  ENOTSOCK: "It is no socket: a socket of the family AF_XDP is needed",
  EOPNOTSUPP:
    "It is a socket of another family than AF_XDP; older kernels also refuse one that has no receive ring and no memory for packets yet",
};

/**
 * AF_XDP sockets that an XDP program hands packets to with the helper `redirect_map`, usually by receive queue. User space
 * stores and deletes sockets and cannot look.
 *
 * Kernel 4.18, CAP_NET_ADMIN. A socket that is closed leaves the map (kernel 5.3).
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BpfError, XskMap } from "bun-bpf";
 * using sockets = new XskMap({ maxEntries: 64, name: "xsks" });
 * try {
 *   sockets.set(0, 0); // a socket of the family AF_XDP would do, standard input does not
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.hint);
 * }
 * sockets.delete(0);
 * ```
 */
export class XskMap extends WriteOnlyArrayMap<FdLike> {
  /** @internal */
  static readonly kind = descriptorArrayKind("xskmap", "XskMap", u32.size);

  constructor(options: XskMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = XskMap.kind.create(options)) {
    super(existing, { key: u32, value: idLayout("an AF_XDP socket"), hints: xskHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): XskMap {
    return new XskMap(noTypes, XskMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): XskMap {
    return new XskMap(noTypes, XskMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): XskMap {
    return new XskMap(noTypes, XskMap.kind.byFd(fd, noTypes));
  }

  /** Stores a socket only where none is, or this same one; whether it did (kernel 5.3). @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did (kernel 5.3). @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }

  /**
   * Empties a place. The kernel does not say whether a socket was there.
   *
   * @throws {TypeError | RangeError} for an index outside the map
   */
  delete(index: number): this {
    this.empty(index);
    return this;
  }

  override dup(): XskMap {
    return new XskMap(noTypes, this.duplicateHandle());
  }
}
