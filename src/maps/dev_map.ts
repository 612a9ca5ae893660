/** @module Maps for packets that XDP programs redirect: to network interfaces, CPUs and AF_XDP sockets. */

import { CPUMAP, DEVMAP, DEVMAP_HASH, XSKMAP } from "./map_types.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import { interfaceIndex } from "../ffi/socket.ts";
import { SparseArrayMap, WriteOnlyArrayMap } from "./descriptor_array.ts";
import type { ElementOptions } from "./elements.ts";
import { SingleTakeMap } from "./keyed_map.ts";
import {
  cpuArrayKind,
  type CpuArrayOptions,
  descriptorArrayKind,
  type DescriptorArrayOptions,
  type DescriptorHashOptions,
  MapKind,
} from "./map_options.ts";
import { checkMaxEntries } from "./map_spec.ts";
import type { FdLike } from "../handle/fd_like.ts";
import { idLayout, RedirectLayout, redirectValueSize } from "./value_layout.ts";
import { u32 } from "../types/integer.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    DevMap: DevMap;
    DevMapHash: DevMapHash;
    CpuMap: CpuMap;
    XskMap: XskMap;
  }
}

/** Network interface of this process's network namespace: its index or its name, such as `1` or `"lo"`. */
export type NetworkInterface = number | string;

/** Value to store in a {@link DevMap} or {@link DevMapHash}: an interface, or an interface with a program. */
export type DevMapValue =
  | NetworkInterface
  | {
      /** Interface that sends the packets: its index or name. */
      readonly ifindex: NetworkInterface;
      /**
       * XDP program that runs on each packet before the packet is sent. It must be loaded with the attach type
       * `BPF_XDP_DEVMAP` (section `xdp/devmap`).
       */
      readonly program?: FdLike | undefined;
    };

/** Value that is read from a {@link DevMap} or {@link DevMapHash}. */
export interface DevMapEntry {
  /** Index of the interface. */
  readonly ifindex: number;
  /** Id of the program that runs on the packets, or `undefined` if there is none. */
  readonly programId: number | undefined;
}

/** Hints for failed stores of interfaces. */
const devMapHints: Hints = {
  EINVAL:
    "This network namespace has no interface with that index (`ip link` lists them), or the program is not an XDP program that was loaded for devmaps (section xdp/devmap)",
};

/** Returns the layout of values with `size` bytes in a map of interfaces. */
function devMapLayout(size: number): RedirectLayout<DevMapEntry, DevMapValue> {
  return new RedirectLayout(size, {
    encode(value) {
      if (typeof value !== "object") return { number: interfaceIndexOf(value) };
      checkOptions("interface", value, ["ifindex", "program"]);
      return { number: interfaceIndexOf(value.ifindex), program: value.program };
    },
    decode: (ifindex, programId) => ({ ifindex, programId }),
  });
}

function interfaceIndexOf(device: NetworkInterface): number {
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
  // The kernel interprets 0 as a deletion.
  checkCount("ifindex", device, 1);
  return device;
}

/** Options of {@link DevMap}. */
export type DevMapOptions = DescriptorArrayOptions;

/**
 * Array of network interfaces to which XDP programs redirect packets with the helper `redirect_map`. A slot can have a
 * program that runs on the packets before they are sent.
 *
 * Keys are indexes from 0 to `length - 1`. Values are stored as {@link DevMapValue} and read as {@link DevMapEntry}. The
 * kernel removes an interface from the map when the interface is unregistered. Programs cannot change the map. `delete`
 * looks the slot up first, because the kernel does not report empty slots.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF or CAP_NET_ADMIN.
 * @throws {BpfError} EINVAL before Linux 5.8.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { DevMap } from "bun-bpf";
 * using ports = new DevMap({ length: 16, name: "ports" });
 * ports.set(3, "lo");
 * console.log(ports.get(3)); // { ifindex: 1, programId: undefined }
 * console.log(ports.get(0), ports.delete(3), ports.delete(3)); // undefined true false
 * ```
 *
 * Requires Linux 5.8 for creation, because values have 8 bytes: an interface and a program. A map with values of 4 bytes,
 * which another program created (Linux 4.14), can be opened: its values have no program.
 */
export class DevMap extends SparseArrayMap<DevMapEntry, DevMapValue, "devmap"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(DEVMAP, "DevMap", redirectValueSize);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: DevMapOptions) {
    const handle = DevMap.kind.handle(options);
    super(handle, { key: u32, value: devMapLayout(handle.info.valueSize), hints: devMapHints });
  }
}

/** Options of {@link DevMapHash}. */
export type DevMapHashOptions = DescriptorHashOptions;

/**
 * Hash table of network interfaces to which XDP programs redirect packets with the helper `redirect_map`. A key is any
 * number, often the index of the interface. Such an index can be too large for the length of a {@link DevMap}.
 *
 * Keys are numbers from 0 to 2^32 - 1. Values are stored as {@link DevMapValue} and read as {@link DevMapEntry}. The kernel
 * removes an interface from the map when the interface is unregistered. Programs cannot change the map.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF or CAP_NET_ADMIN.
 * @throws {BpfError} EINVAL before Linux 5.8.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { DevMapHash } from "bun-bpf";
 * using ports = new DevMapHash({ maxEntries: 16, name: "ports" });
 * ports.set(4_000_000_000, "lo");
 * console.log(ports.toMap()); // Map(1) { 4000000000: { ifindex: 1, programId: undefined } }
 * console.log(ports.add(4_000_000_000, 1), ports.add(7, { ifindex: 1 })); // false true
 * ```
 *
 * Requires Linux 5.8 for creation, because values have 8 bytes: an interface and a program. A map with values of 4 bytes,
 * which another program created (Linux 5.4), can be opened: its values have no program.
 */
export class DevMapHash extends SingleTakeMap<number, DevMapEntry, DevMapValue, "devmap_hash"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ new MapKind<"DevMapHash", object, DevMapHashOptions>({
    row: DEVMAP_HASH,
    className: "DevMapHash",
    types: [],
    defaultTypes: {},
    options: ["maxEntries"],
    sizes: () => ({ keySize: u32.size }),
    complete({ maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, valueSize: redirectValueSize };
    },
  });

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: DevMapHashOptions) {
    const handle = DevMapHash.kind.handle(options);
    super(handle, { key: u32, value: devMapLayout(handle.info.valueSize), hints: devMapHints });
  }

  /**
   * Stores an interface only if the key is present. Returns true if it was stored. The key is looked up first, because the
   * kernel ignores the condition: a key that another process deletes in between is stored again.
   *
   * @throws {BpfError} if the kernel rejects the interface or the program: `hint` has the cause.
   * @throws {TypeError | RangeError} if the key or value cannot be stored.
   */
  override replace(key: number, value: DevMapValue, options?: ElementOptions): boolean {
    if (!this.has(key)) return false;
    this.set(key, value, options);
    return true;
  }
}

/** Options of {@link CpuMap}. */
export type CpuMapOptions = CpuArrayOptions;

/** Value to store in a {@link CpuMap}. */
export interface CpuMapValue {
  /** Largest number of packets that wait for the CPU: 1 to 16384. */
  readonly queueSize: number;
  /**
   * XDP program that runs on each packet, on the CPU to which the packet was redirected. It must be loaded with the attach
   * type `BPF_XDP_CPUMAP` (section `xdp/cpumap`).
   */
  readonly program?: FdLike | undefined;
}

/** Value that is read from a {@link CpuMap}. */
export interface CpuMapEntry {
  /** Largest number of packets that wait for the CPU. */
  readonly queueSize: number;
  /** Id of the program that runs on the packets, or `undefined` if there is none. */
  readonly programId: number | undefined;
}

/** Limit of the kernel (kernel/bpf/cpumap.c). */
const maxQueueSize = 16384;

const wrongProgramHint =
  "The program is not an XDP program that was loaded for cpumaps (section xdp/cpumap)";
const cpuMapHints: Hints = {
  ENODEV: "This machine cannot have a CPU with that number: possibleCpus() lists the possible ones",
  ENOMEM: `${wrongProgramHint}, or the kernel has no memory for the queue`,
  // Newer kernels return EINVAL and EBADF.
  EINVAL: wrongProgramHint,
  EBADF: `${wrongProgramHint}, or no file is open at that descriptor`,
};

function cpuMapLayout(size: number): RedirectLayout<CpuMapEntry, CpuMapValue> {
  return new RedirectLayout(size, {
    encode(value) {
      checkOptions("queue", value, ["queueSize", "program"]);
      const { queueSize, program } = value;
      // The kernel interprets 0 as a deletion.
      checkCount("queueSize", queueSize, 1, maxQueueSize);
      return { number: queueSize, program };
    },
    decode: (queueSize, programId) => ({ queueSize, programId }),
  });
}

/**
 * Array of CPUs to which XDP programs redirect packets with the helper `redirect_map`: the network stack then processes the
 * packets on that CPU. A slot can have a program that runs on the packets there first.
 *
 * Keys are CPU numbers. Values are stored as {@link CpuMapValue} and read as {@link CpuMapEntry}. The kernel starts a
 * thread for each CPU that is stored. `delete` looks the slot up first, because the kernel does not report empty slots.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 5.9.
 * @throws {BpfError} E2BIG if `length` is larger than the number of CPUs that the kernel was built for.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { CpuMap } from "bun-bpf";
 * using cpus = new CpuMap({ name: "cpus" });
 * cpus.set(0, { queueSize: 192 });
 * console.log(cpus.get(0)); // { queueSize: 192, programId: undefined }
 * console.log(cpus.delete(0), cpus.delete(0)); // true false
 * ```
 *
 * Requires Linux 5.9 for creation, because values have 8 bytes: a size and a program. A map with values of 4 bytes, which
 * another program created (Linux 4.15), can be opened: its values have no program.
 */
export class CpuMap extends SparseArrayMap<CpuMapEntry, CpuMapValue, "cpumap"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ cpuArrayKind(CPUMAP, "CpuMap", redirectValueSize);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: CpuMapOptions = {}) {
    const handle = CpuMap.kind.handle(options);
    super(handle, { key: u32, value: cpuMapLayout(handle.info.valueSize), hints: cpuMapHints });
  }
}

/** Options of {@link XskMap}. */
export type XskMapOptions = DescriptorArrayOptions;

const xskHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOBUFS:
    "The socket has no memory for packets yet: register some (XDP_UMEM_REG) and bind the socket first",
  ENOTSOCK: "The descriptor is not a socket: a socket of the family AF_XDP is needed",
  EOPNOTSUPP:
    "The socket is not of the family AF_XDP; older kernels also reject one that has no receive ring and no memory for packets yet",
};

/**
 * Array of AF_XDP sockets to which XDP programs redirect packets with the helper `redirect_map`, usually by receive queue.
 * User space can store and remove sockets, but cannot read them.
 *
 * Keys are indexes from 0 to `length - 1`. The kernel removes a socket from the map when the socket is closed (since Linux
 * 5.3).
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF or CAP_NET_ADMIN.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { BpfError, XskMap } from "bun-bpf";
 * using sockets = new XskMap({ length: 64, name: "xsks" });
 * try {
 *   sockets.set(0, 0); // standard input is not a socket of the family AF_XDP
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.hint);
 * }
 * sockets.unset(0);
 * ```
 *
 * Requires Linux 4.18.
 */
export class XskMap extends WriteOnlyArrayMap<FdLike, "xskmap"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(XSKMAP, "XskMap", u32.size);

  /** Creates the map, or opens the map that is pinned at the path of the option `pin`. */
  constructor(options: XskMapOptions) {
    const handle = XskMap.kind.handle(options);
    super(handle, { key: u32, value: idLayout("an AF_XDP socket"), hints: xskHints });
  }

  /**
   * Stores a socket only if the slot is empty or has this socket already. Returns true if it was stored. Requires Linux
   * 5.3.
   *
   * @throws {BpfError} if the kernel rejects the socket: `hint` has the cause.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a descriptor.
   */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /**
   * Stores a socket only if the slot is not empty. Returns true if it was stored. Requires Linux 5.3.
   *
   * @throws {BpfError} if the kernel rejects the socket: `hint` has the cause.
   * @throws {TypeError | RangeError} if the index is outside the array, or if the value is not a descriptor.
   */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }

  /**
   * Empties a slot. The method is not called `delete`, because the kernel does not report whether the slot was empty.
   *
   * @throws {TypeError | RangeError} if the index is outside the array.
   */
  unset(index: number): this {
    this.empty(index);
    return this;
  }
}
